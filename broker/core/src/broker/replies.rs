//! Replies from workers, and the requests that they end.

use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Outcome, Ticket, code};

use super::records::Flight;
use super::{Broker, Moment, PoolKey};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::WorkerNumber;
use crate::stats::pool_counters::count_times;
use crate::stats::rates::Durations;

/// The requests that a worker holds, while it answers or hands back some of them.
pub(super) struct Ending {
    in_flight: SparseQueue<Flight>,
    /// The last ticket that the worker has read for certain.
    read: u64,
    /// Bytes of the unwanted bodies that it has read.
    released: usize,
    /// Those that were cancelled, expired, or of a client that has left.
    unwanted: IdRanges,
    /// The number of tickets that were not the worker's.
    late: u64,
}

/// Requests that took equally long, in microseconds.
#[derive(Clone, Copy, Default)]
struct Alike {
    /// From their last dispatch.
    took: u64,
    since_acceptance: u64,
    count: u32,
}

impl Alike {
    /// Adds the others, unless they took another time.
    fn merge(&mut self, other: Self) -> bool {
        let is_alike = (self.took, self.since_acceptance) == (other.took, other.since_acceptance);
        self.count += if is_alike { other.count } else { 0 };
        is_alike
    }
}

impl Broker {
    pub(super) fn replies(&mut self, number: WorkerNumber, replies: Vec<(Ticket, Outcome)>, now: Instant) {
        let moment = self.moment(now);
        let mut ending = self.begin_ending(number);
        let worker = self.worker(number);
        let (label, pool) = (worker.label(number), worker.pool);
        let mut durations = worker.took.take().unwrap_or_default();
        let (mut results, mut errors) = (IdRanges::default(), IdRanges::default());
        // Requests that the worker skipped because they were cancelled.
        let mut skipped = 0;
        // Requests that were dispatched together and answered together took equally long.
        let mut alike = Alike::default();
        for (ticket, outcome) in replies {
            let key = match self.end_flight(&mut ending, ticket) {
                Some(Flight::Wanted(key)) => key,
                Some(Flight::Unwanted(..)) => {
                    let is_cancelled = matches!(&outcome, Outcome::Error(failure) if failure.code == code::CANCELLED);
                    skipped += u64::from(is_cancelled);
                    continue;
                }
                None => continue,
            };
            let request = &self.requests[key.at()];
            let (outcome, list) = match outcome {
                Outcome::Error(failure) => (Outcome::Error(failure.of_worker()), &mut errors),
                result => (result, &mut results),
            };
            list.request(request.source, request.id);
            let trace = request.trace(label.name.clone(), moment);
            let next = Alike { took: trace.took_us, since_acceptance: trace.waited_us + trace.took_us, count: 1 };
            if !alike.merge(next) {
                self.record_times(pool, &mut durations, alike, moment);
                alike = next;
            }
            self.close_request(key, Some((outcome, trace)));
        }
        self.record_times(pool, &mut durations, alike, moment);
        let answered = results.len() + errors.len();
        let counters = &mut self.pools[pool.0].counters;
        counters.succeeded += results.len();
        counters.failed += errors.len();
        let worker = self.worker(number);
        worker.took = Some(durations);
        worker.rate.add(answered, moment.second());
        worker.answered += answered;
        let round_trip = worker.liveness.pong().map_or(Duration::ZERO, |(_, took)| took);
        for (errors, requests) in [(false, results), (true, errors)] {
            if !requests.is_empty() {
                self.log(Event::Replied { worker: label.clone(), errors, requests });
            }
        }
        let computed = answered + ending.unwanted.len() - skipped;
        self.end(number, ending, computed, round_trip, now);
    }

    /// Takes out the requests that a worker holds, to end some of them.
    pub(super) fn begin_ending(&mut self, number: WorkerNumber) -> Ending {
        let worker = self.worker(number);
        let (in_flight, read) = (std::mem::take(&mut worker.in_flight), worker.read);
        Ending { in_flight, read, released: 0, unwanted: IdRanges::default(), late: 0 }
    }

