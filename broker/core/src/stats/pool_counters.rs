//! The counts of each pool since the broker's start, also of pools that were removed.

use std::collections::VecDeque;
use std::sync::Arc;

use giostra_protocol::PoolTotals;

/// The inclusive upper bounds of the durations' histogram, in microseconds. Its last bucket is for
/// everything beyond the last bound, an hour.
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

/// The most removed pools that are told apart: clients choose the names.
const MAX_RETIRED: usize = 100;

/// The name under which the counters of pools that are no longer told apart are summed up. No pool
/// has it: a pool's name is one word.
pub const OTHER_POOLS: &str = "other pools";

/// The counters of one pool: see [`PoolTotals`].
#[derive(Clone, Debug, Default)]
pub struct PoolCounters {
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

impl PoolCounters {
    /// Counts requests by the time from their acceptance to their reply, in microseconds.
    pub fn took(&mut self, micros: u64, count: u32) {
        self.took[BOUNDS_US.partition_point(|&bound| bound < micros)] += u64::from(count);
        self.took_us = self.took_us.saturating_add(micros.saturating_mul(count.into()));
    }

    /// Adds the counts of another pool.
    pub fn add(&mut self, other: &Self) {
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

    /// Returns the counts under this name, for the status.
    pub fn snapshot(&self, name: &str) -> PoolTotals {
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
}

/// The counters of pools that had no workers and no requests any more, and were removed.
#[derive(Debug, Default)]
pub struct RetiredPools {
    /// The latest last.
    latest: VecDeque<(Arc<str>, PoolCounters)>,
    others: Option<PoolCounters>,
}

impl RetiredPools {
    /// Keeps the counters of a pool that is removed.
    pub fn keep(&mut self, name: Arc<str>, counters: PoolCounters) {
        if self.latest.len() == MAX_RETIRED
            && let Some((_, oldest)) = self.latest.pop_front()
        {
            self.others.get_or_insert_default().add(&oldest);
        }
        self.latest.push_back((name, counters));
    }

    /// Returns the counters that a pool of this name goes on from.
    pub fn take_back(&mut self, name: &str) -> PoolCounters {
        let place = self.latest.iter().position(|(retired, _)| **retired == *name);
        place.and_then(|place| self.latest.remove(place)).map(|(_, counters)| counters).unwrap_or_default()
    }

    /// Iterates over all counters.
    pub fn counters(&self) -> impl Iterator<Item = &PoolCounters> {
        self.latest.iter().map(|(_, counters)| counters).chain(&self.others)
    }

    /// Returns the counts of each retired pool, and the sum of those that are no longer told apart.
    pub fn snapshot(&self) -> impl Iterator<Item = PoolTotals> {
        let others = self.others.iter().map(|others| others.snapshot(OTHER_POOLS));
        self.latest.iter().map(|(name, counters)| counters.snapshot(name)).chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_up_to_their_bound_and_beyond_the_last() {
        let mut counters = PoolCounters::default();
        for (micros, count) in [(0, 1), (100, 1), (101, 2), (u64::MAX, 1)] {
            counters.took(micros, count);
        }
        let snapshot = counters.snapshot("p");
        assert_eq!((snapshot.took.len(), snapshot.took[0], snapshot.took[1], snapshot.took[20]), (21, 2, 2, 1));
        assert_eq!(snapshot.took_us, u64::MAX);
    }

    #[test]
    fn a_pool_goes_on_from_its_counts_and_none_is_lost_of_however_many() {
        let mut retired = RetiredPools::default();
        for number in 0..250 {
            retired.keep(number.to_string().into(), PoolCounters { accepted: 2, ..PoolCounters::default() });
        }
        assert_eq!((retired.take_back("249").accepted, retired.take_back("249").accepted), (2, 0));
        assert_eq!(retired.take_back("0").accepted, 0, "it is among the others");
        let snapshot: Vec<_> = retired.snapshot().collect();
        assert_eq!((snapshot.len(), snapshot.iter().map(|pool| pool.accepted).sum::<u64>()), (MAX_RETIRED, 498));
        assert_eq!(snapshot.last().map(|pool| (&*pool.name, pool.accepted)), Some((OTHER_POOLS, 300)));
    }
}
