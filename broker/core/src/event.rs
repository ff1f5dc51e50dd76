//! Events: what the broker did, for its log, which is the evidence of its promises.
//!
//! `docs/log.md` describes the lines for readers that are programs. They are as stable as the
//! protocol.

mod line;

use std::fmt;
use std::sync::Arc;

use giostra_protocol::name::Label;
use giostra_protocol::{JobId, Priority};
use log::Level;

pub(crate) use line::join;

use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, JobNumber, WorkerNumber};
use crate::peer_info::Key;

/// A worker as in the log: `worker-1 w1`. The name is a label, the number identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLabel {
    /// The name that it gave.
    pub name: Label,
    /// The number of its registration.
    pub number: WorkerNumber,
}

impl fmt::Display for WorkerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.number)
    }
}

/// Why a worker was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// When its connection broke.
    ConnectionBroke,
    /// When it left this many pings unanswered.
    Silent(u32),
    /// When a message to it had nowhere to go.
    Unreachable,
    /// When it did not take what it was sent, and was cut off.
    Overdue,
    /// When it registered a second time, which means that it has forgotten what it held.
    RegisteredAgain,
    /// When it sent bytes that are no message.
    Malformed(String),
    /// When its key is no longer allowed.
    Revoked,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionBroke => f.write_str("connection broke"),
            Self::Silent(pings) => write!(f, "{pings} pings unanswered"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Overdue => f.write_str("does not take what it is sent"),
            Self::RegisteredAgain => f.write_str("registered again"),
            Self::Malformed(error) => write!(f, "sent something unreadable: {error}"),
            Self::Revoked => f.write_str("its key is no longer allowed"),
        }
    }
}

/// Whether the loss of a worker counts against the requests that it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// When none of them can have ended it.
    No,
    /// When it counts until the same process registers again.
    UnlessBack,
    /// When it counts.
    Yes,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::UnlessBack => "unless-back",
            Self::Yes => "yes",
        })
    }
}