    /// Ends a request that the worker has answered or handed back; `None` if it did not hold it.
    pub(super) fn end_flight(&mut self, ending: &mut Ending, ticket: Ticket) -> Option<Flight> {
        let ticket = ticket.0.wrapping_sub(self.settings.first_ticket);
        let flight = ending.in_flight.take(ticket);
        match flight {
            None => ending.late += 1,
            Some(_) => ending.read = ending.read.max(ticket),
        }
        if let Some(Flight::Unwanted(client, id, bytes)) = flight {
            ending.unwanted.request(client, id);
            ending.released += bytes as usize;
            self.release(client, bytes);
        }
        flight
    }

    /// Gives a worker back the requests that it still holds. It has computed `computed` of the
    /// others.
    pub(super) fn end(
        &mut self,
        number: WorkerNumber,
        ending: Ending,
        computed: u64,
        round_trip: Duration,
        now: Instant,
    ) {
        let Ending { in_flight, read, released, unwanted, late } = ending;
        let moment = self.moment(now);
        self.stats.discarded += unwanted.len() + late;
        let worker = self.worker(number);
        let holds_more = !in_flight.is_empty();
        worker.in_flight = in_flight;
        worker.read = read;
        worker.unwanted_bytes -= released;
        worker.in_quarantine &= holds_more;
        worker.window.replied(computed, holds_more, round_trip, moment.0);
        let (pool, has_finished) = (worker.pool, worker.leaving && !holds_more);
        self.release_read(number);
        self.discard(number, unwanted, late, now);
        self.touch_pool(pool);
        if has_finished {
            self.goodbye(number);
        }
    }

    /// Records how long requests took.
    fn record_times(&mut self, pool: PoolKey, of_worker: &mut Durations, alike: Alike, now: Moment) {
        let Alike { took, since_acceptance, count } = alike;
        if count > 0 {
            of_worker.add(took, count, now.second());
            self.stats.answers.add(since_acceptance, count, now.second());
            let pool = &mut self.pools[pool.0];
            pool.answers(now.second()).add(since_acceptance, count, now.second());
            count_times(&mut pool.counters, since_acceptance, count);
        }
    }

    /// Logs discarded results. Late ones alone are counted, and logged later, while there are too
    /// many such lines.
    fn discard(&mut self, number: WorkerNumber, unwanted: IdRanges, late: u64, now: Instant) {
        self.worker(number).late += late;
        if !unwanted.is_empty() || late > 0 && self.idle_lines.allows(now) {
            self.log_discarded(number, unwanted);
        }
    }

    fn log_discarded(&mut self, number: WorkerNumber, requests: IdRanges) {
        let worker = self.worker(number);
        let late = std::mem::take(&mut worker.late);
        worker.discarded += requests.len() + late;
        let worker = Some(worker.label(number));
        self.log(Event::Discarded { worker, requests, late });
    }

    /// Logs the discarded results that were not logged yet, before the worker goes.
    pub(super) fn log_remaining_discards(&mut self, number: WorkerNumber) {
        if self.worker(number).late > 0 {
            self.log_discarded(number, IdRanges::default());
        }
    }

    /// Releases the unwanted bodies that the worker has read.
    pub(super) fn release_read(&mut self, number: WorkerNumber) {
        let worker = self.worker(number);
        if worker.unwanted_bytes == 0 {
            return;
        }
        let read: Vec<_> = worker.in_flight.numbers().take_while(|&ticket| ticket <= worker.read).collect();
        let mut released = Vec::new();
        for ticket in read {
            if let Some(Flight::Unwanted(client, _, bytes)) = worker.in_flight.get_mut(ticket) {
                worker.unwanted_bytes -= *bytes as usize;
                released.push((*client, std::mem::take(bytes)));
            }
        }
        for (client, bytes) in released {
            self.release(client, bytes);
        }
    }
}
