//! The line of an event.

use std::fmt;

use giostra_protocol::name::Label;
use giostra_protocol::{Priority, RequestId};

use super::Event;
use crate::id_ranges::IdRanges;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = !f.alternate();
        match self {
            Self::Accepted { requests, pool, priority } => {
                write!(f, "accept {requests} pool={pool}")?;
                If(*priority != Priority::Normal, format_args!(" priority={priority}")).fmt(f)
            }
            Self::Stale(client, count) => write!(f, "stale {client} count={count}"),
            Self::Dispatched { worker, again, suspect, tickets, requests } => {
                write!(f, "{}dispatch {worker} {}", If(*again, "re"), If(full, format_args!("{tickets} ")))?;
                write!(f, "{}{}", Listed(full, requests), If(full && *suspect, " suspect"))
            }
            Self::Replied { worker, errors: true, requests } => write!(f, "reply-error {worker} {requests}"),
            Self::Replied { worker, requests, .. } => write!(f, "reply {worker} {requests}"),
            Self::Discarded { worker: None, late, .. } => write!(f, "discard ? ? late={late}"),
            Self::Discarded { worker: Some(worker), requests, late } => {
                let requests = If(!full || !requests.is_empty(), AfterSpace(&Some(Listed(full, requests))));
                write!(f, "discard {worker} late={late}{requests}")
            }
            Self::Expired(requests) => write!(f, "expire {}", Listed(full, requests)),
            Self::Poisoned { request, workers } => write!(f, "poison {request} workers={}", join(workers, ",")),
            Self::Cancelled(requests) => write!(f, "cancel {requests}"),
            Self::Refused { from, reason, unsaid } => {
                write!(f, "refuse {from}{} reason={reason}", If(*unsaid > 0, format_args!(" unsaid={unsaid}")))
            }
            Self::Rejected(client, count) => write!(f, "rejected {client} count={count}"),
            Self::NoWorker(client, count) => write!(f, "no-worker {client} count={count}"),
            Self::Closing(in_flight) => write!(f, "closing in-flight={in_flight}"),
            Self::Goodbye(client) => write!(f, "goodbye {client}"),
            Self::Unheard { client, unsent, reason } => {
                write!(f, "unheard {client} unsent={} reason={reason}", Counted(full, unsent))
            }
            _ => self.fmt_peer(f),
        }
    }
}

impl Event {
    /// The line of an event that is about a client or a worker.
    fn fmt_peer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = !f.alternate();
        match self {
            Self::ClientJoined { client, name, clients, key } => {
                write!(f, "client-joined {client} {name}")?;
                write!(f, "{}{}", If(full, format_args!(" clients={clients}")), AfterSpace(key))
            }
            Self::ClientLeft { client, reason, cancelled, unwanted, clients } => {
                write!(f, "client-left {client} cancelled={cancelled} unwanted={unwanted}")?;
                write!(f, "{} reason={reason}", If(full, format_args!(" clients={clients}")))
            }
            Self::WorkerJoined { worker, pool, threads, window, seats, workers, host, back, key } => {
                write!(f, "joined {worker} pool={pool} threads={threads} window={window} seats={seats}")?;
                write!(f, "{}", If(full, format_args!(" workers={workers}")))?;
                write!(f, "{}", If(full && !host.is_empty(), format_args!(" host={host}")))?;
                write!(f, "{}{}", AfterSpace(&back.map(|before| format!("back={before}"))), AfterSpace(key))
            }
            Self::Window { worker, size } => write!(f, "window {worker} size={size}"),
            Self::WorkerLeaving { worker, drained, in_flight } => {
                write!(f, "leaving {worker} in-flight={in_flight} by={}", if *drained { "drain" } else { "worker" })
            }
            Self::WorkerUnable { worker, reason, returned } => {
                write!(f, "unable {worker} returned={} reason={reason}", Counted(full, returned))
            }
            Self::WorkerAble { worker, seats } => write!(f, "able {worker} seats={seats}"),
            Self::WorkerLeft { worker, discarded, workers } => {
                write!(f, "left {worker}{}", If(full, format_args!(" discarded={discarded} workers={workers}")))
            }
            Self::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence } => {
                let counts =
                    format_args!(" unwanted={unwanted} discarded={discarded} workers={workers} evidence={evidence}");
                write!(f, "dropped {worker} returned={}{} reason={reason}", Counted(full, returned), If(full, counts))
            }
            _ => self.fmt_job(f),
        }
    }

    /// The line of an event that is about durable jobs.
    fn fmt_job(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = !f.alternate();
        match self {
            Self::JobSubmitted { job, id, client, pool } => write!(f, "job {job} id={id} by={client} pool={pool}"),
            Self::JobRestored { job, id, requests } => write!(f, "restored {job} id={id} requests={requests}"),
            Self::JobKnown { job, id } => write!(f, "known {job} id={id}"),
            Self::JobSaved { job, first, count, closed } => {
                let requests = (*first..first + count).map(|id| (*job, RequestId(id.into()))).collect::<IdRanges>();
                write!(f, "saved {job} requests={}", Counted(full, &requests))?;
                f.write_str(if *closed { " closed" } else { "" })
            }
            Self::JobLosses { requests, lost } => write!(f, "earlier-losses {} lost={lost}", Listed(full, requests)),
            Self::JobRetries { requests } => write!(f, "retry {}", Listed(full, requests)),
            Self::JobResumed { job, id, requests, again } => {
                write!(f, "resumed {job} id={id} requests={requests} again={again}")
            }
            Self::ResultsStored { requests } => write!(f, "stored {}", Listed(full, requests)),
            Self::JobFinished { job, succeeded, failed } => {
                write!(f, "finished {job} succeeded={succeeded} failed={failed}")
            }
            Self::JobCancelled { job } => write!(f, "cancelled-job {job}"),
            Self::JobDeleted { job } => write!(f, "deleted {job}"),
            Self::StoreFull { reason } => write!(f, "store-full reason={reason}"),
            Self::StoreFailed { reason } => write!(f, "store-failed reason={reason}"),
            _ => unreachable!("no event of a job: {self:?}"),
        }
    }
}

/// A value that is written under a condition.
struct If<T>(bool, T);

/// A value that is written after a space, if there is one.
struct AfterSpace<'a, T>(&'a Option<T>);

/// Requests, or only their number as a field.
struct Listed<'a>(bool, &'a IdRanges);

/// The number of requests, and the requests unless there are none.
struct Counted<'a>(bool, &'a IdRanges);

impl<T: fmt::Display> fmt::Display for If<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 { self.1.fmt(f) } else { Ok(()) }
    }
}

impl<T: fmt::Display> fmt::Display for AfterSpace<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| write!(f, " {value}"))
    }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(full, requests) = self;
        if *full { requests.fmt(f) } else { write!(f, "requests={}", requests.len()) }
    }
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(full, requests) = self;
        write!(f, "{}{}", requests.len(), If(*full && !requests.is_empty(), format_args!(" {requests}")))
    }
}

/// Joins names to one word.
pub(crate) fn join(names: &[Label], between: &str) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(between)
}
