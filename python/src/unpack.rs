//! MessagePack read as Python's objects.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};
use rmp::Marker;

use crate::pack::{KEYWORDS, OBJECT};
use crate::python;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 512;

/// Reads one object. What is behind it is ignored.
pub fn from_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Reader { py, rest: bytes, is_array: false }.value(0)
}

/// The arguments of a call, and its keyword arguments if there are any.
pub type Arguments<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Reads the arguments of a call, the keyword arguments by themselves. A worker in another language may
/// have been sent a single value in place of the list.
pub fn arguments<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Arguments<'py>> {
    let mut reader = Reader { py, rest: bytes, is_array: false };
    let Some(len) = reader.array_len()? else {
        return Ok((PyTuple::new(py, [reader.value(1)?])?, None));
    };
    let mut arguments = Vec::with_capacity(len.min(16));
    for index in 0..len {
        if index + 1 == len
            && let Some(keywords) = reader.keywords()?
        {
            return Ok((PyTuple::new(py, arguments)?, Some(keywords)));
        }
        arguments.push(reader.value(1)?);
    }
    Ok((PyTuple::new(py, arguments)?, None))
}

/// A key that has come as a list was a tuple, since no other can be a key.
fn hashable(key: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let Ok(items) = key.cast_exact::<PyList>() else { return Ok(key) };
    let items: Vec<_> = items.iter().map(hashable).collect::<PyResult<_>>()?;
    Ok(PyTuple::new(key.py(), items)?.into_any())
}

struct Reader<'py, 'a> {
    py: Python<'py>,
    rest: &'a [u8],
    /// Whether bytes are an array's, and become memory that can be written to.
    is_array: bool,
}

