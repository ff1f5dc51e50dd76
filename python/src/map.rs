//! The iterator behind `Client.map`: as many calls under way as the window has, and the results in the
//! order of the arguments, or as they arrive.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use giostra_client::{Answer, Error, Reply, SharedClient};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};
use rustc_hash::FxHashMap;

use crate::pack;
use crate::python::{client_error, closed};
use crate::ready::Ready;
use crate::tasks::outcome;

/// How long a wait lasts before Python looks for signals, such as Ctrl-C.
pub const SIGNALS: Duration = Duration::from_millis(50);

/// How long items are taken before results are looked for: an iterator may wait for each of its items.
const TAKING: Duration = Duration::from_millis(2);

/// The results of an operation for each of many arguments.
#[pyclass(frozen, module = "giostra._native")]
pub struct Map {
    state: Mutex<State>,
    ready: Arc<Ready>,
    is_closed: AtomicBool,
    /// Whether the client was closed.
    client_closed: Arc<AtomicBool>,
    process: u32,
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
    #[allow(clippy::too_many_arguments)] // keywords in Python, each of them
    pub fn new(
        client: SharedClient,
        client_closed: Arc<AtomicBool>,
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
        let (state, is_closed, process) = (Mutex::new(state), AtomicBool::new(false), std::process::id());
        Ok(Self { state, ready: Ready::new()?, is_closed, client_closed, process })
    }
}

#[pymethods]
impl Map {
    fn __iter__(map: PyRef<'_, Self>) -> PyRef<'_, Self> {
        map
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if std::process::id() != self.process {
            return Err(PyRuntimeError::new_err("results can't be waited for in a forked process"));
        }
        loop {
            let Some(mut state) = self.state() else {
                return Err(PyRuntimeError::new_err("two threads can't iterate over the same results at once"));
            };
            let has_room = state.top_up(py, &self.ready);
            if self.is_closed.load(Ordering::Acquire) {
                state.end_all();
                return Ok(None);
            }
            if self.client_closed.load(Ordering::Acquire) && !state.is_over() {
                state.end_all();
                return Err(closed(py));
            }
            match state.calls.next(&self.ready) {
                Some(reply) => return state.end(py, reply).map(Some),
                None if state.is_over() => return state.failed.take().map_or(Ok(None), Err),
                None => {}
            }
            drop(state);
            if !has_room {
                py.detach(|| self.ready.wait(Some(SIGNALS)));
            }
            py.check_signals()?;
        }
    }

    /// Gives up all calls under way.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.ready.close();
        // If it is locked, its holder sees to that. To wait here would be to wait for this thread: the
        // iterator of the arguments is Python's, and may come back.
        if let Some(mut state) = self.state() {
            state.end_all();
        }
    }
}

impl Map {
    /// Returns the state, unless another thread has it, or this one further up.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl State {
    /// Begins calls until the window is full, some at a time. Returns whether there is room for more: to take
    /// items has lasted too long.
    fn top_up(&mut self, py: Python<'_>, ready: &Arc<Ready>) -> bool {
        if self.calls.len() > self.window - self.window.div_ceil(4) {
            return false;
        }
        let begun = Instant::now();
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
            if begun.elapsed() > TAKING {
                return self.arguments.is_some() && self.calls.len() < self.window;
            }
        }
        false
    }

    /// Whether nothing is under way, and nothing will be.
    fn is_over(&self) -> bool {
        self.calls.is_empty() && self.arguments.is_none()
    }

    /// Gives up all calls, and takes no more items.
    fn end_all(&mut self) {
        self.calls.clear();
        let arguments = self.arguments.take();
        drop(arguments);
        self.failed = None;
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
