//! The place where a thread or a task waits for one answer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use giostra_protocol::Progress;

use super::POLLED_AGAIN;
use crate::Error;

/// One answer, now or later. It is taken once.
pub struct Slot<T> {
    /// The call's number; 0 if it was not accepted, or is a question about jobs.
    pub number: u64,
    state: Mutex<State<T>>,
    filled: Condvar,
}

enum State<T> {
    /// When there is no answer yet: the task to wake, and the request's progress.
    Empty(Option<Waker>, Option<Progress>),
    /// When the answer is here.
    Filled(Result<T, Error>),
    /// When the answer was taken, or is not wanted any more.
    Done,
}

impl<T> Slot<T> {
    /// Creates an empty slot for the call with this number.
    pub fn new(number: u64) -> Arc<Self> {
        Self::with(number, State::Empty(None, None))
    }

    /// Creates the slot of a call that was not accepted.
    pub fn failed(error: Error) -> Arc<Self> {
        Self::with(0, State::Filled(Err(error)))
    }

    fn with(number: u64, state: State<T>) -> Arc<Self> {
        Arc::new(Self { number, state: Mutex::new(state), filled: Condvar::new() })
    }

    /// Puts the answer in, and wakes who waits for it.
    pub fn fill(&self, answer: Result<T, Error>) {
        let mut state = self.state();
        if let State::Empty(waker, _) = &mut *state {
            let waker = waker.take();
            *state = State::Filled(answer);
            drop(state);
            self.filled.notify_one();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Blocks until the answer is here, and takes it.
    pub fn wait(&self) -> Result<T, Error> {
        let is_empty = |state: &mut State<T>| matches!(state, State::Empty(..));
        let mut state = self.filled.wait_while(self.state(), is_empty).unwrap_or_else(PoisonError::into_inner);
        state.take()
    }

    /// Takes the answer if it is here; otherwise the waker is woken when it is.
    pub fn poll(&self, waker: &Waker) -> Poll<Result<T, Error>> {
        let mut state = self.state();
        if let State::Empty(waiting, _) = &mut *state {
            match waiting {
                Some(waiting) => waiting.clone_from(waker),
                None => *waiting = Some(waker.clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(state.take())
    }

    /// Marks the answer as not wanted any more. Returns whether it was still missing.
    pub fn abandon(&self) -> bool {
        matches!(std::mem::replace(&mut *self.state(), State::Done), State::Empty(..))
    }

    /// The request's progress, if there is no answer yet and some was reported.
    pub fn progress(&self) -> Option<Progress> {
        match *self.state() {
            State::Empty(_, progress) => progress,
            State::Filled(_) | State::Done => None,
        }
    }

    /// Records the request's progress.
    pub fn set_progress(&self, new: Progress) {
        if let State::Empty(_, progress) = &mut *self.state() {
            *progress = Some(new);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Result<T, Error> {
        match std::mem::replace(self, Self::Done) {
            Self::Filled(answer) => answer,
            Self::Empty(..) | Self::Done => panic!("{POLLED_AGAIN}"),
        }
    }
}
