//! Dispatches, held against the ring: each ticket once and in order, each to the seat whose turn it
//! is.
//!
//! A pass of the broker writes one line a seat, so that the tickets of neighbouring lines
//! interleave. They are merged by their tickets before they are looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::Flatten;
use std::rc::Rc;
use std::vec;

use super::findings::{Promise, Spot};
use super::life::Life;
use super::line;
use super::requests::{Key, State, written};
use super::runs::{Run, Runs};

/// How requests were handed to a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Whether another worker was lost before.
    pub again: bool,
    /// Whether this one was suspect already.
    pub suspect: bool,
}

/// A line of dispatch that waits for its neighbours.
#[derive(Debug)]
pub(super) struct Hand {
    spot: Spot<'static>,
    worker: u64,
    name: Rc<str>,
    manner: Manner,
    first_ticket: u64,
    tickets: Flatten<vec::IntoIter<Run>>,
    requests: Flatten<vec::IntoIter<Run>>,
}

/// How a ticket follows the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    /// When it is the next.
    Next,
    /// When some before it are missing: whose turn it is is not known.
    AfterGap,
    /// When it was dealt before.
    Again,
}

impl Life {
    pub(super) fn dispatched(
        &mut self,
        worker: line::Worker<'_>,
        manner: Manner,
        tickets: &Runs<'_>,
        requests: &Runs<'_>,
        spot: &mut Spot<'_>,
    ) {
        self.counts.dispatched += requests.count();
        self.counts.redispatched += if manner.again { requests.count() } else { 0 };
        if tickets.count() != requests.count() {
            self.findings.add(spot, Promise::Rotation, || {
                format!("{} tickets for {} requests", tickets.count(), requests.count())
            });
        }
        let mut before = 0;
        for run in tickets.runs() {
            if run.first <= before {
                self.findings.add(spot, Promise::Rotation, || {
                    format!("t{} stands behind t{before}, which was dealt later", run.first)
                });
            }
            before = run.last;
        }
        self.hands.push(Hand {
            spot: spot.kept(),
            worker: worker.number,
            name: worker.name.into(),
            manner,
            first_ticket: tickets.at(0).unwrap_or_default(),
            tickets: tickets.runs().collect::<Vec<_>>().into_iter().flatten(),
            requests: requests.runs().collect::<Vec<_>>().into_iter().flatten(),
        });
    }

    /// Looks at the lines of dispatch that wait. If they may be cut off, what follows a missing
    /// line at their end is no evidence of anything: it was never sent.
    pub(super) fn deal(&mut self, may_be_cut: bool) {
        if self.hands.is_empty() {
            return;
        }
        let mut hands = std::mem::take(&mut self.hands);
        // The lines of a pass stand in the order of their first tickets: a line that is cut off would have
        // begun after.
        let newest = hands.iter().map(|hand| hand.first_ticket).max().unwrap_or_default();
        let mut order: BinaryHeap<_> = hands
            .iter_mut()
            .enumerate()
            .filter_map(|(index, hand)| Some(Reverse((hand.tickets.next()?.1, index))))
            .collect();
        while let Some(mut first) = order.peek_mut() {
            let Reverse((ticket, index)) = *first;
            let missing = self.last_ticket + 1;
            if may_be_cut && ticket > missing && missing > newest {
                break;
            }
            let hand = &mut hands[index];
            match hand.tickets.next() {
                Some((_, next)) => *first = Reverse((next, index)),
                None => drop(PeekMut::pop(first)),
            }
            if let Some(key) = hand.requests.next() {
                self.dispatch(hand, ticket, key);
            }
        }
        drop(order);
        self.checks_order(&mut hands);
    }

    /// The lines of a pass stand in the order in which their seats had their first turns.
    fn checks_order(&mut self, hands: &mut [Hand]) {
        let mut before = 0;
        for hand in hands {
            let first = hand.first_ticket;
            if first < before {
                self.findings.add(&mut hand.spot, Promise::Rotation, || {
                    format!("the line of t{first} stands behind that of t{before}, which was dealt later")
                });
            }
            before = before.max(first);
        }
    }

    fn dispatch(&mut self, hand: &mut Hand, ticket: u64, key: Key) {
        let follows = self.count_up(hand, ticket);
        if follows == Follows::Again
            && matches!(self.state(key), Some(State::InFlight { ticket: held_as, .. }) if held_as == ticket)
        {
            // The line stands there twice, which was said.
            return;
        }
        let alone = self.has_last_chance(key);
        let pool = self.take_request(hand, ticket, key);
        self.take_seat(hand, ticket, key, pool, alone, follows);
        if pool.is_some() {
            let worker = self.workers.get_mut(&hand.worker).expect("it has just had a seat");
            worker.alone = alone;
            worker.in_flight.insert(ticket, key);
        }
    }

    /// Whether the request would be given up with the next worker that is lost: it is to be with
    /// that one alone.
    fn has_last_chance(&self, key: Key) -> bool {
        let Some(most) = self.given_up_after else { return false };
        let request = self.clients.get(&key.0).and_then(|client| client.held.get(&key.1));
        request.is_some_and(|request| !request.lost.is_empty() && request.lost.len() + 1 >= most)
    }

