//! The violations that an audit finds: which promise was broken, by which line, and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::ranges::JobKey;

/// The maximum number of violations that are kept. Further ones are only counted.
const KEPT: usize = 100;

/// The maximum number of jobs whose violations are counted by themselves.
const MAX_JOBS: usize = 1 << 16;

/// The maximum number of characters kept of a line that violates a promise.
const MAX_TEXT: usize = 300;

/// A promise of the broker that an audit proves or refutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Promise {
    /// Each ticket is dispatched once, to the seat whose turn it is, within its window.
    Rotation,
    /// Each accepted request ends once, and a lost worker's requests go first, in their order.
    Requests,
    /// A request is given up after a certain number of lost workers.
    Poison,
    /// The requests of a client that left are cancelled or discarded.
    Leaving,
    /// What was safe of a durable job in one life is there in the next, and each result is stored
    /// once.
    Jobs,
    /// The log itself is complete and readable.
    Evidence,
}

impl Promise {
    /// All promises, in the order of their values.
    pub const ALL: [Self; 6] =
        [Self::Rotation, Self::Requests, Self::Poison, Self::Leaving, Self::Jobs, Self::Evidence];
}

/// A line that breaks a promise.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Violation {
    /// The file.
    #[serde(serialize_with = "serialize_path")]
    pub file: PathBuf,
    /// The line's number in the file, counted from 1.
    pub line: u64,
    /// The line; the beginning of a long one.
    pub text: String,
    /// The promise that it breaks.
    pub promise: Promise,
    /// What is wrong with it, in a sentence.
    pub what: String,
}

/// The location of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    /// The index of the file among those of the audit.
    pub file: usize,
    /// The line's number in the file, counted from 1.
    pub line: u64,
}

/// A line that is being checked.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceLine {
    location: Location,
    /// The line's beginning: more than the [`MAX_TEXT`] characters that are kept of it.
    bytes: Vec<u8>,
    /// The promises that it is known to violate, as bits: each is reported once a line.
    reported: u8,
}

impl SourceLine {
    pub fn new(location: Location, bytes: &[u8]) -> Self {
        let mut line = Self::default();
        line.set(location, bytes);
        line
    }

    /// Replaces the line by the next one, in the same memory.
    pub fn set(&mut self, location: Location, bytes: &[u8]) {
        (self.location, self.reported) = (location, 0);
        self.bytes.clear();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(4 * MAX_TEXT)]);
    }
}

/// The violations: how many there are of each promise, and the first of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub counts: [u64; Promise::ALL.len()],
    /// The first violations, each with the index of its file.
    pub first: Vec<(usize, Violation)>,
    /// What is wrong with single jobs: how often, and the first of it in a sentence.
    pub jobs: BTreeMap<JobKey, (u64, String)>,
    /// The line that is being checked.
    pub line: SourceLine,
}

impl Findings {
    /// Adds a violation by the current line, unless it is known to violate that promise.
    pub fn add(&mut self, promise: Promise, what: impl FnOnce() -> String) {
        let line = &mut self.line;
        let bit = 1 << promise as u8;
        if line.reported & bit > 0 {
            return;
        }
        line.reported |= bit;
        self.counts[promise as usize] += 1;
        if self.first.len() < KEPT {
            let text = String::from_utf8_lossy(&line.bytes).chars().take(MAX_TEXT).collect();
            let Location { file, line } = line.location;
            self.first.push((file, Violation { file: PathBuf::new(), line, text, promise, what: what() }));
        }
    }

    /// Adds a violation of what is promised of a job.
    pub fn add_about(&mut self, job: JobKey, what: impl Fn() -> String) {
        if self.jobs.len() < MAX_JOBS || self.jobs.contains_key(&job) {
            self.jobs.entry(job).or_insert_with(|| (0, what())).0 += 1;
        }
        self.add(Promise::Jobs, what);
    }

    /// Appends the violations of a later part of the log.
    pub fn append(&mut self, later: Self) {
        for (count, more) in self.counts.iter_mut().zip(later.counts) {
            *count += more;
        }
        for (job, (more, first)) in later.jobs {
            self.jobs.entry(job).or_insert((0, first)).0 += more;
        }
        let room = KEPT - self.first.len();
        self.first.extend(later.first.into_iter().take(room));
    }
}

/// A path may have bytes that are no text.
fn serialize_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
