//! The inputs of the core that must have an effect.

use std::collections::BTreeMap;

use giostra_protocol::{FromClient, FromWorker, VERSION};

use super::{Submit, Witness};
use crate::network::{Conn, Peer, Up};

impl Witness {
    /// Records a message for the core.
    pub fn observe_input(&mut self, conn: Conn, message: &Up) {
        if let Up::Worker(_) | Up::Malformed(Peer::Worker(..)) = message
            && let Some(number) = self.worker_of.get(&conn)
        {
            self.workers.get_mut(number).expect("it is registered").pings_out = 0;
        }
        if let Up::Client(message) = message
            && !matches!(message, FromClient::Hello { .. } | FromClient::Goodbye | FromClient::Disconnected)
        {
            self.spoke_as_client.insert(conn);
        }
        match message {
            Up::Worker(FromWorker::Unable { tickets, .. }) => {
                self.spoke.insert(conn);
                self.replies_in += tickets.len() as u64;
                self.handed.extend(tickets.iter().map(|ticket| (conn, ticket.0)));
            }
            Up::Worker(FromWorker::Pong { .. } | FromWorker::Able) => {
                self.spoke.insert(conn);
            }
            Up::Worker(FromWorker::Replies(replies)) => {
                self.spoke.insert(conn);
                self.replies_in += replies.len() as u64;
                for (ticket, outcome) in replies {
                    self.replies.entry((conn, ticket.0)).or_insert_with(|| outcome.clone());
                }
            }
            Up::Worker(FromWorker::Share { threads, window }) => {
                self.shares.insert(conn, (*threads, *window));
            }
            Up::Worker(FromWorker::Disconnected) => {
                self.asked_to_register.remove(&conn);
                self.is_gone(conn);
            }
            Up::Client(FromClient::Disconnected) => {
                self.asked_to_hello.remove(&conn);
                self.is_gone(conn);
            }
            Up::Worker(FromWorker::Register { version: VERSION, name, window, instance, .. }) => {
                self.registering.push_back(*instance);
                self.shares.remove(&conn);
                self.welcomes.push(conn);
                self.registrations.insert(conn, (name.clone(), *window as usize));
            }
            Up::Client(FromClient::Goodbye) => drop(self.parted.insert(conn)),
            Up::Client(FromClient::Hello { name, .. }) if !name.contains(' ') => self.welcomes.push(conn),
            Up::Client(FromClient::Submit { session, pool, timeout_ms, priority, wait, requests }) => {
                *self.heard_of.entry((conn, *session)).or_default() += requests.len() as u64;
                let mut bodies = BTreeMap::new();
                for (id, body) in requests {
                    bodies.entry(id.0).or_insert_with(|| body.clone());
                    if !pool.contains(' ') {
                        self.submitted.push((conn, *session, id.0));
                    }
                }
                let (session, timeout_ms, priority, wait) = (*session, *timeout_ms, *priority, *wait);
                let submit = Submit { session, pool: pool.clone(), timeout_ms, priority, wait, bodies };
                self.submits.entry(conn).or_default().push_back(submit);
            }
            Up::Client(FromClient::Inspect) => self.inspected = true,
            _ => {}
        }
    }

    /// Whether a client may be waiting for the status.
    pub fn somebody_inspects(&self) -> bool {
        self.inspected
    }

    /// Records that the core learnt of a lost or unreachable peer.
    pub fn is_gone(&mut self, conn: Conn) {
        self.gone.push(conn);
    }

    /// Records that the core learnt of a worker that is revoked, or does not read.
    pub fn has_no_registration(&mut self, conn: Conn) {
        self.is_gone(conn);
        self.asked_to_register.remove(&conn);
    }

    /// Records that the core learnt of a client that does not read.
    pub fn is_cut_off(&mut self, conn: Conn) {
        self.is_gone(conn);
        self.asked_to_hello.remove(&conn);
    }

    /// Records that the core handled a timeout.
    pub fn timeout_handled(&mut self, now: u64) {
        self.timeout_handled = Some(now);
        self.left_before = self.left_behind;
    }
}
