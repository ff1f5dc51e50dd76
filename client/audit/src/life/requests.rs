//! The requests of one life: each is accepted, held by one worker after the other, and ends once.

use std::rc::Rc;

use super::Life;
use crate::findings::{Promise, SourceLine};
use crate::line::{self, DepartureCounts, Evidence};
use crate::ranges::IdRanges;
use std::collections::hash_map::Entry;

/// The client number and the id of a request.
pub(crate) type Key = (u64, u64);

/// An open request.
#[derive(Debug)]
pub(super) struct Request {
    pub pool: usize,
    pub state: State,
    /// The lost workers that count against it.
    pub lost: Vec<Loss>,
}

/// A lost worker that counts against a request.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub name: Rc<str>,
    pub number: u64,
    /// The process, by the number of its first registration, if the loss counts only until it is
    /// back.
    pub process: Option<u64>,
}

/// The state of an open request. The ticket of its first dispatch is its place in the order of
/// returned requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not been dispatched.
    New,
    /// A worker gave it back, or was lost: the ticket of its first dispatch.
    Returned(u64),
    /// The same, and it will be given up unless one of its lost workers comes back.
    Suspended(u64),
    /// A worker holds it; `order` is the ticket of its first dispatch.
    InFlight { worker: u64, ticket: u64, order: u64, suspect: bool },
    /// The log contradicted itself about it, which has been reported.
    Unknown,
}

/// Formats a request as the log does.
pub(crate) fn format_key((client, id): Key) -> String {
    format!("c{client}#{id}")
}

impl Life {
    pub(super) fn on_accept(&mut self, requests: &IdRanges<'_>, pool: &str, at: &mut SourceLine<'_>) {
        self.counts.accepted += requests.count();
        let pool = self.pool(pool);
        for range in requests.ranges() {
            let client = range.client;
            let Some(held) = self.clients.get_mut(&client).map(|client| &mut client.open) else {
                self.findings.add(at, Promise::Requests, || format!("requests of c{client}, which is not there"));
                self.clients.entry(client).or_default();
                continue;
            };
            held.reserve(range.into_iter().size_hint().0);
            for (_, id) in range {
                match held.entry(id) {
                    Entry::Vacant(place) => {
                        place.insert(Request { pool, state: State::New, lost: Vec::new() });
                    }
                    Entry::Occupied(_) => self.findings.add(at, Promise::Requests, || {
                        format!("{} is accepted, but is open already", format_key((client, id)))
                    }),
                }
            }
        }
        self.check_size();
    }

