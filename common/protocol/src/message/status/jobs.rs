//! Durable jobs and their store, in the status.

use serde::{Deserialize, Serialize};

use super::super::{JobId, Priority};
use crate::codec;

/// The durable jobs of a broker, and its store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsStatus {
    /// The jobs that are open or running, the oldest first, at most 100.
    #[serde(deserialize_with = "codec::batch")]
    pub live: Vec<LiveJob>,
    /// The number of open and running jobs that are not listed.
    pub left_out: u64,
    /// Counts since the broker's start.
    pub totals: JobTotals,
    /// The store.
    pub store: StoreStatus,
    /// The number of open jobs, listed or not: their submission is not complete.
    pub open: u64,
    /// The number of running jobs, listed or not.
    pub running: u64,
}

/// A job that is open or running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveJob {
    /// Its id.
    pub id: JobId,
    /// Its name; may be empty.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// How urgent its requests are.
    pub priority: Priority,
    /// Whether its submission is complete.
    pub closed: bool,
    /// The number of its requests so far.
    pub requests: u64,
    /// The number of results that are safe.
    pub succeeded: u64,
    /// The number of errors that are safe.
    pub failed: u64,
    /// The number of its requests that wait to be computed again after they failed.
    pub retrying: u64,
    /// Results and errors a second, lately.
    pub rate: u64,
    /// The milliseconds that the rest will take at this pace; `None` if that is unknown, as while the
    /// submission is not complete.
    pub left_ms: Option<u64>,
}

/// Counts of jobs and their requests since the broker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTotals {
    /// Jobs submitted.
    pub submitted: u64,
    /// Jobs taken over from an earlier life.
    pub restored: u64,
    /// Jobs finished.
    pub finished: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Jobs deleted.
    pub deleted: u64,
    /// Requests that are safe.
    pub saved: u64,
    /// Results that are safe.
    pub succeeded: u64,
    /// Errors that are safe.
    pub failed: u64,
    /// Requests that failed, and were or will be computed again.
    pub retried: u64,
}

/// The store of durable jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Why it is out of order until the broker is restarted; empty if it is not.
    pub failed: String,
    /// Why there is no room for new requests just now; empty if there is.
    pub full: String,
    /// The size of its files, in bytes.
    pub bytes: u64,
    /// The number of commits, each of which syncs, since the broker's start.
    pub commits: u64,
    /// The time that they have taken, in microseconds.
    pub commits_us: u64,
    /// The longest of them in the last minute, or up to two, in microseconds.
    pub longest_us: u64,
}
