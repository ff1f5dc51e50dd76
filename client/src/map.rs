//! One operation on many arguments: turns an iterator of arguments into an iterator of results, with
//! many requests in flight.

use std::iter::Fuse;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Failure, Outcome, Priority, Progress, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::budget::InFlightBudget;
use crate::reorder::ReorderBuffer;
use crate::typed::{body, decode};
use crate::{CallError, Client, Error};

impl Client {
    /// Calls an operation for each of these arguments. Returns the results in the order of the
    /// arguments, a failed call's error in its place. If the client itself can't go on, its error is
    /// the last item.
    ///
    /// At most [`Map::window`] requests are in flight, counted from the oldest unanswered one:
    /// results that arrive before it wait here. The arguments are taken from their iterator as the
    /// window allows, in the caller's thread: while it blocks, there are no results. Dropping the
    /// map cancels the unanswered requests. Replies to earlier requests of this client are kept for
    /// later.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use giostra_client::{Client, Options};
    /// # let mut client = Client::connect(Options::default())?;
    /// let pairs = [(1, 2), (3, 4), (5, 6)];
    /// let sums = client.map::<i64, _>("add", pairs).timeout(Duration::from_secs(10));
    /// assert_eq!(sums.collect::<Result<Vec<_>, _>>()?, [3, 7, 11]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<R, A>(&mut self, operation: &str, arguments: A) -> Map<'_, A::IntoIter, R>
    where
        R: DeserializeOwned,
        A: IntoIterator,
        A::Item: Serialize,
    {
        let calls = Calls {
            priority: self.priority(),
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

/// The results of an operation in the order of its arguments: see [`Client::map`].
pub struct Map<'c, I, R> {
    calls: Calls<'c, I>,
    order: ReorderBuffer<Answer>,
    result: PhantomData<fn() -> R>,
}

/// The results of an operation as they arrive, each with the index of its arguments: see
/// [`Map::unordered`].
///
/// If the client can't go on, its error is the last item, with the index of the oldest unanswered
/// call.
pub struct Unordered<'c, I, R> {
    calls: Calls<'c, I>,
    result: PhantomData<fn() -> R>,
}

impl<'c, I, R> Map<'c, I, R> {
    /// Sets the number of requests that may be in flight; 4096 by default.
    #[must_use]
    pub fn window(mut self, requests: usize) -> Self {
        self.calls.requests = requests.max(1);
        self.calls.budget = InFlightBudget::new(self.calls.requests, self.calls.bytes);
        self
    }

    /// Sets the number of bytes of requests and results that may be held; 64 MiB by default. One
    /// request is always allowed, and results that are larger than those before them may exceed the
    /// number.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.calls.bytes = bytes;
        self.calls.budget = InFlightBudget::new(self.calls.requests, bytes);
        self
    }

    /// Sets a time limit for each request, which begins when it is submitted. Without one, requests
    /// wait for as long as there is a broker.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.calls.timeout = Some(timeout);
        self
    }

    /// Sets how urgent the requests are, instead of the client's
    /// [`priority`](crate::Options::priority).
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.calls.priority = priority;
        self
    }

    /// Returns the results as they arrive, each with the index of its arguments, counted from 0: no
    /// result waits for an earlier one.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, Options};
    /// # let mut client = Client::connect(Options::default())?;
    /// for (index, result) in client.map::<f64, _>("sleep", [[0.3], [0.1], [0.2]]).unordered() {
    ///     println!("{index}: slept for {} s", result?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unordered(self) -> Unordered<'c, I, R> {
        Unordered { calls: self.calls, result: PhantomData }
    }
}

impl<I, R> Map<'_, I, R> {
    /// The progress of the calls that are being computed, by the index of their arguments, if their
    /// operation reports it. It is updated while [`Iterator::next`] waits for a result.
    pub fn progress(&self) -> impl Iterator<Item = (u64, Progress)> {
        self.calls.progress()
    }
}

