//! Log files of bounded size and number, which live on through a full disk and without their
//! folder.
//!
//! Lines wait in memory until they are flushed: one write for all of them. What can't be written
//! waits on, as long as there is room for it in memory; what comes then is lost, and counted: once
//! there is room again, a line says so in its place. A file that reaches the system's limit of a
//! file's size (`ulimit -f`) is followed by the next. Lines are never torn but by the end of the
//! process. Knows nothing of levels and formats.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flexi_logger::DeferredNow;
use flexi_logger::writers::LogWriter;
use log::{Level, Record};
use nix::fcntl::Flock;

use super::{Error, Rotation, line, stamp, stderr};
use crate::lock::{self, Lock, is_at};

/// Bytes that lines may wait in.
const BUFFER_BYTES: usize = 256 << 10;

/// Ends a line that a process left torn: it can't be taken for a whole one.
const TORN: &[u8] = b"\ttorn\n";

/// The least that is read at once of a file's end.
const BLOCK: u64 = 4096;

/// Bytes of a line's time.
const TIME_BYTES: usize = 27;

/// How often to look whether the current file is still in its place.
const LOOK: Duration = Duration::from_secs(1);

/// The least time between two complaints.
const SILENCE: Duration = Duration::from_secs(10);

/// The files, one of them the current one.
pub(super) struct Files {
    kept: Arc<Kept>,
}

/// What is known of the files.
pub(super) struct Kept {
    state: Mutex<State>,
    /// The last whole line that was there before, as [`told`] tells it.
    pub predecessor: Option<String>,
}

impl Kept {
    /// Lines since the files were opened.
    pub(super) fn lines(&self) -> u64 {
        self.state().total
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    directory: PathBuf,
    name: String,
    rotation: Rotation,
    /// Locked, so that it is nobody else's also when the lock's own file was removed.
    file: Flock<File>,
    /// Two processes that write the same files would tear each other's lines, and delete each
    /// other's files. Taken again if somebody has removed its file.
    lock: Lock,
    /// Bytes in the current file.
    size: u64,
    /// The numbers of the others, the oldest first.
    numbers: VecDeque<u32>,
    /// Lines to be written; the first may lack its beginning.
    waiting: Vec<u8>,
    /// Whether the beginning of the first waiting line is in the file.
    torn: bool,
    /// Lines that there was no room for since the last that there was.
    lost: u64,
    /// How many are waiting.
    buffered: u64,
    /// How many there were, lost ones included.
    total: u64,
    /// Lines written since the file was last seen in its place.
    unseen: u64,
    seen: Option<Instant>,
    failing: bool,
    /// When that was told for the last time.
    complained: Option<Instant>,
    /// Whether that was told of this time.
    told: bool,
}

impl Files {
    /// Goes on with the files that are there. An error if none can be opened.
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
            torn: false,
            lost: 0,
            buffered: 0,
            total: 0,
            unseen: 0,
            seen: None,
            failing: false,
            complained: None,
            told: false,
        };
        state.numbers = state.numbers_there()?;
        // Only evidence: a file that can't be read is no reason not to start.
        let predecessor = state.last_line().ok().flatten().map(|line| told(&line));
        state.remove_old();
        state.begin_on_a_new_line()?;
        Ok(Self { kept: Arc::new(Kept { state: Mutex::new(state), predecessor }) })
    }

    pub(super) fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept)
    }
}

impl LogWriter for Files {
    fn write(&self, now: &mut DeferredNow, record: &Record) -> io::Result<()> {
        self.kept.state().add(|waiting| line(waiting, now, record));
        Ok(())
    }

    /// Never an error: it has been told already, and nobody could do anything about it.
    fn flush(&self) -> io::Result<()> {
        self.kept.state().flush();
        Ok(())
    }
}

