//! The store of durable jobs beside the server: its thread, and the alarm by which it wakes the
//! server.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use giostra_core::store::{Done, Op, Restored};
use giostra_protocol::StoreStatus;
use giostra_store::{Sqlite, StoreThread};
use giostra_transport::wake::{Alarm, alarm};

use crate::error::Error;

/// A store that is open.
pub struct Store {
    thread: StoreThread,
    alarm: Alarm,
}

impl Store {
    /// Opens the store in this folder, or makes it. Returns what is to be gone on with.
    ///
    /// # Errors
    /// If it can't be used, why.
    pub fn open(folder: &Path) -> Result<(Self, Restored), Error> {
        let (store, restored) = Sqlite::open(folder)?;
        let (waker, alarm) = alarm()?;
        let thread = StoreThread::start(store, move || waker.wake())?;
        Ok((Self { thread, alarm }, restored))
    }

    /// Hands the store something to do.
    pub fn submit(&self, op: Op) {
        self.thread.submit(op);
    }

    /// Returns figures of it.
    pub fn figures(&self) -> StoreStatus {
        self.thread.figures()
    }

    /// Returns what it has done since the last call, in order.
    pub fn completed(&mut self) -> Vec<Done> {
        match self.alarm.clear() {
            true => self.thread.completed().collect(),
            false => Vec::new(),
        }
    }
}

/// The descriptor that becomes readable when the store has done something.
impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }
}
