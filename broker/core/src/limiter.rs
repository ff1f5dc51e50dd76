//! How often something may be said: whoever sends rubbish without end fills no log with it.

use std::time::{Duration, Instant};

/// Lines in each [`PERIOD`].
const LINES: u32 = 10;

const PERIOD: Duration = Duration::from_secs(1);

/// Counts what there would be to say, and lets so many lines through.
#[derive(Debug)]
pub struct Limiter {
    since: Instant,
    said: u32,
    unsaid: u64,
}

impl Limiter {
    /// One that has said nothing at the time `now`.
    pub fn new(now: Instant) -> Self {
        Self { since: now, said: 0, unsaid: 0 }
    }

    /// Whether one more line may be written now. For those that count themselves.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.say(0, now).is_some()
    }

    /// There is something to say of `count` things. Of how many, if now is the time: those are
    /// included of which nothing could be said before.
    pub fn say(&mut self, count: u64, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= PERIOD {
            self.since = now;
            self.said = 0;
        }
        self.unsaid += count;
        if self.said == LINES {
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// How often one peer may do what is written down each time: so many times at once, and once more
/// in each [`PERIOD`].
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    most: u32,
    left: u32,
    since: Instant,
}

impl Allowance {
    /// One that allows `most` times at once.
    pub fn new(most: u32, now: Instant) -> Self {
        Self { most, left: most, since: now }
    }

    /// Whether it may be done now. It is done then.
    pub fn take(&mut self, now: Instant) -> bool {
        let periods = now.saturating_duration_since(self.since).as_secs() / PERIOD.as_secs();
        if periods > 0 {
            self.left = self.most.min(self.left.saturating_add(periods.try_into().unwrap_or(u32::MAX)));
            self.since = now;
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // an instant to begin with
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_and_comes_back_little_by_little() {
        let now = Instant::now();
        let mut allowance = Allowance::new(10, now);
        let mut takes = |times: u32, now| (0..times).filter(|_| allowance.take(now)).count();
        assert_eq!((takes(100, now), takes(100, now + PERIOD)), (10, 1));
        assert_eq!((takes(100, now + 4 * PERIOD), takes(100, now + 1000 * PERIOD)), (3, 10));
    }

    #[test]
    fn little_is_said_of_much_but_all_of_it_is_counted() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let said: u64 = (0..100).filter_map(|_| limiter.say(2, now)).sum();
        assert_eq!(said, u64::from(LINES) * 2);
        assert_eq!(limiter.say(1, now + PERIOD), Some(200 - said + 1));
        assert_eq!(limiter.say(5, now + PERIOD), Some(5));
    }
}