impl State {
    /// Adds a line, if there is room for it.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        self.total += 1;
        if self.waiting.len() >= BUFFER_BYTES && !self.failing {
            self.flush();
        }
        if self.waiting.len() >= BUFFER_BYTES {
            self.lost += 1;
            return;
        }
        self.tell_of_gap();
        write(&mut self.waiting).expect("a Vec takes any text");
        self.waiting.push(b'\n');
        self.buffered += 1;
    }

    fn tell_of_gap(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            write_gap(&mut self.waiting, lost).expect("a Vec takes any text");
        }
    }

    /// Writes out what waits, as far as possible, and complains if that is not all.
    fn flush(&mut self) {
        let mut written = self.look().and_then(|()| self.write_out());
        if self.lost > 0 && self.waiting.len() < BUFFER_BYTES {
            self.tell_of_gap();
            written = self.write_out();
        }
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                if std::mem::take(&mut self.told) {
                    self.tell("is written again");
                }
            }
            Err(error) if !self.failing => {
                self.failing = true;
                if self.complained.is_none_or(|at| at.elapsed() >= SILENCE) {
                    self.complained = Some(Instant::now());
                    self.told = true;
                    self.tell(&format!("can't be written: {error}; going on, with what memory holds of it"));
                }
            }
            _ => {}
        }
    }

    /// Says it on stderr, which may be as full as the disk.
    fn tell(&self, what: &str) {
        stderr::say(|line| write!(line, "the log in {} {what}", self.directory.display()));
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.size > self.rotation.bytes && !self.torn {
            self.rotate()?;
        }
        loop {
            match self.write_into_this_file() {
                // The limit of a file's size (`ulimit -f`): another file has room.
                Err(error) if is_too_large(&error) && self.size > 0 && !self.torn => self.rotate()?,
                written => return written,
            }
        }
    }

    fn write_into_this_file(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            let rest = &self.waiting[written..];
            if rest.is_empty() {
                self.unseen += std::mem::take(&mut self.buffered);
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
            // The line that does not fit whole goes into the next file.
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

    /// Begins a new file. Can be tried again if it fails half-way.
    fn rotate(&mut self) -> io::Result<()> {
        // It may not be ours: another process's, made in its place. Or it was renamed in an earlier
        // attempt.
        if !is_at(&self.file, &current(&self.directory, &self.name)) {
            self.seen = None;
            return self.look();
        }
        self.unseen = 0;
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
                // One that can't be removed is not worth stopping for.
                let _ = fs::remove_file(self.numbered(oldest));
            }
        }
    }

    /// Looks now and then whether somebody has taken the current file away, or its folder, or the
    /// lock: they are then made anew.
    ///
    /// # Errors
    /// If another process has the folder by now: nothing is written there any more, unless that one
    /// ends.
    fn look(&mut self) -> io::Result<()> {
        if self.seen.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        let in_place = is_at(&self.file, &current(&self.directory, &self.name));
        if !self.lock.is_in_place() {
            match self.renew_lock() {
                // The current file is locked: nobody else can write here.
                Err(_) if in_place => {}
                renewed => renewed?,
            }
        }
        if in_place {
            self.unseen = 0;
        } else {
            self.seen = None;
            (self.file, self.size) = open_current(&self.directory, &self.name)?;
            self.numbers = self.numbers_there()?;
            let mut waiting = std::mem::take(&mut self.waiting);
            if std::mem::take(&mut self.torn) {
                let end = waiting.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                waiting.drain(..end);
                self.unseen += 1;
            }
            // What was written since the last look went with the file.
            let lost = std::mem::take(&mut self.unseen);
            if lost > 0 {
                write_gap(&mut self.waiting, lost)?;
            }
            self.waiting.append(&mut waiting);
            self.begin_on_a_new_line()?;
        }
        self.seen = Some(Instant::now());
        Ok(())
    }

    fn renew_lock(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        self.lock = Lock::take(&lock_path(&self.directory, &self.name)).map_err(io::Error::other)?;
        Ok(())
    }

    /// Ends the line that a process left torn in the current file.
    fn begin_on_a_new_line(&mut self) -> io::Result<()> {
        let Some(last) = self.size.checked_sub(1) else { return Ok(()) };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        if byte != [b'\n'] {
            self.waiting.splice(0..0, TORN.iter().copied());
            // It ends in the file in which it stands.
            self.torn = true;
        }
        Ok(())
    }

    /// The last whole line of all the files.
    fn last_line(&self) -> io::Result<Option<Vec<u8>>> {
        let mut found = last_line_of(&self.file, self.size)?;
        // The current file may have none, or nothing but a torn one.
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

    /// The numbers of the files that are there, in order.
    fn numbers_there(&self) -> io::Result<VecDeque<u32>> {
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

/// The last whole line of a file of that size, without its line feed.
fn last_line_of(file: &File, size: u64) -> io::Result<Option<Vec<u8>>> {
    let (mut start, mut end_of_file) = (size, Vec::new());
    loop {
        let whole = end_of_file.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let mut lines = end_of_file[..whole].split_inclusive(|&byte| byte == b'\n').rev().peekable();
        while let Some(line) = lines.next() {
            // The beginning of the first one may not have been read yet.
            if lines.peek().is_none() && start > 0 {
                break;
            }
            if !line.ends_with(TORN) {
                return Ok(Some(line[..line.len() - 1].to_vec()));
            }
        }
        if start == 0 {
            return Ok(None);
        }
        // As much again, so that a long line is not looked through too often.
        let more = BLOCK.max(end_of_file.len() as u64).min(start);
        start -= more;
        let mut block = vec![0; more.try_into().map_err(io::Error::other)?];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut end_of_file);
        end_of_file = block;
    }
}

/// A line as it can be told in one word: its time, and a checksum of all of it.
fn told(line: &[u8]) -> String {
    let time = line.split(|&byte| byte == b' ').next().and_then(|time| str::from_utf8(time).ok());
    let time = time.filter(|time| time.len() <= TIME_BYTES && time.bytes().all(|byte| byte.is_ascii_graphic()));
    format!("{}/{:08x}", time.filter(|time| !time.is_empty()).unwrap_or("?"), crc32fast::hash(line))
}

fn is_too_large(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

fn write_gap(to: &mut Vec<u8>, lost: u64) -> io::Result<()> {
    let mut line = String::new();
    stamp(&mut line, Level::Warn);
    writeln!(to, "{line}log-gap lost={lost}")
}

fn current(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}_rCURRENT.log"))
}

fn lock_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.lock"))
}

