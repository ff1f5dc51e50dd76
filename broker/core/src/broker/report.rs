//! What the broker says of itself, and whether its tables agree with each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use giostra_protocol::{ClientStatus, History, LeftOut, PoolStatus, PoolTotals, Status, Totals, WorkerStatus};

use super::{Broker, Flight, Moment, Pool, PoolKey, State, Worker};
use crate::ids::{ClientNumber, WorkerNumber};
use crate::peer_info::PeerInfo;
use crate::pending::Place;
use crate::tally::BOUNDS_US;

/// The most workers and the most clients that a status tells of, and the most seats of one pool.
const MOST_PEERS: usize = 5000;

/// The most pools.
const MOST_POOLS: usize = 1000;

/// The most bytes of the names of operations, of one worker and of all.
const MOST_OPERATIONS: [usize; 2] = [4 << 10, 1 << 20];

impl Broker {
    /// What the broker is doing. Counted from the tables themselves.
    pub fn status(&mut self, now: Instant) -> Status {
        self.forget_lost(now);
        let second = self.moment(now).second();
        for took in self.workers.values_mut().filter_map(|worker| worker.took.as_deref_mut()) {
            took.reckon(second);
        }
        let seconds = self.history.before(second);
        let latency_us = seconds.back().map(|second| second.took).unwrap_or_default();
        let history = History {
            step_ms: 1000,
            rate: seconds.iter().map(|second| second.answered).collect(),
            p50_us: seconds.iter().map(|second| second.took.p50).collect(),
            p99_us: seconds.iter().map(|second| second.took.p99).collect(),
        };
        let mut left_out = LeftOut {
            clients: self.clients.len().saturating_sub(MOST_PEERS) as u64,
            pools: self.pools.len().saturating_sub(MOST_POOLS) as u64,
            ..LeftOut::default()
        };
        let mut workers: Vec<_> = self.workers.iter().collect();
        if workers.len() > MOST_PEERS {
            // Those who have been here for long are not crowded out; and who drains a worker wants to see it.
            workers.sort_unstable_by_key(|&(number, worker)| (!worker.leaving, number));
            left_out.workers = (workers.len() - MOST_PEERS) as u64;
            workers.truncate(MOST_PEERS);
        }
        workers.sort_unstable_by_key(|&(number, worker)| (&self.pools[worker.pool.0].name, number));
        let rings = self.pools.iter().map(|(_, pool)| pool.ring.seats());
        let seats: HashMap<_, _> = rings.flat_map(|ring| ring.iter().copied().zip(0..)).collect();
        let mut told: Vec<_> = workers
            .into_iter()
            .map(|(number, worker)| self.worker_status(number, worker, seats.get(&number).copied(), now))
            .collect();
        left_out.operations = shorten(&mut told);
        let pools = self.told_pools();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_ms: millis(now - self.started),
            rotation: self.settings.rotation.to_string(),
            pending: self.pending as u64,
            in_flight: (self.requests.len() - self.leftovers.len() - self.pending) as u64,
            totals: self.totals,
            workers: told,
            clients: self
                .clients
                .iter()
                .take(MOST_PEERS)
                .map(|(number, client)| ClientStatus {
                    name: client.name.to_string(),
                    number: number.0,
                    unanswered: client.held.len() as u64,
                    answered: client.answered,
                    address: written(self.client_callers.get(&client.identity)),
                })
                .collect(),
            pools: self.pools_status(&pools, now),
            latency_us,
            history,
            events: self.recent.events().cloned().collect(),
            pool_totals: self.pool_totals(pools.iter().map(|&key| &self.pools[key.0])),
            bounds_us: BOUNDS_US.to_vec(),
            lost: self.lost.iter().cloned().collect(),
            left_out,
        }
    }

    /// The pools that are told of: if they are too many, first those with workers, then those with
    /// the most requests.
    fn told_pools(&self) -> Vec<PoolKey> {
        let mut pools: Vec<_> = self.pools.iter().map(|(key, _)| PoolKey(key)).collect();
        if pools.len() > MOST_POOLS {
            pools.sort_unstable_by_key(|key| {
                let pool = &self.pools[key.0];
                (pool.workers == 0, Reverse(pool.pending.len()), &pool.name)
            });
            pools.truncate(MOST_POOLS);
        }
        pools
    }

    fn pool_totals<'a>(&self, pools: impl Iterator<Item = &'a Pool>) -> Vec<PoolTotals> {
        let present = pools.map(|pool| pool.tally.told(&pool.name));
        let mut all: Vec<_> = present.chain(self.former.told()).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn pools_status(&self, pools: &[PoolKey], now: Instant) -> Vec<PoolStatus> {
        let now = self.moment(now);
        let oldest = |pool: &Pool| {
            let keys = pool.pending.candidates_for_oldest();
            keys.map(|key| self.requests[key.at()].accepted).min_by_key(|accepted| accepted.0)
        };
        let mut pools: Vec<_> = pools
            .iter()
            .map(|key| &self.pools[key.0])
            .map(|pool| (pool, self.waits_for(pool)))
            .map(|(pool, waits)| PoolStatus {
                name: pool.name.to_string(),
                ring: pool.ring.seats().iter().take(MOST_PEERS).map(|number| number.0).collect(),
                turn: pool.ring.next() as u64,
                pending: pool.pending.len() as u64,
                oldest_ms: oldest(pool).map_or(0, |accepted| now.micros_since(accepted) / 1000),
                rate: pool.dispatched.before(now.second()),
                waits_for: waits.map(|(number, _)| number.0),
                waits_ms: waits.map_or(0, |(_, since)| now.micros_since(since) / 1000),
            })
            .collect();
        pools.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        pools
    }

    /// Whom strict rotation waits for while another seat has room, and since when.
    fn waits_for(&self, pool: &Pool) -> Option<(WorkerNumber, Moment)> {
        let first = pool.pending.first_returned();
        let alone = first.is_some_and(|key| self.requests[key.at()].has_last_chance(self.settings.max_attempts));
        let has_room = |seat: &WorkerNumber| self.workers[seat].has_room(alone);
        // The worker may have gone in this turn.
        let next = pool.ring.seats().get(pool.ring.next());
        let waits = pool.waits.filter(|(seat, _)| Some(seat) == next && pool.pending.has_next())?;
        (!has_room(&waits.0) && pool.ring.seats().iter().any(has_room)).then_some(waits)
    }

    fn worker_status(&self, number: WorkerNumber, worker: &Worker, seat: Option<u64>, now: Instant) -> WorkerStatus {
        let second = self.moment(now).second();
        let pool = &self.pools[worker.pool.0].name;
        let past = self.names.past(pool, &worker.name);
        let state = match worker {
            _ if worker.liveness.suspect() => "suspect",
            _ if worker.leaving => "leaving",
            _ if worker.unable.is_some() => "unable",
            _ if worker.in_flight.is_empty() => "idle",
            _ if worker.load.is_stuck(self.settings.stuck_after) => "stuck",
            _ => "busy",
        };
        WorkerStatus {
            name: worker.name.to_string(),
            number: number.0,
            pool: pool.to_string(),
            state: state.into(),
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
            address: written(self.worker_callers.get(&worker.identity)),
            seat,
            redispatched_from: past.returned,
            pong_age_ms: millis(
                now.saturating_duration_since(worker.liveness.pong().map_or(worker.registered, |pong| pong.0)),
            ),
            round_trip_us: worker.liveness.pong().map_or(0, |(_, took)| took.as_micros() as u64),
            rate: worker.rate.before(second),
            window_most: worker.window.most() as u64,
            service_us: worker.took.as_ref().map(|took| took.percentiles()).unwrap_or_default(),
            answered_before: past.answered,
            unable: worker.unable.clone().unwrap_or_default(),
        }
    }

    /// Panics if the tables contradict each other. Walks through all of them: for tests, after each
    /// step.
    ///
    /// To be called when [`Self::poll_output`] has nothing more.
    pub fn check(&self) {
        let mut in_flight = 0;
        let mut unread: BTreeMap<ClientNumber, usize> = BTreeMap::new();
        for (number, worker) in self.workers.iter() {
            assert_eq!(self.worker_of.get(&worker.identity), Some(&number));
            assert!(self.pings.contains(&(worker.liveness.due(), number)), "{number} is never pinged");
            assert!(worker.in_flight.len() <= worker.window.most(), "{number} has more than its window");
            assert!(!worker.alone || worker.in_flight.len() == 1, "{number} has {} alone", worker.in_flight.len());
            assert!(worker.batch.is_empty(), "{number} was not sent what it was dealt");
            let seated = self.pools[worker.pool.0].ring.seats().iter().filter(|&&seat| seat == number).count();
            assert_eq!(seated, usize::from(worker.is_seated()), "{number} has {seated} seats");
            let mut unwanted = 0;
            for flight in worker.in_flight.iter() {
                let key = match *flight {
                    Flight::Wanted(key) => key,
                    Flight::Unwanted(client, _, bytes) => {
                        unwanted += bytes as usize;
                        *unread.entry(client).or_default() += bytes as usize;
                        continue;
                    }
                };
                let state = self.requests[key.at()].state;
                assert!(matches!(state, State::InFlight { worker, .. } if worker == number), "{state:?}");
                in_flight += 1;
            }
            assert_eq!(worker.unwanted_bytes, unwanted, "{number} holds more or less for nobody");
        }
        assert_eq!(self.worker_of.len(), self.workers.len());
        assert_eq!(self.pings.len(), self.workers.len());
        let open = self.requests.len() - self.leftovers.len();
        assert_eq!(open, self.pending + in_flight, "a request is neither pending nor in flight");

        let pools = self.pool_totals(self.pools.iter().map(|(_, pool)| pool));
        let sum = |count: fn(&PoolTotals) -> u64| pools.iter().map(count).sum::<u64>();
        let Totals { accepted, answered, expired, poisoned, cancelled, dispatched, redispatched, .. } = self.totals;
        assert_eq!(sum(|pool| pool.succeeded + pool.failed), answered);
        assert_eq!(sum(|pool| pool.took.iter().sum()), answered);
        assert_eq!(
            [accepted, expired, poisoned, cancelled, dispatched, redispatched],
            [
                sum(|pool| pool.accepted),
                sum(|pool| pool.expired),
                sum(|pool| pool.poisoned),
                sum(|pool| pool.cancelled),
                sum(|pool| pool.dispatched),
                sum(|pool| pool.redispatched)
            ]
        );
        assert_eq!(accepted, answered + expired + poisoned + cancelled + open as u64);

        let mut held = 0;
        for (number, client) in self.clients.iter() {
            assert_eq!(self.client_of.get(&client.identity), Some(&number));
            let held_back = client.hold_until.is_some() && self.touched_clients.contains(&number);
            assert!(client.replies.is_empty() || held_back, "{number} was not sent its replies");
            let (mut pending, mut bytes) = (0, 0);
            for key in client.held.keys() {
                let request = &self.requests[key.at()];
                assert_eq!((request.client, client.held.get(request.id)), (number, Some(key)));
                held += 1;
                pending += usize::from(matches!(request.state, State::Pending(_)));
                bytes += request.body.len();
            }
            let bytes = bytes + unread.remove(&number).unwrap_or(0);
            assert_eq!((client.pending, client.bytes), (pending, bytes), "{number} holds more or less than that");
            let made = self.pools.iter().filter(|(_, pool)| pool.maker == Some(number)).count();
            assert_eq!(client.pools, made, "{number} has made more or fewer pools");
        }
        // What is left is of clients that have gone.
        let leftovers = self.leftovers.keys().map(|key| self.requests[key.at()].body.len());
        let bytes = self.clients.values().map(|client| client.bytes).chain(unread.into_values()).chain(leftovers);
        assert_eq!(self.bytes, bytes.sum::<usize>());
        assert_eq!(self.leftovers.keys().count(), self.leftovers.len());
        self.check_waiting();
        assert_eq!(self.client_of.len(), self.clients.len());
        assert_eq!(held, open, "a request belongs to no client");

        let limited = self.requests.iter().filter(|(_, request)| request.deadline().is_some()).count();
        assert_eq!(self.deadlines.len(), limited);
        assert_eq!(self.pools.iter().map(|(_, pool)| pool.pending.len()).sum::<usize>(), self.pending);
        assert_eq!(self.pools.len(), self.pool_of.len());
        for (key, pool) in &self.pools {
            assert!(pool.workers > 0 || !pool.pending.is_empty(), "pool {} is empty", pool.name);
            let workers = || self.workers.values().filter(|worker| worker.pool.0 == key);
            let unable = workers().filter(|worker| worker.unable.is_some() && !worker.leaving).count();
            assert_eq!((pool.workers, pool.unable), (workers().count(), unable), "workers of pool {}", pool.name);
            let first = pool.pending.first_returned();
            let alone = first.is_some_and(|key| self.requests[key.at()].has_last_chance(self.settings.max_attempts));
            let room = pool.ring.seats().iter().all(|seat| self.workers[seat].has_room(alone));
            let idle = !pool.ring.seats().is_empty() && room && !self.closing;
            assert!(
                !idle || !pool.pending.has_next(),
                "requests wait in pool {} though all its workers have room",
                pool.name
            );
        }
        let returned = self.requests.iter().filter(|(_, request)| request.lost() > 0);
        for (_, request) in returned {
            assert!(!matches!(request.state, State::Pending(Place::Fresh(_))), "a returned request lost its place");
        }
        self.check_evidence();
    }
}

/// Leaves out operations' names that are more than [`MOST_OPERATIONS`]; how many.
fn shorten(workers: &mut [WorkerStatus]) -> u64 {
    let [of_one, mut of_all] = MOST_OPERATIONS;
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

pub(super) fn written(peer_info: Option<&PeerInfo>) -> String {
    peer_info.map(|peer_info| peer_info.address.to_string()).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
