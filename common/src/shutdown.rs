//! SIGINT, SIGTERM and SIGHUP: the first asks the process to finish, the second ends it at once.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wake::{self, Alarm, Waker};

/// The exit status after a second signal: what a shell reports for a process that SIGINT ended.
const EXIT_AT_ONCE: i32 = 130;

/// Whether the process has been asked to finish.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
    waker: Waker,
    alarm: Arc<Alarm>,
}

impl Shutdown {
    /// One that nobody has asked for yet. An error if the system gives no pipe.
    pub fn new() -> io::Result<Self> {
        let (waker, alarm) = wake::alarm()?;
        Ok(Self { requested: Arc::default(), waker, alarm: Arc::new(alarm) })
    }

    /// One that the signals ask for, also if whoever started the process had them ignored. Once a process.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new()?;
        let asked = shutdown.clone();
        ctrlc::set_handler(move || {
            if asked.requested() {
                std::process::exit(EXIT_AT_ONCE);
            }
            asked.request();
        })
        .map_err(io::Error::other)?;
        Ok(shutdown)
    }

    /// Asks the process to finish.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has been asked to.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// A descriptor that is readable from the request on, for ever: poll it only until then.
    pub fn fd(&self) -> RawFd {
        self.alarm.fd()
    }
}
