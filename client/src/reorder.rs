//! A reorder buffer: items arrive in any order and leave in the order of their numbers.
//!
//! Hidden from the documentation: `giostra map` shares it, other programs should not.

use std::collections::VecDeque;

/// Items that have arrived before an earlier one. Numbers count up by one.
///
/// The buffer has a slot for each number from the next one to the highest that has arrived: its user
/// bounds it by requesting nothing too far ahead of [`Self::next`].
#[derive(Clone, Debug)]
pub struct ReorderBuffer<T> {
    next: u64,
    /// From the next number on.
    slots: VecDeque<Option<T>>,
}

impl<T> ReorderBuffer<T> {
    /// Creates an empty buffer; this number is the first to leave it.
    pub fn starting_at(first: u64) -> Self {
        Self { next: first, slots: VecDeque::new() }
    }

    /// Puts an item in. Returns it as the error if one with its number arrived before.
    pub fn put(&mut self, number: u64, item: T) -> Result<(), T> {
        let Some(slot) = self.slot(number) else { return Err(item) };
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        match &mut self.slots[slot] {
            Some(_) => Err(item),
            empty => {
                *empty = Some(item);
                Ok(())
            }
        }
    }

    /// Takes the next item, if it has arrived.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.slots.front_mut()?.take()?;
        self.slots.pop_front();
        self.next += 1;
        Some(item)
    }

    /// The item with this number, if it has arrived and was not taken.
    pub fn at(&mut self, number: u64) -> Option<&mut T> {
        let slot = self.slot(number)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The number of the next item to be taken.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The count of numbers from the next one to the highest that has arrived.
    pub fn span(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.next)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn each_item_leaves_once_and_in_order() {
        let mut order = ReorderBuffer::starting_at(1);
        assert_eq!((order.put(2, 'b'), order.pop(), order.span()), (Ok(()), None, 2));
        assert_eq!(order.put(2, 'x'), Err('x'));
        assert_eq!(order.put(1, 'a'), Ok(()));
        assert_eq!([order.pop(), order.pop(), order.pop()], [Some('a'), Some('b'), None]);
        assert_eq!((order.put(2, 'x'), order.next(), order.span()), (Err('x'), 3, 0));
    }

    #[test]
    fn items_leave_in_order_whatever_the_order_of_their_arrival() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let window = random.random_range(1..50);
            let (mut order, mut out, mut asked) = (ReorderBuffer::starting_at(0), Vec::new(), Vec::new());
            let mut last = 0;
            while out.len() < 300 {
                while last < 300 && last < order.next() + window {
                    asked.push(last);
                    last += 1;
                }
                asked.shuffle(&mut random);
                for number in asked.split_off(random.random_range(0..asked.len())) {
                    order.put(number, number).expect("it comes once");
                    assert!(order.span() <= window as usize, "seed {seed}");
                }
                out.extend(std::iter::from_fn(|| order.pop()));
            }
            assert!(out.into_iter().eq(0..300), "seed {seed}");
        }
    }
}
