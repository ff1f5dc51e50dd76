//! Values as JSON, none of them changed on the way: what JSON or 64 bits can't hold is an error.
//!
//! `serde_json` itself reads an integer of more than 64 bits as floating point and writes NaN as `null`.

use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::Value;

/// How many digits of a number are quoted.
const QUOTED: usize = 40;

/// When an integer in JSON has more than 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the integer {0} does not fit into 64 bits")]
pub struct Inexact(String);

/// Checks the integers of a JSON text, which `serde_json` has accepted: each has to fit into 64 bits, with or without a sign. What
/// is written with a point or an exponent is floating point, and rounded as everywhere.
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

/// What follows a text that has begun.
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

/// A value as JSON has it: bytes are a text if they are UTF-8, or else a list of numbers; keys are texts. A number that is not
/// finite is an error, or for people a text.
#[derive(Clone, Copy, Debug)]
pub struct AsJson<'a> {
    pub(super) value: &'a Value,
    pub(super) for_people: bool,
}

impl AsJson<'_> {
    fn of(self, value: &Value) -> AsJson<'_> {
        AsJson { value, ..self }
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
                for (key, value) in entries {
                    map.serialize_entry(&key.to_string(), &self.of(value))?;
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
}
