//! Which losses of workers are held against the requests that they had, and for how long: by these
//! a request is given up.
//!
//! A worker that says `back=` is the same process as an earlier one: that one's loss is held
//! against nothing any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::findings::{Promise, Spot};
use super::life::{Life, Worker};
use super::line::Held;
use super::requests::{Key, Request, State};

/// A lost worker that is held against a request.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub name: Rc<str>,
    number: u64,
    /// Its process, by the number of its first registration, if the matter ends when that is back.
    process: Option<u64>,
}

/// The lost workers that may come back.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// By process and registration: the open requests that each is held against.
    requests: BTreeMap<(u64, u64), BTreeSet<Key>>,
    process_of: HashMap<u64, u64>,
}

impl Missing {
    fn forget(&mut self, key: Key, loss: &Loss) {
        let Some(process) = loss.process else { return };
        let Some(requests) = self.requests.get_mut(&(process, loss.number)) else { return };
        requests.remove(&key);
        if requests.is_empty() {
            self.requests.remove(&(process, loss.number));
            self.process_of.remove(&loss.number);
        }
    }
}

impl Life {
    /// The process of a worker that joins, by the number of its first registration.
    pub(super) fn process_of(&mut self, number: u64, back: Option<u64>, spot: &mut Spot<'_>) -> u64 {
        let Some(before) = back else { return number };
        let present = self.workers.get_mut(&before).map(|worker| {
            worker.is_back = true;
            worker.process
        });
        let Some(process) = present.or_else(|| self.missing.process_of.get(&before).copied()) else {
            self.findings.add(spot, Promise::Poison, || {
                format!("w{number} comes back as w{before}, which is not there, nor held against any open request")
            });
            return number;
        };
        // Those of the process that are still there have been marked when the one before joined.
        self.withdraw(process);
        process
    }

    fn withdraw(&mut self, process: u64) {
        while let Some((&at, _)) = self.missing.requests.range((process, 0)..=(process, u64::MAX)).next() {
            self.missing.process_of.remove(&at.1);
            for key in self.missing.requests.remove(&at).unwrap_or_default() {
                let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.get_mut(&key.1)) else {
                    continue;
                };
                request.lost.retain(|loss| loss.number != at.1);
                if let State::Suspended(order) = request.state {
                    request.state = State::Returned(order);
                    self.pools[request.pool].returned.insert(order, key);
                }
            }
        }
    }

    /// Whether the loss is held against the requests as it is said to be.
    pub(super) fn checks_held(&mut self, number: u64, worker: &Worker, held: Held, reason: &str, spot: &mut Spot<'_>) {
        let allowed: &[Held] = match reason {
            _ if worker.leaving => &[Held::No],
            "registered again" | "its key is no longer allowed" | "does not take what it is sent" => &[Held::No],
            _ if reason.starts_with("sent something unreadable") => &[Held::Yes],
            _ if worker.is_back => &[Held::No, Held::Yes],
            // Of one that does not say which process it is, nobody knows whether it is back.
            _ => &[Held::UnlessBack, Held::Yes],
        };
        if !allowed.contains(&held) {
            self.findings.add(spot, Promise::Poison, || {
                let known = match (worker.leaving, worker.is_back) {
                    (true, _) => ", which was leaving,",
                    (_, true) => ", which had registered again,",
                    _ => "",
                };
                format!("that w{number}{known} was lost ({reason}) is held against its requests: {held:?}")
            });
        }
    }

    /// A lost worker gives a request back.
    pub(super) fn give_back(&mut self, key: Key, number: u64, worker: &Worker, held: Held) {
        let limit = self.given_up_after;
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.get_mut(&key.1)) else { return };
        let State::InFlight { order, suspect, .. } = request.state else { return };
        request.state = State::Returned(order);
        if held != Held::No && !suspect {
            let process = (held == Held::UnlessBack).then_some(worker.process);
            request.lost.push(Loss { name: Rc::clone(&worker.name), number, process });
            if let Some(process) = process {
                self.missing.requests.entry((process, number)).or_default().insert(key);
                self.missing.process_of.insert(number, process);
                if limit.is_some_and(|limit| request.lost.len() >= limit) {
                    request.state = State::Suspended(order);
                }
            }
        }
        if request.state == State::Returned(order) {
            self.pools[request.pool].returned.insert(order, key);
        }
    }

    /// A request has ended.
    pub(super) fn clear_losses(&mut self, key: Key, request: &Request) {
        request.lost.iter().for_each(|loss| self.missing.forget(key, loss));
    }
}
