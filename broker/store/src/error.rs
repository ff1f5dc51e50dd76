//! What can be wrong with a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use rusqlite::types::FromSqlError;
use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use crate::format::VERSION;

/// Why a store can't be opened or used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// When another process uses the store: its id, if it is known.
    #[error(
        "the store in {} is in use by {}: stop that one first, or use another folder",
        .0.display(),
        .1.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
    )]
    InUse(PathBuf, Option<u32>),
    /// When the folder is on a file system of another computer: its kind.
    #[error("{} is on a network file system ({}), where locks and syncs can't be relied on: choose a folder on a local disk", .0.display(), .1)]
    Network(PathBuf, &'static str),
    /// When a newer version of the broker wrote the store: the version of its format.
    #[error("the store {} has format {}, and this broker reads format {VERSION}: use the newer broker that wrote it, or another folder", .0.display(), .1)]
    Newer(PathBuf, i64),
    /// When an older version of the broker wrote the store: the version of its format.
    #[error("the store {} has format {}, and this broker reads format {VERSION}: finish its jobs with the older broker that wrote it, or give this one a folder of its own", .0.display(), .1)]
    Older(PathBuf, i64),
    /// When the file is something else.
    #[error("{} is no store of Giostra's jobs, or its beginning is overwritten: choose another folder, or restore a backup of this one", .0.display())]
    NotAStore(PathBuf),
    /// When the store holds what was never written: what, for people.
    #[error("the store {} is damaged ({}): restore a backup of its folder, or move the folder away to begin with an empty store", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// When there is no space on the disk, in the quota or below the limit of a file's size. What was
    /// committed before is safe.
    #[error("no space on the disk for the store {}: free some, or raise the quota or the limit of a file's size; then try again", .0.display())]
    Full(PathBuf),
    /// When there is no store.
    #[error("there is no store in {}: a broker makes one there if it is started with --store", .0.display())]
    Missing(PathBuf),
    /// When a copy of the store does not fit beside it: the bytes that it needs, and those that are
    /// free.
    #[error("the store {} needs {} MiB beside it until it is compacted, and the disk has {} MiB: free {} MiB more", .0.display(), mib(*.1), .2 >> 20, mib(.1.saturating_sub(*.2)))]
    NoRoom(PathBuf, u64, u64),
    /// When the system failed to read or write: how, for people.
    #[error("can't use the store {} ({}): check the disk and who may write there; a broker has to be restarted then", .0.display(), .1)]
    Io(PathBuf, String),
    /// When a write makes no sense after those before it, which is an error in the broker.
    #[error(
        "the store was asked for what makes no sense ({0}): an error in the broker, please report it; a restart continues with what was kept"
    )]
    Misuse(String),
    /// When an earlier commit failed: how, for people.
    #[error("the store is out of service since an earlier error ({0}): restart the broker")]
    OutOfService(Arc<str>),
}

/// Returns bytes in MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl StoreError {
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(path.into())
            }
            _ => Self::Io(path.into(), error.to_string()),
        }
    }
}

/// What went wrong within the store, before it is known where.
#[derive(Debug)]
pub(crate) enum Fault {
    /// When SQLite said so.
    Sqlite(rusqlite::Error),
    /// When there was no space for a write.
    Full,
    /// When the store holds what was never written.
    Damaged(String),
    /// When a write makes no sense.
    Misuse(String),
}

impl Fault {
    /// Says which file it is about.
    pub fn at(self, path: &Path) -> StoreError {
        let error = match self {
            Self::Damaged(what) => return StoreError::Damaged(path.into(), what),
            Self::Misuse(what) => return StoreError::Misuse(what),
            Self::Full => return StoreError::Full(path.into()),
            Self::Sqlite(error) => error,
        };
        let text = error.to_string();
        let Some(code) = error.sqlite_error_code() else {
            // A type or a number that does not fit its column.
            return StoreError::Damaged(path.into(), text);
        };
        match code {
            ErrorCode::NotADatabase => StoreError::NotAStore(path.into()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::InUse(path.into(), None),
            ErrorCode::ConstraintViolation => StoreError::Misuse(text),
            // `SQLITE_ERROR`, such as for a table that is missing.
            ErrorCode::DatabaseCorrupt | ErrorCode::TypeMismatch | ErrorCode::Unknown => {
                StoreError::Damaged(path.into(), text)
            }
            _ => StoreError::Io(path.into(), text),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Sqlite(error) }
    }
}

/// Whether SQLite, which has just returned this error, found no space for a write.
///
/// It says so only if the disk is full. A quota and a limit of a file's size leave the file as well as
/// that does: SQLite undoes the transaction, and the write can be made again. A sync that fails is
/// another matter, for whatever reason.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(error, _) = error else { return false };
    match error.extended_code {
        ffi::SQLITE_FULL => true,
        // What `sqlite3_system_errno` returns is this, too.
        ffi::SQLITE_IOERR_WRITE => matches!(Errno::last(), Errno::EDQUOT | Errno::EFBIG),
        _ => false,
    }
}

impl From<FromSqlError> for Fault {
    fn from(error: FromSqlError) -> Self {
        Self::Damaged(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_full_disk_for_a_write_and_a_failure_for_a_sync() {
        let is_full = |code, errno: Errno| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            errno.set();
            is_full(&error)
        };
        for errno in [Errno::EDQUOT, Errno::EFBIG] {
            assert!(is_full(ffi::SQLITE_IOERR_WRITE, errno), "{errno}");
            assert!(!is_full(ffi::SQLITE_IOERR_FSYNC, errno), "{errno}");
        }
        assert!(is_full(ffi::SQLITE_FULL, Errno::ENOSPC));
        assert!(!is_full(ffi::SQLITE_IOERR_WRITE, Errno::EIO));
    }
}
