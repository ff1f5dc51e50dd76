//! What a client has asked and what is not answered yet, each with the future that waits for it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use giostra_client::{Answer, Error, JobId, JobResult, JobStatus, Outcome, Progress, Reply, Status};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::python::{client_error, failed};
use crate::ready::Ready;
use crate::unpack;

/// What a question is answered with.
pub enum Answered {
    Id(JobId),
    Job(JobStatus),
    Deleted,
    Jobs(Vec<JobStatus>),
    Results(Vec<JobResult>),
    Status(Box<Status>),
    Seats(u64),
}

/// Something that was asked.
pub enum Task {
    /// A call, the usual one.
    Call(Answer),
    /// Anything else.
    Question(Pin<Box<dyn Future<Output = Result<Answered, Error>> + Send>>),
}

/// How a task ended.
pub enum Ended {
    Call(Result<Reply, Error>),
    Question(Result<Answered, Error>),
}

/// The tasks that are not answered, by number.
pub struct Tasks {
    open: Mutex<Open>,
    pub ready: Arc<Ready>,
    /// The number of threads that wait for a call of theirs.
    pub waiting: AtomicUsize,
}

#[derive(Default)]
struct Open {
    last: u64,
    tasks: FxHashMap<u64, (Task, Py<PyAny>)>,
}

impl Tasks {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { open: Mutex::default(), ready: Ready::new()?, waiting: AtomicUsize::new(0) })
    }

    /// Adds a task. Returns its number.
    pub fn add(&self, task: Task, future: Py<PyAny>) -> u64 {
        let mut open = self.open();
        open.last += 1;
        let token = open.last;
        open.tasks.insert(token, (task, future));
        drop(open);
        // The one who takes it polls it, and learns whether there is an answer already.
        self.ready.add(token);
        token
    }

    /// Gives up a task. Returns whether it was not answered.
    pub fn cancel(&self, token: u64) -> bool {
        let task = self.open().tasks.remove(&token);
        task.is_some()
    }

    /// Returns the progress of a call.
    pub fn progress(&self, token: u64) -> Option<Progress> {
        match &self.open().tasks.get(&token)?.0 {
            Task::Call(answer) => answer.progress(),
            Task::Question(_) => None,
        }
    }

    /// Takes the tasks that have been answered. `None` once it is closed.
    pub fn take(&self) -> Option<Vec<(Ended, Py<PyAny>)>> {
        let tokens = self.ready.take()?;
        let mut ended = Vec::with_capacity(tokens.len());
        // No object of Python's is made or dropped meanwhile: that might run code that asks for the lock.
        let mut open = self.open();
        for token in tokens {
            let Some((task, _)) = open.tasks.get_mut(&token) else { continue };
            let waker = self.ready.waker(token);
            if let Poll::Ready(end) = task.poll(&mut Context::from_waker(&waker))
                && let Some((_, future)) = open.tasks.remove(&token)
            {
                ended.push((end, future));
            }
        }
        Some(ended)
    }

    /// Gives up all. Returns their futures.
    pub fn close(&self) -> Vec<Py<PyAny>> {
        let tasks = std::mem::take(&mut self.open().tasks);
        self.ready.close();
        tasks.into_values().map(|(_, future)| future).collect()
    }

    /// Leaves all as they are, and their futures and answers undropped.
    pub fn forget(&mut self) {
        std::mem::forget(std::mem::take(&mut self.open));
    }

    /// The number of tasks that are not answered.
    pub fn len(&self) -> usize {
        self.open().tasks.len() + self.waiting.load(Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        match self {
            Self::Call(answer) => Pin::new(answer).poll(context).map(Ended::Call),
            Self::Question(question) => question.as_mut().poll(context).map(Ended::Question),
        }
    }
}

impl Ended {
    /// Returns the result, or the exception.
    pub fn into_result(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Call(Ok(reply)) => outcome(py, &reply.outcome),
            Self::Question(Ok(answer)) => answer.into_object(py),
            Self::Call(Err(error)) | Self::Question(Err(error)) => Err(client_error(py, &error)),
        }
    }
}

/// Returns the result of a request, or its exception.
pub fn outcome<'py>(py: Python<'py>, outcome: &Outcome) -> PyResult<Bound<'py, PyAny>> {
    match outcome {
        Outcome::Ok(body) => unpack::from_bytes(py, body),
        Outcome::Error(failure) => Err(failed(py, failure)),
    }
}

impl Answered {
    fn into_object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Id(id) => Ok(id.to_string().into_pyobject(py)?.into_any()),
            Self::Job(status) => object(py, &job(&status)),
            Self::Deleted => Ok(py.None().into_bound(py)),
            Self::Jobs(jobs) => object(py, &Value::Array(jobs.iter().map(job).collect())),
            Self::Status(status) => object(py, &serde_json::to_value(&status).unwrap_or_default()),
            Self::Seats(seats) => Ok(seats.into_pyobject(py)?.into_any()),
            Self::Results(results) => {
                let list = PyList::empty(py);
                for JobResult { number, outcome, .. } in results {
                    let (ok, value) = match self::outcome(py, &outcome) {
                        Ok(value) => (true, value),
                        Err(error) => (false, error.into_value(py).into_bound(py).into_any()),
                    };
                    list.append((number, ok, value))?;
                }
                Ok(list.into_any())
            }
        }
    }
}

/// A job's status, by the names of the fields of `giostra.JobStatus`.
fn job(status: &JobStatus) -> Value {
    let JobStatus { id, spec, owner, state, requests, succeeded, failed, submitted_ms, ended_ms } = status;
    json!({
        "id": id.to_string(),
        "state": state.to_string(),
        "requests": requests,
        "succeeded": succeeded,
        "failed": failed,
        "name": spec.name,
        "key": spec.key,
        "pool": spec.pool,
        "priority": spec.priority.to_string(),
        "owner": owner,
        "submitted": *submitted_ms as f64 / 1000.0,
        "ended": (*ended_ms > 0).then_some(*ended_ms as f64 / 1000.0),
    })
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into_pyobject(py)?.into_any(),
            (_, Some(number)) => number.into_pyobject(py)?.into_any(),
            _ => number.as_f64().into_pyobject(py)?.into_any(),
        },
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, value) in fields {
                dict.set_item(name, object(py, value)?)?;
            }
            dict.into_any()
        }
    })
}
