//! SIGINT and SIGTERM, and SIGHUP unless it means something else: the first asks the process to finish, the second ends it at once.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::low_level::pipe;

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
        Self::on_signals_and(&[SIGTERM, SIGHUP])
    }

    /// One that SIGINT and SIGTERM ask for; SIGHUP asks for something else, by making what comes back readable.
    pub fn on_signals_but_hangup() -> io::Result<(Self, Hangups)> {
        let (read, write) = io::pipe()?;
        pipe::register(SIGHUP, write)?;
        Ok((Self::on_signals_and(&[SIGTERM])?, Hangups(read)))
    }

    fn on_signals_and(signals: &[i32]) -> io::Result<Self> {
        let shutdown = Self::new()?;
        let asked = shutdown.clone();
        ctrlc::set_handler(move || asked.request_or_exit()).map_err(io::Error::other)?;
        let (mut read, write) = io::pipe()?;
        for &signal in signals {
            pipe::register(signal, write.try_clone()?)?;
        }
        let asked = shutdown.clone();
        let listen = move || {
            while read.read_exact(&mut [0]).is_ok() {
                asked.request_or_exit();
            }
        };
        thread::Builder::new().name("signals".into()).spawn(listen)?;
        Ok(shutdown)
    }

    fn request_or_exit(&self) {
        if self.requested() {
            std::process::exit(EXIT_AT_ONCE);
        }
        self.request();
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

/// Tells of SIGHUP, by which daemons are asked to read their files again.
#[derive(Debug)]
pub struct Hangups(PipeReader);

impl Hangups {
    /// A descriptor that is readable when the signal has come.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Call it when [`Self::fd`] is readable, or it waits: however often the signal has come, it is told once.
    pub fn take(&mut self) -> io::Result<()> {
        self.0.read(&mut [0; 64]).map(drop)
    }
}
