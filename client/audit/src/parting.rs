//! The end of a broker: that each client that it had answered has said that it read everything, or
//! that the log says which has not.

use std::collections::BTreeSet;

use super::findings::{Promise, Spot};
use super::life::Life;
use super::requests::written;
use super::runs::Runs;

/// Why a client leaves that the broker says goodbye to.
pub(super) const CLOSES: &str = "the broker closes";

/// The clients of a broker that closes.
#[derive(Debug, Default)]
pub(super) struct Parting {
    /// Those that were said goodbye to, and have not been heard of since.
    waited_for: BTreeSet<u64>,
    /// Those that still had something in flight when the broker gave them up.
    given_up: BTreeSet<u64>,
}

impl Life {
    /// A client leaves because it has been sent everything.
    pub(super) fn parts(&mut self, client: u64, answered: bool, spot: &mut Spot<'_>) {
        self.parting.waited_for.insert(client);
        if !answered {
            self.findings.add(spot, Promise::Leaving, || format!("c{client} is waited for, but was never answered"));
        }
    }

    /// A client has read everything.
    pub(super) fn goodbye(&mut self, client: u64, spot: &mut Spot<'_>) {
        if !self.parting.waited_for.remove(&client) {
            self.findings
                .add(spot, Promise::Leaving, || format!("c{client} says goodbye, but was not said goodbye to"));
        }
    }

    /// A client is waited for no longer. The replies to these requests were never sent.
    pub(super) fn unheard(&mut self, client: u64, unsent: u64, requests: &Runs<'_>, spot: &mut Spot<'_>) {
        self.counts.undelivered += requests.count();
        let known = self.clients.get(&client).is_some_and(|known| known.answered);
        if !(self.parting.waited_for.remove(&client) || known && self.parting.given_up.insert(client)) {
            self.findings.add(spot, Promise::Leaving, || format!("c{client} is given up, but is owed no reply"));
        }
        if requests.count() != unsent {
            self.findings
                .add(spot, Promise::Requests, || format!("{} requests are named, not {unsent}", requests.count()));
        }
        if let Some(open) = requests.each().find(|&key| self.state(key).is_some()) {
            self.findings.add(spot, Promise::Requests, || {
                format!("the reply to {} was never sent, but there was none: it is open", written(open))
            });
        }
    }

    /// The broker has stopped: it has waited for each client that it had answered, or said for
    /// which it has not.
    pub(super) fn has_heard_of_all(&mut self, spot: &mut Spot<'_>) {
        let answered = self.clients.iter().filter(|(_, client)| client.answered).map(|(&number, _)| number);
        let given_up = &self.parting.given_up;
        let here = answered.filter(|number| !given_up.contains(number)).min();
        if let Some(client) = self.parting.waited_for.first().copied().or(here) {
            self.findings.add(spot, Promise::Leaving, || {
                format!("the broker stops, but c{client} has not said that it read its replies, nor is it given up")
            });
        }
    }
}
