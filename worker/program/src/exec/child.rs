//! A running program: its pipes, which never block the worker, and its end.
//!
//! Each program has a process group of its own, which ends with it: what is left of the group is
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

/// The longest sleep over a program. It bounds the delay until the worker sees that the program has
/// exited while another process holds its pipes, or that its request was cancelled.
pub const TICK: Duration = Duration::from_millis(50);

/// The first pause when there is nothing to poll. A program that has closed its pipes mostly exits
/// at once.
const MIN_PAUSE: Duration = Duration::from_micros(50);

/// The most bytes of stderr that are read at once.
const CHUNK: usize = 16 << 10;

/// A program that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    guard: Arc<Guard>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// The rest of what is to be written to stdin.
    input: Bytes,
    /// Whether stdin is closed after that.
    closes_stdin: bool,
    /// The number of bytes of the last input that were written.
    fed: usize,
    /// Whether it had read any of them when its stdin was closed.
    had_read_input: bool,
    /// The bytes that came from stdout.
    pub printed: Vec<u8>,
    /// The last bytes that came from stderr.
    pub stderr_tail: Tail,
    pause: Duration,
    /// The exit status, once it was waited for.
    end: Option<Option<ExitStatus>>,
}

impl Child {
    /// Starts a program in a process group of its own. The command decides which of the standard
    /// streams are pipes.
    ///
    /// # Errors
    /// If the program can't be started.
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
            closes_stdin: false,
            fed: 0,
            had_read_input: false,
            printed: Vec::new(),
            stderr_tail: Tail::default(),
            pause: MIN_PAUSE,
            end: None,
        };
        unblocked.map(|()| child)
    }

    /// Writes the input to its stdin, as far as the pipe takes it; [`Self::turn`] writes the rest.
    /// Stdin is closed after that if this is the last input.
    pub fn feed(&mut self, input: Bytes, last: bool) {
        (self.input, self.closes_stdin, self.fed) = (input, last, 0);
        self.write();
    }

    /// Whether it has read any byte of the last input. Once it has been waited for, the answer no
    /// longer changes.
    pub fn has_read_input(&self) -> bool {
        match &self.stdin {
            // The bytes left in the pipe. If the system does not say, it may have read some.
            Some(pipe) => ioctl_fionread(pipe).map_or(true, |left| left < self.fed as u64),
            None => self.had_read_input,
        }
    }

    /// Sleeps until a pipe is ready, for `limit` and [`TICK`] at most, and then reads and writes.
    /// Keeps at most `max_output` bytes of stdout, and one more if there are more.
    pub fn turn(&mut self, max_output: usize, limit: Duration) {
        let pause = if self.has_closed_output() { self.pause } else { TICK };
        self.pause = if self.has_closed_output() { (2 * pause).min(TICK) } else { MIN_PAUSE };
        self.sleep(pause.min(limit));
        self.write();
        self.read_stdout(max_output);
        self.read_stderr();
    }

    /// Whether its stdout and stderr are closed.
    pub fn has_closed_output(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Whether its stdout is closed.
    pub fn has_closed_stdout(&self) -> bool {
        self.stdout.is_none()
    }

    /// Whether it has exited. It keeps its process id, since this does not wait for it.
    pub fn has_exited(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(pid(&self.process)), flags), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// Closes its stdin, after which many programs end by themselves.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends SIGTERM to its group.
    pub fn terminate(&self) {
        // It may be gone.
        let _ = killpg(pid(&self.process), Signal::SIGTERM);
    }

    /// Waits until it has exited, and drops what it prints meanwhile, so that no full pipe keeps it
    /// from that. Returns whether it has exited in time.
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

    /// Ends it: sends SIGTERM to its group, and SIGKILL when it has exited or after the grace.
    pub fn end(&mut self, grace: Duration) {
        self.terminate();
        self.exits_until(from_now(grace));
        self.reap();
    }

    /// Kills what is left of its group, and waits for it. Returns its exit status, which is not known
    /// if this process ignores SIGCHLD.
    pub fn reap(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.end {
            return status;
        }
        // Until it is waited for, no other group can have its id.
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
        // An error, such as an interruption, only makes the next look come sooner.
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
                // It has closed its stdin, which is no failure.
                Err(_) => {
                    self.had_read_input = self.has_read_input();
                    self.input = Bytes::new();
                    self.stdin = None;
                    return;
                }
            }
        }
        if self.closes_stdin {
            self.stdin = None;
        }
    }

    fn read_stdout(&mut self, max_output: usize) {
        let Some(pipe) = &mut self.stdout else { return };
        let room = (max_output + 1).saturating_sub(self.printed.len());
        match pipe.take(room as u64).read_to_end(&mut self.printed) {
            Ok(count) if count == room => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.stdout = None,
        }
    }

    fn read_stderr(&mut self) {
        let Some(pipe) = &mut self.stderr else { return };
        let mut chunk = [0; CHUNK];
        match pipe.read(&mut chunk) {
            Ok(0) => self.stderr = None,
            Ok(count) => self.stderr_tail.push(&chunk[..count]),
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

/// Returns the instant this long from now.
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
