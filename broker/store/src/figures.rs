//! Figures of a store: how many commits, how long they took, how large it is, and whether it is full.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use giostra_protocol::StoreStatus;

use crate::Store;

/// How often to ask for the size of the files.
const SIZE_EVERY: Duration = Duration::from_secs(1);

/// The figures of a store, shared by its thread and others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Arc<Mutex<StoreStatus>>);

impl Figures {
    /// Returns the figures; the longest commit is that since the last call.
    pub fn take(&self) -> StoreStatus {
        let mut status = self.lock();
        let taken = status.clone();
        status.longest_us = 0;
        taken
    }

    fn lock(&self) -> MutexGuard<'_, StoreStatus> {
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

    /// Takes down that a commit has taken a time.
    pub fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut status = self.figures.lock();
        status.commits += 1;
        status.commits_us = status.commits_us.saturating_add(us);
        status.longest_us = status.longest_us.max(us);
    }

    /// Takes down how the store is.
    pub fn look(&mut self, store: &impl Store, now: Instant) {
        let full = store.full();
        let due = self.sized.is_none_or(|sized| now.duration_since(sized) >= SIZE_EVERY);
        let bytes = due.then(|| store.bytes());
        if due {
            self.sized = Some(now);
        }
        let mut status = self.figures.lock();
        status.bytes = bytes.unwrap_or(status.bytes);
        if status.full != full.as_deref().unwrap_or_default() {
            status.full = full.as_deref().unwrap_or_default().into();
        }
    }
}
