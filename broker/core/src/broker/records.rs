//! The records in the core's tables: a client, a worker, a pool, a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::name::Label;
use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Identity, PoolTotals, Priority, Reply, RequestId, Ticket, Trace};
use slab::Slab;

use super::{Moment, PoolKey};
use crate::config::{Rights, Settings};
use crate::event::WorkerLabel;
use crate::ids::{ClientNumber, RequestKey, Source, WorkerNumber};
use crate::policy::liveness::Liveness;
use crate::policy::rotation::{Ring, Rotation};
use crate::policy::window::Window;
use crate::rate_limiter::TokenBucket;
use crate::stats::rates::{Durations, History, Rate};
use crate::tables::pending::{Pending, Place};
use crate::tables::unanswered::Unanswered;

/// The maximum number of members for which the next message to a peer has memory reserved.
pub const USUAL_BATCH: usize = 256;

#[derive(Default)]
pub struct Client {
    pub identity: Identity,
    pub name: Arc<str>,
    pub rights: Rights,
    pub account: Account,
    /// The number of existing pools that it has made.
    pub pools: usize,
    /// Requests that were not accepted and that the log has not counted yet.
    pub unlogged: Unlogged,
    /// Its credit: how many requests it may submit. `None` until it was rejected.
    pub credit: Option<u64>,
    /// The average size of the rejected bodies.
    pub rejected_size: usize,
    /// Whether one of the replies is large. Such a batch is not held back, because that would save
    /// hardly any message.
    pub large: bool,
    /// When held-back replies are sent at the latest.
    pub held_back_until: Option<Instant>,
    pub answered: u64,
}

/// What a client or a job has in the tables.
#[derive(Default)]
pub struct Account {
    pub unanswered: Unanswered,
    /// The number of its pending requests.
    pub pending: usize,
    /// Bytes of its requests' bodies, and of unwanted bodies that a worker has not read yet.
    pub bytes: usize,
    /// Replies for the next message to the client, or for the store.
    pub replies: Vec<Reply>,
}

/// Requests of a client that were not accepted and that the log has not counted yet.
#[derive(Clone, Copy, Default)]
pub struct Unlogged {
    pub stale: u64,
    pub no_worker: u64,
}

pub struct Worker {
    pub identity: Identity,
    pub name: Label,
    /// The machine it runs on; empty if unknown.
    pub host: Label,
    pub pool: PoolKey,
    pub operations: Vec<String>,
    pub threads: u32,
    /// The `instance` of its registration, the same for all registrations of one process; 0 if
    /// unknown.
    pub instance: u64,
    /// Whether the same process has registered again over another connection.
    pub is_back: bool,
    pub window: Window,
    /// The window's size in the log.
    pub logged_window: usize,
    pub leaving: bool,
    /// Why it can compute nothing for now. It has no seat then.
    pub unable: Option<String>,
    /// Limits changes to able, and whether one waits for the next ping.
    pub changes: TokenBucket,
    pub waits_to_be_able: bool,
    /// Whether it holds a request in quarantine, and nothing else.
    pub in_quarantine: bool,
    /// By ticket. An unwanted request keeps its place in the window, because the worker still
    /// computes it.
    pub in_flight: SparseQueue<Flight>,
    /// The last ticket that it has read for certain, by its replies and pongs.
    pub read: u64,
    /// The last ticket before its last ping.
    pub pinged_after: u64,
    /// Bytes of the bodies counted in [`Flight::Unwanted`].
    pub unwanted_bytes: usize,
    /// Replies to foreign tickets that the log has not counted yet.
    pub late: u64,
    /// Discarded results that the log has counted.
    pub discarded: u64,
    pub liveness: Liveness,
    pub registered: Instant,
    pub answered: u64,
    pub rate: Rate,
    pub took: Option<Box<Durations>>,
    pub load: Load,
    /// Requests for the next dispatch to it, and where those of another priority begin.
    pub batch: Vec<(Ticket, Bytes)>,
    pub priorities: Vec<(usize, Priority)>,
    /// Tickets for the next `Cancel` to it.
    pub cancelled: Vec<Ticket>,
}

/// The load in a worker's last pong.
#[derive(Clone, Copy, Default)]
pub struct Load {
    pub computing: u32,
    pub waiting: u32,
    pub oldest_ms: u64,
}

