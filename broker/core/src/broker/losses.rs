//! Lost workers: their requests go back to their pools.

use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::LostStatus;

use super::records::{Flight, Request, Worker};
use super::{Broker, Output, PoolKey};
use crate::event::{DropReason, Event};
use crate::id_ranges::IdRanges;
use crate::ids::WorkerNumber;

/// The unread bytes of bodies from which the connection of a silent worker is closed when it is
/// dropped.
const CLOSE_FROM: usize = 1 << 20;

impl Broker {
    /// Removes a lost worker, and gives its requests back to be dispatched before all others.
    pub(super) fn drop_worker(&mut self, number: WorkerNumber, reason: DropReason, now: Instant) {
        self.log_remaining_discards(number);
        let worker = self.remove_worker(number);
        let evidence = Self::evidence(&worker, &reason);
        let moment = self.moment(now);
        let mut returned = IdRanges::default();
        self.work += worker.in_flight.len();
        let (mut poisoned, mut unread, mut unwanted) = (Vec::new(), worker.unwanted_bytes, 0);
        for (ticket, &flight) in worker.in_flight.numbers().zip(worker.in_flight.iter()) {
            let key = match flight {
                Flight::Wanted(key) => key,
                Flight::Unwanted(client, _, bytes) => {
                    unwanted += 1;
                    self.release(client, bytes);
                    continue;
                }
            };
            let Request { source, id, ref body, .. } = self.requests[key.at()];
            if ticket > worker.read {
                unread += body.len();
            }
            returned.request(source, id);
            if self.give_back(key, (number, &worker), evidence, moment) {
                poisoned.push(key);
            }
        }
        let pool = &mut self.pools[worker.pool.0];
        pool.counters.workers_lost += 1;
        self.stats.names.gave_back(&(Arc::clone(&pool.name), worker.name.clone()), returned.len());
        self.stats.lost.push(LostStatus {
            name: worker.name.to_string(),
            number: number.0,
            pool: self.pools[worker.pool.0].name.to_string(),
            address: self.workers.address(&worker.identity),
            at_ms: self.moment(now).millis(),
            reason: reason.to_string(),
            returned: returned.len(),
            host: worker.host.to_string(),
        });
        if matches!(reason, DropReason::Silent(_)) && unread >= CLOSE_FROM {
            self.outputs.push_back(Output::Close(worker.identity.clone()));
        }
        let (discarded, workers) = (worker.discarded, self.workers.len());
        let worker = worker.label(number);
        self.log(Event::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence });
        for key in poisoned {
            self.poison(key, now);
        }
    }

    pub(super) fn remove_worker(&mut self, number: WorkerNumber) -> Worker {
        let worker = self.workers.remove(number, |worker| &worker.identity);
        self.pings.remove(&(worker.liveness.due(), number));
        self.instances.part(worker.instance, number);
        let PoolKey(pool) = worker.pool;
        self.pools[pool].ring.leave(number);
        self.pools[pool].workers -= 1;
        self.pools[pool].unable -= usize::from(worker.unable.is_some() && !worker.leaving);
        self.stats.names.part((Arc::clone(&self.pools[pool].name), worker.name.clone()), worker.answered);
        self.stats.hosts.part(worker.host.clone(), worker.answered);
        self.touch_pool(worker.pool);
        worker
    }
}
