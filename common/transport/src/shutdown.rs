//! Asking a process, or a part of it, to finish.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::wake::{self, Alarm, Waker};

/// Whether a process has been asked to finish. All clones are asked together.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
    /// How many milliseconds a second request waits.
    grace: Arc<AtomicU64>,
    waker: Waker,
    alarm: Arc<Alarm>,
}

impl Shutdown {
    /// One that nobody has asked for yet.
    ///
    /// # Errors
    /// If the system gives no pipe.
    pub fn new() -> io::Result<Self> {
        let (waker, alarm) = wake::alarm()?;
        Ok(Self { requested: Arc::default(), grace: Arc::default(), waker, alarm: Arc::new(alarm) })
    }

    /// Sets how long a second request waits before it ends the process: a session that ends sends
    /// two signals at once, and a terminal is to be restored first.
    pub fn set_grace(&self, grace: Duration) {
        self.grace.store(grace.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Release);
    }

    /// How long a second request waits before it ends the process; zero if nothing else was set.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace.load(Ordering::Acquire))
    }

    /// Asks the process to finish.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the process has been asked to finish.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// A descriptor that is readable from the request on, for ever: poll it only until then.
    pub fn fd(&self) -> RawFd {
        self.alarm.fd()
    }
}
