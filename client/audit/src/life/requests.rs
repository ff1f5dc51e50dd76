//! The requests of one life: each is accepted, held by one worker after the other, and ends once.

use std::collections::hash_map::Entry;

use super::Life;
use super::records::{Client, Request, State};
use super::workers::Worker;
use crate::findings::Promise;
use crate::line::{self, DepartureCounts, Evidence, Priority};
use crate::ranges::{Id, IdRanges, JOB};

impl Life {
    pub(super) fn on_accept(&mut self, requests: &IdRanges<'_>, pool: &str, priority: Priority) {
        self.counts.accepted += requests.count();
        let pool = self.pool(pool);
        for range in requests.ranges() {
            let client = range.client;
            if let Some(key) = self.key_of_client(client) {
                self.ledger.accept(key, range, &mut self.findings);
            }
            let Some(Client { open, .. }) = self.clients.0.get_mut(&client) else {
                self.findings.add(Promise::Requests, || match client & JOB {
                    0 => format!("requests of c{client}, which is not there"),
                    _ => format!("requests of j{}, which is not there", client & !JOB),
                });
                match client & JOB {
                    0 => _ = self.clients.0.insert(client, Client::default()),
                    _ => self.add_job(client),
                }
                continue;
            };
            for id in range {
                match open.entry(id.number) {
                    Entry::Vacant(place) => {
                        place.insert(Request { pool, state: State::New(priority), lost: Vec::new() });
                        self.pools[pool].fresh[priority as usize] += 1;
                    }
                    Entry::Occupied(_) => {
                        self.findings.add(Promise::Requests, || format!("{id} is accepted, but is open already"));
                    }
                }
            }
        }
    }

    pub(super) fn on_reply(&mut self, named: line::Worker<'_>, errors: bool, requests: &IdRanges<'_>) {
        let count = if errors { &mut self.counts.reply_errors } else { &mut self.counts.replies };
        *count += requests.count();
        self.mark_answered(requests);
        if self.workers.named(named, &mut self.findings).is_none() {
            for id in requests.ids() {
                self.close(id);
            }
            return;
        }
        let number = named.number;
        for id in requests.ids() {
            let request = self.clients.take_request(id);
            let state = request.as_ref().map(|request| request.state);
            let fits = match state {
                Some(State::InFlight { worker, .. }) => worker == number,
                state => state == Some(State::Unknown),
            };
            if !fits {
                let workers = &self.workers.by_number;
                self.findings.add(Promise::Requests, || {
                    let why = match state {
                        Some(State::InFlight { worker, .. }) => match workers.get(&worker) {
                            Some(holder) => format!("{} w{worker} holds it", holder.name),
                            None => format!("w{worker} holds it"),
                        },
                        Some(_) => "no worker holds it".into(),
                        None => "it is not open: it has ended before, or was never accepted".into(),
                    };
                    format!("w{number} replies to {id}, but {why}")
                });
            }
            if let Some(request) = request {
                self.clear_losses(id, &request);
                self.detach_from(request.pool, request.state);
            }
        }
    }

    pub(super) fn on_discard(&mut self, named: Option<line::Worker<'_>>, late: u64, requests: &IdRanges<'_>) {
        self.counts.discarded += late + requests.count();
        let Some(named) = named else { return };
        let Some(worker) = self.workers.named(named, &mut self.findings) else { return };
        worker.discarded += late + requests.count();
        for id in requests.ids() {
            match worker.unwanted.entry(id) {
                Entry::Occupied(mut count) => {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                    worker.unwanted_count -= 1;
                }
                Entry::Vacant(_) => self.findings.add(Promise::Requests, || {
                    format!("the result of {id} is discarded, but w{} held nothing unwanted of it", named.number)
                }),
            }
        }
    }

    pub(super) fn on_expire(&mut self, requests: &IdRanges<'_>) {
        self.counts.expired += requests.count();
        self.mark_answered(requests);
        self.end(requests, "expires");
    }

    pub(super) fn on_cancel(&mut self, requests: &IdRanges<'_>) {
        self.counts.cancelled += requests.count();
        self.end(requests, "is cancelled");
    }

    /// Ends requests without a worker's result.
    fn end(&mut self, requests: &IdRanges<'_>, how: &str) {
        for id in requests.ids() {
            if !self.close(id) {
                self.findings.add(Promise::Requests, || {
                    format!("{id} {how}, but is not open: it has ended before, or was never accepted")
                });
            }
        }
    }

