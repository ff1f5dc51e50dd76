//! What happened, in words: an event of the status as `status` and `top` tell it.

use giostra_protocol::EventStatus;

use super::table::Tone;

/// What follows its kind. Where the log lists requests, their number has to do.
pub fn told(event: &EventStatus) -> String {
    let line = event.text.strip_prefix(&event.kind).unwrap_or(&event.text).trim_start();
    let Some(count) =
        event.count.filter(|_| matches!(&*event.kind, "dropped" | "unable" | "redispatch" | "discard" | "expire"))
    else {
        return line.into();
    };
    let mut told = Vec::new();
    if event.worker.is_some() {
        told.push(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    }
    told.extend(line.split_once(" reason=").map(|(_, reason)| reason.to_string()));
    told.push(format!("{count} request{}", if count == 1 { "" } else { "s" }));
    told.join(", ")
}

/// How much of a look it deserves.
pub fn tone_of(event: &EventStatus) -> Tone {
    match &*event.kind {
        "joined" | "able" => Tone::Good,
        "leaving" | "left" | "redispatch" | "discard" | "expire" | "rejected" | "closing" => Tone::Notable,
        "dropped" | "unable" | "poison" | "refuse" => Tone::Bad,
        _ => Tone::Plain,
    }
}
