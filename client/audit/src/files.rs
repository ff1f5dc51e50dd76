//! The files of a log: finds them, puts them in order, and reads their lines.

mod brokers;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::line::TIME_BYTES;

pub(super) use brokers::{BrokerLog, by_broker};

/// The names of the broker's log files before their number.
const BASE: &str = "broker_r";

/// The beginning of a line that is a JSON object, before its time.
const JSON_HEAD: &[u8] = b"{\"time\":\"";

/// The maximum number of files that are held open. The others are opened when they are read: a running broker
/// removes the oldest first, which are the ones held open.
const MAX_OPEN_FILES: usize = 200;

/// How often the files are listed again when a running broker began a new one meanwhile, and the
/// pause before each time.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A reason why a log can't be audited.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// When a file or folder can't be read.
    #[error("can't read {}: {error}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// When a folder holds none of a broker's files.
    #[error("there is no {BASE}*.log in {}", .0.display())]
    NoLog(PathBuf),
    /// When files come and go faster than they can be opened.
    #[error("the files of the log change faster than they can be opened; is --log-size very small?")]
    Unsteady,
    /// When the logs of several brokers are given, and a file could go on from more than one of them.
    #[error(
        "{} begins in the middle of a log, and could be that of several brokers: put the files of each broker into a \
         folder of its own",
        .0.display()
    )]
    Unclear(PathBuf),
    /// When a file is no journal of a client.
    #[error("{} is no journal of giostra random", .0.display())]
    NoJournal(PathBuf),
    /// When a line of a journal, counted from 1, is not one that a client writes.
    #[error("{}:{line}: a client writes no such line into its journal", path.display())]
    DamagedJournal {
        /// The journal.
        path: PathBuf,
        /// The line.
        line: u64,
    },
}

impl Error {
    /// Returns a function that says of which file an error is.
    pub(super) fn of(path: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::Unreadable { path: path.into(), error }
    }

    /// Returns whether a file that was listed has been removed.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The number of a log file. The current one has none, and comes last; nor have those that were
/// moved away while they were the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    Rotated(u64),
    Moved,
    Current,
}

/// A file of a log.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    /// The rotated file that should precede this one but is missing.
    pub missing: Option<PathBuf>,
    /// The path without the number, which the files of one log share; and the number.
    numbered: Option<(PathBuf, Number)>,
    /// The open file and its length when it was opened; its name may belong to another by now.
    /// `None` for a pipe, and beyond [`MAX_OPEN_FILES`].
    held: Option<(File, u64)>,
    /// A pipe whose beginning has been looked at: it can be opened only once.
    piped: RefCell<Option<BufReader<File>>>,
    is_file: bool,
    /// Its device and inode.
    identity: (u64, u64),
}

impl Source {
    fn open(path: PathBuf, hold: bool) -> io::Result<Self> {
        let numbered = number_of(&path);
        let mut metadata = fs::metadata(&path)?;
        let mut held = None;
        if metadata.is_file() && (hold || matches!(numbered, Some((_, Number::Current)))) {
            let file = File::open(&path)?;
            // The metadata of the opened file: its name may belong to another by now.
            metadata = file.metadata()?;
            held = Some((file, metadata.len()));
        }
        let (piped, is_file) = (RefCell::default(), metadata.is_file());
        Ok(Self { path, missing: None, numbered, held, piped, is_file, identity: identity(&metadata) })
    }

    fn opened(&self) -> io::Result<BufReader<File>> {
        self.piped.take().map_or_else(|| File::open(&self.path).map(buffered), Ok)
    }

    /// Returns the time of the first line, if there is one. What is read from a pipe is kept.
    fn first_time(&self) -> Result<Option<Vec<u8>>, Error> {
        let time = |line: &[u8]| {
            let line = line.strip_prefix(JSON_HEAD).unwrap_or(line);
            (!line.is_empty()).then(|| line[..line.len().min(TIME_BYTES)].to_vec())
        };
        let mut first = None;
        if self.is_file {
            self.read(|_, line, _| {
                first = time(line);
                false
            })?;
        } else {
            let unreadable = Error::of(&self.path);
            let mut pipe = self.opened().map_err(unreadable)?;
            first = time(pipe.fill_buf().map_err(unreadable)?);
            self.piped.replace(Some(pipe));
        }
        Ok(first)
    }

