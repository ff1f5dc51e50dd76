//! The log: files of bounded size and number, and a copy on stderr.
//!
//! A line is `2026-11-23T09:41:07.123456Z INFO  what happened`. The time is UTC with microseconds.
//! The clock is read once per turn of the program's loop ([`Log::tick`]), not once per line, and only
//! [`Log::flush`] empties the buffer. So a line costs some 150 ns, and 250 ns more if it is written
//! as a JSON object, which is made of the line.
//!
//! A thread of its own writes to stderr ([`stderr`]), so that a reader that does not read blocks
//! nothing else.
//!
//! `flexi_logger` writes through our own writer of files. On a full disk, its own one writes two
//! lines to stderr for each lost line, and loses its buffer when it begins a new file.

mod files;
mod json;
pub mod stderr;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use clap::ValueEnum;
use files::{Files, Shared};
use flexi_logger::writers::LogWriter;
use flexi_logger::{DeferredNow, FlexiLoggerError, LogSpecification, Logger, LoggerHandle, Record};
use log::{Level, LevelFilter};
use thiserror::Error;

use giostra_protocol::escape;

use crate::lock;

thread_local! {
    /// The time of this thread's lines, if it has called [`Log::tick`].
    static NOW: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The buffer of this thread's last line, reused for the next.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// Whether the lines of this process are JSON objects.
static JSON: AtomicBool = AtomicBool::new(false);

/// The length of a line's time, and of its time and level with the spaces behind each, in bytes.
const TIME_BYTES: usize = 27;
const HEAD_BYTES: usize = TIME_BYTES + " DEBUG ".len();

/// The largest buffer that is reused, in bytes.
const MAX_REUSED: usize = 1 << 16;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As `2026-11-23T09:41:07.123456Z INFO  what happened`.
    #[default]
    Text,
    /// As a JSON object, which has the line's words under names.
    Json,
}

/// Sets the format of all lines of this process from now on, those on stderr included; text by
/// default.
pub fn set_format(format: Format) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
}

/// The size and the number of log files.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// The size in bytes after which the next flush begins a new file.
    pub bytes: u64,
    /// The number of files besides the current one.
    pub files: usize,
}

