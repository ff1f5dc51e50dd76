//! The parsers of what a line says behind its verb.

use super::{DepartureCounts, Event, Evidence, Priority, Start, Worker};
use crate::ranges::{IdRanges, count, ordinal};

/// The maximum number of requests that one message can be about, and with it a line that accepts, cancels or
/// expires requests: the broker writes a line for each message, and expires fewer at a time.
const MAX_BATCH: u64 = 65_536;

/// Parses the event of a line. `None` for what the broker would not write.
pub(super) fn event<'a>(verb: &'a str, rest: &'a str) -> Option<Event<'a>> {
    Some(match verb {
        "accept" => accepted(rest)?,
        "dispatch" | "redispatch" => {
            let (worker, rest) = worker(rest)?;
            let (rest, suspect) = rest.strip_suffix(" suspect").map_or((rest, false), |rest| (rest, true));
            // No ticket has a `c` or a `j` in it.
            let (tickets, requests) = rest.split_at(rest.find(['c', 'j'])?.checked_sub(1)?);
            let (tickets, requests) = (IdRanges::tickets(tickets)?, IdRanges::requests(&requests[1..])?);
            Event::Dispatch { worker, again: verb == "redispatch", suspect, tickets, requests }
        }
        "reply" | "reply-error" => {
            let (worker, rest) = worker(rest)?;
            Event::Reply { worker, errors: verb == "reply-error", requests: IdRanges::requests(rest)? }
        }
        "discard" => {
            let (worker, rest) = match rest.strip_prefix("? ? ") {
                Some(rest) => (None, rest),
                None => worker(rest).map(|(worker, rest)| (Some(worker), rest))?,
            };
            let (late, requests) = counted_requests(rest, "late=")?;
            Event::Discard { worker, late, requests }
        }
        "expire" => Event::Expire { requests: batch(rest)? },
        "cancel" => Event::Cancel { requests: batch(rest)? },
        "poison" => {
            let (request, workers) = rest.split_once(" workers=")?;
            Event::Poison { request: IdRanges::requests(request).filter(|one| one.count() == 1)?, workers }
        }
        "goodbye" => Event::Goodbye { client: ordinal(rest.strip_prefix('c')?)? },
        "client-joined" | "client-left" | "unheard" => of_a_client(verb, rest)?,
        "joined" | "window" | "leaving" | "left" | "dropped" | "unable" | "able" => of_a_worker(verb, rest)?,
        "listening" => Event::Listening(start(rest)?),
        "store" | "job" | "known" | "restored" | "saved" | "stored" | "finished" | "cancelled-job" | "deleted"
        | "resumed" => of_a_job(verb, rest)?,
        "retry" => Event::Retry { requests: IdRanges::requests(rest)? },
        "earlier-losses" => {
            let (requests, lost) = rest.split_once(" lost=")?;
            Event::EarlierLosses { requests: batch(requests)?, lost: count(lost)? }
        }
        "store-full" => Event::StoreFull { reason: rest.strip_prefix("reason=")? },
        "store-failed" => Event::StoreFailed { reason: rest.strip_prefix("reason=")? },
        "closing" => Event::Closing { in_flight: counted(rest, "in-flight=")? },
        "log-continues" => Event::LogContinues { after: value(rest, "after=")? },
        "log-gap" => Event::LogGap { lost: counted(rest, "lost=")? },
        "stopped" => Event::Stopped { lines: counted(rest, "lines=")? },
        "refuse" | "stale" | "rejected" | "no-worker" | "watch" | "insecure:" | "allowed" | "allow:" | "hangup:" => {
            Event::NoBearing
        }
        _ if rest.starts_with("requests were not answered within ") => Event::NotAnswered { in_flight: count(verb)? },
        _ => Event::Unknown { verb },
    })
}

fn start(rest: &str) -> Option<Start<'_>> {
    Some(Start {
        format: value(rest, "format=").and_then(count),
        strict: match value(rest, "rotation=")? {
            "strict" => true,
            "available" => false,
            _ => return None,
        },
        detailed: matches!(value(rest, "level="), Some("debug" | "trace")),
        max_attempts: value(rest, "max-attempts=").and_then(count),
        after: value(rest, "after=").filter(|&after| after != "none"),
        frontend: value(rest, "frontend="),
        backend: value(rest, "backend="),
        keys: value(rest, "keys="),
    })
}

