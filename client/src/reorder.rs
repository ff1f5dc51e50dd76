//! Things that come in any order, to be handed on in the order of their numbers.

use std::collections::VecDeque;

/// What has come and can't be handed on yet. Numbers count up by one.
///
/// It takes a place for each number from the next one to the highest that has come: whoever fills
/// it bounds it, by asking for nothing that is too far ahead of [`Self::next`].
#[derive(Clone, Debug)]
pub struct ReorderBuffer<T> {
    next: u64,
    /// From the next one on.
    places: VecDeque<Option<T>>,
}

impl<T> ReorderBuffer<T> {
    /// Nothing yet; this number is the first to be handed on.
    pub fn starting_at(first: u64) -> Self {
        Self { next: first, places: VecDeque::new() }
    }

    /// A thing has come. Given back if one with its number had come before.
    pub fn put(&mut self, number: u64, thing: T) -> Result<(), T> {
        let Some(place) = self.place(number) else { return Err(thing) };
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        match &mut self.places[place] {
            Some(_) => Err(thing),
            empty => {
                *empty = Some(thing);
                Ok(())
            }
        }
    }

    /// Hands on the next thing, if it has come.
    pub fn pop(&mut self) -> Option<T> {
        let thing = self.places.front_mut()?.take()?;
        self.places.pop_front();
        self.next += 1;
        Some(thing)
    }

    /// The thing with this number, if it has come and was not handed on.
    pub fn at(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number)?;
        self.places.get_mut(place)?.as_mut()
    }

    /// The number of the next thing to be handed on.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many numbers there are from the next one to the highest that has come.
    pub fn span(&self) -> usize {
        self.places.len()
    }

    fn place(&self, number: u64) -> Option<usize> {
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
    fn each_thing_is_handed_on_once_and_in_its_turn() {
        let mut order = ReorderBuffer::starting_at(1);
        assert_eq!((order.put(2, 'b'), order.pop(), order.span()), (Ok(()), None, 2));
        assert_eq!(order.put(2, 'x'), Err('x'));
        assert_eq!(order.put(1, 'a'), Ok(()));
        assert_eq!([order.pop(), order.pop(), order.pop()], [Some('a'), Some('b'), None]);
        assert_eq!((order.put(2, 'x'), order.next(), order.span()), (Err('x'), 3, 0));
    }

    #[test]
    fn whatever_the_order_of_their_coming_all_are_handed_on_in_the_order_of_their_numbers() {
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
