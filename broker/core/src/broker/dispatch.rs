//! Settling: pending requests are dispatched to workers with room, and everything for one worker or
//! client is put into one message. No other place does either.

use std::time::Instant;

use giostra_protocol::codec::{packed_len, portions};
use giostra_protocol::{MAX_BATCH, MAX_MESSAGE_BYTES, Ticket, ToClient, ToWorker};

use super::records::{Next, USUAL_BATCH, Worker};
use super::requests::account;
use super::{Broker, Moment, Output, PoolKey};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::WorkerNumber;
use crate::policy::rotation::{Ring, Rotation};
use crate::tables::peers::Peers;

/// Replies are held back until there are this many for each request of the client in flight.
const REPLIES_PER_IN_FLIGHT: usize = 8;

/// The requests that one worker is handed in one pass.
#[derive(Default)]
struct Batch {
    suspect: bool,
    tickets: IdRanges,
    requests: IdRanges,
}

impl Broker {
    pub(super) fn settle(&mut self, now: Instant) {
        let mut pools = std::mem::take(&mut self.touched_pools);
        for key in pools.drain(..) {
            let batched = if self.closing { Vec::new() } else { self.deal(key, now) };
            for number in batched {
                let worker = self.workers.get_mut(&number).expect("it was just dealt to");
                for (priority, run) in worker.take_batch() {
                    for requests in portions(run, MAX_MESSAGE_BYTES, |(_, body)| packed_len(body)) {
                        let message = ToWorker::Dispatch { priority, requests };
                        self.outputs.push_back(Output::ToWorker(worker.identity.clone(), message));
                    }
                }
            }
            self.pools[key.0].touched = false;
            self.remove_if_empty(key);
        }
        self.touched_pools = pools;
        for number in std::mem::take(&mut self.touched_workers) {
            // A worker that was lost meanwhile needs no cancellations.
            let Some(worker) = self.workers.get_mut(&number) else { continue };
            for tickets in std::mem::take(&mut worker.cancelled).chunks(MAX_BATCH) {
                let message = ToWorker::Cancel(tickets.to_vec());
                self.outputs.push_back(Output::ToWorker(worker.identity.clone(), message));
            }
        }
        self.give_credit(now);
        self.send_replies(Some(now));
        self.settle_jobs(self.moment(now));
        self.answer_inspections(now);
        self.shrink();
        if self.closing {
            self.part();
        }
    }

    /// Sends replies that were held back for the sake of larger messages. To be called before
    /// sleeping: replies are held back while the broker is busy, and a sleep may last.
    pub fn flush(&mut self) {
        self.send_replies(None);
    }

    /// Puts everything for each client into one message. With `now` it may be held back: see
    /// [`Settings::coalesce`](crate::config::Settings::coalesce).
    fn send_replies(&mut self, now: Option<Instant>) {
        let holding = now.filter(|_| !self.closing && !self.settings.coalesce.is_zero());
        let Self { touched_clients, clients, outputs, settings, .. } = self;
        touched_clients.retain(|number| {
            // A client that has left meanwhile gets nothing.
            let Some(client) = clients.get_mut(number) else { return false };
            let account = &mut client.account;
            if let Some(now) = holding
                && !client.large
                && account.replies.len() < REPLIES_PER_IN_FLIGHT * (account.unanswered.len() - account.pending)
                && now < *client.held_back_until.get_or_insert_with(|| now + settings.coalesce)
            {
                return true;
            }
            (client.large, client.held_back_until) = (false, None);
            let reserved = Vec::with_capacity(account.replies.len().min(USUAL_BATCH));
            let replies = std::mem::replace(&mut account.replies, reserved);
            for replies in portions(replies, MAX_MESSAGE_BYTES, |reply| reply.outcome.packed_len()) {
                outputs.push_back(Output::ToClient(client.identity.clone(), ToClient::Replies(replies)));
            }
            false
        });
    }

    /// Dispatches the pool's pending requests while workers have room. Returns the workers that got
    /// some, in their order.
    fn deal(&mut self, pool: PoolKey, now: Instant) -> Vec<WorkerNumber> {
        let mut batched = Vec::new();
        // Two passes, so that a line of the log has either first or repeated dispatches.
        for again in [true, false] {
            if self.pools[pool.0].pending.has_returned() == again {
                self.deal_pass(pool, again, &mut batched, now);
            }
        }
        batched
    }

