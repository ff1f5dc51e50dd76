//! Log lines on stderr, written by a thread of its own, so that a reader that does not read blocks
//! no other thread.
//!
//! A full pipe, or a terminal after Ctrl-S, may block a write for any time. The descriptor can't be
//! made non-blocking, because other processes share it ([`crate::stdio`]). For the same reason a
//! poll before a write guarantees nothing. So lines wait in memory, up to 1 MiB. Further
//! lines are lost and counted, and a line in their place says so once stderr accepts lines again.
//!
//! As long as stderr accepts lines, they are written when `settle` returns, even if the process is
//! killed right afterwards. All waits together take at most 20 ms in each second.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use nix::sys::signal::{SigSet, Signal};

use super::{write_notice, write_own};
use crate::stdio::Retrying;

/// The size of the buffer, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// The size in bytes up to which lines are written at once: a pipe never mixes such a write with
/// other processes' (`PIPE_BUF`).
const CHUNK_BYTES: usize = 4096;

/// The longest time that other threads wait for stderr in each second.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// The time that an ending process waits for a stderr that accepts nothing.
const MAX_LAST_WAIT: Duration = Duration::from_secs(1);

static STDERR: OnceLock<Lines> = OnceLock::new();

/// Starts the thread, once per process.
///
/// # Errors
/// If no thread can be started.
pub(super) fn start() -> io::Result<()> {
    if STDERR.get().is_none() {
        // If another thread did the same just now, its thread stays.
        let _ = STDERR.set(Lines::start(Retrying(io::stderr()))?);
    }
    Ok(())
}

/// Adds a line; `write` writes it without a line feed. Before [`start`] it is written at once.
pub(super) fn say(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
    match STDERR.get() {
        Some(lines) => lines.say(write),
        None => {
            let mut line = Vec::new();
            let _ = write(&mut line);
            line.push(b'\n');
            let _ = Retrying(io::stderr()).write_all(&line);
        }
    }
}

/// Waits until all lines are written, within [`MAX_WAIT`].
pub(super) fn settle() {
    if let Some(lines) = STDERR.get() {
        lines.settle();
    }
}

/// Waits until all lines are written, as long as stderr accepts any. For the end of the process, and
/// before other writes to stderr.
pub fn finish() {
    if let Some(lines) = STDERR.get() {
        lines.finish();
    }
}

/// Writes the last line of a process. Returns even if stderr is not read.
pub fn write_last(what: &str) {
    say(|line| write_notice(line, Level::Error, what));
    finish();
}

/// The buffered lines, and the thread that writes them.
struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals that there are lines.
    more: Condvar,
    /// Signals that some lines were written.
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    /// The buffer: whole lines.
    waiting: Vec<u8>,
    /// The number of lines lost behind those in the buffer, until the writer takes the buffer.
    lost: u64,
    /// Whether the writer has taken lines that it has not written yet.
    writing: bool,
    /// The number of writes so far.
    written: u64,
    /// The start of the present second, and the sum of the waits in it.
    waited: Option<(Instant, Duration)>,
}

impl Lines {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = Writer { to, torn: false, unreported: 0, shared: Arc::clone(&shared) };
        let run = move || {
            // Other threads handle signals. Except for SIGTTOU, which stops a background job that writes to its
            // terminal.
            let mut signals = SigSet::all();
            signals.remove(Signal::SIGTTOU);
            let _ = signals.thread_block();
            writer.run();
        };
        thread::Builder::new().name("stderr".into()).spawn(run)?;
        Ok(Self { shared })
    }

    fn say(&self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        // Before the lock is taken, because formatting may itself log.
        let mut line = Vec::new();
        let _ = write(&mut line);
        line.push(b'\n');
        let mut state = self.shared.lock();
        if state.is_full() {
            state = self.wait_a_little(state, State::is_full);
        }
        if state.is_full() {
            state.lost += 1;
            return;
        }
        state.waiting.append(&mut line);
        self.shared.more.notify_one();
    }

    fn settle(&self) {
        let state = self.shared.lock();
        if state.is_busy() {
            drop(self.wait_a_little(state, State::is_busy));
        }
    }

    fn finish(&self) {
        let mut state = self.shared.lock();
        let (mut written, mut since) = (state.written, Instant::now());
        while state.is_busy() && since.elapsed() < MAX_LAST_WAIT {
            let left = MAX_LAST_WAIT.saturating_sub(since.elapsed());
            state = self.shared.fewer.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if state.written != written {
                (written, since) = (state.written, Instant::now());
            }
        }
    }

    /// Waits while `holds`, within what is left of [`MAX_WAIT`] in this second.
    fn wait_a_little<'a>(&'a self, state: MutexGuard<'a, State>, holds: fn(&State) -> bool) -> MutexGuard<'a, State> {
        let began = Instant::now();
        let (since, waited) = match state.waited {
            Some((since, waited)) if began.saturating_duration_since(since) < Duration::from_secs(1) => (since, waited),
            _ => (began, Duration::ZERO),
        };
        let left = MAX_WAIT.saturating_sub(waited);
        if left.is_zero() {
            return state;
        }
        let waiting = self.shared.fewer.wait_timeout_while(state, left, |state| holds(state));
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        state.waited = Some((since, waited + began.elapsed()));
        state
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.waiting.len() >= BUFFER_BYTES
    }

    fn is_busy(&self) -> bool {
        self.writing || !self.waiting.is_empty()
    }
}

