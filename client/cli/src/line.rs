//! The request that a line of input makes, and the line of output for its answer: of `map` and of
//! jobs.

use std::io::Write;

use anyhow::bail;
use giostra_protocol::compute::{Value, from_json};
use giostra_protocol::escape::sentence;
use giostra_protocol::{Bytes, Failure, Outcome, code};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::failure::object;
use crate::send::value;

/// What a line of input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words between spaces and tabs, some of which are numbers.
    Words,
    /// Words that are all texts.
    Texts,
    /// One text.
    Line,
    /// JSON: an array of arguments, or a single argument.
    Json,
}

impl Kind {
    /// Returns what a line of input is by these options. An error if they contradict each other.
    pub fn of(json: bool, text: bool, line: bool) -> anyhow::Result<Self> {
        Ok(match json {
            true if text => bail!("with --json a line says itself what is a text; --text is for words"),
            true if line => bail!("with --json a line is a JSON value; --line is for texts"),
            true => Self::Json,
            false if line => Self::Line,
            false if text => Self::Texts,
            false => Self::Words,
        })
    }
}

/// Returns the body of the request that a line makes.
pub fn body(operation: &str, line: &[u8], kind: Kind) -> Result<Bytes, Failure> {
    let invalid = |error: String| Failure::new(code::INVALID, error);
    let mut body = Vec::with_capacity(operation.len() + line.len() + 16);
    let written = if kind == Kind::Json {
        match from_json(line).map_err(|error| invalid(format!("not JSON: {error}")))? {
            arguments @ Value::List(_) => rmp_serde::encode::write(&mut body, &(operation, arguments)),
            argument => rmp_serde::encode::write(&mut body, &(operation, [argument])),
        }
    } else {
        let text = str::from_utf8(line).map_err(|error| invalid(format!("not UTF-8: {error}")))?;
        match kind {
            Kind::Line => rmp_serde::encode::write(&mut body, &(operation, [text])),
            _ => rmp_serde::encode::write(&mut body, &(operation, Words(text, kind == Kind::Texts))),
        }
    };
    written.map_err(|error| invalid(error.to_string()))?;
    Ok(body.into())
}

/// The words of a line, and whether all are texts. Serializes as a list.
struct Words<'a>(&'a str, bool);

impl Words<'_> {
    /// Returns the words between spaces and tabs. Other white space is a part of a word, as in a shell,
    /// except the first half of `\r\n`.
    fn split(&self) -> impl Iterator<Item = &str> {
        let line = self.0.strip_suffix('\r').unwrap_or(self.0);
        line.split([' ', '\t']).filter(|word| !word.is_empty())
    }
}

impl Serialize for Words<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.split().count()))?;
        for word in self.split() {
            if self.1 {
                list.serialize_element(word)?;
                continue;
            }
            let Ok(word) = word.parse::<Value>();
            list.serialize_element(&word)?;
        }
        list.end()
    }
}

/// How a line ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// With a result, formatted as one line.
    Result(String),
    /// With an error.
    Failed(Failure),
}

impl Ended {
    /// Returns how a request of a cancelled job ended that was not computed.
    pub fn missing() -> Self {
        Self::Failed(Failure::new(code::CANCELLED, "the job was cancelled before"))
    }

    /// Returns what a reply says.
    pub fn of(outcome: &Outcome, json: bool) -> Self {
        let written = |value: Value| {
            let as_json =
                || serde_json::to_string(&value.as_json()).map_err(|error| format!("the result: {error}").into());
            if json { as_json() } else { Ok(value.to_string()) }
        };
        match value(outcome).and_then(written) {
            Ok(text) if text.contains('\n') => Self::Result(text.replace('\n', "\\n")),
            Ok(text) => Self::Result(text),
            Err(failure) => Self::Failed(Failure::new(&sentence(&failure.code), sentence(&failure.message))),
        }
    }

    /// The number of bytes in its result.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Result(text) => text.len(),
            Self::Failed(_) => 0,
        }
    }
}

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Whether it is JSON.
    pub json: bool,
    /// Whether each line has the number of its input line.
    pub number: bool,
    /// Whether answers are in the order of the input.
    pub ordered: bool,
}

