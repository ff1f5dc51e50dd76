//! What an audit has found: which promise was broken, where, and how.

use std::borrow::Cow;

/// The most violations that are kept; the others are counted.
const KEPT: usize = 100;

/// Characters kept of a line that violates something.
const SHOWN: usize = 300;

/// What an audit proves or refutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// When each ticket is dealt once, to the seat whose turn it is, within its window.
    Rotation,
    /// When each accepted request ends once, and a lost worker's requests go first, in their order.
    Requests,
    /// When a request is given up after so many lost workers.
    Poison,
    /// When what a client that left had asked for is cancelled or discarded.
    Leaving,
    /// When the log itself is readable.
    Evidence,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rotation, Self::Requests, Self::Poison, Self::Leaving, Self::Evidence];
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file, by its number among those of the audit.
    pub file: usize,
    /// The line's number in it, from 1.
    pub line: u64,
}

/// A line that is being looked at.
#[derive(Clone, Debug)]
pub(super) struct Spot<'a> {
    pub place: Place,
    text: Cow<'a, str>,
    /// The promises that it was found to violate: each is said once a line.
    said: u8,
}

impl<'a> Spot<'a> {
    pub fn new(place: Place, text: impl Into<Cow<'a, str>>) -> Self {
        Self { place, text: text.into(), said: 0 }
    }

    /// The same, to be looked at when the line is gone.
    pub fn kept(&self) -> Spot<'static> {
        Spot { place: self.place, text: Cow::Owned(shortened(&self.text)), said: self.said }
    }
}

/// A line that violates a promise.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub place: Place,
    pub text: String,
    pub promise: Promise,
    pub what: String,
}

/// The violations, counted, and the first of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub counts: [u64; Promise::ALL.len()],
    pub first: Vec<Found>,
}

impl Findings {
    /// Adds a violation, unless the line is known already to violate that promise.
    pub fn add(&mut self, spot: &mut Spot<'_>, promise: Promise, what: impl FnOnce() -> String) {
        let bit = 1 << promise as u8;
        if spot.said & bit > 0 {
            return;
        }
        spot.said |= bit;
        self.counts[promise as usize] += 1;
        if self.first.len() < KEPT {
            self.first.push(Found { place: spot.place, text: shortened(&spot.text), promise, what: what() });
        }
    }

    /// Adds those of a later part.
    pub fn append(&mut self, later: Self) {
        for (count, more) in self.counts.iter_mut().zip(later.counts) {
            *count += more;
        }
        let room = KEPT - self.first.len();
        self.first.extend(later.first.into_iter().take(room));
    }
}

fn shortened(text: &str) -> String {
    text.char_indices().nth(SHOWN).map_or(text, |(end, _)| &text[..end]).into()
}
