//! What the broker did, for its log: the evidence from which its promises are proved.
//!
//! `docs/log.md` describes the lines for whoever reads them by program; they are as settled as the
//! protocol.

use std::fmt;
use std::sync::Arc;

use giostra_protocol::name::Label;
use log::Level;

use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, WorkerNumber};
use crate::peer_info::Key;

/// A worker as the log names it: `worker-1 w1`. The name is a label, the number identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLabel {
    /// The name it gave.
    pub name: Label,
    /// The number of its registration.
    pub number: WorkerNumber,
}

impl fmt::Display for WorkerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.number)
    }
}

/// Why a worker is no longer there.
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
    /// When it registered a second time: it has forgotten what it was handed.
    RegisteredAgain,
    /// When it sent something that is no message.
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

/// Whether the loss of a worker is held against the requests that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// When none of them can have ended it.
    No,
    /// When it is, until the same process registers again.
    UnlessBack,
    /// When it is.
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

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// When a client said hello.
    ClientJoined {
        /// Which.
        client: ClientNumber,
        /// The name it gave.
        name: Arc<str>,
        /// The clients that are there now, itself included.
        clients: usize,
        /// Its key, if it has one.
        key: Option<Key>,
    },
    /// When a client's connection ended.
    ClientLeft {
        /// Which.
        client: ClientNumber,
        /// Why.
        reason: &'static str,
        /// Its requests that were cancelled before they were dispatched.
        cancelled: u64,
        /// Its requests whose replies will be discarded.
        unwanted: u64,
        /// The clients that are still there.
        clients: usize,
    },
    /// When a worker registered.
    WorkerJoined {
        /// Which.
        worker: WorkerLabel,
        /// Its pool.
        pool: Arc<str>,
        /// How many requests it computes at once.
        threads: u32,
        /// The most requests that it is ever handed at once.
        window: usize,
        /// The seats in its ring, its own included.
        seats: usize,
        /// The workers that are registered now, itself included.
        workers: usize,
        /// The last registration of the same process, if requests it held are still open or it is
        /// still there.
        back: Option<WorkerNumber>,
        /// Its key, if it has one.
        key: Option<Key>,
    },
    /// When a seat's window is full and another size than was last said, where that decides who is
    /// dealt to.
    Window {
        /// Whose.
        worker: WorkerLabel,
        /// The most requests that it is handed at once, now.
        size: usize,
    },
    /// When a worker gave up its seat to finish what it has.
    WorkerLeaving {
        /// Which.
        worker: WorkerLabel,
        /// Whether it was told to, or wanted to itself.
        drained: bool,
        /// What it has to finish.
        in_flight: usize,
    },
    /// When a worker could compute nothing for now: it lost its seat, if it had one.
    WorkerUnable {
        /// Which.
        worker: WorkerLabel,
        /// The requests that it handed back, which go to the next seats.
        returned: IdRanges,
        /// Why, in its own words.
        reason: String,
    },
    /// When a worker that was unable took a seat again.
    WorkerAble {
        /// Which.
        worker: WorkerLabel,
        /// The seats in its ring, its own included.
        seats: usize,
    },
    /// When a leaving worker owed nothing more.
    WorkerLeft {
        /// Which.
        worker: WorkerLabel,
        /// Its results that were discarded.
        discarded: u64,
        /// The workers that are still registered.
        workers: usize,
    },
    /// When a worker was lost.
    WorkerDropped {
        /// Which.
        worker: WorkerLabel,
        /// Why.
        reason: DropReason,
        /// Its unanswered requests, which go to the next seats.
        returned: IdRanges,
        /// What it still had that nobody waits for.
        unwanted: u64,
        /// Its results that were discarded.
        discarded: u64,
        /// The workers that are still registered.
        workers: usize,
        /// Whether that is held against them.
        evidence: Evidence,
    },
    /// When requests were accepted.
    Accepted {
        /// Which.
        requests: IdRanges,
        /// For which pool.
        pool: Arc<str>,
    },
    /// When so many requests came that were meant for an earlier connection. They come again.
    Stale(ClientNumber, u64),
    /// When requests were handed to a worker.
    Dispatched {
        /// To whom.
        worker: WorkerLabel,
        /// Whether other workers were lost while they held them, or handed them back.
        again: bool,
        /// Whether the worker has left a ping unanswered for an interval.
        suspect: bool,
        /// The tickets, in the order of the requests.
        tickets: IdRanges,
        /// Which.
        requests: IdRanges,
    },
    /// When a worker replied to requests, and the replies went to their clients.
    Replied {
        /// Who.
        worker: WorkerLabel,
        /// Whether with errors.
        errors: bool,
        /// To which.
        requests: IdRanges,
    },
    /// When replies came that nobody waited for any more.
    Discarded {
        /// From which worker, if it is registered.
        worker: Option<WorkerLabel>,
        /// The requests, if they are known: cancelled, expired, or their client has left.
        requests: IdRanges,
        /// How many had tickets that are not this worker's: it was dropped meanwhile, or the broker
        /// was restarted.
        late: u64,
    },
    /// When requests reached their time limit.
    Expired(IdRanges),
    /// When a request had been with too many workers that were lost.
    Poisoned {
        /// Which.
        request: IdRanges,
        /// The workers' names.
        workers: Vec<Label>,
    },
    /// When a client cancelled requests.
    Cancelled(IdRanges),
    /// When a message was not accepted.
    Refused {
        /// From whom, as far as known.
        from: String,
        /// Why.
        reason: String,
        /// Messages that were not accepted and of which nothing was said, since the last such line.
        unsaid: u64,
    },
    /// When so many requests of a client were turned away for want of room, and it had not been
    /// told before.
    Rejected(ClientNumber, u64),
    /// When so many requests of a client were not to wait for a worker, and there was none.
    NoWorker(ClientNumber, u64),
    /// When the broker was asked to finish: so many requests are in flight.
    Closing(u64),
    /// When a client of a closing broker has read all its replies.
    Goodbye(ClientNumber),
    /// When a client of a closing broker has not said that it has.
    Unheard {
        /// Which.
        client: ClientNumber,
        /// Those of its requests whose replies were never sent.
        unsent: IdRanges,
        /// Why it is not waited for.
        reason: &'static str,
    },
}

impl Event {
    /// How much it matters to whoever watches: what happens to single requests is only debugging.
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

    /// Whether it is about more than a request going its usual way.
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

    /// The line without the requests' names, and without what is there to prove that no line is
    /// missing: for people.
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

    /// The number of the worker that it is about, and how many requests, if it is about any.
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

/// NameHistory in one word.
pub(crate) fn join(names: &[Label], between: &str) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(between)
}

/// What there is, after a space.
fn behind(key: &Option<Key>) -> String {
    key.as_ref().map(|key| format!(" {key}")).unwrap_or_default()
}

fn space_if(some: bool) -> &'static str {
    if some { " " } else { "" }
}
