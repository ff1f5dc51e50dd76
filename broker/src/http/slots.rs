//! Slots for connections. When all are taken, the connection that has been idle for longest is
//! closed for the next.
//!
//! A connection is idle while none of its requests is being answered: between two requests, and
//! until the headers of its first have arrived. So neither silence nor headers that never end keep
//! others out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::task::AbortHandle;

/// All slots.
#[derive(Clone)]
pub(super) struct Slots {
    max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// The last number given: to a connection, or to the moment at which one became idle.
    last: u64,
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    task: AbortHandle,
    /// The number of the moment since which it has been idle, if it is.
    idle: Option<u64>,
}

/// A connection's slot, until this is dropped.
pub(super) struct Slot {
    number: u64,
    slots: Slots,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// Whether a new connection needs another's slot.
    pub(super) fn are_full(&self) -> bool {
        self.lock().connections.len() >= self.max
    }

    /// Makes sure that a slot is free; `false` if every connection is being answered.
    pub(super) fn free_one(&self) -> bool {
        let mut taken = self.lock();
        if taken.connections.len() < self.max {
            return true;
        }
        let idle = taken.connections.iter().filter_map(|(&number, connection)| Some((connection.idle?, number)));
        let Some((_, longest)) = idle.min() else { return false };
        if let Some(connection) = taken.connections.remove(&longest) {
            connection.task.abort();
        }
        true
    }

    /// Spawns a task that serves a connection, which is idle at first.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(&self, serve: impl FnOnce(Slot) -> F) {
        let number = self.lock().number();
        let task = tokio::spawn(serve(Slot { number, slots: self.clone() })).abort_handle();
        // The task runs in this thread, and so has not begun.
        self.lock().connections.insert(number, Connection { task, idle: Some(number) });
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Slot {
    /// Notes that the connection has a request.
    pub(super) fn begin(&self) {
        if let Some(connection) = self.slots.lock().connections.get_mut(&self.number) {
            connection.idle = None;
        }
    }

    /// Notes that the request is answered.
    fn rest(&self) {
        let mut taken = self.slots.lock();
        let now = taken.number();
        if let Some(connection) = taken.connections.get_mut(&self.number) {
            connection.idle = Some(now);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().connections.remove(&self.number);
    }
}

/// The body of an answer. While it exists, its connection is not idle.
pub(super) struct Answer {
    body: Body,
    slot: Arc<Slot>,
}

impl Answer {
    pub(super) fn new(body: Body, slot: Arc<Slot>) -> Self {
        Self { body, slot }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.slot.rest();
    }
}