/// Why the log can't be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// When another process writes the files.
    #[error(transparent)]
    Locked(#[from] lock::Error),
    /// When the files can't be opened, or no thread can be started.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// When the process already has a logger.
    #[error(transparent)]
    Logger(#[from] FlexiLoggerError),
}

/// The process's log.
pub struct Log {
    handle: LoggerHandle,
    /// The files; `None` if the log goes to stderr alone.
    files: Option<Arc<Shared>>,
}

impl Log {
    /// Starts a log on stderr alone, where each line is written at once. If stderr is not read, lines
    /// wait in memory; those that do not fit are lost and counted. Dropping the log, or flushing it,
    /// waits for the lines on their way.
    ///
    /// # Errors
    /// If the process already has a logger, or no thread can be started.
    pub fn to_stderr(level: LevelFilter) -> Result<Self, Error> {
        stderr::start()?;
        Self::start(level, Box::new(Stderr), None)
    }

    /// Starts a log in the files `NAME.log` in `directory`, with a copy of the lines up to level
    /// `stderr` on stderr.
    ///
    /// `NAME.log` is a link to the current file, `NAME_rCURRENT.log`; the others are
    /// `NAME_r00000.log` and so on. Lines wait in a buffer until [`Self::flush`]. If they can't be
    /// written, a line on stderr says so, and the program continues. Lines that do not fit into the
    /// buffer are lost: a line `log-gap lost=N` then stands for N of them.
    ///
    /// # Errors
    /// If another process writes the files, or they can't be opened.
    pub fn to_files(
        directory: &Path,
        name: &str,
        rotation: Rotation,
        level: LevelFilter,
        stderr: LevelFilter,
    ) -> Result<Self, Error> {
        stderr::start()?;
        let files = Files::open(directory, name, rotation)?;
        let shared = files.shared();
        let log = Self::start(level, Box::new(Copied { files, stderr }), Some(shared))?;
        // A line has the same time in both places.
        log.tick();
        Ok(log)
    }

    fn start(level: LevelFilter, to: Box<dyn LogWriter>, files: Option<Arc<Shared>>) -> Result<Self, Error> {
        let handle = Logger::with(specification(level))
            .log_to_writer(to)
            // A stderr on a full disk is no reason to panic.
            .panic_if_error_channel_is_broken(false)
            .start()?;
        Ok(Self { handle, files })
    }

    /// Sets the time for this thread's lines until the next call.
    pub fn tick(&self) {
        NOW.with_borrow_mut(|now| {
            let now = now.get_or_insert_default();
            now.clear();
            write_time(now);
        });
    }

    /// Returns the number of lines since the files were opened, including those in the buffer.
    pub fn lines(&self) -> u64 {
        self.files.as_ref().map_or(0, |files| files.lines())
    }

    /// Returns the time and the CRC-32 of the last whole line of the files when they were opened, such
    /// as `2026-11-23T09:41:07.123456Z/0a1b2c3d`. The CRC excludes the line feed. `None` without such
    /// a line.
    pub fn predecessor(&self) -> Option<&str> {
        self.files.as_ref()?.predecessor.as_deref()
    }

    /// Writes out the buffer.
    pub fn flush(&self) {
        self.handle.flush();
    }

    /// Writes out the buffer, into a new file if the current one was moved away. A line
    /// `log-continues after=..` is the first there, and names the last line of the file before as
    /// [`Self::predecessor`] does. Without this call, that happens within a second of work.
    pub fn reopen(&self) {
        if let Some(files) = &self.files {
            files.reopen();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        NOW.with_borrow_mut(Option::take);
        self.handle.flush();
        stderr::finish();
    }
}

/// The writer of a log on stderr alone.
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

/// The writer of a log in files, with a copy on stderr up to a level.
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

    /// Flushes the files first: they are the evidence.
    fn flush(&self) -> io::Result<()> {
        self.files.flush()?;
        stderr::settle();
        Ok(())
    }
}

fn specification(level: LevelFilter) -> LogSpecification {
    LogSpecification::builder().default(level).build()
}

/// Writes a record as one line, whatever it contains: a name in it can neither begin another line nor
/// mark this one as torn.
fn line(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    // Taken out, because formatting may itself log. The check for plain text costs some 10 ns.
    let mut text = LINE.take();
    text.clear();
    stamp(&mut text, record.level());
    let head = text.len();
    let formatted = text.write_fmt(*record.args()).map_err(io::Error::other);
    let written = formatted.and_then(|()| match escape::is_plain(&text[head..]) {
        true => write_formatted(w, &text),
        false => {
            let mut escaped = text[..head].to_string();
            escape::write_line(&mut escaped, &text[head..]).map_err(io::Error::other)?;
            write_formatted(w, &escaped)
        }
    });
    if text.capacity() <= MAX_REUSED {
        LINE.set(text);
    }
    written
}

/// Writes a record as it is, for people: a program's output on stderr has several lines.
fn lines(w: &mut dyn Write, _: &mut DeferredNow, record: &Record) -> io::Result<()> {
    let mut head = String::new();
    stamp(&mut head, record.level());
    write_formatted(w, &format!("{head}{}", record.args()))
}

/// Writes a line, which begins with its [`stamp`], in the format of this process.
fn write_formatted(w: &mut dyn Write, line: &str) -> io::Result<()> {
    if !JSON.load(Ordering::Relaxed) {
        return w.write_all(line.as_bytes());
    }
    w.write_all(json_of(line).as_bytes())
}

/// Returns the JSON object of a line of the log, as [`Format::Json`] writes it. `giostra_audit` makes
/// the line of it again.
pub fn json_of(line: &str) -> String {
    let (head, text) = line.split_at_checked(HEAD_BYTES).unwrap_or(("", line));
    let (time, level) = head.split_once(' ').unwrap_or_default();
    let mut object = String::with_capacity(2 * line.len() + HEAD_BYTES);
    json::write_object(&mut object, time, level.trim_end(), text);
    object
}

/// Writes a line that has neither time nor level as a text.
fn write_notice(w: &mut dyn Write, level: Level, what: &str) -> io::Result<()> {
    if !JSON.load(Ordering::Relaxed) {
        return w.write_all(what.as_bytes());
    }
    let mut line = String::new();
    stamp(&mut line, level);
    write_formatted(w, &(line + what))
}

/// Writes a line about the log itself, with its line feed. It counts as none of the log's lines.
fn write_own(to: &mut Vec<u8>, level: Level, what: &str) -> io::Result<()> {
    let mut line = String::new();
    stamp(&mut line, level);
    line.push_str(what);
    write_formatted(to, &line)?;
    to.push(b'\n');
    Ok(())
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