impl Load {
    /// Whether its oldest request has been computed for longer than `after`.
    pub fn is_stuck(&self, after: Duration) -> bool {
        self.computing > 0 && u128::from(self.oldest_ms) > after.as_millis()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Flight {
    Wanted(RequestKey),
    /// The bytes are those of the body that libzmq or the outbox still holds; 0 once the worker has
    /// read it.
    Unwanted(Source, RequestId, u32),
}

#[derive(Default)]
pub struct Pool {
    pub name: Arc<str>,
    /// The client that made the pool, if a client did.
    pub maker: Option<ClientNumber>,
    pub ring: Ring<WorkerNumber>,
    pub pending: Pending,
    /// The number of its workers, with or without a seat.
    pub workers: usize,
    /// The number of its workers that are unable and not leaving: they are expected back.
    pub unable: usize,
    /// The seat that strict rotation waits for while requests are pending, and since when.
    pub waits: Option<(WorkerNumber, Moment)>,
    pub dispatched: Rate,
    pub counters: PoolTotals,
    /// The requests answered in each of the last seconds; `None` before the first.
    pub answers: Option<Box<History>>,
    pub touched: bool,
}

impl Pool {
    /// Returns the history of its answers, which begins in this second if it is the first.
    pub fn answers(&mut self, second: u64) -> &mut History {
        self.answers.get_or_insert_with(|| Box::new(History::coarse(second)))
    }
}

/// What requests that are accepted together have in common.
#[derive(Clone, Copy)]
pub struct Submission {
    pub source: Source,
    pub pool: PoolKey,
    pub priority: Priority,
    /// In nanoseconds; 0 for none.
    pub time_limit: u64,
    pub accepted: Moment,
}

pub struct Request {
    pub source: Source,
    pub id: RequestId,
    pub pool: PoolKey,
    pub priority: Priority,
    pub body: Bytes,
    pub accepted: Moment,
    /// In nanoseconds; 0 for none. A client's request has it from its acceptance on, a job's from each
    /// dispatch on.
    pub time_limit: u64,
    /// The last dispatch; meaningless without an attempt.
    pub dispatched: Moment,
    pub attempts: u32,
    /// The losses of workers that count against it. Boxed, because hardly any request has one.
    pub lost: Option<Box<Losses>>,
    pub state: State,
}

/// Added to the ticket of a request's first dispatch, this is its place among those that were given
/// back. Before them come requests that an earlier life of the broker has dispatched.
pub const FIRST_ORDER: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending(Place),
    InFlight {
        worker: WorkerNumber,
        ticket: u64,
        /// Its place among those that were given back: that of its first dispatch.
        order: u64,
        /// Whether the worker was suspect already. If it is lost, that does not count against the
        /// request.
        suspect: bool,
    },
}

/// The loss of a worker, as it counts against a request.
#[derive(Clone, Debug)]
pub struct Loss {
    pub worker: WorkerNumber,
    pub name: Label,
    /// The instance whose return clears it; 0 if none does.
    pub instance: u64,
}

/// All losses that count against one request.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    pub losses: Vec<Loss>,
    /// How long the request is suspended, waiting for a worker to come back.
    pub until: Option<Moment>,
}

impl Losses {
    /// Losses of which only the number is known.
    pub fn of_an_earlier_life(count: u32) -> Self {
        let loss = Loss { worker: WorkerNumber(0), name: "before-restart".into(), instance: 0 };
        Self { losses: vec![loss; count as usize], until: None }
    }
}

/// What a pool's next request needs of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When the worker has to hold nothing else.
    Alone,
    /// When it has to have room.
    Usual,
    /// When it has to have room, and some more for urgent requests.
    CanWait,
}

impl Pool {
    /// Whether it has a worker that takes requests, or is expected to again.
    pub fn has_workers(&self) -> bool {
        !self.ring.seats().is_empty() || self.unable > 0
    }

    /// Returns what the next request needs. Where the rotation passes over full seats, nothing is
    /// reserved for urgent ones: they go to the first seat with room.
    pub fn next(&self, requests: &Slab<Request>, settings: &Settings) -> Next {
        let first = self.pending.first_returned().map(|key| &requests[key.at()]);
        if first.is_some_and(|request| request.needs_quarantine(settings.max_attempts)) {
            return Next::Alone;
        }
        let priority = first.map(|request| request.priority).or_else(|| self.pending.first_fresh());
        match (priority, settings.rotation) {
            (Some(Priority::Low), Rotation::Strict) => Next::CanWait,
            _ => Next::Usual,
        }
    }
}

