//! Dispatches, checked against the ring: each ticket once and in order, to the seat whose turn it is.
//!
//! One pass of the broker writes a line for each seat, so the tickets of neighbouring lines
//! interleave. The lines of a pass are collected and merged by their tickets before they are checked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::Flatten;
use std::rc::Rc;
use std::vec;

use super::Life;
use super::requests::{Key, State, format_key};
use crate::findings::{Promise, SourceLine};
use crate::line;
use crate::ranges::{IdRange, IdRanges};

/// What a dispatch line says beside its ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct DispatchFlags {
    /// Whether the requests had been with other workers.
    pub again: bool,
    /// Whether the worker was suspect already.
    pub suspect: bool,
}

/// A dispatch line that waits for the other lines of its pass.
#[derive(Debug)]
pub(super) struct DispatchBatch {
    at: SourceLine<'static>,
    worker: u64,
    name: Rc<str>,
    flags: DispatchFlags,
    first_ticket: u64,
    tickets: Flatten<vec::IntoIter<IdRange>>,
    requests: Flatten<vec::IntoIter<IdRange>>,
}

/// How a ticket relates to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TicketOrder {
    /// It is the next one.
    Next,
    /// Tickets before it are missing, so it is unknown whose turn it is.
    AfterGap,
    /// It was dispatched before.
    Repeated,
}

impl Life {
    /// Collects a dispatch line.
    pub(super) fn on_dispatch(
        &mut self,
        worker: line::Worker<'_>,
        flags: DispatchFlags,
        tickets: &IdRanges<'_>,
        requests: &IdRanges<'_>,
        at: &mut SourceLine<'_>,
    ) {
        self.counts.dispatched += requests.count();
        self.counts.redispatched += if flags.again { requests.count() } else { 0 };
        if tickets.count() != requests.count() {
            self.findings.add(at, Promise::Rotation, || {
                format!("{} tickets for {} requests", tickets.count(), requests.count())
            });
        }
        let mut before = 0;
        for range in tickets.ranges() {
            if range.first <= before {
                self.findings.add(at, Promise::Rotation, || {
                    format!("t{} stands behind t{before}, which was dealt later", range.first)
                });
            }
            before = range.last;
        }
        self.batches.push(DispatchBatch {
            at: at.kept(),
            worker: worker.number,
            name: worker.name.into(),
            flags,
            first_ticket: tickets.get(0).unwrap_or_default(),
            tickets: tickets.ranges().collect::<Vec<_>>().into_iter().flatten(),
            requests: requests.ranges().collect::<Vec<_>>().into_iter().flatten(),
        });
    }

    /// Checks the collected dispatch lines. If their end `may_be_cut`, whatever follows a missing line
    /// there was never sent, and proves nothing.
    pub(super) fn check_dispatches(&mut self, may_be_cut: bool) {
        if self.batches.is_empty() {
            return;
        }
        let mut batches = std::mem::take(&mut self.batches);
        // The lines of a pass are in the order of their first tickets, so a line that was cut off would
        // begin with a later one.
        let newest = batches.iter().map(|batch| batch.first_ticket).max().unwrap_or_default();
        let mut order: BinaryHeap<_> = batches
            .iter_mut()
            .enumerate()
            .filter_map(|(index, batch)| Some(Reverse((batch.tickets.next()?.1, index))))
            .collect();
        while let Some(mut first) = order.peek_mut() {
            let Reverse((ticket, index)) = *first;
            let missing = self.last_ticket + 1;
            if may_be_cut && ticket > missing && missing > newest {
                break;
            }
            let batch = &mut batches[index];
            match batch.tickets.next() {
                Some((_, next)) => *first = Reverse((next, index)),
                None => drop(PeekMut::pop(first)),
            }
            if let Some(key) = batch.requests.next() {
                self.dispatch(batch, ticket, key);
            }
        }
        drop(order);
        self.check_order(&mut batches);
    }

