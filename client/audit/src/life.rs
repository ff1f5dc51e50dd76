//! The state of one broker, rebuilt from its log line by line, and the checks of each line against
//! it.
//!
//! A life begins with `listening`. From there on the lines say what the broker must have kept: the
//! seats, the requests that each worker holds, the requests that wait. Memory is proportional to
//! the number of open requests. A line that does not fit is reported and then believed as far as
//! possible, so that one gap in the log does not make all later lines look wrong.
//!
//! The fields and the dispatch of lines are here; each child module has the checks of one subject.

mod clients;
mod closing;
mod dispatch;
mod losses;
mod requests;
mod ring;
mod workers;

use std::collections::{BTreeMap, HashMap};

use crate::findings::{Findings, Promise, SourceLine};
use crate::line::{Event, Line, Start};
use crate::ranges::IdRanges;
use crate::report::Counts;
use clients::Client;
use closing::Farewells;
use dispatch::{DispatchBatch, DispatchFlags};
use losses::LostWorkers;
pub(super) use requests::{Key, format_key};
use ring::Ring;
use workers::Worker;

/// The most open requests that are kept. Each takes about 200 bytes of memory.
const MOST_OPEN: u64 = if cfg!(test) { 1 << 12 } else { 1 << 24 };

/// A pool: its ring, and the requests that lost workers gave back.
#[derive(Debug, Default)]
struct Pool {
    ring: Ring,
    /// The returned requests, by the ticket of their first dispatch.
    returned: BTreeMap<u64, Key>,
}

/// The state of one life of a broker.
#[derive(Debug)]
pub(super) struct Life {
    strict: bool,
    pub counts: Counts,
    pub findings: Findings,
    /// Whether the log has every detail, unlike with `--log-level info`: the broker says so, or
    /// there is a line of that level.
    pub detailed: bool,
    clients: HashMap<u64, Client>,
    workers: HashMap<u64, Worker>,
    pools: Vec<Pool>,
    pool_of: HashMap<Box<str>, usize>,
    lost_workers: LostWorkers,
    farewells: Farewells,
    last_client: u64,
    last_worker: u64,
    last_ticket: u64,
    /// Dispatch lines that are not checked yet: the tickets of one pass of the broker interleave.
    batches: Vec<DispatchBatch>,
    /// The number of lost workers after which a request is given up: as the broker says, or else as
    /// for the first one that was.
    given_up_after: Option<usize>,
    /// The most lost workers of a request that was dispatched again.
    pub dispatched_after: usize,
    /// The number of lines so far.
    lines: u64,
    /// How many more clients and workers there are by the log's counts than by its lines. The
    /// difference has been reported.
    more_clients: i128,
    more_workers: i128,
    closing: bool,
    /// Requests that were in flight when the broker would not wait any longer.
    not_answered: u64,
    stopped: bool,
    /// The number of accepted requests at which the open ones are counted next.
    next_size_check: u64,
    /// Whether more requests are open than are kept.
    pub is_too_large: bool,
}

impl Life {
    /// Begins a life with the broker's first line.
    pub fn new(start: &Start<'_>) -> Self {
        Self {
            strict: start.strict,
            counts: Counts { lives: 1, ..Counts::default() },
            findings: Findings::default(),
            detailed: start.detailed,
            clients: HashMap::default(),
            workers: HashMap::default(),
            pools: Vec::new(),
            lost_workers: LostWorkers::default(),
            farewells: Farewells::default(),
            pool_of: HashMap::default(),
            last_client: 0,
            last_worker: 0,
            last_ticket: 0,
            batches: Vec::new(),
            given_up_after: start.max_attempts.and_then(|most| usize::try_from(most).ok()),
            dispatched_after: 0,
            lines: 1,
            more_clients: 0,
            more_workers: 0,
            closing: false,
            not_answered: 0,
            stopped: false,
            next_size_check: MOST_OPEN,
            is_too_large: false,
        }
    }

