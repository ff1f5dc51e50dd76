//! Python's objects written as MessagePack.

use giostra_client::Bytes;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple};
use rmp::encode;

use crate::python;

/// The type of an extension in MessagePack that is an object of a registered type: its payload is
/// the name of the type, and its value.
pub const OBJECT: i8 = 71;

/// The name under which the keyword arguments of a call are sent, as its last argument.
pub const KEYWORDS: &str = "**";

/// The deepest nesting that is written. Workers in Rust read as much.
const MAX_DEPTH: usize = 128;

/// The most bytes of a body, as every broker has it.
const MAX_BODY: usize = 64 << 20;

/// Returns the body of a request: `[operation, arguments]`.
pub fn request(
    operation: &str,
    arguments: &Bound<'_, PyTuple>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Bytes> {
    let keywords = keywords.filter(|keywords| !keywords.is_empty());
    let mut out = Vec::with_capacity(64);
    array(&mut out, 2)?;
    string(&mut out, operation)?;
    array(&mut out, arguments.len() + usize::from(keywords.is_some()))?;
    for argument in arguments {
        pack(&mut out, &argument, 2)?;
    }
    if let Some(keywords) = keywords {
        object(&mut out, KEYWORDS, keywords.as_any(), 2)?;
    }
    fits(out)
}

/// Returns an object as MessagePack.
pub fn to_bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let mut out = Vec::with_capacity(16);
    pack(&mut out, value, 0)?;
    fits(out)
}

/// Has what no broker takes refused here: a broker would end the connection.
fn fits(body: Vec<u8>) -> PyResult<Bytes> {
    if body.len() > MAX_BODY {
        let megabytes = body.len() >> 20;
        return Err(PyValueError::new_err(format!("{megabytes} MiB are too large to be sent: a broker takes 64 MiB")));
    }
    Ok(body.into())
}

fn pack(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    if depth > MAX_DEPTH {
        return Err(PyValueError::new_err(format!("a value nested more than {MAX_DEPTH} deep can't be sent")));
    }
    if value.is_none() {
        encode::write_nil(out).map_err(never)
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        string(out, text.to_str()?)
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        encode::write_bool(out, value.is_true()).map_err(never)
    } else if let Ok(value) = value.cast_exact::<PyInt>() {
        int(out, value)
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        encode::write_f64(out, value.value()).map_err(never)
    } else if let Ok(items) = value.cast_exact::<PyList>() {
        list(out, items, depth)
    } else if let Ok(items) = value.cast_exact::<PyTuple>() {
        array(out, items.len())?;
        items.iter().try_for_each(|item| pack(out, &item, depth + 1))
    } else if let Ok(items) = value.cast_exact::<PyDict>() {
        dict(out, items, depth)
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        bin(out, bytes.as_bytes())
    } else {
        other(out, value, depth)
    }
}

/// Writes an object of none of the types that MessagePack has: of a registered one, or of a
/// subclass.
fn other(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    if let Some((name, encoded)) = python::encoded(value)? {
        return object(out, &name, &encoded, depth);
    }
    if let Ok(text) = value.cast::<PyString>() {
        string(out, text.to_str()?)
    } else if let Ok(value) = value.cast::<PyInt>() {
        int(out, value)
    } else if let Ok(value) = value.cast::<PyFloat>() {
        encode::write_f64(out, value.value()).map_err(never)
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        bin(out, bytes.as_bytes())
    } else if let Ok(bytes) = value.cast::<PyByteArray>() {
        bin(out, &bytes.to_vec())
    } else if value.is_instance_of::<PyMemoryView>() {
        bin(out, value.call_method0("tobytes")?.cast::<PyBytes>()?.as_bytes())
    } else if let Ok(items) = value.cast::<PyList>() {
        list(out, items, depth)
    } else if let Ok(items) = value.cast::<PyTuple>() {
        array(out, items.len())?;
        items.iter().try_for_each(|item| pack(out, &item, depth + 1))
    } else if let Ok(items) = value.cast::<PyDict>() {
        dict(out, items, depth)
    } else {
        let name = value.get_type().fully_qualified_name()?;
        Err(PyTypeError::new_err(format!(
            "a {name} can't be sent: None, bool, int, float, str, bytes, list, tuple and dict can, numpy's \
             arrays, and what giostra.register() was told of"
        )))
    }
}

/// Writes an object of a registered type by its name.
fn object(out: &mut Vec<u8>, name: &str, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    // The length is known afterwards.
    out.extend([0xc9, 0, 0, 0, 0, OBJECT as u8]);
    let begin = out.len();
    string(out, name)?;
    pack(out, value, depth + 1)?;
    let len = u32::try_from(out.len() - begin).map_err(|_| too_long())?;
    out[begin - 5..begin - 1].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

fn list(out: &mut Vec<u8>, items: &Bound<'_, PyList>, depth: usize) -> PyResult<()> {
    let len = items.len();
    array(out, len)?;
    let mut written = 0;
    // A converter, or another thread, may change it meanwhile.
    for item in items.iter().take(len) {
        pack(out, &item, depth + 1)?;
        written += 1;
    }
    if written == len { Ok(()) } else { Err(PyRuntimeError::new_err("a list changed its size while it was sent")) }
}

fn dict(out: &mut Vec<u8>, items: &Bound<'_, PyDict>, depth: usize) -> PyResult<()> {
    // Iterating over a dict that is changed meanwhile would be a panic; over a list of its items, it is not.
    let items = items.items();
    encode::write_map_len(out, items.len().try_into().map_err(|_| too_long())?).map_err(never)?;
    for item in items.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        pack(out, &key, depth + 1)?;
        pack(out, &value, depth + 1)?;
    }
    Ok(())
}

fn int(out: &mut Vec<u8>, value: &Bound<'_, PyInt>) -> PyResult<()> {
    if let Ok(value) = value.extract::<i64>() {
        encode::write_sint(out, value).map(drop).map_err(never)
    } else if let Ok(value) = value.extract::<u64>() {
        encode::write_uint(out, value).map(drop).map_err(never)
    } else {
        Err(PyOverflowError::new_err("an int outside of -2**63 .. 2**64 - 1 can't be sent: MessagePack has none"))
    }
}

fn array(out: &mut Vec<u8>, len: usize) -> PyResult<()> {
    encode::write_array_len(out, len.try_into().map_err(|_| too_long())?).map(drop).map_err(never)
}

fn string(out: &mut Vec<u8>, text: &str) -> PyResult<()> {
    u32::try_from(text.len()).map_err(|_| too_long())?;
    encode::write_str(out, text).map_err(never)
}

fn bin(out: &mut Vec<u8>, bytes: &[u8]) -> PyResult<()> {
    u32::try_from(bytes.len()).map_err(|_| too_long())?;
    encode::write_bin(out, bytes).map_err(never)
}

fn too_long() -> PyErr {
    PyOverflowError::new_err("a value of more than four thousand million bytes or items can't be sent")
}

/// Writing into memory doesn't fail.
fn never(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
