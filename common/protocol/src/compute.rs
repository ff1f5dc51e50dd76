//! The bodies of the built-in operations: a request is an operation with its arguments, a reply is a
//! value, both in MessagePack.
//!
//! The broker never reads a body: workers of your own may use any other format.

mod json;
mod value;

use crate::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use json::{AsJson, Inexact, exact_numbers, from_json};
pub use value::Value;

/// The deepest nesting of a body that is decoded: each level uses part of the stack.
pub const MAX_DEPTH: usize = 128;

/// Decodes a value of any type from a body. Bytes behind the value are ignored.
///
/// # Errors
/// If it is not MessagePack, not of this type, or nests deeper than [`MAX_DEPTH`].
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    deserializer.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut deserializer)
}

/// A request's body: `["add", [1, 2]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The operation's name.
    pub operation: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

/// The error that a body is not a call or a value.
#[derive(Debug, Error)]
#[error("not a {what} in MessagePack: {source}")]
pub struct BadBody {
    what: &'static str,
    source: rmp_serde::decode::Error,
}

impl Call {
    /// Encodes the call as a request's body.
    pub fn to_body(&self) -> Bytes {
        rmp_serde::to_vec(self).expect("a call can be encoded").into()
    }

    /// Decodes the call in a request's body.
    ///
    /// # Errors
    /// If the body is not a call.
    pub fn from_body(body: &[u8]) -> Result<Self, BadBody> {
        read(body).map_err(|source| BadBody { what: "call [operation, [arguments]]", source })
    }
}

impl Value {
    /// Encodes the value as a reply's body.
    pub fn to_body(&self) -> Bytes {
        rmp_serde::to_vec(self).expect("a value can be encoded").into()
    }

    /// Decodes the value in a reply's body.
    ///
    /// # Errors
    /// If the body is not a value.
    pub fn from_body(body: &[u8]) -> Result<Self, BadBody> {
        read(body).map_err(|source| BadBody { what: "value", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_values_survive_the_way() {
        let call = Call { operation: "add".into(), arguments: vec![Value::Int(-1), Value::Float(2.5)] };
        assert_eq!(Call::from_body(&call.to_body()).unwrap(), call);
        let nested = Value::Map(vec![(Value::Text("k".into()), Value::Bytes(vec![1])), (Value::Int(2), Value::Nil)]);
        let list = Value::List(vec![Value::Bool(true), Value::Int(i64::MIN), Value::Large(u64::MAX), nested]);
        for value in [list, Value::Float(2.0), Value::Nil, Value::Text(String::new()), Value::List(vec![])] {
            assert_eq!(Value::from_body(&value.to_body()).unwrap(), value);
        }
        assert!(Call::from_body(b"\x93garbage").is_err());
        assert!(Value::from_body(b"").is_err());
    }

    #[test]
    fn what_nests_too_deep_is_an_error() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(Value::from_body(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(Value::from_body(&nested(MAX_DEPTH + 1)).is_err());
        assert!(Value::from_body(&nested(1 << 20)).is_err());
    }
}
