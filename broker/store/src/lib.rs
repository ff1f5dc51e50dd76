//! The store of durable jobs: SQLite in a folder, and the thread that commits.
//!
//! [`Store`] is what the thread needs of a store, [`Sqlite`] the one there is, [`StoreThread`] the
//! thread: [`giostra_core::store::Op`]s go in, and a [`giostra_core::store::Done`] for each comes
//! out in the same order. Nothing is decided here: the core says what is written, and the store
//! keeps it, reads it back, and removes what nobody needs any more.

mod blocks;
mod chunk;
mod error;
mod figures;
mod folder;
mod format;
mod group;
mod jobs;
pub mod maintenance;
mod opening;
mod reserve;
mod room;
mod scan;
mod schema;
mod sqlite;
mod sweep;
mod thread;

use std::sync::Arc;

use giostra_core::store::{Done, Read, Write};

pub use self::error::StoreError;
pub use self::opening::{Clock, Options};
pub use self::sqlite::Sqlite;
pub use self::thread::{MAX_GROUP_BYTES, MAX_GROUP_WRITES, StoreThread};

/// A store of durable jobs. It does one thing at a time, and blocks until the disk has done it.
pub trait Store: Send {
    /// Writes a group, all of it or nothing, and returns what became of each write, in the same
    /// order. When it returns, the group survives a power cut: without the writes that are answered
    /// with [`Done::Full`].
    ///
    /// # Errors
    /// After an error it is unknown whether the group is kept, and the store is out of service.
    fn commit(&mut self, group: &[Write]) -> Result<Vec<Done>, StoreError>;

    /// Answers a question. It finds everything that was committed before.
    ///
    /// # Errors
    /// If the store can't be read, or what it holds is damaged.
    fn scan(&mut self, question: &Read) -> Result<Done, StoreError>;

    /// Removes a bounded part of what belongs to deleted and cancelled jobs, and returns whether
    /// there is more of it.
    ///
    /// # Errors
    /// Nothing is removed after [`StoreError::Full`], and the store can be used. Others are as those of
    /// [`Store::commit`].
    fn sweep(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Returns why there is no room for new requests; `None` if there is.
    fn full(&self) -> Option<Arc<str>> {
        None
    }

    /// Returns the size of its files, in bytes.
    fn bytes(&self) -> u64 {
        0
    }
}
