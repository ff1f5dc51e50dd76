//! A second implementation of the order in which a pool's pending requests are dispatched.

use std::collections::{BTreeMap, VecDeque};

use giostra_protocol::Priority;

/// A request: its client's number and its id.
pub type Key = (u64, u64);

/// The pending requests of a pool.
#[derive(Debug, Default)]
pub struct Queues {
    /// Those that were dispatched before, by the ticket of their first dispatch.
    returned: BTreeMap<u64, Key>,
    /// By priority; by client, the one whose turn is next first.
    fresh: [VecDeque<(u64, VecDeque<Key>)>; 3],
}

impl Queues {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.returned.len() + self.fresh.iter().flatten().map(|(_, keys)| keys.len()).sum::<usize>()
    }

    /// Adds one that is new.
    pub fn accept(&mut self, key: Key, priority: Priority) {
        let fresh = &mut self.fresh[priority as usize];
        match fresh.iter_mut().find(|(client, _)| *client == key.0) {
            Some((_, keys)) => keys.push_back(key),
            None => fresh.push_back((key.0, [key].into())),
        }
    }

    /// Adds one that a lost worker gave back.
    pub fn give_back(&mut self, order: u64, key: Key) {
        assert_eq!(self.returned.insert(order, key), None);
    }

    /// The first of those that were given back.
    pub fn first_returned(&self) -> Option<Key> {
        self.returned.values().next().copied()
    }

    /// Whether there are no new ones but of the lowest priority.
    pub fn can_wait(&self) -> bool {
        self.fresh[..2].iter().all(VecDeque::is_empty)
    }

    /// Takes the one that is to be dispatched next; whether it was given back.
    pub fn next(&mut self) -> Option<(Key, bool)> {
        if let Some((_, key)) = self.returned.pop_first() {
            return Some((key, true));
        }
        let fresh = self.fresh.iter_mut().find(|fresh| !fresh.is_empty())?;
        let (client, mut keys) = fresh.pop_front()?;
        let key = keys.pop_front();
        if !keys.is_empty() {
            fresh.push_back((client, keys));
        }
        key.map(|key| (key, false))
    }

    /// Takes one out that is no longer wanted.
    pub fn remove(&mut self, key: Key) {
        let before = self.len();
        self.returned.retain(|_, other| *other != key);
        for fresh in &mut self.fresh {
            fresh.iter_mut().for_each(|(_, keys)| keys.retain(|other| *other != key));
            fresh.retain(|(_, keys)| !keys.is_empty());
        }
        assert_eq!(self.len() + 1, before, "{key:?} was not pending");
    }
}
