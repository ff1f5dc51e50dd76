//! The messages, as `docs/protocol.md` specifies them.
//!
//! Each message is a Rust enum, encoded by `rmp-serde` in its compact form: `{"Submit": ["compute",
//! 0, [[1, body]]]}`, or just `"Inspect"` for a message without content. The enums that carry
//! bodies are generic over the body: here it is [`Bytes`]; on the wire it is a
//! [`crate::codec::Packed`] one, which [`crate::codec`] puts in and takes out.

use std::fmt;

use crate::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::name::Label;

/// The version of this protocol. Both sides say theirs first; a peer with another one is refused.
pub const VERSION: u32 = 2;

/// The pool that a request or a worker belongs to if nothing else is said.
pub const DEFAULT_POOL: &str = "compute";

/// The most requests or replies in one message. A peer that sends more is answered with an error.
pub const MAX_BATCH: usize = 65_536;

/// The largest message that is accepted, in bytes, attachments counted one by one.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The most threads that a worker has, or that are believed of it.
pub const MAX_THREADS: u32 = 4096;

/// The bound of [`FromWorker::Register::instance`]: smaller numbers are exact in every language.
pub const MAX_INSTANCE: u64 = 1 << 53;

/// The longest code and the longest message of a [`Failure`] that are passed on, in bytes.
pub const MAX_FAILURE: usize = 4096;

/// A request's number, chosen by its client, unique among the client's unanswered requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// The number of one attempt at a request, dealt by the broker, never dealt twice.
///
/// Tickets count up by one with each dispatch, from a random start in each life of a broker: a
/// reply from before the broker's restart fits no request of today's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<B = Bytes> {
    /// When the worker computed a result: its body.
    Ok(B),
    /// When there is no result.
    Error(Failure),
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs: one of [`code`]'s words, or a worker's own.
    pub code: String,
    /// For people: what happened, and what to do about it.
    pub message: String,
}

impl Failure {
    /// A failure with one of [`code`]'s words and a sentence.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// A worker's failure as its client is told it: shortened, and under the code `failed` if its
    /// own is one that only the broker and the client's side may say ([`code::is_reserved`]).
    /// The message stays.
    #[must_use]
    pub fn of_worker(mut self) -> Self {
        if code::is_reserved(&self.code) {
            self.code = code::FAILED.into();
        }
        self.shortened()
    }

    /// The failure without what is over [`MAX_FAILURE`]: it may quote a whole request.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        for text in [&mut self.code, &mut self.message] {
            if text.len() > MAX_FAILURE {
                let end = (0..=MAX_FAILURE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
                text.truncate(end);
                text.push_str(" ..");
            }
        }
        self
    }
}

impl std::error::Error for Failure {}