    pub(super) fn on_dropped(
        &mut self,
        named: line::Worker<'_>,
        (returned, requests): (u64, &IdRanges<'_>),
        gone: DepartureCounts,
        (evidence, reason): (Evidence, &str),
    ) {
        self.counts.workers_dropped += 1;
        self.counts.returned += requests.count();
        let number = named.number;
        let Some(worker) = self.remove_worker(named) else {
            return requests.ids().for_each(|id| self.mark_unknown(id));
        };
        self.check_evidence(number, &worker, evidence, reason);
        self.check_named(requests, returned);
        let mut named = requests.ids();
        for &id in worker.in_flight.values() {
            let name = named.next();
            if name != Some(id) {
                self.findings.add(Promise::Requests, || match name {
                    Some(name) => format!("w{number} gives back {name} where {id} is next"),
                    None => format!("w{number} held {id}, which is not given back"),
                });
            }
            self.return_request(id, number, &worker, evidence);
        }
        if let Some(id) = named.next() {
            self.findings.add(Promise::Requests, || format!("w{number} gives back {id}, which it does not hold"));
        }
        self.check_discarded(number, &worker, gone);
    }

    /// Takes the seat of a worker that can compute nothing for now, and the requests that it hands
    /// back, against which nothing counts.
    pub(super) fn on_unable(&mut self, named: line::Worker<'_>, returned: u64, requests: &IdRanges<'_>) {
        self.counts.handed_back += requests.count();
        let Some(worker) = self.workers.named(named, &mut self.findings) else {
            return requests.ids().for_each(|id| self.mark_unknown(id));
        };
        let number = named.number;
        let before = std::mem::replace(&mut worker.unable, true);
        self.counts.workers_unable += u64::from(!before);
        self.pools[worker.pool].ring.leave(number);
        self.check_named(requests, returned);
        for id in requests.ids() {
            match self.state(id) {
                Some(State::InFlight { worker, .. }) if worker == number => self.requeue(id),
                _ => {
                    self.findings
                        .add(Promise::Requests, || format!("w{number} hands back {id}, which it does not hold"));
                    self.mark_unknown(id);
                }
            }
        }
    }

    /// Puts a request that a worker handed back into its pool's queue.
    fn requeue(&mut self, id: Id) {
        self.detach(id);
        let Some(request) = self.clients.request_mut(id) else { return };
        let State::InFlight { order, .. } = request.state else { return };
        request.state = State::Returned(order);
        self.pools[request.pool].returned.insert(order, id);
    }

    pub(super) fn on_poison(&mut self, requests: &IdRanges<'_>, workers: &str) {
        self.counts.poisoned += requests.count();
        self.mark_answered(requests);
        for id in requests.ids() {
            match self.clients.request(id) {
                Some(Request { state: State::Unknown, .. }) => {}
                Some(Request { state: State::Returned(_) | State::Suspended(_), lost, .. }) => {
                    let names: Vec<_> = lost.iter().map(|loss| &*loss.name).collect();
                    let (names, count) = (names.join(","), lost.len());
                    if names == workers {
                        self.check_limit(count, id);
                    } else {
                        self.findings
                            .add(Promise::Poison, || format!("{id} was lost with {names}, not with {workers}"));
                    }
                }
                _ => self
                    .findings
                    .add(Promise::Poison, || format!("{id} is given up, but was not given back by a lost worker")),
            }
            self.close(id);
        }
    }

    /// Checks that all requests are given up after the same number of lost workers, and none is
    /// dispatched again after as many.
    fn check_limit(&mut self, lost: usize, id: Id) {
        let again = self.dispatched_after;
        let limit = *self.given_up_after.get_or_insert(lost);
        let other = match (limit, again) {
            _ if limit != lost => format!("was after {limit}"),
            _ if again >= lost => format!("was dispatched again after {again}"),
            _ => return,
        };
        self.findings
            .add(Promise::Poison, || format!("{id} is given up after {lost} workers were lost, another {other}"));
    }

    fn state(&self, id: Id) -> Option<State> {
        self.clients.request(id).map(|request| request.state)
    }

    /// Marks a request about which the log has contradicted itself.
    pub(super) fn mark_unknown(&mut self, id: Id) {
        self.detach(id);
        if let Some(request) = self.clients.request_mut(id) {
            request.state = State::Unknown;
        }
    }

    /// Removes the request from the worker that holds it, or from its pool's queue.
    fn detach(&mut self, id: Id) {
        let Some(&Request { pool, state, .. }) = self.clients.request(id) else { return };
        self.detach_from(pool, state);
    }

    /// Does the same for a request of this pool and state. Returns the worker that held it.
    pub(super) fn detach_from(&mut self, pool: usize, state: State) -> Option<&mut Worker> {
        match state {
            State::InFlight { worker, ticket, .. } => {
                let worker = self.workers.by_number.get_mut(&worker)?;
                worker.in_flight.remove(&ticket).map(|_| worker)
            }
            State::Returned(order) => {
                self.pools[pool].returned.remove(&order);
                None
            }
            State::New(priority) => {
                let fresh = &mut self.pools[pool].fresh[priority as usize];
                *fresh = fresh.saturating_sub(1);
                None
            }
            State::Suspended(_) | State::Unknown => None,
        }
    }

    /// Removes an open request that has ended from all tables; a worker that still holds it computes
    /// it in vain. Returns whether it was open.
    fn close(&mut self, id: Id) -> bool {
        let request = self.clients.take_request(id);
        if let Some(request) = &request {
            self.release(id, request);
        }
        request.is_some()
    }

    /// Removes a request that has left its client's table from all others.
    pub(super) fn release(&mut self, id: Id, request: &Request) {
        self.clear_losses(id, request);
        if let Some(worker) = self.detach_from(request.pool, request.state) {
            *worker.unwanted.entry(id).or_default() += 1;
            worker.unwanted_count += 1;
        }
    }
}
