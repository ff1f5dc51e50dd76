//! Losses of workers that count against the requests they held: enough of them, and a request is
//! given up.
//!
//! A worker that joins with `back=` is the same process as an earlier one, whose loss then counts no
//! longer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::Life;
use super::records::{Loss, Request, State};
use super::workers::Worker;
use crate::findings::Promise;
use crate::line::Evidence;
use crate::ranges::Id;

/// The lost workers that may come back.
#[derive(Debug, Default)]
pub(super) struct LostWorkers {
    /// The open requests that each counts against, by process and registration.
    requests: BTreeMap<(u64, u64), BTreeSet<Id>>,
    process_of: HashMap<u64, u64>,
}

impl LostWorkers {
    fn remove(&mut self, id: Id, loss: &Loss) {
        let Some(process) = loss.process else { return };
        let Some(requests) = self.requests.get_mut(&(process, loss.number)) else { return };
        requests.remove(&id);
        if requests.is_empty() {
            self.requests.remove(&(process, loss.number));
            self.process_of.remove(&loss.number);
        }
    }
}

impl Life {
    /// Returns the process of a worker that joins, by the number of its first registration.
    pub(super) fn process_of(&mut self, number: u64, back: Option<u64>) -> u64 {
        let Some(before) = back else { return number };
        let present = self.workers.by_number.get_mut(&before).map(|worker| {
            worker.is_back = true;
            worker.process
        });
        let Some(process) = present.or_else(|| self.lost_workers.process_of.get(&before).copied()) else {
            self.findings.add(Promise::Poison, || {
                format!("w{number} comes back as w{before}, which is not there, nor held against any open request")
            });
            return number;
        };
        // Registrations of the process that are still there were marked when the one before joined.
        self.clear_process(process);
        process
    }

    /// Removes the losses of a process that is back from the requests that they counted against.
    fn clear_process(&mut self, process: u64) {
        while let Some((&lost, _)) = self.lost_workers.requests.range((process, 0)..=(process, u64::MAX)).next() {
            self.lost_workers.process_of.remove(&lost.1);
            for id in self.lost_workers.requests.remove(&lost).unwrap_or_default() {
                let Some(request) = self.clients.request_mut(id) else { continue };
                request.lost.retain(|loss| loss.number != lost.1);
                if let State::Suspended(order) = request.state {
                    request.state = State::Returned(order);
                    self.pools[request.pool].returned.insert(order, id);
                }
            }
        }
    }

    /// Checks whether the loss may count against the requests as the line says.
    pub(super) fn check_evidence(&mut self, number: u64, worker: &Worker, evidence: Evidence, reason: &str) {
        let allowed: &[Evidence] = match reason {
            _ if worker.leaving => &[Evidence::No],
            "registered again" | "its key is no longer allowed" | "does not take what it is sent" => &[Evidence::No],
            _ if reason.starts_with("sent something unreadable") => &[Evidence::Yes],
            _ if worker.is_back => &[Evidence::No, Evidence::Yes],
            // A worker that does not name its process can't be recognised when it is back.
            _ => &[Evidence::UnlessBack, Evidence::Yes],
        };
        if !allowed.contains(&evidence) {
            self.findings.add(Promise::Poison, || {
                let known = match (worker.leaving, worker.is_back) {
                    (true, _) => ", which was leaving,",
                    (_, true) => ", which had registered again,",
                    _ => "",
                };
                format!("that w{number}{known} was lost ({reason}) is held against its requests: {evidence:?}")
            });
        }
    }

    /// Puts a request that a lost worker held back into its pool's queue.
    pub(super) fn return_request(&mut self, id: Id, number: u64, worker: &Worker, evidence: Evidence) {
        let Some(request) = self.clients.request_mut(id) else { return };
        let State::InFlight { order, suspect, .. } = request.state else { return };
        request.state = State::Returned(order);
        if evidence != Evidence::No && !suspect {
            let process = (evidence == Evidence::UnlessBack).then_some(worker.process);
            request.lost.push(Loss { name: Rc::clone(&worker.name), number, process });
            if let Some(process) = process {
                self.lost_workers.requests.entry((process, number)).or_default().insert(id);
                self.lost_workers.process_of.insert(number, process);
                if self.given_up_after.is_some_and(|limit| request.lost.len() >= limit) {
                    request.state = State::Suspended(order);
                    return;
                }
            }
        }
        self.pools[request.pool].returned.insert(order, id);
    }

    /// Removes a request that has ended from the tables of lost workers.
    pub(super) fn clear_losses(&mut self, id: Id, request: &Request) {
        request.lost.iter().for_each(|loss| self.lost_workers.remove(id, loss));
    }
}
