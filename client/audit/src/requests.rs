//! What becomes of requests in one life of a broker: accepted, held by one worker after the other,
//! ended once.

use super::evidence::Loss;
use super::findings::{Promise, Spot};
use super::life::Life;
use super::line::{self, Gone, Held};
use super::runs::Runs;
use std::collections::hash_map::Entry;

/// A request: its client's number and its own.
pub(super) type Key = (u64, u64);

/// An open request.
#[derive(Debug)]
pub(super) struct Request {
    pub pool: usize,
    pub state: State,
    /// The workers that were lost while they held it, as far as that is held against it.
    pub lost: Vec<Loss>,
}

/// Where an open request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// When it has not been dispatched.
    Fresh,
    /// When a worker gave it back, or was lost: the ticket of its first dispatch.
    Returned(u64),
    /// When a lost worker gave it back, and it will be given up unless one comes back: the same.
    Suspended(u64),
    /// When a worker holds it; `order` is the ticket of its first dispatch.
    InFlight { worker: u64, ticket: u64, order: u64, suspect: bool },
    /// When the log contradicted itself about it, which has been reported: it may be anywhere.
    Adrift,
}

/// As the log writes it.
pub(super) fn written((client, id): Key) -> String {
    format!("c{client}#{id}")
}

impl Life {
    pub(super) fn accepted(&mut self, requests: &Runs<'_>, pool: &str, spot: &mut Spot<'_>) {
        self.counts.accepted += requests.count();
        let pool = self.pool(pool);
        for run in requests.runs() {
            let client = run.client;
            let Some(held) = self.clients.get_mut(&client).map(|client| &mut client.held) else {
                self.findings.add(spot, Promise::Requests, || format!("requests of c{client}, which is not there"));
                self.clients.entry(client).or_default();
                continue;
            };
            held.reserve(run.into_iter().size_hint().0);
            for (_, id) in run {
                match held.entry(id) {
                    Entry::Vacant(place) => {
                        place.insert(Request { pool, state: State::Fresh, lost: Vec::new() });
                    }
                    Entry::Occupied(_) => self.findings.add(spot, Promise::Requests, || {
                        format!("{} is accepted, but is open already", written((client, id)))
                    }),
                }
            }
        }
        self.looks_at_its_size();
    }