/// An operation's own failure, told in a sentence.
impl<S: Into<String>> From<S> for Failure {
    fn from(message: S) -> Self {
        Self::new(code::FAILED, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

pub mod code {
    //! The words of [`super::Failure::code`].

    /// The worker could not make sense of the request: unknown operation, wrong arguments.
    pub const INVALID: &str = "invalid";
    /// The operation failed: a division by zero, a panic.
    pub const FAILED: &str = "failed";
    /// The request's time limit passed.
    pub const EXPIRED: &str = "expired";
    /// Too many workers were lost while they held the request.
    pub const POISON: &str = "poison";
    /// The request was not to wait for a worker, and there was none in its pool.
    pub const NO_WORKER: &str = "no-worker";
    /// The request was cancelled: said by a worker to its broker, which nobody waits for then.
    pub const CANCELLED: &str = "cancelled";
    /// The worker can compute nothing for now: said by an operation to its own worker, which hands
    /// the request back.
    pub const UNABLE: &str = "unable";
    /// There was no broker to ask: said by the client's own side.
    pub const NO_BROKER: &str = "no-broker";
    /// The broker did not accept a message: said by the client's own side.
    pub const REFUSED: &str = "refused";
    /// Somebody stopped the client: said by its own side.
    pub const INTERRUPTED: &str = "interrupted";

    /// Whether the code is not a worker's to say about a request that somebody waits for: who reads
    /// it would take the worker's word for the broker's, or for the client's own.
    pub fn is_reserved(code: &str) -> bool {
        matches!(code, EXPIRED | POISON | NO_WORKER | CANCELLED | NO_BROKER | REFUSED | INTERRUPTED)
    }
}

/// How far a request is that is being computed, in units of its operation's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done.
    pub done: u64,
    /// What there is to do; 0: that is not known.
    pub total: u64,
}

/// The way a request went, told with its reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The worker that replied; empty if none did.
    pub worker: Label,
    /// How many workers the request was handed to, this one included.
    pub attempts: u32,
    /// Microseconds from its acceptance to its last dispatch, or to its end if it was never
    /// dispatched.
    pub waited_us: u64,
    /// Microseconds from its last dispatch to its reply, the way to the worker and back included.
    pub took_us: u64,
}

/// One request's reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply<B = Bytes> {
    /// The request that is answered.
    pub id: RequestId,
    /// How it ended.
    pub outcome: Outcome<B>,
    /// The way it went.
    pub trace: Trace,
}

/// Client to broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum FromClient<B = Bytes> {
    /// When a connection begins, before anything else.
    Hello {
        /// The client's [`VERSION`].
        version: u32,
        /// A label for the log.
        name: String,
    },
    /// When there are requests to compute.
    Submit {
        /// The session of the `Welcome` over this connection. Requests with another one are left
        /// alone: after a reconnect libzmq also sends what was still in its pipe, and the
        /// client sends it again by itself.
        session: u64,
        /// Whose workers are to compute them.
        pool: String,
        /// Milliseconds until they expire, counted from their arrival at the broker; 0: they wait
        /// for ever.
        timeout_ms: u64,
        /// Whether they wait for a worker if their pool has none when they arrive. If not they end
        /// in `no-worker` at once.
        wait: bool,
        /// The requests. An id that the broker holds already, from the same connection, is ignored.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<(RequestId, B)>,
    },
    /// When replies are no longer wanted. What is cancelled gets no reply.
    Cancel(#[serde(deserialize_with = "codec::batch")] Vec<RequestId>),
    /// When the client wants to see the broker's [`Status`].
    Inspect,
    /// When a worker is to finish what it has and get no more.
    Drain {
        /// The worker's name; or `w` and the number of its registration, unless a worker is called
        /// so.
        worker: String,
        /// The number of its registration; 0: any.
        number: u64,
        /// Whether all workers of that name are meant. Otherwise it is refused if there are
        /// several.
        all: bool,
    },
    /// When the client has read everything up to the broker's `Goodbye`.
    Goodbye,
    /// When the connection broke. The broker's own notice: a peer that sends it is refused.
    Disconnected,
}

