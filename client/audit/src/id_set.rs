//! Sets of request ids, which are mostly dense: millions take as many bits.

use std::collections::BTreeMap;

use crate::ranges::IdRange;

/// The number of ids that share a chunk, and of words in it.
const CHUNK: u64 = 1024;
const WORDS: usize = (CHUNK / 64) as usize;

/// A set of the numbers of one client's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdSet {
    /// Chunks that are not empty, by the number of their first id divided by [`CHUNK`].
    chunks: BTreeMap<u64, [u64; WORDS]>,
}

/// The memory that sets may still take together, in chunks of about 200 bytes.
#[derive(Debug)]
pub(crate) struct Room(pub usize);

impl Default for Room {
    /// Room for a thousand million ids without gaps.
    fn default() -> Self {
        Self(1 << 20)
    }
}

impl IdSet {
    /// Inserts the ids of a range. Returns false if there is no room for all of them.
    pub fn insert_all(&mut self, range: IdRange, room: &mut Room) -> bool {
        let mut next = Some(range.first);
        while let Some(first) = next.filter(|&first| first <= range.last) {
            let number = first / CHUNK;
            let words = match self.chunks.get_mut(&number) {
                Some(words) => words,
                None if room.0 == 0 => return false,
                None => {
                    room.0 -= 1;
                    self.chunks.entry(number).or_default()
                }
            };
            next = Self::each_in(number, first, range, |word, bit| words[word] |= bit);
        }
        true
    }

    /// Inserts an id. Returns whether it was not there; an error if there is no room for it.
    pub fn insert(&mut self, id: u64, room: &mut Room) -> Result<bool, NoRoom> {
        let is_new = !self.contains(id);
        let range = IdRange { client: 0, first: id, last: id, step: 1 };
        if is_new && !self.insert_all(range, room) { Err(NoRoom) } else { Ok(is_new) }
    }

    /// Removes the ids of a range.
    pub fn remove_all(&mut self, range: IdRange) {
        let mut next = Some(range.first);
        while let Some(first) = next.filter(|&first| first <= range.last) {
            let number = first / CHUNK;
            let mut nothing = [0; WORDS];
            let words = self.chunks.get_mut(&number).unwrap_or(&mut nothing);
            next = Self::each_in(number, first, range, |word, bit| words[word] &= !bit);
        }
    }

    /// Calls `handle` with the word and the bit of each id of the range from `first` on that is in this
    /// chunk. Returns the first one behind it.
    fn each_in(chunk: u64, first: u64, range: IdRange, mut handle: impl FnMut(usize, u64)) -> Option<u64> {
        let mut id = first;
        while id <= range.last && id / CHUNK == chunk {
            handle((id % CHUNK / 64) as usize, 1 << (id % 64));
            id = id.checked_add(range.step)?;
        }
        Some(id)
    }

    /// Whether an id is in the set.
    pub fn contains(&self, id: u64) -> bool {
        let words = self.chunks.get(&(id / CHUNK));
        words.is_some_and(|words| words[(id % CHUNK / 64) as usize] & (1 << (id % 64)) != 0)
    }

    /// The number of ids.
    pub fn len(&self) -> u64 {
        self.chunks.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.chunks.values().flatten().all(|&word| word == 0)
    }

    /// The ids that both have.
    pub fn and(&self, other: &Self) -> Self {
        self.combined(other, |one, other| one & other)
    }

    /// The ids that the other one does not have.
    pub fn without(&self, other: &Self) -> Self {
        self.combined(other, |one, other| one & !other)
    }

    fn combined(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let none = [0; WORDS];
        let chunk = |(number, words): (&u64, &[u64; WORDS])| {
            let others = other.chunks.get(number).unwrap_or(&none);
            (*number, std::array::from_fn(|word| combine(words[word], others[word])))
        };
        Self { chunks: self.chunks.iter().map(chunk).filter(|(_, words)| *words != none).collect() }
    }

