//! Log files of bounded size and number, which survive a full disk and the loss of their folder.
//!
//! Lines wait in a buffer until they are flushed with one write. Lines that can't be written stay in
//! the buffer. Once it is full, further lines are lost and counted, and a line in their place says
//! so once there is room again. A file that reaches the system's limit of a file's size
//! (`ulimit -f`) is followed by the next. Only the end of the process can tear a line. Levels and
//! formats are not known here.

mod directory;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flexi_logger::DeferredNow;
use flexi_logger::writers::LogWriter;
use log::{Level, Record};
use nix::fcntl::Flock;

use self::directory::{current, last_line_of, line_id, lock_path, open_current};
use super::{Error, Rotation, line, stderr, write_notice, write_own};
use crate::lock::{Lock, is_at};

/// The size of the buffer, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// The end that is added to a torn line, so that it can't be taken for a whole one.
const TORN: &[u8] = b"\ttorn\n";

/// The time between two checks that the current file is still in its place.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest time between two reports on stderr.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A writer of log files.
pub(super) struct Files {
    shared: Arc<Shared>,
}

/// The state that the writer shares with [`super::Log`].
pub(super) struct Shared {
    state: Mutex<State>,
    /// The [`line_id`] of the last whole line of the files as they were opened.
    pub predecessor: Option<String>,
}

impl Shared {
    /// Returns the number of lines since the files were opened.
    pub(super) fn lines(&self) -> u64 {
        self.state().total
    }

    /// Writes out the buffer, into a new file if the current one was moved away.
    pub(super) fn reopen(&self) {
        let mut state = self.state();
        state.checked = None;
        state.flush();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    directory: PathBuf,
    name: String,
    rotation: Rotation,
    /// The current file. It is locked itself, in case the lock's own file is removed.
    file: Flock<File>,
    /// The lock on the folder's files: two processes would tear each other's lines and delete each
    /// other's files. Taken again if its file is removed.
    lock: Lock,
    /// The size of the current file, in bytes.
    size: u64,
    /// The numbers of the other files, the oldest first.
    numbers: VecDeque<u32>,
    /// The buffer. The first line may lack its beginning.
    waiting: Vec<u8>,
    /// The [`line_id`] of the last line that the files had when one of them was last missed, or when
    /// they were opened.
    follows: Option<String>,
    /// Whether the current file ends with the beginning of the buffer's first line.
    torn: bool,
    /// The number of lines lost since the last buffered line.
    lost: u64,
    /// The number of buffered lines.
    buffered: u64,
    /// The number of all lines, including lost ones.
    total: u64,
    /// The number of lines written since the last check that the file is in its place.
    unchecked: u64,
    /// The time of that check.
    checked: Option<Instant>,
    /// Whether the last flush failed.
    failing: bool,
    /// The time of the last report of a failure.
    last_report: Option<Instant>,
    /// Whether the present failure was reported.
    reported: bool,
}

impl Files {
    /// Opens the files, and continues those that exist.
    ///
    /// # Errors
    /// If another process writes them, or the current file can't be opened.
    pub(super) fn open(directory: &Path, name: &str, rotation: Rotation) -> Result<Self, Error> {
        fs::create_dir_all(directory)?;
        let lock = Lock::take(&lock_path(directory, name))?;
        let (file, size) = open_current(directory, name)?;
        let mut state = State {
            directory: directory.into(),
            name: name.into(),
            rotation,
            file,
            lock,
            size,
            numbers: VecDeque::new(),
            waiting: Vec::with_capacity(BUFFER_BYTES),
            follows: None,
            torn: false,
            lost: 0,
            buffered: 0,
            total: 0,
            unchecked: 0,
            checked: None,
            failing: false,
            last_report: None,
            reported: false,
        };
        state.numbers = state.existing_numbers()?;
        // A file that can't be read is no reason not to start.
        let predecessor = state.last_line().ok().flatten().map(|line| line_id(&line));
        state.follows.clone_from(&predecessor);
        state.remove_old();
        state.end_torn_line()?;
        Ok(Self { shared: Arc::new(Shared { state: Mutex::new(state), predecessor }) })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl LogWriter for Files {
    fn write(&self, now: &mut DeferredNow, record: &Record) -> io::Result<()> {
        self.shared.state().add(|waiting| line(waiting, now, record));
        Ok(())
    }

    /// Never fails: errors were reported on stderr, and the caller could do nothing about them.
    fn flush(&self) -> io::Result<()> {
        self.shared.state().flush();
        Ok(())
    }
}

impl State {
    /// Adds a line, if the buffer has room.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        self.total += 1;
        if self.waiting.len() >= BUFFER_BYTES && !self.failing {
            self.flush();
        }
        if self.waiting.len() >= BUFFER_BYTES {
            self.lost += 1;
            return;
        }
        self.add_gap();
        write(&mut self.waiting).expect("a Vec takes any text");
        self.waiting.push(b'\n');
        self.buffered += 1;
    }

    /// Adds a line about lost lines, if there are any.
    fn add_gap(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            write_gap(&mut self.waiting, lost).expect("a Vec takes any text");
        }
    }

