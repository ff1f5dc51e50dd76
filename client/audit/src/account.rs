//! The account of several brokers, and of what their clients say: each log is proved by itself; then
//! the logs are held against each other, and against the clients' journals.
//!
//! A client keeps the numbers of its requests when it goes on to another broker. So a request is
//! recognised at both by its client's name and its number, as long as the name is that of one client.

mod check;
mod clients;
mod text;

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::auditor::Auditor;
use crate::connections::Connections;
use crate::files::{self, BrokerLog, Error};
use crate::journal::{Finding, Journal};
use crate::line::{Line, text_of};
use crate::report::{Report, Verdict};

/// The maximum number of clients that are listed. Further ones are only counted.
const MAX_CLIENTS: usize = 100;

/// The audit of one broker's log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerAudit {
    /// The folder of its log; the file, if its name is not that of a log.
    pub log: String,
    /// Its endpoint for clients, in its last life. `None` if it is not in the log, or there are neither
    /// other brokers nor journals.
    pub frontend: Option<String>,
    /// The report.
    pub report: Report,
}

/// What one broker did for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Served {
    /// The broker, by its log.
    pub log: String,
    /// The number of the client's connections over which requests were accepted.
    pub connections: u64,
    /// The number of requests that it accepted, each counted once.
    pub accepted: u64,
    /// The number of those that it dispatched.
    pub dispatched: u64,
    /// The number of those to which it sent a reply.
    pub answered: u64,
}

/// The requests with which clients went over from one broker to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Crossing {
    /// The broker that they were sent to first, by its log.
    pub from: String,
    /// The broker that they were sent to then.
    pub to: String,
    /// The number of requests that both accepted.
    pub requests: u64,
    /// The number of those that both dispatched: what of them was computed may have been computed twice.
    pub dispatched_at_both: u64,
    /// The number of those to which both sent a reply. The first was lost on the way.
    pub answered_at_both: u64,
}

/// The account of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClientAccount {
    /// Its name.
    pub name: String,
    /// Whether several clients had the name at a time: their requests can't be told apart.
    pub is_shared: bool,
    /// The brokers that accepted requests of it.
    pub brokers: Vec<Served>,
    /// How it went over from one to another; empty if the name is shared.
    pub went_over: Vec<Crossing>,
}

/// What a client's journal proves, or contradicts, together with the logs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JournalAudit {
    /// The journal.
    #[serde(serialize_with = "serialize_path")]
    pub file: PathBuf,
    /// The client's name.
    pub client: String,
    /// The number of its connections over which requests were sent.
    pub connections: u64,
    /// The number of its requests.
    pub requests: u64,
    /// The number of those that were answered.
    pub answered: u64,
    /// The number of answers that were errors.
    pub errors: u64,
    /// How it went over from one broker to another.
    pub went_over: Vec<Crossing>,
    /// The number of contradictions.
    pub finding_count: u64,
    /// The first of them, at most 100.
    pub findings: Vec<Finding>,
    /// What is missing of the evidence.
    pub not_provable: Vec<String>,
}

impl JournalAudit {
    /// Returns the verdict on this client's requests: whether each was answered once.
    pub fn verdict(&self) -> Verdict {
        match (self.finding_count, self.not_provable.is_empty()) {
            (0, true) => Verdict::Proved,
            (0, false) => Verdict::NotProvable,
            _ => Verdict::Refuted,
        }
    }
}

/// The account of one or several brokers and of their clients. Displays as text.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Account {
    /// The brokers, in the order in which they began.
    pub brokers: Vec<BrokerAudit>,
    /// The number of clients of which requests were accepted, by their names.
    pub client_count: u64,
    /// The number of those that were at more than one broker.
    pub moved_count: u64,
    /// The clients, at most 100: first those that were at more than one broker, with most requests
    /// first.
    pub clients: Vec<ClientAccount>,
    /// The journals, as they were given.
    pub journals: Vec<JournalAudit>,
    /// What is missing of the evidence, beyond what the reports say.
    pub not_provable: Vec<String>,
}

impl Account {
    /// Returns the verdict: all is proved only if each log is, and each journal.
    pub fn verdict(&self) -> Verdict {
        let logs = self.brokers.iter().map(|broker| broker.report.verdict());
        let verdicts: Vec<_> = logs.chain(self.journals.iter().map(JournalAudit::verdict)).collect();
        if verdicts.contains(&Verdict::Refuted) {
            Verdict::Refuted
        } else if self.not_provable.is_empty() && verdicts.iter().all(|&verdict| verdict == Verdict::Proved) {
            Verdict::Proved
        } else {
            Verdict::NotProvable
        }
    }

    /// Returns whether all is proved but lines that were rotated away: see [`Report::proved_in_part`].
    pub fn proved_in_part(&self) -> bool {
        self.not_provable.is_empty()
            && self
                .brokers
                .iter()
                .all(|broker| broker.report.verdict() == Verdict::Proved || broker.report.proved_in_part())
            && self.journals.iter().all(|journal| journal.verdict() == Verdict::Proved)
    }
}

/// Audits the logs of one or several brokers in these files and folders, each by itself, and what
/// their clients say in these journals (`giostra random --journal`).
///
/// Which files are one broker's, their names and their first lines say. Lives of a broker that listened
/// at the same endpoints one after the other are one log, wherever their files are. Of one broker, the
/// report is that of [`audit`](crate::audit).
///
/// # Errors
///
/// Those of [`audit`](crate::audit); if it can't be told of which broker a file is; if a journal can't
/// be read, or is none.
pub fn account(logs: &[PathBuf], journals: &[PathBuf]) -> Result<Account, Error> {
    let journals = journals.iter().map(|path| Journal::read(path)).collect::<Result<Vec<_>, _>>()?;
    let logs = files::by_broker(logs)?;
    let is_needed = logs.len() > 1 || !journals.is_empty();
    let (mut account, mut connections, mut starts) = (Account::default(), Vec::new(), HashSet::new());
    for log in logs {
        let (broker, asked, own) = read(log, is_needed)?;
        if own.iter().any(|start| starts.contains(start)) {
            account.not_provable.push(format!("a broker's life is in {} and in another log, too", broker.log));
        }
        starts.extend(own);
        account.brokers.push(broker);
        connections.push(asked);
    }
    if is_needed {
        account.add_clients(&connections);
        for journal in journals {
            account.add_journal(journal, &connections);
        }
    }
    Ok(account)
}

/// Audits one broker's log. Returns the first lines of its lives, too.
fn read(log: BrokerLog, is_needed: bool) -> Result<(BrokerAudit, Connections, Vec<String>), Error> {
    let mut connections = Connections::default();
    let (auditor, sources): (Auditor, _) = crate::read(log.sources, |bytes, whole| {
        if is_needed && let Some(line) = Line::parse(&text_of(bytes)).filter(|_| whole) {
            connections.handle_line(&line);
        }
    })?;
    let starts = auditor.starts();
    let report = auditor.finish(&sources);
    let frontend = Some(connections.frontend.to_string()).filter(|frontend| !frontend.is_empty());
    Ok((BrokerAudit { log: log.name, frontend, report }, connections, starts))
}

/// A path may have bytes that are no text.
fn serialize_path<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
