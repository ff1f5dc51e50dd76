//! The files of a log: which, in which order, and their lines.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::line::TIME_BYTES;

/// What the files of the broker's log are called, before their number.
const BASE: &str = "broker_r";

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
}

/// The number of a rotated file; the current one comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    Rotated(u64),
    Current,
}

/// A file of a log.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    /// The rotated file that ought to come before this one, and is not there.
    pub missing: Option<PathBuf>,
    /// Its number, and the files that are numbered together: those of one folder and one name.
    numbered: Option<(PathBuf, Number)>,
}

impl Source {
    fn new(path: PathBuf) -> Self {
        let numbered = number_of(&path);
        Self { path, missing: None, numbered }
    }
}

/// The files that are meant, each once, in the order in which they were written.
pub(super) fn sources(given: &[PathBuf]) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    let mut known = HashSet::new();
    for path in given {
        let unreadable = |error| Error::Unreadable { path: path.clone(), error };
        let files = match fs::metadata(path).map_err(unreadable)?.is_dir() {
            true => files_in(path)?,
            false => vec![path.clone()],
        };
        for file in files {
            let metadata = fs::metadata(&file).map_err(unreadable)?;
            if known.insert((metadata.dev(), metadata.ino())) {
                // A link has no number, its file may.
                let file = if file.is_symlink() { file.canonicalize().map_err(unreadable)? } else { file };
                sources.push(Source::new(file));
            }
        }
    }
    put_in_order(&mut sources)?;
    for later in 1..sources.len() {
        sources[later].missing = missing_between(&sources[later - 1], &sources[later]);
    }
    Ok(sources)
}

/// The broker's files in a folder. Not the link to the current one.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error| Error::Unreadable { path: folder.into(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ours = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(BASE.as_bytes()));
        if ours && number_of(&path).is_some() && path.is_file() {
            files.push(path);
        }
    }
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

/// Files that are numbered together by their numbers; a log beside another by the time of its first line.
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
    // Not looked at without need: what is read from a pipe is gone.
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
        let mut first = None;
        read(&source.path, |_, line, _| {
            first = Some(line[..line.len().min(TIME_BYTES)].to_vec());
            false
        })?;
        if first.is_some() {
            return Ok(first);
        }
    }
    Ok(None)
}

fn missing_between(earlier: &Source, later: &Source) -> Option<PathBuf> {
    match (&earlier.numbered, &later.numbered) {
        (Some((base, Number::Rotated(before))), Some((same, Number::Rotated(number))))
            if base == same && before + 1 < *number =>
        {
            Some(PathBuf::from(format!("{}{:05}.log", base.display(), before + 1)))
        }
        _ => None,
    }
}

/// Reads a file's lines for as long as `goes_on` says so: their numbers from 1, their bytes without the line feed, and
/// whether they have one.
pub(super) fn read(path: &Path, mut goes_on: impl FnMut(u64, &[u8], bool) -> bool) -> Result<(), Error> {
    let unreadable = |error| Error::Unreadable { path: path.into(), error };
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        if !goes_on(number, &line, whole) {
            break;
        }
    }
    Ok(())
}
