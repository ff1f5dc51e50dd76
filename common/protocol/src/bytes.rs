//! Bytes that are cheap to clone: short ones are stored inline, longer ones are shared.
//!
//! Nearly every request and result is smaller than a cache line. To share such bytes costs more
//! than to copy them: an atomic addition and an atomic subtraction for each owner, and their frame
//! stays in memory as long as any of its hundreds of bodies. So up to [`INLINE_MAX`] bytes are
//! copied, and only longer ones are a [`bytes::Bytes`], a slice with a reference count.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Bound, Deref, RangeBounds};

use ::bytes::Bytes as Shared;

/// The largest number of bytes that are stored inline. It makes a [`Bytes`] 40 bytes large, 8 more
/// than a [`bytes::Bytes`].
pub const INLINE_MAX: usize = 38;

/// Immutable bytes, with the interface of [`bytes::Bytes`].
#[derive(Clone)]
pub struct Bytes(Repr);

#[derive(Clone)]
enum Repr {
    /// When they are stored inline: their number, and an array whose remaining bytes are arbitrary.
    Inline(u8, [u8; INLINE_MAX]),
    /// When they are shared.
    Shared(Shared),
}

impl Bytes {
    /// Creates empty bytes.
    pub const fn new() -> Self {
        Self(Repr::Inline(0, [0; INLINE_MAX]))
    }

    /// Borrows static bytes.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Repr::Shared(Shared::from_static(bytes))))
    }

    /// Copies a slice.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Repr::Shared(Shared::copy_from_slice(bytes))))
    }

    /// Borrows `owner`'s bytes, keeping it alive until the last clone drops; copies short ones.
    pub fn from_owner<T: AsRef<[u8]> + Send + 'static>(owner: T) -> Self {
        Self::inline(owner.as_ref()).unwrap_or_else(|| Self(Repr::Shared(Shared::from_owner(owner))))
    }

    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline(len, _) => usize::from(*len),
            Repr::Shared(shared) => shared.len(),
        }
    }

    /// Returns whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits off the first `count` bytes and returns them.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let front = self.slice(..count);
        *self = self.slice(count..);
        front
    }

    /// Returns a part of the bytes.
    ///
    /// # Panics
    ///
    /// If the range is out of bounds.
    #[inline]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let begin = match range.start_bound() {
            Bound::Included(&begin) => begin,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        let (all, len) = (&self[..end], end - begin);
        if len > INLINE_MAX {
            return match &self.0 {
                Repr::Shared(shared) => Self(Repr::Shared(shared.slice(begin..end))),
                Repr::Inline(..) => unreachable!("inline bytes are shorter"),
            };
        }
        // Most parts have other bytes behind them: to copy a full array takes a few instructions and no
        // loop.
        match self.get(begin..begin + INLINE_MAX).and_then(|some| some.try_into().ok()) {
            Some(some) => Self(Repr::Inline(len as u8, some)),
            None => Self::copy_from_slice(&all[begin..]),
        }
    }

    /// Returns the part of the bytes that `part` borrows.
    ///
    /// # Panics
    ///
    /// If `part` is not a slice of these bytes.
    pub fn slice_ref(&self, part: &[u8]) -> Self {
        if part.is_empty() {
            return Self::new();
        }
        let begin = (part.as_ptr() as usize).wrapping_sub(self.as_ptr() as usize);
        assert!(begin < self.len() && part.len() <= self.len() - begin, "a part of other bytes");
        self.slice(begin..begin + part.len())
    }

    fn inline(bytes: &[u8]) -> Option<Self> {
        let mut array = [0; INLINE_MAX];
        array.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(Repr::Inline(bytes.len() as u8, array)))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Repr::Shared(shared) => shared,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self(Repr::Shared(bytes.into())))
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Vec::from_iter(bytes).into()
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::from_static(bytes)
    }
}

impl From<&'static str> for Bytes {
    fn from(text: &'static str) -> Self {
        Self::from_static(text.as_bytes())
    }
}

impl From<Shared> for Bytes {
    fn from(shared: Shared) -> Self {
        Self::inline(&shared).unwrap_or(Self(Repr::Shared(shared)))
    }
}

/// The conversion for users of crate `bytes`.
impl From<Bytes> for Shared {
    fn from(bytes: Bytes) -> Self {
        match bytes.0 {
            Repr::Inline(len, bytes) => Self::copy_from_slice(&bytes[..usize::from(len)]),
            Repr::Shared(shared) => shared,
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Bytes {}

impl PartialEq<[u8]> for Bytes {
    fn eq(&self, other: &[u8]) -> bool {
        self[..] == *other
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<&T> for Bytes {
    fn eq(&self, other: &&T) -> bool {
        self[..] == *other.as_ref()
    }
}

impl PartialEq<Vec<u8>> for Bytes {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self[..] == other[..]
    }
}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self[..].cmp(&other[..])
    }
}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn hash(bytes: &(impl Hash + ?Sized)) -> u64 {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        hasher.finish()
    }

    proptest! {
        #[test]
        fn inline_or_shared_they_are_the_same_bytes(
            all in prop::collection::vec(0..4u8, 0..120),
            (begin, len) in (0..120usize, 0..120usize),
        ) {
            let (begin, end) = (begin.min(all.len()), (begin + len).min(all.len()));
            let static_copy: &'static [u8] = all.clone().leak();
            for bytes in [
                Bytes::from(all.clone()),
                Bytes::copy_from_slice(&all),
                Bytes::from_static(static_copy),
                Bytes::from_owner(all.clone()),
                Shared::from(all.clone()).into(),
            ] {
                prop_assert_eq!(&bytes[..], &all[..]);
                let part = bytes.slice(begin..end);
                prop_assert_eq!(&part[..], &all[begin..end]);
                prop_assert_eq!(&bytes.slice_ref(&bytes[begin..end]), &part);
                // The bytes behind a part in its array do not count.
                prop_assert_eq!(&part, &Bytes::copy_from_slice(&all[begin..end]));
                prop_assert_eq!(hash(&part), hash(&all[begin..end]));
                prop_assert_eq!(part.cmp(&bytes), all[begin..end].cmp(&all));
                prop_assert_eq!(&part.slice(1.min(part.len())..)[..], &all[begin..end][1.min(part.len())..]);
                prop_assert_eq!(&Shared::from(part)[..], &all[begin..end]);
            }
        }
    }

    #[test]
    fn long_bytes_are_shared_and_short_ones_keep_nothing_else_alive() {
        let many = Bytes::from(vec![7; 1 << 20]);
        assert_eq!(many.clone().as_ptr(), many.as_ptr());
        assert_eq!(many.slice(100..200).as_ptr(), many[100..].as_ptr());
        assert_eq!(size_of::<Bytes>(), 40);
        let few = many.slice(10..20);
        assert!(matches!(few.0, Repr::Inline(10, _)));
        assert!(matches!(many.slice(..INLINE_MAX).0, Repr::Inline(..)));
    }

    #[test]
    #[should_panic(expected = "a part of other bytes")]
    fn a_part_of_something_else_is_no_part() {
        Bytes::from_static(b"abc").slice_ref(b"abc");
    }
}