fn accepted(rest: &str) -> Option<Event<'_>> {
    let (requests, pool) = rest.split_once(" pool=")?;
    let (pool, rest) = split_word(pool);
    let priority = match value(rest, "priority=") {
        None => Priority::Normal,
        Some("high") => Priority::High,
        Some("low") => Priority::Low,
        Some(_) => return None,
    };
    (!pool.is_empty()).then_some(Event::Accept { requests: batch(requests)?, pool, priority })
}

fn of_a_client<'a>(verb: &str, rest: &'a str) -> Option<Event<'a>> {
    let (client, rest) = rest.split_once(' ')?;
    let client = ordinal(client.strip_prefix('c')?)?;
    if verb == "client-joined" {
        // Only behind the name, which may look like a field.
        let (name, rest) = split_word(rest);
        let clients = counted(rest, "clients=")?;
        return (!name.is_empty()).then(|| Event::ClientJoined { client, name, clients, key: value(rest, "key=") });
    }
    let (counts, reason) = rest.split_once(" reason=")?;
    if verb == "unheard" {
        let (unsent, requests) = counted_requests(counts, "unsent=")?;
        return Some(Event::Unheard { client, unsent, requests, reason });
    }
    let (cancelled, unwanted) = (counted(counts, "cancelled=")?, counted(counts, "unwanted=")?);
    Some(Event::ClientLeft { client, cancelled, unwanted, clients: counted(counts, "clients=")?, reason })
}

fn of_a_job<'a>(verb: &str, rest: &'a str) -> Option<Event<'a>> {
    if verb == "stored" {
        return Some(Event::Stored { requests: IdRanges::requests(rest)? });
    }
    if verb == "store" {
        return Some(Event::Store { home: u32::from_str_radix(value(rest, "home=")?, 16).ok()? });
    }
    let (job, rest) = split_word(rest);
    let job = ordinal(job.strip_prefix('j')?)?;
    let id = || {
        let (home, number) = value(rest, "id=")?.split_once('-')?;
        Some((u32::from_str_radix(home, 16).ok()?, ordinal(number)?))
    };
    Some(match verb {
        "job" => {
            let client = ordinal(value(rest, "by=")?.strip_prefix('c')?)?;
            Event::Job { job, id: id()?, client, pool: value(rest, "pool=")? }
        }
        "known" => Event::Known { job, id: id()? },
        "resumed" => {
            let (requests, again) = (counted(rest, "requests=")?, counted(rest, "again=")?);
            Event::Resumed { job, id: id()?, requests, again }
        }
        "restored" => Event::Restored { job, id: id()?, requests: counted(rest, "requests=")? },
        "saved" => {
            let (requests, closed) = rest.strip_suffix(" closed").map_or((rest, false), |rest| (rest, true));
            let (count, requests) = counted_requests(requests, "requests=")?;
            Event::Saved { job, count, requests, closed }
        }
        "finished" => {
            Event::Finished { job, succeeded: counted(rest, "succeeded=")?, failed: counted(rest, "failed=")? }
        }
        "deleted" => Event::Deleted { job },
        _ => Event::CancelledJob { job },
    })
}

