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
        let matches = Self::matches(&journal, brokers);
        let last = matches.len().saturating_sub(1);
        let mut matched: Vec<At<'_>> = Vec::new();
        for (place, (sent, at)) in matches.into_iter().enumerate() {
            let Some((broker, connection)) = at else {
                // A broker that took nothing and answered nothing has nothing to say.
                if !sent.answered.is_empty() {
                    let Sent { broker, number, .. } = sent;
                    gaps.push(format!("no log has the client's connection c{number} to {broker}: is one missing?"));
                }
                continue;
            };
            matched.push((broker, connection));
            let mut missing = JournalFindings::default();
            // A journal that was cut off may say less than was sent last.
            let is_cut_off = place == last && journal.end.is_none();
            self.compare(sent, (broker, connection), (!is_cut_off).then_some(&journal.requests), &mut missing);
            if self.brokers[broker].report.gaps.is_empty() && !brokers[broker].is_incomplete {
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

    /// Returns the connections of a journal over which something was sent, each with that in the logs.
    /// Those come first of which the logs have every reply: another one might take their place.
    fn matches<'a, 'j>(journal: &'j Journal, brokers: &'a [Connections]) -> Vec<(&'j Sent, Option<At<'a>>)> {
        let sent = journal.connections.iter().filter(|sent| !sent.sent.is_empty());
        let mut matches: Vec<_> = sent.map(|sent| (sent, None)).collect();
        let mut taken = Vec::new();
        for is_sure in [true, false] {
            for (sent, at) in matches.iter_mut().filter(|(_, at)| at.is_none()) {
                let found = Self::find(sent, journal, brokers, &taken);
                let has_all =
                    |here: &Connection| !sent.answered.is_empty() && sent.answered.without(&here.answered).is_empty();
                if let Some(found) = found.filter(|(_, here)| !is_sure || has_all(here)) {
                    taken.push(found);
                    *at = Some(found);
                }
            }
        }
        matches
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
            let is_named = here.number == sent.number && *here.name == *journal.client;
            let is_taken = || taken.iter().any(|(_, taken)| std::ptr::eq(*taken, here));
            let is_there = !is_known || *here.frontend == *sent.broker;
            // Replies tell more than what was accepted.
            let is_sure = is_known && !sent.answered.is_empty();
            is_named && is_there && !is_taken() && (is_sure || fits(sent, here, &journal.requests))
        };
        let all = brokers.iter().enumerate();
        let all = all.flat_map(|(broker, connections)| connections.list.iter().map(move |here| (broker, here)));
        all.filter(|(_, here)| is_it(here))
            .min_by_key(|(_, here)| (sent.answered.without(&here.answered).len(), here.joined.clone()))
    }

    /// Compares what the client says of a connection with what the broker's log says of it. Without
    /// `known`, the requests of the journal, more may have been sent.
    fn compare(
        &self,
        sent: &Sent,
        (broker, connection): At<'_>,
        known: Option<&IdSet>,
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
        let unsent = known.map(|known| unsent(sent, connection, known)).unwrap_or_default();
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
