//! Which broker a log is of, where the logs of several are given.
//!
//! Files of one log are known by their names. Beyond that, logs are one broker's if the same life is in
//! both, or if the broker listened at the same endpoints, or had the same store, and not at the same
//! time: two machines may have brokers with the same endpoints, and only one of two such can be the
//! other's predecessor.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Error, Number, Source, as_one, logs};
use crate::line::{Event, Line, text_of};

/// The number of bytes at the end of a file in which its last line's time is looked for: longer than
/// any line.
const TAIL: u64 = 1 << 20;

/// The number of lines behind `listening` in which `store` is looked for.
const PREAMBLE: u32 = 8;

/// The log of one broker.
#[derive(Debug)]
pub(crate) struct BrokerLog {
    /// The folder of the files; the file, if its name is no log file's.
    pub name: String,
    /// The files, in the order of writing.
    pub sources: Vec<Source>,
}

/// Opens the given files and those of given folders, by broker: at least one.
pub(crate) fn by_broker(given: &[PathBuf]) -> Result<Vec<BrokerLog>, Error> {
    let mut logs = logs(given)?;
    if logs.len() == 1 {
        return Ok(vec![named(vec![Log { origin: Origin::default(), sources: logs.remove(0) }])]);
    }
    let logs = logs.into_iter().map(|sources| Ok(Log { origin: Origin::of(&sources)?, sources }));
    let (known, unknown): (Vec<_>, Vec<_>) =
        logs.collect::<Result<Vec<_>, _>>()?.into_iter().partition(|log| log.origin.start.is_some());
    let mut brokers: Vec<Vec<Log>> = Vec::new();
    for log in known {
        match brokers.iter_mut().find(|broker| is_of(&log, broker)) {
            Some(broker) => broker.push(log),
            None => brokers.push(vec![log]),
        }
    }
    for log in unknown {
        match broker_of(&log, &brokers)? {
            Some(broker) => brokers[broker].push(log),
            None => brokers.push(vec![log]),
        }
    }
    for broker in &mut brokers {
        broker.sort_by(|one, other| one.origin.first.cmp(&other.origin.first));
    }
    Ok(with_different_names(brokers.into_iter().map(named).collect()))
}

/// The files of one log.
struct Log {
    origin: Origin,
    sources: Vec<Source>,
}

/// What a log says of its broker.
#[derive(Debug, Default)]
struct Origin {
    /// The first line with which a broker starts.
    start: Option<String>,
    /// The endpoints and the public key in that line.
    endpoints: [Option<String>; 3],
    /// The number of the broker's store.
    home: Option<u32>,
    /// The times of the first and the last line.
    first: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
}

impl Origin {
    fn of(sources: &[Source]) -> Result<Self, Error> {
        let mut origin = Self::default();
        for source in sources {
            if origin.first.is_none() {
                origin.first = source.first_time()?;
            }
            if origin.start.is_none() {
                origin.read_start(source)?;
            }
        }
        for source in sources.iter().rev() {
            origin.last = last_time(source)?;
            if origin.last.is_some() {
                break;
            }
        }
        Ok(origin)
    }

    /// Looks for a broker's start. In a pipe, which can be read only once, it is looked for in the part
    /// that has been read ahead.
    fn read_start(&mut self, source: &Source) -> Result<(), Error> {
        let mut left = None;
        let mut handle = |bytes: &[u8]| {
            let text = text_of(bytes);
            match Line::parse(&text).map(|line| line.event) {
                Some(Event::Listening(start)) if left.is_none() => {
                    self.endpoints = [start.frontend, start.backend, start.keys].map(|value| value.map(String::from));
                    self.start = Some(text.to_string());
                    left = Some(PREAMBLE);
                }
                Some(Event::Store { home }) if left.is_some() => {
                    self.home = Some(home);
                    return false;
                }
                _ => {}
            }
            left.as_mut().is_none_or(|left| {
                *left = left.saturating_sub(1);
                *left > 0
            })
        };
        if source.is_file {
            return source.read(|_, bytes, _| handle(bytes));
        }
        if let Some(pipe) = &*source.piped.borrow() {
            pipe.buffer().split(|&byte| byte == b'\n').all(handle);
        }
        Ok(())
    }

