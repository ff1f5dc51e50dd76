//! A client for many threads or tasks: one connection, served by a thread of its own.
//!
//! Nothing here knows a runtime: an answer is a [`Future`] of the standard library, and can be
//! waited for without one.

mod desk;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use giostra_protocol::{Bytes, Progress, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::typed::{CallError, body, result};
use crate::{Client, Error, Options};
use desk::{Desk, Slot};

/// A client that may be cloned and used from many threads or tasks at once: all of them have one
/// connection.
///
/// It takes any number of requests: each is held for as long as its [`Answer`] is, and by nothing
/// else, so that memory is bounded by what its users hold. What the broker has no room for waits
/// here, its time limit going on. All of them go to one pool, that of the [`Options`]: another pool
/// takes another client.
///
/// The connection ends when the last clone and the last answer are dropped. When it can't go on,
/// every answer is [`Error::Ended`].
#[derive(Clone)]
pub struct SharedClient {
    desk: Arc<Open>,
}

/// Closes the desk when nobody is left before it.
struct Open(Arc<Desk>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SharedClient {
    /// Begins to connect, and does not wait, as [`Client::connect`].
    pub fn connect(options: Options) -> Result<Self, Error> {
        let client = Client::connect(options)?;
        let (desk, service) = desk::open(client)?;
        thread::Builder::new()
            .name("giostra-client".into())
            .spawn(|| service.run())
            .map_err(|error| desk::no_thread(&error))?;
        Ok(Self { desk: Arc::new(Open(desk)) })
    }

    /// Submits a request, which is under way at once. Its answer waits or is awaited; dropped
    /// before, it cancels the request.
    pub fn call(&self, body: Bytes, timeout: Option<Duration>) -> Answer {
        Answer { slot: self.desk.0.submit(body, timeout), desk: Arc::clone(&self.desk) }
    }

    /// Has an operation computed.
    pub fn compute<R: DeserializeOwned>(&self, operation: &str, arguments: &impl Serialize) -> Computed<R> {
        Computed::new(body(operation, arguments).map(|body| self.call(body, None)))
    }

    /// The same; after `timeout` it fails with the code `expired` (or `no-broker`).
    pub fn compute_within<R: DeserializeOwned>(
        &self,
        operation: &str,
        arguments: &impl Serialize,
        timeout: Duration,
    ) -> Computed<R> {
        Computed::new(body(operation, arguments).map(|body| self.call(body, Some(timeout))))
    }
}

impl fmt::Debug for SharedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClient").finish_non_exhaustive()
    }
}

/// The answer to a request, when it comes. Dropped before that, it cancels the request.
#[must_use = "dropped, it cancels the request"]
pub struct Answer {
    slot: Arc<Slot>,
    desk: Arc<Open>,
}

impl Answer {
    /// Waits for it.
    pub fn wait(self) -> Result<Reply, Error> {
        self.slot.wait()
    }

    /// How far it is, if it is being computed and its operation has said so: see
    /// [`Client::progress`].
    pub fn progress(&self) -> Option<Progress> {
        self.slot.progress()
    }
}

impl Future for Answer {
    type Output = Result<Reply, Error>;

    /// Panics if it was ready before: an answer is given once.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.poll(context.waker())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.desk.0.give_up(&self.slot);
    }
}

/// The result of an operation, when it comes. Dropped before that, it cancels the request.
#[must_use = "dropped, it cancels the request"]
pub struct Computed<R> {
    /// `Err` if nothing could be asked for, until that is told.
    answer: Result<Answer, Option<CallError>>,
    result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Computed<R> {
    fn new(answer: Result<Answer, CallError>) -> Self {
        Self { answer: answer.map_err(Some), result: PhantomData }
    }

    /// Waits for it.
    pub fn wait(self) -> Result<R, CallError> {
        match self.answer {
            Ok(answer) => result(answer.wait()?.outcome),
            Err(error) => Err(error.expect("it is told once")),
        }
    }

    /// How far it is, if it is being computed and its operation has said so: see
    /// [`Client::progress`].
    pub fn progress(&self) -> Option<Progress> {
        self.answer.as_ref().ok()?.progress()
    }
}

impl<R: DeserializeOwned> Future for Computed<R> {
    type Output = Result<R, CallError>;

    /// Panics if it was ready before: an answer is given once.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Ok(answer) => Pin::new(answer).poll(context).map(|reply| result(reply?.outcome)),
            Err(error) => Poll::Ready(Err(error.take().expect("it is told once"))),
        }
    }
}
