//! The status: a snapshot of the tables and counts, for people and monitoring.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::{ClientStatus, History, LeftOut, PoolStatus, PoolTotals, Status, Totals, WorkerStatus};

use super::records::{Pool, Worker};
use super::{Broker, Moment, PoolKey};
use crate::ids::WorkerNumber;
use crate::stats::pool_counters::BOUNDS_US;
use crate::stats::rates::Second;

/// The maximum number of workers and of clients in a status, and of seats of one pool.
const MAX_PEERS: usize = 5000;

/// The maximum number of pools in a status.
const MAX_POOLS: usize = 1000;

/// The maximum number of pools with a history in a status: each takes some kilobytes.
const MAX_HISTORIES: usize = 32;

/// The maximum number of bytes of operations' names: of one worker, and of all.
const MAX_OPERATION_BYTES: [usize; 2] = [4 << 10, 1 << 20];

impl Broker {
    /// Returns the status, taken from the tables.
    pub fn status(&mut self, now: Instant) -> Status {
        let moment = self.moment(now);
        self.stats.lost.forget_old(moment.millis());
        let second = moment.second();
        for took in self.workers.values_mut().filter_map(|worker| worker.took.as_deref_mut()) {
            took.reckon(second);
        }
        let seconds = self.stats.answers.before(second);
        let latency_us = seconds.back().map(|second| second.took).unwrap_or_default();
        let history = history(seconds);
        let mut left_out = LeftOut {
            workers: self.workers.len().saturating_sub(MAX_PEERS) as u64,
            clients: self.clients.len().saturating_sub(MAX_PEERS) as u64,
            pools: self.pools.len().saturating_sub(MAX_POOLS) as u64,
            operations: 0,
            hosts: 0,
        };
        let hosts = self.hosts_status(second, &mut left_out.hosts);
        let mut workers = self.workers_status(now);
        left_out.operations = shorten(&mut workers);
        let pools = self.listed_pools();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_ms: millis(now - self.started),
            rotation: self.settings.rotation.to_string(),
            pending: self.pending as u64,
            in_flight: self.workload().in_flight as u64,
            totals: self.totals(),
            workers,
            clients: self
                .clients
                .iter()
                .take(MAX_PEERS)
                .map(|(number, client)| ClientStatus {
                    name: client.name.to_string(),
                    number: number.0,
                    unanswered: client.account.unanswered.len() as u64,
                    answered: client.answered,
                    address: self.clients.address(&client.identity),
                })
                .collect(),
            pools: self.pools_status(&pools, now),
            latency_us,
            history,
            events: self.stats.recent.events().cloned().collect(),
            pool_totals: self.pool_totals(pools.iter().map(|&key| &self.pools[key.0])),
            bounds_us: BOUNDS_US.to_vec(),
            lost: self.stats.lost.iter().cloned().collect(),
            left_out,
            jobs: self.jobs_status(self.moment(now)),
            hosts,
            limited: false,
        }
    }

    /// Returns what a client may know that may not administer: the counts of pools.
    pub(super) fn limited_status(&mut self, now: Instant) -> Status {
        let pools = self.listed_pools();
        let limited = |pool: PoolStatus| PoolStatus {
            name: pool.name,
            ring: pool.ring,
            pending: pool.pending,
            oldest_ms: pool.oldest_ms,
            in_flight: pool.in_flight,
            unanswered: pool.unanswered,
            ..PoolStatus::default()
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_ms: millis(now - self.started),
            rotation: self.settings.rotation.to_string(),
            left_out: LeftOut { pools: (self.pools.len() - pools.len()) as u64, ..LeftOut::default() },
            pools: self.pools_status(&pools, now).into_iter().map(limited).collect(),
            limited: true,
            ..Status::default()
        }
    }

    /// Returns the workers of the status: if there are too many, the oldest registrations, and
    /// workers that are leaving.
    fn workers_status(&self, now: Instant) -> Vec<WorkerStatus> {
        let mut workers: Vec<_> = self.workers.iter().collect();
        if workers.len() > MAX_PEERS {
            workers.sort_unstable_by_key(|&(number, worker)| (!worker.leaving, number));
            workers.truncate(MAX_PEERS);
        }
        workers.sort_unstable_by_key(|&(number, worker)| (&self.pools[worker.pool.0].name, number));
        let rings = self.pools.iter().map(|(_, pool)| pool.ring.seats());
        let seats: HashMap<_, _> = rings.flat_map(|ring| ring.iter().copied().zip(0..)).collect();
        let status = |(number, worker)| self.worker_status(number, worker, seats.get(&number).copied(), now);
        workers.into_iter().map(status).collect()
    }

    /// Returns the pools of the status: if there are too many, those with workers first, then those
    /// with the most requests.
    fn listed_pools(&self) -> Vec<PoolKey> {
        let mut pools: Vec<_> = self.pools.iter().map(|(key, _)| PoolKey(key)).collect();
        if pools.len() > MAX_POOLS {
            pools.sort_unstable_by_key(|key| {
                let pool = &self.pools[key.0];
                (pool.workers == 0, Reverse(pool.pending.len()), &pool.name)
            });
            pools.truncate(MAX_POOLS);
        }
        pools
    }

    /// Returns the sums of all pools' counters, and the counts that belong to no pool.
    pub(super) fn totals(&self) -> Totals {
        self.stats.totals(self.pools.iter().map(|(_, pool)| &pool.counters))
    }

    fn pool_totals<'a>(&self, pools: impl Iterator<Item = &'a Pool>) -> Vec<PoolTotals> {
        let mut all: Vec<_> = pools.map(|pool| &pool.counters).chain(self.stats.retired.iter()).cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn pools_status(&mut self, pools: &[PoolKey], now: Instant) -> Vec<PoolStatus> {
        let now = self.moment(now);
        let mut histories = self.histories(pools, now.second());
        let in_flight = self.in_flight_by_pool();
        let oldest = |pool: &Pool| {
            let keys = pool.pending.candidates_for_oldest();
            keys.map(|key| self.requests[key.at()].accepted).min_by_key(|accepted| accepted.0)
        };
        let mut pools: Vec<_> = pools
            .iter()
            .map(|key| (key, &self.pools[key.0], histories.remove(key).unwrap_or_default()))
            .map(|(key, pool, history)| (pool, history, self.waits_for(pool), in_flight.get(key).copied().unwrap_or(0)))
            .map(|(pool, history, waits, in_flight)| PoolStatus {
                name: pool.name.to_string(),
                ring: pool.ring.seats().iter().take(MAX_PEERS).map(|number| number.0).collect(),
                turn: pool.ring.next() as u64,
                pending: pool.pending.len() as u64,
                oldest_ms: oldest(pool).map_or(0, |accepted| now.micros_since(accepted) / 1000),
                rate: pool.dispatched.before(now.second()),
                waits_for: waits.map(|(number, _)| number.0),
                waits_ms: waits.map_or(0, |(_, since)| now.micros_since(since) / 1000),
                history,
                in_flight,
                unanswered: pool.pending.len() as u64 + in_flight,
            })
            .collect();
        pools.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        pools
    }

    /// Returns the number of requests at the workers of each pool that has some, unwanted ones
    /// included.
    fn in_flight_by_pool(&self) -> HashMap<PoolKey, u64> {
        let mut in_flight = HashMap::new();
        for worker in self.workers.values() {
            *in_flight.entry(worker.pool).or_default() += worker.in_flight.len() as u64;
        }
        in_flight
    }

    /// Returns the last seconds of those pools that have the most workers.
    fn histories(&mut self, pools: &[PoolKey], second: u64) -> HashMap<PoolKey, History> {
        let mut largest = pools.to_vec();
        if largest.len() > MAX_HISTORIES {
            largest.sort_by_key(|key| Reverse(self.pools[key.0].workers));
            largest.truncate(MAX_HISTORIES);
        }
        let of = |key: PoolKey| Some((key, history(self.pools[key.0].answers.as_mut()?.before(second))));
        largest.into_iter().filter_map(of).collect()
    }

    /// Returns the worker that strict rotation waits for while another seat has room, and since
    /// when.
    fn waits_for(&self, pool: &Pool) -> Option<(WorkerNumber, Moment)> {
        let next_request = pool.next(&self.requests, &self.settings);
        let has_room = |seat: &WorkerNumber| self.workers[seat].has_room(next_request);
        // The worker may have left in this turn.
        let next = pool.ring.seats().get(pool.ring.next());
        let waits = pool.waits.filter(|(seat, _)| Some(seat) == next && pool.pending.has_next())?;
        (!has_room(&waits.0) && pool.ring.seats().iter().any(has_room)).then_some(waits)
    }

    /// Returns the word for what a worker does: [`WorkerStatus::state`].
    pub(super) fn state(&self, worker: &Worker) -> &'static str {
        match worker {
            _ if worker.liveness.suspect() => "suspect",
            _ if worker.leaving => "leaving",
            _ if worker.unable.is_some() => "unable",
            _ if worker.in_flight.is_empty() => "idle",
            _ if worker.load.is_stuck(self.settings.stuck_after) => "stuck",
            _ => "busy",
        }
    }

    fn worker_status(&self, number: WorkerNumber, worker: &Worker, seat: Option<u64>, now: Instant) -> WorkerStatus {
        let second = self.moment(now).second();
        let pool = &self.pools[worker.pool.0].name;
        let past = self.stats.names.past(&(Arc::clone(pool), worker.name.clone()));
        WorkerStatus {
            name: worker.name.to_string(),
            number: number.0,
            pool: pool.to_string(),
            state: self.state(worker).into(),
            leaving: worker.leaving,
            in_flight: worker.in_flight.len() as u64,
            window: worker.window.now() as u64,
            answered: worker.answered,
            computing: worker.load.computing,
            waiting: worker.load.waiting,
            oldest_ms: worker.load.oldest_ms,
            pings_out: worker.liveness.out(),
            threads: worker.threads,
            operations: worker.operations.clone(),
            registered_ms: millis(now - worker.registered),
            address: self.workers.address(&worker.identity),
            seat,
            redispatched_from: past.returned,
            pong_age_ms: millis(
                now.saturating_duration_since(worker.liveness.pong().map_or(worker.registered, |pong| pong.0)),
            ),
            round_trip_us: worker.liveness.pong().map_or(0, |(_, took)| took.as_micros() as u64),
            rate: worker.rate.before(second),
            window_max: worker.window.max() as u64,
            service_us: worker.took.as_ref().map(|took| took.percentiles()).unwrap_or_default(),
            answered_before: past.answered,
            unable: worker.unable.clone().unwrap_or_default(),
            host: worker.host.to_string(),
        }
    }
}

/// Returns whole seconds as the status has them.
fn history(seconds: &VecDeque<Second>) -> History {
    History {
        step_ms: 1000,
        rate: seconds.iter().map(|second| second.answered).collect(),
        p50_us: seconds.iter().map(|second| second.took.p50).collect(),
        p99_us: seconds.iter().map(|second| second.took.p99).collect(),
    }
}

/// Leaves out operations' names beyond [`MAX_OPERATION_BYTES`]. Returns how many.
fn shorten(workers: &mut [WorkerStatus]) -> u64 {
    let [of_one, mut of_all] = MAX_OPERATION_BYTES;
    let mut left_out = 0;
    for worker in workers {
        let (mut bytes, before) = (0, worker.operations.len());
        let fits = |operation: &String| {
            bytes += operation.len();
            bytes <= of_one.min(of_all)
        };
        let count = worker.operations.iter().map(fits).take_while(|&fits| fits).count();
        worker.operations.truncate(count);
        of_all -= worker.operations.iter().map(String::len).sum::<usize>();
        left_out += (before - count) as u64;
    }
    left_out
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