    /// Whether lines of one were written between lines of the other.
    fn overlaps(&self, other: &Self) -> bool {
        let times = |origin: &Self| origin.first.clone().zip(origin.last.clone());
        match (times(self), times(other)) {
            (Some((first, last)), Some((other_first, other_last))) => first < other_last && other_first < last,
            _ => false,
        }
    }

    /// Whether both brokers have what one of several has alone.
    fn is_like(&self, other: &Self) -> bool {
        self.endpoints == other.endpoints || self.home.is_some() && self.home == other.home
    }
}

/// Whether a log is of the same broker as these.
fn is_of(log: &Log, broker: &[Log]) -> bool {
    let origins = || broker.iter().map(|other| &other.origin);
    origins().any(|other| other.start == log.origin.start)
        || origins().any(|other| other.is_like(&log.origin)) && !origins().any(|other| other.overlaps(&log.origin))
}

/// Returns the broker whose log a log without a start goes on from; `None` if it is of another one.
fn broker_of(log: &Log, brokers: &[Vec<Log>]) -> Result<Option<usize>, Error> {
    let path = &log.sources[0].path;
    let is_beside = |broker: usize| brokers[broker].iter().any(|other| other.sources[0].path.parent() == path.parent());
    // A log that has the file that is written to does not go on in another folder.
    let is_whole = |other: &Log| other.sources.iter().any(|it| matches!(it.numbered, Some((_, Number::Current))));
    let fits = |&broker: &usize| {
        let logs = &brokers[broker];
        !logs.iter().any(|other| other.origin.overlaps(&log.origin))
            && (is_beside(broker) || !logs.iter().any(is_whole))
    };
    let fitting: Vec<_> = (0..brokers.len()).filter(fits).collect();
    let beside: Vec<_> = fitting.iter().copied().filter(|&broker| is_beside(broker)).collect();
    match (&fitting[..], &beside[..]) {
        ([], _) => Ok(None),
        (&[only], _) | (_, &[only]) => Ok(Some(only)),
        // An empty file goes on from nothing.
        _ if log.origin.first.is_none() => Ok(None),
        _ => Err(Error::Unclear(path.clone())),
    }
}

/// Returns the log of a broker, with its name.
fn named(logs: Vec<Log>) -> BrokerLog {
    let mut names: Vec<_> = logs.iter().map(|log| name_of(&log.sources[0])).collect();
    names.dedup();
    let sources = as_one(logs.into_iter().map(|log| log.sources).collect());
    BrokerLog { name: names.join(" "), sources }
}

fn name_of(source: &Source) -> String {
    let folder = source.path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (&source.numbered, folder) {
        (Some(_), Some(folder)) => folder.display().to_string(),
        (Some(_), None) => ".".into(),
        (None, _) => source.path.display().to_string(),
    }
}

/// Names brokers by a file where two have the same folder.
fn with_different_names(mut brokers: Vec<BrokerLog>) -> Vec<BrokerLog> {
    let names: Vec<_> = brokers.iter().map(|broker| broker.name.clone()).collect();
    for broker in &mut brokers {
        if names.iter().filter(|&name| *name == broker.name).count() > 1 {
            broker.name = broker.sources[0].path.display().to_string();
        }
    }
    brokers
}

/// Returns the time of the last line that has one; `None` for a pipe.
fn last_time(source: &Source) -> Result<Option<Vec<u8>>, Error> {
    if !source.is_file {
        return Ok(None);
    }
    let unreadable = Error::of(&source.path);
    let opened;
    let (file, length) = match &source.held {
        Some((file, length)) => (file, *length),
        None => {
            opened = File::open(&source.path).map_err(unreadable)?;
            (&opened, opened.metadata().map_err(unreadable)?.len())
        }
    };
    let start = length.saturating_sub(TAIL);
    let mut tail = vec![0; (length - start) as usize];
    // A file that became shorter meanwhile has no last line that matters.
    if file.read_exact_at(&mut tail, start).is_err() {
        return Ok(None);
    }
    let lines = tail.split(|&byte| byte == b'\n').rev();
    Ok(lines.filter_map(|line| Line::parse(&text_of(line)).map(|line| line.timestamp().as_bytes().to_vec())).next())
}
