//! The native half of `giostra.Client` and `giostra.aio.Client`.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use giostra_client::{
    Answer, Bytes, Credentials, Error, JobId, JobOptions, Options, Priority, Reply, SharedClient, SharedJob,
};
use nix::unistd::{getpid, gettid};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};

use crate::map::{Map, SIGNALS};
use crate::pack;
use crate::python::{client_error, closed};
use crate::tasks::{Answered, Ended, Task, Tasks};

/// How long a wait in another than the first thread lasts before it looks whether the client was closed.
const CLOSING: Duration = Duration::from_secs(1);

/// A connection to the broker, and what was asked over it. The part in Python hands it futures, and
/// takes them back with their results, in a thread of its own or in an event loop.
#[pyclass(frozen, module = "giostra._native")]
pub struct Client {
    /// `None` once it is closed.
    shared: Mutex<Option<SharedClient>>,
    options: Options,
    tasks: Tasks,
    is_closed: Arc<AtomicBool>,
    process: u32,
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // After a fork, a thread that there is no more may have had their locks.
            std::mem::forget(std::mem::take(&mut self.shared));
            self.tasks.forget();
        }
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (broker, *, name, pool, priority, wait, spread, return_to_first, broker_timeout, keys, broker_key))]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // keywords, each of them
    fn new(
        py: Python<'_>,
        broker: String,
        name: Option<String>,
        pool: String,
        priority: &str,
        wait: bool,
        spread: bool,
        return_to_first: bool,
        broker_timeout: f64,
        keys: Option<&str>,
        broker_key: Option<&str>,
    ) -> PyResult<Self> {
        let credentials = credentials(keys, broker_key)?;
        let mut options = Options {
            broker,
            pool,
            priority: self::priority(priority)?,
            wait,
            spread,
            credentials,
            ..Options::default()
        };
        options.return_to_first = return_to_first;
        options.broker_timeout = duration(broker_timeout)?;
        options.name = name.unwrap_or(options.name);
        let shared = SharedClient::connect(options.clone()).map_err(|error| client_error(py, &error))?;
        let tasks = Tasks::new().map_err(|error| PyOSError::new_err(error.to_string()))?;
        let (shared, is_closed) = (Mutex::new(Some(shared)), Arc::default());
        Ok(Self { shared, options, tasks, is_closed, process: std::process::id() })
    }

    /// Calls an operation; the future is given back by `take`. Returns the number of the task.
    fn call(
        &self,
        future: Py<PyAny>,
        operation: &str,
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
        timeout: Option<f64>,
        priority: Option<&str>,
    ) -> PyResult<u64> {
        let body = pack::request(operation, arguments, keywords)?;
        let (client, timeout) = (self.shared(priority)?, timeout.map(duration).transpose()?);
        Ok(self.tasks.add(Task::Call(client.call(body, timeout)), future))
    }

    /// Calls an operation, and waits for its result in the thread that asks.
    fn call_now<'py>(
        &self,
        py: Python<'py>,
        operation: &str,
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
        timeout: Option<f64>,
        priority: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let body = pack::request(operation, arguments, keywords)?;
        let (client, timeout) = (self.shared(priority)?, timeout.map(duration).transpose()?);
        self.tasks.waiting.fetch_add(1, Ordering::Relaxed);
        let reply = self.wait_for(py, client.call(body, timeout));
        self.tasks.waiting.fetch_sub(1, Ordering::Relaxed);
        Ended::Call(reply?).into_result(py)
    }

    /// An iterator over the results of an operation, called with each tuple of arguments.
    #[pyo3(signature = (operation, arguments, *, window, ordered, timeout, priority, exceptions))]
    #[allow(clippy::too_many_arguments)]
    fn map(
        &self,
        operation: String,
        arguments: Bound<'_, PyIterator>,
        window: usize,
        ordered: bool,
        timeout: Option<f64>,
        priority: Option<&str>,
        exceptions: bool,
    ) -> PyResult<Map> {
        let timeout = timeout.map(duration).transpose()?;
        let (client, arguments) = (self.shared(priority)?, arguments.unbind());
        let is_closed = Arc::clone(&self.is_closed);
        Map::new(client, is_closed, operation, arguments, window.max(1), ordered, timeout, exceptions)
    }

    /// Submits a job of an operation, called with each tuple of arguments.
    #[pyo3(signature = (future, operation, arguments, *, key, name, priority, timeout, retries, keep))]
    #[allow(clippy::too_many_arguments)]
    fn submit_job(
        &self,
        future: Py<PyAny>,
        operation: &str,
        arguments: &Bound<'_, PyIterator>,
        key: Option<String>,
        name: String,
        priority: &str,
        timeout: Option<f64>,
        retries: u32,
        keep: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.shared(None)?;
        let mut options =
            JobOptions { key, name, retries, priority: self::priority(priority)?, ..JobOptions::default() };
        options.timeout = timeout.map(duration).transpose()?;
        options.keep = keep.map(duration).transpose()?;
        let bodies: Vec<Bytes> =
            arguments.try_iter()?.map(|call| pack::request(operation, call?.cast()?, None)).collect::<PyResult<_>>()?;
        let id = client.submit_job(options, bodies);
        Ok(self.ask(future, async { id.await.map(Answered::Id) }))
    }

    /// Asks about a job: "status", "wait", "cancel", "retry", "delete".
    fn job(&self, future: Py<PyAny>, id: &str, question: &str) -> PyResult<u64> {
        let job = self.job_of(id)?;
        let asked = match question {
            "status" => job.status(),
            "wait" => job.wait_for_end(),
            "cancel" => job.cancel(),
            "retry" => job.retry(),
            "delete" => {
                let deleted = job.delete();
                return Ok(self.ask(future, async { deleted.await.map(|()| Answered::Deleted) }));
            }
            _ => return Err(PyValueError::new_err(format!("no question about a job: {question}"))),
        };
        Ok(self.ask(future, async { asked.await.map(Answered::Job) }))
    }

    /// Asks for a job's next results, from this number on.
    fn job_results(&self, future: Py<PyAny>, id: &str, first: u32) -> PyResult<u64> {
        let asked = self.job_of(id)?.results(first);
        Ok(self.ask(future, async { asked.await.map(Answered::Results) }))
    }

    /// Asks for all jobs.
    fn jobs(&self, future: Py<PyAny>) -> PyResult<u64> {
        let asked = self.shared(None)?.jobs();
        Ok(self.ask(future, async { asked.await.map(Answered::Jobs) }))
    }

    /// Asks for the broker's status.
    fn status(&self, future: Py<PyAny>) -> PyResult<u64> {
        let asked = self.shared(None)?.status();
        Ok(self.ask(future, async { asked.await.map(|status| Answered::Status(Box::new(status))) }))
    }

    /// Asks how many workers take requests of the pool.
    fn seats(&self, future: Py<PyAny>) -> PyResult<u64> {
        let asked = self.shared(None)?.seats();
        Ok(self.ask(future, async { asked.await.map(Answered::Seats) }))
    }

    /// Gives up a task. Returns whether it was not answered.
    fn cancel(&self, task: u64) -> bool {
        self.tasks.cancel(task)
    }

    /// How much of a call is done, and of how much, if its operation tells.
    fn progress(&self, task: u64) -> Option<(u64, u64)> {
        self.tasks.progress(task).map(|progress| (progress.done, progress.total))
    }

    /// Takes the futures whose tasks have been answered, each with whether there is a result, and the
    /// result or the exception. `None` once it is closed.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some(ended) = self.tasks.take() else { return Ok(None) };
        let list = PyList::empty(py);
        for (end, future) in ended {
            match end.into_result(py) {
                Ok(value) => list.append((future, true, value))?,
                Err(error) => list.append((future, false, error.into_value(py)))?,
            }
        }
        Ok(Some(list))
    }

    /// Waits until there is something to take, or it is closed.
    fn wait(&self, py: Python<'_>) {
        py.detach(|| self.tasks.ready.wait(None));
    }

    /// A descriptor that is readable while there is something to take.
    fn fileno(&self) -> i32 {
        self.tasks.ready.descriptor()
    }

    /// The pool that everything goes to.
    #[getter]
    fn pool(&self) -> &str {
        &self.options.pool
    }

    /// The number of tasks that are not answered.
    fn unanswered(&self) -> usize {
        self.tasks.len()
    }

    /// Ends the connection. Returns the futures of all tasks that were not answered.
    fn close(&self) -> Vec<Py<PyAny>> {
        self.is_closed.store(true, Ordering::Release);
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let futures = self.tasks.close();
        drop(shared);
        futures
    }
}