impl Submission {
    /// Returns one of them, which waits at this place.
    pub fn request(self, id: RequestId, body: Bytes, place: Place) -> Request {
        let Self { source, pool, priority, time_limit, accepted } = self;
        Request {
            source,
            id,
            pool,
            priority,
            body,
            accepted,
            time_limit,
            dispatched: accepted,
            attempts: 0,
            lost: None,
            state: State::Pending(place),
        }
    }
}

impl Request {
    /// Adds it to the table of requests.
    pub fn insert_into(self, requests: &mut Slab<Self>) -> RequestKey {
        RequestKey(requests.insert(self).try_into().expect("four thousand million requests"))
    }

    pub fn deadline(&self) -> Option<Moment> {
        let since = match self.state {
            _ if self.time_limit == 0 => return None,
            _ if self.source.job().is_none() => self.accepted,
            State::InFlight { .. } => self.dispatched,
            State::Pending(_) => return None,
        };
        Some(Moment(since.0.saturating_add(self.time_limit)))
    }

    /// Returns the number of lost workers that count against it.
    pub fn lost(&self) -> usize {
        self.lost.as_deref().map_or(0, |lost| lost.losses.len())
    }

    /// Whether one more loss would end it. Such a request is dispatched to a worker that holds
    /// nothing else: it may be what ends workers, or an innocent neighbour of that. With
    /// `max_attempts` 1 there is no quarantine, because each worker would have one request at a
    /// time.
    pub fn needs_quarantine(&self, max_attempts: u32) -> bool {
        self.lost() > 0 && self.lost() as u64 + 1 >= u64::from(max_attempts)
    }

    /// Records a dispatch to a worker.
    pub fn dispatch(&mut self, worker: WorkerNumber, ticket: u64, suspect: bool, now: Moment) {
        let order = match self.state {
            State::Pending(Place::Returned(order)) => order,
            _ => FIRST_ORDER + ticket,
        };
        self.state = State::InFlight { worker, ticket, order, suspect };
        self.attempts += 1;
        self.dispatched = now;
    }

    pub fn trace(&self, worker: Label, now: Moment) -> Trace {
        let dispatched = if self.attempts > 0 { self.dispatched } else { now };
        Trace {
            worker,
            attempts: self.attempts,
            waited_us: dispatched.micros_since(self.accepted),
            took_us: now.micros_since(dispatched),
        }
    }
}

impl Worker {
    /// Whether it may be handed one more request.
    pub fn has_room(&self, next: Next) -> bool {
        match next {
            Next::Alone => self.in_flight.is_empty(),
            Next::CanWait => self.in_flight.len() < self.window.for_low() && !self.in_quarantine,
            Next::Usual => self.in_flight.len() < self.window.now() && !self.in_quarantine,
        }
    }

    /// Returns how far its window is from having room for a request that can wait, which it is denied
    /// before others.
    pub fn reserved(&self, next: Next) -> usize {
        if next == Next::CanWait { self.window.now() - self.window.for_low() } else { 0 }
    }

    /// Adds a request to the next dispatch to it, under the ticket that it has on the wire. Returns
    /// whether it is the first of that dispatch.
    pub fn hand(&mut self, ticket: u64, sent: Ticket, key: RequestKey, request: &Request, next: Next) -> bool {
        let is_first = self.batch.is_empty();
        if is_first {
            self.window.handed(request.dispatched.0);
        }
        if self.priorities.last().is_none_or(|&(_, last)| last != request.priority) {
            self.priorities.push((self.batch.len(), request.priority));
        }
        self.in_flight.push(ticket, Flight::Wanted(key));
        self.in_quarantine = next == Next::Alone;
        self.batch.push((sent, request.body.clone()));
        is_first
    }

    /// Takes the requests of the next dispatch to it, those of one priority together.
    pub fn take_batch(&mut self) -> Vec<(Priority, Vec<(Ticket, Bytes)>)> {
        let reserved = Vec::with_capacity(self.batch.len().min(USUAL_BATCH));
        let mut batch = std::mem::replace(&mut self.batch, reserved);
        let mut runs = Vec::new();
        while let Some((begin, priority)) = self.priorities.pop() {
            runs.push((priority, if begin == 0 { std::mem::take(&mut batch) } else { batch.split_off(begin) }));
        }
        runs.reverse();
        runs
    }

    /// Whether it has a seat in its pool's ring.
    pub fn is_seated(&self) -> bool {
        !self.leaving && self.unable.is_none()
    }

    pub fn label(&self, number: WorkerNumber) -> WorkerLabel {
        WorkerLabel { name: self.name.clone(), number }
    }
}
