//! Workers that join, change their windows, and leave.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Life;
use crate::findings::{Findings, Promise};
use crate::line::{self, DepartureCounts};
use crate::ranges::Id;

/// A registered worker.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub name: Rc<str>,
    /// The number of the process's first registration.
    pub process: u64,
    /// Whether the process has registered again since.
    pub is_back: bool,
    /// The index of its pool.
    pub pool: usize,
    /// The number of requests that it may hold now; `None` if its registration is not in the log.
    pub window: Option<u64>,
    /// The widest window that it may ever have; `None` likewise.
    max_window: Option<u64>,
    pub leaving: bool,
    /// Whether it has said that it can compute nothing for now.
    pub unable: bool,
    /// The open requests that it holds, by ticket.
    pub in_flight: BTreeMap<u64, Id>,
    /// Whether it holds a request that must be its only one.
    pub alone: bool,
    /// How often it holds each request that has ended meanwhile.
    pub unwanted: HashMap<Id, u32>,
    pub unwanted_count: u64,
    /// The number of its results that were discarded.
    pub discarded: u64,
}

impl Worker {
    fn new(named: line::Worker<'_>, process: u64, pool: usize, window: Option<u64>) -> Self {
        Self { name: named.name.into(), process, pool, window, max_window: window, ..Self::default() }
    }

    /// The number of requests that count against its window.
    pub fn load(&self) -> u64 {
        self.in_flight.len() as u64 + self.unwanted_count
    }

    /// Whether it may not be handed one more request, which is to be its only one if `alone`.
    pub fn is_full(&self, alone: bool) -> bool {
        let load = self.load();
        let alone = alone || self.alone;
        alone && load > 0 || self.window.is_some_and(|window| load >= window)
    }
}

/// The registered workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    pub by_number: HashMap<u64, Worker>,
    /// The number of the last one that registered.
    last: u64,
}

impl Workers {
    /// Returns a worker as a line names it. Reports it if it is not registered (then `None`), or has
    /// another name.
    pub fn named(&mut self, named: line::Worker<'_>, findings: &mut Findings) -> Option<&mut Worker> {
        let line::Worker { name, number } = named;
        let worker = self.by_number.get_mut(&number);
        match &worker {
            None => findings.add(Promise::Rotation, || {
                format!("w{number} {}", if number <= self.last { "has left or was dropped" } else { "never joined" })
            }),
            Some(worker) if *worker.name != *name => {
                findings.add(Promise::Rotation, || format!("w{number} is not {name}: it joined as {}", worker.name));
            }
            Some(_) => {}
        }
        worker
    }
}

impl Life {
    /// Registers a worker whose registration is not in the log, at the seat whose turn it is.
    pub(super) fn adopt(&mut self, named: line::Worker<'_>, pool: usize) {
        self.pools[pool].ring.adopt(named.number);
        self.workers.last = self.workers.last.max(named.number);
        self.workers.by_number.insert(named.number, Worker::new(named, named.number, pool, None));
    }

    pub(super) fn on_joined(
        &mut self,
        named: line::Worker<'_>,
        pool: &str,
        (window, seats): (u64, u64),
        back: Option<u64>,
    ) {
        let number = named.number;
        let next = self.workers.last + 1;
        if number != next {
            self.findings.add(Promise::Rotation, || format!("w{number} joins instead of w{next}"));
        }
        self.counts.workers_joined += 1;
        self.workers.last = self.workers.last.max(number);
        let pool = self.pool(pool);
        let process = self.process_of(number, back);
        self.workers.by_number.insert(number, Worker::new(named, process, pool, Some(window)));
        self.pools[pool].ring.join(number);
        self.check_seats(pool, seats);
    }

    pub(super) fn on_window(&mut self, named: line::Worker<'_>, size: u64) {
        let Some(worker) = self.workers.named(named, &mut self.findings) else { return };
        worker.window = Some(size);
        if let Some(max) = worker.max_window.filter(|&max| size > max) {
            let number = named.number;
            self.findings
                .add(Promise::Rotation, || format!("w{number} has a window of {size}, but its maximum is {max}"));
        }
    }

    pub(super) fn on_leaving(&mut self, named: line::Worker<'_>, in_flight: u64) {
        let Some(worker) = self.workers.named(named, &mut self.findings) else { return };
        let (number, load) = (named.number, worker.load());
        if std::mem::replace(&mut worker.leaving, true) {
            self.findings.add(Promise::Rotation, || format!("w{number} gives up its seat twice"));
        }
        self.pools[worker.pool].ring.leave(number);
        if load != in_flight {
            self.findings
                .add(Promise::Requests, || format!("w{number} has {load} requests to finish, not {in_flight}"));
        }
    }

    pub(super) fn on_able(&mut self, named: line::Worker<'_>, seats: u64) {
        let Some(worker) = self.workers.named(named, &mut self.findings) else { return };
        let (number, pool) = (named.number, worker.pool);
        let ring = &mut self.pools[pool].ring;
        if !std::mem::replace(&mut worker.unable, false) || worker.leaving {
            self.findings.add(Promise::Rotation, || format!("w{number} takes a seat, but it had not lost its own"));
            ring.leave(number);
        }
        ring.join(number);
        self.check_seats(pool, seats);
    }

    pub(super) fn on_left(&mut self, named: line::Worker<'_>, gone: DepartureCounts) {
        let Some(worker) = self.remove_worker(named) else { return };
        let number = named.number;
        self.counts.workers_left += 1;
        if !worker.leaving {
            self.findings.add(Promise::Rotation, || format!("w{number} leaves without giving up its seat before"));
        }
        if let Some(id) = worker.in_flight.values().next().or(worker.unwanted.keys().next()) {
            self.findings.add(Promise::Requests, || {
                format!("w{number} leaves and owes {} requests, such as {id}", worker.load())
            });
        }
        for &id in worker.in_flight.values() {
            self.mark_unknown(id);
        }
        self.check_discarded(number, &worker, gone);
    }

    /// Removes a registered worker from the tables; its requests still refer to it. Reports it if it
    /// is not registered.
    pub(super) fn remove_worker(&mut self, named: line::Worker<'_>) -> Option<Worker> {
        self.workers.named(named, &mut self.findings)?;
        let worker = self.workers.by_number.remove(&named.number)?;
        self.pools[worker.pool].ring.leave(named.number);
        Some(worker)
    }

    /// Compares the size of a pool's ring with what a line says.
    pub(super) fn check_seats(&mut self, pool: usize, seats: u64) {
        let known = self.pools[pool].ring.len() as u64;
        if known != seats {
            self.findings.add(Promise::Rotation, || format!("the ring has {known} seats, not {seats}"));
        }
    }

    pub(super) fn check_workers(&mut self, workers: u64) {
        let known = self.workers.by_number.len() as i128 + self.more_workers;
        if known != i128::from(workers) {
            self.more_workers += i128::from(workers) - known;
            self.findings.add(Promise::Rotation, || format!("there are {known} workers, not {workers}"));
        }
    }

    /// Compares the counts of a worker that has gone with what the lines before said.
    pub(super) fn check_discarded(&mut self, number: u64, worker: &Worker, gone: DepartureCounts) {
        let (unwanted, discarded) = (worker.unwanted_count, worker.discarded);
        if (unwanted, discarded) != (gone.unwanted, gone.discarded) {
            self.findings.add(Promise::Requests, || {
                format!(
                    "w{number} had {discarded} results discarded and {unwanted} unwanted, not {} and {}",
                    gone.discarded, gone.unwanted
                )
            });
        }
    }
}
