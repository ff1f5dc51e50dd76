//! The parser of a single line of the log. `docs/log.md` describes the lines.

use std::time::SystemTime;

use super::ranges::{IdRanges, count, ordinal};

/// The length of a line's time, `2026-11-23T10:45:56.824140Z`, in bytes.
pub(super) const TIME_BYTES: usize = 27;

/// The end of a line that was cut short when a broker was killed, written by the next broker.
pub(super) const TORN: &str = "\ttorn";

/// The most requests that one message can be about, and with it a line that accepts, cancels or
/// expires requests: the broker writes a line for each message, and expires fewer at a time.
const MAX_BATCH: u64 = 65_536;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    time: &'a str,
    /// The level: `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: &'a str,
    /// What happened.
    pub event: Event<'a>,
}

/// A worker as a line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker<'a> {
    /// Its name, a label.
    pub name: &'a str,
    /// The number of its registration, which identifies it.
    pub number: u64,
}

/// Whether a lost worker counts against the requests that it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It does not.
    No,
    /// It does, until the same process registers again.
    UnlessBack,
    /// It does.
    Yes,
}

/// The counts in the line of a worker that left or was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DepartureCounts {
    /// Requests that it still held although they had ended.
    pub unwanted: u64,
    /// Results of the worker that were discarded.
    pub discarded: u64,
    /// Workers that are still registered.
    pub workers: u64,
}

/// What a broker says about itself when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start<'a> {
    /// The format of its log: [`FORMAT`](crate::FORMAT) for today's. `None` in logs older than 2.
    pub format: Option<u64>,
    /// Whether its rotation is strict.
    pub strict: bool,
    /// Whether it logs every detail, by its own words.
    pub detailed: bool,
    /// The number of lost workers after which it gives up a request, if it says so.
    pub max_attempts: Option<u64>,
    /// The line before this one, if the broker names it: its time and its CRC-32 in hexadecimal
    /// digits, separated by a slash.
    pub after: Option<&'a str>,
}