    /// Keeps the ids from `first` to `last`, both included.
    pub fn keep(&mut self, first: u64, last: u64) {
        self.chunks.retain(|&number, words| {
            for (at, word) in words.iter_mut().enumerate() {
                let start = number * CHUNK + 64 * at as u64;
                for bit in 0..64 {
                    if !(first..=last).contains(&(start + bit)) {
                        *word &= !(1 << bit);
                    }
                }
            }
            *words != [0; WORDS]
        });
    }

    /// The largest id.
    pub fn last(&self) -> Option<u64> {
        let (number, words) = self.chunks.iter().rev().find(|(_, words)| **words != [0; WORDS])?;
        let word = words.iter().rposition(|&word| word != 0)?;
        Some(number * CHUNK + 64 * word as u64 + u64::from(63 - words[word].leading_zeros()))
    }

    /// Adds the ids of the other one.
    pub fn add(&mut self, other: &Self) {
        for (number, words) in &other.chunks {
            for (word, more) in self.chunks.entry(*number).or_default().iter_mut().zip(words) {
                *word |= more;
            }
        }
    }

    /// The ids in their order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let bits = |word: u64| (0..64).filter(move |bit| word & (1 << bit) != 0);
        self.chunks.iter().flat_map(move |(number, words)| {
            let of_word =
                move |(at, &word): (usize, &u64)| bits(word).map(move |bit| number * CHUNK + 64 * at as u64 + bit);
            words.iter().enumerate().flat_map(of_word)
        })
    }
}

/// There is no room for another id.
#[derive(Debug)]
pub(crate) struct NoRoom;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = IdRange> {
        (prop_oneof![0..5000_u64, u64::MAX - 3000..u64::MAX - 1500], 0..300_u64, 1..5_u64)
            .prop_map(|(first, more, step)| IdRange { client: 1, first, last: first + more * step, step })
    }

    fn set(ranges: &[IdRange]) -> (IdSet, BTreeSet<u64>) {
        let (mut set, mut room) = (IdSet::default(), Room::default());
        assert!(ranges.iter().all(|&range| set.insert_all(range, &mut room)));
        (set, ranges.iter().flat_map(|&range| range).map(|id| id.number).collect())
    }

    fn all(set: &IdSet) -> Vec<u64> {
        set.iter().collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(one in prop::collection::vec(range(), 0..6), other in prop::collection::vec(range(), 0..6)) {
            let ((one, as_known), (other, others)) = (set(&one), set(&other));
            prop_assert_eq!(all(&one), as_known.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!((one.len(), one.is_empty()), (as_known.len() as u64, as_known.is_empty()));
            prop_assert_eq!(all(&one.and(&other)), as_known.intersection(&others).copied().collect::<Vec<_>>());
            prop_assert_eq!(all(&one.without(&other)), as_known.difference(&others).copied().collect::<Vec<_>>());
            let mut both = one.clone();
            both.add(&other);
            prop_assert_eq!(all(&both), as_known.union(&others).copied().collect::<Vec<_>>());
            prop_assert!(as_known.iter().all(|&id| one.contains(id)));
            prop_assert_eq!(one.last(), as_known.last().copied());
            let mut part = one.clone();
            part.keep(700, 4000);
            prop_assert_eq!(all(&part), as_known.range(700..=4000).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn ids_are_removed_and_inserted_once() {
        let mut room = Room::default();
        let (mut set, _) = set(&[IdRange { client: 1, first: 1, last: 3000, step: 1 }]);
        set.remove_all(IdRange { client: 1, first: 2, last: 9002, step: 2 });
        assert_eq!((set.len(), set.contains(1), set.contains(2)), (1500, true, false));
        assert!(set.insert(2, &mut room).unwrap() && !set.insert(2, &mut room).unwrap());
    }

    #[test]
    fn memory_is_bounded() {
        let (mut set, mut room) = (IdSet::default(), Room(2));
        let far = |step| IdRange { client: 1, first: 1, last: 1 + 9 * step, step };
        assert!(set.insert_all(far(100), &mut room));
        assert!(!set.insert_all(far(1 << 40), &mut room) && set.insert(1 << 50, &mut room).is_err());
        assert!(set.len() <= 11);
    }
}
