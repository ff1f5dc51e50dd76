//! The iterator behind `Client.map`: as many calls under way as the window has, and the results in the
//! order of the arguments, or as they arrive.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use giostra_client::{Answer, Error, Reply, SharedClient};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};
use rustc_hash::FxHashMap;

use crate::pack;
use crate::python::client_error;
use crate::ready::Ready;
use crate::tasks::outcome;

/// How long a wait lasts before Python looks for signals, such as Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// The results of an operation for each of many arguments.
#[pyclass(frozen, module = "giostra._native")]
pub struct Map {
    state: Mutex<State>,
    ready: Arc<Ready>,
}

struct State {
    client: SharedClient,
    operation: String,
    /// `None` once they are used up.
    arguments: Option<Py<PyIterator>>,
    window: usize,
    timeout: Option<Duration>,
    /// Whether a failure is returned as an exception, instead of being raised.
    exceptions: bool,
    calls: Calls,
    /// What the arguments, or their packing, have raised: it comes after the results of those before.
    failed: Option<PyErr>,
}

/// The calls under way.
enum Calls {
    /// In the order of the arguments.
    Ordered(VecDeque<Answer>),
    /// By number, those that may have been answered, and the last number.
    Any(FxHashMap<u64, Answer>, VecDeque<u64>, u64),
}

impl Map {
    pub fn new(
        client: SharedClient,
        operation: String,
        arguments: Py<PyIterator>,
        window: usize,
        ordered: bool,
        timeout: Option<Duration>,
        exceptions: bool,
    ) -> PyResult<Self> {
        let calls = match ordered {
            true => Calls::Ordered(VecDeque::new()),
            false => Calls::Any(FxHashMap::default(), VecDeque::new(), 0),
        };
        let arguments = Some(arguments);
        let state = State { client, operation, arguments, window, timeout, exceptions, calls, failed: None };
        Ok(Self { state: Mutex::new(state), ready: Ready::new()? })
    }
}

#[pymethods]
impl Map {
    fn __iter__(map: PyRef<'_, Self>) -> PyRef<'_, Self> {
        map
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            // Taken out, since the iterator of the arguments is Python's, which may come back here.
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(std::sync::TryLockError::Poisoned(state)) => state.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) => {
                    return Err(PyRuntimeError::new_err("two threads can't iterate over the same results at once"));
                }
            };
            state.top_up(py, &self.ready)?;
            match state.calls.next(&self.ready) {
                Some(reply) => return state.end(py, reply).map(Some),
                None if state.calls.is_empty() => return state.failed.take().map_or(Ok(None), Err),
                None => {}
            }
            drop(state);
            py.detach(|| self.ready.wait(Some(SIGNALS)));
            py.check_signals()?;
        }
    }

    /// Gives up all calls under way.
    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arguments = None;
        state.calls.clear();
    }
}

impl State {
    /// Begins calls until the window is full, some at a time.
    fn top_up(&mut self, py: Python<'_>, ready: &Arc<Ready>) -> PyResult<()> {
        if self.calls.len() > self.window - self.window.div_ceil(4) {
            return Ok(());
        }
        while self.calls.len() < self.window
            && let Some(arguments) = &self.arguments
        {
            let body = match arguments.bind(py).clone().next() {
                None => {
                    self.arguments = None;
                    break;
                }
                Some(next) => next.and_then(|call| pack::request(&self.operation, call.cast::<PyTuple>()?, None)),
            };
            match body {
                Ok(body) => self.calls.add(self.client.call(body, self.timeout), ready),
                Err(error) => (self.arguments, self.failed) = (None, Some(error)),
            }
        }
        Ok(())
    }

    fn end<'py>(&self, py: Python<'py>, reply: Result<Reply, Error>) -> PyResult<Bound<'py, PyAny>> {
        let reply = reply.map_err(|error| client_error(py, &error))?;
        match outcome(py, &reply.outcome) {
            Err(error) if self.exceptions => Ok(error.into_value(py).into_bound(py).into_any()),
            outcome => outcome,
        }
    }
}

impl Calls {
    fn len(&self) -> usize {
        match self {
            Self::Ordered(calls) => calls.len(),
            Self::Any(calls, ..) => calls.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn clear(&mut self) {
        match self {
            Self::Ordered(calls) => calls.clear(),
            Self::Any(calls, ..) => calls.clear(),
        }
    }

    fn add(&mut self, answer: Answer, ready: &Arc<Ready>) {
        match self {
            Self::Ordered(calls) => calls.push_back(answer),
            Self::Any(calls, _, last) => {
                *last += 1;
                calls.insert(*last, answer);
                // It is polled once, and its waker calls from then on.
                ready.add(*last);
            }
        }
    }

    /// Returns the next answer, if it is here.
    fn next(&mut self, ready: &Arc<Ready>) -> Option<Result<Reply, Error>> {
        match self {
            Self::Ordered(calls) => {
                let first = calls.front_mut()?;
                // Before the first is looked at: its waker may call at once.
                ready.take();
                let reply = answered(first, ready, 0)?;
                calls.pop_front();
                Some(reply)
            }
            Self::Any(calls, maybe, _) => {
                maybe.extend(ready.take().unwrap_or_default());
                while let Some(token) = maybe.pop_front() {
                    if let Some(reply) = calls.get_mut(&token).and_then(|answer| answered(answer, ready, token)) {
                        calls.remove(&token);
                        return Some(reply);
                    }
                }
                None
            }
        }
    }
}

fn answered(answer: &mut Answer, ready: &Arc<Ready>, token: u64) -> Option<Result<Reply, Error>> {
    match Pin::new(answer).poll(&mut Context::from_waker(&ready.waker(token))) {
        Poll::Ready(reply) => Some(reply),
        Poll::Pending => None,
    }
}
