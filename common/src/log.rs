//! The log: files of bounded size and number, a copy on stderr, flushed when the program says so.
//!
//! A line is `2026-11-23T09:41:07.123456Z INFO  what happened`. The time is UTC with microseconds.
//! It is read and written out once a turn of the program's loop ([`Log::tick`]), not once a line:
//! that, and a buffer that only [`Log::flush`] empties, makes a line cost some 150 ns.
//!
//! What goes to stderr is written by a thread of its own ([`stderr`]): a reader that does not read
//! stops nobody.
//!
//! The files are written by a writer of our own behind `flexi_logger`: its own one tells a full
//! disk to nobody but stderr, two lines for each lost one, and loses its buffer when it begins a
//! new file on one.

mod files;
pub mod stderr;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use files::{Files, Kept};
use flexi_logger::writers::LogWriter;
use flexi_logger::{DeferredNow, FlexiLoggerError, LogSpecification, Logger, LoggerHandle, Record};
use log::{Level, LevelFilter};
use thiserror::Error;

use giostra_protocol::escape;

use crate::lock;

thread_local! {
    /// The time that this thread's lines bear, if it keeps one.
    static NOW: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The memory of this thread's last line, for the next.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// The most memory of a line that is kept for the next.
const MOST_KEPT: usize = 1 << 16;

/// How the log is kept in files.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Bytes from which on the next flush begins a new file.
    pub bytes: u64,
    /// Files kept besides the current one.
    pub files: usize,
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum Error {
    /// When another process writes the files.
    #[error(transparent)]
    Locked(#[from] lock::Error),
    /// When the files can't be opened, or the system gives no thread.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// When the process has a logger already.
    #[error(transparent)]
    Logger(#[from] FlexiLoggerError),
}

/// The process's log.
pub struct Log {
    handle: LoggerHandle,
    /// `None` if it goes to stderr alone.
    kept: Option<Arc<Kept>>,
}

impl Log {
    /// To stderr alone, each line at once, unless nobody reads it: then what memory can't hold is
    /// missing, and counted. Dropping this, or flushing the logger, waits for what is on its
    /// way there.
    pub fn to_stderr(level: LevelFilter) -> Result<Self, Error> {
        stderr::start()?;
        Self::start(level, Box::new(Stderr), None)
    }

    /// To `NAME.log` in `directory`, rotated; lines up to `stderr` to stderr too.
    ///
    /// `NAME.log` is a link to the current file, `NAME_rCURRENT.log`; the others are
    /// `NAME_r00000.log` and so on. Lines wait in a buffer until [`Self::flush`]. If they can't
    /// be written, stderr says so, the program goes on, and what memory can't hold is missing:
    /// the line `log-gap lost=N` then stands for N others.
    pub fn to_files(
        directory: &Path,
        name: &str,
        rotation: Rotation,
        level: LevelFilter,
        stderr: LevelFilter,
    ) -> Result<Self, Error> {
        stderr::start()?;
        let files = Files::open(directory, name, rotation)?;
        let kept = files.kept();
        let log = Self::start(level, Box::new(Copied { files, stderr }), Some(kept))?;
        // A line has the same time in both places.
        log.tick();
        Ok(log)
    }

    fn start(level: LevelFilter, to: Box<dyn LogWriter>, kept: Option<Arc<Kept>>) -> Result<Self, Error> {
        let handle = Logger::with(specification(level))
            .log_to_writer(to)
            // A stderr on a full disk is no reason to end.
            .panic_if_error_channel_is_broken(false)
            .start()?;
        Ok(Self { handle, kept })
    }

    /// Sets the time for this thread's lines until the next call.
    pub fn tick(&self) {
        NOW.with_borrow_mut(|now| {
            let now = now.get_or_insert_default();
            now.clear();
            write_time(now);
        });
    }

    /// Lines written to the files since they were opened, those included that still wait in the
    /// buffer.
    pub fn lines(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.lines())
    }

    /// The last whole line that was in the files when they were opened: its time and the CRC-32 of
    /// all of it without the line feed, `2026-11-23T09:41:07.123456Z/0a1b2c3d`. `None` if there
    /// was none.
    pub fn predecessor(&self) -> Option<&str> {
        self.kept.as_ref()?.predecessor.as_deref()
    }

    /// Writes out what waits in the buffer.
    pub fn flush(&self) {
        self.handle.flush();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        NOW.with_borrow_mut(Option::take);
        self.handle.flush();
        stderr::finish();
    }
}

/// Stderr as the only place of the log.
struct Stderr;

impl LogWriter for Stderr {
    fn write(&self, now: &mut DeferredNow, record: &Record) -> io::Result<()> {
        stderr::say(|to| lines(to, now, record));
        stderr::settle();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        stderr::finish();
        Ok(())
    }
}

/// Files, and stderr for the lines up to a level.
struct Copied {
    files: Files,
    stderr: LevelFilter,
}

impl LogWriter for Copied {
    fn write(&self, now: &mut DeferredNow, record: &Record) -> io::Result<()> {
        if record.level() <= self.stderr {
            stderr::say(|to| line(to, now, record));
        }
        self.files.write(now, record)
    }

    /// The files first: they are the evidence.
    fn flush(&self) -> io::Result<()> {
        self.files.flush()?;
        stderr::settle();
        Ok(())
    }
}

fn specification(level: LevelFilter) -> LogSpecification {
    LogSpecification::builder().default(level).build()
}

/// One line, whatever is in it: what a file, a folder or a peer is called can't begin another, nor
/// end this one as torn.
fn line(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    // Taken out, since what is written may itself log. Looked through once: that costs a line some 10
    // ns.
    let mut text = LINE.take();
    text.clear();
    stamp(&mut text, record.level());
    let head = text.len();
    let formatted = text.write_fmt(*record.args()).map_err(io::Error::other);
    let written = formatted.and_then(|()| match escape::is_plain(&text[head..]) {
        true => w.write_all(text.as_bytes()),
        false => {
            let mut escaped = text[..head].to_string();
            escape::write_line(&mut escaped, &text[head..]).map_err(io::Error::other)?;
            w.write_all(escaped.as_bytes())
        }
    });
    if text.capacity() <= MOST_KEPT {
        LINE.set(text);
    }
    written
}

/// Lines for people alone: what a program has said on its stderr has several.
fn lines(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    let mut head = String::new();
    stamp(&mut head, record.level());
    write!(w, "{head}{}", record.args())
}

fn stamp(text: &mut String, level: Level) {
    NOW.with_borrow(|now| match now {
        Some(now) => text.push_str(now),
        None => write_time(text),
    });
    write!(text, " {:<5} ", level.as_str()).expect("a String takes any text");
}

fn write_time(text: &mut String) {
    write!(text, "{}", humantime::format_rfc3339_micros(SystemTime::now())).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        let folder = "log\n2026-11-28T21:00:00.000000Z INFO  listening x\u{202e}\ttorn";
        let record = |what: std::fmt::Arguments<'_>, out: &mut Vec<u8>| {
            line(out, &mut DeferredNow::new(), &Record::builder().level(Level::Info).args(what).build()).unwrap();
        };
        record(format_args!("listening log={folder}"), &mut out);
        let written = String::from_utf8(out).unwrap();
        let (_, text) = written.split_once(' ').unwrap();
        assert_eq!(text, r"INFO  listening log=log\n2026-11-28T21:00:00.000000Z INFO  listening x\u{202e}\ttorn");
    }
}
