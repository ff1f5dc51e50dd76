//! A request to finish, for a process or a part of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::wake::{self, Alarm, Waker};

/// A request to finish. All clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
    /// Milliseconds that a second request waits.
    grace: Arc<AtomicU64>,
    /// What further requests of the process ask for.
    next: Arc<OnceLock<Self>>,
    waker: Waker,
    alarm: Arc<Alarm>,
}

impl Shutdown {
    /// Creates a shutdown that is not requested yet.
    ///
    /// # Errors
    /// If the system has no pipe left.
    pub fn new() -> io::Result<Self> {
        let (waker, alarm) = wake::alarm()?;
        Ok(Self {
            requested: Arc::default(),
            grace: Arc::default(),
            next: Arc::default(),
            waker,
            alarm: Arc::new(alarm),
        })
    }

    /// Sets how long a second request waits before it ends the process. A terminal that closes
    /// sends two signals at once, and the program has to restore the terminal first.
    pub fn set_grace(&self, grace: Duration) {
        self.grace.store(grace.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Returns how long a second request waits before it ends the process; zero by default.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace.load(Ordering::Acquire))
    }

    /// Gives further signals a meaning: once this is requested, they ask for `next`, and end the
    /// process only after that. To be called once.
    pub fn set_next(&self, next: Self) {
        // A second call would change what a signal means that is on its way.
        let _ = self.next.set(next);
    }

    /// Returns what further signals ask for, if they don't end the process.
    pub fn next(&self) -> Option<&Self> {
        self.next.get()
    }

    /// Requests the end.
    pub fn request(&self) {
        self.request_first();
    }

    /// Requests this end, or, if it was requested, what further signals ask for. Returns whether
    /// anything was left to request. Two threads at once never request the same.
    pub fn request_next(&self) -> bool {
        self.request_first() || self.next().is_some_and(Self::request_next)
    }

    /// Requests the end; returns whether nobody had.
    fn request_first(&self) -> bool {
        let first = !self.requested.swap(true, Ordering::AcqRel);
        self.waker.wake();
        first
    }

    /// Returns whether the end was requested.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }
}

/// The descriptor becomes readable with the request and stays so: poll it only until then.
impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn of_requests_at_once_each_counts() {
        for _ in 0..50 {
            let stages = [(); 100].map(|()| Shutdown::new().unwrap());
            stages.windows(2).for_each(|pair| pair[0].set_next(pair[1].clone()));
            let request_half = || (0..50).all(|_| stages[0].request_next());
            let all_counted = thread::scope(|scope| {
                let other = scope.spawn(request_half);
                request_half() && other.join().unwrap()
            });
            assert!(all_counted && stages[99].requested());
            assert!(!stages[0].request_next(), "nothing is left");
        }
    }
}