/// An event. `{}` is its line in the log; `{:#}` is a line for people, without requests and without
/// counts that serve the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// When a client said hello.
    ClientJoined {
        /// The client.
        client: ClientNumber,
        /// The name that it gave.
        name: Arc<str>,
        /// The number of clients now, itself included.
        clients: usize,
        /// Its key, if it has one.
        key: Option<Key>,
    },
    /// When a client's connection ended.
    ClientLeft {
        /// The client.
        client: ClientNumber,
        /// The reason.
        reason: &'static str,
        /// Its requests that were cancelled before they were dispatched.
        cancelled: u64,
        /// Its requests whose replies will be discarded.
        unwanted: u64,
        /// The number of clients that are still there.
        clients: usize,
    },
    /// When a worker registered.
    WorkerJoined {
        /// The worker.
        worker: WorkerLabel,
        /// Its pool.
        pool: Arc<str>,
        /// The number of requests that it computes at once.
        threads: u32,
        /// The largest window that it can get.
        window: usize,
        /// The number of seats in its ring, its own included.
        seats: usize,
        /// The number of registered workers, itself included.
        workers: usize,
        /// The machine it runs on; empty if unknown.
        host: Label,
        /// The last registration of the same process, if that still exists or counts against an
        /// open request.
        back: Option<WorkerNumber>,
        /// Its key, if it has one.
        key: Option<Key>,
    },
    /// When a seat's window is full and its size has changed since it was logged, where the
    /// rotation depends on it.
    Window {
        /// The worker.
        worker: WorkerLabel,
        /// The size of its window.
        size: usize,
    },
    /// When a worker gave up its seat to finish what it has.
    WorkerLeaving {
        /// The worker.
        worker: WorkerLabel,
        /// Whether it was drained, or asked for it itself.
        drained: bool,
        /// The number of requests that it has to finish.
        in_flight: usize,
    },
    /// When a worker could compute nothing for now, and lost its seat, if it had one.
    WorkerUnable {
        /// The worker.
        worker: WorkerLabel,
        /// The requests that it handed back, which go to the next seats.
        returned: IdRanges,
        /// The reason, in its own words.
        reason: String,
    },
    /// When a worker that was unable took a seat again.
    WorkerAble {
        /// The worker.
        worker: WorkerLabel,
        /// The number of seats in its ring, its own included.
        seats: usize,
    },
    /// When a leaving worker owed nothing more.
    WorkerLeft {
        /// The worker.
        worker: WorkerLabel,
        /// The number of its results that were discarded.
        discarded: u64,
        /// The number of workers that are still registered.
        workers: usize,
    },
    /// When a worker was lost.
    WorkerDropped {
        /// The worker.
        worker: WorkerLabel,
        /// The reason.
        reason: DropReason,
        /// Its unanswered requests, which go to the next seats.
        returned: IdRanges,
        /// The number of unwanted requests that it held.
        unwanted: u64,
        /// The number of its results that were discarded.
        discarded: u64,
        /// The number of workers that are still registered.
        workers: usize,
        /// Whether the loss counts against the returned requests.
        evidence: Evidence,
    },
    /// When requests were accepted.
    Accepted {
        /// The requests.
        requests: IdRanges,
        /// Their pool.
        pool: Arc<str>,
        /// How urgent they are.
        priority: Priority,
    },
    /// When requests were ignored because they were sent over an earlier connection, and how many.
    Stale(ClientNumber, u64),
    /// When requests were handed to a worker.
    Dispatched {
        /// The worker.
        worker: WorkerLabel,
        /// Whether other workers were lost while they held them, or handed them back.
        again: bool,
        /// Whether the worker has left a ping unanswered for an interval.
        suspect: bool,
        /// The tickets, in the order of the requests.
        tickets: IdRanges,
        /// The requests.
        requests: IdRanges,
    },
    /// When a worker replied to requests, and the replies went to their clients.
    Replied {
        /// The worker.
        worker: WorkerLabel,
        /// Whether the replies are errors.
        errors: bool,
        /// The requests.
        requests: IdRanges,
    },
    /// When replies were discarded because no client waited for them.
    Discarded {
        /// The worker, if it is registered.
        worker: Option<WorkerLabel>,
        /// The requests, if they are known: cancelled, expired, or of a client that has left.
        requests: IdRanges,
        /// The number of replies to tickets that are not this worker's, because it was dropped
        /// meanwhile or the broker was restarted.
        late: u64,
    },
    /// When requests reached their time limit.
    Expired(IdRanges),
    /// When a request had been with too many workers that were lost.
    Poisoned {
        /// The request.
        request: IdRanges,
        /// The names of the workers whose loss counts against it.
        workers: Vec<Label>,
    },
    /// When a client cancelled requests.
    Cancelled(IdRanges),
    /// When a message was not accepted.
    Refused {
        /// The sender, as far as it is known.
        from: String,
        /// The reason.
        reason: String,
        /// The number of refusals without a line since the last one.
        unsaid: u64,
    },
    /// When a client's requests were rejected for want of room for the first time over its
    /// connection, and how many.
    Rejected(ClientNumber, u64),
    /// When requests were not to wait for a worker and there was none, and how many.
    NoWorker(ClientNumber, u64),
    /// When a client began to submit a job.
    JobSubmitted {
        /// The job.
        job: JobNumber,
        /// Its id.
        id: JobId,
        /// The client.
        client: ClientNumber,
        /// Its pool.
        pool: Arc<str>,
    },
    /// When a job of an earlier life goes on.
    JobRestored {
        /// The job.
        job: JobNumber,
        /// Its id.
        id: JobId,
        /// The number of its requests so far.
        requests: u32,
    },
    /// When a job turned out to be an earlier one, which has ended: there is no other.
    JobKnown {
        /// The number that was meant for it.
        job: JobNumber,
        /// The id of the earlier one.
        id: JobId,
    },
    /// When requests of a job are safe in the store.
    JobSaved {
        /// The job.
        job: JobNumber,
        /// The number of the first.
        first: u32,
        /// How many they are.
        count: u32,
        /// Whether the submission is complete with these.
        closed: bool,
    },
    /// When workers were lost with these requests in an earlier life, which counts against them.
    JobLosses {
        /// The requests.
        requests: IdRanges,
        /// How many workers each.
        lost: u32,
    },
    /// When requests of jobs failed, and are to be computed again after a pause. Nothing is stored of
    /// their replies.
    JobRetries {
        /// The requests.
        requests: IdRanges,
    },
    /// When the requests of a finished job that failed are computed again.
    JobResumed {
        /// The job.
        job: JobNumber,
        /// Its id.
        id: JobId,
        /// How many requests it has.
        requests: u32,
        /// How many of them are computed again.
        again: u32,
    },
    /// When results are safe in the store.
    ResultsStored {
        /// The requests.
        requests: IdRanges,
    },
    /// When all results of a job are safe in the store.
    JobFinished {
        /// The job.
        job: JobNumber,
        /// The number of results.
        succeeded: u32,
        /// The number of errors.
        failed: u32,
    },
    /// When a client has cancelled a job.
    JobCancelled {
        /// The job.
        job: JobNumber,
    },
    /// When a job was deleted.
    JobDeleted {
        /// The job.
        job: JobNumber,
    },
    /// When the store has no room.
    StoreFull {
        /// Why, and what to do about it.
        reason: Arc<str>,
    },
    /// When the store of jobs is out of order.
    StoreFailed {
        /// Why.
        reason: Arc<str>,
    },
    /// When the broker was asked to finish, and how many requests are in flight.
    Closing(u64),
    /// When a client of a closing broker has read all its replies.
    Goodbye(ClientNumber),
    /// When a client of a closing broker has not said goodbye.
    Unheard {
        /// The client.
        client: ClientNumber,
        /// The requests whose replies were never sent.
        unsent: IdRanges,
        /// Why the broker does not wait for it.
        reason: &'static str,
    },
}