    pub(super) fn on_reply(
        &mut self,
        named: line::Worker<'_>,
        errors: bool,
        requests: &IdRanges<'_>,
        at: &mut SourceLine<'_>,
    ) {
        let count = if errors { &mut self.counts.reply_errors } else { &mut self.counts.replies };
        *count += requests.count();
        self.mark_answered(requests);
        if !self.check_worker(named, at) {
            for key in requests.ids() {
                self.close(key);
            }
            return;
        }
        let number = named.number;
        for key in requests.ids() {
            let ticket = match self.state(key) {
                Some(State::InFlight { worker, ticket, .. }) if worker == number => Some(ticket),
                Some(State::Unknown) => None,
                state => {
                    let workers = &self.workers;
                    self.findings.add(at, Promise::Requests, || {
                        let why = match state {
                            Some(State::InFlight { worker, .. }) => match workers.get(&worker) {
                                Some(holder) => format!("{} w{worker} holds it", holder.name),
                                None => format!("w{worker} holds it"),
                            },
                            Some(_) => "no worker holds it".into(),
                            None => "it is not open: it has ended before, or was never accepted".into(),
                        };
                        format!("w{number} replies to {}, but {why}", format_key(key))
                    });
                    self.detach(key);
                    None
                }
            };
            if let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.open.remove(&key.1)) {
                self.clear_losses(key, &request);
            }
            if let (Some(ticket), Some(worker)) = (ticket, self.workers.get_mut(&number)) {
                worker.in_flight.remove(&ticket);
            }
        }
    }

    pub(super) fn on_discard(
        &mut self,
        named: Option<line::Worker<'_>>,
        late: u64,
        requests: &IdRanges<'_>,
        at: &mut SourceLine<'_>,
    ) {
        self.counts.discarded += late + requests.count();
        let Some(named) = named else { return };
        if !self.check_worker(named, at) {
            return;
        }
        let number = named.number;
        self.workers.get_mut(&number).expect("it is known").discarded += late + requests.count();
        for key in requests.ids() {
            let worker = self.workers.get_mut(&number).expect("it is known");
            match worker.unwanted.entry(key) {
                Entry::Occupied(mut count) => {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                    worker.unwanted_count -= 1;
                }
                Entry::Vacant(_) => self.findings.add(at, Promise::Requests, || {
                    format!("the result of {} is discarded, but w{number} held nothing unwanted of it", format_key(key))
                }),
            }
        }
    }

    /// Ends requests without a worker's result.
    pub(super) fn on_end(&mut self, requests: &IdRanges<'_>, how: &str, at: &mut SourceLine<'_>) {
        for key in requests.ids() {
            if !self.close(key) {
                self.findings.add(at, Promise::Requests, || {
                    format!("{} {how}, but is not open: it has ended before, or was never accepted", format_key(key))
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
        at: &mut SourceLine<'_>,
    ) {
        self.counts.workers_dropped += 1;
        self.counts.returned += requests.count();
        if !self.check_worker(named, at) {
            return requests.ids().for_each(|key| self.mark_unknown(key));
        }
        let number = named.number;
        let worker = self.remove_worker(number);
        self.check_evidence(number, &worker, evidence, reason, at);
        if returned != requests.count() {
            self.findings
                .add(at, Promise::Requests, || format!("{} requests are named, not {returned}", requests.count()));
        }
        let mut named = requests.ids();
        for &key in worker.in_flight.values() {
            let name = named.next();
            if name != Some(key) {
                self.findings.add(at, Promise::Requests, || match name {
                    Some(name) => {
                        format!("w{number} gives back {} where {} is next", format_key(name), format_key(key))
                    }
                    None => format!("w{number} held {}, which is not given back", format_key(key)),
                });
            }
            self.return_request(key, number, &worker, evidence);
        }
        if let Some(name) = named.next() {
            self.findings.add(at, Promise::Requests, || {
                format!("w{number} gives back {}, which it does not hold", format_key(name))
            });
        }
        self.check_discarded(number, &worker, gone, at);
    }

    /// Takes the seat of a worker that can compute nothing for now, and the requests that it hands
    /// back, against which nothing counts.
    pub(super) fn on_unable(
        &mut self,
        named: line::Worker<'_>,
        returned: u64,
        requests: &IdRanges<'_>,
        at: &mut SourceLine<'_>,
    ) {
        self.counts.handed_back += requests.count();
        if !self.check_worker(named, at) {
            return requests.ids().for_each(|key| self.mark_unknown(key));
        }
        let number = named.number;
        let worker = self.workers.get_mut(&number).expect("it is known");
        let before = std::mem::replace(&mut worker.unable, true);
        self.counts.workers_unable += u64::from(!before);
        let ring = &mut self.pools[worker.pool].ring;
        ring.leave(number);
        if returned != requests.count() {
            self.findings
                .add(at, Promise::Requests, || format!("{} requests are named, not {returned}", requests.count()));
        }
        for key in requests.ids() {
            match self.state(key) {
                Some(State::InFlight { worker, ticket, .. }) if worker == number => {
                    self.workers.get_mut(&number).expect("it is known").in_flight.remove(&ticket);
                    self.requeue(key);
                }
                _ => {
                    self.findings.add(at, Promise::Requests, || {
                        format!("w{number} hands back {}, which it does not hold", format_key(key))
                    });
                    self.mark_unknown(key);
                }
            }
        }
    }

    /// Puts a request that a worker handed back into its pool's queue.
    fn requeue(&mut self, key: Key) {
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.open.get_mut(&key.1)) else { return };
        let State::InFlight { order, .. } = request.state else { return };
        request.state = State::Returned(order);
        self.pools[request.pool].returned.insert(order, key);
    }

    pub(super) fn on_poison(&mut self, requests: &IdRanges<'_>, workers: &str, at: &mut SourceLine<'_>) {
        self.counts.poisoned += requests.count();
        self.mark_answered(requests);
        for key in requests.ids() {
            let held = self.clients.get(&key.0).and_then(|client| client.open.get(&key.1));
            let (state, lost) = match held {
                Some(request) => (Some(request.state), request.lost.iter().map(|loss| &*loss.name).collect()),
                None => (None, Vec::new()),
            };
            let (names, count) = (lost.join(","), lost.len());
            if !matches!(state, Some(State::Returned(_) | State::Suspended(_) | State::Unknown)) {
                self.findings.add(at, Promise::Poison, || {
                    format!("{} is given up, but was not given back by a lost worker", format_key(key))
                });
            } else if names != workers && state != Some(State::Unknown) {
                self.findings.add(at, Promise::Poison, || {
                    format!("{} was lost with {names}, not with {workers}", format_key(key))
                });
            } else if state != Some(State::Unknown) {
                self.check_limit(count, key, at);
            }
            self.close(key);
        }
    }

    /// Checks that all requests are given up after the same number of lost workers, and none is
    /// dispatched again after as many.
    fn check_limit(&mut self, lost: usize, key: Key, at: &mut SourceLine<'_>) {
        let most = self.dispatched_after;
        let limit = *self.given_up_after.get_or_insert(lost);
        if limit != lost {
            self.findings.add(at, Promise::Poison, || {
                format!("{} is given up after {lost} workers were lost, another was after {limit}", format_key(key))
            });
        } else if most >= lost {
            self.findings.add(at, Promise::Poison, || {
                format!(
                    "{} is given up after {lost} workers were lost, another was dispatched again after {most}",
                    format_key(key)
                )
            });
        }
    }

    pub(super) fn state(&self, key: Key) -> Option<State> {
        self.clients.get(&key.0)?.open.get(&key.1).map(|request| request.state)
    }

    /// Marks a request about which the log has contradicted itself.
    pub(super) fn mark_unknown(&mut self, key: Key) {
        self.detach(key);
        if let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.open.get_mut(&key.1)) {
            request.state = State::Unknown;
        }
    }

    /// Removes the request from the worker that holds it, or from its pool's queue.
    pub(super) fn detach(&mut self, key: Key) {
        let Some(request) = self.clients.get(&key.0).and_then(|client| client.open.get(&key.1)) else { return };
        match request.state {
            State::InFlight { worker, ticket, .. } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.in_flight.remove(&ticket);
                }
            }
            State::Returned(order) => drop(self.pools[request.pool].returned.remove(&order)),
            State::New | State::Suspended(_) | State::Unknown => {}
        }
    }

    /// Removes an open request that has ended from all tables; a worker that still holds it computes
    /// it in vain. Returns whether it was open.
    pub(super) fn close(&mut self, key: Key) -> bool {
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.open.remove(&key.1)) else {
            return false;
        };
        self.release(key, &request);
        true
    }

    /// Removes a request that has left its client's table from all others.
    pub(super) fn release(&mut self, key: Key, request: &Request) {
        self.clear_losses(key, request);
        match request.state {
            State::InFlight { worker, ticket, .. } => {
                let Some(worker) = self.workers.get_mut(&worker) else { return };
                if worker.in_flight.remove(&ticket).is_some() {
                    *worker.unwanted.entry(key).or_default() += 1;
                    worker.unwanted_count += 1;
                }
            }
            State::Returned(order) => drop(self.pools[request.pool].returned.remove(&order)),
            State::New | State::Suspended(_) | State::Unknown => {}
        }
    }
}