    fn count_up(&mut self, hand: &mut Hand, ticket: u64) -> Follows {
        let expected = self.last_ticket + 1;
        if ticket == expected {
            self.last_ticket = ticket;
            return Follows::Next;
        }
        if ticket < expected {
            self.findings.add(&mut hand.spot, Promise::Rotation, || {
                format!("t{ticket} is dealt, but t{} was dealt before", expected - 1)
            });
            return Follows::Again;
        }
        self.findings.add(&mut hand.spot, Promise::Rotation, || match ticket - 1 {
            last if last == expected => format!("t{expected} is missing before t{ticket}"),
            last => format!("t{expected}..{last} are missing before t{ticket}"),
        });
        self.last_ticket = ticket;
        Follows::AfterGap
    }

    /// The request is handed out; its pool, if it is open at all.
    fn take_request(&mut self, hand: &mut Hand, ticket: u64, key: Key) -> Option<usize> {
        let (findings, spot) = (&mut self.findings, &mut hand.spot);
        let Some(request) = self.clients.get_mut(&key.0).and_then(|client| client.held.get_mut(&key.1)) else {
            findings.add(spot, Promise::Requests, || {
                format!("{} is dispatched, but is not open: it was never accepted, or has ended", written(key))
            });
            return None;
        };
        let (pool, before) = (request.pool, request.state);
        let returned = &mut self.pools[pool].returned;
        let order = match before {
            State::Fresh if hand.manner.again => {
                findings.add(spot, Promise::Requests, || {
                    format!("{} is dispatched again, but was not given back by a worker", written(key))
                });
                ticket
            }
            State::Fresh | State::Adrift => ticket,
            // That it is dispatched after so many losses is said below.
            State::Suspended(order) => order,
            State::Returned(order) => {
                let first = returned.first_key_value().map(|(&order, &key)| (order, key));
                if !hand.manner.again {
                    findings.add(spot, Promise::Requests, || {
                        format!("{} is dispatched as a new one, but was given back by a worker", written(key))
                    });
                } else if let Some((earlier, other)) = first.filter(|&(earlier, _)| earlier != order) {
                    findings.add(spot, Promise::Requests, || {
                        format!(
                            "{} is dispatched again before {}, which was dealt as t{earlier}",
                            written(key),
                            written(other)
                        )
                    });
                }
                returned.remove(&order);
                order
            }
            State::InFlight { worker, ticket: held_as, order, .. } => {
                findings.add(spot, Promise::Requests, || {
                    format!("{} is dispatched, but w{worker} holds it as t{held_as}", written(key))
                });
                if let Some(holder) = self.workers.get_mut(&worker) {
                    holder.in_flight.remove(&held_as);
                }
                order
            }
        };
        request.state = State::InFlight { worker: hand.worker, ticket, order, suspect: hand.manner.suspect };
        if hand.manner.again || matches!(before, State::Suspended(_)) {
            let lost = request.lost.len();
            self.dispatched_after = self.dispatched_after.max(lost);
            if self.given_up_after.is_some_and(|limit| lost >= limit) {
                findings.add(spot, Promise::Poison, || {
                    format!("{} is dispatched again after {lost} workers were lost, others were given up", written(key))
                });
            }
        } else if !returned.is_empty() {
            let waiting = std::mem::take(returned);
            let (_, &first) = waiting.first_key_value().expect("it is not empty");
            findings.add(spot, Promise::Requests, || {
                format!("{} is dispatched before {}, which was given back and waits", written(key), written(first))
            });
            waiting.into_values().for_each(|key| self.set_adrift(key));
        }
        Some(pool)
    }

    /// The worker's seat has the turn. It is registered when this returns.
    fn take_seat(
        &mut self,
        hand: &mut Hand,
        ticket: u64,
        key: Key,
        pool: Option<usize>,
        alone: bool,
        follows: Follows,
    ) {
        let number = hand.worker;
        let named = line::Worker { name: &hand.name, number };
        if !self.knows(named, &mut hand.spot) {
            let pool = pool.unwrap_or_else(|| self.pool(""));
            self.adopt(named, pool);
        }
        let worker = self.workers.get_mut(&number).expect("it was looked up, or has just been registered");
        let (findings, spot) = (&mut self.findings, &mut hand.spot);
        if pool.is_some_and(|pool| pool != worker.pool) {
            findings.add(spot, Promise::Rotation, || {
                format!("{} is dispatched to w{number}, which computes for another pool", written(key))
            });
        }
        if worker.is_full(alone) {
            let (load, window) = (worker.load(), worker.window.unwrap_or_default());
            match load < window {
                true => findings.add(spot, Promise::Poison, || {
                    format!("t{ticket} joins {load} in flight to w{number}, where one is to be alone")
                }),
                false => findings.add(spot, Promise::Rotation, || {
                    format!("t{ticket} is the {}th in flight to w{number}, whose window is {window}", load + 1)
                }),
            }
        }
        let ring = &mut self.pools[worker.pool].ring;
        let Some(distance) = ring.distance(number) else {
            findings
                .add(spot, Promise::Rotation, || format!("t{ticket} goes to w{number}, which has given up its seat"));
            worker.leaving = false;
            ring.adopt(number);
            return ring.turn(0);
        };
        let passed = match follows {
            Follows::Next => (0..distance).map(|turns| ring.upcoming(turns)).find(|passed| {
                let full = self.workers.get(passed).is_some_and(|worker| worker.is_full(alone));
                self.strict || !full
            }),
            Follows::AfterGap | Follows::Again => None,
        };
        match passed {
            Some(passed) => {
                findings.add(spot, Promise::Rotation, || {
                    format!("t{ticket} goes to w{number}, but it is the turn of w{passed}")
                });
                ring.wrong_turn(distance);
            }
            // A ticket that was dealt before says nothing of whose turn it is now.
            None if follows == Follows::Again => {}
            None => ring.turn(distance),
        }
    }
}
