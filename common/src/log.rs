//! The log: files of bounded size and number, a copy on stderr, flushed when the program says so.
//!
//! A line is `2026-11-23T09:41:07.123456Z INFO  what happened`. The time is UTC with microseconds. It is read and written
//! out once a turn of the program's loop ([`Log::tick`]), not once a line: that, and a buffer that only [`Log::flush`]
//! empties, makes a line cost some 150 ns.
//!
//! The files are written by a writer of our own behind `flexi_logger`: its own one tells a full disk to nobody but stderr, two lines
//! for each lost one, and loses its buffer when it begins a new file on one.

mod files;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use files::Files;
use flexi_logger::{DeferredNow, Duplicate, FlexiLoggerError, LogSpecification, Logger, LoggerHandle, Record};
use log::{Level, LevelFilter};

thread_local! {
    /// The time that this thread's lines bear, if it keeps one.
    static NOW: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How the log is kept in files.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Bytes from which on the next flush begins a new file.
    pub bytes: u64,
    /// Files kept besides the current one.
    pub files: usize,
}

/// The process's log.
pub struct Log {
    handle: LoggerHandle,
}

impl Log {
    /// To stderr alone, each line at once.
    pub fn to_stderr(level: LevelFilter) -> Result<Self, FlexiLoggerError> {
        let handle = Logger::with(specification(level))
            .log_to_stderr()
            // A stderr on a full disk is no reason to end.
            .panic_if_error_channel_is_broken(false)
            .format(line)
            .start()?;
        Ok(Self { handle })
    }

    /// To `NAME.log` in `directory`, rotated; lines up to `stderr` to stderr too.
    ///
    /// `NAME.log` is a link to the current file, `NAME_rCURRENT.log`; the others are `NAME_r00000.log` and so on.
    /// Lines wait in a buffer until [`Self::flush`]. If they can't be written, stderr says so, the program goes on, and what memory
    /// can't hold is missing: the line `log-gap lost=N` then stands for N others.
    pub fn to_files(
        directory: &Path,
        name: &str,
        rotation: Rotation,
        level: LevelFilter,
        stderr: LevelFilter,
    ) -> Result<Self, FlexiLoggerError> {
        let handle = Logger::with(specification(level))
            .log_to_writer(Box::new(Files::open(directory, name, rotation)?))
            .duplicate_to_stderr(duplicate(stderr))
            // Nor is one that is on a full disk, too.
            .panic_if_error_channel_is_broken(false)
            .format(line)
            .start()?;
        Ok(Self { handle })
    }

    /// Sets the time for this thread's lines until the next call.
    pub fn tick(&self) {
        NOW.with_borrow_mut(|now| {
            let now = now.get_or_insert_default();
            now.clear();
            write_time(now);
        });
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
    }
}

fn specification(level: LevelFilter) -> LogSpecification {
    LogSpecification::builder().default(level).build()
}

fn duplicate(level: LevelFilter) -> Duplicate {
    match level {
        LevelFilter::Off => Duplicate::None,
        LevelFilter::Error => Duplicate::Error,
        LevelFilter::Warn => Duplicate::Warn,
        LevelFilter::Info => Duplicate::Info,
        LevelFilter::Debug => Duplicate::Debug,
        LevelFilter::Trace => Duplicate::Trace,
    }
}

fn line(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    stamp(w, record.level(), *record.args())
}

fn stamp(w: &mut dyn Write, level: Level, what: fmt::Arguments) -> io::Result<()> {
    let level = level.as_str();
    NOW.with_borrow(|now| match now {
        Some(now) => write!(w, "{now} {level:<5} {what}"),
        None => {
            let mut now = String::new();
            write_time(&mut now);
            write!(w, "{now} {level:<5} {what}")
        }
    })
}

fn write_time(text: &mut String) {
    use std::fmt::Write;
    write!(text, "{}", humantime::format_rfc3339_micros(SystemTime::now())).expect("a String takes any text");
}
