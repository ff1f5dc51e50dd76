//! A queue of numbered items that also allows removal from its middle.
//!
//! Requests that a client waits for, that are pending, or that are in flight to a worker are added
//! in the order of their numbers and mostly taken from the front. But a cancelled request, or one
//! answered out of turn, leaves from the middle. Its slot stays empty until the front reaches it or
//! more than half of the slots are empty. So each operation takes amortised constant time, except
//! for a binary search when numbers are missing.

use std::collections::VecDeque;

/// The number of slots that may be empty whatever the queue's length.
const SLACK: usize = 32;

/// The number of slots whose memory is kept whatever the queue's length.
const KEPT_SLOTS: usize = 4096;

/// A queue of numbered items with ascending numbers.
#[derive(Clone, Debug)]
pub struct SparseQueue<T> {
    slots: VecDeque<(u64, Option<T>)>,
    len: usize,
}

impl<T> Default for SparseQueue<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), len: 0 }
    }
}

impl<T> SparseQueue<T> {
    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item at the end. Its number must be greater than all numbers before it.
    #[inline]
    pub fn push(&mut self, number: u64, item: T) {
        debug_assert!(self.slots.back().is_none_or(|&(last, _)| last < number));
        self.slots.push_back((number, Some(item)));
        self.len += 1;
    }

    /// Removes the item at the front and returns it.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        // The front slot is never empty: see `tidy`.
        let (_, item) = self.slots.pop_front()?;
        self.len -= 1;
        self.tidy();
        item
    }

    /// Removes the item with this number and returns it, if it is there.
    #[inline]
    pub fn take(&mut self, number: u64) -> Option<T> {
        if self.slots.front()?.0 == number {
            return self.pop();
        }
        let item = self.find(number)?.take()?;
        self.len -= 1;
        self.tidy();
        Some(item)
    }

    /// Returns the last number that was added; `None` once the queue is empty.
    #[inline]
    pub fn last_number(&self) -> Option<u64> {
        self.slots.back().map(|&(number, _)| number)
    }

    /// Returns the item with this number, if it is there.
    #[inline]
    pub fn get(&self, number: u64) -> Option<&T> {
        self.slots[self.position(number)?].1.as_ref()
    }

    /// Returns the item with this number for change, if it is there.
    #[inline]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.find(number)?.as_mut()
    }

    /// Returns the items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, item)| item.as_ref())
    }

    /// Returns the items for change, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|(_, item)| item.as_mut())
    }

    /// Returns the items' numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter(|(_, item)| item.is_some()).map(|&(number, _)| number)
    }

    #[inline]
    fn find(&mut self, number: u64) -> Option<&mut Option<T>> {
        let slot = self.position(number)?;
        Some(&mut self.slots[slot].1)
    }

    #[inline]
    fn position(&self, number: u64) -> Option<usize> {
        let first = self.slots.front()?.0;
        let guess = usize::try_from(number.checked_sub(first)?).ok()?;
        match self.slots.get(guess) {
            Some(&(there, _)) if there == number => Some(guess),
            _ => self.slots.binary_search_by_key(&number, |&(number, _)| number).ok(),
        }
    }

    #[inline]
    fn tidy(&mut self) {
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.len + SLACK {
            self.slots.retain(|(_, item)| item.is_some());
        }
        // Returns the memory of a burst. Half of the slots are free afterwards, so this is as rare as the
        // growth was.
        if self.slots.capacity() > KEPT_SLOTS && self.slots.capacity() > 8 * self.slots.len() {
            self.slots.shrink_to(2 * self.slots.len());
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
                    2 => prop_assert_eq!(queue.pop(), model.pop_first().map(|(_, item)| item)),
                    _ => {
                        prop_assert_eq!(queue.get_mut(argument).copied(), model.get(&argument).copied());
                        prop_assert_eq!(queue.take(argument), model.remove(&argument));
                    }
                }
                prop_assert_eq!(queue.get(argument), model.get(&argument));
                prop_assert_eq!(queue.len(), model.len());
                prop_assert!(queue.iter().eq(model.values()) && queue.numbers().eq(model.keys().copied()));
                prop_assert!(queue.slots.len() <= 2 * model.len() + SLACK);
            }
        }
    }
}