/// Broker to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum ToClient<B = Bytes> {
    /// When the client's `Hello` was accepted.
    Welcome {
        /// The broker's [`VERSION`].
        version: u32,
        /// The number by which the broker's log names this connection: `c1` for 1.
        client: u64,
        /// What each `Submit` over this connection has to bear.
        session: u64,
        /// The largest frame that the broker takes, in bytes. Who sends a larger one loses its
        /// connection.
        max_message_bytes: u64,
        /// The most requests in one `Submit`. A larger one is refused.
        max_batch: u64,
    },
    /// When requests ended.
    Replies(#[serde(deserialize_with = "codec::batch")] Vec<Reply<B>>),
    /// When there is news of requests that are being computed. Some of it may be left out.
    Progress(#[serde(deserialize_with = "codec::batch")] Vec<(RequestId, Progress)>),
    /// When the client asked to inspect.
    Status(Box<Status>),
    /// When a drain was begun.
    Draining {
        /// The worker's name.
        worker: String,
        /// The numbers of the registrations that are being drained.
        #[serde(deserialize_with = "codec::batch")]
        numbers: Vec<u64>,
    },
    /// When a message could not be accepted. Nothing of it was.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// When a `Submit` could be read, but not accepted: these requests never will be as they are.
    Declined {
        /// Why, and what to do about it.
        reason: String,
        /// All requests of the message.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<RequestId>,
    },
    /// When there was no room for these requests: they were not accepted. They are to be sent again
    /// when there is `Credit`.
    Rejected(#[serde(deserialize_with = "codec::batch")] Vec<RequestId>),
    /// When these requests were not to wait for a worker, and there was none: they were not
    /// accepted.
    NoWorker {
        /// The pool in which there is none.
        pool: String,
        /// Those in which there are some, by name: a hundred at most.
        #[serde(deserialize_with = "codec::batch")]
        pools: Vec<String>,
        /// Which.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<RequestId>,
    },
    /// When a client that was told `Rejected` may go on: with so many requests, until it is told of
    /// more.
    Credit {
        /// The requests that it may submit. Those sent before are not counted.
        requests: u64,
    },
    /// When the broker does not know the client, or has cut it off. After another `Hello`, whatever
    /// has no reply is to be sent again.
    HelloAgain,
    /// When the broker is about to exit. Requests without a reply are to be sent again to the next
    /// one.
    Closing,
    /// When the broker, about to exit, has sent this client everything that it will. The answer is
    /// the client's `Goodbye`, for which the broker waits.
    Goodbye,
    /// When the connection broke. Put in by libzmq on the client's side.
    Hiccup,
}

/// Worker to broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum FromWorker<B = Bytes> {
    /// When a connection begins, and when the broker asks to register again.
    Register {
        /// The worker's [`VERSION`].
        version: u32,
        /// A label: two workers may have the same.
        name: String,
        /// The pool whose requests it computes.
        pool: String,
        /// The operations it offers, for people.
        #[serde(deserialize_with = "codec::batch")]
        operations: Vec<String>,
        /// How many requests it computes at once.
        threads: u32,
        /// The most requests it wants to hold; 0: as many as the broker gives.
        window: u32,
        /// A random number below [`MAX_INSTANCE`] that the worker draws once, at its start, and
        /// bears in each of its registrations: by it the broker knows that a worker has
        /// come back. 0, or left out: it never does.
        #[serde(default)]
        instance: u64,
    },
    /// When requests are computed.
    Replies(#[serde(deserialize_with = "codec::batch")] Vec<(Ticket, Outcome<B>)>),
    /// When there is news of requests that are being computed. Not more often than is of use to
    /// people.
    Progress(#[serde(deserialize_with = "codec::batch")] Vec<(Ticket, Progress)>),
    /// When a ping came.
    Pong {
        /// The ping's.
        sequence: u64,
        /// Requests being computed.
        computing: u32,
        /// Requests waiting for a thread.
        waiting: u32,
        /// Milliseconds for which the oldest of those being computed has been computing.
        oldest_ms: u64,
    },
    /// When the worker can compute nothing for now, such as when its program can't be started. It
    /// loses its seat and is handed nothing until it says `Able`. What it is computing it may
    /// still reply to.
    Unable {
        /// Why, for people.
        reason: String,
        /// Requests that it hands back. They go to the next seats; nothing is held against them.
        #[serde(deserialize_with = "codec::batch")]
        tickets: Vec<Ticket>,
    },
    /// When a worker that was unable takes requests again. It gets a seat at the tail.
    Able,
    /// When the worker wants no more requests. It finishes those it has, then waits for `Goodbye`.
    Leave,
    /// When the connection broke. The broker's own notice: a peer that sends it is refused.
    Disconnected,
}

/// Broker to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum ToWorker<B = Bytes> {
    /// When the worker's `Register` was accepted.
    Welcome {
        /// The broker's [`VERSION`].
        version: u32,
        /// The number by which the broker's log names this registration: `w1` for 1.
        worker: u64,
        /// Milliseconds between pings.
        ping_interval_ms: u64,
        /// How many pings may go unanswered before the worker is dropped.
        ping_max_out: u32,
        /// The largest frame that the broker takes, in bytes. Who sends a larger one loses its
        /// connection.
        max_message_bytes: u64,
    },
    /// When there are requests to compute.
    Dispatch(#[serde(deserialize_with = "codec::batch")] Vec<(Ticket, B)>),
    /// When nobody waits for these results any more. The worker replies all the same, as soon as it
    /// can: with an error for what it need not compute now. Tickets that it does not have it
    /// leaves alone.
    Cancel(#[serde(deserialize_with = "codec::batch")] Vec<Ticket>),
    /// When the broker wants to know whether the worker is alive.
    Ping {
        /// Counts up.
        sequence: u64,
    },
    /// When the broker does not know the worker, or has dropped it. What it was handed before is no
    /// longer wanted.
    RegisterAgain,
    /// When a leaving worker owes nothing more.
    Goodbye,
    /// When a message could not be accepted.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// When the broker is about to exit. The worker waits for the next one.
    Closing,
    /// When the connection broke. Put in by libzmq on the worker's side.
    Hiccup,
}

/// What the broker is doing. Fields are only ever added at the end: whoever reads it leaves alone
/// what he doesn't know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// `strict` or `available`.
    pub rotation: String,
    /// Requests waiting for a worker.
    pub pending: u64,
    /// Requests handed to a worker and not yet answered.
    pub in_flight: u64,
    /// What has happened since the start.
    pub totals: Totals,
    /// The registered workers, pool by pool, in the order of their seats.
    #[serde(deserialize_with = "codec::batch")]
    pub workers: Vec<WorkerStatus>,
    /// The connected clients.
    #[serde(deserialize_with = "codec::batch")]
    pub clients: Vec<ClientStatus>,
    /// The pools that have workers or pending requests, by name.
    #[serde(deserialize_with = "codec::batch")]
    pub pools: Vec<PoolStatus>,
    /// Microseconds from acceptance to reply, of the requests answered in the last whole second.
    pub latency_us: Percentiles,
    /// The last whole seconds.
    pub history: History,
    /// What happened last, the newest last: a hundred events at most.
    #[serde(deserialize_with = "codec::batch")]
    pub events: Vec<EventStatus>,
    /// What has become of each pool's requests, by name: also of pools that are empty now, the last
    /// hundred of them. Those of earlier ones are summed up as `other pools`.
    #[serde(deserialize_with = "codec::batch")]
    pub pool_totals: Vec<PoolTotals>,
    /// The upper bounds of [`PoolTotals::took`], in microseconds, inclusive.
    #[serde(deserialize_with = "codec::batch")]
    pub bounds_us: Vec<u64>,
    /// Workers that were dropped in the last 15 minutes and have not come back under their name,
    /// the latest last: a hundred at most.
    #[serde(deserialize_with = "codec::batch")]
    pub lost: Vec<LostStatus>,
    /// What is not told since it would be too much.
    pub left_out: LeftOut,
}

/// How many there are that a [`Status`] does not tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Workers, when there are more than 5,000: the latest.
    pub workers: u64,
    /// Clients, when there are more than 5,000: the latest.
    pub clients: u64,
    /// Pools, when there are more than 1,000: those without workers first.
    pub pools: u64,
    /// Operations of workers that are told of, when their names are more than 4 KiB for one worker
    /// or 1 MiB for all.
    pub operations: u64,
}

impl LeftOut {
    /// What is left out, in words; empty if that is nothing.
    pub fn told(&self) -> String {
        let Self { workers, clients, pools, operations } = *self;
        let counts = [(workers, "workers"), (clients, "clients"), (pools, "pools"), (operations, "operations")];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// A worker that was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostStatus {
    /// Its label.
    pub name: String,
    /// The number of its registration.
    pub number: u64,
    /// Its pool.
    pub pool: String,
    /// Where it connected from; empty if that is not known.
    pub address: String,
    /// Milliseconds from the broker's start to its drop.
    pub at_ms: u64,
    /// Why it was dropped.
    pub reason: String,
    /// Requests that were handed on to others.
    pub returned: u64,
}

/// A pool's counts since the broker's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolTotals {
    /// Its name.
    pub name: String,
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered with a result.
    pub succeeded: u64,
    /// Requests answered with a worker's error.
    pub failed: u64,
    /// Requests that ended in `expired`.
    pub expired: u64,
    /// Requests that ended in `poison`.
    pub poisoned: u64,
    /// Requests cancelled, by their client or by its leaving.
    pub cancelled: u64,
    /// Requests handed to a worker, each attempt counted.
    pub dispatched: u64,
    /// Requests handed on after a worker was lost, or handed them back.
    pub redispatched: u64,
    /// Of those that a worker answered, how many took how long from acceptance to reply: not above
    /// the bound of the same place in [`Status::bounds_us`], and above the one before. The last
    /// place, beyond the bounds, is for all that took longer.
    #[serde(deserialize_with = "codec::batch")]
    pub took: Vec<u64>,
    /// How long all of them took together, in microseconds.
    pub took_us: u64,
    /// Workers of the pool that were lost.
    pub workers_lost: u64,
}

/// A pool, as the broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// The numbers of the workers with a seat, in the order of the rotation.
    #[serde(deserialize_with = "codec::batch")]
    pub ring: Vec<u64>,
    /// Whose turn is next: an index of `ring`; 0 if that is empty.
    pub turn: u64,
    /// Requests waiting for a worker.
    pub pending: u64,
    /// Milliseconds for which the oldest of them has been waiting.
    pub oldest_ms: u64,
    /// Requests dispatched in the last whole second.
    pub rate: u64,
    /// The number of the worker that strict rotation waits for: requests are pending, its turn is
    /// next, its window is full, and another seat has room. None: the turn waits for nobody, or
    /// for all.
    pub waits_for: Option<u64>,
    /// Milliseconds for which the turn has been that worker's; 0 if it waits for nobody.
    pub waits_ms: u64,
}

/// A half, nine tenths, and ninety-nine hundredths are not above these. 0 if there was nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
}

