//! What the core's tables hold: a client, a worker, a pool, a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::name::Label;
use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Identity, Reply, RequestId, Ticket, Trace};

use super::evidence::Losses;
use super::{Moment, PoolKey};
use crate::config::Rights;
use crate::event::WorkerLabel;
use crate::ids::{ClientNumber, RequestKey, WorkerNumber};
use crate::policy::liveness::Liveness;
use crate::policy::rotation::Ring;
use crate::policy::window::Window;
use crate::rate_limiter::TokenBucket;
use crate::stats::pool_counters::PoolCounters;
use crate::stats::rates::{Durations, Rate};
use crate::tables::pending::{Pending, Place};
use crate::tables::unanswered::Unanswered;

pub struct Client {
    pub identity: Identity,
    pub name: Arc<str>,
    pub rights: Rights,
    /// Its unanswered requests.
    pub unanswered: Unanswered,
    /// How many of them are pending.
    pub pending: usize,
    /// Of their bodies, and of those of its earlier ones that a worker has not read yet.
    pub bytes: usize,
    /// Pools that there are since it made them.
    pub pools: usize,
    /// Requests that came too late or for nobody, and of which the log has not told.
    pub untold: Untold,
    /// How many it may submit, counted once it has been turned away.
    pub room: Option<u64>,
    /// Bytes of a body that was turned away, on average; at least 1.
    pub wanted_size: usize,
    /// Replies that go to it with the next message.
    pub replies: Vec<Reply>,
    /// Whether one of them is large: they wait for nothing, since no message is saved that would
    /// count.
    pub large: bool,
    /// When that is sent at the latest, if it was held back.
    pub hold_until: Option<Instant>,
    pub answered: u64,
}

/// Requests of a client of which nothing came, and which the log has not told of.
#[derive(Clone, Copy, Default)]
pub struct Untold {
    pub stale: u64,
    pub nobody: u64,
}

pub struct Worker {
    pub identity: Identity,
    pub name: Label,
    pub pool: PoolKey,
    pub operations: Vec<String>,
    pub threads: u32,
    /// What it registered with: another connection with the same number is the same process. 0: not
    /// known.
    pub instance: u64,
    /// Whether the same process has registered again since, over another connection.
    pub is_back: bool,
    pub window: Window,
    /// How large the log says that it is.
    pub window_told: usize,
    pub leaving: bool,
    /// Why it can compute nothing for now, if it can't. It has no seat then.
    pub unable: Option<String>,
    /// How often it may be able again at once, and whether it is and waits for its next ping with
    /// that.
    pub changes: TokenBucket,
    pub waits_to_be_able: bool,
    /// Whether it holds a request that is to be with a worker alone.
    pub alone: bool,
    /// By ticket. What is no longer wanted keeps its place in the window: the worker still computes
    /// it.
    pub in_flight: SparseQueue<Flight>,
    /// The ticket up to which it has read what it was handed, as far as its replies and pongs tell.
    pub read: u64,
    /// The last ticket before its last ping.
    pub pinged_after: u64,
    /// Bytes of the bodies that are counted in [`Flight::Unwanted`].
    pub unwanted_bytes: usize,
    /// Replies to tickets that are not its own, of which the log has not told.
    pub late: u64,
    /// Results that were discarded, as far as the log has told.
    pub discarded: u64,
    pub liveness: Liveness,
    pub registered: Instant,
    pub answered: u64,
    pub rate: Rate,
    pub took: Option<Box<Durations>>,
    pub load: Load,
    /// Requests that go to it with the next message.
    pub batch: Vec<(Ticket, Bytes)>,
    /// What it is to be told of with the next message: nobody waits for them any more.
    pub cancelled: Vec<Ticket>,
}

/// What a worker said of itself in its last pong.
#[derive(Clone, Copy, Default)]
pub struct Load {
    pub computing: u32,
    pub waiting: u32,
    pub oldest_ms: u64,
}

impl Load {
    /// Whether what it computes has taken longer than that.
    pub fn is_stuck(&self, after: Duration) -> bool {
        self.computing > 0 && u128::from(self.oldest_ms) > after.as_millis()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Flight {
    Wanted(RequestKey),
    /// With the bytes of its body, which libzmq or the outbox still holds; 0 once the worker has
    /// read it.
    Unwanted(ClientNumber, RequestId, u32),
}

pub struct Pool {
    pub name: Arc<str>,
    /// The client whose requests made it, if it was one.
    pub maker: Option<ClientNumber>,
    pub ring: Ring<WorkerNumber>,
    pub pending: Pending,
    /// Its workers, those without a seat included.
    pub workers: usize,
    /// Those of them that are unable and do not leave: they are expected back.
    pub unable: usize,
    /// The seat whose turn it has been while requests wait, and since when. Only with strict
    /// rotation.
    pub waits: Option<(WorkerNumber, Moment)>,
    pub dispatched: Rate,
    pub counters: PoolCounters,
    pub touched: bool,
}

pub struct Request {
    pub client: ClientNumber,
    pub id: RequestId,
    pub pool: PoolKey,
    pub body: Bytes,
    pub accepted: Moment,
    /// Nanoseconds; 0: it has no limit.
    pub time_limit: u64,
    /// For the last time; not meant as long as there was no attempt.
    pub dispatched: Moment,
    pub attempts: u32,
    /// The workers that were lost while they held it, as far as that is held against it. Boxed:
    /// hardly a request has any.
    pub lost: Option<Box<Losses>>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending(Place),
    InFlight {
        worker: WorkerNumber,
        ticket: u64,
        /// The ticket of its first dispatch.
        order: u64,
        /// Whether the worker was suspect already: if it is lost, that is not held against the
        /// request.
        suspect: bool,
    },
}

impl Pool {
    /// Whether it has a worker that takes requests, or will again.
    pub fn has_workers(&self) -> bool {
        !self.ring.seats().is_empty() || self.unable > 0
    }
}

impl Request {
    pub fn deadline(&self) -> Option<Moment> {
        (self.time_limit > 0).then_some(Moment(self.accepted.0 + self.time_limit))
    }

    /// How many lost workers are held against it.
    pub fn lost(&self) -> usize {
        self.lost.as_deref().map_or(0, Losses::len)
    }

    /// Whether the next loss of its worker would be its last. It is then dealt to a worker that
    /// holds nothing else: it may be what ends them, or one of the many that were with it.
    /// Where nothing is tried twice it is not alone: that would leave every worker a single
    /// request at a time.
    pub fn needs_quarantine(&self, max_attempts: u32) -> bool {
        self.lost() > 0 && self.lost() as u64 + 1 >= u64::from(max_attempts)
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
    /// Whether it may be handed one more request; or one that is to be with it alone.
    pub fn has_room(&self, alone: bool) -> bool {
        if alone { self.in_flight.is_empty() } else { self.in_flight.len() < self.window.now() && !self.alone }
    }

    /// Whether it has a seat in its pool's ring.
    pub fn is_seated(&self) -> bool {
        !self.leaving && self.unable.is_none()
    }

    pub fn label(&self, number: WorkerNumber) -> WorkerLabel {
        WorkerLabel { name: self.name.clone(), number }
    }
}
