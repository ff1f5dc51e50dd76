//! Clients that join and leave.

use std::collections::HashMap;

use super::Life;
use super::requests::{Request, State};
use crate::findings::{Promise, SourceLine};

/// A client's connection.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The open requests, by id.
    pub open: HashMap<u64, Request>,
    /// Whether the client was ever sent a reply.
    pub answered: bool,
}

impl Life {
    pub(super) fn on_client_joined(&mut self, client: u64, at: &mut SourceLine<'_>) {
        let last = std::mem::replace(&mut self.last_client, client);
        if client != last + 1 {
            self.findings.add(at, Promise::Evidence, || format!("c{client} joins, where c{} was to be next", last + 1));
        }
        self.counts.clients_joined += 1;
        self.clients.insert(client, Client::default());
    }

    pub(super) fn on_client_left(&mut self, number: u64, cancelled: u64, unwanted: u64, at: &mut SourceLine<'_>) {
        self.counts.clients_left += 1;
        self.counts.cancelled += cancelled + unwanted;
        let Some(client) = self.clients.remove(&number) else {
            return self.findings.add(at, Promise::Leaving, || format!("c{number} leaves, but is not there"));
        };
        let mut in_flight = 0;
        let open = client.open.len() as u64;
        for (id, request) in client.open {
            in_flight += u64::from(matches!(request.state, State::InFlight { .. }));
            self.release((number, id), &request);
        }
        let pending = open - in_flight;
        if (pending, in_flight) != (cancelled, unwanted) {
            self.findings.add(at, Promise::Leaving, || {
                format!("c{number} leaves with {pending} requests pending and {in_flight} in flight, not {cancelled} and {unwanted}")
            });
        }
    }

    pub(super) fn check_clients(&mut self, clients: u64, at: &mut SourceLine<'_>) {
        let known = self.clients.len() as i128 + self.more_clients;
        if known != i128::from(clients) {
            self.more_clients += i128::from(clients) - known;
            self.findings.add(at, Promise::Leaving, || format!("there are {known} clients, not {clients}"));
        }
    }
}