/// The last whole seconds, the oldest first: 300 at most, all lists equally long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Milliseconds that each stands for.
    pub step_ms: u64,
    /// Requests answered in each.
    #[serde(deserialize_with = "codec::batch")]
    pub rate: Vec<u64>,
    /// The median of their latencies, in microseconds.
    #[serde(deserialize_with = "codec::batch")]
    pub p50_us: Vec<u64>,
    /// The 99th percentile.
    #[serde(deserialize_with = "codec::batch")]
    pub p99_us: Vec<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    /// Counts up by one.
    pub sequence: u64,
    /// Milliseconds from the broker's start.
    pub at_ms: u64,
    /// The verb of its line in the log: `joined`, `dropped`, `redispatch` ..
    pub kind: String,
    /// The line, without its time; a long one without its middle.
    pub text: String,
    /// The number of the worker that it is about, if it is about one.
    pub worker: Option<u64>,
    /// The requests that it is about, if it is about some.
    pub count: Option<u64>,
}

/// Counts since the broker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered with a worker's reply, result or error.
    pub answered: u64,
    /// Requests that ended in `expired`.
    pub expired: u64,
    /// Requests that ended in `poison`.
    pub poisoned: u64,
    /// Requests cancelled, by their client or by its leaving.
    pub cancelled: u64,
    /// Requests handed to a worker, each attempt counted.
    pub dispatched: u64,
    /// Requests handed on after a worker was lost, or handed them back.
    pub redispatched: u64,
    /// Replies discarded: late, or not asked for any more.
    pub discarded: u64,
    /// Messages that could not be accepted.
    pub refused: u64,
    /// Requests turned away for want of room, each time counted. They come again.
    pub rejected: u64,
}

