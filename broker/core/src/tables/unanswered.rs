//! The unanswered requests of one client, by their ids.
//!
//! Clients mostly number their requests upwards. Such requests stand in a queue, where adding is
//! cheap and a lookup is mostly a subtraction. The others (sent again after they were rejected, or
//! from a client that numbers differently) are in an ordered map, which no choice of ids can make
//! slow.

use std::collections::BTreeMap;

use giostra_protocol::RequestId;
use giostra_protocol::sparse_queue::SparseQueue;

use crate::ids::RequestKey;

/// The unanswered requests of one client.
#[derive(Clone, Debug, Default)]
pub struct Unanswered {
    ascending: SparseQueue<RequestKey>,
    others: BTreeMap<RequestId, RequestKey>,
}

impl Unanswered {
    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.ascending.len() + self.others.len()
    }

    /// Returns the key of a request.
    pub fn get(&self, id: RequestId) -> Option<RequestKey> {
        let found = if self.ascends(id) { None } else { self.ascending.get(id.0) };
        match found {
            None if self.others.is_empty() => None,
            None => self.others.get(&id).copied(),
            Some(&key) => Some(key),
        }
    }

    /// Adds a request that is not there.
    pub fn insert(&mut self, id: RequestId, key: RequestKey) {
        debug_assert!(self.get(id).is_none());
        if self.ascends(id) {
            self.ascending.push(id.0, key);
        } else {
            self.others.insert(id, key);
        }
    }

    /// Removes a request.
    pub fn remove(&mut self, id: RequestId) -> Option<RequestKey> {
        if let Some(key) = self.ascending.take(id.0) {
            return Some(key);
        }
        self.others.remove(&id)
    }

    /// Removes the next request, in the order of [`Self::keys`].
    pub fn pop(&mut self) -> Option<RequestKey> {
        self.ascending.pop().or_else(|| self.others.pop_first().map(|(_, key)| key))
    }

    /// Iterates over all keys: first those in the queue, each part in the order of the ids.
    pub fn keys(&self) -> impl Iterator<Item = RequestKey> {
        self.ascending.iter().chain(self.others.values()).copied()
    }

    /// Whether the id is beyond all that stand in the queue.
    fn ascends(&self, id: RequestId) -> bool {
        self.ascending.last_number().is_none_or(|last| id.0 > last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_however_a_client_numbers_its_requests(steps in prop::collection::vec((0..3u8, 0..60u64), 0..300)) {
            let (mut held, mut model, mut next) = (Unanswered::default(), BTreeMap::new(), 0);
            for (step, argument) in steps {
                let id = RequestId(if step == 0 { next } else { argument });
                if step < 2 && !model.contains_key(&id) {
                    next = next.max(id.0) + 1;
                    held.insert(id, RequestKey(next as u32));
                    model.insert(id, RequestKey(next as u32));
                } else if step == 2 {
                    prop_assert_eq!(held.remove(id), model.remove(&id));
                }
                prop_assert_eq!(held.get(id), model.get(&id).copied());
                prop_assert_eq!(held.len(), model.len());
                let mut keys: Vec<_> = held.keys().collect();
                let mut popped = held.clone();
                prop_assert!(std::iter::from_fn(|| popped.pop()).eq(keys.iter().copied()) && popped.len() == 0);
                keys.sort_unstable();
                let mut expected: Vec<_> = model.values().copied().collect();
                expected.sort_unstable();
                prop_assert_eq!(keys, expected);
            }
        }
    }
}
