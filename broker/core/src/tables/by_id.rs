//! A table by id, for ids that count up and are never used again.

use std::marker::PhantomData;
use std::ops::Index;

use giostra_protocol::sparse_queue::SparseQueue;

/// An id of clients or workers.
pub trait Number: Copy {
    /// Returns the number of the id.
    fn number(self) -> u64;
    /// Returns the id with this number.
    fn of(number: u64) -> Self;
}

/// A table by id. A lookup is mostly a subtraction. Iteration is in the order of the ids.
pub struct ById<N, T> {
    present: SparseQueue<Box<T>>,
    numbers: PhantomData<N>,
}

impl<N, T> Default for ById<N, T> {
    fn default() -> Self {
        Self { present: SparseQueue::default(), numbers: PhantomData }
    }
}

impl<N: Number, T> ById<N, T> {
    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Adds a member, whose id must be greater than all before.
    pub fn insert(&mut self, number: N, who: T) {
        self.present.push(number.number(), Box::new(who));
    }

    /// Removes a member.
    pub fn remove(&mut self, number: &N) -> Option<T> {
        self.present.take(number.number()).map(|who| *who)
    }

    /// Returns a member.
    #[inline]
    pub fn get(&self, number: &N) -> Option<&T> {
        self.present.get(number.number()).map(|who| &**who)
    }

    /// Returns a member for change.
    #[inline]
    pub fn get_mut(&mut self, number: &N) -> Option<&mut T> {
        self.present.get_mut(number.number()).map(|who| &mut **who)
    }

    /// Iterates over the members and their ids.
    pub fn iter(&self) -> impl Iterator<Item = (N, &T)> {
        self.present.numbers().map(N::of).zip(self.values())
    }

    /// Iterates over the members.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.present.iter().map(|who| &**who)
    }

    /// Iterates over the members for change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.present.iter_mut().map(|who| &mut **who)
    }
}

impl<N: Number, T> Index<&N> for ById<N, T> {
    type Output = T;

    #[inline]
    fn index(&self, number: &N) -> &T {
        self.get(number).expect("a number is in the other tables as long as its owner is here")
    }
}