/// A worker, as the broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its label.
    pub name: String,
    /// The number of its registration: `w1` in the log for 1.
    pub number: u64,
    /// Its pool.
    pub pool: String,
    /// `idle`; `busy`: it holds requests; `stuck`: it does, answers pings, and the oldest request
    /// has been computing for longer than the broker's `--stuck-after`; `suspect`: a ping is
    /// overdue; `unable`: it can compute nothing for now and has no seat; or `leaving`.
    pub state: String,
    /// Whether it has given up its seat, and only finishes what it has.
    pub leaving: bool,
    /// Requests handed to it and not yet answered.
    pub in_flight: u64,
    /// The most it is handed at once, as it computes now.
    pub window: u64,
    /// Requests it replied to.
    pub answered: u64,
    /// Requests being computed, as its last pong said.
    pub computing: u32,
    /// Requests waiting in it for a thread, as its last pong said.
    pub waiting: u32,
    /// Milliseconds for which the oldest has been computing, as its last pong said.
    pub oldest_ms: u64,
    /// Pings it has not answered.
    pub pings_out: u32,
    /// How many requests it computes at once.
    pub threads: u32,
    /// The operations it offers.
    #[serde(deserialize_with = "codec::batch")]
    pub operations: Vec<String>,
    /// Milliseconds since it registered.
    pub registered_ms: u64,
    /// Where it connects from; empty if that is not known.
    pub address: String,
    /// Its place in the ring, counted from 0; none if it has given up its seat, or can compute
    /// nothing for now.
    pub seat: Option<u64>,
    /// Requests handed to it that were handed on to others, since it was lost before: 0 as long as
    /// it is here. Summed over those of its name in its pool.
    pub redispatched_from: u64,
    /// Milliseconds since its last pong; since its registration if there was none.
    pub pong_age_ms: u64,
    /// Microseconds from the last ping that it answered to its pong; 0 if there was none.
    pub round_trip_us: u64,
    /// Requests that it answered in the last whole second.
    pub rate: u64,
    /// Microseconds from dispatch to reply, over the last 10 to 20 seconds; waiting within the
    /// worker's window included.
    pub service_us: Percentiles,
    /// The most that [`Self::window`] may grow to.
    pub window_most: u64,
    /// Requests that those of its name in its pool replied to that are no longer there.
    pub answered_before: u64,
    /// Why it can compute nothing for now; empty if it can.
    pub unable: String,
}

