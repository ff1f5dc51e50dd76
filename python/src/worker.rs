//! The native half of `giostra.Worker`: a seat, in this process.
//!
//! The threads of the Rust worker talk to the broker, and answer its pings, without the interpreter's
//! lock: a function may hold that for as long as it likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use giostra_worker::{Bytes, Failure, Job, Options, OwnedJob, Service, code, serve, split_request, unmasked};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::client::{credentials, duration};
use crate::python::described;
use crate::unpack::Arguments;
use crate::{pack, unpack};

/// The functions of a worker, by the names of their operations.
struct Functions {
    table: BTreeMap<String, Function>,
    /// How many are running.
    busy: Arc<AtomicUsize>,
}

struct Function {
    callable: Py<PyAny>,
    /// Whether its first argument is the context of the request.
    takes_context: bool,
}

/// What a function may ask and tell about the request that it computes.
#[pyclass(frozen, module = "giostra")]
pub struct Context(OwnedJob);

#[pymethods]
impl Context {
    /// Whether nobody waits for the result any more. Cheap enough for a loop.
    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Tells the client that ``done`` of ``total`` is done, in any unit; ``total`` is 0 if it is not known.
    /// At most ten reports a second are sent.
    #[pyo3(signature = (done, total = 0))]
    fn progress(&self, done: u64, total: u64) {
        self.0.progress(done, total);
    }
}

/// Serves until a signal, the end of the grace, or the broker's word. Returns the number of functions that
/// are still running.
#[pyfunction]
#[pyo3(signature = (functions, *, broker, name, host, pool, threads, window, grace, lifetime, idle_timeout, keys, broker_key))]
#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // keywords, each of them
pub fn serve_seat(
    py: Python<'_>,
    functions: BTreeMap<String, (Py<PyAny>, bool)>,
    broker: String,
    name: Option<String>,
    host: Option<String>,
    pool: String,
    threads: usize,
    window: u32,
    grace: f64,
    lifetime: f64,
    idle_timeout: f64,
    keys: Option<&str>,
    broker_key: Option<&str>,
) -> PyResult<usize> {
    let credentials = credentials(keys, broker_key)?;
    let defaults = Options::default();
    let name = name.unwrap_or(defaults.name);
    let host = host.unwrap_or(defaults.host);
    // 0 is none.
    let limit = |seconds: f64| if seconds == 0.0 { Ok(None) } else { duration(seconds).map(Some) };
    let (grace, lifetime, idle_timeout) = (duration(grace)?, limit(lifetime)?, limit(idle_timeout)?);
    let lifetime_stagger = lifetime.unwrap_or_default() / 10;
    let options = Options {
        broker,
        name,
        host,
        pool,
        threads,
        window,
        grace,
        lifetime,
        lifetime_stagger,
        idle_timeout,
        credentials,
    };
    let function = |(name, (callable, takes_context))| (name, Function { callable, takes_context });
    let busy = Arc::new(AtomicUsize::new(0));
    let service = Functions { table: functions.into_iter().map(function).collect(), busy: Arc::clone(&busy) };
    py.detach(|| {
        let shutdown = giostra_signals::shutdown().map_err(|error| PyOSError::new_err(error.to_string()))?;
        serve(&options, service, &shutdown).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    })?;
    Ok(busy.load(Ordering::Acquire))
}

/// Has this process get a signal when the thread that has started it ends.
#[pyfunction]
pub fn end_with_parent(signal: i32) -> PyResult<()> {
    let signal = nix::sys::signal::Signal::try_from(signal).map_err(error)?;
    nix::sys::prctl::set_pdeathsig(signal).map_err(error)
}

fn error(error: nix::errno::Errno) -> PyErr {
    PyOSError::new_err(error.to_string())
}

impl Service for Functions {
    fn operations(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    fn compute(&self, body: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
        let Some((name, arguments)) = split_request(body) else {
            return Err(Failure::new(code::INVALID, "a request is [operation, arguments]"));
        };
        let Some(function) = self.table.get(name) else {
            let offered: Vec<_> = self.table.keys().map(String::as_str).collect();
            let message = format!("unknown operation '{name}'; this worker offers {}", offered.join(", "));
            return Err(Failure::new(code::INVALID, message));
        };
        keep_thread_state();
        self.busy.fetch_add(1, Ordering::AcqRel);
        let outcome = Python::attach(|py| {
            let arguments = unpack::arguments(py, arguments).map_err(|error| unreadable(&described(py, error)))?;
            let result = function.call(py, arguments, job).map_err(|error| described(py, error))?;
            pack::to_bytes(&result).map_err(|error| unsendable(&described(py, error)))
        });
        self.busy.fetch_sub(1, Ordering::AcqRel);
        outcome
    }
}

impl Function {
    fn call<'py>(&self, py: Python<'py>, arguments: Arguments<'py>, job: &Job<'_>) -> PyResult<Bound<'py, PyAny>> {
        let (mut arguments, keywords) = arguments;
        if self.takes_context {
            let mut all = vec![Bound::new(py, Context(job.to_owned()))?.into_any()];
            all.extend(arguments.iter());
            arguments = PyTuple::new(py, all)?;
        }
        // A program that the function starts is to hear signals.
        unmasked(|| Ok(self.callable.bind(py).call(&arguments, keywords.as_ref())))?
    }
}

/// Of arguments: the request is wrong, not the function.
fn unreadable(failure: &Failure) -> Failure {
    let message = failure.message.lines().next().unwrap_or_default();
    Failure::new(code::INVALID, format!("the arguments: {message}"))
}

/// Of a result, not of the arguments.
fn unsendable(failure: &Failure) -> Failure {
    Failure::new(code::FAILED, format!("the result: {}", failure.message))
}

/// Keeps what the interpreter has of this thread, such as its `threading.local`, until the process ends.
/// Otherwise it would be made for each request.
fn keep_thread_state() {
    thread_local! {
        static KEPT: () = {
            #[allow(unsafe_code)] // no safe function leaves the lock without forgetting the thread
            // SAFETY: the interpreter is initialised, since it has called `serve_seat`, and this thread does
            // not hold its lock: it is one of the Rust worker's, which holds it only within `Python::attach`.
            // The second call releases the lock that the first has taken.
            unsafe {
                pyo3::ffi::PyGILState_Ensure();
                pyo3::ffi::PyEval_SaveThread();
            }
        };
    }
    KEPT.with(|()| {});
}
