//! The account as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::json;

use super::{Account, ClientAccount, Crossing, JournalAudit};
use crate::report::{Verdict, many, many_of};

/// The maximum number of clients and findings that the text shows.
const MAX_SHOWN: usize = 10;

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([only], []) = (&self.brokers[..], &self.journals[..]) {
            return write!(f, "{}", only.report);
        }
        for broker in &self.brokers {
            let frontend = broker.frontend.as_ref().map(|frontend| format!(", {frontend}")).unwrap_or_default();
            writeln!(f, "{}{frontend}", broker.log)?;
            for line in broker.report.to_string().lines() {
                writeln!(f, "  {line}")?;
            }
        }
        if self.brokers.len() > 1 {
            self.write_clients(f)?;
        }
        for journal in &self.journals {
            write!(f, "{}", Named(journal))?;
        }
        if self.journals.len() > 1 {
            writeln!(f, "all journals: {}", said(&self.journals))?;
        }
        for gap in &self.not_provable {
            writeln!(f, "can't be proved: {gap}")?;
        }
        write!(f, "{}", self.verdict())
    }
}

impl Account {
    fn write_clients(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (brokers, clients) = (self.brokers.len(), many(self.client_count, "client"));
        writeln!(f, "{brokers} brokers, {clients} with requests, {} of them at more than one", self.moved_count)?;
        let moved = self.clients.iter().filter(|client| client.brokers.len() > 1);
        for client in moved.take(MAX_SHOWN) {
            let shared = if client.is_shared { ", a name of several at the same time" } else { "" };
            writeln!(f, "  {}{shared}", client.name)?;
            for served in &client.brokers {
                let connections = many(served.connections, "connection");
                let (accepted, answered) = (served.accepted, served.answered);
                writeln!(f, "    {}  {connections}, {accepted} accepted, {answered} answered", served.log)?;
            }
            for crossing in &client.went_over {
                writeln!(f, "    {crossing}")?;
            }
        }
        match (self.moved_count as usize).saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }

    /// Returns the account as a JSON object. Of one broker and no journal it is that of its report.
    pub fn json(&self) -> serde_json::Value {
        if let ([only], []) = (&self.brokers[..], &self.journals[..]) {
            return only.report.json();
        }
        let broker = |broker: &super::BrokerAudit| {
            let mut object = broker.report.json();
            object["log"] = broker.log.clone().into();
            object["frontend"] = broker.frontend.clone().into();
            object
        };
        let journal = |journal: &JournalAudit| {
            let mut object = json!(journal);
            object["proved"] = (journal.verdict() == Verdict::Proved).into();
            object["verdict"] = journal.verdict().to_string().into();
            object
        };
        json!({
            "proved": self.verdict() == Verdict::Proved,
            "verdict": self.verdict().to_string(),
            "brokers": self.brokers.iter().map(broker).collect::<Vec<_>>(),
            "client_count": self.client_count,
            "moved_count": self.moved_count,
            "clients": self.clients.iter().map(ClientAccount::json).collect::<Vec<_>>(),
            "journals": self.journals.iter().map(journal).collect::<Vec<_>>(),
            "not_provable": self.not_provable,
        })
    }
}

impl ClientAccount {
    fn json(&self) -> serde_json::Value {
        json!({"name": self.name, "shared": self.is_shared, "brokers": self.brokers, "went_over": self.went_over})
    }
}

impl Crossing {
    /// Nothing that went over between the same brokers.
    fn none(Self { from, to, .. }: &Self) -> Self {
        Self { from: from.clone(), to: to.clone(), requests: 0, dispatched_at_both: 0, answered_at_both: 0 }
    }
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, requests, dispatched_at_both, answered_at_both } = self;
        write!(f, "{requests} went over from {from} to {to}")?;
        if *requests > 0 {
            write!(f, ", {dispatched_at_both} of these were dispatched at both")?;
        }
        if *answered_at_both > 0 {
            write!(f, ", {answered_at_both} answered at both")?;
        }
        Ok(())
    }
}

/// What a journal is shown as: its file, and what it says.
struct Named<'a>(&'a JournalAudit);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(journal) = self;
        writeln!(f, "{}: {}", journal.file.display(), said(std::slice::from_ref(journal)))?;
        for finding in journal.findings.iter().take(MAX_SHOWN) {
            writeln!(f, "  {}", finding.what)?;
        }
        match journal.finding_count.saturating_sub(MAX_SHOWN as u64) {
            0 => {}
            more => writeln!(f, "  and {more} more")?,
        }
        journal.not_provable.iter().take(MAX_SHOWN).try_for_each(|gap| writeln!(f, "  can't be proved: {gap}"))
    }
}

/// What journals say together.
fn said(journals: &[JournalAudit]) -> String {
    let sum = |count: fn(&JournalAudit) -> u64| journals.iter().map(count).sum::<u64>();
    let (requests, findings) = (sum(|journal| journal.requests), sum(|journal| journal.finding_count));
    let clients: BTreeSet<_> = journals.iter().map(|journal| &journal.client).collect();
    let is_proved = journals.iter().all(|journal| journal.verdict() == Verdict::Proved);
    let mut said = format!("{} of {}: ", many(requests, "request"), many(clients.len() as u64, "client"));
    said += &match findings {
        0 if is_proved => "each answered once".into(),
        0 => format!("{} answered, not proved that each was once", sum(|journal| journal.answered)),
        findings => format!("refuted, {}", many_of(findings, "contradiction", "contradictions")),
    };
    match sum(|journal| journal.errors) {
        0 => {}
        errors => said += &format!(", {errors} with an error"),
    }
    let mut all: BTreeMap<(&str, &str), Crossing> = BTreeMap::new();
    for crossing in journals.iter().flat_map(|journal| &journal.went_over) {
        let sum = all.entry((&crossing.from, &crossing.to)).or_insert_with(|| Crossing::none(crossing));
        sum.requests += crossing.requests;
        sum.dispatched_at_both += crossing.dispatched_at_both;
        sum.answered_at_both += crossing.answered_at_both;
    }
    all.values().for_each(|crossing| said += &format!("; {crossing}"));
    said
}
