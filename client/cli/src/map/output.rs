//! Stdout: does not repeat what an earlier run has printed, and waits for a slow reader until
//! Ctrl-C.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use zmq::PollItem;

use crate::printed::escaped;

/// The number of bytes that are collected, besides one line, before they are written.
const FULL: usize = 256 << 10;

/// The number of bytes that a writable pipe takes without blocking (`PIPE_BUF` of Linux).
const ATOM: usize = 4096;

/// How long to wait after Ctrl-C for a reader that does not read.
const GRACE: Duration = Duration::from_millis(500);

/// The place in a file where the output begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The file's device and inode.
    pub file: (u64, u64),
    /// The offset in bytes.
    pub offset: u64,
}

/// Returns whether the stream is this file.
pub fn same(stream: impl AsFd, file: &Metadata) -> io::Result<bool> {
    let stream = File::from(stream.as_fd().try_clone_to_owned()?).metadata()?;
    Ok((stream.dev(), stream.ino()) == (file.dev(), file.ino()))
}

/// Stdout, and the bytes that are not written yet.
pub struct Output {
    file: File,
    /// Whether it is a regular file, which never blocks.
    regular: bool,
    /// Whether it is a terminal, for which control characters are escaped.
    terminal: bool,
    shutdown: Shutdown,
    /// The bytes to write next.
    pub buffer: Vec<u8>,
    /// The output of an earlier run that has not been compared yet.
    before: Option<io::Take<File>>,
}

impl Output {
    /// Opens stdout. Returns also where the output begins, if it is a file. If an earlier run began
    /// its output in the same file, that is kept, and compared with what is to be written.
    pub fn open(shutdown: &Shutdown, earlier: &[Start]) -> anyhow::Result<(Self, Option<Start>)> {
        let mut file = File::from(stdout().as_fd().try_clone_to_owned().context("can't open stdout a second time")?);
        let metadata = file.metadata()?;
        let regular = metadata.is_file();
        let mut output = Self {
            file: file.try_clone().context("can't open a file a second time")?,
            regular,
            terminal: file.is_terminal(),
            shutdown: shutdown.clone(),
            buffer: Vec::new(),
            before: None,
        };
        if !regular {
            return Ok((output, None));
        }
        let here = here(&mut file, &metadata)?;
        match earlier.iter().find(|earlier| earlier.file == here.file && earlier.offset < metadata.len()) {
            Some(&earlier) => {
                let mut before = File::open(format!("/dev/fd/{}", file.as_raw_fd()))
                    .context("can't read what stdout holds already (redirect it with > instead of >>)")?;
                before.seek(SeekFrom::Start(earlier.offset))?;
                file.seek(SeekFrom::End(0))?;
                output.before = Some(before.take(metadata.len() - earlier.offset));
                Ok((output, Some(earlier)))
            }
            None => Ok((output, Some(here))),
        }
    }

    /// Returns whether enough is collected to write it.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= FULL
    }

    /// Writes what is collected. Waits for a slow reader, after Ctrl-C only briefly. After an error the
    /// rest is discarded: written later, it would stand in the wrong place, or twice.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let written = self.write();
        self.buffer.clear();
        written
    }

    fn write(&mut self) -> anyhow::Result<()> {
        if self.terminal {
            self.buffer = escaped(&self.buffer).into_owned();
        }
        let mut from = self.compare()?;
        let until = self.shutdown.requested().then(|| Instant::now() + GRACE);
        while from < self.buffer.len() {
            let most = if self.regular { self.buffer.len() } else { self.buffer.len().min(from + ATOM) };
            if !self.regular && !self.has_room(until)? {
                break;
            }
            match self.file.write(&self.buffer[from..most]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => from += written,
                // Another process may have made it non-blocking: it is polled again.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes the rest. An error if an earlier run had written more.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        if self.before.is_some() {
            bail!("stdout holds more results than the journal; redirect it to another file");
        }
        Ok(())
    }

    /// Returns how many of the collected bytes an earlier run has written. An error if it has written
    /// something else.
    fn compare(&mut self) -> anyhow::Result<usize> {
        let Some(before) = &mut self.before else { return Ok(0) };
        let mut stands = Vec::new();
        let left = before.limit();
        before
            .take(self.buffer.len() as u64)
            .read_to_end(&mut stands)
            .context("can't read what stdout holds already")?;
        if stands.len() as u64 != left.min(self.buffer.len() as u64) || !self.buffer.starts_with(&stands) {
            bail!("stdout holds other results than the journal; redirect it to another file");
        }
        if before.limit() == 0 {
            self.before = None;
        }
        Ok(stands.len())
    }

    /// Waits until there is room for some bytes. Returns false if there is none by `until`, or within
    /// [`GRACE`] after Ctrl-C.
    fn has_room(&self, mut until: Option<Instant>) -> anyhow::Result<bool> {
        loop {
            let mut items = [
                PollItem::from_fd(self.file.as_raw_fd(), zmq::POLLOUT),
                PollItem::from_fd(self.shutdown.as_fd().as_raw_fd(), zmq::POLLIN),
            ];
            let polled = if until.is_some() { &mut items[..1] } else { &mut items[..] };
            socket::poll(polled, until.map(|until| until.saturating_duration_since(Instant::now())))?;
            if items[0].get_revents() != zmq::PollEvents::empty() {
                return Ok(true);
            }
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(false);
            }
            until = until.or(self.shutdown.requested().then_some(now + GRACE));
        }
    }
}

/// Returns an error if stdout writes the file that stdin reads, because results would be read as
/// lines, without end. A file with nothing left to read is allowed, as with `cat`.
pub fn refuse_a_circle() -> anyhow::Result<()> {
    let mut input = File::from(stdin().as_fd().try_clone_to_owned()?);
    let metadata = input.metadata()?;
    if !metadata.is_file() || !same(stdout(), &metadata)? {
        return Ok(());
    }
    let mut output = File::from(stdout().as_fd().try_clone_to_owned()?);
    let (from, to) = (input.stream_position()?, here(&mut output, &metadata)?.offset);
    let nothing_is_read = from >= metadata.len().max(to);
    ensure!(nothing_is_read, "stdout writes the file that stdin reads; redirect it to another file");
    Ok(())
}

/// Returns where the next byte is written.
fn here(file: &mut File, metadata: &Metadata) -> anyhow::Result<Start> {
    let flags = OFlag::from_bits_truncate(fcntl(&*file, FcntlArg::F_GETFL)?);
    let offset = if flags.contains(OFlag::O_APPEND) { metadata.len() } else { file.stream_position()? };
    Ok(Start { file: (metadata.dev(), metadata.ino()), offset })
}
