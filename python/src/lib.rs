//! The native part of the Python package `giostra`: Giostra's client and worker, and MessagePack read
//! and written as Python's objects. The package's part in Python is the interface: see `../giostra`.

mod client;
mod logging;
mod map;
mod pack;
mod python;
mod ready;
mod tasks;
mod unpack;
mod worker;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Returns an object as MessagePack.
#[pyfunction]
fn packb<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(value.py(), &pack::to_bytes(value)?))
}

/// Returns the object that was written as MessagePack.
#[pyfunction]
fn unpackb<'py>(py: Python<'py>, packed: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    unpack::from_bytes(py, packed)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<client::Client>()?;
    module.add_class::<map::Map>()?;
    module.add_class::<worker::Context>()?;
    module.add_function(wrap_pyfunction!(packb, module)?)?;
    module.add_function(wrap_pyfunction!(unpackb, module)?)?;
    module.add_function(wrap_pyfunction!(worker::serve_seat, module)?)?;
    module.add_function(wrap_pyfunction!(worker::end_with_parent, module)?)?;
    module.add_function(wrap_pyfunction!(logging::log_level, module)?)?;
    module.add_function(wrap_pyfunction!(logging::log_lines, module)?)?;
    module.add_function(wrap_pyfunction!(logging::log_close, module)?)?;
    Ok(())
}
