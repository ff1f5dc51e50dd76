//! The queue of failed lines that are to be retried.
//!
//! The pause before a retry doubles from [`FIRST`] to [`MAX_DURATION`]. Up to half of it is left out at
//! random, so that lines that failed together are not all retried together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The longest pause before the first retry of a line.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause before any retry.
const MAX_DURATION: Duration = Duration::from_secs(10);

/// The items to be retried, by the time at which they are due.
pub struct Retries<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    /// Distinguishes items that are due at the same time.
    count: u64,
}

impl<T> Retries<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { waiting: BTreeMap::new(), count: 0 }
    }

    /// Adds an item that is due at that time.
    pub fn add(&mut self, at: Instant, what: T) {
        self.waiting.insert((at, self.count), what);
        self.count += 1;
    }

    /// Takes the next item that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<T> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Returns when the next item is due.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(&(at, _), _)| at)
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Returns the pause before a line's retry, the first of which is 1. `random` is from 0 to 1.
pub fn pause(retry: u32, random: f64) -> Duration {
    let doublings = retry.saturating_sub(1).min(16);
    let longest = FIRST.saturating_mul(1 << doublings).min(MAX_DURATION);
    longest.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_are_cut_by_up_to_a_half() {
        let longest = [1, 2, 3, 7, 8, 1_000_000].map(|retry| pause(retry, 1.0).as_millis());
        assert_eq!(longest, [100, 200, 400, 6400, 10_000, 10_000]);
        assert_eq!(pause(3, 0.0).as_millis(), 200);
    }

    #[test]
    fn nothing_is_asked_again_before_its_time() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut again = Retries::new();
        [(20, 'b'), (10, 'a'), (20, 'c')].into_iter().for_each(|(ms, what)| again.add(at(ms), what));
        assert_eq!((again.next(), again.take_due(now)), (Some(at(10)), None));
        let due: Vec<_> = std::iter::from_fn(|| again.take_due(at(20))).collect();
        assert_eq!((due, again.len(), again.next()), (vec!['a', 'b', 'c'], 0, None));
    }
}