/// The event that a line records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields have the names of docs/log.md
#[non_exhaustive]
pub enum Event<'a> {
    /// When a broker has started.
    Listening(Start<'a>),
    /// When a client said hello, with this key if the broker has keys.
    ClientJoined { client: u64, name: &'a str, clients: u64, key: Option<&'a str> },
    /// When a client's connection ended.
    ClientLeft { client: u64, cancelled: u64, unwanted: u64, clients: u64, reason: &'a str },
    /// When a worker registered, with this key if the broker has keys.
    /// `back` is an earlier registration of the same process.
    Joined {
        worker: Worker<'a>,
        pool: &'a str,
        window: u64,
        seats: u64,
        workers: u64,
        back: Option<u64>,
        key: Option<&'a str>,
    },
    /// When a full window has another size than before.
    Window { worker: Worker<'a>, size: u64 },
    /// When a worker gave up its seat.
    Leaving { worker: Worker<'a>, in_flight: u64 },
    /// When a worker that can compute nothing for now gave up its seat, and handed requests back.
    Unable { worker: Worker<'a>, returned: u64, requests: IdRanges<'a>, reason: &'a str },
    /// When such a worker took a seat again.
    Able { worker: Worker<'a>, seats: u64 },
    /// When a leaving worker had finished.
    Left { worker: Worker<'a>, gone: DepartureCounts },
    /// When a worker was lost.
    Dropped {
        worker: Worker<'a>,
        returned: u64,
        requests: IdRanges<'a>,
        gone: DepartureCounts,
        evidence: Evidence,
        reason: &'a str,
    },
    /// When requests were accepted.
    Accept { requests: IdRanges<'a>, pool: &'a str },
    /// When requests were dispatched to a worker, which may have been `suspect` already; `again` if
    /// they had been with another.
    Dispatch { worker: Worker<'a>, again: bool, suspect: bool, tickets: IdRanges<'a>, requests: IdRanges<'a> },
    /// When a worker's results, or its `errors`, were sent to their clients.
    Reply { worker: Worker<'a>, errors: bool, requests: IdRanges<'a> },
    /// When results came too late, or for requests that had ended.
    Discard { worker: Option<Worker<'a>>, late: u64, requests: IdRanges<'a> },
    /// When requests reached their time limit.
    Expire { requests: IdRanges<'a> },
    /// When their client cancelled requests.
    Cancel { requests: IdRanges<'a> },
    /// When a request was given up after these workers, separated by commas, were lost.
    Poison { request: IdRanges<'a>, workers: &'a str },
    /// When the broker was asked to finish.
    Closing { in_flight: u64 },
    /// When the closing broker waited no longer for the requests in flight.
    NotAnswered { in_flight: u64 },
    /// When a client of a closing broker has read all its replies.
    Goodbye { client: u64 },
    /// When such a client is waited for no longer; the replies to these requests were never sent.
    Unheard { client: u64, unsent: u64, requests: IdRanges<'a>, reason: &'a str },
    /// When the broker has finished. `lines` counts all of its lines, this one included.
    Stopped { lines: u64 },
    /// When lines are missing because they could not be written.
    LogGap { lost: u64 },
    /// When something happened that does not concern the promises.
    NoBearing,
    /// When the verb is unknown.
    Unknown { verb: &'a str },
}

impl<'a> Line<'a> {
    /// Parses a line without its line feed. `None` for a line that the broker would not write: it was
    /// cut short, or damaged.
    ///
    /// Fields are read from the left: further to the right, a line quotes texts that peers chose.
    pub fn parse(line: &'a str) -> Option<Self> {
        if is_torn(line) {
            return None;
        }
        let (time, rest) = line.split_at_checked(TIME_BYTES)?;
        let (level, text) = rest.strip_prefix(' ')?.split_at_checked(5)?;
        let level = level.trim_end();
        let sound = is_time(time) && matches!(level, "ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE");
        let text = text.strip_prefix(' ').filter(|text| sound && !text.is_empty())?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(Self { time, level, event: event(verb, rest)? })
    }

    /// Returns the time as text.
    pub fn timestamp(&self) -> &'a str {
        self.time
    }

    /// Returns the time.
    pub fn time(&self) -> SystemTime {
        humantime::parse_rfc3339(self.time).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Returns whether a later broker has marked this line as cut short.
pub(super) fn is_torn(line: &str) -> bool {
    line.ends_with(TORN)
}

/// Returns whether the text has the form of a time. Parsing it would cost more than all the rest.
fn is_time(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00.000000Z";
    text.bytes().zip(form).all(|(byte, &form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form })
}

fn event<'a>(verb: &'a str, rest: &'a str) -> Option<Event<'a>> {
    Some(match verb {
        "accept" => {
            let (requests, pool) = rest.split_once(" pool=")?;
            let requests = IdRanges::requests(requests).filter(is_batch)?;
            Event::Accept { requests, pool: word(pool)? }
        }
        "dispatch" | "redispatch" => {
            let (worker, rest) = worker(rest)?;
            // No ticket has a `c` in it.
            let (tickets, requests) = rest.split_at(rest.find(" c")?);
            let (requests, suspect) = match requests.strip_suffix(" suspect") {
                Some(requests) => (requests, true),
                None => (requests, false),
            };
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
            let (late, requests) = rest.strip_prefix("late=").map(split_word)?;
            Event::Discard { worker, late: count(late)?, requests: some_requests(requests)? }
        }
        "expire" => Event::Expire { requests: IdRanges::requests(rest).filter(is_batch)? },
        "cancel" => Event::Cancel { requests: IdRanges::requests(rest).filter(is_batch)? },
        "poison" => {
            let (request, workers) = rest.split_once(" workers=")?;
            Event::Poison { request: IdRanges::requests(request).filter(|one| one.count() == 1)?, workers }
        }
        "goodbye" => Event::Goodbye { client: ordinal(rest.strip_prefix('c')?)? },
        "client-joined" | "client-left" | "unheard" => of_a_client(verb, rest)?,
        "joined" | "window" | "leaving" | "left" | "dropped" | "unable" | "able" => of_a_worker(verb, rest)?,
        "listening" => Event::Listening(Start {
            format: value(rest, "format=").and_then(count),
            strict: match value(rest, "rotation=")? {
                "strict" => true,
                "available" => false,
                _ => return None,
            },
            detailed: matches!(value(rest, "level="), Some("debug" | "trace")),
            max_attempts: value(rest, "max-attempts=").and_then(count),
            after: value(rest, "after=").filter(|&after| after != "none"),
        }),
        "closing" => Event::Closing { in_flight: counted(rest, "in-flight=")? },
        "log-gap" => Event::LogGap { lost: counted(rest, "lost=")? },
        "stopped" => Event::Stopped { lines: counted(rest, "lines=")? },
        "refuse" | "stale" | "rejected" | "no-worker" | "watch" | "insecure:" | "allowed" | "hangup:" => {
            Event::NoBearing
        }
        _ if rest.starts_with("requests were not answered within ") => Event::NotAnswered { in_flight: count(verb)? },
        _ => Event::Unknown { verb },
    })
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
    if verb == "unheard" {
        let (unsent, reason) = rest.split_once("reason=")?;
        let (unsent, requests) = unsent.strip_suffix(' ')?.strip_prefix("unsent=").map(split_word)?;
        return Some(Event::Unheard { client, unsent: count(unsent)?, requests: some_requests(requests)?, reason });
    }
    let (counts, reason) = rest.split_once(" reason=")?;
    let (cancelled, unwanted) = (counted(counts, "cancelled=")?, counted(counts, "unwanted=")?);
    Some(Event::ClientLeft { client, cancelled, unwanted, clients: counted(counts, "clients=")?, reason })
}

fn of_a_worker<'a>(verb: &str, rest: &'a str) -> Option<Event<'a>> {
    let (worker, rest) = worker(rest)?;
    Some(match verb {
        "joined" => {
            let (window, seats) = (counted(rest, "window=")?, counted(rest, "seats=")?);
            let (workers, key) = (counted(rest, "workers=")?, value(rest, "key="));
            let back = match value(rest, "back=") {
                Some(back) => Some(ordinal(back.strip_prefix('w')?)?),
                None => None,
            };
            Event::Joined { worker, pool: value(rest, "pool=")?, window, seats, workers, back, key }
        }
        "window" => Event::Window { worker, size: counted(rest, "size=")? },
        "leaving" => Event::Leaving { worker, in_flight: counted(rest, "in-flight=")? },
        "unable" => {
            let (given_back, reason) = rest.split_once("reason=")?;
            let (returned, requests) = given_back.strip_suffix(' ')?.strip_prefix("returned=").map(split_word)?;
            Event::Unable { worker, returned: count(returned)?, requests: some_requests(requests)?, reason }
        }
        "dropped" => {
            let (given_back, reason) = rest.split_once("reason=")?;
            let (given_back, evidence) = given_back.strip_suffix(' ')?.rsplit_once(" evidence=")?;
            let evidence = match evidence {
                "no" => Evidence::No,
                "unless-back" => Evidence::UnlessBack,
                "yes" => Evidence::Yes,
                _ => return None,
            };
            // The list of requests before the counts has no `u` in it.
            let (given_back, counts) = given_back.split_at(given_back.find(" unwanted=")?);
            let (returned, requests) = given_back.strip_prefix("returned=").map(split_word)?;
            let (returned, requests) = (count(returned)?, some_requests(requests)?);
            Event::Dropped {
                worker,
                returned,
                requests,
                gone: gone(counts, counted(counts, "unwanted=")?)?,
                evidence,
                reason,
            }
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
    let (number_of, rest) = split_word(rest);
    let number = ordinal(number_of.strip_prefix('w')?)?;
    (!name.is_empty()).then_some((Worker { name, number }, rest))
}

fn is_batch(requests: &IdRanges<'_>) -> bool {
    requests.count() <= MAX_BATCH
}

/// Parses a list of requests that may be empty.
fn some_requests(text: &str) -> Option<IdRanges<'_>> {
    if text.is_empty() { Some(IdRanges::default()) } else { IdRanges::requests(text) }
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn word(text: &str) -> Option<&str> {
    Some(split_word(text).0).filter(|word| !word.is_empty())
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
        assert_eq!(tickets.ids().collect::<Vec<_>>(), [(0, 3), (0, 5)]);
        assert_eq!(requests.ids().collect::<Vec<_>>(), [(3, 1), (3, 2)]);
    }

    #[test]
    fn every_line_of_the_broker_is_read() {
        let worker = Worker { name: "a", number: 1 };
        let none = IdRanges::default();
        let gone = DepartureCounts { unwanted: 4, discarded: 5, workers: 3 };
        let one = IdRanges::requests("c1#5").unwrap();
        for (text, event) in [
            ("listening frontend=x backend=y rotation=available log=a b pid=1", Event::Listening(Start::default())),
            (
                "listening format=2 frontend=x rotation=available",
                Event::Listening(Start { format: Some(2), ..Start::default() }),
            ),
            (
                "listening frontend=x backend=y rotation=strict max-attempts=3 level=debug after=T/1f log=l pid=1",
                Event::Listening(Start {
                    strict: true,
                    detailed: true,
                    max_attempts: Some(3),
                    after: Some("T/1f"),
                    ..Start::default()
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
                "joined a w1 pool=p threads=1 window=9 seats=2 workers=3 back=w7 key=K",
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
            ("accept c1#5 pool=p", Event::Accept { requests: one, pool: "p" }),
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
            ("closing in-flight=3", Event::Closing { in_flight: 3 }),
            ("5 requests were not answered within 5s", Event::NotAnswered { in_flight: 5 }),
            ("log-gap lost=7", Event::LogGap { lost: 7 }),
            ("stopped lines=9", Event::Stopped { lines: 9 }),
            ("rejected c1 anything", Event::NoBearing),
            ("insecure: whoever", Event::NoBearing),
            ("allowed keys=3 revoked=1", Event::NoBearing),
            ("hangup: there are no keys to read anew", Event::NoBearing),
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
