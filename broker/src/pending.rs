//! The requests of a pool that wait for a worker.
//!
//! First come those that a lost worker gave back, in the order in which they were first dispatched. Then the clients
//! take turns, one request each: a client with a million requests waiting delays another's only one by one turn.

use std::collections::{BTreeMap, VecDeque};

use giostra_common::numbered::NumberedQueue;
use rustc_hash::FxHashMap;

use crate::broker::{ClientNumber, RequestKey};

/// Where a pending request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// When it has never been dispatched: the number it was given when it was accepted.
    Fresh(u64),
    /// When it was given back: the number of its first dispatch.
    Returned(u64),
}

/// The requests of a pool that wait for a worker.
#[derive(Debug, Default)]
pub struct Pending {
    returned: BTreeMap<u64, RequestKey>,
    fresh: FxHashMap<ClientNumber, NumberedQueue<RequestKey>>,
    /// The clients with fresh requests, the one whose turn is next first.
    turns: VecDeque<ClientNumber>,
    len: usize,
}

impl Pending {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether some were given back.
    pub fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// The first of those that were given back.
    pub fn first_returned(&self) -> Option<RequestKey> {
        self.returned.first_key_value().map(|(_, &request)| request)
    }

    /// Among these is the oldest: those that were given back, and the first of each client's others.
    pub fn candidates_for_oldest(&self) -> impl Iterator<Item = RequestKey> {
        let firsts = self.fresh.values().filter_map(|queue| queue.iter().next().copied());
        self.returned.values().copied().chain(firsts)
    }

    /// Adds a request.
    pub fn push(&mut self, place: Place, client: ClientNumber, request: RequestKey) {
        match place {
            Place::Returned(order) => {
                let before = self.returned.insert(order, request);
                debug_assert!(before.is_none());
            }
            Place::Fresh(number) => {
                let queue = self.fresh.entry(client).or_default();
                if queue.is_empty() {
                    self.turns.push_back(client);
                }
                queue.push(number, request);
            }
        }
        self.len += 1;
    }

    /// Takes the request whose turn it is.
    pub fn pop(&mut self) -> Option<RequestKey> {
        let request = match self.returned.pop_first() {
            Some((_, request)) => request,
            None => self.pop_fresh()?,
        };
        self.len -= 1;
        Some(request)
    }

    /// Takes out a request that is no longer to be dispatched. It must be there.
    pub fn remove(&mut self, place: Place, client: ClientNumber) {
        let removed = match place {
            Place::Returned(order) => self.returned.remove(&order),
            Place::Fresh(number) => self.remove_fresh(number, client),
        };
        debug_assert!(removed.is_some());
        self.len -= 1;
    }

    fn pop_fresh(&mut self) -> Option<RequestKey> {
        let client = self.turns.front()?;
        let queue = self.fresh.get_mut(client)?;
        let request = queue.pop();
        if queue.is_empty() {
            self.fresh.remove(client);
            self.turns.pop_front();
        } else if self.turns.len() > 1 {
            self.turns.rotate_left(1);
        }
        request
    }

    fn remove_fresh(&mut self, number: u64, client: ClientNumber) -> Option<RequestKey> {
        let queue = self.fresh.get_mut(&client)?;
        let request = queue.take(number);
        if queue.is_empty() {
            self.fresh.remove(&client);
            self.turns.retain(|&other| other != client);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientNumber = ClientNumber(1);
    const B: ClientNumber = ClientNumber(2);

    fn drain(pending: &mut Pending) -> Vec<u32> {
        std::iter::from_fn(|| pending.pop()).map(|RequestKey(key)| key).collect()
    }

    #[test]
    fn clients_take_turns_and_returned_requests_go_first() {
        let mut pending = Pending::default();
        for key in 0..4 {
            pending.push(Place::Fresh(key), A, RequestKey(key as u32));
        }
        pending.push(Place::Fresh(4), B, RequestKey(100));
        pending.push(Place::Returned(9), B, RequestKey(901));
        pending.push(Place::Returned(7), A, RequestKey(900));
        assert_eq!(pending.len(), 7);
        assert_eq!(drain(&mut pending), [900, 901, 0, 100, 1, 2, 3]);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_is_removed_is_not_dispatched_and_leaves_nothing_behind() {
        let mut pending = Pending::default();
        pending.push(Place::Fresh(1), A, RequestKey(1));
        pending.push(Place::Fresh(2), A, RequestKey(2));
        pending.push(Place::Fresh(3), B, RequestKey(3));
        pending.push(Place::Returned(1), B, RequestKey(4));
        pending.remove(Place::Fresh(2), A);
        pending.remove(Place::Returned(1), B);
        pending.remove(Place::Fresh(3), B);
        assert_eq!(drain(&mut pending), [1]);
        assert!(pending.fresh.is_empty() && pending.turns.is_empty());
    }
}
