//! The store in an SQLite database, and how it is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use giostra_core::store::{Done, Read, Restored, Write};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::Store;
use crate::blocks::Blocks;
use crate::error::{Fault, StoreError};
use crate::folder::{self, Lock};
use crate::group::Group;
use crate::schema::{self, Whose};
use crate::{jobs, scan, sweep};

/// The pages of 4 KiB after which the write-ahead log goes into the database. A checkpoint takes
/// about 6 microseconds a page, and a commit some ten pages: so less than one commit in a hundred
/// waits for one, for about 12 ms.
const CHECKPOINT_PAGES: i64 = 2000;

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
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Box::new(now_ms) }
    }
}

/// A store of durable jobs in an SQLite database, `store.db` in a folder of its own.
///
/// The database has a write-ahead log, which is synced in each commit. One connection has it for
/// itself, also against other programs.
pub struct Sqlite {
    db: Connection,
    path: PathBuf,
    blocks: Blocks,
    /// Whether something is to be removed.
    sweeps: bool,
    broken: Option<Arc<str>>,
    clock: Clock,
    /// Released after the connection is closed.
    _lock: Lock,
}

impl Sqlite {
    /// Opens the store in `folder`, which is made if it is missing, and returns what it holds.
    ///
    /// # Errors
    /// If another process uses it, it is of a newer version, no store or damaged, or the folder can't
    /// be used. The jobs of a store stay as they are then.
    pub fn open(folder: &Path) -> Result<(Self, Restored), StoreError> {
        Self::open_with(folder, Options::default())
    }

    /// Opens the store as [`Sqlite::open`] does, with other options.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open_with(folder: &Path, options: Options) -> Result<(Self, Restored), StoreError> {
        let lock = folder::take(folder)?;
        // Absolute: SQLite takes a path that begins with "file:" for an address with options.
        let folder = folder.canonicalize().map_err(|error| StoreError::io(folder, &error))?;
        let path = folder.join("store.db");
        if !path.exists() {
            make(&folder, &path)?;
        }
        let db = connect(&path).map_err(|fault| fault.at(&path))?;
        match schema::whose(&db).map_err(|fault| fault.at(&path))? {
            Whose::Ours => {}
            Whose::Older(version) => return Err(StoreError::Older(path, version)),
            Whose::Newer(version) => return Err(StoreError::Newer(path, version)),
            Whose::Foreign => return Err(StoreError::NotAStore(path)),
        }
        let (restored, sweeps) = begin(&db).map_err(|fault| fault.at(&path))?;
        let store =
            Self { db, path, blocks: Blocks::default(), sweeps, broken: None, clock: options.clock, _lock: lock };
        Ok((store, restored))
    }

    /// Reads the clock. 0 would say that a job has not ended, and larger numbers don't fit the file.
    fn now_ms(&self) -> u64 {
        (self.clock)().clamp(1, i64::MAX as u64)
    }

    /// Runs a transaction, which is kept if all goes well.
    fn transact<T>(&mut self, run: impl FnOnce(&Connection, &mut Blocks) -> Result<T, Fault>) -> Result<T, StoreError> {
        if let Some(reason) = &self.broken {
            return Err(StoreError::OutOfService(reason.clone()));
        }
        let blocks = &mut self.blocks;
        let transact = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = run(&transaction, blocks)?;
            transaction.commit()?;
            Ok(done)
        };
        transact().map_err(|fault: Fault| {
            self.blocks.clear();
            let error = fault.at(&self.path);
            if !matches!(error, StoreError::Full(_)) || !self.db.is_autocommit() {
                self.broken = Some(error.to_string().into());
            }
            error
        })
    }
}

impl Store for Sqlite {
    fn commit(&mut self, group: &[Write]) -> Result<Vec<Done>, StoreError> {
        if group.is_empty() {
            return Ok(Vec::new());
        }
        let goes = |write: &Write| matches!(write, Write::Cancel(_) | Write::Delete(_));
        let sweeps = self.sweeps || group.iter().any(goes);
        let now_ms = self.now_ms();
        let (done, sweeps) = self.transact(|db, blocks| {
            let mut writes = Group::new(db, blocks, now_ms);
            let done = group.iter().map(|write| writes.apply(write)).collect::<Result<Vec<_>, _>>()?;
            writes.finish()?;
            Ok((done, sweeps && sweep::step(db, sweep::WITH_A_GROUP)?))
        })?;
        self.sweeps = sweeps;
        self.blocks.trim();
        Ok(done)
    }

