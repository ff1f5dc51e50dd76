//! The log: files of bounded size and number, a copy on stderr, flushed when the program says so.
//!
//! A line is `2026-11-23T09:41:07.123456Z INFO  what happened`. The time is UTC with microseconds. It is read and written
//! out once a turn of the program's loop ([`Log::tick`]), not once a line: that, and a buffer that only [`Log::flush`]
//! empties, makes a line cost some 150 ns.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use flexi_logger::{
    Cleanup, Criterion, DeferredNow, Duplicate, FileSpec, FlexiLoggerError, LogSpecification, Logger, LoggerHandle,
    Naming, Record, WriteMode,
};
use log::LevelFilter;

/// Bytes that a log line may wait in.
const BUFFER_BYTES: usize = 256 << 10;

thread_local! {
    /// The time that this thread's lines bear, if it keeps one.
    static NOW: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How the log is kept in files.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Bytes from which on a new file is begun.
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
        let handle = Logger::with(specification(level)).log_to_stderr().format(line).start()?;
        Ok(Self { handle })
    }

    /// To `NAME.log` in `directory`, rotated; lines up to `stderr` to stderr too.
    ///
    /// `NAME.log` is a link to the current file, `NAME_rCURRENT.log`; the others are `NAME_r00000.log` and so on.
    /// Lines wait in a buffer until [`Self::flush`].
    pub fn to_files(
        directory: &Path,
        name: &str,
        rotation: Rotation,
        level: LevelFilter,
        stderr: LevelFilter,
    ) -> Result<Self, FlexiLoggerError> {
        let handle = Logger::with(specification(level))
            .log_to_file(FileSpec::default().directory(directory).basename(name).suppress_timestamp())
            .append()
            .create_symlink(directory.join(format!("{name}.log")))
            .rotate(Criterion::Size(rotation.bytes), Naming::Numbers, Cleanup::KeepLogFiles(rotation.files))
            .write_mode(WriteMode::BufferDontFlushWith(BUFFER_BYTES))
            .duplicate_to_stderr(duplicate(stderr))
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
    NOW.with_borrow(|now| match now {
        Some(now) => write!(w, "{now} {:<5} {}", record.level().as_str(), record.args()),
        None => {
            let mut now = String::new();
            write_time(&mut now);
            write!(w, "{now} {:<5} {}", record.level().as_str(), record.args())
        }
    })
}

fn write_time(text: &mut String) {
    use std::fmt::Write;
    write!(text, "{}", humantime::format_rfc3339_micros(SystemTime::now())).expect("a String takes any text");
}