    /// The path without its number, which the files of one log share.
    fn base(&self) -> Option<&Path> {
        self.numbered.as_ref().map(|(base, _)| &**base)
    }

    /// Returns whether this file belongs to the same log as an earlier one.
    pub fn continues(&self, earlier: &Self) -> bool {
        self.base().is_some() && self.base() == earlier.base()
    }

    /// Returns whether the file still has its name. Only the current file can lose it.
    fn is_in_place(&self) -> bool {
        !matches!(self.numbered, Some((_, Number::Current)))
            || fs::metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity)
    }

    /// Reads the lines while `handle` returns true. It gets the number from 1, the bytes without the
    /// line feed, and whether there was one. What was written after the file was opened is left out.
    pub fn read(&self, mut handle: impl FnMut(u64, &[u8], bool) -> bool) -> Result<(), Error> {
        let unreadable = Error::of(&self.path);
        let mut file: Box<dyn BufRead + '_> = match &self.held {
            Some((file, length)) => {
                let mut file = file;
                file.rewind().map_err(unreadable)?;
                Box::new(buffered(file.take(*length)))
            }
            None => Box::new(self.opened().map_err(unreadable)?),
        };
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if file.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            let whole = line.pop_if(|last| *last == b'\n').is_some();
            // What follows a line without a line feed was written meanwhile.
            if !handle(number, &line, whole) || !whole {
                break;
            }
        }
        Ok(())
    }
}

fn buffered<R: Read>(input: R) -> BufReader<R> {
    BufReader::with_capacity(1 << 16, input)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Opens the given files and those of given folders, each once, in the order of writing.
///
/// The result is the log at one moment, even while a broker writes and rotates it: files are listed,
/// opened, and listed again until nothing has changed in between.
pub(super) fn sources(given: &[PathBuf]) -> Result<Vec<Source>, Error> {
    Ok(as_one(logs(given)?))
}

/// Opens the files as [`sources`] does. Returns those of each log, the logs in the order of their first
/// lines.
fn logs(given: &[PathBuf]) -> Result<Vec<Vec<Source>>, Error> {
    let mut attempts = 1;
    let sources = loop {
        match snapshot(given) {
            Ok(Some(sources)) => break sources,
            Err(error) if !error.is_gone() || attempts == ATTEMPTS => return Err(error),
            Ok(None) if attempts == ATTEMPTS => return Err(Error::Unsteady),
            Ok(None) | Err(_) => thread::sleep(PAUSE),
        }
        attempts += 1;
    };
    in_order(sources)
}

/// Puts logs one after the other, and notes the files that are missing in between.
fn as_one(logs: Vec<Vec<Source>>) -> Vec<Source> {
    let mut sources: Vec<_> = logs.into_iter().flatten().collect();
    for later in 1..sources.len() {
        sources[later].missing = missing_between(&sources[later - 1], &sources[later]);
    }
    sources
}

/// Opens the files, each once; `None` if a new one was begun meanwhile.
fn snapshot(given: &[PathBuf]) -> Result<Option<Vec<Source>>, Error> {
    let paths = paths(given)?;
    let mut sources = Vec::new();
    let mut known = HashSet::new();
    for (index, path) in paths.iter().enumerate() {
        let unreadable = Error::of(path);
        let file = numbered_path(path).map_err(unreadable)?;
        let source = Source::open(file, index < MAX_OPEN_FILES).map_err(unreadable)?;
        if known.insert(source.identity) {
            sources.push(source);
        }
    }
    let steady = self::paths(given)? == paths && sources.iter().all(Source::is_in_place);
    Ok(steady.then_some(sources))
}

/// Returns the target of a link, whose name may have a number; the link itself if the target has no
/// name, as for a pipe (`/dev/stdin`, `/proc/self/fd/5`).
fn numbered_path(path: &Path) -> io::Result<PathBuf> {
    if path.is_symlink() {
        let meant = identity(&fs::metadata(path)?);
        let leads_there = |file: &PathBuf| fs::metadata(file).is_ok_and(|file| identity(&file) == meant);
        if let Some(file) = path.canonicalize().ok().filter(leads_there) {
            return Ok(file);
        }
    }
    Ok(path.into())
}

/// Lists the given files and those of given folders, the latter by their numbers.
fn paths(given: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for path in given {
        match fs::metadata(path).map_err(Error::of(path))?.is_dir() {
            true => paths.extend(files_in(path)?),
            false => paths.push(path.clone()),
        }
    }
    Ok(paths)
}

/// Lists the broker's files in a folder, without the link to the current one.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = Error::of(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ours = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(BASE.as_bytes()));
        if ours
            && path.is_file()
            && let Some((_, number)) = number_of(&path)
        {
            files.push((number, path));
        }
    }
    files.sort();
    let files: Vec<_> = files.into_iter().map(|(_, path)| path).collect();
    if files.is_empty() { Err(Error::NoLog(folder.into())) } else { Ok(files) }
}

