//! The end of a broker: it dispatches nothing more, and waits for its clients to have read their
//! replies.
//!
//! libzmq and the system's buffers lose what they hold when the broker exits. So the last message
//! to a client is `Goodbye`, and the broker stays until the client has answered it. A client that
//! was sent no reply over its connection is not waited for.

use giostra_protocol::Identity;
use giostra_protocol::{RequestId, ToClient, ToWorker};

use super::admission::CreditQueue;
use super::{Broker, Output};
use crate::event::Event;
use crate::ids::ClientNumber;

/// The reason with which a client leaves after its goodbye. The audit recognises it.
const CLOSES: &str = "the broker closes";

impl Broker {
    /// Stops dispatching and accepting, and tells all peers. Requests in flight may still be
    /// answered.
    pub fn close(&mut self) {
        self.closing = true;
        self.credit_queue = CreditQueue::default();
        self.log(Event::Closing(self.in_flight() as u64));
        let to_workers =
            self.workers.values().map(|worker| Output::ToWorker(worker.identity.clone(), ToWorker::Closing));
        let to_clients =
            self.clients.values().map(|client| Output::ToClient(client.identity.clone(), ToClient::Closing));
        self.outputs.extend(to_workers.chain(to_clients));
    }

    /// Whether everything in flight is answered and every client that was answered has read it or
    /// is gone. Valid after [`Self::close`], when [`Self::poll_output`] has nothing more.
    pub fn has_finished(&self) -> bool {
        self.closing && self.in_flight() == 0 && self.parting.is_empty()
    }

    /// Returns the clients that may not have read all their replies, in the order of their numbers.
    pub fn unheard_clients(&self) -> Vec<Identity> {
        let answered = self.clients.iter().filter(|(_, client)| client.answered > 0);
        let answered = answered.map(|(number, client)| (number, client.identity.clone()));
        let parting = self.parting.iter().map(|(identity, &number)| (number, identity.clone()));
        let mut all: Vec<_> = answered.chain(parting).collect();
        all.sort_unstable_by_key(|&(number, _)| number);
        all.into_iter().map(|(_, identity)| identity).collect()
    }

    /// Stops waiting for a client, to which the replies to `unsent` were never sent.
    pub fn handle_unheard_client(&mut self, to: &Identity, unsent: &[RequestId]) {
        let number = self.parting.remove(to).or_else(|| self.clients.find(to));
        if let Some(number) = number {
            self.is_unheard(number, unsent, "it has said no goodbye in time");
        }
    }

    /// Says goodbye to clients without requests in flight, whose replies have been put out.
    pub(super) fn part(&mut self) {
        let owed_nothing = self.clients.iter().filter(|(_, client)| {
            client.answered > 0
                && client.account.replies.is_empty()
                && client.account.unanswered.len() == client.account.pending
        });
        let numbers: Vec<_> = owed_nothing.map(|(number, _)| number).collect();
        for number in numbers {
            let identity = self.clients[&number].identity.clone();
            self.client_leaves(number, CLOSES);
            self.outputs.push_back(Output::ToClient(identity.clone(), ToClient::Goodbye));
            self.parting.insert(identity, number);
        }
    }

    /// Handles a client's goodbye, which means nothing unless the broker has said its own.
    pub(super) fn says_goodbye(&mut self, from: &Identity) {
        if let Some(number) = self.parting.remove(from) {
            self.log(Event::Goodbye(number));
        }
    }

    /// Handles the end of a connection over which the goodbye was not answered.
    pub(super) fn never_says_goodbye(&mut self, from: &Identity, reason: &'static str) {
        if let Some(number) = self.parting.remove(from) {
            self.is_unheard(number, &[], reason);
        }
    }

    fn is_unheard(&mut self, client: ClientNumber, unsent: &[RequestId], reason: &'static str) {
        let unsent = unsent.iter().map(|&id| (client, id)).collect();
        self.log(Event::Unheard { client, unsent, reason });
    }
}
