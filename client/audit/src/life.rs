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
mod jobs;
mod losses;
mod records;
mod requests;
mod ring;
mod workers;

use std::collections::{BTreeMap, HashMap};

use crate::findings::{Findings, Promise};
use crate::ledger::Ledger;
use crate::line::{Event, Line, Start};
use crate::ranges::{Id, IdRanges};
use crate::report::Counts;
pub(crate) use closing::CLOSES;
use closing::Farewells;
use dispatch::{DispatchBatch, DispatchFlags};
use losses::LostWorkers;
use records::Clients;
use ring::Ring;
use workers::{Worker, Workers};

/// The maximum number of open requests that are kept. Each takes about 200 bytes of memory.
const MAX_OPEN: u64 = if cfg!(test) { 1 << 12 } else { 1 << 24 };

/// A pool: its ring, and the requests that lost workers gave back.
#[derive(Debug, Default)]
struct Pool {
    ring: Ring,
    /// The returned requests, by the ticket of their first dispatch.
    returned: BTreeMap<u64, Id>,
    /// The number of requests that were not dispatched, by priority.
    fresh: [u64; 3],
}

/// The state of one life of a broker.
#[derive(Debug, Default)]
pub(super) struct Life {
    strict: bool,
    pub counts: Counts,
    pub findings: Findings,
    /// Whether the log has every detail, unlike with `--log-level info`: the broker says so, or
    /// there is a line of that level.
    pub detailed: bool,
    clients: Clients,
    /// The number of jobs among the clients.
    jobs: u64,
    /// Whether there was a job in this life.
    pub has_had_jobs: bool,
    /// The number of requests that an earlier life has dispatched.
    earlier: u64,
    /// The number of the store, if the broker keeps jobs, and whether all its jobs are restored.
    home: Option<u32>,
    is_restored: bool,
    pub ledger: Ledger,
    workers: Workers,
    pools: Vec<Pool>,
    pool_of: HashMap<Box<str>, usize>,
    lost_workers: LostWorkers,
    farewells: Farewells,
    /// The number of the last client that joined; 0 before the first.
    pub last_client: u64,
    last_ticket: u64,
    /// Dispatch lines that are not checked yet: the tickets of one pass of the broker interleave.
    batches: Vec<DispatchBatch>,
    /// The number of lost workers after which a request is given up: as the broker says, or else as
    /// for the first one that was.
    given_up_after: Option<usize>,
    /// The maximum number of lost workers of a request that was dispatched again.
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
}

impl Life {
    /// Begins a life with the broker's first line; `counts` and `ledger` are those of the lives before
    /// it.
    pub fn new(start: &Start<'_>, counts: Counts, ledger: Ledger) -> Self {
        Self {
            strict: start.strict,
            counts: Counts { lives: counts.lives + 1, ..counts },
            detailed: start.detailed,
            given_up_after: start.max_attempts.and_then(|limit| usize::try_from(limit).ok()),
            ledger,
            lines: 1,
            next_size_check: counts.accepted + MAX_OPEN,
            ..Self::default()
        }
    }

    /// Checks a line other than [`Event::Listening`]: the one that [`Findings::line`] has been set to.
    /// Returns false if more requests are open than are kept.
    pub fn handle_line(&mut self, line: &Line<'_>) -> bool {
        self.lines += 1;
        self.detailed |= matches!(line.level, "DEBUG" | "TRACE");
        match line.event {
            Event::NoBearing | Event::LogContinues { .. } | Event::Unknown { .. } => return true,
            Event::Dispatch { .. } => {}
            _ => self.check_dispatches(false),
        }
        if self.stopped {
            self.findings.add(Promise::Evidence, || "the broker had stopped before".into());
        }
        if !matches!(line.event, Event::Store { .. } | Event::Restored { .. }) {
            self.check_restored();
        }
        match line.event {
            Event::Dispatch { worker, again, suspect, tickets, requests } => {
                self.on_dispatch(worker, DispatchFlags { again, suspect }, &tickets, &requests);
            }
            Event::ClientJoined { client, clients, .. } => self.on_client_joined(client, clients),
            Event::ClientLeft { client, cancelled, unwanted, clients, reason } => {
                self.on_client_left(client, (cancelled, unwanted), reason);
                self.check_clients(clients);
            }
            Event::Joined { worker, pool, window, seats, workers, back, .. } => {
                self.on_joined(worker, pool, (window, seats), back);
                self.check_workers(workers);
            }
            Event::Window { worker, size } => self.on_window(worker, size),
            Event::Leaving { worker, in_flight } => self.on_leaving(worker, in_flight),
            Event::Unable { worker, returned, requests, .. } => self.on_unable(worker, returned, &requests),
            Event::Able { worker, seats } => self.on_able(worker, seats),
            Event::Left { worker, gone } => {
                self.on_left(worker, gone);
                self.check_workers(gone.workers);
            }
            Event::Dropped { worker, returned, requests, gone, evidence, reason } => {
                self.on_dropped(worker, (returned, &requests), gone, (evidence, reason));
                self.check_workers(gone.workers);
            }
            Event::Accept { requests, pool, priority } => self.on_accept(&requests, pool, priority),
            Event::Reply { worker, errors, requests } => self.on_reply(worker, errors, &requests),
            Event::Discard { worker, late, requests } => self.on_discard(worker, late, &requests),
            Event::Expire { requests } => self.on_expire(&requests),
            Event::Cancel { requests } => self.on_cancel(&requests),
            Event::Poison { request, workers } => self.on_poison(&request, workers),
            Event::Closing { in_flight } => self.on_closing(in_flight),
            Event::NotAnswered { in_flight } => self.on_not_answered(in_flight),
            Event::Goodbye { client } => self.on_goodbye(client),
            Event::Unheard { client, unsent, requests, .. } => self.on_unheard(client, unsent, &requests),
            Event::Stopped { lines } => self.on_stopped(lines),
            _ => self.handle_job_line(&line.event),
        }
        self.has_room()
    }