impl<I, R> Unordered<'_, I, R> {
    /// The progress of the calls that are being computed: see [`Map::progress`].
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
            let end = self.order.next().saturating_add(self.calls.requests as u64);
            // Before a result is returned: the workers should not wait for the user of the results.
            let submitted = self.calls.submit(end, |index, error| {
                drop(self.order.put(index, Answer::Unsubmitted(error)));
            });
            if let Err(error) = submitted {
                return Some(Err(self.calls.end(error)));
            }
            if let Some(answer) = self.order.pop() {
                return Some(self.calls.release(answer));
            }
            match self.calls.next_answer() {
                Ok(Some((index, answer))) => drop(self.order.put(index, answer)),
                Ok(None) if self.calls.unanswered.is_empty() => return None,
                // The budget may allow more requests now.
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
            let mut unsubmitted = None;
            // The first call that can't be submitted ends the loop there, so that one variable suffices.
            let submitted = self.calls.submit(u64::MAX, |index, error| unsubmitted = Some((index, error)));
            if let Some((index, error)) = unsubmitted {
                return Some((index, Err(error)));
            }
            match submitted.and_then(|()| self.calls.next_answer()) {
                Ok(Some((index, answer))) => return Some((index, self.calls.release(answer))),
                Ok(None) if self.calls.unanswered.is_empty() => return None,
                // The budget may allow more requests now.
                Ok(None) => {}
                Err(error) => {
                    let oldest = self.calls.unanswered.iter().next().map_or(self.calls.next, |call| call.index);
                    return Some((oldest, Err(self.calls.end(error))));
                }
            }
        }
        None
    }
}

/// The outcome of a call.
enum Answer {
    /// When there is a result.
    Result(Bytes),
    /// When the request failed.
    Failure(Failure),
    /// When the arguments can't be encoded, or are too large.
    Unsubmitted(CallError),
}

/// The calls: those to be submitted, and those in flight.
struct Calls<'c, I> {
    client: &'c mut Client,
    operation: String,
    arguments: Fuse<I>,
    timeout: Option<Duration>,
    priority: Priority,
    requests: usize,
    bytes: usize,
    budget: InFlightBudget,
    /// The index of the next arguments.
    next: u64,
    /// The calls in flight by request id.
    unanswered: SparseQueue<Call>,
    /// Whether the client can't go on.
    over: bool,
}

/// A call in flight.
struct Call {
    /// The index of its arguments.
    index: u64,
    /// The size of its body.
    bytes: usize,
}

impl<I: Iterator<Item: Serialize>> Calls<'_, I> {
    /// Submits calls before index `end` as the budget allows. The first one that can't be submitted
    /// is passed to `unsubmitted` and ends the loop.
    fn submit(&mut self, end: u64, mut unsubmitted: impl FnMut(u64, CallError)) -> Result<(), Error> {
        self.budget.pass(Instant::now);
        while self.next < end && self.budget.is_left() {
            let Some(arguments) = self.arguments.next() else { return Ok(()) };
            let index = self.next;
            self.next += 1;
            let body = match body(&self.operation, &arguments) {
                Ok(body) => body,
                Err(error) => {
                    unsubmitted(index, error);
                    return Ok(());
                }
            };
            let bytes = body.len();
            match self.client.submit_as(body, self.timeout, self.priority) {
                Ok(id) => self.unanswered.push(id.0, Call { index, bytes }),
                Err(error @ Error::TooLarge(_)) => {
                    unsubmitted(index, error.into());
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            self.budget.ask(bytes);
        }
        Ok(())
    }

    /// Waits for the next answer, in no particular order. Returns `None` if nothing is unanswered, or
    /// if none has arrived for so long that the budget may allow more requests.
    fn next_answer(&mut self) -> Result<Option<(u64, Answer)>, Error> {
        let Some(first) = self.unanswered.numbers().next() else { return Ok(None) };
        loop {
            let Some(reply) = self.client.next_reply_since(RequestId(first), self.budget.poll_timeout(Instant::now))?
            else {
                return Ok(None);
            };
            let Some(Call { index, bytes }) = self.unanswered.take(reply.id.0) else { continue };
            let answer = match reply.outcome {
                Outcome::Ok(body) => Answer::Result(body),
                Outcome::Error(failure) => Answer::Failure(failure),
            };
            self.budget.answer(bytes, answer.bytes());
            return Ok(Some((index, answer)));
        }
    }

    /// Returns the result of a call to the user.
    fn release<R: DeserializeOwned>(&mut self, answer: Answer) -> Result<R, CallError> {
        self.budget.hand_on(answer.bytes());
        match answer {
            Answer::Result(body) => decode(&body),
            Answer::Failure(failure) => Err(failure.into()),
            Answer::Unsubmitted(error) => Err(error),
        }
    }
}

impl<I> Calls<'_, I> {
    fn progress(&self) -> impl Iterator<Item = (u64, Progress)> {
        self.client.progress().filter_map(|(id, progress)| Some((self.unanswered.get(id.0)?.index, progress)))
    }

    /// Ends the map: the client can't go on.
    fn end(&mut self, error: Error) -> CallError {
        self.over = true;
        self.cancel();
        error.into()
    }

    fn cancel(&mut self) {
        let ids: Vec<_> = self.unanswered.numbers().map(RequestId).collect();
        self.unanswered = SparseQueue::default();
        // A client that can't send this is about to lose its connection, which cancels them, too.
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
            Self::Failure(_) | Self::Unsubmitted(_) => 0,
        }
    }
}
