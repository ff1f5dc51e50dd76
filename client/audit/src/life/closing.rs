//! The end of a broker that is asked to finish: each client that it had answered has said that it
//! read everything, or the log names the client as not heard of.

use std::collections::BTreeSet;

use super::Life;
use super::requests::format_key;
use crate::findings::{Promise, SourceLine};
use crate::ranges::IdRanges;

/// The reason with which a client leaves when the broker says goodbye to it.
pub(super) const CLOSES: &str = "the broker closes";

/// The clients of a closing broker.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    /// Clients that were said goodbye to, and have not been heard of since.
    waited_for: BTreeSet<u64>,
    /// Clients that still had requests in flight when the broker ceased to wait for them.
    given_up: BTreeSet<u64>,
}

impl Life {
    /// Notes a client that leaves because it has been sent everything.
    pub(super) fn on_told_goodbye(&mut self, client: u64, answered: bool, at: &mut SourceLine<'_>) {
        self.farewells.waited_for.insert(client);
        if !answered {
            self.findings.add(at, Promise::Leaving, || format!("c{client} is waited for, but was never answered"));
        }
    }

    /// Notes a client that has read everything.
    pub(super) fn on_goodbye(&mut self, client: u64, at: &mut SourceLine<'_>) {
        if !self.farewells.waited_for.remove(&client) {
            self.findings.add(at, Promise::Leaving, || format!("c{client} says goodbye, but was not said goodbye to"));
        }
    }

    /// Notes a client that is waited for no longer, and the requests whose replies were never sent.
    pub(super) fn on_unheard(&mut self, client: u64, unsent: u64, requests: &IdRanges<'_>, at: &mut SourceLine<'_>) {
        self.counts.undelivered += requests.count();
        let known = self.clients.get(&client).is_some_and(|known| known.answered);
        if !(self.farewells.waited_for.remove(&client) || known && self.farewells.given_up.insert(client)) {
            self.findings.add(at, Promise::Leaving, || format!("c{client} is given up, but is owed no reply"));
        }
        if requests.count() != unsent {
            self.findings
                .add(at, Promise::Requests, || format!("{} requests are named, not {unsent}", requests.count()));
        }
        if let Some(open) = requests.ids().find(|&key| self.state(key).is_some()) {
            self.findings.add(at, Promise::Requests, || {
                format!("the reply to {} was never sent, but there was none: it is open", format_key(open))
            });
        }
    }

    /// Checks that a stopped broker has heard of each client that it had answered, or has named it.
    pub(super) fn check_farewells(&mut self, at: &mut SourceLine<'_>) {
        let answered = self.clients.iter().filter(|(_, client)| client.answered).map(|(&number, _)| number);
        let given_up = &self.farewells.given_up;
        let here = answered.filter(|number| !given_up.contains(number)).min();
        if let Some(client) = self.farewells.waited_for.first().copied().or(here) {
            self.findings.add(at, Promise::Leaving, || {
                format!("the broker stops, but c{client} has not said that it read its replies, nor is it given up")
            });
        }
    }
}
