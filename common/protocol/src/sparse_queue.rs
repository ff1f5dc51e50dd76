//! A queue of numbered things from whose middle things may be taken.
//!
//! What a client waits for, what is pending for it, what is in flight to a worker: all that is
//! added in the order of its number and mostly taken from the front; but a cancelled request, or
//! one answered out of turn, leaves from the middle. Its place stays empty until the front reaches
//! it or more than half of the places are empty: each operation costs O(1), amortised, but for
//! the binary search for what is not where it would be if no number were left out.

use std::collections::VecDeque;

/// Places that may be empty whatever the queue's length.
const SLACK: usize = 32;

/// Places whose memory is kept whatever the queue's length.
const KEPT: usize = 4096;

/// A queue of numbered things, the numbers ascending.
#[derive(Clone, Debug)]
pub struct SparseQueue<T> {
    places: VecDeque<(u64, Option<T>)>,
    len: usize,
}

impl<T> Default for SparseQueue<T> {
    fn default() -> Self {
        Self { places: VecDeque::new(), len: 0 }
    }
}

impl<T> SparseQueue<T> {
    /// How many things are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a thing at the end. Its number must be greater than all before it.
    #[inline]
    pub fn push(&mut self, number: u64, thing: T) {
        debug_assert!(self.places.back().is_none_or(|&(last, _)| last < number));
        self.places.push_back((number, Some(thing)));
        self.len += 1;
    }

    /// Takes the thing at the front.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        // The front place is never empty: see `tidy`.
        let (_, thing) = self.places.pop_front()?;
        self.len -= 1;
        self.tidy();
        thing
    }

    /// Takes the thing with this number, if it is there.
    #[inline]
    pub fn take(&mut self, number: u64) -> Option<T> {
        if self.places.front()?.0 == number {
            return self.pop();
        }
        let thing = self.find(number)?.take()?;
        self.len -= 1;
        self.tidy();
        Some(thing)
    }

    /// The last number that was added, if that is still known: it is not once the queue is empty.
    #[inline]
    pub fn last_number(&self) -> Option<u64> {
        self.places.back().map(|&(number, _)| number)
    }

    /// The thing with this number, if it is there.
    #[inline]
    pub fn get(&self, number: u64) -> Option<&T> {
        self.places[self.position(number)?].1.as_ref()
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.find(number)?.as_mut()
    }

    /// The things, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, thing)| thing.as_ref())
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|(_, thing)| thing.as_mut())
    }

    /// Their numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.places.iter().filter(|(_, thing)| thing.is_some()).map(|&(number, _)| number)
    }

    #[inline]
    fn find(&mut self, number: u64) -> Option<&mut Option<T>> {
        let place = self.position(number)?;
        Some(&mut self.places[place].1)
    }

    #[inline]
    fn position(&self, number: u64) -> Option<usize> {
        let first = self.places.front()?.0;
        let guess = usize::try_from(number.checked_sub(first)?).ok()?;
        match self.places.get(guess) {
            Some(&(there, _)) if there == number => Some(guess),
            _ => self.places.binary_search_by_key(&number, |&(number, _)| number).ok(),
        }
    }

    #[inline]
    fn tidy(&mut self) {
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
        }
        if self.places.len() > 2 * self.len + SLACK {
            self.places.retain(|(_, thing)| thing.is_some());
        }
        // A burst's memory goes back. Half of the places are free then, so that this is as rare as the
        // growth was.
        if self.places.capacity() > KEPT && self.places.capacity() > 8 * self.places.len() {
            self.places.shrink_to(2 * self.places.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_an_ordered_map_and_stays_small(steps in prop::collection::vec((0..4u8, 0..200u64), 0..400)) {
            let (mut queue, mut model, mut next) = (SparseQueue::default(), BTreeMap::new(), 0);
            for (step, argument) in steps {
                match step {
                    0 | 1 => {
                        next += 1 + argument % 3;
                        queue.push(next, next * 10);
                        model.insert(next, next * 10);
                    }
                    2 => prop_assert_eq!(queue.pop(), model.pop_first().map(|(_, thing)| thing)),
                    _ => {
                        prop_assert_eq!(queue.get_mut(argument).copied(), model.get(&argument).copied());
                        prop_assert_eq!(queue.take(argument), model.remove(&argument));
                    }
                }
                prop_assert_eq!(queue.get(argument), model.get(&argument));
                prop_assert_eq!(queue.len(), model.len());
                prop_assert!(queue.iter().eq(model.values()) && queue.numbers().eq(model.keys().copied()));
                prop_assert!(queue.places.len() <= 2 * model.len() + SLACK);
            }
        }
    }
}
