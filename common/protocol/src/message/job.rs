//! Durable jobs: what a client says of one, and what the broker tells.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Outcome, Priority};
use crate::{Bytes, codec};

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
    /// How urgent its requests are.
    pub priority: Priority,
    /// Milliseconds after which a request that was handed to a worker fails as expired, at each
    /// attempt; 0: never.
    pub timeout_ms: u64,
    /// How often a request that failed is computed again, after growing pauses, before its error is
    /// its result.
    pub retries: u32,
    /// Milliseconds after its end for which the job is kept; 0: until it is deleted.
    pub keep_ms: u64,
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

/// The id of a job: its store's number and its own. Displays as `5f3a9c01-12`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId {
    /// The number of the store that keeps it, drawn at random when the store was made.
    pub home: u32,
    /// Its number in that store.
    pub number: u64,
}

/// What a client asks about jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum JobsRequest<B = Bytes> {
    /// When requests are added to the job of this specification, which is created if it is not there.
    Submit {
        /// The job.
        job: JobSpec,
        /// The number of the first request: the count of those before it. Requests that the broker
        /// has already, and those after a gap, are ignored.
        first: u32,
        /// The requests.
        #[serde(deserialize_with = "codec::batch")]
        bodies: Vec<B>,
        /// Whether there are no more.
        closes: bool,
    },
    /// When the client asks which jobs there are.
    List {
        /// Only those with lower numbers.
        before: u64,
    },
    /// When the client asks how far a job is.
    Look {
        /// The job.
        id: JobId,
        /// Whether to answer only once it has ended.
        wait: bool,
    },
    /// When the client asks for results.
    Collect {
        /// The job.
        id: JobId,
        /// The number of the first request whose result matters.
        from: u32,
        /// Whether to add the requests that failed.
        with_failed: bool,
    },
    /// When a submission is given up: its job is cancelled, unless its submission was complete. There
    /// is no answer.
    GiveUp(JobSpec),
    /// When a job is to be ended. The results that it has are kept.
    Cancel(JobId),
    /// When the requests of a finished job that failed are to be computed again.
    Retry(JobId),
    /// When an ended job is to be deleted with its results.
    Delete(JobId),
}

impl<B> JobsRequest<B> {
    /// The job that it is about, where it names one.
    pub fn job(&self) -> Option<JobId> {
        match *self {
            Self::Look { id, .. } | Self::Collect { id, .. } => Some(id),
            Self::Cancel(id) | Self::Retry(id) | Self::Delete(id) => Some(id),
            Self::Submit { .. } | Self::List { .. } | Self::GiveUp(_) => None,
        }
    }
}

/// What the broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum JobsReply<B = Bytes> {
    /// When requests of a job are safe: those with numbers below `requests`.
    Accepted {
        /// The job.
        id: JobId,
        /// The number of its requests so far.
        requests: u32,
        /// Whether there will be no more.
        closed: bool,
    },
    /// When the broker has no room for more requests of a job just now. The client sends them again a
    /// little later.
    Later {
        /// The number of the first request to send again.
        requests: u32,
    },
    /// Jobs, the newest first. An empty list ends them.
    Jobs(#[serde(deserialize_with = "codec::batch")] Vec<JobStatus>),
    /// Results in the order of the requests, and how far the job is.
    Results {
        /// The job.
        job: JobStatus,
        /// Numbers and outcomes. None, if no request from the number asked for on has one.
        #[serde(deserialize_with = "codec::batch")]
        results: Vec<(u32, Outcome<B>)>,
        /// Those of the requests among them that failed, if the client asked for them: numbers and
        /// bodies.
        #[serde(deserialize_with = "codec::batch")]
        failed: Vec<(u32, B)>,
    },
    /// When the broker does not do what was asked.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    pub id: JobId,
    /// What was said of it when it was submitted.
    pub spec: JobSpec,
    /// The public key of the client that submitted it; empty without keys.
    pub owner: String,
    /// How far it is.
    pub state: JobState,
    /// The number of its requests.
    pub requests: u32,
    /// The number of results that are safe.
    pub succeeded: u32,
    /// The number of errors that are safe.
    pub failed: u32,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it ended, in milliseconds since 1970; 0 if it has not.
    pub ended_ms: u64,
}

/// Why a text is not the id of a job.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no id of a job; ids look like 5f3a9c01-12")]
pub struct BadJobId(String);

impl JobState {
    /// Whether nothing more of it is computed.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08x}-{}", self.home, self.number))
    }
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        let parse = || {
            let (home, number) = text.split_once('-')?;
            let are_digits = home.len() == 8 && home.bytes().all(|byte| byte.is_ascii_hexdigit());
            let are_digits = are_digits && number.bytes().all(|byte| byte.is_ascii_digit());
            let id = Self { home: u32::from_str_radix(home, 16).ok()?, number: number.parse().ok()? };
            are_digits.then_some(id)
        };
        parse().ok_or_else(|| BadJobId(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is_one() {
        for id in [JobId { home: 1, number: 1 }, JobId { home: u32::MAX, number: u64::MAX }] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "12", "5f3a9c01", "5f3a9c01-", "5f3a9c01-x", "5f3a9c1-12", "+f3a9c01-1", "5f3a9c01-+1", "é-1"]
        {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
