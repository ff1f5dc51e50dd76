//! The files of a log: which, in which order, and their lines.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::line::TIME_BYTES;

/// What the files of the broker's log are called, before their number.
const BASE: &str = "broker_r";

/// The most files that are held open; the others are opened when it is their turn. A running broker
/// removes the oldest first, and these are the ones that are held.
const HELD: usize = 200;

/// How often to look again when a running broker began a new file in between, and the pause before
/// it.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Why a log can't be audited.
#[derive(Debug, Error)]
pub enum Error {
    /// When a file or folder can't be read.
    #[error("can't read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// When a folder holds none of a broker's files.
    #[error("there is no {BASE}*.log in {}", .0.display())]
    NoLog(PathBuf),
    /// When files come and go faster than they can be opened.
    #[error("the files of the log change faster than they can be opened; is --log-size very small?")]
    Unsteady,
}

impl Error {
    /// Whether a file was gone that was there when the folder was listed.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The number of a rotated file; the current one comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    Rotated(u64),
    Current,
}

/// A file of a log.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    /// The rotated file that ought to come before this one, and is not there.
    pub missing: Option<PathBuf>,
    /// Its number, and the files that are numbered together: those of one folder and one name.
    numbered: Option<(PathBuf, Number)>,
    /// The file itself, whatever it is called by now, and its length when it was opened. `None` for
    /// a pipe, which can be opened only once, and beyond [`HELD`] files.
    held: Option<(File, u64)>,
    /// Of a pipe, which can be opened only once: what has been opened, and looked at, but not read.
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
            // Of the file that was opened: another may have its name meanwhile.
            metadata = file.metadata()?;
            held = Some((file, metadata.len()));
        }
        let (piped, is_file) = (RefCell::default(), metadata.is_file());
        Ok(Self { path, missing: None, numbered, held, piped, is_file, identity: identity(&metadata) })
    }

    fn opened(&self) -> io::Result<BufReader<File>> {
        self.piped.take().map_or_else(|| File::open(&self.path).map(buffered), Ok)
    }

    /// The time of its first line, if it has one. What is read from a pipe for that is not lost.
    fn first_time(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut first = None;
        if self.is_file {
            self.read(|_, line, _| {
                first = Some(line[..line.len().min(TIME_BYTES)].to_vec());
                false
            })?;
        } else {
            let unreadable = |error| Error::Unreadable { path: self.path.clone(), error };
            let mut pipe = self.opened().map_err(unreadable)?;
            let begun = pipe.fill_buf().map_err(unreadable)?;
            first = (!begun.is_empty()).then(|| begun[..begun.len().min(TIME_BYTES)].to_vec());
            self.piped.replace(Some(pipe));
        }
        Ok(first)
    }

    /// Whether it belongs to the same log as that one, which was written before it.
    pub fn goes_on_from(&self, earlier: &Self) -> bool {
        let base = |source: &Self| source.numbered.as_ref().map(|(base, _)| base.clone());
        base(self).is_some() && base(self) == base(earlier)
    }

    /// Whether its name is still its own. A rotated file keeps its name for good.
    fn is_in_place(&self) -> bool {
        !matches!(self.numbered, Some((_, Number::Current)))
            || fs::metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity)
    }

    /// Reads its lines for as long as `goes_on` says so: their numbers from 1, their bytes without
    /// the line feed, and whether they have one. What was written since it was opened is left
    /// out.
    pub fn read(&self, mut goes_on: impl FnMut(u64, &[u8], bool) -> bool) -> Result<(), Error> {
        let unreadable = |error| Error::Unreadable { path: self.path.clone(), error };
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
            // Behind one without an end there is nothing; if there is now, it was written meanwhile.
            if !goes_on(number, &line, whole) || !whole {
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

/// The files that are meant, each once, in the order in which they were written.
///
/// All are as they were at one moment, also while a broker writes and rotates them: they are
/// listed, opened, and listed again until nothing has changed in between.
pub(super) fn sources(given: &[PathBuf]) -> Result<Vec<Source>, Error> {
    let mut attempts = 1;
    let mut sources = loop {
        match snapshot(given) {
            Ok(Some(sources)) => break sources,
            Err(error) if !error.is_gone() || attempts == ATTEMPTS => return Err(error),
            Ok(None) if attempts == ATTEMPTS => return Err(Error::Unsteady),
            Ok(None) | Err(_) => thread::sleep(PAUSE),
        }
        attempts += 1;
    };
    put_in_order(&mut sources)?;
    for later in 1..sources.len() {
        sources[later].missing = missing_between(&sources[later - 1], &sources[later]);
    }
    Ok(sources)
}

/// The files that are meant, each once; `None` if a new one was begun meanwhile.
fn snapshot(given: &[PathBuf]) -> Result<Option<Vec<Source>>, Error> {
    let paths = paths(given)?;
    let mut sources = Vec::new();
    let mut known = HashSet::new();
    for (index, path) in paths.iter().enumerate() {
        let unreadable = |error| Error::Unreadable { path: path.clone(), error };
        let file = numbered_path(path).map_err(unreadable)?;
        let source = Source::open(file, index < HELD).map_err(unreadable)?;
        if known.insert(source.identity) {
            sources.push(source);
        }
    }
    let steady = self::paths(given)? == paths && sources.iter().all(Source::is_in_place);
    Ok(steady.then_some(sources))
}

/// The path of what a link leads to, which may have a number; the link's own if that is all there
/// is, as for a pipe (`/dev/stdin`, `/proc/self/fd/5`) or a file without a name.
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

/// The paths of the files in these files and folders, those of a folder by their numbers.
fn paths(given: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for path in given {
        let metadata = fs::metadata(path).map_err(|error| Error::Unreadable { path: path.clone(), error })?;
        match metadata.is_dir() {
            true => paths.extend(files_in(path)?),
            false => paths.push(path.clone()),
        }
    }
    Ok(paths)
}

/// The broker's files in a folder. Not the link to the current one.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error| Error::Unreadable { path: folder.into(), error };
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

/// `log/broker_r00012.log` is number 12 of `log/broker_r`.
fn number_of(path: &Path) -> Option<(PathBuf, Number)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let (base, number) = stem.split_at(stem.rfind("_r")? + 2);
    let number = match number {
        "CURRENT" => Number::Current,
        digits => Number::Rotated(super::runs::number(digits)?),
    };
    let folder = path.parent().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.into()));
    Some((folder.unwrap_or_default().join(base), number))
}

