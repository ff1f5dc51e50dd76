//! What an operation can ask and report about the request that it computes.

use std::sync::Arc;

use giostra_protocol::Progress;

use crate::run_queue::Claim;
use crate::shared::Shared;

/// A request that is being computed, as its operation sees it. Threads of the operation's own may
/// share it.
///
/// ```
/// use giostra_worker::Job;
///
/// fn count(to: u64, job: &Job<'_>) -> Result<u64, String> {
///     for done in 0..to {
///         if job.is_cancelled() {
///             return Err("nobody sees this".into());
///         }
///         job.progress(done, to);
///     }
///     Ok(to)
/// }
///
/// assert_eq!(count(3, &Job::alone()), Ok(3));
/// ```
#[derive(Clone, Copy)]
pub struct Job<'a>(Option<(&'a Arc<Shared>, usize)>);

impl<'a> Job<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, thread: usize) -> Self {
        Self(Some((shared, thread)))
    }

    /// Returns a job that is never cancelled and drops its progress, for calling an operation in a
    /// test.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Whether the result is no longer wanted: the client has cancelled the request or is gone, its
    /// time limit has passed, or the broker has given it to another worker.
    ///
    /// An operation that takes long asks from time to time, which costs some nanoseconds, and
    /// returns early. What it returns then is ignored.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_some_and(|(shared, thread)| shared.is_cancelled(thread))
    }

    /// The index of the worker's thread that computes the request, from 0. Each thread computes one
    /// request at a time.
    pub fn thread(&self) -> usize {
        self.0.map_or(0, |(_, thread)| thread)
    }

    /// Reports to the client that `done` of `total` is done, in any unit. A `total` of 0 means that
    /// it is not known. Calls are cheap: at most ten reports a second are sent, the others are
    /// dropped.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some((shared, thread)) = self.0 {
            shared.report(thread, Progress { done, total });
        }
    }

    /// Returns what may outlive the operation, for a language that keeps objects for as long as it
    /// likes.
    pub fn to_owned(&self) -> OwnedJob {
        OwnedJob(self.0.and_then(|(shared, thread)| {
            let claim = shared.run_queue(thread).current()?;
            Some((Arc::clone(shared), thread, claim))
        }))
    }
}

/// A [`Job`] that may be kept. Once its request has been answered, it is cancelled and drops its
/// progress.
#[derive(Clone)]
pub struct OwnedJob(Option<(Arc<Shared>, usize, Claim)>);

impl OwnedJob {
    /// Whether the result is no longer wanted: see [`Job::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|(shared, thread, claim)| {
            let run_queue = shared.run_queue(*thread);
            run_queue.current() != Some(*claim) || run_queue.is_cancelled()
        })
    }

    /// Reports progress: see [`Job::progress`].
    pub fn progress(&self, done: u64, total: u64) {
        if let Some((shared, thread, _)) = self.0.as_ref().filter(|_| !self.is_cancelled()) {
            shared.report(*thread, Progress { done, total });
        }
    }
}