    /// Checks that the lines of a pass are in the order of their seats' first turns.
    fn check_order(&mut self, batches: &mut [DispatchBatch]) {
        let mut before = 0;
        for batch in batches {
            let first = batch.first_ticket;
            if first < before {
                self.findings.add(&mut batch.at, Promise::Rotation, || {
                    format!("the line of t{first} stands behind that of t{before}, which was dealt later")
                });
            }
            before = before.max(first);
        }
    }

    fn dispatch(&mut self, batch: &mut DispatchBatch, ticket: u64, key: Key) {
        let ticket_order = self.check_ticket(batch, ticket);
        if ticket_order == TicketOrder::Repeated
            && matches!(self.state(key), Some(State::InFlight { ticket: held_as, .. }) if held_as == ticket)
        {
            // The line is in the log twice, which has been reported.
            return;
        }
        let alone = self.is_quarantined(key);
        let pool = self.take_request(batch, ticket, key);
        self.take_seat(batch, ticket, key, pool, alone, ticket_order);
        if pool.is_some() {
            let worker = self.workers.get_mut(&batch.worker).expect("it has just had a seat");
            worker.alone = alone;
            worker.in_flight.insert(ticket, key);
        }
    }

    /// Returns whether the loss of one more worker would end the request, which must then be the only
    /// one of its worker.
    fn is_quarantined(&self, key: Key) -> bool {
        let Some(most) = self.given_up_after else { return false };
        let request = self.clients.get(&key.0).and_then(|client| client.open.get(&key.1));
        request.is_some_and(|request| !request.lost.is_empty() && request.lost.len() + 1 >= most)
    }

    /// Compares the ticket with the last one.
    fn check_ticket(&mut self, batch: &mut DispatchBatch, ticket: u64) -> TicketOrder {
        let expected = self.last_ticket + 1;
        if ticket == expected {
            self.last_ticket = ticket;
            return TicketOrder::Next;
        }
        if ticket < expected {
            self.findings.add(&mut batch.at, Promise::Rotation, || {
                format!("t{ticket} is dealt, but t{} was dealt before", expected - 1)
            });
            return TicketOrder::Repeated;
        }
        self.findings.add(&mut batch.at, Promise::Rotation, || match ticket - 1 {
            last if last == expected => format!("t{expected} is missing before t{ticket}"),
            last => format!("t{expected}..{last} are missing before t{ticket}"),
        });
        self.last_ticket = ticket;
        TicketOrder::AfterGap
    }

