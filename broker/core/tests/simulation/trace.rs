//! What a run tells of itself: everything, for people; a digest of everything, to compare two runs;
//! or nothing.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Where a run's lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// When nobody looks.
    Off,
    /// When they are to be printed.
    Print,
    /// When only their digest is wanted.
    Digest(u64),
}

impl Trace {
    /// Tells of something that happened at `now`, in microseconds.
    pub fn note<T: Display>(&mut self, now: u64, line: impl FnOnce() -> T) {
        match self {
            Self::Off => {}
            Self::Print => println!("{:>10.3} ms  {}", now as f64 / 1000.0, line()),
            Self::Digest(digest) => {
                let mut hasher = DefaultHasher::new();
                (*digest, now, line().to_string()).hash(&mut hasher);
                *digest = hasher.finish();
            }
        }
    }
}
