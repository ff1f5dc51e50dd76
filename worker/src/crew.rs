//! The threads that compute, and the queue between them and the one that talks to the broker.
//!
//! Requests wait in one queue for whichever thread is free; results wait in one list until they are collected, and the
//! alarm rings. A result never waits for the request behind it.
//!
//! When the broker no longer wants what it handed out, [`Crew::discard`] begins a new generation: what waits is dropped
//! at once, and what is being computed is thrown away when it is done.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use giostra_common::Bytes;
use giostra_common::protocol::{Failure, MAX_MESSAGE_BYTES, Outcome, Ticket};
use giostra_common::wake::Waker;

use crate::Service;

/// The longest code and the longest message of a failure, in bytes.
const MAX_FAILURE: usize = 4096;

/// The computing threads. They end when the crew is dropped, each after what it is computing; nobody waits for them.
pub struct Crew {
    shared: Arc<Shared>,
}

/// What a crew is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests being computed.
    pub computing: u32,
    /// Requests waiting for a thread.
    pub waiting: u32,
    /// For how long the oldest of those being computed has been computing.
    pub oldest: Duration,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    waker: Waker,
}

#[derive(Default)]
struct State {
    generation: u64,
    waiting: VecDeque<(Ticket, Bytes)>,
    done: Vec<(Ticket, Outcome)>,
    /// For each thread: since when it has been computing.
    computing: Vec<Option<Instant>>,
    idle: usize,
    dismissed: bool,
}

impl Crew {
    /// Starts `threads` threads; `waker` rings when there are results.
    pub fn start<S: Service>(threads: usize, service: S, waker: Waker) -> io::Result<Self> {
        let state = State { computing: vec![None; threads], ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), waker });
        let crew = Self { shared: Arc::clone(&shared) };
        let service = Arc::new(service);
        for number in 0..threads {
            let (shared, service) = (Arc::clone(&shared), Arc::clone(&service));
            thread::Builder::new().name(format!("compute-{number}")).spawn(move || shared.work(number, &*service))?;
        }
        Ok(crew)
    }

    /// Adds requests to the queue.
    pub fn assign(&self, requests: Vec<(Ticket, Bytes)>) {
        let mut state = self.shared.lock();
        let woken = state.idle.min(requests.len());
        state.waiting.extend(requests);
        drop(state);
        for _ in 0..woken {
            self.shared.work.notify_one();
        }
    }

    /// Moves the results that have come up since the last time to the end of `done`.
    pub fn collect(&self, done: &mut Vec<(Ticket, Outcome)>) {
        done.append(&mut self.shared.lock().done);
    }

    /// Forgets all requests and results.
    pub fn discard(&self) {
        let mut state = self.shared.lock();
        state.generation += 1;
        state.waiting.clear();
        state.done.clear();
    }

    /// What the crew is doing.
    pub fn load(&self) -> Load {
        let state = self.shared.lock();
        let since = state.computing.iter().flatten().min();
        Load {
            computing: state.computing.iter().flatten().count() as u32,
            waiting: state.waiting.len() as u32,
            oldest: since.map_or(Duration::ZERO, Instant::elapsed),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.lock().dismissed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of ours panics while it holds the lock; operations run outside it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work<S: Service>(&self, number: usize, service: &S) {
        let mut state = self.lock();
        loop {
            if state.dismissed {
                return;
            }
            let Some((ticket, body)) = state.waiting.pop_front() else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.computing[number] = Some(Instant::now());
            let generation = state.generation;
            drop(state);

            let outcome = match catch_unwind(AssertUnwindSafe(|| service.compute(&body))) {
                Ok(Ok(result)) => sendable(result),
                Ok(Err(failure)) => Outcome::Error(shortened(failure)),
                Err(panic) => Outcome::Error(shortened(format!("the operation panicked: {}", message(&*panic)).into())),
            };

            state = self.lock();
            state.computing[number] = None;
            if state.generation == generation {
                state.done.push((ticket, outcome));
                self.waker.wake();
            }
        }
    }
}

/// The result, unless no message can hold it: sending it would cost the connection, and then the next worker's.
fn sendable(result: Bytes) -> Outcome {
    match result.len() {
        0..=MAX_MESSAGE_BYTES => Outcome::Ok(result),
        bytes => Outcome::Error(Failure::from(format!(
            "the result has {bytes} bytes, and {MAX_MESSAGE_BYTES} is the most that can be sent"
        ))),
    }
}

/// The failure without the rest of a message that may quote a whole request.
fn shortened(Failure { mut code, mut message }: Failure) -> Failure {
    for text in [&mut code, &mut message] {
        if text.len() > MAX_FAILURE {
            let end = (0..=MAX_FAILURE).rev().find(|&end| text.is_char_boundary(end));
            text.truncate(end.unwrap_or(0));
            text.push_str(" ..");
        }
    }
    Failure { code, message }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_message_can_hold_is_not_sent() {
        let result = |bytes| sendable(Bytes::from(vec![0; bytes]));
        assert!(matches!(result(MAX_MESSAGE_BYTES), Outcome::Ok(_)));
        assert!(
            matches!(result(MAX_MESSAGE_BYTES + 1), Outcome::Error(Failure { message, .. }) if message.contains("67108865"))
        );
        let long = shortened(Failure::new("failed", "é".repeat(MAX_FAILURE)));
        assert!(long.message.len() <= MAX_FAILURE + 3 && long.message.ends_with("é .."));
        assert_eq!(shortened(Failure::from("short")), Failure::from("short"));
    }
}