impl Event {
    /// Returns the level of the line: what happens to single requests is for debugging.
    pub fn level(&self) -> Level {
        match self {
            Self::WorkerDropped { .. }
            | Self::WorkerUnable { .. }
            | Self::Poisoned { .. }
            | Self::Refused { .. }
            | Self::Unheard { .. }
            | Self::StoreFull { .. }
            | Self::Rejected(..) => Level::Warn,
            Self::StoreFailed { .. } => Level::Error,
            Self::Accepted { .. }
            | Self::Window { .. }
            | Self::Dispatched { again: false, .. }
            | Self::Replied { .. }
            | Self::JobSaved { .. }
            | Self::JobLosses { .. }
            | Self::JobRetries { .. }
            | Self::ResultsStored { .. } => Level::Debug,
            _ => Level::Info,
        }
    }

    /// Whether the event is about more than a request that takes its usual course.
    pub fn is_worth_watching(&self) -> bool {
        let is_usual = matches!(self, Self::Stale(..) | Self::Cancelled(_) | Self::NoWorker(..) | Self::Goodbye(_));
        self.level() != Level::Debug && !is_usual
    }

    /// Returns the number of the worker and the count of requests that an event
    /// [worth watching](Self::is_worth_watching) is about, if it is about any.
    pub fn about(&self) -> (Option<u64>, Option<u64>) {
        let of = |worker: &WorkerLabel| Some(worker.number.0);
        match self {
            Self::WorkerJoined { worker, .. } | Self::WorkerAble { worker, .. } | Self::WorkerLeft { worker, .. } => {
                (of(worker), None)
            }
            Self::WorkerLeaving { worker, in_flight, .. } => (of(worker), Some(*in_flight as u64)),
            Self::WorkerDropped { worker, returned: requests, .. }
            | Self::WorkerUnable { worker, returned: requests, .. }
            | Self::Dispatched { worker, requests, .. } => (of(worker), Some(requests.len())),
            Self::Discarded { worker, requests, late } => (worker.as_ref().and_then(of), Some(requests.len() + late)),
            Self::Expired(requests)
            | Self::Poisoned { request: requests, .. }
            | Self::Unheard { unsent: requests, .. } => (None, Some(requests.len())),
            Self::ClientLeft { cancelled, unwanted, .. } => (None, Some(cancelled + unwanted)),
            Self::Rejected(_, count) | Self::Closing(count) => (None, Some(*count)),
            _ => (None, None),
        }
    }
}
