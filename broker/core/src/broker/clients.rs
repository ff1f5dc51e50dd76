//! Messages from clients.

use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::{Bytes, FromClient, Identity, RequestId, ToClient, VERSION, name};

use super::admission::Taken;
use super::records::{Client, Request, State, Unlogged};
use super::{Broker, Output};
use crate::config::{Rights, Settings};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, RequestKey};
use crate::tables::pending::Place;
use crate::tables::unanswered::Unanswered;

/// The most pools that a `NoWorker` names.
const MAX_POOLS: usize = 100;

impl Broker {
    /// Handles a message from a client. `rights` count from its Hello on, for as long as its
    /// connection lives.
    pub fn handle_client(&mut self, from: &Identity, rights: Rights, message: FromClient, now: Instant) {
        let known = self.client_of.get(from).copied();
        match (message, known) {
            (FromClient::Hello { version, name }, _) => self.hello(from, rights, version, &name, now),
            (FromClient::Disconnected, known) => {
                if let Some(client) = known {
                    self.client_leaves(client, "connection broke");
                }
                self.never_says_goodbye(from, "connection broke");
                self.asked_to_hello.remove(from);
                self.client_info.remove(from);
            }
            (FromClient::Goodbye, _) => self.says_goodbye(from),
            // After the goodbye, other messages are for the next broker.
            (_, None) if self.parting.contains_key(from) => {}
            (_, None) => self.ask_to_hello(from),
            (FromClient::Submit { requests, .. }, Some(client)) if !self.clients[&client].rights.submit => {
                let reason = "this key may not submit requests: it has not the role 'client'";
                self.decline(from, reason, &requests, now);
            }
            (FromClient::Submit { session, requests, .. }, Some(client)) if session != self.session(client) => {
                self.stale(client, requests.len() as u64, now);
            }
            (FromClient::Submit { pool, timeout_ms, wait, requests, .. }, Some(client)) => {
                self.submit(client, &pool, timeout_ms, wait, requests, now);
            }
            (FromClient::Cancel(ids), Some(client)) => self.cancel(client, &ids),
            (FromClient::Inspect | FromClient::Drain { .. }, Some(client))
                if !self.clients[&client].rights.administer =>
            {
                self.refuse_client(from, "this key may not inspect or drain: it has not the role 'admin'", now);
            }
            (FromClient::Inspect, Some(_)) => self.inspections.ask(from),
            (FromClient::Drain { worker, number, all }, Some(_)) => self.drain(from, &worker, number, all, now),
        }
    }

    /// Handles bytes from a client that are no message.
    pub fn handle_malformed_client(&mut self, from: &Identity, error: &str, now: Instant) {
        self.refuse_client(from, error, now);
    }

    /// Handles the failure of a message to a client that is gone.
    pub fn handle_unreachable_client(&mut self, to: &Identity) {
        if let Some(&client) = self.client_of.get(to) {
            self.client_leaves(client, "unreachable");
        }
        self.never_says_goodbye(to, "unreachable");
    }

    /// Handles a client whose key is no longer allowed, or has other roles.
    pub fn handle_revoked_client(&mut self, from: &Identity) {
        if let Some(&client) = self.client_of.get(from) {
            self.client_leaves(client, "its key is no longer allowed, or has other roles now");
        }
        self.never_says_goodbye(from, "its key is no longer allowed");
        self.asked_to_hello.remove(from);
    }

    /// Cuts off a client that does not read: the shell has thrown away what waited for it. The
    /// client gets nothing but `HelloAgain`, which the shell keeps until it is taken.
    pub fn handle_overdue_client(&mut self, to: &Identity) {
        if let Some(&client) = self.client_of.get(to) {
            self.client_leaves(client, "does not read its replies");
        }
        self.never_says_goodbye(to, "does not read its replies");
        self.asked_to_hello.remove(to);
        self.ask_to_hello(to);
    }

    /// Asks a client for a Hello, once for each connection.
    fn ask_to_hello(&mut self, from: &Identity) {
        if self.asked_to_hello.insert(from.clone()) {
            self.outputs.push_back(Output::ToClient(from.clone(), ToClient::HelloAgain));
        }
    }

    /// Refuses a client's message.
    pub(super) fn refuse_client(&mut self, from: &Identity, reason: &str, now: Instant) {
        self.log_refusal(from, reason, now);
        self.outputs.push_back(Output::ToClient(from.clone(), ToClient::Refused { reason: reason.into() }));
    }

