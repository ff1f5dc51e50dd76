//! Any value that MessagePack and JSON have, for programs that pass on what they are given.
//! Operations of one's own have types of their own.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::json::AsJson;

/// An argument or a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// When there is none.
    Nil,
    /// When it is true or false.
    Bool(bool),
    /// When it is a whole number.
    Int(i64),
    /// When it is a whole number of 2^63 or more.
    Large(u64),
    /// When it is any other number.
    Float(f64),
    /// When it is a text.
    Text(String),
    /// When it is bytes.
    Bytes(Vec<u8>),
    /// When it is several values.
    List(Vec<Value>),
    /// When it is values by key, in their order.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// Returns the number as floating point, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Int(int) => Some(int as f64),
            Self::Large(large) => Some(large as f64),
            Self::Float(float) => Some(float),
            _ => None,
        }
    }

    /// Parses a finite number in any notation (`007`, `1.10`, `1e3`). An integer that does not fit
    /// into 64 bits is none: as floating point it would be another number.
    pub fn number(text: &str) -> Option<Self> {
        if let Ok(int) = text.parse() {
            return Some(Self::Int(int));
        }
        if let Ok(large) = text.parse() {
            return Some(Self::Large(large));
        }
        // Words like `nan` and `infinity`, which Rust takes for numbers, are none here.
        let numeric = text.bytes().any(|byte| byte.is_ascii_digit()) && !is_integer(text);
        text.parse().ok().filter(|float: &f64| numeric && float.is_finite()).map(Self::Float)
    }

    /// Returns the value in the form that `serde_json` writes. Bytes become a text if they are
    /// UTF-8, or else a list of numbers. Writing a number that is not finite is an error: JSON has
    /// none.
    pub fn as_json(&self) -> AsJson<'_> {
        AsJson { value: self, for_people: false, in_key: false }
    }

    /// Writes the value as [`Display`](fmt::Display) does, but bytes unchanged.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            other => write!(out, "{other}"),
        }
    }

    fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_))
    }
}

/// Parses a word of a command line: a number if it prints exactly as the word, so that the word is
/// not changed; else a text. `7` and `2.5` are numbers; `007`, `1.10`, `1e3` and words with more
/// digits than a number holds are texts.
impl FromStr for Value {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        let number = Self::number(word).filter(|number| match number {
            Self::Int(_) | Self::Large(_) => is_canonical(word),
            // As it is printed here, and as JSON.
            number => {
                let json = serde_json::to_string(&number.as_json()).unwrap_or_default();
                number.to_string() == word && json == word
            }
        });
        Ok(number.unwrap_or_else(|| Self::Text(word.into())))
    }
}

/// Returns whether a text is a whole number, of any number of digits.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// 2^53: from here on not every whole number is a floating-point number.
const SPARSE: f64 = 9_007_199_254_740_992.0;

/// Returns whether a whole number is written as it is printed.
fn is_canonical(word: &str) -> bool {
    word == "0" || word.strip_prefix('-').unwrap_or(word).starts_with(|first| matches!(first, '1'..='9'))
}