/// Files that are numbered together by their numbers; a log beside another by the time of its first
/// line.
fn put_in_order(sources: &mut Vec<Source>) -> Result<(), Error> {
    let mut logs: Vec<Vec<Source>> = Vec::new();
    for source in sources.drain(..) {
        let base = |source: &Source| source.numbered.as_ref().map(|(base, _)| base.clone());
        let own = base(&source);
        match logs.iter_mut().find(|log| own.is_some() && base(&log[0]) == own) {
            Some(log) => log.push(source),
            None => logs.push(vec![source]),
        }
    }
    for log in &mut logs {
        log.sort_by_key(|source| source.numbered.as_ref().map(|&(_, number)| number));
    }
    if logs.len() > 1 {
        let mut timed = Vec::new();
        for log in logs {
            timed.push((first_time(&log)?, log));
        }
        timed.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) => a.cmp(b),
            // An empty log says nothing, wherever it stands.
            _ => Ordering::Equal,
        });
        logs = timed.into_iter().map(|(_, log)| log).collect();
    }
    sources.extend(logs.into_iter().flatten());
    Ok(())
}

/// The time of the first line of the first file that has one.
fn first_time(log: &[Source]) -> Result<Option<Vec<u8>>, Error> {
    for source in log {
        if let Some(first) = source.first_time()? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

fn missing_between(earlier: &Source, later: &Source) -> Option<PathBuf> {
    let (Some((base, Number::Rotated(before))), Some((same, number))) = (&earlier.numbered, &later.numbered) else {
        return None;
    };
    if base != same {
        return None;
    }
    let path = |number: u64| PathBuf::from(format!("{}{number:05}.log", base.display()));
    match number {
        Number::Rotated(number) => (before + 1 < *number).then(|| path(before + 1)),
        // Where single files are given, one may have been rotated since they were listed. If the current one was, it
        // is not missing.
        Number::Current => {
            let files = files_in(base.parent()?).ok()?;
            let numbers = files.iter().filter_map(|file| number_of(file)).filter(|(other, _)| other == base);
            let next = numbers.filter_map(|(_, number)| match number {
                Number::Rotated(number) if number > *before => Some(number),
                _ => None,
            });
            let next = next.min()?;
            let is_later = fs::metadata(path(next)).is_ok_and(|metadata| identity(&metadata) == later.identity);
            (!is_later).then(|| path(before + 1))
        }
    }
}
