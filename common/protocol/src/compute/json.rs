//! Values as JSON, without loss: what JSON or 64 bits can't hold is an error.
//!
//! `serde_json` itself reads an integer of more than 64 bits as floating point and writes NaN as
//! `null`.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::Value;

/// The most digits of a number that are quoted.
const QUOTED: usize = 40;

/// When an integer in JSON has more than 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the integer {0} does not fit into 64 bits")]
pub struct Inexact(String);

/// Checks the integers of a JSON text, which `serde_json` has accepted: each has to fit into 64
/// bits, with or without a sign. What is written with a point or an exponent is floating point, and
/// rounded as everywhere.
///
/// # Errors
/// If one does not fit.
pub fn exact_numbers(json: &[u8]) -> Result<(), Inexact> {
    let mut rest = json;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'"' => rest = after_text(after),
            b'-' | b'0'..=b'9' => {
                let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let length = after.iter().take_while(|byte| in_number(byte)).count();
                let (number, others) = after.split_at(length);
                rest = others;
                check(first, number)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns what follows a text that has begun.
fn after_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn check(first: u8, others: &[u8]) -> Result<(), Inexact> {
    // Any integer of so few characters fits.
    if others.len() < 18 || others.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Ok(());
    }
    let number = format!("{}{}", char::from(first), String::from_utf8_lossy(others));
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() { Ok(()) } else { Err(inexact(&number)) }
}

fn inexact(number: &str) -> Inexact {
    match number.get(..QUOTED).filter(|quoted| quoted.len() < number.len()) {
        Some(quoted) => Inexact(format!("{quoted}..")),
        None => Inexact(number.into()),
    }
}

/// Reads a value from JSON.
///
/// # Errors
/// If it is not JSON, or has an integer that does not fit into 64 bits.
pub fn from_json(text: &[u8]) -> Result<Value, serde_json::Error> {
    let value = serde_json::from_slice(text)?;
    exact_numbers(text).map_err(serde::de::Error::custom)?;
    Ok(value)
}

/// A value in the form of JSON. Bytes are a text if they are UTF-8, or else a list of numbers. Keys
/// are texts; numbers and truth values become texts as keys.
///
/// Errors, each with its form for people: a number that is not finite (a text), any other key (the
/// key's JSON), a key that occurs twice (both). Within such a key, another one is `..` for people:
/// otherwise the JSON would double with each level of nesting.
#[derive(Clone, Copy, Debug)]
pub struct AsJson<'a> {
    pub(super) value: &'a Value,
    pub(super) for_people: bool,
    /// Whether this is a part of a key.
    pub(super) in_key: bool,
}

impl AsJson<'_> {
    fn of(self, value: &Value) -> AsJson<'_> {
        AsJson { value, ..self }
    }

    /// Returns a key as a text.
    fn key<E: serde::ser::Error>(self, key: &Value) -> Result<Cow<'_, str>, E> {
        let error = match key {
            Value::Text(text) => return Ok(text.as_str().into()),
            Value::Bytes(bytes) if let Ok(text) = str::from_utf8(bytes) => return Ok(text.into()),
            Value::Bool(_) | Value::Int(_) | Value::Large(_) => return Ok(key.to_string().into()),
            Value::Float(float) if float.is_finite() => return Ok(key.to_string().into()),
            Value::Float(float) => format!("{float} can't be a key in JSON"),
            Value::Nil | Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
                "a key of a map can't be written as JSON: it is no text and no number".into()
            }
        };
        if self.for_people && self.in_key {
            return Ok("..".into());
        }
        if self.for_people {
            let key = AsJson { value: key, in_key: true, ..self };
            return serde_json::to_string(&key).map(Cow::from).map_err(E::custom);
        }
        Err(E::custom(error))
    }
}

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Float(float) if !float.is_finite() && self.for_people => serializer.collect_str(float),
            Value::Float(float) if !float.is_finite() => {
                Err(S::Error::custom(format_args!("{float} can't be written as JSON")))
            }
            Value::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => serializer.collect_seq(bytes),
            },
            Value::List(values) => serializer.collect_seq(values.iter().map(|value| self.of(value))),
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                let mut known = HashSet::new();
                for (key, value) in entries {
                    let key = self.key(key)?;
                    if !self.for_people && !known.insert(key.clone()) {
                        return Err(S::Error::custom(format_args!("the key {key:?} is there twice")));
                    }
                    map.serialize_entry(&key, &self.of(value))?;
                }
                map.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_of_more_than_64_bits_is_found_wherever_it_stands_and_nothing_else() {
        for text in [
            "18446744073709551616",
            "[1, 2,18446744073709551616]",
            r#"{"\"": "a", "b": -9223372036854775809}"#,
            r#"["\\",100000000000000000000000]"#,
        ] {
            assert!(exact_numbers(text.as_bytes()).is_err(), "{text}");
            assert!(from_json(text.as_bytes()).unwrap_err().to_string().contains("does not fit into 64 bits"));
        }
        for text in [
            "18446744073709551615",
            "[-9223372036854775808,1e30,123456789012345678901234.5,-0]",
            r#"["18446744073709551616","\"18446744073709551616",{"18446744073709551616":1}]"#,
        ] {
            assert_eq!(exact_numbers(text.as_bytes()), Ok(()), "{text}");
            assert!(from_json(text.as_bytes()).is_ok(), "{text}");
        }
        assert!(from_json(b"1e400").is_err());
        let long = exact_numbers("9".repeat(1_000_000).as_bytes()).unwrap_err().to_string();
        assert!(long.len() < 100, "{long}");
    }

    #[test]
    fn a_key_that_json_does_not_have_is_an_error_and_for_people_its_json() {
        let map = |keys: Vec<Value>| Value::Map(keys.into_iter().map(|key| (key, Value::Int(2))).collect());
        let json = |value: &Value| serde_json::to_string(&value.as_json()).map_err(|error| error.to_string());
        for (key, shown) in [
            (Value::List(vec![Value::Int(1)]), "{\"[1]\":2}"),
            (map(vec![]), "{\"{}\":2}"),
            (Value::Nil, "{\"null\":2}"),
            (Value::Bytes(vec![0xff]), "{\"[255]\":2}"),
        ] {
            let value = map(vec![key]);
            assert!(json(&value).unwrap_err().contains("key"), "{value:?}");
            assert_eq!(value.to_string(), shown);
        }
        // What is nested in keys does not double with each level.
        let deep = (0..500).fold(Value::Nil, |key, _| map(vec![key]));
        assert_eq!(deep.to_string(), r#"{"{\"..\":2}":2}"#);
        let wide = (0..20).fold(Value::Nil, |key, _| map(vec![Value::List(vec![key])]));
        assert_eq!(wide.to_string(), r#"{"[{\"..\":2}]":2}"#);
        assert!(json(&map(vec![Value::Float(f64::NAN)])).unwrap_err().contains("NaN"));
        // Two keys would be one.
        let text = || Value::Text("1".into());
        for twice in [vec![text(), text()], vec![Value::Int(1), text()], vec![text(), Value::Bytes(b"1".into())]] {
            assert_eq!(json(&map(twice)), Err("the key \"1\" is there twice".into()));
        }
        let sound = map(vec![text(), Value::Int(-1), Value::Large(u64::MAX), Value::Bool(true), Value::Float(0.5)]);
        let written = r#"{"1":2,"-1":2,"18446744073709551615":2,"true":2,"0.5":2}"#;
        assert_eq!(json(&sound).as_deref(), Ok(written));
    }
}
