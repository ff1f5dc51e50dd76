//! What the native part asks the part in Python for: the registered types, and the exceptions.

use giostra_client::{Error, Failure};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static FAILURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static BROKEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Returns the name of an object's registered type, and a value in its place. `None` if the type is
/// not registered.
pub fn encoded<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<(String, Bound<'py, PyAny>)>> {
    ENCODE.import(value.py(), "giostra._types", "encode")?.call1((value,))?.extract()
}

/// Returns the object of a registered type that was sent as this value.
pub fn decoded<'py>(name: &Bound<'py, PyAny>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    DECODE.import(name.py(), "giostra._types", "decode")?.call1((name, value))
}

/// Returns the exception of a request that has failed.
pub fn failed(py: Python<'_>, failure: &Failure) -> PyErr {
    raised(py, &FAILURE, "failure", (failure.code.as_str(), failure.message.as_str()))
}

/// Returns the exception of a client that can't go on.
pub fn client_error(py: Python<'_>, error: &Error) -> PyErr {
    let kind = match error {
        Error::Ended(error) => return client_error(py, error),
        Error::NoBroker { .. } => "NoBroker",
        Error::Refused(_) => "Refused",
        Error::Endpoint(_) | Error::TooLarge(_) => "ValueError",
        Error::Interrupted => "Closed",
        _ => "Error",
    };
    raised(py, &BROKEN, "broken", (kind, error.to_string()))
}

/// Returns the exception of a client that was closed.
pub fn closed(py: Python<'_>) -> PyErr {
    raised(py, &BROKEN, "broken", ("Closed", "the client is closed"))
}

/// Returns the failure that an exception of an operation becomes.
pub fn described(py: Python<'_>, error: PyErr) -> Failure {
    let described = DESCRIBE
        .import(py, "giostra._errors", "describe")
        .and_then(|describe| describe.call1((error.into_value(py),)))
        .and_then(|described| described.extract::<(String, String)>());
    match described {
        Ok((code, message)) => Failure { code, message },
        Err(error) => Failure::from(format!("an exception that can't be described: {error}")),
    }
}

fn raised<'py>(
    py: Python<'py>,
    function: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
    arguments: impl pyo3::call::PyCallArgs<'py> + IntoPyObject<'py, Target = PyTuple>,
) -> PyErr {
    function
        .import(py, "giostra._errors", name)
        .and_then(|function| function.call1(arguments))
        .map_or_else(|error| error, PyErr::from_value)
}
