//! Broker configuration, and what each client may do.

use std::time::Duration;

use giostra_protocol::{MAX_BATCH, MAX_MESSAGE_BYTES};

use crate::policy::rotation::Rotation;

/// The most requests that expire in one turn, or that dead workers give back, not counting the last
/// one's: some milliseconds of work, the replies included.
pub(crate) const AT_ONCE: usize = 4096;

/// What a client may do. A worker may compute, and has none of these rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Submit and cancel requests.
    pub submit: bool,
    /// See the status and drain workers.
    pub administer: bool,
}

impl Rights {
    /// Everything: for a broker without keys.
    pub const ALL: Self = Self { submit: true, administer: true };
    /// Nothing.
    pub const NONE: Self = Self { submit: false, administer: false };
}

/// Broker configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two pings of a worker. More than nothing.
    pub ping_interval: Duration,
    /// Unanswered pings after which a worker is dropped. At least 1.
    pub ping_max_out: u32,
    /// Workers lost without a word while they hold a request after which it is given up. At least
    /// 1.
    pub max_attempts: u32,
    /// How long a request that would be given up waits for the worker that was lost last: it may
    /// only have lost its connection, and be about to come back.
    pub await_return: Duration,
    /// The most requests that may be pending; more are turned away until there is room. At least 1.
    /// Those that a lost worker gave back count, but are never turned away.
    pub max_pending: usize,
    /// Bytes of unanswered requests' bodies from which on more are turned away. At least 1.
    pub max_pending_bytes: usize,
    /// The most requests of one client that may be pending; it has less when there is little room
    /// for all. At least 1.
    pub max_client_pending: usize,
    /// The most requests in one `Submit`; a larger one is refused. At least 1.
    pub max_batch: usize,
    /// The largest frame that the broker takes, in bytes, to tell its peers.
    pub max_message_bytes: usize,
    /// The most requests in flight to one worker, unless it has more threads. At least 1.
    pub window: usize,
    /// How much work a worker has at batch: its window is as large as that takes, and no larger than
    /// `window`. Zero: always `window`.
    pub hold: Duration,
    /// The most requests that are taken out of the tables in one turn after their clients have
    /// left. At least 1.
    pub freed_at_once: usize,
    /// What happens when it is the turn of a worker whose window is full.
    pub rotation: Rotation,
    /// The most pools that clients may keep; one client makes no more than its share of what is
    /// free. Workers may bring as many again. At least 1.
    pub max_pools: usize,
    /// How long replies may wait for others to the same client, until nearly all of its requests
    /// that are in flight have one. Where several workers answer one after another it makes one
    /// message of several, and the client's next requests come in one message, too. A broker
    /// that is about to sleep holds nothing back: see
    /// [`Broker::flush`](crate::broker::Broker::flush).
    pub coalesce: Duration,
    /// How long the oldest request of a busy worker has been computing when it is told to be stuck.
    /// Nothing is decided by it.
    pub stuck_after: Duration,
    /// The ticket before the first: random, so that tickets from before a restart fit nothing.
    pub first_ticket: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(1),
            ping_max_out: 3,
            max_attempts: 3,
            await_return: Duration::from_secs(1),
            max_pending: 1_000_000,
            max_pending_bytes: 1 << 30,
            max_client_pending: usize::MAX,
            max_batch: MAX_BATCH,
            max_message_bytes: MAX_MESSAGE_BYTES,
            window: 1024,
            hold: Duration::ZERO,
            freed_at_once: AT_ONCE,
            rotation: Rotation::Strict,
            max_pools: 10_000,
            coalesce: Duration::ZERO,
            stuck_after: Duration::from_secs(300),
            first_ticket: 0,
        }
    }
}
