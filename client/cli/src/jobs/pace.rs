//! How fast something goes, from looks at how far it is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back looks count: a pace changes, and the time that is left follows it.
const SPAN: Duration = Duration::from_secs(10);

/// Looks at how far something is.
#[derive(Clone, Debug, Default)]
pub struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Adds a look: so much was done at that time.
    pub fn add(&mut self, now: Instant, done: u64) {
        if self.0.back().is_some_and(|&(_, before)| before > done) {
            // Something is done again.
            self.0.clear();
        }
        self.0.push_back((now, done));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|&(then, _)| now.saturating_duration_since(then) >= SPAN) {
            self.0.pop_front();
        }
    }

    /// How much is done in a second; `None` after less than two looks.
    pub fn rate(&self) -> Option<f64> {
        let (&(began, before), &(now, done)) = (self.0.front()?, self.0.back()?);
        let seconds = now.saturating_duration_since(began).as_secs_f64();
        (seconds > 0.0).then(|| (done - before) as f64 / seconds)
    }

    /// The time for the rest at this rate; `None` if that is unknown, or it would never be done.
    pub fn time_for(&self, rest: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(rest as f64 / self.rate()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_seconds_count() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let at = |second| began + Duration::from_secs(second);
        assert_eq!(pace.rate(), None);
        for second in 0..=100 {
            pace.add(at(second), if second < 50 { second } else { 50 + (second - 50) * 100 });
        }
        assert_eq!(pace.rate(), Some(100.0));
        // A long pause between two looks is a part of the pace.
        pace.add(at(200), 5050);
        assert_eq!(pace.rate(), Some(0.0));
    }

    #[test]
    fn what_is_done_again_is_as_if_it_began() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        [(0, 5), (1, 10), (2, 4), (4, 8)].iter().for_each(|&(s, done)| pace.add(began + Duration::from_secs(s), done));
        assert_eq!(pace.rate(), Some(2.0));
    }

    #[test]
    fn at_no_pace_it_is_never_done() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        assert_eq!(pace.time_for(10), None);
        pace.add(began, 0);
        pace.add(began + Duration::from_secs(1), 0);
        assert_eq!((pace.time_for(10), pace.time_for(0)), (None, None));
        pace.add(began + Duration::from_secs(2), 1);
        assert_eq!((pace.time_for(10), pace.time_for(0)), (Some(Duration::from_secs(20)), Some(Duration::ZERO)));
    }
}