/// Opens and locks the current file, with its folder and the link to it. And its size.
fn open_current(directory: &Path, name: &str) -> io::Result<(Flock<File>, u64)> {
    fs::create_dir_all(directory)?;
    let path = current(directory, name);
    let file = loop {
        let file = File::options().create(true).read(true).append(true).open(&path)?;
        let file = lock::hold(file, &path).map_err(io::Error::other)?;
        // Whoever had it may have given it another name in between.
        if is_at(&file, &path) {
            break file;
        }
    };
    let link = directory.join(format!("{name}.log"));
    if !link.is_symlink() {
        // Not every file system has links, and the log is complete without.
        let _ = symlink(path.file_name().expect("it has a name"), link);
    }
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path, bytes: u64, files: usize) -> State {
        let opened = Files::open(directory, "x", Rotation { bytes, files }).unwrap();
        Arc::into_inner(opened.kept).unwrap().state.into_inner().unwrap()
    }

    fn say(state: &mut State, text: &str) {
        state.add(|waiting| waiting.write_all(text.as_bytes()));
    }

    fn read(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap_or_default()
    }

    #[test]
    fn nothing_is_written_before_it_is_flushed_and_the_link_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = files(folder.path(), 100, 1);
        say(&mut state, "one");
        assert_eq!(read(folder.path(), "x.log"), "");
        state.flush();
        assert_eq!(read(folder.path(), "x.log"), "one\n");
        assert_eq!(fs::read_link(folder.path().join("x.log")).unwrap(), Path::new("x_rCURRENT.log"));
    }

    #[test]
    fn files_are_numbered_on_and_the_oldest_removed_also_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        for life in 0..2 {
            let mut state = files(folder.path(), 1, 2);
            for line in 0..3 {
                say(&mut state, &format!("{life}.{line}"));
                state.flush();
            }
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["x.log", "x_r00003.log", "x_r00004.log", "x_rCURRENT.log"]);
        assert_eq!(read(folder.path(), "x_r00003.log"), "1.0\n");
        assert_eq!(read(folder.path(), "x.log"), "1.2\n");
    }

    #[test]
    fn a_line_that_a_process_left_torn_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x_rCURRENT.log"), "tor").unwrap();
        let mut state = files(folder.path(), 100, 1);
        say(&mut state, "one");
        state.flush();
        assert_eq!(read(folder.path(), "x.log"), "tor\ttorn\none\n");
    }

    #[test]
    fn a_torn_line_is_ended_in_its_own_file_also_if_that_is_full() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x_rCURRENT.log"), "tor").unwrap();
        let mut state = files(folder.path(), 1, 1);
        for line in ["one", "two"] {
            say(&mut state, line);
            state.flush();
        }
        assert_eq!(read(folder.path(), "x_r00000.log"), "tor\ttorn\none\n");
        assert_eq!(read(folder.path(), "x.log"), "two\n");
    }

    #[test]
    fn the_last_whole_line_of_before_is_known_wherever_it_stands() {
        let predecessor = |texts: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for (number, text) in texts.iter().enumerate() {
                let number = if number + 1 == texts.len() { "CURRENT".into() } else { format!("{number:05}") };
                fs::write(folder.path().join(format!("x_r{number}.log")), text).unwrap();
            }
            let opened = Files::open(folder.path(), "x", Rotation { bytes: 100, files: 9 }).unwrap();
            opened.kept.predecessor.clone()
        };
        let line = "2026-11-23T09:41:07.123456Z INFO  stopped";
        let known = Some(format!("2026-11-23T09:41:07.123456Z/{:08x}", crc32fast::hash(line.as_bytes())));
        let whole = format!("{line}\n");
        assert_eq!(predecessor(&["", ""]), None);
        assert_eq!(predecessor(&["torn"]), None);
        assert_eq!(predecessor(&[&whole]), known);
        assert_eq!(predecessor(&["older\n", &whole]), known);
        assert_eq!(predecessor(&[&format!("older\n{whole}torn")]), known);
        assert_eq!(predecessor(&[&format!("{whole}torn\ttorn\nagain\ttorn\n"), "torn\ttorn\n", ""]), known);
        // Longer than what is read at once, and than what is read the next time.
        let long = format!("{line} {}", "y".repeat(5 * BLOCK as usize));
        let checksum = format!("/{:08x}", crc32fast::hash(long.as_bytes()));
        assert!(predecessor(&[&format!("older\n{long}\ntorn\ttorn\n")]).unwrap().ends_with(&checksum));
        assert_eq!(predecessor(&["\u{1b} \n"]).unwrap()[..2], *"?/");
    }

    #[test]
    fn what_memory_cannot_hold_is_counted_and_told_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        // A device that is always full.
        symlink("/dev/full", folder.path().join("x_rCURRENT.log")).unwrap();
        let mut state = files(folder.path(), u64::MAX, 1);
        let line = "y".repeat(BUFFER_BYTES / 4 - 1);
        for _ in 0..4 {
            say(&mut state, &line);
            state.flush();
        }
        say(&mut state, "lost");
        say(&mut state, "lost");
        assert!(state.failing && state.lost == 2);

        // As if there were room again.
        fs::remove_file(folder.path().join("x_rCURRENT.log")).unwrap();
        state.file = open_current(folder.path(), "x").unwrap().0;
        state.flush();
        say(&mut state, "after");
        state.flush();
        let log = read(folder.path(), "x.log");
        let lines: Vec<_> = log.lines().collect();
        assert!(lines[..4].iter().all(|kept| *kept == line) && !state.failing);
        assert!(lines[4].ends_with(" WARN  log-gap lost=2"), "{}", lines[4]);
        assert_eq!(lines[5..], ["after"]);
    }

    #[test]
    fn a_folder_that_was_taken_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let mut state = files(&directory, 100, 1);
        say(&mut state, "one");
        state.flush();
        fs::remove_dir_all(&directory).unwrap();
        say(&mut state, "two");
        state.seen = None;
        state.flush();
        let log = read(&directory, "x.log");
        let lines: Vec<_> = log.lines().collect();
        assert!(lines.len() == 2 && lines[0].ends_with(" WARN  log-gap lost=1") && lines[1] == "two", "{log}");
    }
    #[test]
    fn a_process_whose_lockfile_was_removed_keeps_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = files(folder.path(), 100, 1);
        fs::remove_file(folder.path().join("x.lock")).unwrap();
        let second = || Files::open(folder.path(), "x", Rotation { bytes: 100, files: 1 });
        assert!(matches!(second(), Err(Error::Io(_))), "the current file is locked itself");
        say(&mut state, "one");
        state.flush();
        let refused = second().err().expect("the lock was taken again").to_string();
        assert!(refused.contains("x.lock is in use by process "), "{refused}");
        assert_eq!(read(folder.path(), "x.log"), "one\n");
    }

    #[test]
    fn a_process_whose_folder_another_has_made_anew_writes_nothing_there_until_that_one_ends() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let mut first = files(&directory, 1, 9);
        fs::remove_dir_all(&directory).unwrap();
        let mut second = files(&directory, 1, 9);
        for line in 0..3 {
            // Each would begin a new file, and so rename the other's.
            for (state, name) in [(&mut first, "first"), (&mut second, "second")] {
                state.seen = None;
                say(state, &format!("{name} {line}"));
                state.flush();
            }
        }
        assert_eq!(
            (read(&directory, "x_r00000.log"), read(&directory, "x_r00001.log")),
            ("second 0\n".into(), "second 1\n".into())
        );
        assert_eq!(read(&directory, "x.log"), "second 2\n");
        drop(second);
        first.flush();
        let after = read(&directory, "x.log");
        assert!(!first.failing && after.ends_with("first 0\nfirst 1\nfirst 2\n"), "{after}");
    }
}