    /// Declines a `Submit`, naming its requests, because other requests of the client may still be
    /// answered.
    fn decline(&mut self, from: &Identity, reason: &str, requests: &[(RequestId, Bytes)], now: Instant) {
        self.log_refusal(from, reason, now);
        let requests = requests.iter().map(|&(id, _)| id).collect();
        let declined = ToClient::Declined { reason: reason.into(), requests };
        self.outputs.push_back(Output::ToClient(from.clone(), declined));
    }

    fn log_refusal(&mut self, from: &Identity, reason: &str, now: Instant) {
        self.refuse(reason, now, |broker| {
            let who = broker.client_of.get(from).map_or_else(|| "a client".into(), ToString::to_string);
            who + &broker.client_info.get(from).map(ToString::to_string).unwrap_or_default()
        });
    }

    fn hello(&mut self, from: &Identity, rights: Rights, version: u32, name: &str, now: Instant) {
        if version != VERSION {
            let reason = format!("this broker speaks version {VERSION} of the protocol, not {version}");
            return self.refuse_client(from, &reason, now);
        }
        if let Err(bad) = name::check(name) {
            return self.refuse_client(from, &bad.to_string(), now);
        }
        self.asked_to_hello.remove(from);
        let number = match self.client_of.get(from) {
            Some(&number) => number,
            None => {
                self.last_client += 1;
                let number = ClientNumber(self.last_client);
                let name: Arc<str> = name.into();
                self.client_of.insert(from.clone(), number);
                self.clients.insert(
                    number,
                    Client {
                        identity: from.clone(),
                        name: Arc::clone(&name),
                        rights,
                        unanswered: Unanswered::default(),
                        pending: 0,
                        bytes: 0,
                        pools: 0,
                        unlogged: Unlogged::default(),
                        room: None,
                        wanted_size: 1,
                        replies: Vec::new(),
                        large: false,
                        held_back_until: None,
                        answered: 0,
                    },
                );
                let key = self.client_info.get(from).and_then(|peer_info| peer_info.key.clone());
                let clients = self.clients.len();
                self.log(Event::ClientJoined { client: number, name, clients, key });
                number
            }
        };
        let welcome = ToClient::Welcome {
            version: VERSION,
            client: number.0,
            session: self.session(number),
            max_message_bytes: self.settings.max_message_bytes as u64,
            max_batch: self.settings.max_batch as u64,
        };
        self.outputs.push_back(Output::ToClient(from.clone(), welcome));
        if self.closing {
            self.outputs.push_back(Output::ToClient(from.clone(), ToClient::Closing));
        }
    }

    /// Returns the session of a connection. No other connection has it, not even in another life of
    /// the broker.
    fn session(&self, client: ClientNumber) -> u64 {
        self.settings.first_ticket.wrapping_add(client.0)
    }