    /// Checks a line other than [`Event::Listening`].
    pub fn handle_line(&mut self, line: &Line<'_>, at: &mut SourceLine<'_>) {
        self.lines += 1;
        self.detailed |= matches!(line.level, "DEBUG" | "TRACE");
        match line.event {
            Event::NoBearing | Event::Unknown { .. } => return,
            Event::Dispatch { worker, again, suspect, tickets, requests } => {
                self.check_not_stopped(at);
                return self.on_dispatch(worker, DispatchFlags { again, suspect }, &tickets, &requests, at);
            }
            _ => self.check_dispatches(false),
        }
        self.check_not_stopped(at);
        match line.event {
            Event::ClientJoined { client, clients, .. } => {
                self.on_client_joined(client, at);
                self.check_clients(clients, at);
            }
            Event::ClientLeft { client, cancelled, unwanted, clients, reason } => {
                let known = self.clients.get(&client);
                let answered = known.is_some_and(|client| client.answered);
                if known.is_some() && reason == closing::CLOSES {
                    self.on_told_goodbye(client, answered, at);
                }
                self.on_client_left(client, cancelled, unwanted, at);
                self.check_clients(clients, at);
            }
            Event::Joined { worker, pool, window, seats, workers, back, .. } => {
                self.on_joined(worker, pool, (window, seats), back, at);
                self.check_workers(workers, at);
            }
            Event::Window { worker, size } => self.on_window(worker, size, at),
            Event::Leaving { worker, in_flight } => self.on_leaving(worker, in_flight, at),
            Event::Unable { worker, returned, requests, .. } => self.on_unable(worker, returned, &requests, at),
            Event::Able { worker, seats } => self.on_able(worker, seats, at),
            Event::Left { worker, gone } => {
                self.on_left(worker, gone, at);
                self.check_workers(gone.workers, at);
            }
            Event::Dropped { worker, returned, requests, gone, evidence, reason } => {
                self.on_dropped(worker, (returned, &requests), gone, (evidence, reason), at);
                self.check_workers(gone.workers, at);
            }
            Event::Accept { requests, pool } => self.on_accept(&requests, pool, at),
            Event::Reply { worker, errors, requests } => self.on_reply(worker, errors, &requests, at),
            Event::Discard { worker, late, requests } => self.on_discard(worker, late, &requests, at),
            Event::Expire { requests } => {
                self.counts.expired += requests.count();
                self.mark_answered(&requests);
                self.on_end(&requests, "expires", at);
            }
            Event::Cancel { requests } => {
                self.counts.cancelled += requests.count();
                self.on_end(&requests, "is cancelled", at);
            }
            Event::Poison { request, workers } => self.on_poison(&request, workers, at),
            Event::Closing { in_flight } => {
                self.closing = true;
                self.check_in_flight(in_flight, at);
            }
            Event::NotAnswered { in_flight } => {
                self.check_in_flight(in_flight, at);
                self.not_answered = in_flight;
            }
            Event::Goodbye { client } => self.on_goodbye(client, at),
            Event::Unheard { client, unsent, requests, .. } => self.on_unheard(client, unsent, &requests, at),
            Event::Stopped { lines } => {
                self.check_in_flight(self.not_answered, at);
                self.check_farewells(at);
                self.check_lines(lines, at);
                self.stopped = true;
            }
            Event::Listening(_)
            | Event::LogGap { .. }
            | Event::Dispatch { .. }
            | Event::NoBearing
            | Event::Unknown { .. } => {}
        }
    }

    /// Notes that the clients of these requests are sent replies.
    fn mark_answered(&mut self, requests: &IdRanges<'_>) {
        for range in requests.ranges() {
            if let Some(client) = self.clients.get_mut(&range.client) {
                client.answered = true;
            }
        }
    }

    /// Counts the open requests once enough have been accepted since the last count.
    fn check_size(&mut self) {
        if self.counts.accepted < self.next_size_check {
            return;
        }
        let open = self.open();
        self.is_too_large = open >= MOST_OPEN;
        self.next_size_check = self.counts.accepted + MOST_OPEN.saturating_sub(open);
    }

    fn open(&self) -> u64 {
        self.clients.values().map(|client| client.open.len() as u64).sum()
    }

    /// Ends the life: there are no more lines of it.
    pub fn finish(&mut self) {
        // A broker that was killed while it wrote may leave a part of its last pass. Nothing of it was
        // sent.
        self.check_dispatches(!self.stopped);
        self.counts.open += self.open();
    }

    /// Returns the index of the pool of that name, which may be new.
    fn pool(&mut self, name: &str) -> usize {
        if let Some(&pool) = self.pool_of.get(name) {
            return pool;
        }
        self.pools.push(Pool::default());
        self.pool_of.insert(name.into(), self.pools.len() - 1);
        self.pools.len() - 1
    }

    fn check_in_flight(&mut self, in_flight: u64, at: &mut SourceLine<'_>) {
        let known: u64 = self.workers.values().map(Worker::load).sum();
        if known != in_flight {
            self.findings.add(at, Promise::Requests, || format!("{known} requests are in flight, not {in_flight}"));
        }
    }

    fn check_lines(&mut self, lines: u64, at: &mut SourceLine<'_>) {
        let known = self.lines;
        if known != lines {
            self.findings
                .add(at, Promise::Evidence, || format!("the broker wrote {lines} lines, and {known} are here"));
        }
        if !self.closing {
            self.findings.add(at, Promise::Evidence, || "the broker stops without `closing`".into());
        }
    }

    fn check_not_stopped(&mut self, at: &mut SourceLine<'_>) {
        if self.stopped {
            self.findings.add(at, Promise::Evidence, || "the broker had stopped before".into());
        }
    }
}
