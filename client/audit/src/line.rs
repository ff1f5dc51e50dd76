//! The parser of a single line of the log. `docs/log.md` describes the lines.

mod json;
mod parser;

use std::borrow::Cow;
use std::time::SystemTime;

use super::ranges::IdRanges;
use parser::event;

/// The length of a line's time, `2026-11-23T10:45:56.824140Z`, in bytes.
pub(super) const TIME_BYTES: usize = 27;

/// The end of a line that was cut short when a broker was killed, written by the next broker.
pub(super) const TORN: &str = "\ttorn";

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

/// How urgent requests are, among those that wait in the same pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all others.
    High,
    /// Before those that can wait.
    #[default]
    Normal,
    /// After all others.
    Low,
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
    /// Its endpoint for clients.
    pub frontend: Option<&'a str>,
    /// Its endpoint for workers.
    pub backend: Option<&'a str>,
    /// Its public key, or `none`.
    pub keys: Option<&'a str>,
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
    Accept { requests: IdRanges<'a>, pool: &'a str, priority: Priority },
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
    /// When a broker that keeps jobs has started: the number of its store.
    Store { home: u32 },
    /// When a client began to submit a job: its number, and its id.
    Job { job: u64, id: (u32, u64), client: u64, pool: &'a str },
    /// When a job of an earlier life goes on.
    Restored { job: u64, id: (u32, u64), requests: u64 },
    /// When a job turned out to be an earlier one, with this id, so that there is none of this number.
    Known { job: u64, id: (u32, u64) },
    /// When requests of a job are safe; `closed` if there will be no more.
    Saved { job: u64, count: u64, requests: IdRanges<'a>, closed: bool },
    /// When requests of a job are dispatched that an earlier life has lost workers with: how many each.
    EarlierLosses { requests: IdRanges<'a>, lost: u64 },
    /// When requests of jobs failed and will be computed again.
    Retry { requests: IdRanges<'a> },
    /// When those requests of a finished job that failed are computed again.
    Resumed { job: u64, id: (u32, u64), requests: u64, again: u64 },
    /// When results are safe.
    Stored { requests: IdRanges<'a> },
    /// When all results of a job are safe.
    Finished { job: u64, succeeded: u64, failed: u64 },
    /// When a job was cancelled.
    CancelledJob { job: u64 },
    /// When a job that had ended was deleted.
    Deleted { job: u64 },
    /// When the store has no room.
    StoreFull { reason: &'a str },
    /// When the store is out of order, and jobs are left to the next life.
    StoreFailed { reason: &'a str },
    /// When the file that the broker wrote was moved or removed, and it goes on in this one: the last
    /// line of the one before, as its time and its CRC-32 in hexadecimal digits.
    LogContinues { after: &'a str },
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

/// Returns the text of a line without its line feed. For one that is a JSON object, that is the line
/// which the broker would have written without `--log-format json`; invalid UTF-8 is replaced.
pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    let written = bytes.starts_with(b"{").then(|| json::line_of(bytes)).flatten();
    written.map_or_else(|| String::from_utf8_lossy(bytes), Cow::Owned)
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
