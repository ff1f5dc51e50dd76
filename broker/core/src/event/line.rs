//! The line of an event.

use std::fmt;

use giostra_protocol::name::Label;

use super::Event;
use crate::id_ranges::IdRanges;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientJoined { client, name, clients, key } => {
                write!(f, "client-joined {client} {name}")?;
                for_audit(f, format_args!(" clients={clients}"))?;
                after_space(f, key)
            }
            Self::ClientLeft { client, reason, cancelled, unwanted, clients } => {
                write!(f, "client-left {client} cancelled={cancelled} unwanted={unwanted}")?;
                for_audit(f, format_args!(" clients={clients}"))?;
                write!(f, " reason={reason}")
            }
            Self::WorkerJoined { worker, pool, threads, window, seats, workers, back, key } => {
                write!(f, "joined {worker} pool={pool} threads={threads} window={window} seats={seats}")?;
                for_audit(f, format_args!(" workers={workers}"))?;
                after_space(f, &back.map(|before| format!("back={before}")))?;
                after_space(f, key)
            }
            Self::Window { worker, size } => write!(f, "window {worker} size={size}"),
            Self::WorkerLeaving { worker, drained, in_flight } => {
                let by = if *drained { "drain" } else { "worker" };
                write!(f, "leaving {worker} in-flight={in_flight} by={by}")
            }
            Self::WorkerUnable { worker, reason, returned } => {
                write!(f, "unable {worker} ")?;
                counted(f, "returned", returned)?;
                write!(f, "reason={reason}")
            }
            Self::WorkerAble { worker, seats } => write!(f, "able {worker} seats={seats}"),
            Self::WorkerLeft { worker, discarded, workers } => {
                write!(f, "left {worker}")?;
                for_audit(f, format_args!(" discarded={discarded} workers={workers}"))
            }
            Self::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence } => {
                write!(f, "dropped {worker} ")?;
                counted(f, "returned", returned)?;
                let counts = format_args!("unwanted={unwanted} discarded={discarded} workers={workers} ");
                for_audit(f, format_args!("{counts}evidence={evidence} "))?;
                write!(f, "reason={reason}")
            }
            Self::Accepted { requests, pool } => write!(f, "accept {requests} pool={pool}"),
            Self::Stale(client, count) => write!(f, "stale {client} count={count}"),
            Self::Dispatched { worker, again, suspect, tickets, requests } => {
                write!(f, "{} {worker} ", if *again { "redispatch" } else { "dispatch" })?;
                for_audit(f, format_args!("{tickets} "))?;
                listed(f, requests)?;
                for_audit(f, format_args!("{}", if *suspect { " suspect" } else { "" }))
            }
            Self::Replied { worker, errors, requests } => {
                write!(f, "{} {worker} {requests}", if *errors { "reply-error" } else { "reply" })
            }
            Self::Discarded { worker: None, late, .. } => write!(f, "discard ? ? late={late}"),
            Self::Discarded { worker: Some(worker), requests, late } => {
                write!(
                    f,
                    "discard {worker} late={late}{}",
                    if requests.is_empty() && !f.alternate() { "" } else { " " }
                )?;
                listed(f, requests)
            }
            Self::Expired(requests) => {
                f.write_str("expire ")?;
                listed(f, requests)
            }
            Self::Poisoned { request, workers } => write!(f, "poison {request} workers={}", join(workers, ",")),
            Self::Cancelled(requests) => write!(f, "cancel {requests}"),
            Self::Refused { from, reason, unsaid: 0 } => write!(f, "refuse {from} reason={reason}"),
            Self::Refused { from, reason, unsaid } => write!(f, "refuse {from} unsaid={unsaid} reason={reason}"),
            Self::Rejected(client, count) => write!(f, "rejected {client} count={count}"),
            Self::NoWorker(client, count) => write!(f, "no-worker {client} count={count}"),
            Self::Closing(in_flight) => write!(f, "closing in-flight={in_flight}"),
            Self::Goodbye(client) => write!(f, "goodbye {client}"),
            Self::Unheard { client, unsent, reason } => {
                write!(f, "unheard {client} ")?;
                counted(f, "unsent", unsent)?;
                write!(f, "reason={reason}")
            }
        }
    }
}

/// Writes fields that only the audit needs.
fn for_audit(f: &mut fmt::Formatter<'_>, fields: fmt::Arguments<'_>) -> fmt::Result {
    if f.alternate() { Ok(()) } else { f.write_fmt(fields) }
}

/// Writes requests, or only their number.
fn listed(f: &mut fmt::Formatter<'_>, requests: &IdRanges) -> fmt::Result {
    if f.alternate() { write!(f, "requests={}", requests.len()) } else { write!(f, "{requests}") }
}

/// Writes the number of requests, the requests if there are any, and a space.
fn counted(f: &mut fmt::Formatter<'_>, name: &str, requests: &IdRanges) -> fmt::Result {
    write!(f, "{name}={} ", requests.len())?;
    if requests.is_empty() { Ok(()) } else { for_audit(f, format_args!("{requests} ")) }
}

/// Writes an optional field.
fn after_space(f: &mut fmt::Formatter<'_>, field: &Option<impl fmt::Display>) -> fmt::Result {
    field.as_ref().map_or(Ok(()), |field| write!(f, " {field}"))
}

/// Joins names to one word.
pub(crate) fn join(names: &[Label], between: &str) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(between)
}
