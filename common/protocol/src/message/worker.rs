//! The messages between workers and the broker.

use serde::{Deserialize, Serialize};

use super::{DEFAULT_POOL, Outcome, Priority, Progress, Ticket, VERSION};
use crate::{Bytes, codec};

/// The largest number of threads that the broker takes a worker to have.
pub const MAX_THREADS: u32 = 4096;

/// The bound of [`FromWorker::Register::instance`]: smaller integers are exact in every language.
pub const MAX_INSTANCE: u64 = 1 << 53;

/// A message from a worker to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum FromWorker<B = Bytes> {
    /// When a connection begins, and when the broker sends `RegisterAgain`.
    Register {
        /// The worker's [`VERSION`](super::VERSION).
        version: u32,
        /// The worker's name. Several workers may share one.
        name: String,
        /// The pool whose requests it computes.
        pool: String,
        /// The operations it offers, for people.
        #[serde(deserialize_with = "codec::batch")]
        operations: Vec<String>,
        /// The number of requests it computes at once.
        threads: u32,
        /// The most requests it wants to hold; 0: as many as the broker decides.
        window: u32,
        /// A random number below [`MAX_INSTANCE`] that the worker process draws once and sends with
        /// each registration. The broker recognises by it a worker that was lost and is back.
        /// 0, or left out: the broker recognises none.
        #[serde(default)]
        instance: u64,
        /// The name of the machine it runs on, for people: a [name](crate::name), or empty if it is
        /// unknown. The broker sums up workers by it.
        #[serde(default)]
        host: String,
    },
    /// When requests are computed.
    Replies(#[serde(deserialize_with = "codec::batch")] Vec<(Ticket, Outcome<B>)>),
    /// When requests that are being computed made progress. People read it: a few times a second
    /// suffice.
    Progress(#[serde(deserialize_with = "codec::batch")] Vec<(Ticket, Progress)>),
    /// When a `Ping` arrived.
    Pong {
        /// The sequence number of the ping.
        sequence: u64,
        /// Requests being computed.
        computing: u32,
        /// Requests waiting for a thread.
        waiting: u32,
        /// Milliseconds for which the oldest request has been computed.
        oldest_ms: u64,
    },
    /// When the worker can compute nothing for now, for example because its program does not start.
    /// It loses its seat and gets no requests until it sends `Able`. It may still reply to those
    /// that it is computing.
    Unable {
        /// Why, for people.
        reason: String,
        /// The requests that it hands back. They go to the next seats, and do not count as lost.
        #[serde(deserialize_with = "codec::batch")]
        tickets: Vec<Ticket>,
    },
    /// When a worker that was unable accepts requests again. It gets a seat at the end of the ring.
    Able,
    /// When a worker that serves several brokers has less or more for this one than at its registration:
    /// it is handed requests as if it had registered with these numbers, but never more than it has
    /// registered with.
    Share {
        /// The number of requests it computes at once for this broker.
        threads: u32,
        /// The most requests it wants to hold of this broker; 0: as many as the broker decides.
        window: u32,
    },
    /// When the worker wants no more requests. It finishes those it has, then waits for `Goodbye`.
    Leave,
    /// When the connection broke. libzmq inserts it at the broker; a peer that sends it is refused.
    Disconnected,
}

/// What a worker says of itself in [`FromWorker::Register`], where its fields are described. By
/// default it computes one request at a time of the pool `compute`, and has no name.
///
/// ```
/// use giostra_protocol::{FromWorker, Registration};
///
/// let register: FromWorker = Registration { name: "w".into(), threads: 4, ..Registration::default() }.into();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The worker's [`VERSION`].
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// The operations it offers.
    pub operations: Vec<String>,
    /// The number of requests it computes at once.
    pub threads: u32,
    /// The most requests it wants to hold, or 0.
    pub window: u32,
    /// The number of its process, or 0.
    pub instance: u64,
    /// Its host; empty if it is unknown.
    pub host: String,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            version: VERSION,
            name: String::new(),
            pool: DEFAULT_POOL.into(),
            operations: Vec::new(),
            threads: 1,
            window: 0,
            instance: 0,
            host: String::new(),
        }
    }
}

impl<B> From<Registration> for FromWorker<B> {
    fn from(registration: Registration) -> Self {
        let Registration { version, name, pool, operations, threads, window, instance, host } = registration;
        Self::Register { version, name, pool, operations, threads, window, instance, host }
    }
}

/// A message from the broker to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum ToWorker<B = Bytes> {
    /// When the worker's `Register` was accepted.
    Welcome {
        /// The broker's [`VERSION`](super::VERSION).
        version: u32,
        /// The number of this registration in the broker's log: `w1` for 1.
        worker: u64,
        /// Milliseconds between two pings.
        ping_interval_ms: u64,
        /// The number of unanswered pings after which the worker is dropped.
        ping_max_out: u32,
        /// The largest frame that the broker accepts, in bytes. A larger one ends the connection.
        max_message_bytes: u64,
    },
    /// When there are requests to compute.
    Dispatch {
        /// How urgent they are: a worker begins them before those that it holds with a lower
        /// priority, if it can.
        priority: Priority,
        /// The requests.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<(Ticket, B)>,
    },
    /// When the results of these requests are no longer wanted. The worker still replies to each,
    /// as soon as it can: with an error if it has not computed the request. It ignores tickets that
    /// it does not hold.
    Cancel(#[serde(deserialize_with = "codec::batch")] Vec<Ticket>),
    /// When the broker checks whether the worker is alive.
    Ping {
        /// Increases by one with each ping.
        sequence: u64,
    },
    /// When the broker does not know the worker, or has dropped it. Requests that were dispatched to
    /// it before are no longer wanted.
    RegisterAgain,
    /// When a leaving worker has replied to all its requests.
    Goodbye,
    /// When a message was not accepted.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// When the broker is about to exit. The worker waits for the next one.
    Closing,
    /// When the connection broke. libzmq inserts it at the worker.
    Hiccup,
}
