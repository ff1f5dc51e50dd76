//! Pools: made for the first request or worker that names them, removed when they are empty.

use std::sync::Arc;

use super::admission::Usage;
use super::records::Pool;
use super::{Broker, PoolKey};
use crate::ids::ClientNumber;

impl Broker {
    /// Notes that dispatch may be possible in a pool, or that it may be empty.
    pub(super) fn touch_pool(&mut self, key: PoolKey) {
        let pool = &mut self.pools[key.0];
        if !pool.touched {
            pool.touched = true;
            self.touched_pools.push(key);
        }
    }

    /// Returns the pool of this name, and makes it if there is none. [`Self::settle`] removes empty
    /// pools. `maker` is the client that asks for it, if it is one.
    pub(super) fn pool(&mut self, name: &str, maker: Option<ClientNumber>) -> PoolKey {
        let key = match self.pool_of.get(name) {
            Some(&key) => key,
            None => {
                let name: Arc<str> = name.into();
                if let Some(client) = maker.and_then(|maker| self.clients.get_mut(&maker)) {
                    client.pools += 1;
                }
                let counters = self.stats.retired.take_back(&name);
                let pool = Pool { name: Arc::clone(&name), maker, counters, ..Pool::default() };
                let key = PoolKey(self.pools.insert(pool));
                self.pool_of.insert(name, key);
                key
            }
        };
        self.touch_pool(key);
        key
    }

    /// Whether a pool has workers that take requests, or are expected to again.
    pub(super) fn has_workers(&self, pool: &str) -> bool {
        self.pool_of.get(pool).is_some_and(|key| self.pools[key.0].has_workers())
    }

    /// Checks that a pool of this name exists, or that a client may make it.
    ///
    /// # Errors
    /// If it may not, why.
    pub(super) fn check_room_for_pool(&self, pool: &str, number: ClientNumber) -> Result<(), String> {
        let (max, pools, own) = (self.settings.max_pools, self.pools.len(), self.clients[&number].pools);
        if self.pool_of.contains_key(pool) || (Usage { max, by_all: pools, by_client: own }).is_below_share() {
            return Ok(());
        }
        Err(format!(
            "no room for a pool '{pool}': there are {pools} pools with workers or waiting requests, {own} of them of \
             this client's making, and {max} are the most (--max-pools)"
        ))
    }

    /// Removes a pool if it has neither workers nor pending requests.
    pub(super) fn remove_if_empty(&mut self, key: PoolKey) {
        if self.pools[key.0].workers > 0 || !self.pools[key.0].pending.is_empty() {
            return;
        }
        let pool = self.pools.remove(key.0);
        self.pool_of.remove(&pool.name);
        if let Some(client) = pool.maker.and_then(|maker| self.clients.get_mut(&maker)) {
            client.pools -= 1;
        }
        self.stats.retired.keep(pool.counters);
    }
}
