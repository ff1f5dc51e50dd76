//! The bodies of the ready compute worker: an operation with its arguments there, a value back,
//! both in MessagePack.
//!
//! The broker never looks into a body; whoever writes a worker of their own may put anything there.

mod json;
mod value;

use crate::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use json::{AsJson, Inexact, exact_numbers, from_json};
pub use value::Value;

/// How deep a body may nest that is read here or by an operation: each level takes a part of the
/// stack.
pub const MAX_DEPTH: usize = 128;

/// Reads a value of any type from a body. Bytes behind it are left alone.
///
/// # Errors
/// If it is no MessagePack, not of this type, or nests deeper than [`MAX_DEPTH`].
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
    /// What it is computed on.
    pub arguments: Vec<Value>,
}

/// When bytes are not what they should be.
#[derive(Debug, Error)]
#[error("not a {what} in MessagePack: {source}")]
pub struct BadBody {
    what: &'static str,
    source: rmp_serde::decode::Error,
}

impl Call {
    /// The call as a request's body.
    pub fn to_body(&self) -> Bytes {
        rmp_serde::to_vec(self).expect("a call can be encoded").into()
    }

    /// The call in a request's body.
    pub fn from_body(body: &[u8]) -> Result<Self, BadBody> {
        read(body).map_err(|source| BadBody { what: "call [operation, [arguments]]", source })
    }
}

impl Value {
    /// The value as a reply's body.
    pub fn to_body(&self) -> Bytes {
        rmp_serde::to_vec(self).expect("a value can be encoded").into()
    }

    /// The value in a reply's body.
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