/// Splits a path: `log/broker_r00012.log` is number 12 of `log/broker_r`. Behind the name of the
/// current file logrotate puts a dot and a number, or a dash and a date. Compressed files are none.
fn number_of(path: &Path) -> Option<(PathBuf, Number)> {
    let (stem, ending) = path.file_name()?.to_str()?.rsplit_once(".log")?;
    let (base, number) = stem.split_at(stem.rfind("_r")? + 2);
    let is_date = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let number = match number {
        "CURRENT" if ending.is_empty() => Number::Current,
        "CURRENT" if ending.starts_with(['.', '-']) && is_date(&ending[1..]) => Number::Moved,
        _ if !ending.is_empty() => return None,
        digits => Number::Rotated(super::ranges::number(digits)?),
    };
    let folder = path.parent().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.into()));
    Some((folder.unwrap_or_default().join(base), number))
}

/// Sorts the files of each log by number, and the logs by the times of their first lines; empty ones
/// come first.
fn in_order(sources: Vec<Source>) -> Result<Vec<Vec<Source>>, Error> {
    let mut logs: Vec<Vec<Source>> = Vec::new();
    for source in sources {
        match logs.iter_mut().find(|log| source.continues(&log[0])) {
            Some(log) => log.push(source),
            None => logs.push(vec![source]),
        }
    }
    for log in &mut logs {
        log.sort_by_key(|source| source.numbered.as_ref().map(|&(_, number)| number));
        // Only by its time can a moved file find its place.
        if log.iter().any(|source| matches!(source.numbered, Some((_, Number::Moved)))) {
            *log = by_first_time(std::mem::take(log), Source::first_time)?;
        }
    }
    if logs.len() > 1 {
        logs = by_first_time(logs, |log| log.iter().find_map(|source| source.first_time().transpose()).transpose())?;
    }
    Ok(logs)
}

/// Sorts by the times of the first lines, in the order that there is if they are the same.
fn by_first_time<T>(logs: Vec<T>, first_time: impl Fn(&T) -> Result<Option<Vec<u8>>, Error>) -> Result<Vec<T>, Error> {
    let times = logs.iter().map(first_time).collect::<Result<Vec<_>, _>>()?;
    let mut timed: Vec<_> = times.into_iter().zip(logs).collect();
    timed.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(timed.into_iter().map(|(_, log)| log).collect())
}

/// Returns the file that is missing between two files of one log, if any.
fn missing_between(earlier: &Source, later: &Source) -> Option<PathBuf> {
    let (Some((base, Number::Rotated(before))), Some((_, number))) = (&earlier.numbered, &later.numbered) else {
        return None;
    };
    let path = |number: u64| PathBuf::from(format!("{}{number:05}.log", base.display()));
    let missing = match number {
        _ if !later.continues(earlier) => false,
        // The file after a moved one says what it follows.
        Number::Moved => false,
        Number::Rotated(number) => before + 1 < *number,
        // If single files are given, the current one may have been rotated since, which is no gap.
        Number::Current => {
            let files = files_in(base.parent()?).ok()?;
            let next = files.iter().filter_map(|file| match number_of(file)? {
                (other, Number::Rotated(number)) if other == *base && number > *before => Some(number),
                _ => None,
            });
            let next = fs::metadata(path(next.min()?));
            !next.is_ok_and(|metadata| identity(&metadata) == later.identity)
        }
    };
    missing.then(|| path(before + 1))
}
