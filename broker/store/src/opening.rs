//! How a store is opened: its database made if it is missing, and set up.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use giostra_core::store::Restored;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

use crate::error::{Fault, StoreError, is_full};
use crate::schema::{self, Whose};
use crate::{folder, jobs, sweep};

/// The database's name in the folder of a store.
pub(crate) const DATABASE: &str = "store.db";

/// The name of its write-ahead log, as SQLite has it.
pub(crate) const LOG: &str = "store.db-wal";

/// The name of a database that is not complete.
pub(crate) const NEW: &str = "store.new";

/// The pages of 4 KiB after which the write-ahead log goes into the database. A checkpoint takes
/// about 6 microseconds a page, and a commit some ten pages: so less than one commit in a hundred
/// waits for one, for about 12 ms.
const CHECKPOINT_PAGES: i32 = 2000;

/// What is left of a write-ahead log that was longer, in bytes.
const LOG_BYTES: i64 = 64 << 20;

/// SQLite's cache, in KiB.
const CACHE_KIB: i64 = 16 << 10;

/// The statements that are kept prepared: more than there are.
const STATEMENTS: usize = 64;

/// How long to wait for another program that reads the file, such as a backup.
const OTHERS: Duration = Duration::from_secs(1);

/// What tells the time: milliseconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send>;

/// How a store is opened: for tests, mostly.
pub struct Options {
    /// The clock that says when a job was created, when it ended and whether it has expired.
    pub clock: Clock,
    /// How often to look whether a full disk has room again.
    pub look_every: Duration,
    /// Whether each commit is synced. Without that, a power cut loses what was acknowledged: only a
    /// test that is to notice wants it so.
    pub syncs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Box::new(now_ms), look_every: Duration::from_secs(1), syncs: true }
    }
}

/// Makes an empty store beside its place, and puts it there when it is complete: a file that is
/// empty or has no tables is never a new one.
pub(crate) fn make(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let io = |error| StoreError::io(folder, &error);
    if folder.join(LOG).exists() {
        return Err(StoreError::Damaged(path.into(), "it is missing, but its write-ahead log is there".into()));
    }
    let new = folder.join(NEW);
    for left in [&new, &folder.join("store.new-journal")] {
        match fs::remove_file(left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    private(&new).map_err(io)?;
    let home = rand::random::<u32>().max(1);
    let made = Connection::open_with_flags(&new, flags()).map_err(Fault::from).and_then(|mut db| {
        db.pragma_update(None, "synchronous", "FULL")?;
        schema::make(&mut db, home)
    });
    made.map_err(|fault| fault.at(path))?;
    fs::rename(&new, path).and_then(|()| folder::sync(folder)).map_err(io)
}

/// Makes an empty file that this user alone may read.
pub(crate) fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::File::options().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Opens a database that is there, and finds out whose it is.
pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = connection(path).map_err(|fault| fault.at(path))?;
    match schema::whose(&db).map_err(|fault| fault.at(path))? {
        Whose::Ours => Ok(db),
        Whose::Older(version) => Err(StoreError::Older(path.into(), version)),
        Whose::Newer(version) => Err(StoreError::Newer(path.into(), version)),
        Whose::Foreign => Err(StoreError::NotAStore(path.into())),
    }
}

/// Returns the size of a file in bytes; 0 if there is none.
pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn connection(path: &Path) -> Result<Connection, Fault> {
    let db = Connection::open_with_flags(path, flags())?;
    db.busy_timeout(OTHERS)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before the first access: then there is no shared memory beside the file.
    set(&db, "locking_mode", "EXCLUSIVE")?;
    set(&db, "trusted_schema", "OFF")?;
    set(&db, "cell_size_check", "ON")?;
    Ok(db)
}

/// Sets how the database is written, and reads what it holds.
pub(crate) fn begin(db: &mut Connection, syncs: bool) -> Result<(Restored, bool), Fault> {
    set(db, "journal_mode", "WAL")?;
    let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Damaged(format!("it has no write-ahead log, but \"{mode}\"")));
    }
    set(db, "synchronous", if syncs { "FULL" } else { "NORMAL" })?;
    db.wal_hook(Some(
        |log: &mut Wal, pages| {
            if pages < CHECKPOINT_PAGES { Ok(()) } else { harmless(log.checkpoint()) }
        },
    ))?;
    set(db, "journal_size_limit", LOG_BYTES)?;
    set(db, "cache_size", -CACHE_KIB)?;
    set(db, "temp_store", "MEMORY")?;
    let restored = Restored { home: schema::home(db)?, last_job: jobs::last(db)?, jobs: jobs::live(db)? };
    Ok((restored, sweep::is_due(db)?))
}

/// Brings the write-ahead log into the database, as far as there is room for it.
pub(crate) fn checkpoint(db: &Connection) -> rusqlite::Result<()> {
    harmless(db.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE).map(drop))
}

/// A checkpoint that finds no space leaves the log as it is, and what is in the log is safe.
///
/// SQLite's own checkpoints ignore all other errors, too: nobody would hear of a broken disk, and the
/// log would grow.
fn harmless(done: rusqlite::Result<()>) -> rusqlite::Result<()> {
    match done {
        Err(error) if is_full(&error) => Ok(()),
        done => done,
    }
}

/// Sets a pragma, whether it answers or not.
pub(crate) fn set(db: &Connection, pragma: &str, value: impl rusqlite::ToSql) -> Result<(), Fault> {
    Ok(db.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    })?)
}

#[expect(clippy::disallowed_methods, reason = "the store says when a job was created and ended")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