    fn submit(
        &mut self,
        number: ClientNumber,
        pool: &str,
        timeout_ms: u64,
        wait: bool,
        requests: Vec<(RequestId, Bytes)>,
        now: Instant,
    ) {
        if self.closing {
            // The client knows that the broker is closing, and sends them again to the next one.
            return;
        }
        self.uses_room(number, requests.len());
        if requests.len() > self.settings.max_batch {
            let identity = self.clients[&number].identity.clone();
            let (count, most) = (requests.len(), self.settings.max_batch);
            let reason = format!("{count} requests in one message; {most} are the most (--max-batch)");
            return self.decline(&identity, &reason, &requests, now);
        }
        if let Err(bad) = name::check(pool) {
            let identity = self.clients[&number].identity.clone();
            return self.decline(&identity, &format!("pool: {bad}"), &requests, now);
        }
        if !wait && !self.has_workers(pool) {
            return self.nobody(number, pool, &requests, now);
        }
        if let Some(reason) = self.has_no_place_for(pool, number) {
            let identity = self.clients[&number].identity.clone();
            return self.decline(&identity, &reason, &requests, now);
        }
        // A limit that ends in centuries is none.
        let accepted_at = self.moment(now);
        let time_limit = timeout_ms.checked_mul(1_000_000).filter(|limit| limit.checked_add(accepted_at.0).is_some());
        let pool = self.pool(pool, Some(number));
        let client = self.clients.get_mut(&number).expect("its number was just looked up");
        let (mut accepted, mut rejected, mut bytes_away) = (IdRanges::default(), Vec::new(), 0);
        let (first, mut fresh) = (self.last_request + 1, Vec::with_capacity(requests.len()));
        let Settings { max_pending, max_pending_bytes, max_client_pending, .. } = self.settings;
        for (id, body) in requests {
            if client.unanswered.get(id).is_some() {
                continue;
            }
            let by_all = self.pending + self.leftovers.len();
            let in_requests = Taken { most: max_pending, by_all, by_client: client.pending };
            let in_bytes = Taken { most: max_pending_bytes, by_all: self.bytes, by_client: client.bytes };
            // Nothing is freed in between: the rest of the message is rejected with the first.
            let is_full = client.pending >= max_client_pending;
            if is_full || !in_requests.has_room() || !in_bytes.has_room() {
                rejected.push(id);
                bytes_away += body.len();
                continue;
            }
            self.bytes += body.len();
            client.bytes += body.len();
            self.last_request += 1;
            let request = Request {
                client: number,
                id,
                pool,
                body,
                accepted: accepted_at,
                time_limit: time_limit.unwrap_or(0),
                dispatched: accepted_at,
                attempts: 0,
                lost: None,
                state: State::Pending(Place::Fresh(self.last_request)),
            };
            let deadline = request.deadline();
            let key = RequestKey(self.requests.insert(request).try_into().expect("four thousand million requests"));
            client.unanswered.insert(id, key);
            client.pending += 1;
            self.pending += 1;
            fresh.push(key);
            if let Some(deadline) = deadline {
                self.deadlines.insert((deadline, key));
            }
            accepted.request(number, id);
        }
        self.pools[pool.0].pending.accept(number, first, &fresh);
        if !accepted.is_empty() {
            self.pools[pool.0].counters.accepted += accepted.len();
            let pool = Arc::clone(&self.pools[pool.0].name);
            self.log(Event::Accepted { requests: accepted, pool });
        }
        if !rejected.is_empty() {
            let size = bytes_away / rejected.len();
            self.turn_away(number, rejected, size);
        }
    }

    /// Rejects requests that are not to wait for a worker.
    fn nobody(&mut self, number: ClientNumber, pool: &str, requests: &[(RequestId, Bytes)], now: Instant) {
        let client = &self.clients[&number];
        // Requests that the broker holds already were accepted when there was a worker.
        let requests: Vec<_> =
            requests.iter().map(|&(id, _)| id).filter(|&id| client.unanswered.get(id).is_none()).collect();
        if requests.is_empty() {
            return;
        }
        let mut pools: Vec<_> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.has_workers())
            .map(|(_, pool)| &*pool.name)
            .take(MAX_POOLS)
            .collect();
        pools.sort_unstable();
        let (pool, to) = (pool.into(), client.identity.clone());
        let pools = pools.into_iter().map(Into::into).collect();
        let client = self.clients.get_mut(&number).expect("its number was just looked up");
        client.unlogged.nobody += requests.len() as u64;
        if self.idle_lines.allows(now) {
            let count = std::mem::take(&mut client.unlogged.nobody);
            self.log(Event::NoWorker(number, count));
        }
        self.outputs.push_back(Output::ToClient(to, ToClient::NoWorker { pool, pools, requests }));
    }

    /// Returns why a pool of this name can't be made for this client, if it is missing and can't.
    fn has_no_place_for(&self, pool: &str, number: ClientNumber) -> Option<String> {
        if self.pool_of.contains_key(pool) {
            return None;
        }
        let (most, pools, own) = (self.settings.max_pools, self.pools.len(), self.clients[&number].pools);
        let has_room = Taken { most, by_all: pools, by_client: own }.has_room();
        (!has_room).then(|| {
            format!(
                "no room for a pool '{pool}': there are {pools} pools with workers or waiting requests, {own} of them of \
                 this client's making, and {most} are the most (--max-pools)"
            )
        })
    }

    /// Ignores requests that were sent over an earlier connection.
    fn stale(&mut self, number: ClientNumber, count: u64, now: Instant) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.unlogged.stale += count;
        if self.idle_lines.allows(now) {
            let count = std::mem::take(&mut client.unlogged.stale);
            self.log(Event::Stale(number, count));
        }
    }

    fn has_workers(&self, pool: &str) -> bool {
        self.pool_of.get(pool).is_some_and(|key| self.pools[key.0].has_workers())
    }

    fn cancel(&mut self, number: ClientNumber, ids: &[RequestId]) {
        let mut cancelled = IdRanges::default();
        for &id in ids {
            if let Some(key) = self.clients[&number].unanswered.get(id) {
                self.forget(key);
                cancelled.request(number, id);
            }
        }
        if !cancelled.is_empty() {
            self.log(Event::Cancelled(cancelled));
        }
    }
}
