//! Questions of a shared client about the broker, and the future answer to a question.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use giostra_protocol::{JobsReply, Status};

use super::questions::{Question, Response};
use super::slot::Slot;
use super::{Handle, SharedClient};
use crate::Error;
use crate::client::admin::whole;

impl SharedClient {
    /// Asks the broker for its status: workers, clients, pools, counts.
    ///
    /// ```no_run
    /// # use giostra_client::{Error, SharedClient};
    /// async fn print(client: &SharedClient) -> Result<(), Error> {
    ///     for worker in client.status().await?.workers {
    ///         println!("{} in pool {}: {} in flight", worker.name, worker.pool, worker.in_flight);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// The answer is [`Error::Refused`] if the broker has keys, and this client's has not the role
    /// `admin`.
    pub fn status(&self) -> Asked<Status> {
        self.ask(Question::Status, |response| match response {
            Response::Status(status) => whole(*status),
            _ => Err(Error::not_an_answer()),
        })
    }

    /// Asks the broker how many workers of this client's pool take requests. Any client may ask.
    pub fn seats(&self) -> Asked<u64> {
        self.ask(Question::Seats(self.handle.0.pool.clone()), |response| match response {
            Response::Seats(seats) => Ok(seats),
            _ => Err(Error::not_an_answer()),
        })
    }

    /// Asks the broker which store it has; `None`: it keeps no jobs.
    pub(super) fn home(&self) -> Asked<Option<u32>> {
        self.ask(Question::Home, |response| match response {
            Response::Home(home) => Ok(home),
            _ => Err(Error::not_an_answer()),
        })
    }

    /// Asks, and has the answer put into this slot.
    pub(super) fn ask_for(&self, question: Question, slot: Arc<Slot<Response>>) {
        self.handle.0.ask_for(question, slot);
    }

    /// Has the answers that nobody wants any more looked for.
    pub(super) fn wake(&self) {
        self.handle.0.wake();
    }

    pub(super) fn ask<T>(&self, question: Question, read: fn(Response) -> Result<T, Error>) -> Asked<T> {
        let slot = self.handle.0.ask(question);
        Asked { slot: Some(slot), read, handle: Arc::clone(&self.handle) }
    }
}

impl Response {
    /// Returns what the broker said about jobs.
    pub(super) fn about_jobs(self) -> Result<JobsReply, Error> {
        match self {
            Self::Jobs(reply) => Ok(*reply),
            _ => Err(Error::not_an_answer()),
        }
    }
}

/// The future answer to a question about the broker or its jobs.
///
/// The question is asked again over each new connection. Without a broker for
/// [`Options::broker_timeout`](crate::Options::broker_timeout) the answer is [`Error::NoBroker`].
#[must_use = "dropped, it cancels the submission of a job"]
pub struct Asked<T> {
    /// `None` while it is dropped.
    slot: Option<Arc<Slot<Response>>>,
    read: fn(Response) -> Result<T, Error>,
    handle: Arc<Handle>,
}

impl<T> Asked<T> {
    /// Blocks until the answer arrives.
    pub fn wait(self) -> Result<T, Error> {
        self.slot().wait().and_then(self.read)
    }

    fn slot(&self) -> &Slot<Response> {
        self.slot.as_ref().expect("it is there until this is dropped")
    }
}

impl<T> Future for Asked<T> {
    type Output = Result<T, Error>;

    /// # Panics
    /// If it was ready before.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot().poll(context.waker()).map(|answer| answer.and_then(self.read))
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        let is_wanted = self.slot.take().is_some_and(|slot| slot.abandon());
        if is_wanted {
            // The driver sees that nobody else has the slot.
            self.handle.0.abandon_question();
        }
    }
}