    /// Checks a line about durable jobs.
    fn handle_job_line(&mut self, event: &Event<'_>) {
        match *event {
            Event::Store { home } => self.on_store(home),
            Event::Job { job, id, .. } => self.on_job_begins(job, id, None),
            Event::Restored { job, id, requests } => self.on_job_begins(job, id, Some(requests)),
            Event::Saved { job, count, requests, closed } => {
                self.check_named(&requests, count);
                self.on_saved(job, &requests, closed);
            }
            Event::EarlierLosses { requests, lost } => self.on_earlier_losses(&requests, lost),
            Event::Retry { requests } => self.on_retry(&requests),
            Event::Resumed { job, id, requests, again } => self.on_resumed(job, id, requests, again),
            Event::Stored { requests } => self.on_stored(&requests),
            Event::Finished { job, succeeded, failed } => self.on_job_finished(job, succeeded + failed),
            Event::CancelledJob { job } | Event::Known { job, .. } => self.on_job_cancelled(job),
            Event::StoreFailed { .. } => self.on_store_failed(),
            // Of a deleted job or a full disk there is nothing to check.
            _ => {}
        }
    }

    /// Notes that the clients of these requests are sent replies, or that there are replies to store.
    fn mark_answered(&mut self, requests: &IdRanges<'_>) {
        for range in requests.ranges() {
            if let Some(client) = self.clients.0.get_mut(&range.client) {
                client.answered = true;
            }
            if let Some(key) = self.key_of_client(range.client) {
                self.ledger.reply(key, range);
            }
        }
    }

    /// Returns whether as few requests are open as are kept. They are counted once enough have been
    /// accepted since the last count.
    fn has_room(&mut self) -> bool {
        if self.counts.accepted < self.next_size_check {
            return true;
        }
        let open = self.open();
        self.next_size_check = self.counts.accepted + MAX_OPEN.saturating_sub(open);
        open < MAX_OPEN
    }

    fn open(&self) -> u64 {
        self.clients.0.values().map(|client| client.open.len() as u64).sum()
    }

    /// Ends the life: there are no more lines of it.
    pub fn finish(&mut self) {
        // A broker that was killed while it wrote may leave a part of its last pass. Nothing of it was
        // sent.
        self.check_dispatches(!self.stopped);
        self.counts.open += self.open();
        self.counts.jobs = self.ledger.submitted;
        self.counts.jobs_finished = self.ledger.finished;
        self.counts.jobs_open = self.ledger.open() as u64;
        self.counts.saved = self.ledger.saved;
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

    fn check_in_flight(&mut self, in_flight: u64) {
        let known: u64 = self.workers.by_number.values().map(Worker::load).sum();
        if known != in_flight {
            self.findings.add(Promise::Requests, || format!("{known} requests are in flight, not {in_flight}"));
        }
    }

    /// Checks that a line names as many requests as it says.
    fn check_named(&mut self, requests: &IdRanges<'_>, count: u64) {
        if requests.count() != count {
            self.findings.add(Promise::Requests, || format!("{} requests are named, not {count}", requests.count()));
        }
    }

    fn on_closing(&mut self, in_flight: u64) {
        self.closing = true;
        self.check_in_flight(in_flight);
    }

    fn on_not_answered(&mut self, in_flight: u64) {
        self.check_in_flight(in_flight);
        self.not_answered = in_flight;
    }

    fn on_stopped(&mut self, lines: u64) {
        self.check_in_flight(self.not_answered);
        self.check_farewells();
        let known = self.lines;
        if known != lines {
            self.findings.add(Promise::Evidence, || format!("the broker wrote {lines} lines, and {known} are here"));
        }
        if !self.closing {
            self.findings.add(Promise::Evidence, || "the broker stops without `closing`".into());
        }
        self.stopped = true;
    }
}
