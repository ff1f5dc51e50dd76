//! The lines of stdin. They are read in a thread of their own, so that a slow writer or a terminal
//! does not keep the client from its socket.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, stdin};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use anyhow::Context;
use giostra_common::stdio::{self, Retrying};
use giostra_protocol::{Bytes, MAX_MESSAGE_BYTES};
use giostra_transport::socket;
use giostra_transport::wake::{self, Alarm, Waker};
use zmq::PollItem;

/// The number of bytes to read at once.
const BLOCK: usize = 64 << 10;

/// The mark that some editors write before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The number of blocks that may wait to be taken.
const BLOCKS: usize = 2;

/// The lines that have arrived.
pub struct Input {
    blocks: Receiver<io::Result<Vec<u8>>>,
    alarm: Alarm,
    /// Whole lines that have not been taken.
    block: Bytes,
    taken: u64,
    /// The number of bytes in all lines, if stdin is a file.
    length: Option<u64>,
}

/// The next line, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line without its line break.
    Line(Bytes),
    /// When there is none yet. [`Input::fd`] becomes readable when there is.
    Later,
    /// When all lines have been taken.
    End,
}

impl Input {
    /// Starts to read stdin. An error if it can't be read.
    pub fn open() -> anyhow::Result<Self> {
        stdio::check_stdin().context("can't read stdin")?;
        let length = left_in(&stdin());
        let mut input = Self::reading(Retrying(stdin()))?;
        input.length = length;
        Ok(input)
    }

    /// Reads from another place than stdin.
    pub(super) fn reading(from: impl Read + Send + 'static) -> anyhow::Result<Self> {
        let (sender, blocks) = sync_channel(BLOCKS);
        let (bell, alarm) = wake::alarm().context("can't open a pipe")?;
        let read = move || read(from, sender, &bell);
        thread::Builder::new().name("stdin".into()).spawn(read).context("can't start a thread")?;
        Ok(Self { blocks, alarm, block: Bytes::new(), taken: 0, length: None })
    }

    /// Takes the next line. An error if stdin can't be read, or a line is longer than any request.
    pub fn next(&mut self) -> anyhow::Result<Next> {
        if self.block.is_empty() {
            self.alarm.clear();
            match self.blocks.try_recv() {
                Ok(block) => {
                    let block = block.with_context(|| format!("can't read stdin after line {}", self.taken));
                    self.block = block?.into();
                }
                Err(TryRecvError::Empty) => return Ok(Next::Later),
                Err(TryRecvError::Disconnected) => return Ok(Next::End),
            }
        }
        let end = self.block.iter().position(|&byte| byte == b'\n');
        let mut line = self.block.split_to(end.unwrap_or(self.block.len()));
        let rest = usize::from(end.is_some());
        drop(self.block.split_to(rest));
        if self.taken == 0 && line.starts_with(BYTE_ORDER_MARK) {
            drop(line.split_to(BYTE_ORDER_MARK.len()));
        }
        self.taken += 1;
        Ok(Next::Line(line))
    }

    /// Returns a descriptor that becomes readable when there is a line, or the end.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// Waits until there is a line or the end, or one of these descriptors is readable.
    pub fn wait(&self, others: &[BorrowedFd<'_>]) -> Result<(), zmq::Error> {
        let descriptors = others.iter().copied().chain([self.fd()]);
        let mut items: Vec<_> = descriptors.map(|fd| PollItem::from_fd(fd.as_raw_fd(), zmq::POLLIN)).collect();
        socket::poll(&mut items, None).map(drop)
    }

    /// The number of lines that were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The number of bytes in all lines, if known beforehand.
    pub fn length(&self) -> Option<u64> {
        self.length
    }
}

/// Returns the number of bytes up to the end, if the input is a file.
fn left_in(input: &impl AsFd) -> Option<u64> {
    // The position is the same for both descriptors.
    let mut file = File::from(input.as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    Some(metadata.len().saturating_sub(file.stream_position().ok()?))
}

/// Reads to the end, and sends the whole lines of each read together.
fn read(mut from: impl Read, blocks: SyncSender<io::Result<Vec<u8>>>, bell: &Waker) {
    let send = |block| {
        let sent = blocks.send(block).is_ok();
        bell.wake();
        sent
    };
    let mut rest = Vec::new();
    loop {
        let before = rest.len();
        rest.resize(before + BLOCK, 0);
        let read = from.read(&mut rest[before..]);
        rest.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                send(Err(error));
                return;
            }
        }
        if let Some(end) = rest[before..].iter().rposition(|&byte| byte == b'\n') {
            let tail = rest.split_off(before + end + 1);
            if !send(Ok(std::mem::replace(&mut rest, tail))) {
                return;
            }
        } else if rest.len() > MAX_MESSAGE_BYTES {
            let long = format!("a line has over {MAX_MESSAGE_BYTES} bytes, which no request can hold");
            send(Err(io::Error::other(long)));
            return;
        }
    }
    if !rest.is_empty() {
        send(Ok(rest));
    }
    drop(blocks);
    bell.wake();
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};

    use super::*;

    /// The next line, waited for.
    fn next(input: &mut Input) -> Next {
        loop {
            match input.next().unwrap() {
                Next::Later => {
                    input.wait(&[]).unwrap();
                }
                next => return next,
            }
        }
    }

    fn line(text: &'static str) -> Next {
        Next::Line(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_line_is_there_as_soon_as_it_is_written_and_the_last_needs_no_line_break() {
        let (reader, mut writer) = pipe().unwrap();
        let mut input = Input::reading(reader).unwrap();
        assert_eq!(input.next().unwrap(), Next::Later);
        for (part, lines) in [("a\n", &["a"][..]), ("b", &[]), ("c\n\nd\ne", &["bc", "", "d"])] {
            writer.write_all(part.as_bytes()).unwrap();
            lines.iter().for_each(|text| assert_eq!(next(&mut input), line(text)));
        }
        drop(writer);
        assert_eq!([next(&mut input), next(&mut input)], [line("e"), Next::End]);
        assert_eq!(input.taken(), 5);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let mut input = Input::reading("\u{feff}1\n\u{feff}2\n".as_bytes()).unwrap();
        assert_eq!([next(&mut input), next(&mut input)], [line("1"), line("\u{feff}2")]);
    }

    #[test]
    fn long_lines_are_read_whole() {
        let text = [vec![b'x'; 3 * BLOCK + 1], vec![b'y'; BLOCK]].join(&b'\n');
        let mut input = Input::reading(io::Cursor::new(text)).unwrap();
        let Next::Line(long) = next(&mut input) else { panic!() };
        assert_eq!((long.len(), long[0]), (3 * BLOCK + 1, b'x'));
        assert!(matches!(next(&mut input), Next::Line(line) if line.len() == BLOCK));
        assert_eq!(next(&mut input), Next::End);
    }

    #[test]
    fn a_line_that_no_request_can_hold_is_an_error() {
        let mut input = Input::reading(Read::chain(&b"1\n"[..], io::repeat(b'x'))).unwrap();
        assert_eq!(next(&mut input), line("1"));
        let error = loop {
            match input.next() {
                Ok(next) => assert_eq!(next, Next::Later),
                Err(error) => break error,
            }
            input.wait(&[]).unwrap();
        };
        assert!(format!("{error:#}").contains("over 67108864 bytes"), "{error:#}");
    }
}
