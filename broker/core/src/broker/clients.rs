//! Messages from clients.

use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::{Bytes, FromClient, Identity, Priority, RequestId, ToClient, VERSION, name};

use super::admission::Usage;
use super::records::{Client, Submission};
use super::{Broker, Moment, Output, PoolKey};
use crate::config::{Rights, Settings};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::ClientNumber;
use crate::tables::pending::Place;

/// The maximum number of pools that a `NoWorker` names.
const MAX_POOLS: usize = 100;

/// What became of a message's requests.
#[derive(Default)]
struct Taken {
    accepted: IdRanges,
    rejected: Vec<RequestId>,
    rejected_bytes: usize,
}

/// How the requests of a message are to be computed.
#[derive(Clone, Copy)]
struct Terms {
    timeout_ms: u64,
    priority: Priority,
    /// Whether they wait for a worker.
    wait: bool,
}

impl Broker {
    /// Handles a message from a client. `rights` count from its Hello on, for as long as its
    /// connection lives.
    pub fn handle_client(&mut self, from: &Identity, rights: Rights, message: FromClient, now: Instant) {
        let known = self.clients.find(from);
        match (message, known) {
            (FromClient::Hello { version, name }, _) => self.hello(from, rights, version, &name, now),
            (FromClient::Disconnected, _) => {
                self.client_is_gone(from, "connection broke");
                self.clients.disconnected(from);
            }
            (FromClient::Goodbye, _) => self.says_goodbye(from),
            // After the goodbye, other messages are for the next broker.
            (_, None) if self.parting.contains_key(from) => {}
            (_, None) => self.ask_to_hello(from),
            (FromClient::Submit { requests, .. }, Some(client)) if !self.clients[&client].rights.submit => {
                let reason = "this key may not submit requests: it has not the role 'client'";
                self.decline(client, reason, &requests, now);
            }
            (FromClient::Submit { session, requests, .. }, Some(client)) if session != self.session(client) => {
                self.stale(client, requests.len() as u64, now);
            }
            (FromClient::Submit { pool, timeout_ms, priority, wait, requests, .. }, Some(client)) => {
                self.submit(client, &pool, Terms { timeout_ms, priority, wait }, requests, now);
            }
            (FromClient::Cancel(ids), Some(client)) => self.cancel(client, &ids),
            (FromClient::Drain { .. }, Some(client)) if !self.clients[&client].rights.administer => {
                self.refuse_client(from, "this key may not drain: it has not the role 'admin'", now);
            }
            (FromClient::Jobs { tag, request }, Some(client)) => self.ask_about_jobs(client, from, tag, request),
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
        self.client_is_gone(to, "unreachable");
    }

    /// Handles a client whose key is no longer allowed, or has other roles.
    pub fn handle_revoked_client(&mut self, from: &Identity) {
        self.client_is_gone(from, "its key is no longer allowed, or has other roles now");
        self.clients.may_be_asked(from);
    }

    /// Cuts off a client that does not read: the shell has thrown away what waited for it. The
    /// client gets nothing but `HelloAgain`, which the shell keeps until it is taken.
    pub fn handle_overdue_client(&mut self, to: &Identity) {
        self.client_is_gone(to, "does not read its replies");
        self.clients.may_be_asked(to);
        self.ask_to_hello(to);
    }

    fn client_is_gone(&mut self, identity: &Identity, reason: &'static str) {
        if let Some(client) = self.clients.find(identity) {
            self.client_leaves(client, reason);
        }
        self.never_says_goodbye(identity, reason);
    }

    fn ask_to_hello(&mut self, from: &Identity) {
        if self.clients.ask(from) {
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
    fn decline(&mut self, number: ClientNumber, reason: &str, requests: &[(RequestId, Bytes)], now: Instant) {
        let identity = self.clients[&number].identity.clone();
        self.log_refusal(&identity, reason, now);
        let requests = requests.iter().map(|&(id, _)| id).collect();
        self.outputs.push_back(Output::ToClient(identity, ToClient::Declined { reason: reason.into(), requests }));
    }

    fn log_refusal(&mut self, from: &Identity, reason: &str, now: Instant) {
        self.refuse(reason, now, |broker| {
            let who = broker.clients.find(from).map_or_else(|| "a client".into(), |number| number.to_string());
            who + &broker.clients.info(from).map(ToString::to_string).unwrap_or_default()
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
        let number = self.clients.find(from).unwrap_or_else(|| self.client_joins(from, rights, name.into()));
        let welcome = ToClient::Welcome {
            version: VERSION,
            client: number.0,
            session: self.session(number),
            max_message_bytes: self.settings.max_message_bytes as u64,
            max_batch: self.settings.max_batch as u64,
            home: self.jobs.home(),
        };
        self.outputs.push_back(Output::ToClient(from.clone(), welcome));
        if self.closing {
            self.outputs.push_back(Output::ToClient(from.clone(), ToClient::Closing));
        }
    }

    fn client_joins(&mut self, from: &Identity, rights: Rights, name: Arc<str>) -> ClientNumber {
        let client = Client { identity: from.clone(), name: Arc::clone(&name), rights, ..Client::default() };
        let number = self.clients.insert(from, client);
        let (clients, key) = (self.clients.len(), self.clients.key(from));
        self.log(Event::ClientJoined { client: number, name, clients, key });
        number
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
        terms: Terms,
        requests: Vec<(RequestId, Bytes)>,
        now: Instant,
    ) {
        if self.closing {
            // The client knows that the broker is closing, and sends them again to the next one.
            return;
        }
        self.use_credit(number, requests.len());
        if let Err(reason) = self.check_submit(pool, requests.len()) {
            return self.decline(number, &reason, &requests, now);
        }
        if !terms.wait && !self.has_workers(pool) {
            return self.reject_without_worker(number, pool, &requests, now);
        }
        if let Err(reason) = self.check_room_for_pool(pool, number) {
            return self.decline(number, &reason, &requests, now);
        }
        let pool = self.pool(pool, Some(number));
        let Taken { accepted, rejected, rejected_bytes } =
            self.take_requests(number, pool, terms, requests, self.moment(now));
        if !accepted.is_empty() {
            self.pools[pool.0].counters.accepted += accepted.len();
            let pool = Arc::clone(&self.pools[pool.0].name);
            self.log(Event::Accepted { requests: accepted, pool, priority: terms.priority });
        }
        if !rejected.is_empty() {
            let size = rejected_bytes / rejected.len();
            self.reject(number, rejected, size);
        }
    }

    fn check_submit(&self, pool: &str, count: usize) -> Result<(), String> {
        let max = self.settings.max_batch;
        if count > max {
            return Err(format!("{count} requests in one message; {max} are the most (--max-batch)"));
        }
        name::check(pool).map_err(|bad| format!("pool: {bad}"))
    }

    /// Puts a client's requests into the tables, as long as there is room.
    fn take_requests(
        &mut self,
        number: ClientNumber,
        pool: PoolKey,
        Terms { timeout_ms, priority, .. }: Terms,
        requests: Vec<(RequestId, Bytes)>,
        now: Moment,
    ) -> Taken {
        // A time limit that ends in centuries is none.
        let time_limit = timeout_ms.checked_mul(1_000_000).filter(|limit| limit.checked_add(now.0).is_some());
        let time_limit = time_limit.unwrap_or(0);
        let submission = Submission { source: number.into(), pool, priority, time_limit, accepted: now };
        let client = self.clients.get_mut(&number).expect("its number was just looked up");
        let mut taken = Taken::default();
        let (first, mut fresh) = (self.last_request + 1, Vec::with_capacity(requests.len()));
        let Settings { max_pending, max_pending_bytes, max_client_pending, .. } = self.settings;
        for (id, body) in requests {
            if client.account.unanswered.get(id).is_some() {
                continue;
            }
            let by_all = self.pending + self.leftovers.len();
            let in_requests = Usage { max: max_pending, by_all, by_client: client.account.pending };
            let in_bytes = Usage { max: max_pending_bytes, by_all: self.bytes, by_client: client.account.bytes };
            // Nothing is freed in between: the rest of the message is rejected with the first.
            let is_full = client.account.pending >= max_client_pending;
            if is_full || !in_requests.is_below_share() || !in_bytes.is_below_share() {
                taken.rejected.push(id);
                taken.rejected_bytes += body.len();
                continue;
            }
            self.bytes += body.len();
            client.account.bytes += body.len();
            self.last_request += 1;
            let request = submission.request(id, body, Place::Fresh(priority, self.last_request));
            let deadline = request.deadline();
            let key = request.insert_into(&mut self.requests);
            client.account.unanswered.insert(id, key);
            client.account.pending += 1;
            self.pending += 1;
            fresh.push(key);
            if let Some(deadline) = deadline {
                self.deadlines.insert((deadline, key));
            }
            taken.accepted.request(number, id);
        }
        self.pools[pool.0].pending.accept(number.into(), priority, first, &fresh);
        taken
    }

    /// Rejects requests that are not to wait for a worker.
    fn reject_without_worker(
        &mut self,
        number: ClientNumber,
        pool: &str,
        requests: &[(RequestId, Bytes)],
        now: Instant,
    ) {
        let client = self.clients.get_mut(&number).expect("its number was just looked up");
        // Requests that the broker holds already were accepted when there was a worker.
        let ids = requests.iter().map(|&(id, _)| id);
        let requests: Vec<_> = ids.filter(|&id| client.account.unanswered.get(id).is_none()).collect();
        if requests.is_empty() {
            return;
        }
        let to = client.identity.clone();
        client.unlogged.no_worker += requests.len() as u64;
        if self.idle_lines.allows(now) {
            let count = std::mem::take(&mut client.unlogged.no_worker);
            self.log(Event::NoWorker(number, count));
        }
        let with_workers = self.pools.iter().filter(|(_, pool)| pool.has_workers());
        let mut pools: Vec<_> = with_workers.map(|(_, pool)| pool.name.as_ref().into()).take(MAX_POOLS).collect();
        pools.sort_unstable();
        self.outputs.push_back(Output::ToClient(to, ToClient::NoWorker { pool: pool.into(), pools, requests }));
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

    fn cancel(&mut self, number: ClientNumber, ids: &[RequestId]) {
        let mut cancelled = IdRanges::default();
        for &id in ids {
            if let Some(key) = self.clients[&number].account.unanswered.get(id) {
                self.forget(key);
                cancelled.request(number, id);
            }
        }
        if !cancelled.is_empty() {
            self.log(Event::Cancelled(cancelled));
        }
    }
}