    pub(super) fn replied(&mut self, named: line::Worker<'_>, errors: bool, requests: &Runs<'_>, spot: &mut Spot<'_>) {
        let count = if errors { &mut self.counts.reply_errors } else { &mut self.counts.replies };
        *count += requests.count();
        self.answers(requests);
        if !self.knows(named, spot) {
            for key in requests.each() {
                self.forget(key);
            }
            return;
        }
        let number = named.number;
        for key in requests.each() {
            let ticket = match self.state(key) {
                Some(State::InFlight { worker, ticket, .. }) if worker == number => Some(ticket),
                Some(State::Adrift) => None,
                state => {
                    let workers = &self.workers;
                    self.findings.add(spot, Promise::Requests, || {
                        let why = match state {
                            Some(State::InFlight { worker, .. }) => match workers.get(&worker) {
                                Some(holder) => format!("{} w{worker} holds it", holder.name),
                                None => format!("w{worker} holds it"),
                            },
                            Some(_) => "no worker holds it".into(),
                            None => "it is not open: it has ended before, or was never accepted".into(),
                        };
                        format!("w{number} replies to {}, but {why}", written(key))
                    });
                    self.take_back(key);
                    None
                }
            };
            if let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.remove(&key.1)) {
                self.clear_losses(key, &request);
            }
            if let (Some(ticket), Some(worker)) = (ticket, self.workers.get_mut(&number)) {
                worker.in_flight.remove(&ticket);
            }
        }
    }

    pub(super) fn discarded(
        &mut self,
        named: Option<line::Worker<'_>>,
        late: u64,
        requests: &Runs<'_>,
        spot: &mut Spot<'_>,
    ) {
        self.counts.discarded += late + requests.count();
        let Some(named) = named else { return };
        if !self.knows(named, spot) {
            return;
        }
        let number = named.number;
        self.workers.get_mut(&number).expect("it is known").discarded += late + requests.count();
        for key in requests.each() {
            let worker = self.workers.get_mut(&number).expect("it is known");
            match worker.unwanted.entry(key) {
                Entry::Occupied(mut count) => {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                    worker.unwanted_count -= 1;
                }
                Entry::Vacant(_) => self.findings.add(spot, Promise::Requests, || {
                    format!("the result of {} is discarded, but w{number} held nothing unwanted of it", written(key))
                }),
            }
        }
    }

    /// Requests end without a result of a worker's.
    pub(super) fn ended(&mut self, requests: &Runs<'_>, how: &str, spot: &mut Spot<'_>) {
        for key in requests.each() {
            if !self.forget(key) {
                self.findings.add(spot, Promise::Requests, || {
                    format!("{} {how}, but is not open: it has ended before, or was never accepted", written(key))
                });
            }
        }
    }

    pub(super) fn dropped(
        &mut self,
        named: line::Worker<'_>,
        (returned, requests): (u64, &Runs<'_>),
        gone: Gone,
        (held, reason): (Held, &str),
        spot: &mut Spot<'_>,
    ) {
        self.counts.workers_dropped += 1;
        self.counts.returned += requests.count();
        if !self.knows(named, spot) {
            return requests.each().for_each(|key| self.set_adrift(key));
        }
        let number = named.number;
        let worker = self.remove_worker(number);
        self.checks_held(number, &worker, held, reason, spot);
        if returned != requests.count() {
            self.findings
                .add(spot, Promise::Requests, || format!("{} requests are named, not {returned}", requests.count()));
        }
        let mut named = requests.each();
        for &key in worker.in_flight.values() {
            let name = named.next();
            if name != Some(key) {
                self.findings.add(spot, Promise::Requests, || match name {
                    Some(name) => format!("w{number} gives back {} where {} is next", written(name), written(key)),
                    None => format!("w{number} held {}, which is not given back", written(key)),
                });
            }
            self.give_back(key, number, &worker, held);
        }
        if let Some(name) = named.next() {
            self.findings.add(spot, Promise::Requests, || {
                format!("w{number} gives back {}, which it does not hold", written(name))
            });
        }
        self.compares_discarded(number, &worker, gone, spot);
    }

    /// A worker can compute nothing for now: it has no seat, and nothing is held against what it
    /// hands back.
    pub(super) fn unable(&mut self, named: line::Worker<'_>, returned: u64, requests: &Runs<'_>, spot: &mut Spot<'_>) {
        self.counts.handed_back += requests.count();
        if !self.knows(named, spot) {
            return requests.each().for_each(|key| self.set_adrift(key));
        }
        let number = named.number;
        let worker = self.workers.get_mut(&number).expect("it is known");
        let before = std::mem::replace(&mut worker.unable, true);
        self.counts.workers_unable += u64::from(!before);
        let ring = &mut self.pools[worker.pool].ring;
        ring.leave(number);
        if returned != requests.count() {
            self.findings
                .add(spot, Promise::Requests, || format!("{} requests are named, not {returned}", requests.count()));
        }
        for key in requests.each() {
            match self.state(key) {
                Some(State::InFlight { worker, ticket, .. }) if worker == number => {
                    self.workers.get_mut(&number).expect("it is known").in_flight.remove(&ticket);
                    self.waits_again(key);
                }
                _ => {
                    self.findings.add(spot, Promise::Requests, || {
                        format!("w{number} hands back {}, which it does not hold", written(key))
                    });
                    self.set_adrift(key);
                }
            }
        }
    }

    /// A request that nothing is held against is given back.
    fn waits_again(&mut self, key: Key) {
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.get_mut(&key.1)) else { return };
        let State::InFlight { order, .. } = request.state else { return };
        request.state = State::Returned(order);
        self.pools[request.pool].returned.insert(order, key);
    }

    pub(super) fn poisoned(&mut self, requests: &Runs<'_>, workers: &str, spot: &mut Spot<'_>) {
        self.counts.poisoned += requests.count();
        self.answers(requests);
        for key in requests.each() {
            let held = self.clients.get(&key.0).and_then(|client| client.held.get(&key.1));
            let (state, lost) = match held {
                Some(request) => (Some(request.state), request.lost.iter().map(|loss| &*loss.name).collect()),
                None => (None, Vec::new()),
            };
            let (names, count) = (lost.join(","), lost.len());
            if !matches!(state, Some(State::Returned(_) | State::Suspended(_) | State::Adrift)) {
                self.findings.add(spot, Promise::Poison, || {
                    format!("{} is given up, but was not given back by a lost worker", written(key))
                });
            } else if names != workers && state != Some(State::Adrift) {
                self.findings.add(spot, Promise::Poison, || {
                    format!("{} was lost with {names}, not with {workers}", written(key))
                });
            } else if state != Some(State::Adrift) {
                self.compares_limit(count, key, spot);
            }
            self.forget(key);
        }
    }

    /// All are given up after equally many lost workers, and none is dispatched again after so
    /// many.
    fn compares_limit(&mut self, lost: usize, key: Key, spot: &mut Spot<'_>) {
        let most = self.dispatched_after;
        let limit = *self.given_up_after.get_or_insert(lost);
        if limit != lost {
            self.findings.add(spot, Promise::Poison, || {
                format!("{} is given up after {lost} workers were lost, another was after {limit}", written(key))
            });
        } else if most >= lost {
            self.findings.add(spot, Promise::Poison, || {
                format!(
                    "{} is given up after {lost} workers were lost, another was dispatched again after {most}",
                    written(key)
                )
            });
        }
    }

    pub(super) fn state(&self, key: Key) -> Option<State> {
        self.clients.get(&key.0)?.held.get(&key.1).map(|request| request.state)
    }

    /// The log has contradicted itself about this request.
    pub(super) fn set_adrift(&mut self, key: Key) {
        self.take_back(key);
        if let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.get_mut(&key.1)) {
            request.state = State::Adrift;
        }
    }

    /// Takes the request out of wherever it is held or waits.
    pub(super) fn take_back(&mut self, key: Key) {
        let Some(request) = self.clients.get(&key.0).and_then(|client| client.held.get(&key.1)) else { return };
        match request.state {
            State::InFlight { worker, ticket, .. } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.in_flight.remove(&ticket);
                }
            }
            State::Returned(order) => drop(self.pools[request.pool].returned.remove(&order)),
            State::Fresh | State::Suspended(_) | State::Adrift => {}
        }
    }

    /// Takes an open request out of everything, because it has ended; what a worker computes of it
    /// is unwanted. False if it is not open.
    pub(super) fn forget(&mut self, key: Key) -> bool {
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.remove(&key.1)) else {
            return false;
        };
        self.let_go(key, &request);
        true
    }

    /// The same of a request that is no longer in its client's table.
    pub(super) fn let_go(&mut self, key: Key, request: &Request) {
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
            State::Fresh | State::Suspended(_) | State::Adrift => {}
        }
    }
}
