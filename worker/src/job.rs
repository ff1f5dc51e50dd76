//! What an operation that takes long may want to know and to say.

use giostra_protocol::Progress;

use crate::crew::Crew;

/// A request that is being computed, as its operation sees it. Threads of the operation's own may
/// share it.
#[derive(Clone, Copy)]
pub struct Job<'a>(Option<(&'a Crew, usize)>);

impl<'a> Job<'a> {
    pub(crate) fn of(crew: &'a Crew, thread: usize) -> Self {
        Self(Some((crew, thread)))
    }

    /// One that is wanted whatever happens, and whose progress nobody sees: for calling an
    /// operation in a test.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Whether nobody waits for the result any more: its client has cancelled it or is gone, its
    /// time limit has passed, or the broker has given it to another worker. Whoever computes
    /// for long looks from time to time (it takes some nanoseconds), and returns then, with
    /// whatever: nobody sees it.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_some_and(|(crew, thread)| crew.is_unwanted(thread))
    }

    /// Which of the worker's threads computes it, from 0: each computes one request at a time.
    pub fn thread(&self) -> usize {
        self.0.map_or(0, |(_, thread)| thread)
    }

    /// Tells the client that `done` of `total` is done, in units of one's own; a `total` of 0: it
    /// is not known. Costs little: ten times a second it is sent, the rest is dropped.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some((crew, thread)) = self.0 {
            crew.report(thread, Progress { done, total });
        }
    }
}
