//! The workers that were dropped and have not come back under their name.

use std::collections::VecDeque;
use std::time::Duration;

use giostra_protocol::LostStatus;

/// The maximum number of lost workers that are remembered.
const MAX_LOST: usize = 1000;

/// How long a lost worker is remembered: one whose name never comes back would otherwise raise an
/// alarm forever. Documented in `docs/watching.md`.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);

/// Lost workers, the latest last.
#[derive(Debug, Default)]
pub struct LostWorkers(VecDeque<LostStatus>);

impl LostWorkers {
    /// Remembers a worker that was dropped, in place of the oldest if there are too many.
    pub fn push(&mut self, worker: LostStatus) {
        if self.0.len() == MAX_LOST {
            self.0.pop_front();
        }
        self.0.push_back(worker);
    }

    /// Forgets one worker of this name and pool, because one has registered. Others of the name are
    /// still missing.
    pub fn remove(&mut self, name: &str, pool: &str) {
        if let Some(back) = self.0.iter().position(|lost| (&*lost.name, &*lost.pool) == (name, pool)) {
            self.0.remove(back);
        }
    }

    /// Forgets the workers that were lost long before `now_ms`, in milliseconds after the broker's
    /// start.
    pub fn forget_old(&mut self, now_ms: u64) {
        let is_old = |lost: &LostStatus| u128::from(now_ms.saturating_sub(lost.at_ms)) >= REMEMBERED_FOR.as_millis();
        while self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
    }

    /// Iterates over the workers, the latest last.
    pub fn iter(&self) -> impl Iterator<Item = &LostStatus> {
        self.0.iter()
    }
}
