//! Numbers that identify clients, workers and requests within the core.

use std::fmt;

use crate::tables::peers::Number;

/// The number of a client's connection, counted from 1 in each life of a broker; `c1` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientNumber(pub u64);

/// The number of a worker's registration, counted from 1 in each life of a broker; `w1` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerNumber(pub u64);

/// The number of a job, counted from 1 over all lives of its store; `j1` in the log. Below 2^39.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobNumber(pub u64);

/// Where a request comes from: a client or a job; `c1` or `j1` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(u64);

impl Source {
    /// The bit that jobs have. Neither count comes that far.
    const JOB: u64 = 1 << 63;

    /// Returns the client, if it is one.
    pub fn client(self) -> Option<ClientNumber> {
        (self.0 & Self::JOB == 0).then_some(ClientNumber(self.0))
    }

    /// Returns the job, if it is one.
    pub fn job(self) -> Option<JobNumber> {
        (self.0 & Self::JOB != 0).then_some(JobNumber(self.0 & !Self::JOB))
    }
}

impl From<ClientNumber> for Source {
    fn from(client: ClientNumber) -> Self {
        Self(client.0)
    }
}

impl From<JobNumber> for Source {
    fn from(job: JobNumber) -> Self {
        Self(job.0 | Self::JOB)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.job() {
            Some(job) => job.fmt(f),
            None => ClientNumber(self.0).fmt(f),
        }
    }
}

impl Number for ClientNumber {
    fn number(self) -> u64 {
        self.0
    }

    fn of(number: u64) -> Self {
        Self(number)
    }
}

impl Number for WorkerNumber {
    fn number(self) -> u64 {
        self.0
    }

    fn of(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ClientNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl fmt::Display for JobNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j{}", self.0)
    }
}

impl fmt::Display for WorkerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

/// The key of an unanswered request in the table of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestKey(pub u32);

impl RequestKey {
    /// Returns the place in the table of requests.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}