    fn deal_pass(&mut self, pool_key: PoolKey, again: bool, batched: &mut Vec<WorkerNumber>, now: Instant) {
        let moment = self.moment(now);
        let pool = &mut self.pools[pool_key.0];
        let (rotation, laps_of) = (self.settings.rotation, pool.ring.seats().len());
        // By seat, in the order of the first dispatch.
        let mut batches: Vec<(WorkerNumber, Batch)> = Vec::new();
        let (mut dealt, mut place) = (0, 0);
        while pool.pending.has_next() && pool.pending.has_returned() == again {
            let next = pool.next(&self.requests, &self.settings);
            let workers = &self.workers;
            let Some(number) = pool.ring.turn(rotation, |number| workers[&number].has_room(next)) else {
                if rotation == Rotation::Strict && next != Next::Alone && widen(&pool.ring, &mut self.workers, next) {
                    continue;
                }
                break;
            };
            let key = pool.pending.pop().expect("it is not empty");
            self.pending -= 1;
            self.last_ticket += 1;
            let ticket = self.last_ticket;

            let request = &mut self.requests[key.at()];
            if let Some(account) = account(&mut self.clients, &mut self.jobs, request.source) {
                account.pending -= 1;
            }
            let worker = self.workers.get_mut(&number).expect("a seated worker is here");
            let suspect = worker.liveness.suspect();
            request.dispatch(number, ticket, suspect, moment);
            if request.source.job().is_some()
                && let Some(deadline) = request.deadline()
            {
                self.deadlines.insert((deadline, key));
            }
            let sent = Ticket(self.settings.first_ticket.wrapping_add(ticket));
            if worker.hand(ticket, sent, key, request, next) {
                batched.push(number);
            }

            let index = match rotation {
                Rotation::Strict => place,
                Rotation::Available => batches.iter().position(|&(seat, _)| seat == number).unwrap_or(batches.len()),
            };
            if index == batches.len() {
                batches.push((number, Batch::default()));
            }
            let batch = &mut batches[index].1;
            batch.suspect = suspect;
            batch.tickets.ticket(ticket);
            batch.requests.request(request.source, request.id);
            dealt += 1;
            place = if place + 1 == laps_of { 0 } else { place + 1 };
        }
        self.end_pass(pool_key, again, dealt, moment);
        let begun_lap = if rotation == Rotation::Strict && dealt > laps_of { dealt % laps_of } else { 0 };
        self.log_batches(batches, begun_lap, again);
    }

    /// Counts what a pass has dealt, and records the seat that strict rotation waits for.
    fn end_pass(&mut self, key: PoolKey, again: bool, dealt: usize, now: Moment) {
        let pool = &mut self.pools[key.0];
        pool.dispatched.add(dealt as u64, now.second());
        pool.counters.dispatched += dealt as u64;
        if again {
            pool.counters.redispatched += dealt as u64;
        }
        match self.settings.rotation {
            Rotation::Strict => {
                let waits = pool.ring.seats().get(pool.ring.next()).filter(|_| pool.pending.has_next());
                pool.waits = waits.and_then(|&seat| {
                    pool.waits.filter(|&(before, _)| before == seat && dealt == 0).or(Some((seat, now)))
                });
            }
            Rotation::Available if dealt > 0 => self.log_windows(key),
            Rotation::Available => {}
        }
    }

    /// Logs the windows of seats that may just have been passed over, and of those that are fuller
    /// than the log knows, before the lines of the pass, which they prove. A worker that was passed
    /// over is full at the end of the pass.
    fn log_windows(&mut self, pool: PoolKey) {
        for seat in self.pools[pool.0].ring.seats() {
            let worker = self.workers.get_mut(seat).expect("a seated worker is here");
            let (size, held) = (worker.window.now(), worker.in_flight.len());
            if size != worker.logged_window && (held >= size || held > worker.logged_window) {
                worker.logged_window = size;
                self.outputs.push_back(Output::Log(Event::Window { worker: worker.label(*seat), size }));
            }
        }
    }

    /// Logs one line a seat for all full laps, and then one for each seat of the lap that was only
    /// begun, so that the lines also go round the ring without a gap.
    fn log_batches(&mut self, mut batches: Vec<(WorkerNumber, Batch)>, begun_lap: usize, again: bool) {
        let mut begun = Vec::new();
        for (number, batch) in batches.iter_mut().take(begun_lap) {
            if let (Some(tickets), Some(requests)) = (batch.tickets.split_last(), batch.requests.split_last()) {
                begun.push((*number, Batch { suspect: batch.suspect, tickets, requests }));
            }
        }
        for (number, Batch { suspect, tickets, requests }) in batches.into_iter().chain(begun) {
            let worker = self.workers[&number].label(number);
            self.log(Event::Dispatched { worker, again, suspect, tickets, requests });
        }
    }
}

/// Lets the seat whose turn it is have one more request if another worker has an idle thread.
/// Returns whether it may.
fn widen(ring: &Ring<WorkerNumber>, workers: &mut Peers<WorkerNumber, Worker>, next: Next) -> bool {
    let Some(full) = ring.seats().get(ring.next()) else { return false };
    let held = workers[full].in_flight.len() + workers[full].reserved(next);
    if workers[full].in_quarantine || !workers[full].window.may_widen(held) {
        return false;
    }
    let idles = |worker: &Worker| worker.in_flight.len() < worker.window.threads() && !worker.in_quarantine;
    let needed = ring.seats().iter().any(|seat| idles(&workers[seat]));
    if needed {
        workers.get_mut(full).expect("it was just looked at").window.widen(held);
    }
    needed
}
