//! A line of the log as a JSON object: its words under names, in their order.
//!
//! `DEBUG dispatch worker-1 w1 t5 c3#7 suspect` becomes `{"time":"..","level":"DEBUG",
//! "event":"dispatch","worker_name":"worker-1","worker_id":"w1","ticket_ids":"t5",
//! "request_ids":"c3#7","worker_state":"suspect"}`. A field `key=value` keeps its key. A name with
//! an underscore is that of words that have no key in the line, so that the line can be made of the
//! object again, whatever it says: `docs/log.md` has the rules.

use std::fmt::Write as _;

/// The first words of lines that are events. Any other line is a message.
const EVENTS: &[&str] = &[
    "able",
    "accept",
    "allowed",
    "cancel",
    "cancelled-job",
    "client-joined",
    "client-left",
    "closing",
    "deleted",
    "discard",
    "dispatch",
    "dropped",
    "earlier-losses",
    "expire",
    "finished",
    "goodbye",
    "job",
    "joined",
    "known",
    "leaving",
    "left",
    "listening",
    "log-continues",
    "log-gap",
    "no-worker",
    "poison",
    "redispatch",
    "refuse",
    "rejected",
    "reply",
    "reply-error",
    "restored",
    "resumed",
    "retry",
    "saved",
    "stale",
    "stopped",
    "store",
    "store-failed",
    "store-full",
    "stored",
    "unable",
    "unheard",
    "watch",
    "window",
];

/// Events whose line is a message behind a colon.
const SENTENCES: &[&str] = &["allow", "hangup", "insecure"];

/// Events about a worker, whose first words are its name, which it chose itself, and its number.
const OF_WORKERS: &[&str] = &[
    "able",
    "discard",
    "dispatch",
    "dropped",
    "joined",
    "leaving",
    "left",
    "redispatch",
    "reply",
    "reply-error",
    "unable",
    "window",
];

/// Fields that reach to the end of the line.
const LAST: &[&str] = &["path", "reason"];

/// Fields whose value is a text, even if it looks like a number.
const TEXTS: &[&str] = &[
    "after",
    "backend",
    "by",
    "evidence",
    "frontend",
    "home",
    "id",
    "key",
    "keys",
    "log",
    "log-level",
    "name",
    "path",
    "pool",
    "priority",
    "reason",
    "rotation",
];

/// The longest number, in digits, that every reader of JSON takes for what it is.
const MAX_DIGITS: usize = 15;

/// Adds the object of a line: its time, its level, and its text.
pub(super) fn write_object(out: &mut String, time: &str, level: &str, text: &str) {
    out.push_str("{\"time\":");
    write_string(out, time);
    out.push_str(",\"level\":");
    write_string(out, level);
    let (verb, rest) = text.split_once(' ').map_or((text, None), |(verb, rest)| (verb, Some(rest)));
    let sentence = verb.strip_suffix(':').filter(|verb| SENTENCES.contains(verb)).zip(rest);
    if let Some((verb, rest)) = sentence {
        write_field(out, "event", verb);
        write_field(out, "message", rest);
    } else if EVENTS.binary_search(&verb).is_ok() {
        write_field(out, "event", verb);
        for (key, value) in rest.map(|rest| fields(verb, rest)).unwrap_or_default() {
            // The names that workers gave are texts, all other workers are a number.
            let is_count = is_number(value) && !TEXTS.contains(&key) && !key.contains('_') && verb != "poison";
            if is_count || (key == "keys" && verb == "allowed" && is_number(value)) {
                let _ = write!(out, ",\"{key}\":{value}");
            } else {
                write_field(out, key, value);
            }
        }
    } else {
        write_field(out, "message", text);
    }
    out.push('}');
}

/// Splits what follows the verb into fields: each word that has a key, or a place, of its own begins
/// one, and takes the words up to the next.
fn fields<'a>(verb: &str, rest: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<(&str, &str)> = Vec::with_capacity(8);
    let (mut at, mut value_at) = (0, 0);
    for (index, word) in rest.split(' ').enumerate() {
        let is_open = fields.last().is_none_or(|(key, _)| !LAST.contains(key));
        let field = if is_open { field(verb, index, word) } else { None };
        let end = at + word.len();
        match (field.filter(|(key, _)| fields.iter().all(|(other, _)| other != key)), fields.last_mut()) {
            (Some((key, value)), _) => {
                value_at = end - value.len();
                fields.push((key, value));
            }
            (None, Some((_, value))) => *value = &rest[value_at..end],
            (None, None) => fields.push(("other_text", word)),
        }
        at = end + 1;
    }
    fields
}