impl Client {
    /// Waits for an answer without the interpreter's lock, but for a look at signals from time to time.
    /// An exception, such as Ctrl-C's, cancels the request.
    fn wait_for(&self, py: Python<'_>, mut answer: Answer) -> PyResult<Result<Reply, Error>> {
        // Python's signal handlers run in the first thread alone.
        let slice = if gettid() == getpid() { SIGNALS } else { CLOSING };
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            if let Poll::Ready(reply) = Pin::new(&mut answer).poll(&mut Context::from_waker(&waker)) {
                return Ok(reply);
            }
            py.detach(|| thread::park_timeout(slice));
            py.check_signals()?;
            if self.is_closed.load(Ordering::Acquire) {
                return Err(closed(py));
            }
        }
    }

    fn shared(&self, priority: Option<&str>) -> PyResult<SharedClient> {
        if std::process::id() != self.process {
            return Err(PyRuntimeError::new_err("a client can't be used in a forked process: make one there"));
        }
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shared = shared.ok_or_else(|| Python::attach(closed))?;
        Ok(match priority {
            Some(priority) => shared.with_priority(self::priority(priority)?),
            None => shared,
        })
    }

    fn job_of(&self, id: &str) -> PyResult<SharedJob> {
        let id: JobId = id.parse().map_err(|error| PyValueError::new_err(format!("{error}")))?;
        Ok(self.shared(None)?.job(id))
    }

    fn ask(&self, future: Py<PyAny>, question: impl Future<Output = Result<Answered, Error>> + Send + 'static) -> u64 {
        self.tasks.add(Task::Question(Box::pin(question)), future)
    }
}

/// Continues a thread when it is woken.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Returns the keys that these name; `None` if none are named.
pub fn credentials(keys: Option<&str>, broker_key: Option<&str>) -> PyResult<Option<Credentials>> {
    Credentials::from_flags(keys.map(Path::new), broker_key).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Returns a time in seconds.
pub fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| PyValueError::new_err(format!("{seconds} is no time in seconds")))
}

fn priority(word: &str) -> PyResult<Priority> {
    word.parse().map_err(|error| PyValueError::new_err(format!("{error}")))
}
