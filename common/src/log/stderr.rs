//! Stderr for the log: lines that a thread of its own writes, so that nobody else is stopped by a
//! reader that does not read.
//!
//! A pipe that is full and a terminal that is held by Ctrl-S block a write for as long as they
//! like. The descriptor can't be made non-blocking, since other processes share it
//! ([`crate::stdio`]), and a poll before a write promises nothing where they write, too. So lines
//! wait in memory, up to [`ROOM`]. What comes on top is lost, counted, and told in its place once
//! stderr takes lines again.
//!
//! As long as stderr takes them, a line is there when [`settle`] returns, also if the process is
//! killed right afterwards. All waits together are at most [`WAIT`] in each second.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use nix::sys::signal::{SigSet, Signal};

use super::stamp;
use crate::stdio::Retrying;

/// Bytes of lines that may wait.
const ROOM: usize = 1 << 20;

/// Bytes that are written at once if lines allow it: no other process's come in between in a pipe
/// (`PIPE_BUF`).
const WHOLE: usize = 4096;

/// The longest that others wait for stderr in each second.
const WAIT: Duration = Duration::from_millis(20);

/// How long a process that ends waits for a stderr that takes nothing.
const LAST: Duration = Duration::from_secs(1);

static STDERR: OnceLock<Lines> = OnceLock::new();

/// Starts the thread, once a process.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn start() -> io::Result<()> {
    if STDERR.get().is_none() {
        // Who started another one at the same time has the same right.
        let _ = STDERR.set(Lines::start(Retrying(io::stderr()))?);
    }
    Ok(())
}

/// Adds a line, without its end. Before [`start`] it is written at once.
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

/// Waits until all lines are written, but not for long.
pub(super) fn settle() {
    if let Some(lines) = STDERR.get() {
        lines.settle();
    }
}

/// Waits until all lines are written, as long as stderr takes any: for the end of the process, and
/// before something is written there by another way.
pub fn finish() {
    if let Some(lines) = STDERR.get() {
        lines.finish();
    }
}

/// The last word of a process that must end, also if nobody reads it.
pub fn last_word(what: &str) {
    say(|line| line.write_all(what.as_bytes()));
    finish();
}

/// The lines that wait for a writer, and its thread.
struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Rings when there are lines.
    more: Condvar,
    /// Rings when some were written.
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// How many more there was no room for. There is room again when the writer has taken those
    /// that wait.
    lost: u64,
    /// Whether the writer has taken some that it has not written yet.
    writing: bool,
    /// How often it has written something.
    written: u64,
    /// Since when waits are added up, and their sum.
    waited: Option<(Instant, Duration)>,
}

impl Lines {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = Writer { to, torn: false, unshown: 0, shared: Arc::clone(&shared) };
        let run = move || {
            // Signals are for those who listen. This one stays: a job in the background is stopped for writing
            // to its terminal.
            let mut signals = SigSet::all();
            signals.remove(Signal::SIGTTOU);
            let _ = signals.thread_block();
            writer.run();
        };
        thread::Builder::new().name("stderr".into()).spawn(run)?;
        Ok(Self { shared })
    }

    fn say(&self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        // Before anything is locked: what is written may itself log.
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
        while state.is_busy() && since.elapsed() < LAST {
            let left = LAST.saturating_sub(since.elapsed());
            state = self.shared.fewer.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if state.written != written {
                (written, since) = (state.written, Instant::now());
            }
        }
    }

    /// Waits while this holds, unless others have waited enough in this second.
    fn wait_a_little<'a>(&'a self, state: MutexGuard<'a, State>, holds: fn(&State) -> bool) -> MutexGuard<'a, State> {
        let began = Instant::now();
        let (since, waited) = match state.waited {
            Some((since, waited)) if began.saturating_duration_since(since) < Duration::from_secs(1) => (since, waited),
            _ => (began, Duration::ZERO),
        };
        let left = WAIT.saturating_sub(waited);
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
        self.waiting.len() >= ROOM
    }

    fn is_busy(&self) -> bool {
        self.writing || !self.waiting.is_empty()
    }
}

/// What the thread does.
struct Writer<W> {
    to: W,
    /// Whether the last line was written in part.
    torn: bool,
    /// Lines that could not be written, which was not told yet.
    unshown: u64,
    shared: Arc<Shared>,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut lines = Vec::new();
        loop {
            let lost = self.take(&mut lines);
            for chunk in chunks(&lines) {
                if !self.tell() || !self.put(chunk) {
                    self.unshown += count(chunk);
                }
                self.shared.lock().written += 1;
                self.shared.fewer.notify_all();
            }
            let well = self.unshown == 0;
            self.unshown += lost;
            if well {
                self.tell();
            }
            self.shared.lock().writing = false;
            self.shared.fewer.notify_all();
        }
    }

    /// Waits for lines, and takes them all; and how many were lost behind them.
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

    /// Tells of lines that could not be shown, if there are any; whether nothing is left to tell.
    fn tell(&mut self) -> bool {
        if self.unshown == 0 {
            return true;
        }
        let mut line = String::new();
        stamp(&mut line, Level::Warn);
        line.push_str(&format!("{} lines could not be shown: nobody read them, or stderr is broken\n", self.unshown));
        let told = self.put(line.as_bytes());
        if told {
            self.unshown = 0;
        }
        told
    }

    /// Writes whole lines; whether it could.
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

/// As many lines at a time as can be written at once; one that is longer alone.
fn chunks(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let first = lines.iter().position(|&byte| byte == b'\n')? + 1;
        let within =
            lines[..lines.len().min(WHOLE)].iter().rposition(|&byte| byte == b'\n').map_or(first, |end| end + 1);
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
        // What the pipe holds, what the writer took, and what waits is far less than this.
        let said = 16 * ROOM / 1024;
        let began = Instant::now();
        for _ in 0..said {
            say(&lines, &text);
            lines.settle();
        }
        // Without a limit to all waits together, it would be 20 ms each.
        assert!(began.elapsed() < said as u32 * WAIT / 4, "{:?}", began.elapsed());
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
        let said = ROOM / 1024 / 2;
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

    /// Takes a few bytes at a time, and none while it is full.
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
