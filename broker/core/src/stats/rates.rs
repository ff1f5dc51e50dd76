//! Rates and durations of the recent past.
//!
//! Seconds are counted from the broker's start. Counts of a second are reported when it is over, so
//! that a figure changes once a second and costs one addition until then. Durations go into
//! `hdrhistogram`s.

use std::collections::VecDeque;

use giostra_protocol::Percentiles;
use hdrhistogram::Histogram;

/// The longest duration that is recorded as it is, in microseconds: an hour. Longer ones count as
/// this.
const MAX_DURATION: u64 = 3600 * 1_000_000;

/// The seconds in a history.
pub const HISTORY: usize = 300;

/// The seconds of a period of [`Durations`].
const RECENT: u64 = 10;

/// A count of the last whole second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    second: u64,
    current: u64,
    last: u64,
}

impl Rate {
    /// Adds to the count of this second.
    pub fn add(&mut self, count: u64, second: u64) {
        self.turn_to(second);
        self.current += count;
    }

    /// Returns the count of the second before this one.
    pub fn before(mut self, second: u64) -> u64 {
        self.turn_to(second);
        self.last
    }

    fn turn_to(&mut self, second: u64) {
        if second > self.second {
            self.last = if second == self.second + 1 { self.current } else { 0 };
            (self.second, self.current) = (second, 0);
        }
    }
}

/// Recent durations: in the current period of [`RECENT`] seconds and the one before, to about a
/// twentieth.
#[derive(Clone, Debug)]
pub struct Durations {
    period: u64,
    current: Histogram<u32>,
    before: Histogram<u32>,
    /// The second for which the percentiles were computed last.
    reckoned: Option<u64>,
    percentiles: Percentiles,
}

impl Default for Durations {
    fn default() -> Self {
        let (current, before) = (histogram(1), histogram(1));
        Self { period: 0, current, before, reckoned: None, percentiles: Percentiles::default() }
    }
}

impl Durations {
    /// Records durations in this second.
    pub fn add(&mut self, micros: u64, count: u32, second: u64) {
        self.turn_to(second);
        record(&mut self.current, micros, count);
    }

    /// Recomputes percentiles at most once a second: merging histograms is costly with many
    /// workers.
    pub fn reckon(&mut self, second: u64) {
        if self.reckoned == Some(second) {
            return;
        }
        self.reckoned = Some(second);
        self.turn_to(second);
        let mut both = self.before.clone();
        // They have the same bounds, so that each fits into the other.
        let _ = both.add(&self.current);
        self.percentiles = percentiles(&both);
    }

    /// Returns the percentiles that were computed last.
    pub fn percentiles(&self) -> Percentiles {
        self.percentiles
    }

    fn turn_to(&mut self, second: u64) {
        let period = second / RECENT;
        if period > self.period {
            std::mem::swap(&mut self.current, &mut self.before);
            self.current.reset();
            if period > self.period + 1 {
                self.before.reset();
            }
            self.period = period;
        }
    }
}

/// The figures of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// The requests answered in it.
    pub answered: u64,
    /// The percentiles of their times from acceptance to reply.
    pub took: Percentiles,
}

/// The last [`HISTORY`] seconds.
#[derive(Clone, Debug)]
pub struct History {
    second: u64,
    answered: u64,
    took: Histogram<u32>,
    seconds: VecDeque<Second>,
}

impl Default for History {
    fn default() -> Self {
        Self { second: 0, answered: 0, took: histogram(2), seconds: VecDeque::with_capacity(HISTORY) }
    }
}

impl History {
    /// Creates the history of one pool of many, from this second on: its percentiles are rougher.
    pub fn coarse(second: u64) -> Self {
        Self { second, answered: 0, took: histogram(1), seconds: VecDeque::new() }
    }

    /// Records answered requests and how long they took.
    pub fn add(&mut self, micros: u64, count: u32, second: u64) {
        self.turn_to(second);
        self.answered += u64::from(count);
        record(&mut self.took, micros, count);
    }

    /// Returns the whole seconds before this one, the oldest first.
    pub fn before(&mut self, second: u64) -> &VecDeque<Second> {
        self.turn_to(second);
        &self.seconds
    }

    fn turn_to(&mut self, second: u64) {
        if second <= self.second {
            return;
        }
        self.push(Second { answered: self.answered, took: percentiles(&self.took) });
        // The seconds in which nothing happened, as far as they are kept.
        for _ in 0..(second - self.second - 1).min(HISTORY as u64) {
            self.push(Second::default());
        }
        if self.answered > 0 {
            self.took.reset();
        }
        (self.second, self.answered) = (second, 0);
    }

    fn push(&mut self, second: Second) {
        if self.seconds.len() == HISTORY {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
    }
}

/// With one digit a histogram takes 2 KB, with two 13.
fn histogram(digits: u8) -> Histogram<u32> {
    Histogram::new_with_bounds(1, MAX_DURATION, digits)
        .expect("the bounds are in order, and the digits are at most five")
}

fn record(histogram: &mut Histogram<u32>, micros: u64, count: u32) {
    histogram.saturating_record_n(micros.clamp(1, MAX_DURATION), count);
}

fn percentiles(histogram: &Histogram<u32>) -> Percentiles {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|quantile| match histogram.is_empty() {
        true => 0,
        false => histogram.value_at_quantile(quantile),
    });
    Percentiles { p50, p90, p99 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_whole_second() {
        let mut rate = Rate::default();
        rate.add(3, 7);
        rate.add(4, 7);
        assert_eq!([rate.before(7), rate.before(8), rate.before(9)], [0, 7, 0]);
        rate.add(1, 8);
        assert_eq!([rate.before(8), rate.before(9), rate.before(10)], [7, 1, 0]);
        rate.add(1, 20);
        assert_eq!(rate.before(20), 0);
    }

    #[test]
    fn durations_are_forgotten_after_two_periods() {
        let mut durations = Durations::default();
        durations.add(100, 99, 5);
        durations.add(10_000, 1, 12);
        let reckoned = |durations: &mut Durations, second| {
            durations.reckon(second);
            durations.percentiles()
        };
        let near = |percentiles: u64, is: u64| percentiles.abs_diff(is) * 15 <= is;
        let percentiles = reckoned(&mut durations, 12);
        assert!(
            near(percentiles.p50, 100) && near(percentiles.p90, 100) && near(percentiles.p99, 100),
            "{percentiles:?}"
        );
        let percentiles = reckoned(&mut durations, 20);
        assert!(near(percentiles.p50, 10_000), "{percentiles:?}");
        assert_eq!(reckoned(&mut durations, 40), Percentiles::default());
        durations.add(u64::MAX, 1, 40);
        durations.add(0, u32::MAX, 40);
        assert_eq!(reckoned(&mut durations, 40), Percentiles::default(), "once a second");
        assert!(reckoned(&mut durations, 41).p50 <= 1);
    }

    #[test]
    fn the_history_has_every_second_even_empty_ones_up_to_its_limit() {
        let mut history = History::default();
        history.add(100, 5, 0);
        history.add(100, 1, 3);
        let answered = |seconds: &VecDeque<Second>| seconds.iter().map(|second| second.answered).collect::<Vec<_>>();
        assert_eq!(answered(history.before(4)), [5, 0, 0, 1]);
        assert_eq!(history.before(4)[1].took, Percentiles::default());
        assert_eq!(answered(history.before(4)), [5, 0, 0, 1]);
        assert_eq!(history.before(1_000_000).len(), HISTORY);
        assert!(history.before(1_000_000).iter().all(|second| second.answered == 0));
    }
}