/// The writing thread.
struct Writer<W> {
    to: W,
    /// Whether the last line was written only in part.
    torn: bool,
    /// The number of lost lines that no line has reported yet.
    unreported: u64,
    shared: Arc<Shared>,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut lines = Vec::new();
        loop {
            let lost = self.take(&mut lines);
            for chunk in chunks(&lines) {
                if !self.report_lost() || !self.put(chunk) {
                    self.unreported += count(chunk);
                }
                self.shared.lock().written += 1;
                self.shared.fewer.notify_all();
            }
            let well = self.unreported == 0;
            self.unreported += lost;
            if well {
                self.report_lost();
            }
            self.shared.lock().writing = false;
            self.shared.fewer.notify_all();
        }
    }

    /// Waits for lines, and takes them all. Returns how many lines were lost behind them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        lines.clear();
        let waiting = self.shared.more.wait_while(self.shared.lock(), |state| state.waiting.is_empty());
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(lines, &mut state.waiting);
        state.writing = true;
        let lost = std::mem::take(&mut state.lost);
        self.shared.fewer.notify_all();
        lost
    }

    /// Reports lost lines, if there are any. Returns false if the report could not be written.
    fn report_lost(&mut self) -> bool {
        if self.unreported == 0 {
            return true;
        }
        let what = format!("{} lines could not be shown: nobody read them, or stderr is broken", self.unreported);
        let mut line = Vec::new();
        let reported = write_own(&mut line, Level::Warn, &what).is_ok() && self.put(&line);
        if reported {
            self.unreported = 0;
        }
        reported
    }

    /// Writes whole lines. Returns false if it could not.
    fn put(&mut self, mut lines: &[u8]) -> bool {
        if self.torn {
            if self.to.write_all(b"\n").is_err() {
                return false;
            }
            self.torn = false;
        }
        let whole = lines.len();
        while !lines.is_empty() {
            match self.to.write(lines) {
                Ok(written @ 1..) => lines = &lines[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    self.torn = lines.len() < whole;
                    return false;
                }
            }
        }
        true
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Splits lines into chunks of up to [`CHUNK_BYTES`]; a longer line is a chunk of its own.
fn chunks(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let first = lines.iter().position(|&byte| byte == b'\n')? + 1;
        let within =
            lines[..lines.len().min(CHUNK_BYTES)].iter().rposition(|&byte| byte == b'\n').map_or(first, |end| end + 1);
        let chunk;
        (chunk, lines) = lines.split_at(within);
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};

    use super::*;

    fn say(lines: &Lines, text: &str) {
        lines.say(|line| line.write_all(text.as_bytes()));
    }

    #[test]
    fn lines_that_nobody_reads_stop_nobody_and_are_counted_when_somebody_does() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer).unwrap();
        let text = "x".repeat(1023);
        // Far more than the pipe, the writer and the buffer hold.
        let said = 16 * BUFFER_BYTES / 1024;
        let began = Instant::now();
        for _ in 0..said {
            say(&lines, &text);
            lines.settle();
        }
        // Without a limit of all waits together, each line would take 20 ms.
        assert!(began.elapsed() < said as u32 * MAX_WAIT / 4, "{:?}", began.elapsed());
        let mut reader = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut shown, mut lost) = (0, None);
        while lost.is_none() {
            let line = reader.next().unwrap();
            if line == text {
                shown += 1;
            } else {
                let (count, _) = line.split_once(" WARN  ").unwrap().1.split_once(" lines could not be shown").unwrap();
                lost = Some(count.parse::<usize>().unwrap());
            }
        }
        assert_eq!(shown + lost.unwrap(), said);
        say(&lines, "after");
        assert_eq!(reader.next().unwrap(), "after");
    }

    #[test]
    fn no_line_is_lost_to_a_reader_that_is_only_slow() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer).unwrap();
        let said = BUFFER_BYTES / 1024 / 2;
        let text = "x".repeat(1000);
        let reading = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            BufReader::new(reader).lines().take(said).map(Result::unwrap).collect::<Vec<_>>()
        });
        for number in 0..said {
            say(&lines, &format!("{number} {text}"));
        }
        lines.finish();
        let read = reading.join().unwrap();
        assert!(read.iter().enumerate().all(|(number, line)| *line == format!("{number} {text}")));
    }

    #[test]
    fn a_line_is_there_when_it_was_waited_for() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer).unwrap();
        say(&lines, "one");
        lines.finish();
        assert!(!lines.shared.lock().is_busy());
        assert_eq!(BufReader::new(reader).lines().next().unwrap().unwrap(), "one");
    }

    /// Accepts a few bytes at a time, and none while it is full.
    struct Disk {
        room: Arc<Mutex<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock().unwrap();
            let taken = bytes.len().min(*room).min(7);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= taken;
            self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_told_on_a_line_of_its_own_when_there_is_room() {
        let (room, written) = (Arc::new(Mutex::new(6)), Arc::default());
        let lines = Lines::start(Disk { room: Arc::clone(&room), written: Arc::clone(&written) }).unwrap();
        for line in ["one", "two", "three"] {
            say(&lines, line);
            lines.finish();
        }
        *room.lock().unwrap() = usize::MAX;
        say(&lines, "four");
        lines.finish();
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let said: Vec<_> = written.lines().collect();
        assert_eq!((said.len(), said[0], said[1], said[3]), (4, "one", "tw", "four"), "{written}");
        assert!(said[2].contains(" WARN  2 lines could not be shown"), "{written}");
    }
}
