//! Events: what the broker did, for its log, which is the evidence of its promises.
//!
//! `docs/log.md` describes the lines for readers that are programs. They are as stable as the
//! protocol.

use std::fmt;
use std::sync::Arc;

use giostra_protocol::name::Label;
use log::Level;

use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, WorkerNumber};
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

/// An event.
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
        /// The most requests that it is ever handed at once.
        window: usize,
        /// The number of seats in its ring, its own included.
        seats: usize,
        /// The number of registered workers, itself included.
        workers: usize,
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
        /// The most requests that it is handed at once, now.
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
    /// When replies were discarded because nobody waited for them.
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
        /// The sender, as far as known.
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
            | Self::Rejected(..) => Level::Warn,
            Self::Dispatched { again: true, .. } | Self::Discarded { .. } | Self::Expired(_) => Level::Info,
            Self::Accepted { .. } | Self::Window { .. } | Self::Dispatched { .. } | Self::Replied { .. } => {
                Level::Debug
            }
            _ => Level::Info,
        }
    }

    /// Whether the event is about more than a request that takes its usual course.
    pub fn is_worth_watching(&self) -> bool {
        match self {
            Self::Dispatched { again, .. } => *again,
            Self::Accepted { .. }
            | Self::Window { .. }
            | Self::Replied { .. }
            | Self::Stale(..)
            | Self::Cancelled(_)
            | Self::NoWorker(..)
            | Self::Goodbye(_) => false,
            _ => true,
        }
    }

    /// Returns the line for people: without the requests, and without counts that serve the audit.
    pub fn summary(&self) -> String {
        match self {
            Self::WorkerDropped { worker, reason, returned, .. } => {
                format!("dropped {worker} returned={} reason={reason}", returned.len())
            }
            Self::WorkerUnable { worker, reason, returned } => {
                format!("unable {worker} returned={} reason={reason}", returned.len())
            }
            Self::Dispatched { worker, requests, .. } => format!("redispatch {worker} requests={}", requests.len()),
            Self::Expired(requests) => format!("expire requests={}", requests.len()),
            Self::Discarded { worker: Some(worker), requests, late } => {
                format!("discard {worker} late={late} requests={}", requests.len())
            }
            Self::Unheard { client, unsent, reason } => {
                format!("unheard {client} unsent={} reason={reason}", unsent.len())
            }
            Self::ClientJoined { clients, .. } | Self::ClientLeft { clients, .. } => {
                self.to_string().replacen(&format!(" clients={clients}"), "", 1)
            }
            Self::WorkerJoined { workers, .. } => self.to_string().replacen(&format!(" workers={workers}"), "", 1),
            Self::WorkerLeft { worker, .. } => format!("left {worker}"),
            other => other.to_string(),
        }
    }

    /// Returns the number of the worker and the count of requests that the event is about, if it is
    /// about any.
    pub fn about(&self) -> (Option<u64>, Option<u64>) {
        match self {
            Self::WorkerJoined { worker, .. }
            | Self::Window { worker, .. }
            | Self::WorkerAble { worker, .. }
            | Self::WorkerLeft { worker, .. } => (Some(worker.number.0), None),
            Self::WorkerLeaving { worker, in_flight, .. } => (Some(worker.number.0), Some(*in_flight as u64)),
            Self::WorkerDropped { worker, returned, .. } | Self::WorkerUnable { worker, returned, .. } => {
                (Some(worker.number.0), Some(returned.len()))
            }
            Self::Dispatched { worker, requests, .. } | Self::Replied { worker, requests, .. } => {
                (Some(worker.number.0), Some(requests.len()))
            }
            Self::Discarded { worker, requests, late } => {
                (worker.as_ref().map(|worker| worker.number.0), Some(requests.len() + late))
            }
            Self::Accepted { requests, .. }
            | Self::Expired(requests)
            | Self::Cancelled(requests)
            | Self::Poisoned { request: requests, .. } => (None, Some(requests.len())),
            Self::ClientLeft { cancelled, unwanted, .. } => (None, Some(cancelled + unwanted)),
            Self::Stale(_, count) | Self::Rejected(_, count) | Self::NoWorker(_, count) | Self::Closing(count) => {
                (None, Some(*count))
            }
            Self::Unheard { unsent, .. } => (None, Some(unsent.len())),
            Self::ClientJoined { .. } | Self::Refused { .. } | Self::Goodbye(_) => (None, None),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientJoined { client, name, clients, key } => {
                write!(f, "client-joined {client} {name} clients={clients}{}", behind(key))
            }
            Self::ClientLeft { client, reason, cancelled, unwanted, clients } => {
                write!(f, "client-left {client} cancelled={cancelled} unwanted={unwanted} clients={clients} ")?;
                write!(f, "reason={reason}")
            }
            Self::WorkerJoined { worker, pool, threads, window, seats, workers, back, key } => {
                write!(
                    f,
                    "joined {worker} pool={pool} threads={threads} window={window} seats={seats} workers={workers}"
                )?;
                if let Some(before) = back {
                    write!(f, " back={before}")?;
                }
                f.write_str(&behind(key))
            }
            Self::Window { worker, size } => write!(f, "window {worker} size={size}"),
            Self::WorkerLeaving { worker, drained, in_flight } => {
                let by = if *drained { "drain" } else { "worker" };
                write!(f, "leaving {worker} in-flight={in_flight} by={by}")
            }
            Self::WorkerUnable { worker, reason, returned } => {
                write!(f, "unable {worker} returned={} {returned}{}", returned.len(), space_if(!returned.is_empty()))?;
                write!(f, "reason={reason}")
            }
            Self::WorkerAble { worker, seats } => write!(f, "able {worker} seats={seats}"),
            Self::WorkerLeft { worker, discarded, workers } => {
                write!(f, "left {worker} discarded={discarded} workers={workers}")
            }
            Self::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence } => {
                write!(f, "dropped {worker} returned={} {returned}{}", returned.len(), space_if(!returned.is_empty()))?;
                write!(f, "unwanted={unwanted} discarded={discarded} workers={workers} ")?;
                write!(f, "evidence={evidence} reason={reason}")
            }
            Self::Accepted { requests, pool } => write!(f, "accept {requests} pool={pool}"),
            Self::Stale(client, count) => write!(f, "stale {client} count={count}"),
            Self::Dispatched { worker, again, suspect, tickets, requests } => {
                let verb = if *again { "redispatch" } else { "dispatch" };
                write!(f, "{verb} {worker} {tickets} {requests}{}", if *suspect { " suspect" } else { "" })
            }
            Self::Replied { worker, errors, requests } => {
                write!(f, "{} {worker} {requests}", if *errors { "reply-error" } else { "reply" })
            }
            Self::Discarded { worker, requests, late } => {
                f.write_str("discard ")?;
                match worker {
                    Some(worker) => write!(f, "{worker}")?,
                    None => f.write_str("? ?")?,
                }
                write!(f, " late={late}{}{requests}", space_if(!requests.is_empty()))
            }
            Self::Expired(requests) => write!(f, "expire {requests}"),
            Self::Poisoned { request, workers } => write!(f, "poison {request} workers={}", join(workers, ",")),
            Self::Cancelled(requests) => write!(f, "cancel {requests}"),
            Self::Refused { from, reason, unsaid: 0 } => write!(f, "refuse {from} reason={reason}"),
            Self::Refused { from, reason, unsaid } => write!(f, "refuse {from} unsaid={unsaid} reason={reason}"),
            Self::Rejected(client, count) => write!(f, "rejected {client} count={count}"),
            Self::NoWorker(client, count) => write!(f, "no-worker {client} count={count}"),
            Self::Closing(in_flight) => write!(f, "closing in-flight={in_flight}"),
            Self::Goodbye(client) => write!(f, "goodbye {client}"),
            Self::Unheard { client, unsent, reason } => {
                write!(f, "unheard {client} unsent={} {unsent}{}", unsent.len(), space_if(!unsent.is_empty()))?;
                write!(f, "reason={reason}")
            }
        }
    }
}

/// Joins names to one word.
pub(crate) fn join(names: &[Label], between: &str) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(between)
}

/// Returns the key after a space.
fn behind(key: &Option<Key>) -> String {
    key.as_ref().map(|key| format!(" {key}")).unwrap_or_default()
}

fn space_if(some: bool) -> &'static str {
    if some { " " } else { "" }
}
