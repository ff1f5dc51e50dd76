//! One operation on many arguments: an iterator of calls becomes an iterator of results, many of
//! them under way at a time.

use std::iter::Fuse;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Failure, Outcome, Progress, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::budget::InFlightBudget;
use crate::reorder::ReorderBuffer;
use crate::typed::{CallError, body};
use crate::{Client, Error};

impl Client {
    /// Has an operation computed on each of these arguments. The results come in the order of the
    /// arguments, each call's failure in its place; when the client itself can't go on, that is
    /// the last that comes.
    ///
    /// At most [`Map::window`] requests are under way, the oldest unanswered one included: what was
    /// asked after it waits here. Arguments are asked for when there is budget, in the caller's
    /// thread: while their iterator blocks, no result comes. Dropping the map cancels what is
    /// unanswered. Replies to requests that were submitted before it are left for later.
    pub fn map<R, A>(&mut self, operation: &str, arguments: A) -> Map<'_, A::IntoIter, R>
    where
        R: DeserializeOwned,
        A: IntoIterator,
        A::Item: Serialize,
    {
        let calls = Calls {
            client: self,
            operation: operation.into(),
            arguments: arguments.into_iter().fuse(),
            timeout: None,
            requests: InFlightBudget::REQUESTS,
            bytes: InFlightBudget::BYTES,
            budget: InFlightBudget::default(),
            next: 0,
            unanswered: SparseQueue::default(),
            over: false,
        };
        Map { calls, order: ReorderBuffer::starting_at(0), result: PhantomData }
    }
}

/// The results of an operation on many arguments, in their order: see [`Client::map`].
pub struct Map<'c, I, R> {
    calls: Calls<'c, I>,
    order: ReorderBuffer<Answer>,
    result: PhantomData<fn() -> R>,
}

/// The same as the results come, each with the place of its arguments, counted from 0.
///
/// When the client can't go on, the error comes last, at the place of the oldest call that is
/// unanswered.
pub struct Unordered<'c, I, R> {
    calls: Calls<'c, I>,
    result: PhantomData<fn() -> R>,
}

impl<'c, I, R> Map<'c, I, R> {
    /// Requests that may be under way at a time, 4096 if nothing else is said.
    #[must_use]
    pub fn window(mut self, requests: usize) -> Self {
        self.calls.requests = requests.max(1);
        self.calls.budget = InFlightBudget::new(self.calls.requests, self.calls.bytes);
        self
    }

    /// Bytes of requests and of results that may be held at a time, 64 MiB if nothing else is said.
    /// One request there may always be, and results that are larger than those before them may
    /// exceed it.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.calls.bytes = bytes;
        self.calls.budget = InFlightBudget::new(self.calls.requests, bytes);
        self
    }

    /// The time limit of each request, from when it is submitted; without one it waits for as long
    /// as there is a broker.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.calls.timeout = Some(timeout);
        self
    }

    /// The results as they come, so that none waits for one before it.
    #[must_use]
    pub fn unordered(self) -> Unordered<'c, I, R> {
        Unordered { calls: self.calls, result: PhantomData }
    }
}

impl<I, R> Map<'_, I, R> {
    /// How far those are that are being computed, by their places, as far as their operation has
    /// said so. It is to be asked between two results.
    pub fn progress(&self) -> impl Iterator<Item = (u64, Progress)> {
        self.calls.progress()
    }
}

impl<I, R> Unordered<'_, I, R> {
    /// The same as [`Map::progress`].
    pub fn progress(&self) -> impl Iterator<Item = (u64, Progress)> {
        self.calls.progress()
    }
}

impl<I, R> Iterator for Map<'_, I, R>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned,
{
    type Item = Result<R, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.calls.over {
            let ahead = self.order.next() + self.calls.requests as u64;
            // Before anything is handed on: the workers are not to wait for whoever takes the results.
            if let Err(error) = self.calls.ask(ahead, |place, error| {
                drop(self.order.put(place, Answer::Unasked(error)));
            }) {
                return Some(Err(self.calls.end(error)));
            }
            if let Some(answer) = self.order.pop() {
                return Some(self.calls.hand_on(answer));
            }
            match self.calls.next_answer() {
                Ok(Some((place, answer))) => drop(self.order.put(place, answer)),
                Ok(None) if self.calls.unanswered.is_empty() => return None,
                // There may be room for more now.
                Ok(None) => {}
                Err(error) => return Some(Err(self.calls.end(error))),
            }
        }
        None
    }
}

