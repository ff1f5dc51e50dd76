//! Holds a client's journal against the logs: each reply that the client has is in the log of the
//! broker over which it came, and the broker accepted nothing that the client had not sent.

use super::clients::{At, crossings};
use super::{Account, JournalAudit};
use crate::connections::{Connection, Connections};
use crate::id_set::IdSet;
use crate::journal::{Journal, JournalFindings, KEPT, Sent};

impl Account {
    /// Adds a journal, and what it and the logs contradict each other in.
    pub(super) fn add_journal(&mut self, mut journal: Journal, brokers: &[Connections]) {
        let mut findings = std::mem::take(&mut journal.findings);
        let mut gaps: Vec<_> = gap(&journal).into_iter().collect();
        let mut matched: Vec<At<'_>> = Vec::new();
        for sent in journal.connections.iter().filter(|sent| !sent.sent.is_empty()) {
            let Some((broker, connection)) = Self::find(sent, &journal, brokers, &matched) else {
                let Sent { broker, number, .. } = sent;
                gaps.push(format!("no log has the client's connection c{number} to {broker}: is one missing?"));
                continue;
            };
            matched.push((broker, connection));
            let mut missing = JournalFindings::default();
            self.compare(sent, broker, connection, &journal.requests, &mut missing);
            if self.brokers[broker].report.gaps.is_empty() {
                findings.count += missing.count;
                findings.first.extend(missing.first);
                findings.first.truncate(KEPT);
            } else if let Some(first) = missing.first.first() {
                // It may be in the lines that are missing.
                gaps.push(first.what.clone());
            }
        }
        self.journals.push(JournalAudit {
            connections: journal.connections.iter().filter(|sent| !sent.sent.is_empty()).count() as u64,
            requests: journal.requests.len(),
            answered: journal.answered.len(),
            errors: journal.errors,
            went_over: crossings(&self.brokers, &matched),
            finding_count: findings.count,
            findings: findings.first,
            not_provable: gaps,
            file: journal.path,
            client: journal.client,
        });
    }

    /// Finds a connection of the client in the logs: by its name, the connection's number and the
    /// broker's endpoint.
    ///
    /// A broker that is started again counts connections anew: of several, it is one that has the replies,
    /// and the earliest of them. Clients may know a broker by another endpoint than its own: where none has
    /// that one, it is a connection that fits.
    fn find<'a>(sent: &Sent, journal: &Journal, brokers: &'a [Connections], taken: &[At<'_>]) -> Option<At<'a>> {
        let is_known = brokers.iter().any(|broker| broker.frontends.contains(&*sent.broker));
        let is_it = |here: &Connection| {
            let is_taken = taken.iter().any(|(_, taken)| std::ptr::eq(*taken, here));
            let is_named = *here.name == *journal.client && here.number == sent.number && !is_taken;
            is_named && if is_known { *here.frontend == *sent.broker } else { fits(sent, here, &journal.requests) }
        };
        let all = brokers.iter().enumerate();
        let all = all.flat_map(|(broker, connections)| connections.list.iter().map(move |here| (broker, here)));
        all.filter(|(_, here)| is_it(here))
            .min_by_key(|(_, here)| (sent.answered.without(&here.answered).len(), here.joined.clone()))
    }

    /// Compares what the client says of a connection with what the broker's log says of it.
    fn compare(
        &self,
        sent: &Sent,
        broker: usize,
        connection: &Connection,
        known: &IdSet,
        findings: &mut JournalFindings,
    ) {
        let (log, c) = (&self.brokers[broker].log, connection.number);
        let unanswered = sent.answered.without(&connection.answered);
        let unknown = unanswered.without(&connection.accepted);
        findings.add_each(&unknown, |id| {
            format!("request {id} has a reply, but {log} does not say that c{c}#{id} was accepted")
        });
        findings.add_each(&unanswered.without(&unknown), |id| {
            format!("request {id} has a reply, but {log} does not say that c{c}#{id} was answered")
        });
        let unsent = unsent(sent, connection, known);
        findings.add_each(&unsent, |id| {
            format!("request {id} was not sent to {}, but {log} says that c{c}#{id} was accepted", sent.broker)
        });
    }
}

/// Whether a connection in a log can be the one over which this was sent: it has nothing else.
fn fits(sent: &Sent, connection: &Connection, known: &IdSet) -> bool {
    sent.answered.without(&connection.accepted).is_empty() && unsent(sent, connection, known).is_empty()
}

/// The requests that a broker accepted over a connection over which they were not sent.
fn unsent(sent: &Sent, connection: &Connection, known: &IdSet) -> IdSet {
    let mut unsent = connection.accepted.without(&sent.sent);
    // The journal may be about a part of the client's life.
    if let (Some(first), Some(last)) = (known.iter().next(), known.last()) {
        unsent.keep(first, last);
    }
    unsent
}

/// What is missing in the journal itself.
fn gap(journal: &Journal) -> Option<String> {
    let open = journal.open().len();
    match journal.end {
        _ if journal.is_too_large => Some("it has more requests than are kept".into()),
        None => Some(format!("it has no end: its client was killed, or still runs; {open} requests are open")),
        Some(end) if end.interrupted => Some(format!("its client ended early, when {open} requests were open")),
        Some(_) => None,
    }
}
