//! The pending requests of a pool.
//!
//! First come requests that were given back, in the order of their first dispatch. Then the clients
//! take turns, one request each: a client with a million pending requests delays another's by one
//! turn.

use std::collections::{BTreeMap, HashMap, VecDeque};

use giostra_protocol::sparse_queue::SparseQueue;
use slab::Slab;

use crate::ids::{RequestKey, Source};

/// The place of a pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// When it was never dispatched: its number since its acceptance.
    Fresh(u64),
    /// When it was given back: the ticket of its first dispatch.
    Returned(u64),
    /// When it was given back and is suspended: the same ticket.
    Suspended(u64),
}

/// The pending requests of a pool.
#[derive(Debug, Default)]
pub struct Pending {
    returned: BTreeMap<u64, RequestKey>,
    suspended: BTreeMap<u64, RequestKey>,
    fresh: Slab<Fresh>,
    fresh_of: HashMap<Source, usize>,
    /// The places of the clients with fresh requests, in the order of their turns.
    turns: VecDeque<usize>,
    len: usize,
}

/// A client's requests that were never dispatched; at least one.
#[derive(Debug)]
struct Fresh {
    source: Source,
    queue: SparseQueue<RequestKey>,
}

impl Pending {
    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is one that may be dispatched.
    pub fn has_next(&self) -> bool {
        self.len > self.suspended.len()
    }

    /// Whether there is one that was given back and may be dispatched.
    pub fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Returns the first that was given back.
    pub fn first_returned(&self) -> Option<RequestKey> {
        self.returned.first_key_value().map(|(_, &request)| request)
    }

    /// Returns requests among which the oldest is: those that were given back, and the first of
    /// each client's others.
    pub fn candidates_for_oldest(&self) -> impl Iterator<Item = RequestKey> {
        let firsts = self.fresh.iter().filter_map(|(_, fresh)| fresh.queue.iter().next().copied());
        self.given_back().chain(firsts)
    }

    /// Adds a client's requests that were just accepted, numbered upwards from `first`.
    pub fn accept(&mut self, source: Source, first: u64, requests: &[RequestKey]) {
        if requests.is_empty() {
            return;
        }
        let place = *self.fresh_of.entry(source).or_insert_with(|| {
            let place = self.fresh.insert(Fresh { source, queue: SparseQueue::default() });
            self.turns.push_back(place);
            place
        });
        let queue = &mut self.fresh[place].queue;
        for (number, &request) in (first..).zip(requests) {
            queue.push(number, request);
        }
        self.len += requests.len();
    }

    /// Adds a request that was given back, with the ticket of its first dispatch.
    pub fn give_back(&mut self, order: u64, request: RequestKey) {
        let before = self.returned.insert(order, request);
        debug_assert!(before.is_none());
        self.len += 1;
    }

    /// Adds a request that was given back and stays suspended until it is resumed.
    pub fn suspend(&mut self, order: u64, request: RequestKey) {
        let before = self.suspended.insert(order, request);
        debug_assert!(before.is_none());
        self.len += 1;
    }

    /// Ends a request's suspension.
    pub fn resume(&mut self, order: u64) {
        if let Some(request) = self.suspended.remove(&order) {
            self.returned.insert(order, request);
        }
    }

    /// Removes the next request and returns it.
    pub fn pop(&mut self) -> Option<RequestKey> {
        let request = match self.returned.pop_first() {
            Some((_, request)) => request,
            None => self.pop_fresh()?,
        };
        self.len -= 1;
        Some(request)
    }

    /// Removes a request, which must be there.
    pub fn remove(&mut self, place: Place, source: Source) {
        let removed = match place {
            Place::Returned(order) => self.returned.remove(&order),
            Place::Suspended(order) => self.suspended.remove(&order),
            Place::Fresh(number) => self.remove_fresh(number, source),
        };
        debug_assert!(removed.is_some());
        self.len -= 1;
    }

    /// Removes all requests of a client that were never dispatched. Returns their number.
    pub fn cut_off(&mut self, source: Source) -> usize {
        let Some(place) = self.fresh_of.remove(&source) else { return 0 };
        let Fresh { queue, .. } = self.fresh.remove(place);
        self.turns.retain(|&other| other != place);
        self.len -= queue.len();
        queue.len()
    }