fn of_a_worker<'a>(verb: &str, rest: &'a str) -> Option<Event<'a>> {
    let (worker, rest) = worker(rest)?;
    Some(match verb {
        "joined" => Event::Joined {
            worker,
            pool: value(rest, "pool=")?,
            window: counted(rest, "window=")?,
            seats: counted(rest, "seats=")?,
            workers: counted(rest, "workers=")?,
            back: match value(rest, "back=") {
                Some(back) => Some(ordinal(back.strip_prefix('w')?)?),
                None => None,
            },
            key: value(rest, "key="),
        },
        "window" => Event::Window { worker, size: counted(rest, "size=")? },
        "leaving" => Event::Leaving { worker, in_flight: counted(rest, "in-flight=")? },
        "unable" => {
            let (given_back, reason) = rest.split_once(" reason=")?;
            let (returned, requests) = counted_requests(given_back, "returned=")?;
            Event::Unable { worker, returned, requests, reason }
        }
        "dropped" => {
            let (given_back, reason) = rest.split_once(" reason=")?;
            let (given_back, evidence) = given_back.rsplit_once(" evidence=")?;
            let evidence = match evidence {
                "no" => Evidence::No,
                "unless-back" => Evidence::UnlessBack,
                "yes" => Evidence::Yes,
                _ => return None,
            };
            // The list of requests before the counts has no `u` in it.
            let (given_back, counts) = given_back.split_at(given_back.find(" unwanted=")?);
            let (returned, requests) = counted_requests(given_back, "returned=")?;
            let gone = gone(counts, counted(counts, "unwanted=")?)?;
            Event::Dropped { worker, returned, requests, gone, evidence, reason }
        }
        "able" => Event::Able { worker, seats: counted(rest, "seats=")? },
        _ => Event::Left { worker, gone: gone(rest, 0)? },
    })
}

fn gone(counts: &str, unwanted: u64) -> Option<DepartureCounts> {
    Some(DepartureCounts { unwanted, discarded: counted(counts, "discarded=")?, workers: counted(counts, "workers=")? })
}

/// Parses `worker-1 w1`; returns the rest, too.
fn worker(text: &str) -> Option<(Worker<'_>, &str)> {
    let (name, rest) = text.split_once(' ')?;
    let (label, rest) = split_word(rest);
    let number = ordinal(label.strip_prefix('w')?)?;
    (!name.is_empty()).then_some((Worker { name, number }, rest))
}

/// Parses a list of as many requests as one message can be about.
fn batch(requests: &str) -> Option<IdRanges<'_>> {
    IdRanges::requests(requests).filter(|requests| requests.count() <= MAX_BATCH)
}

/// Parses a count, such as `returned=2`, and a list of requests, which may be absent.
fn counted_requests<'a>(text: &'a str, key: &str) -> Option<(u64, IdRanges<'a>)> {
    let (number, requests) = split_word(text.strip_prefix(key)?);
    let requests = if requests.is_empty() { IdRanges::default() } else { IdRanges::requests(requests)? };
    Some((count(number)?, requests))
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(' ').find_map(|word| word.strip_prefix(key)).filter(|value| !value.is_empty())
}

