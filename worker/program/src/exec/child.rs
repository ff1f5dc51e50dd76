//! A program that runs: its pipes, none of which ever blocks us, and its end.
//!
//! It has a process group of its own, and the group ends with it: whatever is left of that is
//! killed before the program is waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::Bytes;
use giostra_transport::time::deadline;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::io::ioctl_fionread;

use super::guard::Guard;
use super::tail::Tail;

/// The longest that anybody sleeps over a program: so soon it is seen that it has exited though
/// somebody holds its pipes, or that nobody waits for it any more.
pub const TICK: Duration = Duration::from_millis(50);

/// The shortest pause when there is nothing to poll: a program that has closed its pipes mostly
/// exits at once.
const SHORTEST: Duration = Duration::from_micros(50);

/// How much of stderr is read at once.
const CHUNK: usize = 16 << 10;

/// A program that was started and not waited for.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    guard: Arc<Guard>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What is to be written to stdin yet.
    input: Bytes,
    /// Whether stdin is closed after that.
    last: bool,
    /// How much of what it was fed last has been written.
    fed: usize,
    /// Whether it has read any of that, as was seen when its stdin was closed.
    took: bool,
    /// What came from stdout.
    pub printed: Vec<u8>,
    /// The end of what came from stderr.
    pub complaints: Tail,
    pause: Duration,
    /// How it ended, once it was waited for.
    end: Option<Option<ExitStatus>>,
}

impl Child {
    /// Starts a program in a process group of its own. What is to be piped is the command's
    /// business.
    pub fn start(command: &mut Command, guard: &Arc<Guard>) -> io::Result<Self> {
        let mut process = guard.start_leader(command)?;
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let pipes =
            [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        let unblocked = pipes.into_iter().flatten().try_for_each(unblock);
        let child = Self {
            process,
            guard: Arc::clone(guard),
            stdin,
            stdout,
            stderr,
            input: Bytes::new(),
            last: false,
            fed: 0,
            took: false,
            printed: Vec::new(),
            complaints: Tail::default(),
            pause: SHORTEST,
            end: None,
        };
        unblocked.map(|()| child)
    }

    /// Has this written to its stdin, which is closed then if it is the last.
    pub fn feed(&mut self, input: Bytes, last: bool) {
        (self.input, self.last, self.fed) = (input, last, 0);
        self.write();
    }

    /// Whether it has read any byte of what it was fed last. Once it has been waited for, that
    /// stays so.
    pub fn has_taken(&self) -> bool {
        match &self.stdin {
            // What is left in the pipe; nobody can tell on a system that does not say.
            Some(pipe) => ioctl_fionread(pipe).map_or(true, |left| left < self.fed as u64),
            None => self.took,
        }
    }

    /// Sleeps until there is something to read or to write, for `limit` at most and never longer
    /// than [`TICK`]; then does that. No more than `most` bytes of stdout are kept, and one
    /// more if there are more.
    pub fn turn(&mut self, most: usize, limit: Duration) {
        let pause = if self.is_silent() { self.pause } else { TICK };
        self.pause = if self.is_silent() { (2 * pause).min(TICK) } else { SHORTEST };
        self.sleep(pause.min(limit));
        self.write();
        self.read(most);
        self.hear();
    }

    /// Whether its stdout and stderr are at their end.
    pub fn is_silent(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Whether nothing will come from its stdout any more.
    pub fn has_closed_stdout(&self) -> bool {
        self.stdout.is_none()
    }

    /// Whether it has exited, though it is not waited for yet and keeps its number.
    pub fn has_exited(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(pid(&self.process)), flags), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// Closes its stdin: many programs end by themselves then.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// SIGTERM to its group.
    pub fn terminate(&self) {
        // It may be gone.
        let _ = killpg(pid(&self.process), Signal::SIGTERM);
    }

    /// Waits until it has exited, and reads on meanwhile so that nothing keeps it from that. What
    /// it prints is lost. Whether it has exited in time.
    pub fn exits_until(&mut self, end: Instant) -> bool {
        while !self.has_exited() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.printed.clear();
            self.turn(CHUNK, left);
        }
        true
    }

    /// Ends it: SIGTERM to its group, and SIGKILL when it has exited, or after the grace.
    pub fn end(&mut self, grace: Duration) {
        self.terminate();
        self.exits_until(from_now(grace));
        self.reap();
    }

    /// Kills what is left of its group, and waits for it. How it ended is not known if this process
    /// ignores SIGCHLD.
    pub fn reap(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.end {
            return status;
        }
        // As long as it is not waited for, no other group can have its number.
        let _ = killpg(pid(&self.process), Signal::SIGKILL);
        self.guard.remove(pid(&self.process));
        let status = self.guard.collect(&mut self.process);
        self.end = Some(status);
        status
    }

    fn sleep(&self, limit: Duration) {
        let writing = self.stdin.as_ref().filter(|_| !self.input.is_empty());
        let mut polled: Vec<_> = [
            writing.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)),
            self.stdout.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
            self.stderr.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
        ]
        .into_iter()
        .flatten()
        .collect();
        // Interrupted, or without memory for it: then it is looked again all the sooner.
        let _ = ppoll(&mut polled, Some(TimeSpec::from(limit)), None);
    }

    fn write(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        while !self.input.is_empty() {
            match pipe.write(&self.input) {
                Ok(written) => {
                    self.input = self.input.slice(written..);
                    self.fed += written;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It does not want to read any more: its own affair.
                Err(_) => {
                    self.took = self.has_taken();
                    self.input = Bytes::new();
                    self.stdin = None;
                    return;
                }
            }
        }
        if self.last {
            self.stdin = None;
        }
    }

    fn read(&mut self, most: usize) {
        let Some(pipe) = &mut self.stdout else { return };
        let room = (most + 1).saturating_sub(self.printed.len());
        match pipe.take(room as u64).read_to_end(&mut self.printed) {
            Ok(count) if count == room => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.stdout = None,
        }
    }

    fn hear(&mut self) {
        let Some(pipe) = &mut self.stderr else { return };
        let mut chunk = [0; CHUNK];
        match pipe.read(&mut chunk) {
            Ok(0) => self.stderr = None,
            Ok(count) => self.complaints.push(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.stderr = None,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.reap();
    }
}

/// The time so long from now.
pub fn from_now(duration: Duration) -> Instant {
    deadline(Instant::now(), duration)
}

fn pid(process: &process::Child) -> Pid {
    Pid::from_raw(process.id() as i32)
}

fn unblock(pipe: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