impl<'py, 'a> Reader<'py, 'a> {
    fn value(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        if depth > MAX_DEPTH {
            return Err(PyValueError::new_err(format!("a value is nested more than {MAX_DEPTH} deep")));
        }
        let py = self.py;
        Ok(match Marker::from_u8(self.take(1)?[0]) {
            Marker::Null => py.None().into_bound(py),
            Marker::True => true.into_pyobject(py)?.to_owned().into_any(),
            Marker::False => false.into_pyobject(py)?.to_owned().into_any(),
            Marker::FixPos(value) => value.into_pyobject(py)?.into_any(),
            Marker::FixNeg(value) => value.into_pyobject(py)?.into_any(),
            Marker::U8 => self.number(u8::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::U16 => self.number(u16::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::U32 => self.number(u32::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::U64 => self.number(u64::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::I8 => self.number(i8::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::I16 => self.number(i16::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::I32 => self.number(i32::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::I64 => self.number(i64::from_be_bytes)?.into_pyobject(py)?.into_any(),
            Marker::F32 => PyFloat::new(py, self.number(f32::from_be_bytes)?.into()).into_any(),
            Marker::F64 => PyFloat::new(py, self.number(f64::from_be_bytes)?).into_any(),
            marker => return self.composite(marker, depth),
        })
    }

    /// Reads what has a length.
    fn composite(&mut self, marker: Marker, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        match marker {
            Marker::FixStr(len) => self.text(len.into()),
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => {
                let len = self.number(u8::from_be_bytes)?;
                self.sized(marker, len.into(), depth)
            }
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 => {
                let len = self.number(u16::from_be_bytes)?;
                self.sized(marker, len.into(), depth)
            }
            Marker::Str32 | Marker::Bin32 | Marker::Ext32 => {
                let len = self.number(u32::from_be_bytes)?;
                self.sized(marker, len as usize, depth)
            }
            Marker::FixArray(len) => self.list(len.into(), depth),
            Marker::Array16 => self.number(u16::from_be_bytes).and_then(|len| self.list(len.into(), depth)),
            Marker::Array32 => self.number(u32::from_be_bytes).and_then(|len| self.list(len as usize, depth)),
            Marker::FixMap(len) => self.dict(len.into(), depth),
            Marker::Map16 => self.number(u16::from_be_bytes).and_then(|len| self.dict(len.into(), depth)),
            Marker::Map32 => self.number(u32::from_be_bytes).and_then(|len| self.dict(len as usize, depth)),
            Marker::FixExt1 => self.extension(1, depth),
            Marker::FixExt2 => self.extension(2, depth),
            Marker::FixExt4 => self.extension(4, depth),
            Marker::FixExt8 => self.extension(8, depth),
            Marker::FixExt16 => self.extension(16, depth),
            _ => Err(PyValueError::new_err("not MessagePack")),
        }
    }

    fn sized(&mut self, marker: Marker, len: usize, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        match marker {
            Marker::Str8 | Marker::Str16 | Marker::Str32 => self.text(len),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 if self.is_array => {
                Ok(PyByteArray::new(self.py, self.take(len)?).into_any())
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Ok(PyBytes::new(self.py, self.take(len)?).into_any()),
            _ => self.extension(len, depth),
        }
    }

    fn text(&mut self, len: usize) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyString::from_bytes(self.py, self.take(len)?)?.into_any())
    }

    fn list(&mut self, len: usize, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        // Not of the stated length at once: each item has at least a byte.
        let mut items = Vec::with_capacity(len.min(self.rest.len()).min(1024));
        for _ in 0..len {
            items.push(self.value(depth + 1)?);
        }
        Ok(PyList::new(self.py, items)?.into_any())
    }

    fn dict(&mut self, len: usize, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        for _ in 0..len {
            let (key, value) = (hashable(self.value(depth + 1)?)?, self.value(depth + 1)?);
            dict.set_item(key, value)?;
        }
        Ok(dict.into_any())
    }

    fn extension(&mut self, len: usize, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let (code, payload) = self.payload(len)?;
        if code != OBJECT {
            return Err(PyValueError::new_err(format!("an extension of MessagePack of the unknown type {code}")));
        }
        let mut inner = Reader { py: self.py, rest: payload, is_array: false };
        let name = inner.value(depth + 1)?;
        inner.is_array =
            name.cast::<PyString>().is_ok_and(|name| name.to_str().is_ok_and(|name| name.starts_with("numpy.")));
        let value = inner.value(depth + 1)?;
        python::decoded(&name, value)
    }

    fn payload(&mut self, len: usize) -> PyResult<(i8, &'a [u8])> {
        let code = self.number(i8::from_be_bytes)?;
        Ok((code, self.take(len)?))
    }

    /// Reads keyword arguments, if they are next.
    fn keywords(&mut self) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some((&[0xc9, a, b, c, d], after)) = self.rest.split_first_chunk() else { return Ok(None) };
        let mut ahead = Reader { py: self.py, rest: after, is_array: false };
        let (code, payload) = ahead.payload(u32::from_be_bytes([a, b, c, d]) as usize)?;
        let Ok((KEYWORDS, value)) = rmp::decode::read_str_from_slice(payload) else { return Ok(None) };
        if code != OBJECT {
            return Ok(None);
        }
        self.rest = ahead.rest;
        Ok(Some(Reader { py: self.py, rest: value, is_array: false }.value(2)?.cast_into()?))
    }

    /// Reads the length of a list, if one is next.
    fn array_len(&mut self) -> PyResult<Option<usize>> {
        let before = self.rest;
        let len = match Marker::from_u8(self.take(1)?[0]) {
            Marker::FixArray(len) => len.into(),
            Marker::Array16 => self.number(u16::from_be_bytes)?.into(),
            Marker::Array32 => self.number(u32::from_be_bytes)? as usize,
            _ => {
                self.rest = before;
                return Ok(None);
            }
        };
        Ok(Some(len))
    }

    fn number<const N: usize, T>(&mut self, read: fn([u8; N]) -> T) -> PyResult<T> {
        let bytes = self.take(N)?;
        Ok(read(bytes.try_into().expect("as many as were asked for")))
    }

    fn take(&mut self, len: usize) -> PyResult<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| PyValueError::new_err("MessagePack that breaks off"))?;
        self.rest = rest;
        Ok(taken)
    }
}
