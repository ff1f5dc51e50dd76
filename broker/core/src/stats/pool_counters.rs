//! The counters of each pool since the broker's start, removed pools included: [`PoolTotals`], as
//! the status has them.

use std::collections::VecDeque;

use giostra_protocol::PoolTotals;

/// The inclusive upper bounds of the durations' histogram, in microseconds. One more bucket counts
/// durations above the last bound, an hour.
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

/// The maximum number of removed pools with counters of their own: clients choose the names.
const MAX_RETIRED: usize = 100;

/// The name of the sum over all other removed pools. No pool has this name: a pool's name is one
/// word.
pub const OTHER_POOLS: &str = "other pools";

/// Returns the counters of a pool that has counted nothing.
pub fn zero(name: &str) -> PoolTotals {
    PoolTotals { name: name.into(), took: vec![0; BOUNDS_US.len() + 1], ..PoolTotals::default() }
}

/// Counts requests by the time from their acceptance to their reply, in microseconds.
pub fn count_times(counters: &mut PoolTotals, micros: u64, count: u32) {
    counters.took[BOUNDS_US.partition_point(|&bound| bound < micros)] += u64::from(count);
    counters.took_us = counters.took_us.saturating_add(micros.saturating_mul(count.into()));
}

/// Adds the counts of another pool.
pub fn add(sum: &mut PoolTotals, other: &PoolTotals) {
    sum.accepted += other.accepted;
    sum.succeeded += other.succeeded;
    sum.failed += other.failed;
    sum.expired += other.expired;
    sum.poisoned += other.poisoned;
    sum.cancelled += other.cancelled;
    sum.dispatched += other.dispatched;
    sum.redispatched += other.redispatched;
    sum.workers_lost += other.workers_lost;
    sum.took_us = sum.took_us.saturating_add(other.took_us);
    for (sum, other) in sum.took.iter_mut().zip(&other.took) {
        *sum += other;
    }
}

/// The counters of removed pools, which had neither workers nor requests any more.
#[derive(Debug, Default)]
pub struct RetiredPools {
    /// The latest last.
    latest: VecDeque<PoolTotals>,
    others: Option<PoolTotals>,
}

impl RetiredPools {
    /// Keeps the counters of a removed pool.
    pub fn keep(&mut self, counters: PoolTotals) {
        if self.latest.len() == MAX_RETIRED
            && let Some(oldest) = self.latest.pop_front()
        {
            add(self.others.get_or_insert_with(|| zero(OTHER_POOLS)), &oldest);
        }
        self.latest.push_back(counters);
    }

    /// Returns the counters that a pool of this name continues.
    pub fn take_back(&mut self, name: &str) -> PoolTotals {
        let place = self.latest.iter().position(|retired| retired.name == name);
        place.and_then(|place| self.latest.remove(place)).unwrap_or_else(|| zero(name))
    }

    /// Iterates over the counters of each retired pool, and the sum of those that are no longer
    /// told apart.
    pub fn iter(&self) -> impl Iterator<Item = &PoolTotals> {
        self.latest.iter().chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_up_to_their_bound_and_beyond_the_last() {
        let mut counters = zero("p");
        for (micros, count) in [(0, 1), (100, 1), (101, 2), (u64::MAX, 1)] {
            count_times(&mut counters, micros, count);
        }
        assert_eq!((counters.took.len(), counters.took[0], counters.took[1], counters.took[20]), (21, 2, 2, 1));
        assert_eq!(counters.took_us, u64::MAX);
    }

    #[test]
    fn a_pool_continues_its_counts_and_no_count_is_ever_lost() {
        let mut retired = RetiredPools::default();
        for number in 0..250 {
            retired.keep(PoolTotals { accepted: 2, ..zero(&number.to_string()) });
        }
        assert_eq!((retired.take_back("249").accepted, retired.take_back("249").accepted), (2, 0));
        assert_eq!(retired.take_back("0").accepted, 0, "it is among the others");
        let all: Vec<_> = retired.iter().collect();
        assert_eq!((all.len(), all.iter().map(|pool| pool.accepted).sum::<u64>()), (MAX_RETIRED, 498));
        assert_eq!(all.last().map(|pool| (&*pool.name, pool.accepted)), Some((OTHER_POOLS, 300)));
    }
}