impl Format {
    /// Writes the line for an answer. A failure is an object in JSON. In text it is an empty line, so
    /// that output and input have the same lines, or nothing if answers are out of order.
    pub fn write(self, out: &mut Vec<u8>, number: u64, ended: &Ended) {
        let written = match (ended, self.number) {
            (Ended::Result(text), false) => writeln!(out, "{text}"),
            (Ended::Result(text), true) if self.json => writeln!(out, r#"{{"line":{number},"result":{text}}}"#),
            (Ended::Result(text), true) => writeln!(out, "{number}\t{text}"),
            (Ended::Failed(Failure { code, message }), numbered) if self.json => {
                let error = object(code, message);
                let object = if numbered { json!({"line": number, "error": error}) } else { json!({"error": error}) };
                writeln!(out, "{object}")
            }
            (Ended::Failed(_), _) if !self.ordered => Ok(()),
            (Ended::Failed(_), true) => writeln!(out, "{number}\t"),
            (Ended::Failed(_), false) => writeln!(out),
        };
        written.expect("a Vec takes any number of bytes");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn read(line: &str, kind: Kind) -> Json {
        rmp_serde::from_slice(&body("op", line.as_bytes(), kind).unwrap()).unwrap()
    }

    #[test]
    fn words_that_are_numbers_become_numbers_unless_all_are_texts() {
        let words = " 1 -2\t2.5 1e3 007 two nan inf 9223372036854775808\r";
        let read_words = json!(["op", [1, -2, 2.5, "1e3", "007", "two", "nan", "inf", 9223372036854775808_u64]]);
        assert_eq!(read(words, Kind::Words), read_words);
        assert_eq!(read(" 1  2.5 two", Kind::Texts), json!(["op", ["1", "2.5", "two"]]));
        let apart_by_others = "a\u{a0}b\u{202f}c\u{3000}d\u{b}e\rf g";
        assert_eq!(read(apart_by_others, Kind::Words), json!(["op", ["a\u{a0}b\u{202f}c\u{3000}d\u{b}e\rf", "g"]]));
        assert_eq!(read("  ", Kind::Words), json!(["op", []]));
        assert_eq!(read("  ", Kind::Texts), json!(["op", []]));
    }

    #[test]
    fn a_line_can_be_one_text_as_it_is() {
        for line in [" my  file\t.txt \r", "", "7"] {
            assert_eq!(read(line, Kind::Line), json!(["op", [line]]));
        }
    }

    #[test]
    fn a_line_of_json_is_the_list_of_arguments_or_the_only_one() {
        assert_eq!(read(r#"[1, "a b", null]"#, Kind::Json), json!(["op", [1, "a b", null]]));
        assert_eq!(read(r#"{"a": [2.5]}"#, Kind::Json), json!(["op", [{"a": [2.5]}]]));
        assert_eq!(body("op", b"", Kind::Json).unwrap_err().code, code::INVALID);
        assert_eq!(body("op", b"1 2", Kind::Json).unwrap_err().code, code::INVALID);
        assert!(body("op", b"a\xff", Kind::Words).unwrap_err().message.starts_with("not UTF-8"));
    }

    #[test]
    fn an_integer_beyond_64_bits_is_an_error_and_no_other_number() {
        let refused = body("op", b"[18446744073709551616]", Kind::Json).unwrap_err();
        assert!(refused.message.contains("18446744073709551616 does not fit into 64 bits"), "{refused}");
        assert_eq!(read("[18446744073709551615]", Kind::Json), json!(["op", [u64::MAX]]));
    }

    #[test]
    fn an_answer_is_one_line_or_none() {
        let (result, failed) = (Ended::Result("[2]".into()), Ended::Failed(Failure::from("why")));
        let written = |json, number, ordered| {
            let mut out = Vec::new();
            let format = Format { json, number, ordered };
            format.write(&mut out, 7, &result);
            format.write(&mut out, 8, &failed);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(false, false, true), "[2]\n\n");
        assert_eq!(written(false, false, false), "[2]\n");
        assert_eq!(written(false, true, true), "7\t[2]\n8\t\n");
        assert_eq!(written(true, false, false), "[2]\n{\"error\":{\"code\":\"failed\",\"message\":\"why\"}}\n");
        let numbered = written(true, true, true);
        let lines: Vec<Json> = numbered.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"line": 7, "result": [2]}));
        assert_eq!(lines[1], json!({"line": 8, "error": {"code": "failed", "message": "why"}}));
    }
}