    fn scan(&mut self, question: &Read) -> Result<Done, StoreError> {
        if let Some(reason) = &self.broken {
            return Err(StoreError::OutOfService(reason.clone()));
        }
        let now_ms = self.now_ms();
        // One transaction: many statements without one would lock and unlock the file each.
        let transaction = self.db.transaction().map_err(|error| Fault::from(error).at(&self.path))?;
        scan::answer(&transaction, &mut self.blocks, question, now_ms).map_err(|fault| fault.at(&self.path))
    }

    fn sweep(&mut self) -> Result<bool, StoreError> {
        if self.sweeps {
            self.sweeps = self.transact(|db, _| sweep::step(db, sweep::IDLE))?;
        }
        Ok(self.sweeps)
    }
}

/// Makes an empty store beside its place, and puts it there when it is complete: a file that is
/// empty or has no tables is never a new one.
fn make(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let io = |error| StoreError::io(folder, &error);
    if folder.join("store.db-wal").exists() {
        return Err(StoreError::Damaged(path.into(), "it is missing, but its write-ahead log is there".into()));
    }
    let new = folder.join("store.new");
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
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::File::options().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn connect(path: &Path) -> Result<Connection, Fault> {
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
fn begin(db: &Connection) -> Result<(Restored, bool), Fault> {
    set(db, "journal_mode", "WAL")?;
    let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Damaged(format!("it has no write-ahead log, but \"{mode}\"")));
    }
    set(db, "synchronous", "FULL")?;
    set(db, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    set(db, "journal_size_limit", LOG_BYTES)?;
    set(db, "cache_size", -CACHE_KIB)?;
    set(db, "temp_store", "MEMORY")?;
    let restored = Restored { home: schema::home(db)?, last_job: jobs::last(db)?, jobs: jobs::live(db)? };
    Ok((restored, sweep::is_due(db)?))
}

/// Sets a pragma, whether it answers or not.
fn set(db: &Connection, pragma: &str, value: impl rusqlite::ToSql) -> Result<(), Fault> {
    Ok(db.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    })?)
}

#[expect(clippy::disallowed_methods, reason = "the store says when a job was created and ended")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use giostra_core::ids::JobNumber;
    use giostra_protocol::{Bytes, JobSpec, Outcome};

    use super::*;

    fn results(job: JobNumber, body: &Bytes) -> Write {
        Write::Results {
            job,
            outcomes: (0..9).map(|number| (number, Outcome::Ok(body.clone()))).collect(),
            finishes: true,
        }
    }

    #[test]
    fn a_group_that_finds_no_space_is_not_kept_and_can_be_committed_when_there_is_some() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Sqlite::open(folder.path()).unwrap();
        let (job, spec) = (JobNumber(1), Arc::new(JobSpec::default()));
        let bodies = (0..9).map(|number| Bytes::from(format!("body {number}"))).collect();
        let append = Write::Append { job, first: 0, bodies, closes: true };
        store.commit(&[Write::Create { job, owner: "".into(), spec }, append]).unwrap();
        let question = Read::Pending { job, from: 0, requests: 99, bytes: 9999 };
        let pending = store.scan(&question).unwrap();

        let pages: i64 = store.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        set(&store.db, "max_page_count", pages + 2).unwrap();
        let group = [results(job, &Bytes::from(vec![7; 10_000]))];
        let error = store.commit(&group).unwrap_err();
        assert!(matches!(error, StoreError::Full(_)) && error.to_string().contains("free some"), "{error}");
        assert_eq!(store.scan(&question).unwrap(), pending, "nothing of the group is kept");
        set(&store.db, "max_page_count", pages + 1000).unwrap();
        assert_eq!(store.commit(&group).unwrap(), [Done::Written]);
        let Done::Jobs(jobs) = store.scan(&Read::Job(job)).unwrap() else { panic!("jobs") };
        assert_eq!((jobs[0].succeeded, jobs[0].failed), (9, 0));
        let results = store.scan(&Read::Results { job, from: 0, bytes: usize::MAX, with_failed: false }).unwrap();
        assert!(matches!(results, Done::Results { results, .. } if results.len() == 9));
    }

    #[test]
    fn each_commit_is_synced_before_it_is_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Sqlite::open(folder.path()).unwrap();
        let pragma = |name| store.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), 2, "FULL: the write-ahead log is synced in each commit");
        let mode: String = store.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(pragma("wal_autocheckpoint"), CHECKPOINT_PAGES);
        let bundled = rusqlite::version_number();
        assert!(bundled >= 3_051_003, "{bundled}: earlier ones lose commits when the log is reset");
    }
}
