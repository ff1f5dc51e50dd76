//! The core's state machine: which worker gets which request, which peers count as gone, and what
//! is answered.
//!
//! Messages and instants come in through `handle_*`. Messages to send and events to log come out of
//! [`Broker::poll_output`], in one order. Several inputs may be handled before the outputs are
//! polled: everything that they ask for is settled in one place (`dispatch`), so that everything
//! for one worker or client travels in one message.

mod admission;
mod clients;
mod closing;
mod dispatch;
mod draining;
mod evidence;
mod hosts;
mod inspections;
mod invariants;
mod jobs;
mod leaving;
mod losses;
mod pools;
mod records;
mod registration;
mod replies;
mod requests;
mod snapshot;
mod unable;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::{Identity, Status, ToClient, ToWorker};
use slab::Slab;

use crate::config::{AT_ONCE, Settings};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, RequestKey, WorkerNumber};
use crate::peer_info::PeerInfo;
use crate::rate_limiter::{RateLimiter, TokenBucket};
use crate::stats::Stats;
use crate::store::Op;
use crate::tables::peers::Peers;

use admission::CreditQueue;
use evidence::Instances;
use inspections::Inspections;
use jobs::Jobs;
use leaving::Leftovers;
use records::{Client, Pool, Request, Worker};

/// The largest capacity that an empty table keeps.
const KEPT: usize = 1 << 14;

/// Nanoseconds since the broker's start: half the size of an `Instant`. A request has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Moment {
    fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns the whole seconds since the broker's start.
    fn second(self) -> u64 {
        self.0 / 1_000_000_000
    }

    fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_nanos().try_into().unwrap_or(u64::MAX)))
    }

    fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

/// The key of a pool in the table of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PoolKey(usize);

/// A decision for the shell to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// When a message is to be sent to a client.
    ToClient(Identity, ToClient),
    /// When a message is to be sent to a worker.
    ToWorker(Identity, ToWorker),
    /// When the status is to be sent to these clients.
    Status(Vec<Identity>, Box<Status>),
    /// When a lost worker's connection is to be closed, because libzmq holds much for it and frees
    /// that only with the connection.
    Close(Identity),
    /// When the store of durable jobs has something to do. Each is answered by
    /// [`Broker::handle_stored`], in the order of these outputs.
    Store(Op),
    /// When something is to be logged.
    Log(Event),
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The number of registered workers.
    pub workers: usize,
    /// The number of requests that wait for a worker.
    pub pending: usize,
    /// The number of requests that workers have.
    pub in_flight: usize,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, pending, in_flight } = self;
        write!(f, "workers: {workers}; requests pending: {pending}, in flight: {in_flight}")
    }
}

/// The broker's state.
pub struct Broker {
    settings: Settings,
    started: Instant,
    closing: bool,

    clients: Peers<ClientNumber, Client>,
    workers: Peers<WorkerNumber, Worker>,
    /// Limits on registrations by peer: each writes lines to the log.
    registrations: HashMap<Identity, TokenBucket>,

    pools: Slab<Pool>,
    pool_of: HashMap<Arc<str>, PoolKey>,

    jobs: Jobs,

    requests: Slab<Request>,
    last_request: u64,
    /// The number of tickets dealt. On the wire a ticket is this number plus
    /// [`Settings::first_ticket`].
    last_ticket: u64,
    pending: usize,
    leftovers: Leftovers,
    /// Requests cancelled or given back by workers since the start: see [`Self::work`].
    work: usize,
    /// Bytes of all requests' bodies, and of unwanted bodies that a worker has not read yet.
    bytes: usize,
    credit_queue: CreditQueue,

    deadlines: BTreeSet<(Moment, RequestKey)>,
    pings: BTreeSet<(Instant, WorkerNumber)>,
    instances: Instances,

    stats: Stats,
    /// Clients that were sent a goodbye and have not answered it.
    parting: BTreeMap<Identity, ClientNumber>,
    refusals: RateLimiter,
    stray_replies: RateLimiter,
    /// Limits log lines that peers can cause although nothing is done for them.
    idle_lines: RateLimiter,
    inspections: Inspections,
    outputs: VecDeque<Output>,
    /// Pools in which dispatch may be possible, and clients with replies to send: what
    /// [`Broker::settle`] looks at.
    touched_pools: Vec<PoolKey>,
    touched_clients: Vec<ClientNumber>,
    /// Workers that hold cancelled requests and have not been sent the cancellations.
    touched_workers: Vec<WorkerNumber>,
}