    /// Iterates over the requests that were given back, suspended ones included.
    pub fn given_back(&self) -> impl Iterator<Item = RequestKey> {
        self.returned.values().chain(self.suspended.values()).copied()
    }

    fn pop_fresh(&mut self) -> Option<RequestKey> {
        let &place = self.turns.front()?;
        let Fresh { source, queue } = &mut self.fresh[place];
        let request = queue.pop();
        if queue.is_empty() {
            self.fresh_of.remove(source);
            self.fresh.remove(place);
            self.turns.pop_front();
        } else if self.turns.len() > 1 {
            self.turns.rotate_left(1);
        }
        request
    }

    fn remove_fresh(&mut self, number: u64, source: Source) -> Option<RequestKey> {
        let &place = self.fresh_of.get(&source)?;
        let queue = &mut self.fresh[place].queue;
        let request = queue.take(number);
        if queue.is_empty() {
            self.fresh_of.remove(&source);
            self.fresh.remove(place);
            self.turns.retain(|&other| other != place);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientNumber, JobNumber};

    fn a() -> Source {
        ClientNumber(1).into()
    }

    /// A job with the same number.
    fn b() -> Source {
        JobNumber(1).into()
    }

    fn drain(pending: &mut Pending) -> Vec<u32> {
        std::iter::from_fn(|| pending.pop()).map(|RequestKey(key)| key).collect()
    }

    #[test]
    fn clients_take_turns_and_returned_requests_go_first() {
        let mut pending = Pending::default();
        pending.accept(a(), 0, &[0, 1, 2, 3].map(RequestKey));
        pending.accept(b(), 4, &[RequestKey(100)]);
        pending.give_back(9, RequestKey(901));
        pending.give_back(7, RequestKey(900));
        assert_eq!(pending.len(), 7);
        assert_eq!(drain(&mut pending), [900, 901, 0, 100, 1, 2, 3]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_suspended_request_is_dispatched_only_after_it_is_resumed_and_then_in_its_place() {
        let mut pending = Pending::default();
        pending.suspend(8, RequestKey(900));
        pending.suspend(9, RequestKey(901));
        assert!(!pending.has_next() && !pending.has_returned() && pending.len() == 2 && !pending.is_empty());
        pending.give_back(10, RequestKey(902));
        pending.resume(8);
        assert!(pending.has_next() && pending.candidates_for_oldest().count() == 3);
        assert_eq!(std::iter::from_fn(|| pending.has_next().then(|| pending.pop())?).count(), 2);
        pending.remove(Place::Suspended(9), a());
        assert!(pending.is_empty());
    }

    #[test]
    fn a_client_that_is_cut_off_keeps_only_returned_requests() {
        let mut pending = Pending::default();
        pending.accept(a(), 1, &[RequestKey(1), RequestKey(2)]);
        pending.accept(b(), 3, &[RequestKey(3)]);
        pending.give_back(1, RequestKey(4));
        pending.suspend(2, RequestKey(5));
        assert_eq!((pending.cut_off(a()), pending.cut_off(a()), pending.len()), (2, 0, 3));
        assert!(pending.given_back().eq([4, 5].map(RequestKey)));
        assert!(pending.fresh.len() == 1 && pending.turns.len() == 1);
        pending.resume(2);
        assert_eq!(drain(&mut pending), [4, 5, 3]);
    }

    #[test]
    fn a_removed_request_is_not_dispatched_and_leaves_nothing_behind() {
        let mut pending = Pending::default();
        pending.accept(a(), 1, &[RequestKey(1), RequestKey(2)]);
        pending.accept(b(), 3, &[RequestKey(3)]);
        pending.give_back(1, RequestKey(4));
        pending.remove(Place::Fresh(2), a());
        pending.remove(Place::Returned(1), b());
        pending.remove(Place::Fresh(3), b());
        assert_eq!(drain(&mut pending), [1]);
        assert!(pending.fresh.is_empty() && pending.turns.is_empty());
    }
}
