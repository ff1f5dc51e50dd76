//! Workers that leave without a loss: drained by a client, or of their own accord.

use std::time::Instant;

use giostra_protocol::{Identity, MAX_BATCH, ToClient, ToWorker, name};

use super::{Broker, Output};
use crate::event::Event;
use crate::ids::WorkerNumber;

/// The maximum number of workers of one name that a refusal lists.
const MAX_NAMESAKES: usize = 10;

impl Broker {
    /// Begins to drain a worker, or all workers of a name, for the client `from`.
    pub(super) fn drain(&mut self, from: &Identity, name: &str, number: u64, all: bool, now: Instant) {
        if let Err(bad) = name::check(name) {
            return self.refuse_client(from, &format!("worker: {bad}"), now);
        }
        let matching_workers = self.matching_workers(name, number);
        let refused = match &matching_workers[..] {
            [] if number > 0 => Some(format!("there is no worker '{name}' w{number}; status lists the workers")),
            [] => Some(format!("there is no worker '{name}'; status lists the workers")),
            [_, _, ..] if !all => Some(self.ambiguous(name, &matching_workers)),
            _ => None,
        };
        let answer = match refused {
            Some(reason) => ToClient::Refused { reason },
            None => {
                let numbers = matching_workers.iter().take(MAX_BATCH).map(|number| number.0).collect();
                for number in matching_workers {
                    self.leave(number, true);
                }
                ToClient::Draining { worker: name.into(), numbers }
            }
        };
        self.outputs.push_back(Output::ToClient(from.clone(), answer));
    }

    /// Returns the workers of this name, or with a number the one of both. A name that no worker
    /// has may be a number.
    fn matching_workers(&self, name: &str, number: u64) -> Vec<WorkerNumber> {
        let read = |text: &str| text.strip_prefix('w').and_then(|number| number.parse().ok()).map(WorkerNumber);
        let namesakes = self.workers.iter().filter(|(_, worker)| &*worker.name == name).map(|(number, _)| number);
        let mut matching_workers: Vec<_> = namesakes.filter(|it| number == 0 || it.0 == number).collect();
        if matching_workers.is_empty() && number == 0 {
            // Where workers are called w1 and w2, the name of one that has just left is not
            // another's number.
            let other =
                |number: &WorkerNumber| self.workers.get(number).is_some_and(|worker| read(&worker.name).is_none());
            matching_workers.extend(read(name).filter(other));
        }
        matching_workers.sort_unstable();
        matching_workers
    }

    fn ambiguous(&self, name: &str, matching_workers: &[WorkerNumber]) -> String {
        let mut list = String::new();
        for number in matching_workers.iter().take(MAX_NAMESAKES) {
            let address = self.workers.address(&self.workers[number].identity);
            let at = if address.is_empty() { "" } else { " at " };
            list += &format!("{number}{at}{address}, ");
        }
        let more = if matching_workers.len() > MAX_NAMESAKES { ".., " } else { "" };
        let (count, first) = (matching_workers.len(), matching_workers[0]);
        format!("{count} workers are called '{name}': {list}{more}say which (drain {name} {first}), or --all")
    }

    /// Takes a worker's seat away; it finishes what it holds.
    pub(super) fn leave(&mut self, number: WorkerNumber, drained: bool) {
        let worker = self.worker(number);
        if worker.leaving {
            return;
        }
        worker.leaving = true;
        let (label, pool, in_flight) = (worker.label(number), worker.pool, worker.in_flight.len());
        let was_unable = worker.unable.is_some();
        self.pools[pool.0].ring.leave(number);
        self.pools[pool.0].unable -= usize::from(was_unable);
        self.touch_pool(pool);
        self.log(Event::WorkerLeaving { worker: label, drained, in_flight });
        if in_flight == 0 {
            self.goodbye(number);
        }
    }

    /// Removes a leaving worker that owes nothing more.
    pub(super) fn goodbye(&mut self, number: WorkerNumber) {
        self.log_remaining_discards(number);
        let worker = self.remove_worker(number);
        let (label, discarded, workers) = (worker.label(number), worker.discarded, self.workers.len());
        self.log(Event::WorkerLeft { worker: label, discarded, workers });
        self.outputs.push_back(Output::ToWorker(worker.identity, ToWorker::Goodbye));
    }
}
