//! A client for many threads or tasks: one connection, served by a thread of its own.
//!
//! It depends on no runtime: an answer is a [`Future`] of the standard library, and can also be
//! waited for without one.

mod asked;
mod driver;
mod homes;
mod jobs;
mod questions;
mod slot;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use giostra_protocol::{Bytes, Priority, Progress, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::typed::{body, result};
use crate::{CallError, Client, Error, Options};
use driver::{Driver, Inbox};
use slot::Slot;

pub use asked::Asked;
pub use jobs::SharedJob;

/// A client that can be cloned and used by many threads or tasks at once. All clones share one
/// connection.
///
/// It accepts any number of requests. Each is kept as long as its [`Answer`] is, so that the users
/// bound the memory by what they keep. A request that the broker has no room for waits here, and its
/// time limit goes on running. All requests go to one pool, that of the [`Options`]; another pool
/// takes another client.
///
/// The connection ends when the last clone and the last answer are dropped. When the client can't go
/// on, every answer is [`Error::Ended`].
///
/// ```no_run
/// # fn main() -> Result<(), giostra_client::CallError> {
/// use giostra_client::{Options, SharedClient};
///
/// let client = SharedClient::connect(Options::new("tcp://127.0.0.1:5555"))?;
/// std::thread::scope(|scope| {
///     for n in 0..8 {
///         let client = &client;
///         scope.spawn(move || println!("{:?}", client.compute::<bool>("is_prime", &[n]).wait()));
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedClient {
    handle: Arc<Handle>,
    /// The priority of the requests.
    priority: Priority,
}

/// What all clones and answers share. Dropped, it ends the driver.
struct Handle(Arc<Inbox>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SharedClient {
    /// Begins to connect, and returns at once, as [`Client::connect`] does.
    pub fn connect(options: Options) -> Result<Self, Error> {
        let priority = options.priority;
        let (inbox, driver) = Driver::new(Client::connect(options)?)?;
        let handle = Arc::new(Handle(inbox));
        thread::Builder::new().name("giostra-client".into()).spawn(|| driver.run()).map_err(Error::Thread)?;
        Ok(Self { handle, priority })
    }

    /// Returns a clone, over the same connection, whose requests have this priority.
    ///
    /// ```no_run
    /// # use giostra_client::{CallError, Priority, SharedClient};
    /// async fn sum(client: &SharedClient) -> Result<i64, CallError> {
    ///     client.with_priority(Priority::High).compute("add", &(1, 2)).await
    /// }
    /// ```
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { priority, ..self.clone() }
    }

    /// Submits a request, which is sent at once. Wait for its answer, or await it; dropped before it
    /// arrives, the answer cancels the request.
    ///
    /// After `timeout` the reply is a failure with the code `expired`, or `no-broker` if none was
    /// there.
    pub fn call(&self, body: Bytes, timeout: Option<Duration>) -> Answer {
        Answer { slot: self.handle.0.submit(body, self.priority, timeout), handle: Arc::clone(&self.handle) }
    }

    /// Calls an operation.
    ///
    /// ```no_run
    /// # use giostra_client::{CallError, SharedClient};
    /// async fn larger(client: &SharedClient, a: i64, b: i64) -> Result<i64, CallError> {
    ///     // Both are computed at the same time.
    ///     let [a, b] = [a, b].map(|n| client.compute::<i64>("fib", &[n]));
    ///     Ok(a.await?.max(b.await?))
    /// }
    /// ```
    pub fn compute<R: DeserializeOwned>(&self, operation: &str, arguments: &impl Serialize) -> Computed<R> {
        Computed::new(body(operation, arguments).map(|body| self.call(body, None)))
    }

    /// Calls an operation with a time limit, after which it fails with the code `expired`, or
    /// `no-broker` if none was there.
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

/// The future reply to a request. Dropped before the reply arrives, it cancels the request.
#[must_use = "dropped, it cancels the request"]
pub struct Answer {
    slot: Arc<Slot<Reply>>,
    handle: Arc<Handle>,
}

impl Answer {
    /// Blocks until the reply arrives.
    pub fn wait(self) -> Result<Reply, Error> {
        self.slot.wait()
    }

    /// The request's progress, if it is being computed and its operation reports it.
    pub fn progress(&self) -> Option<Progress> {
        self.slot.progress()
    }
}

impl Future for Answer {
    type Output = Result<Reply, Error>;

    /// # Panics
    /// If it was ready before.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.poll(context.waker())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.handle.0.abandon(&self.slot);
    }
}

/// The future result of an operation. Dropped before the result arrives, it cancels the request.
#[must_use = "dropped, it cancels the request"]
pub struct Computed<R> {
    /// `Err` if the request could not be submitted, `None` once that was returned.
    answer: Result<Answer, Option<CallError>>,
    result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Computed<R> {
    fn new(answer: Result<Answer, CallError>) -> Self {
        Self { answer: answer.map_err(Some), result: PhantomData }
    }

    /// Blocks until the result arrives.
    pub fn wait(self) -> Result<R, CallError> {
        match self.answer {
            Ok(answer) => result(answer.wait()?.outcome),
            Err(error) => Err(error.expect(POLLED_AGAIN)),
        }
    }

    /// The request's progress, if it is being computed and its operation reports it.
    pub fn progress(&self) -> Option<Progress> {
        self.answer.as_ref().ok()?.progress()
    }
}

impl<R: DeserializeOwned> Future for Computed<R> {
    type Output = Result<R, CallError>;

    /// # Panics
    /// If it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Ok(answer) => Pin::new(answer).poll(context).map(|reply| result(reply?.outcome)),
            Err(error) => Poll::Ready(Err(error.take().expect(POLLED_AGAIN))),
        }
    }
}

/// The message of the panic if a future is used after it was ready.
const POLLED_AGAIN: &str = "an answer is given once";