/// A client, as the broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its label.
    pub name: String,
    /// The number of its connection: `c1` in the log for 1.
    pub number: u64,
    /// Its requests that are not yet answered.
    pub unanswered: u64,
    /// Replies sent to it.
    pub answered: u64,
    /// Where it connects from; empty if that is not known.
    pub address: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_quotes_a_whole_request_is_shortened() {
        let long = Failure::new("failed", "é".repeat(MAX_FAILURE)).shortened();
        assert!(long.message.len() <= MAX_FAILURE + 3 && long.message.ends_with("é .."));
        assert_eq!(Failure::from("short").shortened(), Failure::from("short"));
    }

    #[test]
    fn a_worker_can_not_say_what_only_the_broker_or_the_client_says() {
        for code in ["expired", "poison", "no-worker", "cancelled", "no-broker", "refused", "interrupted"] {
            assert_eq!(Failure::new(code, "because").of_worker(), Failure::new(code::FAILED, "because"), "{code}");
        }
        for own in [code::FAILED, code::INVALID, "no-luck", "Expired"] {
            assert_eq!(Failure::new(own, "because").of_worker(), Failure::new(own, "because"));
        }
        assert!(Failure::new("own", "é".repeat(MAX_FAILURE)).of_worker().message.ends_with("é .."));
    }
}