    /// Writes out the buffer, and reports the first failure and its end.
    fn flush(&mut self) {
        let mut written = self.check_place().and_then(|()| self.write_out());
        if self.lost > 0 && self.waiting.len() < BUFFER_BYTES {
            self.add_gap();
            written = self.write_out();
        }
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                if std::mem::take(&mut self.reported) {
                    self.report("is written again");
                }
            }
            Err(error) if !self.failing => {
                self.failing = true;
                if self.last_report.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                    self.last_report = Some(Instant::now());
                    self.reported = true;
                    self.report(&format!("can't be written: {error}; going on, with what memory holds of it"));
                }
            }
            _ => {}
        }
    }

    /// Writes a line to stderr.
    fn report(&self, what: &str) {
        let what = format!("the log in {} {what}", self.directory.display());
        stderr::say(|line| write_notice(line, Level::Error, &what));
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.size > self.rotation.bytes && !self.torn {
            self.rotate()?;
        }
        loop {
            match self.write_current() {
                // The limit of a file's size (`ulimit -f`): the next file has room.
                Err(error) if is_too_large(&error) && self.size > 0 && !self.torn => self.rotate()?,
                written => return written,
            }
        }
    }

    fn write_current(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            let rest = &self.waiting[written..];
            if rest.is_empty() {
                self.unchecked += std::mem::take(&mut self.buffered);
                break Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if result.as_ref().is_err_and(is_too_large) {
            // The line that does not fit goes into the next file as a whole.
            let whole = self.waiting[..written].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            if (whole > 0 || !self.torn) && self.file.set_len(self.size + whole as u64).is_ok() {
                written = whole;
            }
        }
        self.size += written as u64;
        if let Some(last) = written.checked_sub(1) {
            self.torn = self.waiting[last] != b'\n';
            self.waiting.drain(..written);
        }
        result
    }

    /// Begins a new file. A call after a failure continues where that one failed.
    fn rotate(&mut self) -> io::Result<()> {
        // The file at the path may be another process's. Or an earlier attempt has renamed ours.
        if !is_at(&self.file, &current(&self.directory, &self.name)) {
            self.checked = None;
            return self.check_place();
        }
        self.unchecked = 0;
        let number = self.numbers.back().map_or(0, |last| last + 1);
        fs::rename(current(&self.directory, &self.name), self.numbered(number))?;
        (self.file, self.size) = open_current(&self.directory, &self.name)?;
        self.numbers.push_back(number);
        self.remove_old();
        Ok(())
    }

    fn remove_old(&mut self) {
        while self.numbers.len() > self.rotation.files {
            if let Some(oldest) = self.numbers.pop_front() {
                // A file that can't be removed is no reason to stop.
                let _ = fs::remove_file(self.numbered(oldest));
            }
        }
    }

    /// Checks once a second whether the current file, its folder or the lock was removed, and creates
    /// them again.
    ///
    /// # Errors
    /// If another process has taken the folder. Nothing is written there until that process ends.
    fn check_place(&mut self) -> io::Result<()> {
        if self.checked.is_some_and(|at| at.elapsed() < CHECK_INTERVAL) {
            return Ok(());
        }
        let in_place = is_at(&self.file, &current(&self.directory, &self.name));
        if !self.lock.is_in_place() {
            match self.renew_lock() {
                // The current file is locked: no other process can write here.
                Err(_) if in_place => {}
                renewed => renewed?,
            }
        }
        if in_place {
            self.unchecked = 0;
        } else {
            self.checked = None;
            self.continue_in_new_file()?;
        }
        self.checked = Some(Instant::now());
        Ok(())
    }

    /// Creates the current file again, which was moved or removed. Its first line names the last one
    /// of the file before.
    fn continue_in_new_file(&mut self) -> io::Result<()> {
        let was_removed = self.file.metadata()?.nlink() == 0;
        let last = self.last_line().ok().flatten();
        self.follows = last.map(|line| line_id(&line)).or(self.follows.take());
        (self.file, self.size) = open_current(&self.directory, &self.name)?;
        self.numbers = self.existing_numbers()?;
        if !was_removed {
            // It is somewhere else, with all that was written to it.
            self.unchecked = 0;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        if std::mem::take(&mut self.torn) {
            let end = waiting.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            waiting.drain(..end);
            self.unchecked += 1;
        }
        if let Some(last) = &self.follows {
            write_own(&mut self.waiting, Level::Info, &format!("log-continues after={last}"))?;
        }
        // The lines since the last check are lost with the file.
        let lost = std::mem::take(&mut self.unchecked);
        if lost > 0 {
            write_gap(&mut self.waiting, lost)?;
        }
        self.waiting.append(&mut waiting);
        self.end_torn_line()
    }

    fn renew_lock(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        self.lock = Lock::take(&lock_path(&self.directory, &self.name)).map_err(io::Error::other)?;
        Ok(())
    }

    /// Ends a line that an earlier process left torn in the current file.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let Some(last) = self.size.checked_sub(1) else { return Ok(()) };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        if byte != [b'\n'] {
            self.waiting.splice(0..0, TORN.iter().copied());
            // Its end has to be in the same file.
            self.torn = true;
        }
        Ok(())
    }

    /// Returns the last whole line of all files.
    fn last_line(&self) -> io::Result<Option<Vec<u8>>> {
        let mut found = last_line_of(&self.file, self.size)?;
        // The current file may have no line, or only a torn one.
        for &number in self.numbers.iter().rev() {
            if found.is_some() {
                break;
            }
            let file = File::open(self.numbered(number))?;
            found = last_line_of(&file, file.metadata()?.len())?;
        }
        Ok(found)
    }

    fn numbered(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{}_r{number:05}.log", self.name))
    }

    /// Returns the numbers of the existing files, in order.
    fn existing_numbers(&self) -> io::Result<VecDeque<u32>> {
        let prefix = format!("{}_r", self.name);
        let number = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(".log")?.parse::<u32>().ok();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            numbers.extend(entry?.file_name().to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers.into())
    }
}

fn is_too_large(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

fn write_gap(to: &mut Vec<u8>, lost: u64) -> io::Result<()> {
    write_own(to, Level::Warn, &format!("log-gap lost={lost}"))
}
