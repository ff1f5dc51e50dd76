//! Signals. SIGINT, SIGTERM and, unless it means something else, SIGHUP: the first asks the process
//! to finish, the second ends it at once, unless it was given another meaning.
//!
//! One that was ignored at the start stays ignored, as `nohup` and the background jobs of scripts
//! want it. [`outlive`] lists those that end nothing here.

use std::fs;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ,
};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use giostra_transport::shutdown::Shutdown;

/// The exit status after a second signal: what a shell reports for a process that SIGINT ended.
const EXIT_AT_ONCE: i32 = 130;

/// A [`Shutdown`] that SIGINT, SIGTERM and SIGHUP ask for, also if they were blocked at the start,
/// but not those that were ignored. To be called once, in the process's first thread. SIGXFSZ no
/// longer ends the process: writing fails instead.
///
/// # Errors
/// If the system takes no handler.
pub fn shutdown() -> io::Result<Shutdown> {
    ours().thread_unblock()?;
    shutdown_on(&[SIGTERM, SIGHUP])
}

/// Returns a [`Shutdown`] that SIGINT and SIGTERM ask for. SIGHUP calls `on_hangup`, in the thread
/// that listens for it, also if the signal was ignored at the start.
///
/// # Errors
/// If the system takes no handler.
pub fn shutdown_but_hangup(on_hangup: impl FnMut() + Send + 'static) -> io::Result<Shutdown> {
    ours().thread_unblock()?;
    listen(&[SIGHUP], on_hangup)?;
    shutdown_on(&[SIGTERM])
}

/// Has SIGUSR1 call `act`, in the thread that listens for it, also if the signal was ignored or
/// blocked at the start. To be called before [`outlive`], in the process's first thread.
///
/// # Errors
/// If the system takes no handler.
pub fn on_user_signal(act: impl FnMut() + Send + 'static) -> io::Result<()> {
    SigSet::from(Signal::SIGUSR1).thread_unblock()?;
    listen(&[SIGUSR1], act)
}

/// Requests the end of this process when its parent ends: the thread that has started it. Returns
/// whether that is still there, and has not made this another's child already.
///
/// # Errors
/// If the system does not know how.
pub fn end_with_parent(parent: u32, shutdown: &Shutdown) -> io::Result<bool> {
    // Not SIGTERM: the kernel sends one for each thread of the parent that ends, and a second one
    // would end this process at once.
    let asked = shutdown.clone();
    listen(&[SIGUSR2], move || asked.request())?;
    prctl::set_pdeathsig(Signal::SIGUSR2)?;
    Ok(getppid().as_raw().cast_unsigned() == parent)
}

/// One that SIGINT and these ask for.
fn shutdown_on(signals: &[i32]) -> io::Result<Shutdown> {
    let ignored = Ignored::by_this_process();
    let shutdown = Shutdown::new()?;
    if !ignored.has(SIGINT) {
        let asked = shutdown.clone();
        ctrlc::set_handler(move || request_or_exit(&asked)).map_err(io::Error::other)?;
    }
    let heard: Vec<_> = signals.iter().copied().filter(|&signal| !ignored.has(signal)).collect();
    let asked = shutdown.clone();
    listen(&heard, move || request_or_exit(&asked))?;
    outlive_signal(SIGXFSZ)?;
    keep_away()?;
    Ok(shutdown)
}

fn request_or_exit(shutdown: &Shutdown) {
    // SIGINT and the others are heard by two threads.
    if !shutdown.request_next() {
        thread::sleep(shutdown.grace());
        std::process::exit(EXIT_AT_ONCE);
    }
}

/// The signals that this process ignores.
#[derive(Clone, Copy, Debug, Default)]
struct Ignored(u64);

impl Ignored {
    /// Those of this process; none where there is no `/proc`.
    fn by_this_process() -> Self {
        fs::read_to_string("/proc/self/status").map(|status| Self::in_status(&status)).unwrap_or_default()
    }

    fn in_status(status: &str) -> Self {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        Self(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default())
    }

    /// Whether this one, from 1, is among them.
    fn has(self, signal: i32) -> bool {
        self.0 >> (signal - 1) & 1 == 1
    }
}

/// Has the process live on through signals that mean nothing to it and would end it: SIGUSR1,
/// SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF and SIGIO. Programs that it starts have them as they were.
/// For a process that is to run for long, in its first thread, before others are started. If
/// SIGCHLD is ignored, it is no more: nobody could learn how a program ended.
pub fn outlive() -> io::Result<()> {
    for signal in [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO] {
        outlive_signal(signal)?;
    }
    if Ignored::by_this_process().has(SIGCHLD) {
        outlive_signal(SIGCHLD)?;
    }
    Ok(())
}

/// A handler that does nothing: one that is ignored, programs would inherit. Blocked, since no call
/// is to be broken off for it.
fn outlive_signal(signal: i32) -> io::Result<()> {
    flag::register(signal, Arc::default())?;
    Ok(SigSet::from(Signal::try_from(signal)?).thread_block()?)
}

/// Has these signals come to none but the threads that listen, which have been started before: not
/// to this one, nor to those that it starts. Its calls into libzmq would otherwise be broken off.
/// Programs that are started from here inherit that, unless it is by way of [`unmasked`].
fn keep_away() -> io::Result<()> {
    Ok(ours().thread_block()?)
}

/// Starts a program with no signal blocked: it inherits what is, and would not hear SIGTERM, which
/// comes to none but the thread for signals from [`shutdown`] on. One that comes just now is heard
/// here, and only handed on.
pub fn unmasked<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let started = start();
    before.thread_set_mask()?;
    started
}

fn ours() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

/// Does something at each of these signals, in a thread of its own.
fn listen(signals: &[i32], mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    let (mut read, write) = io::pipe()?;
    for &signal in signals {
        pipe::register(signal, write.try_clone()?)?;
    }
    let listen = move || {
        while read.read_exact(&mut [0]).is_ok() {
            act();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn which_signals_are_ignored_is_read_from_the_mask() {
        let ignored = Ignored::in_status("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\tffff\n");
        assert!(ignored.has(SIGHUP) && ignored.has(13) && !ignored.has(SIGINT) && !ignored.has(SIGTERM));
        assert!(!Ignored::in_status("").has(SIGHUP));
    }

    #[test]
    fn a_program_that_is_started_unmasked_hears_what_its_starter_does_not() {
        let blocked = |command: &mut Command| {
            let status = String::from_utf8(command.output()?.stdout).map_err(io::Error::other)?;
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).map(|mask| mask.trim().to_string());
            mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).ok_or(io::ErrorKind::InvalidData.into())
        };
        let cat = || {
            let mut command = Command::new("cat");
            command.arg("/proc/self/status");
            command
        };
        let in_a_thread = thread::spawn(move || {
            keep_away().unwrap();
            assert_ne!(blocked(&mut cat()).unwrap(), 0);
            assert_eq!(unmasked(|| blocked(&mut cat())).unwrap(), 0);
            assert!(ours().iter().all(|signal| SigSet::thread_get_mask().unwrap().contains(signal)));
        });
        in_a_thread.join().unwrap();
    }
}
