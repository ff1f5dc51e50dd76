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
use std::sync::Arc;
use std::time::SystemTime;

use files::{Files, Kept};
use flexi_logger::{DeferredNow, Duplicate, FlexiLoggerError, LogSpecification, Logger, LoggerHandle, Record};
use log::{Level, LevelFilter};

use crate::shown;

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
    /// `None` if it goes to stderr alone.
    kept: Option<Arc<Kept>>,
}

impl Log {
    /// To stderr alone, each line at once.
    pub fn to_stderr(level: LevelFilter) -> Result<Self, FlexiLoggerError> {
        let handle = Logger::with(specification(level))
            .log_to_stderr()
            // A stderr on a full disk is no reason to end.
            .panic_if_error_channel_is_broken(false)
            .format(lines)
            .start()?;
        Ok(Self { handle, kept: None })
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
        let files = Files::open(directory, name, rotation)?;
        let kept = files.kept();
        let handle = Logger::with(specification(level))
            .log_to_writer(Box::new(files))
            .duplicate_to_stderr(duplicate(stderr))
            // Nor is one that is on a full disk, too.
            .panic_if_error_channel_is_broken(false)
            .format(line)
            .start()?;
        Ok(Self { handle, kept: Some(kept) })
    }

    /// Sets the time for this thread's lines until the next call.
    pub fn tick(&self) {
        NOW.with_borrow_mut(|now| {
            let now = now.get_or_insert_default();
            now.clear();
            write_time(now);
        });
    }

    /// Lines written to the files since they were opened, those included that still wait in the buffer.
    pub fn lines(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.lines())
    }

    /// The last whole line that was in the files when they were opened: its time and the CRC-32 of all
    /// of it without the line feed, `2026-11-23T09:41:07.123456Z/0a1b2c3d`. `None` if there was none.
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

/// One line, whatever is in it: what a file, a folder or a peer is called can't begin another, nor end this one as torn.
fn line(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    stamp(w, record.level())?;
    let mut line = InALine { out: w, failed: Ok(()) };
    match fmt::write(&mut line, *record.args()) {
        Ok(()) => Ok(()),
        Err(_) => line.failed.and(Err(io::Error::other("a value could not be formatted"))),
    }
}

/// Lines for people alone: what a program has said on its stderr has several.
fn lines(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    stamp(w, record.level())?;
    w.write_fmt(*record.args())
}

fn stamp(w: &mut dyn Write, level: Level) -> io::Result<()> {
    let level = level.as_str();
    NOW.with_borrow(|now| match now {
        Some(now) => write!(w, "{now} {level:<5} "),
        None => {
            let mut now = String::new();
            write_time(&mut now);
            write!(w, "{now} {level:<5} ")
        }
    })
}

/// What is written to it goes out with [`shown::write_line`].
struct InALine<'a> {
    out: &'a mut dyn Write,
    failed: io::Result<()>,
}

impl fmt::Write for InALine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        struct Out<'a, 'b>(&'a mut InALine<'b>);
        impl fmt::Write for Out<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.failed = self.0.out.write_all(text.as_bytes());
                if self.0.failed.is_ok() { Ok(()) } else { Err(fmt::Error) }
            }
        }
        shown::write_line(&mut Out(self), text)
    }
}

fn write_time(text: &mut String) {
    use std::fmt::Write;
    write!(text, "{}", humantime::format_rfc3339_micros(SystemTime::now())).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        let folder = "log\n2026-11-28T21:00:00.000000Z INFO  listening x\u{202e}\ttorn";
        let record = |what: fmt::Arguments<'_>, out: &mut Vec<u8>| {
            line(out, &mut DeferredNow::new(), &Record::builder().level(Level::Info).args(what).build()).unwrap();
        };
        record(format_args!("listening log={folder}"), &mut out);
        let written = String::from_utf8(out).unwrap();
        let (_, text) = written.split_once(' ').unwrap();
        assert_eq!(text, r"INFO  listening log=log\n2026-11-28T21:00:00.000000Z INFO  listening x\u{202e}\ttorn");
    }
}
