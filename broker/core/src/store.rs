//! What the core asks of the store of durable jobs, and what it hears from it.
//!
//! The core has no disk: it puts out [`Op`]s, and the store's thread carries them out in their order
//! and answers each with a [`Done`], in the same order. A write is answered when it would survive a
//! power cut, and not before.

use std::sync::Arc;

use giostra_protocol::name::Label;
use giostra_protocol::{Bytes, JobSpec, JobState, Outcome};

use crate::ids::JobNumber;

/// Something for the store to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// When something is to be kept.
    Write(Write),
    /// When something is to be read. It finds what was written before it.
    Read(Read),
}

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// When there is a new job.
    Create {
        /// Its number, which no job has had before.
        job: JobNumber,
        /// The public key of the client that submitted it; empty without keys.
        owner: Label,
        /// What the client says of it.
        spec: Arc<JobSpec>,
    },
    /// When requests are added to a job that is open. Ignored if the job does not exist.
    Append {
        /// The job.
        job: JobNumber,
        /// The number of the first request: the count of those before it.
        first: u32,
        /// Their bodies.
        bodies: Vec<Bytes>,
        /// Whether the submission is complete with these.
        closes: bool,
    },
    /// When requests were answered. A job whose submission is complete is finished with its last
    /// result.
    Results {
        /// The job.
        job: JobNumber,
        /// Each request once, and never again.
        outcomes: Vec<(u32, Outcome)>,
    },
    /// When workers were lost with requests, or requests failed and are to be computed again: what
    /// the next life of the broker has to know of them. Replaces what was known.
    Attempts {
        /// The job.
        job: JobNumber,
        /// The requests, each without a result.
        attempts: Vec<(u32, Attempts)>,
    },
    /// When a job was cancelled: the bodies of its requests are no longer needed.
    Cancel(JobNumber),
    /// When the requests of a finished job that failed are to be computed again: they lose their
    /// errors, and the job is running. Answered with [`Done::Jobs`] of the job as it is then; of
    /// none if there is no such job, or it is not finished.
    Retry(JobNumber),
    /// When a job and all that belongs to it is to be deleted.
    Delete(JobNumber),
}

/// A question to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Which requests of a job have no result? Answered with [`Done::Pending`].
    Pending {
        /// The job.
        job: JobNumber,
        /// The number of the first that matters.
        from: u32,
        /// About how many are wanted at most.
        requests: usize,
        /// About how many bytes of bodies are wanted at most; one request is returned in any case.
        bytes: usize,
    },
    /// What are the results of a job, in the order of the requests? Answered with
    /// [`Done::Results`].
    Results {
        /// The job.
        job: JobNumber,
        /// The number of the first that matters.
        from: u32,
        /// About how many bytes are wanted at most; one result is returned in any case.
        bytes: usize,
        /// Whether the bodies of requests that failed are wanted, too.
        with_failed: bool,
    },
    /// What is known of a job? Answered with [`Done::Jobs`] of one or none.
    Job(JobNumber),
    /// Which jobs are there, the newest first? Answered with [`Done::Jobs`].
    Jobs {
        /// Whose; all without it.
        owner: Option<Label>,
        /// Those with lower numbers than this.
        before: JobNumber,
        /// How many at most.
        limit: usize,
    },
    /// Which jobs ended so long ago that they are not to be kept any longer? Answered with
    /// [`Done::Expired`].
    Expired {
        /// How many at most.
        limit: usize,
    },
}

/// What the store has done, or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// When a write is safe. A job that does not exist was left alone.
    Written,
    /// When a job was created, and when: milliseconds since 1970.
    Created(u64),
    /// When there is a job already with this owner, pool and key, so that none was created.
    Exists(Box<JobRecord>),
    /// Requests without a result, in the order of their numbers.
    Pending {
        /// Numbers and bodies.
        requests: Vec<(u32, Bytes)>,
        /// What is known of earlier attempts at them; without those of which nothing is known.
        attempts: Vec<(u32, Attempts)>,
        /// The number from which on to ask for more; `None` if there are none in the store.
        next: Option<u32>,
    },
    /// Results in the order of the requests.
    Results {
        /// Numbers and outcomes. None, if no request from the number on has one.
        results: Vec<(u32, Outcome)>,
        /// The bodies of those that failed, if they were asked for.
        failed: Vec<(u32, Bytes)>,
    },
    /// Jobs.
    Jobs(Vec<JobRecord>),
    /// Jobs that are not to be kept any longer.
    Expired {
        /// The jobs, those that ended first before others.
        jobs: Vec<JobRecord>,
        /// The milliseconds until the next is not, by the store's clock; `None` if there is none.
        next_ms: Option<u64>,
    },
    /// When there was no room for a write. Nothing of it was kept; it can be tried again.
    Full {
        /// The write.
        write: Box<Write>,
        /// For people: why, and what to do about it.
        reason: Arc<str>,
    },
    /// When the store is out of order: nothing is kept or found any more. For people: why.
    Failed(Arc<str>),
}

/// What is known of earlier attempts at a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The number of lost workers that count against it.
    pub lost: u32,
    /// How often it has failed.
    pub failed: u32,
}

/// What the store knows of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its number.
    pub job: JobNumber,
    /// The public key of the client that submitted it; empty without keys.
    pub owner: Label,
    /// What the client said of it.
    pub spec: Arc<JobSpec>,
    /// How far it is.
    pub state: JobState,
    /// The number of its requests.
    pub requests: u32,
    /// The number of its results.
    pub succeeded: u32,
    /// The number of its errors.
    pub failed: u32,
    /// When it was created, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it was finished or cancelled; 0 if it was not.
    pub ended_ms: u64,
}

/// What a store holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The store's random number, drawn when it was made, below 2^32. Jobs' ids begin with it.
    pub home: u32,
    /// The highest number that a job ever had; 0 without one.
    pub last_job: u64,
    /// The jobs that are open or running.
    pub jobs: Vec<JobRecord>,
}
