//! The standard streams as the process inherited them, and reads and writes on them that lose
//! nothing.
//!
//! Rust's standard library hides two failures. At start it opens `/dev/null` in the place of a
//! closed standard stream, and [`std::io::Stdout`] and [`std::io::Stdin`] take `EBADF` for success.
//! A program whose stdout was closed by `>&-` would compute everything, print nothing and exit with
//! status 0. The stand-in can't be told apart later from a `/dev/null` that somebody means:
//! Python's `subprocess.DEVNULL` and node's `ignore` are opened for reading and writing, too. So
//! the streams are looked at before `main`.
//!
//! A stream may also be shared with a process that made it non-blocking, as node and ssh do.
//! [`Retrying`] waits where the standard library fails with `EAGAIN`.

use std::fmt::Arguments;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;
use thiserror::Error;

/// The streams that were open at start, a bit each by their descriptor's number; with [`LOOKED`],
/// or nobody has looked.
static OPEN: AtomicU8 = AtomicU8::new(0);

/// Set once the streams were looked at.
const LOOKED: u8 = 1 << 7;

ctor::declarative::ctor! {
    /// Runs before the standard library's start, which reopens closed streams. It makes two system
    /// calls and stores a byte.
    #[ctor(unsafe)]
    fn look() {
        let stdin = u8::from(fcntl(io::stdin(), FcntlArg::F_GETFD).is_ok());
        let stdout = u8::from(fcntl(io::stdout(), FcntlArg::F_GETFD).is_ok());
        OPEN.store(LOOKED | stdin | stdout << 1, Ordering::Relaxed);
    }
}

/// Why a standard stream can't be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unusable {
    /// When it was closed at start, as by `<&-` or `>&-`.
    #[error("it is closed; if that is meant, redirect it to or from /dev/null")]
    Closed,
    /// When stdin is open for writing alone, or stdout for reading alone.
    #[error("it is open in the other direction only")]
    Direction,
}

impl From<Unusable> for io::Error {
    fn from(why: Unusable) -> Self {
        Self::other(why)
    }
}

/// Whether stdin can be read.
pub fn check_stdin() -> Result<(), Unusable> {
    was_open(&io::stdin())?;
    check(io::stdin().as_fd(), OFlag::O_WRONLY)
}

/// Whether stdout can be written.
pub fn check_stdout() -> Result<(), Unusable> {
    was_open(&io::stdout())?;
    check(io::stdout().as_fd(), OFlag::O_RDONLY)
}

/// An error if the stream was closed at start.
fn was_open(stream: &impl AsRawFd) -> Result<(), Unusable> {
    let open = OPEN.load(Ordering::Relaxed);
    let closed = open & LOOKED != 0 && open & (1 << stream.as_raw_fd()) == 0;
    if closed { Err(Unusable::Closed) } else { Ok(()) }
}

/// An error if the stream is closed, or has the wrong access mode.
fn check(stream: BorrowedFd<'_>, wrong: OFlag) -> Result<(), Unusable> {
    match fcntl(stream, FcntlArg::F_GETFL).map(OFlag::from_bits_retain) {
        Ok(flags) if flags & OFlag::O_ACCMODE == wrong => Err(Unusable::Direction),
        Ok(_) => Ok(()),
        Err(_) => Err(Unusable::Closed),
    }
}

/// A descriptor that is read and written without a buffer, and waited for where it would block.
///
/// A text of several parts is written at once, so that other processes' lines do not come in
/// between.
#[derive(Debug)]
pub struct Retrying<F>(pub F);

impl<F: AsFd> Retrying<F> {
    /// Tries until the call is neither interrupted nor would block.
    fn insist(&self, ready: PollFlags, mut call: impl FnMut(&F) -> nix::Result<usize>) -> io::Result<usize> {
        loop {
            match call(&self.0) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => match poll(&mut [PollFd::new(self.0.as_fd(), ready)], PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                },
                done => return Ok(done?),
            }
        }
    }
}

impl<F: AsFd> Read for Retrying<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.insist(PollFlags::POLLIN, |file| unistd::read(file, buffer))
    }
}

impl<F: AsFd> Write for Retrying<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.insist(PollFlags::POLLOUT, |file| unistd::write(file, bytes))
    }

    fn write_fmt(&mut self, text: Arguments<'_>) -> io::Result<()> {
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stdout, with none of the standard library's exceptions.
pub fn stdout() -> Retrying<io::Stdout> {
    Retrying(io::stdout())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::pipe;
    use std::thread;

    use super::*;

    fn make_nonblocking(file: impl AsFd) {
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).unwrap());
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    }

    #[test]
    fn a_nonblocking_pipe_is_written_and_read_whole() {
        let (reader, writer) = pipe().unwrap();
        make_nonblocking(&reader);
        make_nonblocking(&writer);
        // More than a pipe holds: the writer has to wait for the reader, and the reader for the
        // writer.
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let all = bytes.clone();
        let writing = thread::spawn(move || Retrying(writer).write_all(&all));
        let mut read = Vec::new();
        Retrying(reader).read_to_end(&mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert!(read == bytes, "{} bytes", read.len());
    }

    #[test]
    fn a_descriptor_that_is_open_in_the_other_direction_only_is_an_error() {
        let readable = File::open("/dev/null").unwrap();
        assert_eq!(check(readable.as_fd(), OFlag::O_RDONLY).unwrap_err(), Unusable::Direction);
        assert_eq!(check(readable.as_fd(), OFlag::O_WRONLY), Ok(()));
        assert!(Retrying(readable).write(b"x").is_err());
    }
}
