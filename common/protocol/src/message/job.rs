//! Durable jobs: what a client says of one, and what the broker tells.

use serde::{Deserialize, Serialize};

/// The largest number of requests in one job. Their numbers are below it.
pub const MAX_JOB_REQUESTS: u32 = 1 << 24;

/// What a client says of a job when it submits it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobSpec {
    /// The pool whose workers compute the requests.
    pub pool: String,
    /// Identifies the submission among those of its owner to this pool: the same key gives the same
    /// job.
    pub key: String,
    /// A name for people; may be empty.
    pub name: String,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// When its submission is not complete. What was accepted is being computed.
    #[default]
    Open,
    /// When its submission is complete, and it has requests without a result.
    Running,
    /// When each request has a result or an error.
    Finished,
    /// When it was cancelled. What was finished before can be collected.
    Cancelled,
}