    /// Marks the request as in flight. Returns its pool, or `None` if it is not open.
    fn take_request(&mut self, batch: &mut DispatchBatch, ticket: u64, key: Key) -> Option<usize> {
        let (findings, at) = (&mut self.findings, &mut batch.at);
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.open.get_mut(&key.1)) else {
            findings.add(at, Promise::Requests, || {
                format!("{} is dispatched, but is not open: it was never accepted, or has ended", format_key(key))
            });
            return None;
        };
        let (pool, before) = (request.pool, request.state);
        let returned = &mut self.pools[pool].returned;
        let order = match before {
            State::New if batch.flags.again => {
                findings.add(at, Promise::Requests, || {
                    format!("{} is dispatched again, but was not given back by a worker", format_key(key))
                });
                ticket
            }
            State::New | State::Unknown => ticket,
            // Dispatched after too many losses: that is reported below.
            State::Suspended(order) => order,
            State::Returned(order) => {
                let first = returned.first_key_value().map(|(&order, &key)| (order, key));
                if !batch.flags.again {
                    findings.add(at, Promise::Requests, || {
                        format!("{} is dispatched as a new one, but was given back by a worker", format_key(key))
                    });
                } else if let Some((earlier, other)) = first.filter(|&(earlier, _)| earlier != order) {
                    findings.add(at, Promise::Requests, || {
                        format!(
                            "{} is dispatched again before {}, which was dealt as t{earlier}",
                            format_key(key),
                            format_key(other)
                        )
                    });
                }
                returned.remove(&order);
                order
            }
            State::InFlight { worker, ticket: held_as, order, .. } => {
                findings.add(at, Promise::Requests, || {
                    format!("{} is dispatched, but w{worker} holds it as t{held_as}", format_key(key))
                });
                if let Some(holder) = self.workers.get_mut(&worker) {
                    holder.in_flight.remove(&held_as);
                }
                order
            }
        };
        request.state = State::InFlight { worker: batch.worker, ticket, order, suspect: batch.flags.suspect };
        if batch.flags.again || matches!(before, State::Suspended(_)) {
            let lost = request.lost.len();
            self.dispatched_after = self.dispatched_after.max(lost);
            if self.given_up_after.is_some_and(|limit| lost >= limit) {
                findings.add(at, Promise::Poison, || {
                    format!(
                        "{} is dispatched again after {lost} workers were lost, others were given up",
                        format_key(key)
                    )
                });
            }
        } else if !returned.is_empty() {
            let waiting = std::mem::take(returned);
            let (_, &first) = waiting.first_key_value().expect("it is not empty");
            findings.add(at, Promise::Requests, || {
                format!(
                    "{} is dispatched before {}, which was given back and waits",
                    format_key(key),
                    format_key(first)
                )
            });
            waiting.into_values().for_each(|key| self.mark_unknown(key));
        }
        Some(pool)
    }

    /// Gives the turn to the worker's seat. The worker is registered afterwards, if it was not.
    fn take_seat(
        &mut self,
        batch: &mut DispatchBatch,
        ticket: u64,
        key: Key,
        pool: Option<usize>,
        alone: bool,
        ticket_order: TicketOrder,
    ) {
        let number = batch.worker;
        let named = line::Worker { name: &batch.name, number };
        if !self.check_worker(named, &mut batch.at) {
            let pool = pool.unwrap_or_else(|| self.pool(""));
            self.adopt(named, pool);
        }
        let worker = self.workers.get_mut(&number).expect("it was looked up, or has just been registered");
        let (findings, at) = (&mut self.findings, &mut batch.at);
        if pool.is_some_and(|pool| pool != worker.pool) {
            findings.add(at, Promise::Rotation, || {
                format!("{} is dispatched to w{number}, which computes for another pool", format_key(key))
            });
        }
        if worker.is_full(alone) {
            let (load, window) = (worker.load(), worker.window.unwrap_or_default());
            match load < window {
                true => findings.add(at, Promise::Poison, || {
                    format!("t{ticket} joins {load} in flight to w{number}, where one is to be alone")
                }),
                false => findings.add(at, Promise::Rotation, || {
                    format!("t{ticket} is the {}th in flight to w{number}, whose window is {window}", load + 1)
                }),
            }
        }
        let ring = &mut self.pools[worker.pool].ring;
        let Some(distance) = ring.distance(number) else {
            findings.add(at, Promise::Rotation, || format!("t{ticket} goes to w{number}, which has given up its seat"));
            worker.leaving = false;
            ring.adopt(number);
            return ring.turn(0);
        };
        let passed = match ticket_order {
            TicketOrder::Next => (0..distance).map(|turns| ring.upcoming(turns)).find(|passed| {
                let full = self.workers.get(passed).is_some_and(|worker| worker.is_full(alone));
                self.strict || !full
            }),
            TicketOrder::AfterGap | TicketOrder::Repeated => None,
        };
        match passed {
            Some(passed) => {
                findings.add(at, Promise::Rotation, || {
                    format!("t{ticket} goes to w{number}, but it is the turn of w{passed}")
                });
                ring.wrong_turn(distance);
            }
            // A repeated ticket does not say whose turn it is now.
            None if ticket_order == TicketOrder::Repeated => {}
            None => ring.turn(distance),
        }
    }
}
