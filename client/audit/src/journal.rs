//! The journal of a client: which requests it sent over which connection, and what it got.
//!
//! `docs/log.md` describes the lines. A journal is read once, and kept as sets of numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files::Error;
use crate::id_set::{IdSet, NoRoom, Room};
use crate::ranges::{IdRange, number, ordinal};

/// The first words of a journal.
const HEAD: &str = "giostra-journal format=1 client=";

/// The maximum number of findings that are kept. Further ones are only counted.
pub(crate) const KEPT: usize = 100;

/// Something in a journal that contradicts what is promised, or the logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The request's number, which the client chose; `None` if it is about several.
    pub request: Option<u64>,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// The findings about one journal: how many, and the first of them.
#[derive(Debug, Default)]
pub(crate) struct JournalFindings {
    pub count: u64,
    pub first: Vec<Finding>,
}

impl JournalFindings {
    pub fn add(&mut self, request: Option<u64>, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(Finding { request, what: what() });
        }
    }

    /// Adds one for each of these requests.
    pub fn add_each(&mut self, requests: &IdSet, what: impl Fn(u64) -> String) {
        for request in requests.iter().take(KEPT - self.first.len()) {
            self.first.push(Finding { request: Some(request), what: what(request) });
        }
        self.count += requests.len();
    }
}

/// The requests of one of the client's connections.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The broker's endpoint, as the client was told.
    pub broker: String,
    /// The number of the connection at that broker: 1 is `c1` in its log.
    pub number: u64,
    pub sent: IdSet,
    /// The requests to which there was a reply over it.
    pub answered: IdSet,
}

/// The last line of a journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// The number of requests.
    pub requests: u64,
    /// Replies to requests that had one already.
    pub duplicated: u64,
    /// Whether the client ended before all were answered.
    pub interrupted: bool,
}

/// A journal that was read.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub path: PathBuf,
    /// The client's name.
    pub client: String,
    /// In the order of time.
    pub connections: Vec<Sent>,
    /// All requests, also those that were never sent.
    pub requests: IdSet,
    pub answered: IdSet,
    /// The requests that the client ended itself.
    pub given_up: IdSet,
    /// The number of replies that were errors.
    pub errors: u64,
    duplicated: u64,
    /// `None` if the client was killed, or still runs.
    pub end: Option<End>,
    pub findings: JournalFindings,
    /// Whether there are more requests than are kept.
    pub is_too_large: bool,
}

