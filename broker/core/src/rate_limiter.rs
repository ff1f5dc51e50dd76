//! Limits on log lines that a peer can cause at will.

use std::time::{Duration, Instant};

/// The maximum number of lines in each [`PERIOD`].
const MAX_LINES: u32 = 10;

const PERIOD: Duration = Duration::from_secs(1);

/// Lets [`MAX_LINES`] through in each [`PERIOD`], and counts what the others were about.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// The beginning of the period; `None` before the first occurrence.
    since: Option<Instant>,
    allowed: u32,
    unreported: u64,
}

impl RateLimiter {
    /// Whether one more line may be written. The caller keeps the count.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.record(0, now).is_some()
    }

    /// Records `count` occurrences; returns how many to report, or `None` while over the limit.
    pub fn record(&mut self, count: u64, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            self.since = Some(now);
            self.allowed = 0;
        }
        self.unreported += count;
        if self.allowed == MAX_LINES {
            return None;
        }
        self.allowed += 1;
        Some(std::mem::take(&mut self.unreported))
    }
}

/// A token bucket: `capacity` at once, and one more in each [`PERIOD`].
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    capacity: u32,
    tokens: u32,
    since: Instant,
}

impl TokenBucket {
    /// Creates a full bucket.
    pub fn new(capacity: u32, now: Instant) -> Self {
        Self { capacity, tokens: capacity, since: now }
    }

    /// Takes a token; `false` if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let periods = now.saturating_duration_since(self.since).as_secs() / PERIOD.as_secs();
        if periods > 0 {
            self.tokens = self.capacity.min(self.tokens.saturating_add(periods.try_into().unwrap_or(u32::MAX)));
            self.since = now;
        }
        let is_taken = self.tokens > 0;
        self.tokens -= u32::from(is_taken);
        is_taken
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // an instant to begin with
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_emptied_and_fills_little_by_little() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(10, now);
        let mut takes = |times: u32, now| (0..times).filter(|_| bucket.take(now)).count();
        assert_eq!((takes(100, now), takes(100, now + PERIOD)), (10, 1));
        assert_eq!((takes(100, now + 4 * PERIOD), takes(100, now + 1000 * PERIOD)), (3, 10));
    }

    #[test]
    fn few_lines_are_allowed_and_every_occurrence_is_counted() {
        let now = Instant::now();
        let mut limiter = RateLimiter::default();
        let reported: u64 = (0..100).filter_map(|_| limiter.record(2, now)).sum();
        assert_eq!(reported, u64::from(MAX_LINES) * 2);
        assert_eq!(limiter.record(1, now + PERIOD), Some(200 - reported + 1));
        assert_eq!(limiter.record(5, now + PERIOD), Some(5));
    }
}
