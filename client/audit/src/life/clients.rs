//! Clients that join and leave.

use super::Life;
use super::closing::CLOSES;
use super::records::{Client, State};
use crate::findings::Promise;
use crate::ranges::Id;

impl Life {
    pub(super) fn on_client_joined(&mut self, client: u64, clients: u64) {
        let next = std::mem::replace(&mut self.last_client, client) + 1;
        if client != next {
            self.findings.add(Promise::Evidence, || format!("c{client} joins instead of c{next}"));
        }
        self.counts.clients_joined += 1;
        self.clients.0.insert(client, Client::default());
        self.check_clients(clients);
    }

    pub(super) fn on_client_left(&mut self, number: u64, (cancelled, unwanted): (u64, u64), reason: &str) {
        self.counts.clients_left += 1;
        self.counts.cancelled += cancelled + unwanted;
        let Some(client) = self.clients.0.remove(&number) else {
            return self.findings.add(Promise::Leaving, || format!("c{number} leaves, but is not there"));
        };
        if reason == CLOSES {
            self.expect_goodbye(number, client.answered);
        }
        let mut in_flight = 0;
        let open = client.open.len() as u64;
        for (id, request) in client.open {
            in_flight += u64::from(matches!(request.state, State::InFlight { .. }));
            self.release(Id { client: number, number: id }, &request);
        }
        let pending = open - in_flight;
        if (pending, in_flight) != (cancelled, unwanted) {
            self.findings.add(Promise::Leaving, || {
                format!("c{number} leaves with {pending} requests pending and {in_flight} in flight, not {cancelled} and {unwanted}")
            });
        }
    }

    pub(super) fn check_clients(&mut self, clients: u64) {
        let known = self.clients.0.len() as i128 - i128::from(self.jobs) + self.more_clients;
        if known != i128::from(clients) {
            self.more_clients += i128::from(clients) - known;
            self.findings.add(Promise::Leaving, || format!("there are {known} clients, not {clients}"));
        }
    }
}
