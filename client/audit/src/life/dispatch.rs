//! Dispatches, checked against the ring: each ticket once and in order, to the seat whose turn it is.
//!
//! One pass of the broker writes a line for each seat, so the tickets of neighbouring lines
//! interleave. The lines of a pass are collected and merged by their tickets before they are checked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::Flatten;
use std::mem::swap;
use std::rc::Rc;
use std::vec;

use super::records::{FIRST_ORDER, Request, State};
use super::{Life, Pool};
use crate::findings::{Findings, Promise, SourceLine};
use crate::line::{self, Priority};
use crate::ranges::{Id, IdRange, IdRanges};

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
    line: SourceLine,
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
    ) {
        self.counts.dispatched += requests.count();
        self.counts.redispatched += if flags.again { requests.count() } else { 0 };
        if tickets.count() != requests.count() {
            self.findings
                .add(Promise::Rotation, || format!("{} tickets for {} requests", tickets.count(), requests.count()));
        }
        let mut before = 0;
        for range in tickets.ranges() {
            if range.first <= before {
                self.findings.add(Promise::Rotation, || {
                    format!("t{} stands behind t{before}, which was dealt later", range.first)
                });
            }
            before = range.last;
        }
        self.batches.push(DispatchBatch {
            line: self.findings.line.clone(),
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
            .filter_map(|(index, batch)| Some(Reverse((batch.tickets.next()?.number, index))))
            .collect();
        while let Some(mut first) = order.peek_mut() {
            let Reverse((ticket, index)) = *first;
            let missing = self.last_ticket + 1;
            if may_be_cut && ticket > missing && missing > newest {
                break;
            }
            let batch = &mut batches[index];
            match batch.tickets.next() {
                Some(next) => *first = Reverse((next.number, index)),
                None => drop(PeekMut::pop(first)),
            }
            if let Some(id) = batch.requests.next() {
                swap(&mut self.findings.line, &mut batch.line);
                self.dispatch(batch, ticket, id);
                swap(&mut self.findings.line, &mut batch.line);
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
                swap(&mut self.findings.line, &mut batch.line);
                self.findings.add(Promise::Rotation, || {
                    format!("the line of t{first} stands behind that of t{before}, which was dealt later")
                });
                swap(&mut self.findings.line, &mut batch.line);
            }
            before = before.max(first);
        }
    }

    fn dispatch(&mut self, batch: &DispatchBatch, ticket: u64, id: Id) {
        let ticket_order = self.check_ticket(ticket);
        let request = self.clients.request(id);
        if ticket_order == TicketOrder::Repeated
            && request.is_some_and(
                |request| matches!(request.state, State::InFlight { ticket: held_as, .. } if held_as == ticket),
            )
        {
            // The line is in the log twice, which has been reported.
            return;
        }
        let alone = request.is_some_and(|request| self.is_quarantined(request));
        let pool = self.take_request(batch, ticket, id);
        self.check_seat(batch, ticket, id, pool, alone);
        self.take_turn(batch.worker, ticket, pool.map(|_| id), alone, ticket_order);
    }

    /// Returns whether the loss of one more worker would end the request, which must then be the only
    /// one of its worker.
    fn is_quarantined(&self, request: &Request) -> bool {
        let lost = request.lost.len();
        lost > 0 && self.given_up_after.is_some_and(|limit| lost + 1 >= limit)
    }

    /// Compares the ticket with the last one.
    fn check_ticket(&mut self, ticket: u64) -> TicketOrder {
        let last = self.last_ticket;
        let next = last + 1;
        self.last_ticket = last.max(ticket);
        if ticket == next {
            return TicketOrder::Next;
        }
        self.findings.add(Promise::Rotation, || match ticket.checked_sub(2) {
            Some(missing) if missing == last => format!("t{next} is missing before t{ticket}"),
            Some(missing) if missing > last => format!("t{next}..{} are missing before t{ticket}", ticket - 1),
            _ => format!("t{ticket} is dealt, but t{last} was dealt before"),
        });
        if ticket < next { TicketOrder::Repeated } else { TicketOrder::AfterGap }
    }

    /// Marks the request as in flight. Returns its pool, or `None` if it is not open.
    fn take_request(&mut self, batch: &DispatchBatch, ticket: u64, id: Id) -> Option<usize> {
        let findings = &mut self.findings;
        let Some(request) = self.clients.request_mut(id) else {
            findings.add(Promise::Requests, || {
                format!("{id} is dispatched, but is not open: it was never accepted, or has ended")
            });
            return None;
        };
        let DispatchFlags { again, suspect } = batch.flags;
        let (pool, before) = (request.pool, request.state);
        let Pool { returned, fresh, .. } = &mut self.pools[pool];
        let order = match before {
            State::New(_) | State::Unknown => FIRST_ORDER + ticket,
            State::Suspended(order) | State::Returned(order) | State::InFlight { order, .. } => order,
        };
        match before {
            State::New(_) if again => findings
                .add(Promise::Requests, || format!("{id} is dispatched again, but was not given back by a worker")),
            // Dispatched after too many losses: that is reported below.
            State::New(_) | State::Unknown | State::Suspended(_) => {}
            State::Returned(_) => {
                let first = returned.first_key_value().filter(|&(&earlier, _)| earlier != order);
                if !again {
                    findings.add(Promise::Requests, || {
                        format!("{id} is dispatched as a new one, but was given back by a worker")
                    });
                } else if let Some((earlier, other)) = first {
                    findings.add(Promise::Requests, || {
                        format!("{id} is dispatched again before {other}{}", dealt_as(*earlier))
                    });
                }
                returned.remove(&order);
            }
            State::InFlight { worker, ticket: held_as, .. } => {
                findings.add(Promise::Requests, || format!("{id} is dispatched, but w{worker} holds it as t{held_as}"));
                if let Some(holder) = self.workers.by_number.get_mut(&worker) {
                    holder.in_flight.remove(&held_as);
                }
            }
        }
        request.state = State::InFlight { worker: batch.worker, ticket, order, suspect };
        if let State::New(priority) = before {
            check_urgency(fresh, priority, id, findings);
        }
        let lost = request.lost.len();
        if again || matches!(before, State::Suspended(_)) {
            self.dispatched_after = self.dispatched_after.max(lost);
            if self.given_up_after.is_some_and(|limit| lost >= limit) {
                findings.add(Promise::Poison, || {
                    format!("{id} is dispatched again after {lost} workers were lost, others were given up")
                });
            }
        } else if let Some((_, &first)) = returned.first_key_value() {
            findings.add(Promise::Requests, || {
                format!("{id} is dispatched before {first}, which was given back and waits")
            });
            std::mem::take(returned).into_values().for_each(|id| self.mark_unknown(id));
        }
        Some(pool)
    }

    /// Checks that the worker may be handed the request. The worker is registered afterwards, if it
    /// was not.
    fn check_seat(&mut self, batch: &DispatchBatch, ticket: u64, id: Id, pool: Option<usize>, alone: bool) {
        let number = batch.worker;
        let named = line::Worker { name: &batch.name, number };
        if self.workers.named(named, &mut self.findings).is_none() {
            let pool = pool.unwrap_or_else(|| self.pool(""));
            self.adopt(named, pool);
        }
        let worker = &self.workers.by_number[&number];
        if pool.is_some_and(|pool| pool != worker.pool) {
            self.findings
                .add(Promise::Rotation, || format!("{id} is dispatched to w{number}, which computes for another pool"));
        }
        if worker.is_full(alone) {
            let (load, window) = (worker.load(), worker.window.unwrap_or_default());
            match load < window {
                true => self.findings.add(Promise::Poison, || {
                    format!("t{ticket} joins {load} in flight to w{number}, where one is to be alone")
                }),
                false => self.findings.add(Promise::Rotation, || {
                    format!("t{ticket} makes {} in flight to w{number}, whose window is {window}", load + 1)
                }),
            }
        }
    }

    /// Gives the turn to the worker's seat, and the request to the worker if it is open. Checks that it
    /// is its turn.
    fn take_turn(&mut self, number: u64, ticket: u64, id: Option<Id>, alone: bool, ticket_order: TicketOrder) {
        let Some(worker) = self.workers.by_number.get_mut(&number) else { return };
        if let Some(id) = id {
            worker.alone = alone;
            worker.in_flight.insert(ticket, id);
        }
        let ring = &mut self.pools[worker.pool].ring;
        let Some(distance) = ring.distance(number) else {
            self.findings
                .add(Promise::Rotation, || format!("t{ticket} goes to w{number}, which has given up its seat"));
            worker.leaving = false;
            ring.adopt(number);
            return ring.turn(0);
        };
        let workers = &self.workers.by_number;
        let may_pass = |number| !self.strict && workers.get(&number).is_some_and(|worker| worker.is_full(alone));
        let passed = (0..distance).map(|turns| ring.upcoming(turns)).find(|&passed| !may_pass(passed));
        match (passed, ticket_order) {
            (Some(passed), TicketOrder::Next) => {
                self.findings
                    .add(Promise::Rotation, || format!("t{ticket} goes to w{number}, but it is the turn of w{passed}"));
                ring.wrong_turn(distance);
            }
            // A repeated ticket does not say whose turn it is now.
            (_, TicketOrder::Repeated) => {}
            _ => ring.turn(distance),
        }
    }
}

/// Takes a request that is dispatched for the first time off those that wait, and checks that none
/// of them is more urgent.
fn check_urgency(fresh: &mut [u64; 3], priority: Priority, id: Id, findings: &mut Findings) {
    let level = priority as usize;
    fresh[level] = fresh[level].saturating_sub(1);
    let urgent: u64 = fresh[..level].iter().sum();
    if urgent > 0 {
        findings.add(Promise::Requests, || format!("{id} is dispatched before {urgent} that are more urgent"));
    }
}

/// Says how a returned request with this place was dispatched first.
fn dealt_as(order: u64) -> String {
    order.checked_sub(FIRST_ORDER).map_or_else(String::new, |ticket| format!(", which was dealt as t{ticket}"))
}
