//! The store in an SQLite database.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use giostra_core::store::{Done, Read, Restored, Write};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::Store;
use crate::blocks::Blocks;
use crate::error::{Fault, StoreError};
use crate::folder::{self, Lock};
use crate::group::Group;
use crate::opening::{self, Clock, Options};
use crate::room::Room;
use crate::{reserve, scan, sweep};

/// A store of durable jobs in an SQLite database, `store.db` in a folder of its own.
///
/// The database has a write-ahead log, which is synced in each commit. One connection has it for
/// itself, also against other programs.
pub struct Sqlite {
    db: Connection,
    path: PathBuf,
    blocks: Blocks,
    room: Room,
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
    /// If another process uses it, it is of another version, no store or damaged, the disk is full, or
    /// the folder can't be used. The jobs of a store stay as they are then.
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
        let path = folder.join(opening::DATABASE);
        if path.exists() {
            // What a compaction has left that was interrupted.
            let _ = fs::remove_file(folder.join(opening::NEW));
        } else {
            opening::make(&folder, &path)?;
        }
        let mut db = opening::connect(&path)?;
        let (restored, sweeps) = opening::begin(&mut db, options.syncs).map_err(|fault| fault.at(&path))?;
        let room = Room::new(&db, &folder, &path, options.look_every);
        let (blocks, clock) = (Blocks::default(), options.clock);
        let store = Self { db, path, blocks, room, sweeps, broken: None, clock, _lock: lock };
        Ok((store, restored))
    }

    /// Bounds the size of the database, or lifts the bound. What does not fit is refused as on a full
    /// disk. What there is stays.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn set_max_bytes(&mut self, bytes: Option<u64>) -> Result<(), StoreError> {
        let pages = bytes.map_or(i64::from(u32::MAX) - 1, |bytes| (bytes / 4096).clamp(1, 1 << 31) as i64);
        opening::set(&self.db, "max_page_count", pages).map_err(|fault| fault.at(&self.path))
    }

    /// Reads the clock. 0 would say that a job has not ended, and larger numbers don't fit the file.
    fn now_ms(&self) -> u64 {
        (self.clock)().clamp(1, i64::MAX as u64)
    }

    /// Runs a transaction, which is kept if all goes well.
    fn transact<T>(
        &mut self,
        run: impl FnOnce(&Connection, &mut Blocks, &mut Room) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        if let Some(reason) = &self.broken {
            return Err(StoreError::OutOfService(reason.clone()));
        }
        let (blocks, room) = (&mut self.blocks, &mut self.room);
        let transact = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = run(&transaction, blocks, room)?;
            transaction.commit()?;
            Ok(done)
        };
        transact().map_err(|fault| self.failed(fault))
    }

    /// After this, nothing is written any more, unless the disk was full.
    fn failed(&mut self, fault: Fault) -> StoreError {
        self.blocks.clear();
        let error = fault.at(&self.path);
        if !matches!(error, StoreError::Full(_)) || !self.db.is_autocommit() {
            self.broken = Some(error.to_string().into());
            // Nor when it is closed. The next life finds the log as it is.
            let _ = self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        error
    }

    /// Writes a group, without what adds requests if the room says so.
    fn write(&mut self, group: &[Write]) -> Result<Vec<Done>, StoreError> {
        let goes = |write: &Write| matches!(write, Write::Cancel(_) | Write::Delete(_));
        let sweeps = self.sweeps || group.iter().any(goes);
        let now_ms = self.now_ms();
        let (done, sweeps) = self.transact(|db, blocks, room| {
            // What is removed with a group needs space in the log.
            let step = sweeps && !room.is_full();
            let mut writes = Group::new(db, blocks, room, now_ms);
            let done = group.iter().map(|write| writes.apply(write)).collect::<Result<Vec<_>, _>>()?;
            writes.finish()?;
            Ok((done, if step { sweep::step(db, sweep::WITH_A_GROUP)? } else { sweeps }))
        })?;
        self.sweeps = sweeps;
        self.blocks.trim();
        Ok(done)
    }

    /// Does something once more when it has found no space, with that of the reserve.
    fn with_reserve<T>(&mut self, run: impl Fn(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match run(self) {
            Err(StoreError::Full(_)) => {}
            done => return done,
        }
        self.room.run_out();
        // If the log fits into the database, it begins anew, in the space that it has.
        opening::checkpoint(&self.db).map_err(|error| self.failed(error.into()))?;
        run(self)
    }
}

impl Store for Sqlite {
    fn commit(&mut self, group: &[Write]) -> Result<Vec<Done>, StoreError> {
        if group.is_empty() {
            return Ok(Vec::new());
        }
        self.room.look(&self.db);
        match self.with_reserve(|store| store.write(group)) {
            Err(StoreError::Full(_)) => Ok(group.iter().map(|write| self.room.refuse(write)).collect()),
            done => done,
        }
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
        if self.broken.is_none() {
            self.room.look(&self.db);
        }
        if self.sweeps {
            self.sweeps = self.with_reserve(|store| store.transact(|db, _, _| sweep::step(db, sweep::IDLE)))?;
        }
        Ok(self.sweeps)
    }

    fn full(&self) -> Option<Arc<str>> {
        self.room.is_full().then(|| self.room.reason().clone())
    }

    fn bytes(&self) -> u64 {
        let size = |name| opening::size(&self.path.with_file_name(name));
        [opening::DATABASE, opening::LOG, reserve::NAME].into_iter().map(size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_is_synced_before_it_is_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Sqlite::open(folder.path()).unwrap();
        let pragma = |name| store.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), 2, "FULL: the write-ahead log is synced in each commit");
        let mode: String = store.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(pragma("wal_autocheckpoint"), 0, "the store makes its own, and looks how they end");
        let bundled = rusqlite::version_number();
        assert!(bundled >= 3_051_003, "{bundled}: earlier ones lose commits when the log is reset");
    }
}
