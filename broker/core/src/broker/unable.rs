//! Workers that can compute nothing for now: they hand back what they hold, and have no seat until
//! they can again.
//!
//! Such a worker is not lost, and nothing counts against the requests that it hands back, because
//! it has not begun them.

use std::time::{Duration, Instant};

use giostra_protocol::Ticket;
use giostra_protocol::escape::sentence;

use super::Broker;
use super::records::{Flight, State};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::WorkerNumber;
use crate::tables::pending::Place;

/// The most characters of a worker's reason that are kept. Each status has it.
const MAX_REASON: usize = 200;

impl Broker {
    /// Takes a worker's seat away and gives the requests of these tickets back. A worker may be
    /// unable repeatedly, to hand back requests that were on their way to it.
    pub(super) fn unable(&mut self, number: WorkerNumber, reason: &str, tickets: Vec<Ticket>, now: Instant) {
        let (mut returned, mut unwanted, mut late) = (IdRanges::default(), IdRanges::default(), 0);
        let moment = self.moment(now);
        let worker = self.workers.get_mut(&number).expect("it is registered");
        let (label, pool) = (worker.label(number), worker.pool);
        let (leaving, before) = (worker.leaving, worker.unable.clone());
        // Taken out while its requests are given back.
        let mut in_flight = std::mem::take(&mut worker.in_flight);
        let (mut read, mut released) = (worker.read, 0);
        self.work += tickets.len();
        for ticket in tickets {
            let ticket = ticket.0.wrapping_sub(self.settings.first_ticket);
            let flight = in_flight.take(ticket);
            if flight.is_some() {
                read = read.max(ticket);
            }
            match flight {
                Some(Flight::Wanted(key)) => {
                    let request = &mut self.requests[key.at()];
                    let State::InFlight { order, .. } = request.state else { unreachable!("it is in flight") };
                    request.state = State::Pending(Place::Returned(order));
                    returned.request(request.client, request.id);
                    let client = request.client;
                    self.pools[pool.0].pending.give_back(order, key);
                    self.add_pending(client);
                }
                Some(Flight::Unwanted(client, id, bytes)) => {
                    unwanted.request(client, id);
                    self.release(client, bytes);
                    released += bytes as usize;
                }
                None => late += 1,
            }
        }
        let worker = self.workers.get_mut(&number).expect("it was just looked at");
        let holds_more = !in_flight.is_empty();
        worker.in_flight = in_flight;
        worker.read = read;
        worker.unwanted_bytes -= released;
        worker.alone &= holds_more;
        // What it hands back says nothing about how wide its window should be.
        worker.window.replied(0, holds_more, Duration::ZERO, moment.0);
        let reason = one_line(reason);
        worker.unable = Some(reason.clone());
        worker.waits_to_be_able = false;
        // A new reason alone is logged as often as the worker may become able again.
        let is_told = before.is_none() || before.as_ref() != Some(&reason) && worker.changes.take(now);
        if before.is_none() && !leaving {
            self.pools[pool.0].ring.leave(number);
            self.pools[pool.0].unable += 1;
        }
        let name = &label.name;
        self.stats.names.gave_back(&self.pools[pool.0].name, name, returned.len());
        self.stats.discarded += unwanted.len() + late;
        if is_told || !returned.is_empty() {
            self.log(Event::WorkerUnable { worker: label, returned, reason });
        }
        self.discards(number, unwanted, late, now);
        self.release_read(number);
        self.touch_pool(pool);
        if leaving && !holds_more {
            self.goodbye(number);
        }
    }

    /// Handles a worker that is able again. One that changes too often waits for its next ping,
    /// because each change writes two lines to the log.
    pub(super) fn is_able(&mut self, number: WorkerNumber, now: Instant) {
        let worker = self.workers.get_mut(&number).expect("it is registered");
        if worker.unable.is_none() || worker.waits_to_be_able {
            return;
        }
        match worker.changes.take(now) {
            true => self.able(number),
            false => worker.waits_to_be_able = true,
        }
    }

    /// Gives a worker the seat at the tail.
    pub(super) fn able(&mut self, number: WorkerNumber) {
        let worker = self.workers.get_mut(&number).expect("it is registered");
        worker.waits_to_be_able = false;
        if worker.leaving || worker.unable.take().is_none() {
            return;
        }
        let (label, pool) = (worker.label(number), worker.pool);
        let ring = &mut self.pools[pool.0].ring;
        ring.join(number);
        let seats = ring.seats().len();
        self.pools[pool.0].unable -= 1;
        self.log(Event::WorkerAble { worker: label, seats });
        self.touch_pool(pool);
    }
}

/// Returns a peer's sentence as one line of limited length that is not empty, for the log and the
/// status.
fn one_line(reason: &str) -> String {
    let end = reason.char_indices().nth(MAX_REASON).map_or(reason.len(), |(end, _)| end);
    match sentence(&reason[..end]).trim() {
        "" => "it does not say why".into(),
        line => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_is_not_too_long_and_hides_nothing() {
        assert_eq!(one_line("can't start x:\nno such file\u{1b}[2J"), "can't start x: no such file [2J");
        assert_eq!(one_line("on \u{202e}1tsoh\u{200b}"), r"on \u{202e}1tsoh\u{200b}");
        assert_eq!(one_line(" \n"), "it does not say why");
        assert_eq!(one_line(&"é".repeat(10_000)).chars().count(), MAX_REASON);
    }
}
