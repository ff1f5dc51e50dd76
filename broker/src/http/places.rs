//! Places for connections, as many as there may be. When all are taken, the one that has been idle
//! for longest gives way.
//!
//! A connection is idle while none of its requests is being answered: between two requests, and
//! until the headers of its first have come. So neither silence nor headers that never end keep a
//! place from others.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::task::AbortHandle;

/// All places.
#[derive(Clone)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// The next number: of a connection, or of the time at which one began to be idle.
    next: u64,
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    task: AbortHandle,
    /// The number of the time since when it has been idle, if it is.
    idle: Option<u64>,
}

/// A connection's place, until this is dropped.
pub(super) struct Place {
    number: u64,
    places: Places,
}

impl Places {
    /// So many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Sees to a free place; `false` if every connection is being answered.
    pub(super) fn make_room(&self) -> bool {
        let mut taken = self.lock();
        if taken.connections.len() < self.most {
            return true;
        }
        let idle = taken.connections.iter().filter_map(|(&number, connection)| Some((connection.idle?, number)));
        let Some((_, longest)) = idle.min() else { return false };
        if let Some(connection) = taken.connections.remove(&longest) {
            connection.task.abort();
        }
        true
    }

    /// Has a task serve a connection, which is idle at first.
    pub(super) fn seat<F: Future<Output = ()> + Send + 'static>(&self, serve: impl FnOnce(Place) -> F) {
        let number = self.lock().number();
        let task = tokio::spawn(serve(Place { number, places: self.clone() })).abort_handle();
        // The task runs in this thread, and so has not begun.
        self.lock().connections.insert(number, Connection { task, idle: Some(number) });
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Place {
    /// Its connection has a request.
    pub(super) fn begin(&self) {
        if let Some(connection) = self.places.lock().connections.get_mut(&self.number) {
            connection.idle = None;
        }
    }

    /// The request is answered.
    pub(super) fn rest(&self) {
        let mut taken = self.places.lock();
        let now = taken.number();
        if let Some(connection) = taken.connections.get_mut(&self.number) {
            connection.idle = Some(now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().connections.remove(&self.number);
    }
}

/// The body of an answer: while it is there, its connection is not idle.
pub(super) struct Answer {
    body: Body,
    place: Arc<Place>,
}

impl Answer {
    /// That of a request of the connection that has this place.
    pub(super) fn new(body: Body, place: Arc<Place>) -> Self {
        Self { body, place }
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
        self.place.rest();
    }
}
