//! The bodies of the ready compute worker: an operation with its arguments there, a value back, both in MessagePack.
//!
//! The broker never looks into a body; whoever writes a worker of their own may put anything there.

use std::fmt;

use bytes::Bytes;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// A request's body: `["add", [1, 2]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The operation's name.
    pub operation: String,
    /// What it is computed on.
    pub arguments: Vec<Value>,
}

/// A number, a truth value or a list of numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// When it is true or false.
    Bool(bool),
    /// When it is a whole number.
    Int(i64),
    /// When it is any other number.
    Float(f64),
    /// When it is several whole numbers.
    Ints(Vec<i64>),
}

/// By hand: what `serde` derives for an untagged enum tries each variant in turn, and writes an error for each that fails.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a truth value or a list of whole numbers")
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
                Ok(Value::Bool(truth))
            }
            fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
                Ok(Value::Int(int))
            }
            fn visit_u64<E: de::Error>(self, int: u64) -> Result<Value, E> {
                int.try_into().map(Value::Int).map_err(E::custom)
            }
            fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
                Ok(Value::Float(float))
            }
            fn visit_str<E: de::Error>(self, _text: &str) -> Result<Value, E> {
                // Not quoted: it may be as long as a message.
                Err(E::invalid_type(Unexpected::Other("a text"), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Value::Ints)
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
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
        rmp_serde::from_slice(body).map_err(|source| BadBody { what: "call [operation, [arguments]]", source })
    }
}

impl Value {
    /// The value as a reply's body.
    pub fn to_body(&self) -> Bytes {
        rmp_serde::to_vec(self).expect("a value can be encoded").into()
    }

    /// The value in a reply's body.
    pub fn from_body(body: &[u8]) -> Result<Self, BadBody> {
        rmp_serde::from_slice(body).map_err(|source| BadBody { what: "value", source })
    }

    /// The number as floating point, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Int(int) => Some(int as f64),
            Self::Float(float) => Some(float),
            Self::Bool(_) | Self::Ints(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(int) => int.fmt(f),
            Self::Float(float) => float.fmt(f),
            Self::Ints(ints) => {
                for (i, int) in ints.iter().enumerate() {
                    write!(f, "{}{int}", if i == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    }
}

/// Parses an argument of the command line: a whole number if it fits into 64 bits, or else any other.
impl std::str::FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(int) = text.parse() {
            return Ok(Self::Int(int));
        }
        match text.parse::<f64>() {
            Ok(float) => Ok(Self::Float(float)),
            Err(_) => Err(format!("'{text}' is not a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_values_survive_the_way() {
        let call = Call { operation: "add".into(), arguments: vec![Value::Int(-1), Value::Float(2.5)] };
        assert_eq!(Call::from_body(&call.to_body()).unwrap(), call);
        for value in [Value::Bool(true), Value::Int(i64::MIN), Value::Float(2.0), Value::Ints(vec![2, 3])] {
            assert_eq!(Value::from_body(&value.to_body()).unwrap(), value);
        }
        assert!(Call::from_body(b"\x93garbage").is_err());
        assert!(Value::from_body(b"").is_err());
    }

    #[test]
    fn values_read_and_print_as_people_write_them() {
        assert_eq!("7".parse(), Ok(Value::Int(7)));
        assert_eq!("-2.5".parse(), Ok(Value::Float(-2.5)));
        assert_eq!("two".parse::<Value>(), Err("'two' is not a number".into()));
        assert_eq!(Value::Float(2.0).to_string(), "2");
        assert_eq!(Value::Ints(vec![2, 3, 5]).to_string(), "2 3 5");
    }
}