impl Journal {
    /// Reads a journal, and finds what is wrong in it by itself.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = Error::of(path);
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        let mut journal = Self { path: path.into(), ..Self::default() };
        let (mut room, mut line) = (Room::default(), Vec::new());
        for at in 1.. {
            line.clear();
            // A longer line is none of a journal's.
            let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)?;
            // What a client that was killed has written in part does not count.
            let Some(text) = line.strip_suffix(b"\n").filter(|_| read > 0) else {
                match at {
                    1 => return Err(Error::NoJournal(path.into())),
                    _ if read as u64 == MAX_LINE => return Err(Error::DamagedJournal { path: path.into(), line: at }),
                    _ => break,
                }
            };
            let text = std::str::from_utf8(text).unwrap_or_default();
            if at == 1 {
                let client = text.strip_prefix(HEAD).filter(|name| !name.is_empty() && !name.contains(' '));
                journal.client = client.ok_or_else(|| Error::NoJournal(path.into()))?.into();
                continue;
            }
            match journal.handle_line(text, &mut room) {
                Some(Ok(())) => {}
                Some(Err(NoRoom)) => {
                    journal.is_too_large = true;
                    break;
                }
                None => return Err(Error::DamagedJournal { path: path.into(), line: at }),
            }
        }
        journal.finish();
        Ok(journal)
    }

    /// Handles a line. `None` if a client would not write it.
    fn handle_line(&mut self, text: &str, room: &mut Room) -> Option<Result<(), NoRoom>> {
        let (verb, rest) = text.split_once(' ')?;
        if self.end.is_some() {
            return None;
        }
        match verb {
            "connected" => {
                let (broker, number) = rest.rsplit_once(" c")?;
                self.connect(broker, ordinal(number)?);
                Some(Ok(()))
            }
            "sent" => {
                let range = range(rest)?;
                let sent = self.connections.last_mut()?.sent.insert_all(range, room);
                Some(if sent && self.requests.insert_all(range, room) { Ok(()) } else { Err(NoRoom) })
            }
            "reply" => self.reply(number(rest)?, room),
            "reply-error" => {
                let (id, _) = rest.split_once(' ')?;
                self.errors += 1;
                self.reply(number(id)?, room)
            }
            "duplicate" => {
                let id = number(rest)?;
                self.duplicated += 1;
                self.findings.add(Some(id), || format!("request {id} was answered twice"));
                Some(Ok(()))
            }
            "gave-up" => {
                let (id, code) = rest.split_once(' ')?;
                Some(self.give_up(number(id)?, code, room))
            }
            "end" => {
                self.end = Some(end(rest)?);
                Some(Ok(()))
            }
            _ => None,
        }
    }

    fn connect(&mut self, broker: &str, number: u64) {
        // Over one that broke before anything was sent nothing can have come.
        self.connections.pop_if(|last| last.sent.is_empty());
        self.connections.push(Sent {
            broker: broker.into(),
            number,
            sent: IdSet::default(),
            answered: IdSet::default(),
        });
    }

    /// Handles a reply. `None` before the first connection.
    fn reply(&mut self, id: u64, room: &mut Room) -> Option<Result<(), NoRoom>> {
        (!self.connections.is_empty()).then(|| self.reply_over(id, room))
    }

    fn reply_over(&mut self, id: u64, room: &mut Room) -> Result<(), NoRoom> {
        let connection = self.connections.last_mut().filter(|connection| connection.sent.contains(id));
        match connection {
            Some(connection) => _ = connection.answered.insert(id, room)?,
            None => self
                .findings
                .add(Some(id), || format!("request {id} has a reply over a connection over which it was never sent")),
        }
        if self.given_up.contains(id) || !self.answered.insert(id, room)? {
            self.findings.add(Some(id), || format!("request {id} was answered twice"));
        }
        Ok(())
    }

    fn give_up(&mut self, id: u64, code: &str, room: &mut Room) -> Result<(), NoRoom> {
        self.requests.insert(id, room)?;
        if code == "expired" && !self.given_up.contains(id) && self.answered.insert(id, room)? {
            // Its user's own limit.
            self.errors += 1;
            return Ok(());
        }
        let is_first = self.given_up.insert(id, room)? && !self.answered.contains(id);
        self.findings.add(Some(id), || match is_first {
            true => format!("request {id} was never answered: the client gave it up, {code}"),
            false => format!("request {id} ended twice"),
        });
        Ok(())
    }

    /// Finds what follows from the whole of it.
    fn finish(&mut self) {
        let Some(end) = self.end.filter(|_| !self.is_too_large) else { return };
        if !end.interrupted {
            let open = self.open();
            self.findings.add_each(&open, |id| format!("request {id} was never answered"));
            let here = self.requests.len();
            if here != end.requests {
                let claimed = end.requests;
                self.findings.add(None, || format!("the client had {claimed} requests, and {here} are in its journal"));
            }
        }
        if end.duplicated > self.duplicated {
            let more = end.duplicated - self.duplicated;
            self.findings.count += more - 1;
            self.findings.add(None, || format!("{more} replies were to requests that had one already"));
        }
    }

    /// The requests that have not ended.
    pub fn open(&self) -> IdSet {
        self.requests.without(&self.answered).without(&self.given_up)
    }
}

/// Parses `7` or `1..512`.
fn range(text: &str) -> Option<IdRange> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last - first < MAX_RANGE).then_some(IdRange { client: 0, first, last, step: 1 })
}

fn end(text: &str) -> Option<End> {
    let (text, interrupted) = text.strip_suffix(" interrupted").map_or((text, false), |text| (text, true));
    let (requests, duplicated) = text.strip_prefix("requests=")?.split_once(" duplicated=")?;
    Some(End { requests: ordinal(requests)?, duplicated: ordinal(duplicated)?, interrupted })
}

/// The limit of requests in one message.
const MAX_RANGE: u64 = 1 << 16;

/// The limit of a line's length in bytes.
const MAX_LINE: u64 = 4096;
