//! Broker configuration, and what each client may do.

use std::time::Duration;

use giostra_protocol::{MAX_BATCH, MAX_MESSAGE_BYTES};

use crate::policy::rotation::Rotation;

/// The maximum number of requests that expire or are given back in one turn, not counting the last
/// worker's: some milliseconds of work, the replies included.
pub(crate) const AT_ONCE: usize = 4096;

/// The rights of a client. A worker may compute, and has none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Whether it may submit and cancel requests.
    pub submit: bool,
    /// Whether it may see the status and drain workers.
    pub administer: bool,
}

impl Rights {
    /// All rights, for a broker without keys.
    pub const ALL: Self = Self { submit: true, administer: true };
    /// No rights.
    pub const NONE: Self = Self { submit: false, administer: false };
}

/// Broker configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time between two pings of a worker; more than 0.
    pub ping_interval: Duration,
    /// Unanswered pings after which a worker is dropped; at least 1.
    pub ping_max_out: u32,
    /// The number of workers that may be lost without a word while they hold a request, after which
    /// it is given up; at least 1.
    pub max_attempts: u32,
    /// How long a request that would be given up waits for the last lost worker to register again,
    /// which may have lost only its connection.
    pub await_return: Duration,
    /// The maximum number of pending requests; more are rejected. At least 1. Requests that a lost
    /// worker gave back count, but are never rejected.
    pub max_pending: usize,
    /// The bytes of unanswered requests' bodies from which requests are rejected; at least 1.
    pub max_pending_bytes: usize,
    /// The maximum number of pending requests of one client, which gets less when there is little
    /// room for all; at least 1.
    pub max_client_pending: usize,
    /// The maximum number of requests in one `Submit`; a larger one is declined. At least 1.
    pub max_batch: usize,
    /// The largest frame that the broker takes, in bytes, for its peers to know.
    pub max_message_bytes: usize,
    /// The maximum number of requests in flight to one worker, unless it has more threads; at least
    /// 1.
    pub window: usize,
    /// How much work a worker holds: its window is as large as that takes, and no larger than
    /// `window`. With zero it is always `window`.
    pub hold: Duration,
    /// The maximum number of requests that are removed from the tables in one turn after their
    /// clients have left; at least 1.
    pub freed_at_once: usize,
    /// The number of requests of one job in memory, at about which no more are read from the store; at
    /// least 2.
    pub job_slice: usize,
    /// What happens when it is the turn of a worker whose window is full.
    pub rotation: Rotation,
    /// The maximum number of pools that clients may keep; one client makes no more than its share
    /// of what is free. Workers may add as many again. At least 1.
    pub max_pools: usize,
    /// How long replies may wait for others to the same client, until nearly all of its requests in
    /// flight have one. Where several workers answer one after another, this makes one message of
    /// several, and the client's next requests come in one message, too. A broker that is about to
    /// sleep holds nothing back: see [`Broker::flush`](crate::broker::Broker::flush).
    pub coalesce: Duration,
    /// How long the oldest request of a busy worker is computed before it counts as stuck. A remark
    /// in the status; nothing is decided by it.
    pub stuck_after: Duration,
    /// The number before the first ticket: random, so that tickets from before a restart are
    /// unknown.
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
            job_slice: 16_384,
            rotation: Rotation::Strict,
            max_pools: 10_000,
            coalesce: Duration::ZERO,
            stuck_after: Duration::from_secs(300),
            first_ticket: 0,
        }
    }
}