impl Broker {
    /// Creates a broker without clients and workers.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            started: now,
            closing: false,
            clients: Peers::default(),
            workers: Peers::default(),
            registrations: HashMap::default(),
            pools: Slab::new(),
            pool_of: HashMap::default(),
            jobs: Jobs::default(),
            requests: Slab::new(),
            last_request: 0,
            last_ticket: 0,
            pending: 0,
            leftovers: Leftovers::default(),
            work: 0,
            bytes: 0,
            credit_queue: CreditQueue::default(),
            deadlines: BTreeSet::new(),
            pings: BTreeSet::new(),
            instances: Instances::default(),
            stats: Stats::default(),
            parting: BTreeMap::new(),
            refusals: RateLimiter::default(),
            stray_replies: RateLimiter::default(),
            idle_lines: RateLimiter::default(),
            inspections: Inspections::default(),
            outputs: VecDeque::new(),
            touched_pools: Vec::new(),
            touched_clients: Vec::new(),
            touched_workers: Vec::new(),
        }
    }

    /// Returns the next decision; `None` if there are no more. `now` is the time of the dispatches
    /// that this makes.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.outputs.is_empty() {
            self.settle(now);
        }
        let output = self.outputs.pop_front()?;
        if let Output::Log(event) = &output {
            let at = self.moment(now);
            self.stats.recent.record(event, at.millis());
        }
        Some(output)
    }

    /// Returns when [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ping = self.pings.first().map(|&(due, _)| due);
        let deadline = self.deadlines.first().map(|&(due, _)| self.started + Duration::from_nanos(due.0));
        let held_back =
            self.touched_clients.iter().filter_map(|number| self.clients.get(number)?.held_back_until).min();
        let suspended = self.instances.suspended.first();
        let suspended = suspended.map(|&(until, _)| self.started + Duration::from_nanos(until.0));
        let status = self.inspections.poll_timeout();
        let leftovers = (!self.leftovers.is_empty()).then_some(self.started);
        let credit = self.credit_queue.poll_timeout();
        let jobs = self.jobs.poll_timeout().filter(|_| !self.closing);
        let jobs = jobs.map(|due| self.started + Duration::from_nanos(due.0));
        [ping, deadline, suspended, credit, held_back, status, leftovers, jobs].into_iter().flatten().min()
    }

    /// Pings workers, drops dead ones, expires requests, and frees the requests of clients that
    /// have left, as far as that is due at `now`. The work of one call is bounded; the rest is due
    /// at once.
    ///
    /// Handle all messages that have arrived first: the missing pong may be among them.
    pub fn handle_timeout(&mut self, now: Instant) {
        let before = self.work;
        while let Some(&(due, number)) = self.pings.first()
            && due <= now
            && self.work - before < AT_ONCE
        {
            self.handle_due_ping(number, now);
        }
        self.fail_suspended(now);
        let mut expired = IdRanges::default();
        let moment = self.moment(now);
        for _ in 0..AT_ONCE {
            let Some(&(due, key)) = self.deadlines.first() else { break };
            if due > moment {
                break;
            }
            let request = &mut self.requests[key.at()];
            if request.source.client().is_some_and(|client| self.clients.get(&client).is_none()) {
                // Its client has left, and the request has ended.
                request.time_limit = 0;
                self.deadlines.pop_first();
                continue;
            }
            self.expire(key, &mut expired, moment);
        }
        if !expired.is_empty() {
            self.log(Event::Expired(expired));
        }
        self.free_leftovers();
        if !self.closing {
            self.handle_due_jobs(moment);
        }
    }

    /// Returns the number of requests that were cancelled, or given back by workers, since the
    /// start. One message can cause far more of this work than it takes to send it. A caller that
    /// handles several messages at a time stops when the number has grown by some thousand.
    pub fn work(&self) -> usize {
        self.work
    }

    /// Whether [`Self::handle_client_info`] was called for this client's peer.
    pub fn knows_client_info(&self, peer: &Identity) -> bool {
        self.clients.info(peer).is_some()
    }

    /// Whether [`Self::handle_worker_info`] was called for this worker's peer.
    pub fn knows_worker_info(&self, peer: &Identity) -> bool {
        self.workers.info(peer).is_some()
    }

    /// Records what is known of a connected client, before any message from it is handled.
    pub fn handle_client_info(&mut self, from: &Identity, peer_info: PeerInfo) {
        self.clients.connected(from, peer_info);
    }

    /// Records what is known of a connected worker, before any message from it is handled.
    pub fn handle_worker_info(&mut self, from: &Identity, peer_info: PeerInfo) {
        self.workers.connected(from, peer_info);
    }

    /// Returns the number of requests at workers without a reply, unwanted ones included.
    pub fn in_flight(&self) -> usize {
        self.workers.values().map(|worker| worker.in_flight.len()).sum()
    }

    /// Returns how much there is of everything, at no cost.
    pub fn workload(&self) -> Workload {
        let pending = self.pending;
        Workload {
            workers: self.workers.len(),
            pending,
            in_flight: self.requests.len() - self.leftovers.len() - pending,
        }
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment(now.saturating_duration_since(self.started).as_nanos().try_into().unwrap_or(u64::MAX))
    }

    fn log(&mut self, event: Event) {
        self.outputs.push_back(Output::Log(event));
    }

    /// Records a connection or message that the shell has refused.
    pub fn handle_refused(&mut self, from: &str, reason: &str, now: Instant) {
        self.refuse(reason, now, |_| from.into());
    }

    /// Counts a refusal, and logs it unless there are too many. Calls `from` only for the log.
    fn refuse(&mut self, reason: &str, now: Instant, from: impl FnOnce(&Self) -> String) {
        self.stats.refused += 1;
        if let Some(lines) = self.refusals.record(1, now) {
            let from = from(self);
            self.log(Event::Refused { from, reason: reason.into(), unsaid: lines - 1 });
        }
    }

    /// Frees memory that a burst has taken. The table of requests can shrink only while it is
    /// empty.
    fn shrink(&mut self) {
        if self.requests.is_empty() && self.requests.capacity() > KEPT {
            self.requests = Slab::new();
        }
        if self.outputs.is_empty() && self.outputs.capacity() > KEPT {
            self.outputs = VecDeque::new();
        }
    }
}
