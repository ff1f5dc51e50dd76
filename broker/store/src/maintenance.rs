//! What can be done with a store while no broker uses it: to look at it, to check it, to give back
//! the space of what was removed.
//!
//! Each takes the store's lock, and leaves its jobs as they are.

mod check;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{Fault, StoreError};
use crate::folder::{self, Lock};
use crate::format::VERSION;
use crate::{jobs, opening, reserve, schema, sweep};

pub use self::check::{Check, MAX_PROBLEMS};

/// The pages of the database beyond those in use that a copy may take.
const SPARE_PAGES: u64 = 256;

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The version of its format.
    pub format: i64,
    /// Its random number, with which its jobs' ids begin.
    pub home: u32,
    /// The number of its jobs that are open, running, finished and cancelled.
    pub jobs: [u64; 4],
    /// The highest number that a job ever had; 0 without one.
    pub last_job: u64,
    /// The number of deleted and cancelled jobs with rows still to be removed.
    pub removing: u64,
    /// The number of requests of all jobs.
    pub requests: u64,
    /// The number of their results.
    pub succeeded: u64,
    /// The number of their errors.
    pub failed: u64,
    /// The size of the database, in bytes.
    pub database_bytes: u64,
    /// The size of its write-ahead log, in bytes; 0 if it was closed.
    pub log_bytes: u64,
    /// The size of the reserve for a full disk, in bytes.
    pub reserve_bytes: u64,
    /// How many bytes of the database are free: new jobs use them, and compacting gives them back.
    pub free_bytes: u64,
}

/// A store that nobody else uses.
struct Idle {
    db: Connection,
    folder: PathBuf,
    path: PathBuf,
    /// Released after the connection is closed.
    _lock: Lock,
}

impl Idle {
    fn open(folder: &Path) -> Result<Self, StoreError> {
        // Taking the lock would make the folder.
        if !folder.join(opening::DATABASE).exists() {
            return Err(StoreError::Missing(folder.into()));
        }
        let lock = folder::take(folder)?;
        let folder = folder.canonicalize().map_err(|error| StoreError::io(folder, &error))?;
        let path = folder.join(opening::DATABASE);
        let db = opening::connect(&path)?;
        Ok(Self { db, folder, path, _lock: lock })
    }

    /// Runs something, and says which file it is about if it fails.
    fn at<T>(&self, run: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        run(&self.db).map_err(|fault| fault.at(&self.path))
    }
}

/// Looks at a store.
///
/// # Errors
/// If a broker uses it, there is none, or it can't be read.
pub fn info(folder: &Path) -> Result<Info, StoreError> {
    let sizes = |name| opening::size(&folder.join(name));
    // Before it is opened, since that brings the log into the database.
    let (database_bytes, log_bytes, reserve_bytes) =
        (sizes(opening::DATABASE), sizes(opening::LOG), sizes(reserve::NAME));
    let idle = Idle::open(folder)?;
    idle.at(|db| {
        let totals = jobs::totals(db)?;
        Ok(Info {
            format: VERSION,
            home: schema::home(db)?,
            jobs: totals.jobs,
            last_job: jobs::last(db)?,
            removing: number(db, "SELECT count(*) FROM gone")?,
            requests: totals.requests,
            succeeded: totals.succeeded,
            failed: totals.failed,
            database_bytes,
            log_bytes,
            reserve_bytes,
            free_bytes: number(db, "PRAGMA freelist_count")?.saturating_mul(number(db, "PRAGMA page_size")?),
        })
    })
}

/// Checks a store: SQLite its pages and indexes, and this crate what is in them.
///
/// # Errors
/// If a broker uses it, there is none, or it can't be read at all. What is wrong within it is in the
/// answer.
pub fn check(folder: &Path) -> Result<Check, StoreError> {
    let idle = Idle::open(folder)?;
    idle.at(|db| Ok(check::all(&*db.unchecked_transaction()?)))
}

/// Writes a store anew, without what was removed, and returns the sizes of its database before and
/// after, in bytes.
///
/// The copy takes its place when it is complete and synced: an interruption leaves the store as it
/// was.
///
/// # Errors
/// If a broker uses it, there is none, the copy does not fit on the disk, or something can't be read
/// or written.
pub fn compact(folder: &Path) -> Result<(u64, u64), StoreError> {
    let idle = Idle::open(folder)?;
    while idle.at(|db| {
        let step = db.unchecked_transaction()?;
        let more = sweep::step(&step, sweep::IDLE)?;
        step.commit()?;
        Ok(more)
    })? {}
    let io = |error| StoreError::io(&idle.folder, &error);
    let new = idle.folder.join(opening::NEW);
    let _ = fs::remove_file(&new);
    // The log goes into the database, and is removed when it is closed.
    idle.at(|db| Ok(opening::checkpoint(db)?))?;
    let needed = idle.at(|db| {
        let pages = number(db, "PRAGMA page_count")?.saturating_sub(number(db, "PRAGMA freelist_count")?);
        Ok((pages + SPARE_PAGES).saturating_mul(number(db, "PRAGMA page_size")?))
    })?;
    let free = reserve::free_bytes(&new).map_err(io)?;
    if free < needed {
        return Err(StoreError::NoRoom(idle.path, needed, free));
    }
    let copied = copy(&idle, &new);
    if copied.is_err() {
        let _ = fs::remove_file(&new);
    }
    copied
}

/// Copies a store, and puts the copy in its place.
fn copy(idle: &Idle, new: &Path) -> Result<(u64, u64), StoreError> {
    let io = |error| StoreError::io(&idle.folder, &error);
    opening::private(new).map_err(io)?;
    // As bytes, a name would be a blob: names that are no UTF-8 can't be copied to.
    let name = new.to_str().ok_or_else(|| StoreError::Io(idle.path.clone(), "its path is no UTF-8".into()))?;
    idle.at(|db| Ok(db.execute("VACUUM INTO ?", [name]).map(drop)?))?;
    File::open(new).and_then(|file| file.sync_all()).map_err(io)?;
    // With a log, the database beside it would be another one's.
    idle.at(|db| opening::set(db, "journal_mode", "DELETE"))?;
    if idle.folder.join(opening::LOG).exists() {
        return Err(StoreError::Io(idle.path.clone(), "its write-ahead log stays".into()));
    }
    let sizes = (opening::size(&idle.path), opening::size(new));
    fs::rename(new, &idle.path).and_then(|()| folder::sync(&idle.folder)).map_err(io)?;
    Ok(sizes)
}

fn number(db: &Connection, sql: &str) -> Result<u64, Fault> {
    let number: i64 = db.query_row(sql, [], |row| row.get(0))?;
    u64::try_from(number).map_err(|_| Fault::Damaged(format!("{sql} is {number}")))
}