/// Returns the name and the value of a word that begins a field.
fn field<'a>(verb: &str, index: usize, word: &'a str) -> Option<(&'a str, &'a str)> {
    let is_digit = |at: usize| word.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let name = match (index, word.as_bytes().first()) {
        (0, _) if OF_WORKERS.contains(&verb) => "worker_name",
        (1, _) if OF_WORKERS.contains(&verb) => "worker_id",
        (1, _) if verb == "client-joined" => "client_name",
        (0, _) if verb == "watch" => "page_url",
        (_, Some(b't')) if is_digit(1) => "ticket_ids",
        (_, Some(b'c' | b'j')) if is_digit(1) && word.contains('#') => "request_ids",
        (_, Some(b'c')) if is_digit(1) => "client_id",
        (_, Some(b'j')) if is_digit(1) => "job_id",
        _ if word == "closed" && verb == "saved" => "job_state",
        _ if word == "suspect" => "worker_state",
        _ => {
            let (key, value) = word.split_once('=')?;
            let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            return match key {
                // The line's own.
                "level" => Some(("log-level", value)),
                "log-level" | "time" | "event" | "message" => None,
                key => is_key.then_some((key, value)),
            };
        }
    };
    Some((name, word))
}

/// Whether a text is a number that every reader of JSON writes back as it was.
fn is_number(text: &str) -> bool {
    let is_canonical = text == "0" || !text.starts_with('0');
    (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && is_canonical
}

fn write_field(out: &mut String, key: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
    write_string(out, value);
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    // Almost every value is plain.
    let is_plain = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '"' | '\\' => out.extend(['\\', c]),
                c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
                c => out.push(c),
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> String {
        let mut out = String::new();
        write_object(&mut out, "T", "INFO", text);
        out.strip_prefix(r#"{"time":"T","level":"INFO","#).unwrap().strip_suffix('}').unwrap().into()
    }

    #[test]
    fn the_first_words_are_in_order() {
        assert!(EVENTS.is_sorted());
    }

    #[test]
    fn what_happened_to_whom_has_a_name() {
        for (text, expected) in [
            (
                "dispatch c1 w1 t5..6 t9 c3#7..8 c4#1 suspect",
                r#""event":"dispatch","worker_name":"c1","worker_id":"w1","ticket_ids":"t5..6 t9","request_ids":"c3#7..8 c4#1","worker_state":"suspect""#,
            ),
            (
                "dropped a w1 returned=1 c1#5 unwanted=4 evidence=yes reason=3 pings \"x\" workers=9",
                r#""event":"dropped","worker_name":"a","worker_id":"w1","returned":1,"request_ids":"c1#5","unwanted":4,"evidence":"yes","reason":"3 pings \"x\" workers=9""#,
            ),
            (
                "client-joined c1 key=7 clients=1 key=K= name=7",
                r#""event":"client-joined","client_id":"c1","client_name":"key=7","clients":1,"key":"K=","name":"7""#,
            ),
            (
                "saved j1 requests=1 j1#0 closed",
                r#""event":"saved","job_id":"j1","requests":1,"request_ids":"j1#0","job_state":"closed""#,
            ),
            ("poison c1#7 workers=7", r#""event":"poison","request_ids":"c1#7","workers":"7""#),
            (
                "listening format=2 level=debug log=a b pid=1",
                r#""event":"listening","format":2,"log-level":"debug","log":"a b","pid":1"#,
            ),
            (
                "refuse a client at tcp://h reason=x",
                r#""event":"refuse","other_text":"a client at tcp://h","reason":"x""#,
            ),
            ("watch http://h/", r#""event":"watch","page_url":"http://h/""#),
            ("insecure: anyone", r#""event":"insecure","message":"anyone""#),
            ("allowed keys=3 revoked=0", r#""event":"allowed","keys":3,"revoked":0"#),
            ("5 requests were not answered within 5s", r#""message":"5 requests were not answered within 5s""#),
            ("two\nlines\u{1b}", r#""message":"two\nlines\u001b""#),
        ] {
            assert_eq!(object(text), expected);
        }
    }
}
