//! Workers that can compute nothing for now: they hand back what they hold, and have no seat until
//! they can again.
//!
//! Such a worker is not lost, and nothing counts against the requests that it hands back, because
//! it has not begun them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::Ticket;
use giostra_protocol::escape::sentence;

use super::Broker;
use super::records::{Flight, State};
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::WorkerNumber;
use crate::tables::pending::Place;

/// The maximum number of characters of a worker's reason that are kept. Each status has it.
const MAX_REASON: usize = 200;

impl Broker {
    /// Takes a worker's seat away and gives the requests of these tickets back. A worker may be
    /// unable repeatedly, to hand back requests that were on their way to it.
    pub(super) fn unable(&mut self, number: WorkerNumber, reason: &str, tickets: Vec<Ticket>, now: Instant) {
        let mut returned = IdRanges::default();
        let mut ending = self.begin_ending(number);
        self.work += tickets.len();
        for ticket in tickets {
            let Some(Flight::Wanted(key)) = self.end_flight(&mut ending, ticket) else { continue };
            self.end_attempt(key);
            let request = &mut self.requests[key.at()];
            let State::InFlight { order, .. } = request.state else { unreachable!("it is in flight") };
            request.state = State::Pending(Place::Returned(order));
            let (source, id, pool) = (request.source, request.id, request.pool);
            returned.request(source, id);
            self.pools[pool.0].pending.give_back(order, key);
            self.add_pending(source);
        }
        let reason = one_line(reason);
        let worker = self.worker(number);
        let (label, pool, leaving) = (worker.label(number), worker.pool, worker.leaving);
        let before = worker.unable.replace(reason.clone());
        worker.waits_to_be_able = false;
        // A new reason alone is logged as often as the worker may become able again.
        let is_news = before.is_none() || before.as_ref() != Some(&reason) && worker.changes.take(now);
        if before.is_none() && !leaving {
            self.pools[pool.0].ring.leave(number);
            self.pools[pool.0].unable += 1;
        }
        self.stats.names.gave_back(&(Arc::clone(&self.pools[pool.0].name), label.name.clone()), returned.len());
        if is_news || !returned.is_empty() {
            self.log(Event::WorkerUnable { worker: label, returned, reason });
        }
        // Handing requests back says nothing about how wide the window should be.
        self.end(number, ending, 0, Duration::ZERO, now);
    }

    /// Handles a worker that is able again. One that changes too often waits for its next ping,
    /// because each change writes two lines to the log.
    pub(super) fn is_able(&mut self, number: WorkerNumber, now: Instant) {
        let worker = self.worker(number);
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
        let worker = self.worker(number);
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
