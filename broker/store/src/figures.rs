//! Figures of a store: how many commits, how long they took, how large it is, and whether it is full.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use giostra_protocol::StoreStatus;

use crate::Store;

/// How often to ask for the size of the files.
const SIZE_EVERY: Duration = Duration::from_secs(1);

/// The time after which the longest commit is of a new window; the one before still counts.
const WINDOW: Duration = Duration::from_secs(60);

/// The figures of a store, shared by its thread and others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    status: StoreStatus,
    longest: Longest,
}

impl Figures {
    /// Returns the figures. To read them changes nothing: a page, a scrape and a terminal may do so
    /// at the same time.
    pub fn at(&self, now: Instant) -> StoreStatus {
        let mut shared = self.lock();
        StoreStatus { longest_us: shared.longest.at(now), ..shared.status.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Numbers are never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread takes down.
#[derive(Debug)]
pub(crate) struct Recorder {
    figures: Figures,
    sized: Option<Instant>,
}

impl Recorder {
    pub fn new(figures: Figures) -> Self {
        Self { figures, sized: None }
    }

    /// Takes down a commit.
    pub fn committed(&self, began: Instant, ended: Instant) {
        let us = u64::try_from(ended.duration_since(began).as_micros()).unwrap_or(u64::MAX);
        let mut shared = self.figures.lock();
        shared.status.commits += 1;
        shared.status.commits_us = shared.status.commits_us.saturating_add(us);
        shared.longest.note(us, ended);
    }

    /// Takes down how the store is.
    pub fn look(&mut self, store: &impl Store, now: Instant) {
        let full = store.full();
        let due = self.sized.is_none_or(|sized| now.duration_since(sized) >= SIZE_EVERY);
        let bytes = due.then(|| store.bytes());
        if due {
            self.sized = Some(now);
        }
        let status = &mut self.figures.lock().status;
        status.bytes = bytes.unwrap_or(status.bytes);
        if status.full != full.as_deref().unwrap_or_default() {
            status.full = full.as_deref().unwrap_or_default().into();
        }
    }
}

/// The longest commit of this window and of the one before.
#[derive(Debug, Default)]
struct Longest {
    since: Option<Instant>,
    us: u64,
    before_us: u64,
}

impl Longest {
    fn note(&mut self, us: u64, now: Instant) {
        self.turn(now);
        self.us = self.us.max(us);
    }

    /// Returns the longest of the last one to two windows.
    fn at(&mut self, now: Instant) -> u64 {
        self.turn(now);
        self.us.max(self.before_us)
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age >= WINDOW {
            let follows = age < 2 * WINDOW;
            self.before_us = if follows { self.us } else { 0 };
            self.us = 0;
            self.since = Some(if follows { since + WINDOW } else { now });
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // windows begin at some instant
mod tests {
    use super::*;

    #[test]
    fn the_longest_commit_is_told_for_a_minute_at_least_and_two_at_most_to_all_who_look() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut longest = Longest::default();
        assert_eq!(longest.at(at(0)), 0);
        longest.note(7, at(10));
        longest.note(5, at(59));
        assert_eq!([at(59), at(59), at(119)].map(|now| longest.at(now)), [7, 7, 7]);
        longest.note(3, at(119));
        assert_eq!([at(120), at(179), at(180)].map(|now| longest.at(now)), [3, 3, 0]);
        longest.note(9, at(180));
        assert_eq!(longest.at(at(400)), 0, "nobody has looked for long");
    }
}