impl<I, R> Iterator for Unordered<'_, I, R>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned,
{
    type Item = (u64, Result<R, CallError>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.calls.over {
            let mut unasked = None;
            // What can't be asked for ends the asking for now, so that there is one such at most.
            let asked = self.calls.ask(u64::MAX, |place, error| unasked = Some((place, error)));
            if let Some((place, error)) = unasked {
                return Some((place, Err(error)));
            }
            match asked.and_then(|()| self.calls.next_answer()) {
                Ok(Some((place, answer))) => return Some((place, self.calls.hand_on(answer))),
                Ok(None) if self.calls.unanswered.is_empty() => return None,
                // There may be room for more now.
                Ok(None) => {}
                Err(error) => {
                    let oldest = self.calls.unanswered.iter().next().map_or(self.calls.next, |asked| asked.place);
                    return Some((oldest, Err(self.calls.end(error))));
                }
            }
        }
        None
    }
}

/// What became of a call.
enum Answer {
    /// When there is a result.
    Result(Bytes),
    /// When there is none.
    Failure(Failure),
    /// When the arguments could not be encoded.
    Unasked(CallError),
}

/// The calls: what is still to be asked for, and what is under way.
struct Calls<'c, I> {
    client: &'c mut Client,
    operation: String,
    arguments: Fuse<I>,
    timeout: Option<Duration>,
    requests: usize,
    bytes: usize,
    budget: InFlightBudget,
    /// The place of the next arguments.
    next: u64,
    /// By request id.
    unanswered: SparseQueue<Asked>,
    /// Whether the client could not go on.
    over: bool,
}

/// What is asked for.
struct Asked {
    /// The place of its arguments.
    place: u64,
    /// Bytes of its body.
    bytes: usize,
}

impl<I: Iterator<Item: Serialize>> Calls<'_, I> {
    /// Asks for as much as there is room for, before this place. Ends with the first arguments that
    /// can't be encoded, which `unasked` is told.
    fn ask(&mut self, ahead: u64, mut unasked: impl FnMut(u64, CallError)) -> Result<(), Error> {
        self.budget.pass(Instant::now);
        while self.next < ahead && self.budget.is_left() {
            let Some(arguments) = self.arguments.next() else { return Ok(()) };
            let place = self.next;
            self.next += 1;
            let body = match body(&self.operation, &arguments) {
                Ok(body) => body,
                Err(error) => {
                    unasked(place, error);
                    return Ok(());
                }
            };
            let bytes = body.len();
            match self.client.submit_within(body, self.timeout) {
                Ok(id) => self.unanswered.push(id.0, Asked { place, bytes }),
                Err(error @ Error::TooLarge(_)) => {
                    unasked(place, error.into());
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            self.budget.ask(bytes);
        }
        Ok(())
    }

    /// The next answer, in no particular order; `None` if nothing is unanswered, or if none has
    /// come for so long that there may be room for more requests.
    fn next_answer(&mut self) -> Result<Option<(u64, Answer)>, Error> {
        let Some(first) = self.unanswered.numbers().next() else { return Ok(None) };
        loop {
            let Some(reply) = self.client.next_reply_since(RequestId(first), self.budget.poll_timeout(Instant::now))?
            else {
                return Ok(None);
            };
            let Some(Asked { place, bytes }) = self.unanswered.take(reply.id.0) else { continue };
            let answer = match reply.outcome {
                Outcome::Ok(body) => Answer::Result(body),
                Outcome::Error(failure) => Answer::Failure(failure),
            };
            self.budget.answer(bytes, answer.bytes());
            return Ok(Some((place, answer)));
        }
    }

    fn hand_on<R: DeserializeOwned>(&mut self, answer: Answer) -> Result<R, CallError> {
        self.budget.hand_on(answer.bytes());
        match answer {
            Answer::Result(body) => Ok(rmp_serde::from_slice(&body)?),
            Answer::Failure(failure) => Err(failure.into()),
            Answer::Unasked(error) => Err(error),
        }
    }
}

impl<I> Calls<'_, I> {
    fn progress(&self) -> impl Iterator<Item = (u64, Progress)> {
        self.client.progress().filter_map(|(id, progress)| Some((self.unanswered.get(id.0)?.place, progress)))
    }

    /// The client can't go on.
    fn end(&mut self, error: Error) -> CallError {
        self.over = true;
        self.cancel();
        error.into()
    }

    fn cancel(&mut self) {
        let ids: Vec<_> = self.unanswered.numbers().map(RequestId).collect();
        self.unanswered = SparseQueue::default();
        // A client that can't say so is about to lose its connection, by which the broker knows, too.
        let _ = self.client.cancel(ids);
    }
}

impl<I> Drop for Calls<'_, I> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Self::Result(body) => body.len(),
            Self::Failure(_) | Self::Unasked(_) => 0,
        }
    }
}
