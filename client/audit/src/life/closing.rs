//! The end of a broker that is asked to finish: each client that it had answered has said that it
//! read everything, or the log names the client in `unheard`.

use std::collections::BTreeSet;

use super::Life;
use crate::findings::Promise;
use crate::ranges::IdRanges;

/// The reason with which a client leaves when the broker says goodbye to it.
pub(crate) const CLOSES: &str = "the broker closes";

/// The clients of a closing broker.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    /// Clients that were said goodbye to, and have not answered.
    expected: BTreeSet<u64>,
    /// Clients that still had requests in flight when the broker ceased to wait for them.
    given_up: BTreeSet<u64>,
}

impl Life {
    /// Notes a client that leaves because it has been sent everything.
    pub(super) fn expect_goodbye(&mut self, client: u64, answered: bool) {
        self.farewells.expected.insert(client);
        if !answered {
            self.findings.add(Promise::Leaving, || format!("c{client} is waited for, but was never answered"));
        }
    }

    /// Notes a client that has read everything.
    pub(super) fn on_goodbye(&mut self, client: u64) {
        if !self.farewells.expected.remove(&client) {
            self.findings.add(Promise::Leaving, || format!("c{client} says goodbye, but the broker had not"));
        }
    }

    /// Notes a client that is waited for no longer, and the requests whose replies were never sent.
    pub(super) fn on_unheard(&mut self, client: u64, unsent: u64, requests: &IdRanges<'_>) {
        self.counts.undelivered += requests.count();
        let known = self.clients.0.get(&client).is_some_and(|known| known.answered);
        if !(self.farewells.expected.remove(&client) || known && self.farewells.given_up.insert(client)) {
            self.findings.add(Promise::Leaving, || format!("c{client} is given up, but is owed no reply"));
        }
        self.check_named(requests, unsent);
        if let Some(open) = requests.ids().find(|&id| self.clients.request(id).is_some()) {
            self.findings.add(Promise::Requests, || {
                format!("the reply to {open} was never sent, but there was none: it is open")
            });
        }
    }

    /// Checks that a stopped broker has heard from each client that it had answered, or has named it.
    pub(super) fn check_farewells(&mut self) {
        let answered = self.clients.0.iter().filter(|(_, client)| client.answered).map(|(&number, _)| number);
        let given_up = &self.farewells.given_up;
        let here = answered.filter(|number| !given_up.contains(number)).min();
        if let Some(client) = self.farewells.expected.first().copied().or(here) {
            self.findings.add(Promise::Leaving, || {
                format!("the broker stops, but c{client} has neither read its replies nor been given up")
            });
        }
    }
}
