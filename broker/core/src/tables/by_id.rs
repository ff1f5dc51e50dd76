//! Who is here, by the number that they were given: a map, for numbers that count up and are never
//! given again.

use std::marker::PhantomData;
use std::ops::Index;

use giostra_protocol::sparse_queue::SparseQueue;

/// A number that somebody is given.
pub trait Number: Copy {
    /// The number.
    fn number(self) -> u64;
    /// The one who has it.
    fn of(number: u64) -> Self;
}

/// Who is here. To find somebody is mostly a subtraction; they are gone through in the order in
/// which they came.
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
    /// How many there are.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Adds somebody, whose number must be greater than all before.
    pub fn insert(&mut self, number: N, who: T) {
        self.present.push(number.number(), Box::new(who));
    }

    /// Takes somebody out.
    pub fn remove(&mut self, number: &N) -> Option<T> {
        self.present.take(number.number()).map(|who| *who)
    }

    /// Who has this number.
    #[inline]
    pub fn get(&self, number: &N) -> Option<&T> {
        self.present.get(number.number()).map(|who| &**who)
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, number: &N) -> Option<&mut T> {
        self.present.get_mut(number.number()).map(|who| &mut **who)
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = (N, &T)> {
        self.present.numbers().map(N::of).zip(self.values())
    }

    /// All, in the order of their numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.present.iter().map(|who| &**who)
    }

    /// The same, to change them.
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
