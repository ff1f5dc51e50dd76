//! The pending requests of a pool.
//!
//! First come requests that were given back, in the order of their first dispatch. Then the more
//! urgent ones. Among equals the clients take turns, one request each: a client with a million
//! pending requests delays another's by one turn.

use std::collections::BTreeMap;

use giostra_protocol::Priority;

use super::turns::Turns;
use crate::ids::{RequestKey, Source};

/// The place of a pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// When it was never dispatched: its number since its acceptance.
    Fresh(Priority, u64),
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
    /// Those that were never dispatched, by priority.
    fresh: [Turns; Priority::ALL.len()],
    len: usize,
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

    /// Returns the priority of the first that was never dispatched.
    pub fn first_fresh(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|&priority| !self.fresh[priority as usize].is_empty())
    }

    /// Returns requests among which the oldest is: those that were given back, and the first of
    /// each client's others.
    pub fn candidates_for_oldest(&self) -> impl Iterator<Item = RequestKey> {
        self.given_back().chain(self.fresh.iter().flat_map(Turns::firsts))
    }

    /// Adds requests that were just accepted, numbered upwards from `first`.
    pub fn accept(&mut self, source: Source, priority: Priority, first: u64, requests: &[RequestKey]) {
        if !requests.is_empty() {
            self.fresh[priority as usize].add(source, first, requests);
            self.len += requests.len();
        }
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
            None => self.fresh.iter_mut().find_map(Turns::pop)?,
        };
        self.len -= 1;
        Some(request)
    }

    /// Removes a request, which must be there.
    pub fn remove(&mut self, place: Place, source: Source) {
        let removed = match place {
            Place::Returned(order) => self.returned.remove(&order),
            Place::Suspended(order) => self.suspended.remove(&order),
            Place::Fresh(priority, number) => self.fresh[priority as usize].take(number, source),
        };
        debug_assert!(removed.is_some());
        self.len -= 1;
    }

    /// Removes all requests of a client that were never dispatched. Returns their number.
    pub fn cut_off(&mut self, source: Source) -> usize {
        let removed = self.fresh.iter_mut().map(|turns| turns.cut_off(source)).sum();
        self.len -= removed;
        removed
    }

    /// Iterates over the requests that were given back, suspended ones included.
    pub fn given_back(&self) -> impl Iterator<Item = RequestKey> {
        self.returned.values().chain(self.suspended.values()).copied()
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::Priority::{High, Low, Normal};

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
        pending.accept(a(), Normal, 0, &[0, 1, 2, 3].map(RequestKey));
        pending.accept(b(), Normal, 4, &[RequestKey(100)]);
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
        pending.accept(a(), Normal, 1, &[RequestKey(1), RequestKey(2)]);
        pending.accept(b(), Normal, 3, &[RequestKey(3)]);
        pending.give_back(1, RequestKey(4));
        pending.suspend(2, RequestKey(5));
        assert_eq!((pending.cut_off(a()), pending.cut_off(a()), pending.len()), (2, 0, 3));
        assert!(pending.given_back().eq([4, 5].map(RequestKey)));
        pending.resume(2);
        assert_eq!(drain(&mut pending), [4, 5, 3]);
    }

    #[test]
    fn a_removed_request_is_not_dispatched_and_leaves_nothing_behind() {
        let mut pending = Pending::default();
        pending.accept(a(), Normal, 1, &[RequestKey(1), RequestKey(2)]);
        pending.accept(b(), Normal, 3, &[RequestKey(3)]);
        pending.give_back(1, RequestKey(4));
        pending.remove(Place::Fresh(Normal, 2), a());
        pending.remove(Place::Returned(1), b());
        pending.remove(Place::Fresh(Normal, 3), b());
        assert_eq!(drain(&mut pending), [1]);
        assert!(pending.is_empty() && pending.first_fresh().is_none());
    }

    #[test]
    fn urgent_requests_go_first_and_a_given_back_one_before_all() {
        let mut pending = Pending::default();
        pending.accept(a(), Low, 0, &[0, 1].map(RequestKey));
        pending.accept(a(), High, 2, &[2].map(RequestKey));
        pending.accept(b(), Normal, 3, &[3].map(RequestKey));
        pending.accept(a(), Normal, 4, &[4, 5].map(RequestKey));
        pending.give_back(9, RequestKey(900));
        assert_eq!(pending.first_fresh(), Some(High));
        pending.remove(Place::Fresh(Normal, 5), a());
        assert_eq!(drain(&mut pending), [900, 2, 3, 4, 0, 1]);
        pending.accept(a(), Low, 6, &[6].map(RequestKey));
        pending.accept(a(), High, 7, &[7].map(RequestKey));
        assert_eq!((pending.cut_off(a()), pending.len()), (2, 0));
    }
}