fn counted(text: &str, key: &str) -> Option<u64> {
    count(value(text, key)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;

    const TIME: &str = "2026-11-23T10:45:56.824140Z";

    fn parsed(text: &str) -> Option<Event<'_>> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        event(verb, rest)
    }

    #[test]
    fn a_line_says_when_what_and_which() {
        let text = format!("{TIME} DEBUG redispatch worker-1 w7 t3..5/2 c3#1..2");
        let line = Line::parse(&text).unwrap();
        assert_eq!((line.timestamp(), line.level), (TIME, "DEBUG"));
        assert_eq!(line.time(), humantime::parse_rfc3339(TIME).unwrap());
        let Event::Dispatch { worker, again: true, suspect: false, tickets, requests } = line.event else {
            panic!("{line:?}")
        };
        assert_eq!(worker, Worker { name: "worker-1", number: 7 });
        let named = |ids: IdRanges<'_>| ids.ids().map(|id| id.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!((&*named(tickets), &*named(requests)), ("t3 t5", "c3#1 c3#2"));
    }

    #[test]
    fn every_line_of_the_broker_is_read() {
        let worker = Worker { name: "a", number: 1 };
        let none = IdRanges::default();
        let gone = DepartureCounts { unwanted: 4, discarded: 5, workers: 3 };
        let one = IdRanges::requests("c1#5").unwrap();
        for (text, event) in [
            ("listening rotation=available log=a b pid=1", Event::Listening(Start::default())),
            ("listening format=2 rotation=available", Event::Listening(Start { format: Some(2), ..Start::default() })),
            (
                "listening frontend=x backend=y keys=none rotation=strict max-attempts=3 level=debug after=T/1f log=l",
                Event::Listening(Start {
                    strict: true,
                    detailed: true,
                    max_attempts: Some(3),
                    after: Some("T/1f"),
                    frontend: Some("x"),
                    backend: Some("y"),
                    keys: Some("none"),
                    format: None,
                }),
            ),
            ("client-joined c1 n clients=1", Event::ClientJoined { client: 1, name: "n", clients: 1, key: None }),
            (
                "client-joined c1 n clients=2 key=K= name=a",
                Event::ClientJoined { client: 1, name: "n", clients: 2, key: Some("K=") },
            ),
            (
                "client-left c1 cancelled=2 unwanted=3 clients=4 reason=connection broke",
                Event::ClientLeft { client: 1, cancelled: 2, unwanted: 3, clients: 4, reason: "connection broke" },
            ),
            (
                "client-joined c1 key=K clients=2",
                Event::ClientJoined { client: 1, name: "key=K", clients: 2, key: None },
            ),
            (
                "client-joined c1 key=M clients=2 key=K",
                Event::ClientJoined { client: 1, name: "key=M", clients: 2, key: Some("K") },
            ),
            ("window a w1 size=3", Event::Window { worker, size: 3 }),
            (
                "joined a w1 pool=p threads=1 window=9 seats=2 workers=3",
                Event::Joined { worker, pool: "p", window: 9, seats: 2, workers: 3, back: None, key: None },
            ),
            (
                "joined a w1 pool=p threads=1 window=9 seats=2 workers=3 host=key back=w7 key=K",
                Event::Joined { worker, pool: "p", window: 9, seats: 2, workers: 3, back: Some(7), key: Some("K") },
            ),
            (
                "joined a w1 pool=p threads=1 window=9 seats=2 workers=3 key=K name=pool=q",
                Event::Joined { worker, pool: "p", window: 9, seats: 2, workers: 3, back: None, key: Some("K") },
            ),
            ("leaving a w1 in-flight=4 by=drain", Event::Leaving { worker, in_flight: 4 }),
            ("left a w1 discarded=5 workers=3", Event::Left { worker, gone: DepartureCounts { unwanted: 0, ..gone } }),
            (
                "dropped a w1 returned=1 c1#5 unwanted=4 discarded=5 workers=3 evidence=unless-back reason=3 pings unanswered",
                Event::Dropped {
                    worker,
                    returned: 1,
                    requests: one,
                    gone,
                    evidence: Evidence::UnlessBack,
                    reason: "3 pings unanswered",
                },
            ),
            (
                "dropped a w1 returned=0 unwanted=4 discarded=5 workers=3 evidence=no reason=x",
                Event::Dropped { worker, returned: 0, requests: none, gone, evidence: Evidence::No, reason: "x" },
            ),
            (
                "unable a w1 returned=1 c1#5 reason=can't start x: no such file",
                Event::Unable { worker, returned: 1, requests: one, reason: "can't start x: no such file" },
            ),
            ("unable a w1 returned=0 reason=x", Event::Unable { worker, returned: 0, requests: none, reason: "x" }),
            ("able a w1 seats=2", Event::Able { worker, seats: 2 }),
            ("accept c1#5 pool=p", Event::Accept { requests: one, pool: "p", priority: Priority::Normal }),
            ("accept c1#5 pool=p priority=low", Event::Accept { requests: one, pool: "p", priority: Priority::Low }),
            ("retry c1#5", Event::Retry { requests: one }),
            ("earlier-losses c1#5 lost=2", Event::EarlierLosses { requests: one, lost: 2 }),
            (
                "resumed j1 id=0000000a-1 requests=7 again=2",
                Event::Resumed { job: 1, id: (10, 1), requests: 7, again: 2 },
            ),
            ("store-full reason=x y", Event::StoreFull { reason: "x y" }),
            ("reply-error a w1 c1#5", Event::Reply { worker, errors: true, requests: one }),
            ("discard ? ? late=3", Event::Discard { worker: None, late: 3, requests: none }),
            ("discard a w1 late=0 c1#5", Event::Discard { worker: Some(worker), late: 0, requests: one }),
            ("poison c1#5 workers=a,b", Event::Poison { request: one, workers: "a,b" }),
            ("goodbye c1", Event::Goodbye { client: 1 }),
            (
                "unheard c1 unsent=1 c1#5 reason=x y",
                Event::Unheard { client: 1, unsent: 1, requests: one, reason: "x y" },
            ),
            ("unheard c1 unsent=0 reason=x", Event::Unheard { client: 1, unsent: 0, requests: none, reason: "x" }),
            ("store home=0000000a jobs=2 path=x", Event::Store { home: 10 }),
            ("job j1 id=0000000a-1 by=c1 pool=p", Event::Job { job: 1, id: (10, 1), client: 1, pool: "p" }),
            ("restored j1 id=0000000a-1 requests=7", Event::Restored { job: 1, id: (10, 1), requests: 7 }),
            ("known j1 id=0000000a-3", Event::Known { job: 1, id: (10, 3) }),
            ("saved j1 requests=1 c1#5", Event::Saved { job: 1, count: 1, requests: one, closed: false }),
            ("saved j1 requests=0 closed", Event::Saved { job: 1, count: 0, requests: none, closed: true }),
            ("stored c1#5", Event::Stored { requests: one }),
            ("finished j1 succeeded=4 failed=3", Event::Finished { job: 1, succeeded: 4, failed: 3 }),
            ("cancelled-job j1", Event::CancelledJob { job: 1 }),
            ("deleted j1", Event::Deleted { job: 1 }),
            ("store-failed reason=x", Event::StoreFailed { reason: "x" }),
            ("closing in-flight=3", Event::Closing { in_flight: 3 }),
            ("5 requests were not answered within 5s", Event::NotAnswered { in_flight: 5 }),
            ("log-continues after=T/1f", Event::LogContinues { after: "T/1f" }),
            ("log-gap lost=7", Event::LogGap { lost: 7 }),
            ("stopped lines=9", Event::Stopped { lines: 9 }),
            ("rejected c1 anything", Event::NoBearing),
            ("insecure: anyone", Event::NoBearing),
            ("allowed keys=3 revoked=1", Event::NoBearing),
            ("hangup: there are no keys to read anew", Event::NoBearing),
            ("allow: those with keys stay as they are: allow/client/a.key: it holds no key", Event::NoBearing),
            ("listening rotation=available after=none", Event::Listening(Start::default())),
            ("sang loudly", Event::Unknown { verb: "sang" }),
        ] {
            assert_eq!(parsed(text), Some(event), "{text}");
        }
    }

    #[test]
    fn a_line_about_more_requests_than_a_message_holds_is_not_read() {
        for verb in ["accept", "expire", "cancel"] {
            let line = |last: u64| format!("{verb} c1#1..{last}{}", if verb == "accept" { " pool=p" } else { "" });
            assert!(parsed(&line(65_536)).is_some(), "{verb}");
            assert!(parsed(&line(65_537)).is_none(), "{verb}");
        }
        assert!(parsed("reply a w1 c1#1..16777216").is_some());
        assert!(parsed("reply a w1 c1#1..16777217").is_none());
    }

    #[test]
    fn a_torn_line_is_not_read() {
        let whole = format!(
            "{TIME} WARN  dropped a w1 returned=2 c1#5..6 unwanted=0 discarded=0 workers=0 evidence=yes reason=x"
        );
        assert!(Line::parse(&whole).is_some());
        for end in 0..whole.len() - "x".len() {
            let torn = Line::parse(&whole[..end]);
            assert!(torn.is_none() || matches!(torn, Some(Line { event: Event::Unknown { .. }, .. })), "{torn:?}");
        }
        assert_eq!(Line::parse(&whole.replace("WARN ", "LOUD ")), None);
        assert_eq!(Line::parse(&whole.replace('T', " ")), None);
        assert_eq!(Line::parse(&whole.replace("c1#", "c1?")), None);
    }
}
