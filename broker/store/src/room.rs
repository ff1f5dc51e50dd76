//! Whether there is room for new requests, and which writes were refused for want of it.
//!
//! There is room while there is a reserve, or the database has as many free pages: a file does not
//! shrink when jobs are deleted. When a commit finds no space, the reserve is removed for what
//! ends and removes jobs, and requests are refused until there is room again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Write};
use rusqlite::Connection;

use crate::opening;
use crate::reserve::{self, Reserve};

/// The free pages of 4 KiB that are as good as a reserve and the same again.
const FREE_PAGES: i64 = (2 * reserve::BYTES / 4096) as i64;

/// The bytes that the write-ahead log has to have besides: for a group, and a thousand pages.
const LOG_BYTES: u64 = reserve::BYTES / 2;

/// How many refused jobs are remembered that were not created: more than are on their way from the
/// core at a time.
const UNMADE: usize = 4096;

/// How many other jobs are remembered with refused requests: more than run at a time.
const BEHIND: usize = 65_536;

/// The room of a store.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
    reserve: Reserve,
    /// Whether there is none.
    full: bool,
    /// For people: why requests are refused, and what to do about it.
    reason: Arc<str>,
    /// How often to look whether there is room again.
    every: Duration,
    looked: Instant,
    /// Jobs that were refused. What is added to them was submitted before the core has heard of it.
    unmade: BTreeSet<JobNumber>,
    /// Jobs with refused requests, until they end. Later ones after a gap are refused as well.
    behind: BTreeSet<JobNumber>,
}

impl Room {
    /// Looks at the room of the store in `folder`.
    pub fn new(db: &Connection, folder: &Path, path: &Path, every: Duration) -> Self {
        let reason = format!(
            "no space on the disk for the store {}: free {} MiB or more, or raise the quota or the limit of a file's size; new requests of jobs are refused until there is room",
            path.display(),
            (2 * reserve::BYTES) >> 20
        );
        let mut room = Self {
            path: path.into(),
            reserve: Reserve::of(folder),
            full: false,
            reason: reason.into(),
            every,
            looked: now(),
            unmade: BTreeSet::new(),
            behind: BTreeSet::new(),
        };
        if !room.is_there(db) {
            room.full = true;
            log::warn!("{}", room.reason);
        }
        room
    }

    /// Returns whether requests are refused.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Returns why requests are refused, or were the last time.
    pub fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    /// Looks whether there is room again, or still if there is no reserve: not too often.
    pub fn look(&mut self, db: &Connection) {
        if self.reserve.is_there() && !self.full || now().duration_since(self.looked) < self.every {
            return;
        }
        self.looked = now();
        let there = self.is_there(db);
        if there && self.full {
            log::info!("there is room for the store again: new requests of jobs are accepted");
        } else if !there && !self.full {
            log::warn!("{}", self.reason);
        }
        self.full = !there;
    }

    /// When a commit found no space: requests are refused, and the reserve is there for others.
    pub fn run_out(&mut self) {
        if !self.full {
            log::warn!("{}", self.reason);
        }
        self.reserve.release();
        self.full = true;
        self.looked = now();
    }

    /// Refuses a write.
    pub fn refuse(&mut self, write: &Write) -> Done {
        match write {
            Write::Create { job, .. } => insert(&mut self.unmade, *job, UNMADE),
            Write::Append { job, .. } if self.unmade.contains(job) => {}
            // Also if it was to end: then it was forgotten, as if it had.
            Write::Append { job, .. } | Write::Cancel(job) | Write::Delete(job) => {
                insert(&mut self.behind, *job, BEHIND);
            }
            Write::Results { .. } | Write::Attempts { .. } | Write::Retry(_) => {}
        }
        Done::Full { write: Box::new(write.clone()), reason: self.reason.clone() }
    }

    /// Returns whether the creation of a job was refused.
    pub fn is_unmade(&self, job: JobNumber) -> bool {
        self.unmade.contains(&job)
    }

    /// Returns whether requests of a job were refused.
    pub fn is_behind(&self, job: JobNumber) -> bool {
        self.behind.contains(&job)
    }

    /// When a job was created after all, or has ended.
    pub fn forget(&mut self, job: JobNumber) {
        self.unmade.remove(&job);
        self.behind.remove(&job);
    }

    fn is_there(&mut self, db: &Connection) -> bool {
        let free_pages = || db.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        let log_bytes = || {
            let log = opening::size(&self.path.with_file_name(opening::LOG));
            reserve::free_bytes(&self.path).map_or(0, |free| free.saturating_add(log))
        };
        self.reserve.make() || free_pages().is_ok_and(|pages| pages >= FREE_PAGES) && log_bytes() >= LOG_BYTES
    }
}

fn insert(jobs: &mut BTreeSet<JobNumber>, job: JobNumber, most: usize) {
    jobs.insert(job);
    if jobs.len() > most {
        jobs.pop_first();
    }
}

#[expect(clippy::disallowed_methods, reason = "the store looks for room once a second")]
fn now() -> Instant {
    Instant::now()
}
