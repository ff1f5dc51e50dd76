//! The broker's recent events, as `status` and `top` show them.

use std::collections::BTreeSet;

use giostra_protocol::EventStatus;

use super::table::Tone;
use super::written::many;

/// The prefixes of the names of clients that only watch: `giostra status` and `giostra top`.
const WATCHERS: [&str; 2] = ["giostra-status-", "giostra-top-"];

/// Returns the events, the latest first, without those of clients that only watch.
pub fn notable(events: &[EventStatus]) -> impl Iterator<Item = &EventStatus> {
    let joined = events.iter().filter(|event| event.kind == "client-joined");
    let is_watcher = |name: &str| WATCHERS.iter().any(|prefix| name.starts_with(prefix));
    let watchers: BTreeSet<_> =
        joined.filter(|event| word(event, 2).is_some_and(is_watcher)).filter_map(|event| word(event, 1)).collect();
    let concerns_watcher = move |event: &EventStatus| {
        event.kind.starts_with("client-") && word(event, 1).is_some_and(|client| watchers.contains(client))
    };
    events.iter().rev().filter(move |event| !concerns_watcher(event))
}

/// Returns a word of the event's log line by its index; the verb has index 0.
fn word(event: &EventStatus, index: usize) -> Option<&str> {
    event.text.split(' ').nth(index)
}

/// Returns the text of an event behind its kind, with a count in the place of a list of requests.
pub fn describe(event: &EventStatus) -> String {
    let line = event.text.strip_prefix(&event.kind).unwrap_or(&event.text).trim_start();
    let has_list = matches!(&*event.kind, "dropped" | "unable" | "redispatch" | "discard" | "expire");
    let Some(count) = event.count.filter(|_| has_list) else { return line.into() };
    let worker = event.worker.map(|_| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    let reason = line.split_once(" reason=").map(|(_, reason)| reason.to_string());
    worker.into_iter().chain(reason).chain([many(count, "request")]).collect::<Vec<_>>().join(", ")
}

/// Returns the tone of an event.
pub fn tone_of(event: &EventStatus) -> Tone {
    match &*event.kind {
        "joined" | "able" => Tone::Good,
        "leaving" | "left" | "redispatch" | "discard" | "expire" | "rejected" | "closing" => Tone::Notable,
        "dropped" | "unable" | "poison" | "refuse" => Tone::Bad,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_only_watch_do_not_fill_the_events() {
        let event = |text: &str| EventStatus {
            kind: text.split(' ').next().unwrap_or_default().into(),
            text: text.into(),
            ..EventStatus::default()
        };
        let events = [
            "client-left c1 cancelled=0 unwanted=0 clients=0 reason=connection broke",
            "client-joined c2 giostra-top-laptop-17 clients=1",
            "joined worker-1 w1 pool=compute threads=1 window=8 seats=1 workers=1",
            "client-joined c3 ada clients=2",
            "client-left c2 cancelled=0 unwanted=0 clients=1 reason=connection broke",
        ]
        .map(event);
        let texts: Vec<_> = notable(&events).map(|event| &*event.text).collect();
        assert_eq!(texts, [&*events[3].text, &*events[2].text, &*events[0].text]);
    }
}
