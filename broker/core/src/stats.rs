//! Counts of what has happened since the broker's start.
//!
//! Whatever belongs to a pool's requests is counted in that pool's [`PoolTotals`], once, where it
//! happens. What belongs to no pool is counted in [`Stats`]. Sums over all pools are derived
//! from these for each status.

mod lost_workers;
pub mod name_history;
pub mod pace;
pub mod pool_counters;
pub mod rates;
mod recent_events;

use std::sync::Arc;

use giostra_protocol::name::Label;
use giostra_protocol::{PoolTotals, Totals};

use lost_workers::LostWorkers;
use name_history::NameHistory;
use pool_counters::RetiredPools;
use rates::History;
use recent_events::RecentEvents;

/// Counts and recent history that belong to no present pool, worker or client.
#[derive(Debug, Default)]
pub struct Stats {
    /// Replies that were discarded: late, or no longer wanted.
    pub discarded: u64,
    /// Messages that were not accepted.
    pub refused: u64,
    /// Requests that were rejected for want of room, each time counted.
    pub rejected: u64,
    /// The requests answered in each of the last seconds.
    pub answers: History,
    /// The last events.
    pub recent: RecentEvents,
    /// The counters of pools that no longer exist.
    pub retired: RetiredPools,
    /// The workers that were dropped of late and have not come back.
    pub lost: LostWorkers,
    /// What workers that are gone have done, by pool and name.
    pub names: NameHistory<(Arc<str>, Label)>,
    /// What workers that are gone have done, by host.
    pub hosts: NameHistory<Label>,
}

impl Stats {
    /// Returns the sums over the given pools and those that no longer exist, and the counts that
    /// belong to no pool.
    pub fn totals<'a>(&'a self, pools: impl Iterator<Item = &'a PoolTotals>) -> Totals {
        let mut sum = pool_counters::zero("");
        pools.chain(self.retired.iter()).for_each(|pool| pool_counters::add(&mut sum, pool));
        Totals {
            accepted: sum.accepted,
            answered: sum.succeeded + sum.failed,
            expired: sum.expired,
            poisoned: sum.poisoned,
            cancelled: sum.cancelled,
            dispatched: sum.dispatched,
            redispatched: sum.redispatched,
            discarded: self.discarded,
            refused: self.refused,
            rejected: self.rejected,
        }
    }
}
