//! The line of an event.

use std::fmt;

use giostra_protocol::name::Label;

use super::Event;
use crate::id_ranges::IdRanges;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = !f.alternate();
        match self {
            Self::ClientJoined { client, name, clients, key } => {
                let clients = format_args!(" clients={clients}");
                write!(f, "client-joined {client} {name}{}{}", If(full, clients), AfterSpace(key))
            }
            Self::ClientLeft { client, reason, cancelled, unwanted, clients } => {
                let clients = format_args!(" clients={clients}");
                write!(f, "client-left {client} cancelled={cancelled} unwanted={unwanted}{}", If(full, clients))?;
                write!(f, " reason={reason}")
            }
            Self::WorkerJoined { worker, pool, threads, window, seats, workers, back, key } => {
                write!(f, "joined {worker} pool={pool} threads={threads} window={window} seats={seats}")?;
                write!(f, "{}", If(full, format_args!(" workers={workers}")))?;
                let back = back.map(|before| format!("back={before}"));
                write!(f, "{}{}", AfterSpace(&back), AfterSpace(key))
            }
            Self::Window { worker, size } => write!(f, "window {worker} size={size}"),
            Self::WorkerLeaving { worker, drained, in_flight } => {
                let by = if *drained { "drain" } else { "worker" };
                write!(f, "leaving {worker} in-flight={in_flight} by={by}")
            }
            Self::WorkerUnable { worker, reason, returned } => {
                write!(f, "unable {worker} returned={} reason={reason}", Counted(full, returned))
            }
            Self::WorkerAble { worker, seats } => write!(f, "able {worker} seats={seats}"),
            Self::WorkerLeft { worker, discarded, workers } => {
                write!(f, "left {worker}{}", If(full, format_args!(" discarded={discarded} workers={workers}")))
            }
            Self::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence } => {
                let counts = format_args!(" unwanted={unwanted} discarded={discarded} workers={workers}");
                write!(f, "dropped {worker} returned={}{}", Counted(full, returned), If(full, counts))?;
                write!(f, "{} reason={reason}", If(full, format_args!(" evidence={evidence}")))
            }
            Self::Accepted { requests, pool } => write!(f, "accept {requests} pool={pool}"),
            Self::Stale(client, count) => write!(f, "stale {client} count={count}"),
            Self::Dispatched { worker, again, suspect, tickets, requests } => {
                let verb = if *again { "redispatch" } else { "dispatch" };
                write!(f, "{verb} {worker} {}", If(full, format_args!("{tickets} ")))?;
                write!(f, "{}{}", Listed(full, requests), If(full && *suspect, " suspect"))
            }
            Self::Replied { worker, errors, requests } => {
                write!(f, "{} {worker} {requests}", if *errors { "reply-error" } else { "reply" })
            }
            Self::Discarded { worker: None, late, .. } => write!(f, "discard ? ? late={late}"),
            Self::Discarded { worker: Some(worker), requests, late } => {
                let requests = If(!full || !requests.is_empty(), AfterSpace(&Some(Listed(full, requests))));
                write!(f, "discard {worker} late={late}{requests}")
            }
            Self::Expired(requests) => write!(f, "expire {}", Listed(full, requests)),
            Self::Poisoned { request, workers } => write!(f, "poison {request} workers={}", join(workers, ",")),
            Self::Cancelled(requests) => write!(f, "cancel {requests}"),
            Self::Refused { from, reason, unsaid: 0 } => write!(f, "refuse {from} reason={reason}"),
            Self::Refused { from, reason, unsaid } => write!(f, "refuse {from} unsaid={unsaid} reason={reason}"),
            Self::Rejected(client, count) => write!(f, "rejected {client} count={count}"),
            Self::NoWorker(client, count) => write!(f, "no-worker {client} count={count}"),
            Self::Closing(in_flight) => write!(f, "closing in-flight={in_flight}"),
            Self::Goodbye(client) => write!(f, "goodbye {client}"),
            Self::Unheard { client, unsent, reason } => {
                write!(f, "unheard {client} unsent={} reason={reason}", Counted(full, unsent))
            }
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
