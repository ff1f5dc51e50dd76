//! What has become of each pool's requests since the broker's start.

use std::collections::VecDeque;
use std::sync::Arc;

use giostra_protocol::PoolTotals;

/// Bounds between which durations are counted, in microseconds. The last is an hour; what took
/// longer is counted behind it.
pub const BOUNDS_US: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

/// The most pools that are remembered when they are empty: their names are the clients' choice.
const MOST_FORMER: usize = 100;

/// What those are called that are no longer told apart. No pool is: a name is one word.
pub const OTHERS: &str = "other pools";

/// A pool's counts: see [`PoolTotals`].
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub accepted: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub expired: u64,
    pub poisoned: u64,
    pub cancelled: u64,
    pub dispatched: u64,
    pub redispatched: u64,
    pub workers_lost: u64,
    took: [u64; BOUNDS_US.len() + 1],
    took_us: u64,
}

impl Tally {
    /// So many requests took so long from their acceptance to their reply.
    pub fn took(&mut self, micros: u64, count: u32) {
        self.took[BOUNDS_US.partition_point(|&bound| bound < micros)] += u64::from(count);
        self.took_us = self.took_us.saturating_add(micros.saturating_mul(count.into()));
    }

    /// For whoever asks.
    pub fn told(&self, name: &str) -> PoolTotals {
        PoolTotals {
            name: name.into(),
            accepted: self.accepted,
            succeeded: self.succeeded,
            failed: self.failed,
            expired: self.expired,
            poisoned: self.poisoned,
            cancelled: self.cancelled,
            dispatched: self.dispatched,
            redispatched: self.redispatched,
            took: self.took.to_vec(),
            took_us: self.took_us,
            workers_lost: self.workers_lost,
        }
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.expired += other.expired;
        self.poisoned += other.poisoned;
        self.cancelled += other.cancelled;
        self.dispatched += other.dispatched;
        self.redispatched += other.redispatched;
        self.workers_lost += other.workers_lost;
        self.took_us = self.took_us.saturating_add(other.took_us);
        for (count, other) in self.took.iter_mut().zip(other.took) {
            *count += other;
        }
    }
}

/// Pools that are empty.
#[derive(Debug, Default)]
pub struct Former {
    /// The latest last.
    latest: VecDeque<(Arc<str>, Tally)>,
    others: Option<Tally>,
}

impl Former {
    /// A pool is empty now.
    pub fn keep(&mut self, name: Arc<str>, tally: Tally) {
        if self.latest.len() == MOST_FORMER
            && let Some((_, oldest)) = self.latest.pop_front()
        {
            self.others.get_or_insert_default().add(&oldest);
        }
        self.latest.push_back((name, tally));
    }

    /// A pool is there again, or for the first time: what it goes on counting from.
    pub fn take_back(&mut self, name: &str) -> Tally {
        let place = self.latest.iter().position(|(former, _)| **former == *name);
        place.and_then(|place| self.latest.remove(place)).map(|(_, tally)| tally).unwrap_or_default()
    }

    /// For whoever asks.
    pub fn told(&self) -> impl Iterator<Item = PoolTotals> {
        let others = self.others.iter().map(|others| others.told(OTHERS));
        self.latest.iter().map(|(name, tally)| tally.told(name)).chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_up_to_their_bound_and_beyond_the_last() {
        let mut tally = Tally::default();
        for (micros, count) in [(0, 1), (100, 1), (101, 2), (u64::MAX, 1)] {
            tally.took(micros, count);
        }
        let told = tally.told("p");
        assert_eq!((told.took.len(), told.took[0], told.took[1], told.took[20]), (21, 2, 2, 1));
        assert_eq!(told.took_us, u64::MAX);
    }

    #[test]
    fn a_pool_goes_on_from_its_counts_and_none_is_lost_of_however_many() {
        let mut former = Former::default();
        for number in 0..250 {
            former.keep(number.to_string().into(), Tally { accepted: 2, ..Tally::default() });
        }
        assert_eq!((former.take_back("249").accepted, former.take_back("249").accepted), (2, 0));
        assert_eq!(former.take_back("0").accepted, 0, "it is among the others");
        let told: Vec<_> = former.told().collect();
        assert_eq!((told.len(), told.iter().map(|pool| pool.accepted).sum::<u64>()), (MOST_FORMER, 498));
        assert_eq!(told.last().map(|pool| (&*pool.name, pool.accepted)), Some((OTHERS, 300)));
    }
}
