//! How fast something goes that may take microseconds or hours each time.

/// The shortest time that is looked at, in milliseconds.
const PERIOD_MS: u64 = 5_000;

/// The number of things that are looked at, unless they take too long.
const ENOUGH: u64 = 10;

/// The longest time that is waited for enough of them, in milliseconds.
const LONGEST_MS: u64 = 600_000;

/// The pace of the recent past: of a period that has at least some seconds and some things, and of
/// the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    before: Period,
    current: Period,
}

#[derive(Clone, Copy, Debug, Default)]
struct Period {
    since_ms: u64,
    count: u64,
}

impl Pace {
    /// A pace without anything so far.
    pub fn since(now_ms: u64) -> Self {
        let period = Period { since_ms: now_ms, count: 0 };
        Self { before: period, current: period }
    }

    /// Records that something was done.
    pub fn add(&mut self, count: u64, now_ms: u64) {
        self.current.count += count;
        let lasted = now_ms.saturating_sub(self.current.since_ms);
        if lasted > LONGEST_MS || lasted > PERIOD_MS && self.current.count >= ENOUGH {
            self.before = self.current;
            self.current = Period { since_ms: now_ms, count: 0 };
        }
    }

    /// Returns how many a second; 0 if it is unknown.
    pub fn per_second(&self, now_ms: u64) -> f64 {
        let time = now_ms.saturating_sub(self.before.since_ms).max(1) as f64 / 1000.0;
        (self.before.count + self.current.count) as f64 / time
    }

    /// Returns the time that this many will take, in milliseconds; `None` if it is unknown.
    pub fn time_for(&self, count: u64, now_ms: u64) -> Option<u64> {
        let rate = self.per_second(now_ms);
        (rate > 0.0).then(|| (count as f64 / rate * 1000.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_and_slow_things_have_a_pace_that_follows_a_change() {
        let mut fast = Pace::since(1000);
        assert_eq!(fast.time_for(1, 1000), None);
        (1..=20).for_each(|second| fast.add(1000, 1000 + second * 1000));
        assert_eq!(fast.per_second(21_000).round(), 1000.0);
        assert_eq!(fast.time_for(5000, 21_000), Some(5000));
        (21..=60).for_each(|second| fast.add(10, 1000 + second * 1000));
        assert_eq!(fast.per_second(61_000).round(), 10.0);

        let mut slow = Pace::since(0);
        (1..=30).for_each(|minute| slow.add(1, minute * 60_000));
        assert_eq!(slow.time_for(10, 30 * 60_000).map(|ms| ms / 60_000), Some(10));
    }
}