/// Displays the value for people: texts without quotes, the members of a list with spaces between.
/// Deeper nesting is displayed as JSON, in which a number that is not finite is a text. Large
/// floating-point numbers have an exponent, so that no digit is displayed that is not known.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => Ok(()),
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(int) => int.fmt(f),
            Self::Large(large) => large.fmt(f),
            Self::Float(float) if float.is_finite() && float.abs() >= SPARSE => write!(f, "{float:e}"),
            Self::Float(float) => float.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).fmt(f),
            Self::List(values) if !values.iter().any(Self::is_nested) => {
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { " " })?;
                }
                Ok(())
            }
            Self::List(_) | Self::Map(_) => {
                let json = serde_json::to_string(&AsJson { value: self, for_people: true, in_key: false });
                f.write_str(&json.map_err(|_| fmt::Error)?)
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Int(int) => serializer.serialize_i64(*int),
            Self::Large(large) => serializer.serialize_u64(*large),
            Self::Float(float) => serializer.serialize_f64(*float),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(values) => serializer.collect_seq(values),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

/// The most members that memory is reserved for before they are read.
const CLAIMED: usize = 64;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Int(int))
    }

    fn visit_u64<E>(self, large: u64) -> Result<Value, E> {
        Ok(i64::try_from(large).map_or(Value::Large(large), Value::Int))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(CLAIMED));
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0).min(CLAIMED));
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::from_json;

    #[test]
    fn words_are_numbers_or_texts() {
        let value = |word: &str| word.parse::<Value>().unwrap();
        assert_eq!(value("7"), Value::Int(7));
        assert_eq!(value("-2.5"), Value::Float(-2.5));
        assert_eq!(value("18446744073709551615"), Value::Large(u64::MAX));
        for word in ["0", "-7", "0.1", "-2.5", "9223372036854775807", "9223372036854775808"] {
            let number = value(word);
            assert!(number.as_f64().is_some() && number.to_string() == word, "{number:?}");
        }
        for word in ["two", "nan", "-inf", "infinity", "1.2.3", "", "0x10"] {
            assert_eq!((value(word), Value::number(word)), (Value::Text(word.into()), None));
        }
    }

    #[test]
    fn a_word_that_a_number_would_change_is_a_text_which_means_that_number() {
        for (word, number) in [
            ("007", Value::Int(7)),
            ("+7", Value::Int(7)),
            ("-0", Value::Int(0)),
            ("1.10", Value::Float(1.1)),
            ("1.0", Value::Float(1.0)),
            ("1e3", Value::Float(1000.0)),
            ("0.0000001", Value::Float(1e-7)),
            ("18446744073709551616.0", Value::Float(18_446_744_073_709_551_616.0)),
            ("0.12345678901234567890", Value::Float(0.123_456_789_012_345_68)),
        ] {
            assert_eq!(word.parse(), Ok(Value::Text(word.into())));
            assert_eq!(Value::number(word), Some(number), "{word}");
        }
        // As floating point they would be others.
        for integer in ["18446744073709551616", "-9223372036854775809", "+99999999999999999999"] {
            assert_eq!((integer.parse(), Value::number(integer)), (Ok(Value::Text(integer.into())), None));
        }
        // No number is infinite.
        assert_eq!(("12e4567".parse(), Value::number("12e4567")), (Ok(Value::Text("12e4567".into())), None));
    }

    #[test]
    fn values_print_as_people_write_them() {
        let ints = |ints: &[i64]| Value::List(ints.iter().map(|&int| Value::Int(int)).collect());
        assert_eq!(Value::Float(2.0).to_string(), "2");
        assert_eq!(ints(&[2, 3, 5]).to_string(), "2 3 5");
        assert_eq!(Value::List(vec![ints(&[1]), "x".parse().unwrap()]).to_string(), r#"[[1],"x"]"#);
        assert_eq!(Value::Map(vec![(Value::Int(1), Value::Nil)]).to_string(), r#"{"1":null}"#);
        let mut out = Vec::new();
        Value::Bytes(vec![0xff, 0]).write_to(&mut out).unwrap();
        assert_eq!(out, [0xff, 0]);
    }

    #[test]
    fn json_comes_and_goes_as_it_is() {
        let written = |value: &Value| serde_json::to_string(&value.as_json());
        for text in [
            r#"[null,true,-1,18446744073709551615,2.5,-0.0,"text",[1,[]],{"b":{"b":1},"a":1}]"#,
            "1e+300",
            "\"\\u0000\"",
        ] {
            assert_eq!(written(&from_json(text.as_bytes()).unwrap()).unwrap(), text);
        }
        assert_eq!(written(&Value::Bytes(b"abc".to_vec())).unwrap(), r#""abc""#);
        assert_eq!(written(&Value::Bytes(vec![0xff])).unwrap(), "[255]");
    }

    #[test]
    fn a_number_that_is_not_finite_is_no_null() {
        let nan = Value::List(vec![Value::List(vec![Value::Float(f64::NAN)]), Value::Float(f64::NEG_INFINITY)]);
        let refused = serde_json::to_string(&nan.as_json()).unwrap_err().to_string();
        assert_eq!(refused, "NaN can't be written as JSON");
        assert_eq!(nan.to_string(), r#"[["NaN"],"-inf"]"#);
        assert_eq!(Value::Float(f64::INFINITY).to_string(), "inf");
    }

    #[test]
    fn a_large_floating_point_number_does_not_look_like_an_integer() {
        for (float, printed) in [
            (9_007_199_254_740_991.0, "9007199254740991"),
            (9_223_372_036_854_775_808.0, "9.223372036854776e18"),
            (-1e20, "-1e20"),
        ] {
            assert_eq!(Value::Float(float).to_string(), printed);
        }
    }
}
