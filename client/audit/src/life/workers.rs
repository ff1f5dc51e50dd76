//! Workers that join, change their windows, and leave.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Life;
use super::requests::{Key, format_key};
use crate::findings::{Promise, SourceLine};
use crate::line::{self, DepartureCounts};

/// A registered worker.
#[derive(Debug)]
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
    pub in_flight: BTreeMap<u64, Key>,
    /// Whether it holds a request that must be its only one.
    pub alone: bool,
    /// How often it holds each request that has ended meanwhile.
    pub unwanted: HashMap<Key, u32>,
    pub unwanted_count: u64,
    /// The number of its results that were discarded.
    pub discarded: u64,
}

impl Worker {
    fn new(named: line::Worker<'_>, process: u64, pool: usize, window: Option<u64>) -> Self {
        Self {
            name: named.name.into(),
            process,
            is_back: false,
            pool,
            window,
            max_window: window,
            leaving: false,
            unable: false,
            alone: false,
            in_flight: BTreeMap::new(),
            unwanted: HashMap::default(),
            unwanted_count: 0,
            discarded: 0,
        }
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

impl Life {
    /// Returns whether the worker is registered. Reports it if it is not, or has another name.
    pub(super) fn check_worker(&mut self, named: line::Worker<'_>, at: &mut SourceLine<'_>) -> bool {
        let line::Worker { name, number } = named;
        let Some(worker) = self.workers.get(&number) else {
            let why = if number <= self.last_worker { "has left or was dropped" } else { "never joined" };
            self.findings.add(at, Promise::Rotation, || format!("w{number} {why}"));
            return false;
        };
        if *worker.name != *name {
            let known = &worker.name;
            self.findings.add(at, Promise::Rotation, || format!("w{number} is not {name}: it joined as {known}"));
        }
        true
    }

    /// Registers a worker whose registration is not in the log, at the seat whose turn it is.
    pub(super) fn adopt(&mut self, named: line::Worker<'_>, pool: usize) {
        self.pools[pool].ring.adopt(named.number);
        self.last_worker = self.last_worker.max(named.number);
        self.workers.insert(named.number, Worker::new(named, named.number, pool, None));
    }

    pub(super) fn on_joined(
        &mut self,
        named: line::Worker<'_>,
        pool: &str,
        (window, seats): (u64, u64),
        back: Option<u64>,
        at: &mut SourceLine<'_>,
    ) {
        let number = named.number;
        if number != self.last_worker + 1 {
            let expected = self.last_worker + 1;
            self.findings.add(at, Promise::Rotation, || format!("w{number} joins, where w{expected} was to be next"));
        }
        self.counts.workers_joined += 1;
        self.last_worker = self.last_worker.max(number);
        let pool = self.pool(pool);
        let process = self.process_of(number, back, at);
        self.workers.insert(number, Worker::new(named, process, pool, Some(window)));
        let ring = &mut self.pools[pool].ring;
        ring.join(number);
        let known = ring.len();
        if known as u64 != seats {
            self.findings.add(at, Promise::Rotation, || format!("the ring has {known} seats, not {seats}"));
        }
    }

    pub(super) fn on_window(&mut self, named: line::Worker<'_>, size: u64, at: &mut SourceLine<'_>) {
        if !self.check_worker(named, at) {
            return;
        }
        let worker = self.workers.get_mut(&named.number).expect("it is known");
        worker.window = Some(size);
        if let Some(max) = worker.max_window.filter(|&max| size > max) {
            let number = named.number;
            self.findings.add(at, Promise::Rotation, || {
                format!("w{number} has a window of {size}, where {max} is the most that it may be handed")
            });
        }
    }

    pub(super) fn on_leaving(&mut self, named: line::Worker<'_>, in_flight: u64, at: &mut SourceLine<'_>) {
        if !self.check_worker(named, at) {
            return;
        }
        let number = named.number;
        let worker = self.workers.get_mut(&number).expect("it is known");
        let (pool, load) = (worker.pool, worker.load());
        if std::mem::replace(&mut worker.leaving, true) {
            self.findings.add(at, Promise::Rotation, || format!("w{number} gives up its seat twice"));
        }
        self.pools[pool].ring.leave(number);
        if load != in_flight {
            self.findings
                .add(at, Promise::Requests, || format!("w{number} has {load} requests to finish, not {in_flight}"));
        }
    }

    pub(super) fn on_able(&mut self, named: line::Worker<'_>, seats: u64, at: &mut SourceLine<'_>) {
        if !self.check_worker(named, at) {
            return;
        }
        let number = named.number;
        let worker = self.workers.get_mut(&number).expect("it is known");
        let ring = &mut self.pools[worker.pool].ring;
        if !std::mem::replace(&mut worker.unable, false) || worker.leaving {
            self.findings.add(at, Promise::Rotation, || format!("w{number} takes a seat, but it had not lost its own"));
            ring.leave(number);
        }
        ring.join(number);
        let known = ring.len();
        if known as u64 != seats {
            self.findings.add(at, Promise::Rotation, || format!("the ring has {known} seats, not {seats}"));
        }
    }

    pub(super) fn on_left(&mut self, named: line::Worker<'_>, gone: DepartureCounts, at: &mut SourceLine<'_>) {
        if !self.check_worker(named, at) {
            return;
        }
        let number = named.number;
        let worker = self.remove_worker(number);
        self.counts.workers_left += 1;
        if !worker.leaving {
            self.findings.add(at, Promise::Rotation, || format!("w{number} leaves without giving up its seat before"));
        }
        if let Some(key) = worker.in_flight.values().next().or(worker.unwanted.keys().next()) {
            self.findings.add(at, Promise::Requests, || {
                format!("w{number} leaves and owes {} requests, such as {}", worker.load(), format_key(*key))
            });
        }
        for &key in worker.in_flight.values() {
            self.mark_unknown(key);
        }
        self.check_discarded(number, &worker, gone, at);
    }

    /// Removes a registered worker from the tables; its requests still refer to it.
    pub(super) fn remove_worker(&mut self, number: u64) -> Worker {
        let worker = self.workers.remove(&number).expect("it is known");
        self.pools[worker.pool].ring.leave(number);
        worker
    }

    pub(super) fn check_workers(&mut self, workers: u64, at: &mut SourceLine<'_>) {
        let known = self.workers.len() as i128 + self.more_workers;
        if known != i128::from(workers) {
            self.more_workers += i128::from(workers) - known;
            self.findings.add(at, Promise::Rotation, || format!("there are {known} workers, not {workers}"));
        }
    }

    /// Compares the counts of a worker that has gone with what the lines before said.
    pub(super) fn check_discarded(
        &mut self,
        number: u64,
        worker: &Worker,
        gone: DepartureCounts,
        at: &mut SourceLine<'_>,
    ) {
        let (unwanted, discarded) = (worker.unwanted_count, worker.discarded);
        if (unwanted, discarded) != (gone.unwanted, gone.discarded) {
            self.findings.add(at, Promise::Requests, || {
                format!(
                    "{discarded} results of w{number} were discarded, and {unwanted} that nobody waits for were to come, not \
                     {} and {}",
                    gone.discarded, gone.unwanted
                )
            });
        }
    }
}
