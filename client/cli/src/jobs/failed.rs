//! The requests of a job that failed, written as lines from which `submit --lines` and `map` make the
//! same requests again.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use giostra_protocol::compute::{Call, Value};

use crate::failure::report_error;
use crate::line::{Kind, body};
use crate::map::Failures;
use crate::written::many;

/// The file of the requests that failed.
pub struct FailedRequests {
    lines: Failures,
    path: PathBuf,
    /// Whether lines are JSON; otherwise they are words.
    json: bool,
    /// The operation of the first, which those that read the lines are told.
    operation: Option<String>,
    written: u64,
    /// Those that can't be written as lines: how many, and why not the first.
    unwritten: (u64, Option<(u64, Unwritable)>),
}

/// Why a request can't be written as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unwritable {
    /// When the broker does not have it any more.
    Gone,
    /// When it is no operation with arguments.
    NoCall,
    /// When its operation is another than that of those before.
    OtherOperation(String),
    /// When its arguments are no words that are read as they were.
    NoWords,
    /// When its arguments are no JSON that is read as they were: bytes, or a number that is not finite.
    NoJson,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "the broker does not have it any more"),
            Self::NoCall => write!(f, "it is no operation with arguments"),
            Self::OtherOperation(operation) => write!(f, "its operation is another, {operation}"),
            Self::NoWords => write!(f, "its arguments are no words and numbers; --json writes them"),
            Self::NoJson => write!(f, "its arguments can't be written as JSON"),
        }
    }
}

impl FailedRequests {
    /// Begins with an empty file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn create(path: &Path, json: bool) -> anyhow::Result<Self> {
        let lines = Failures::new(Some(path), None)?;
        Ok(Self { lines, path: path.into(), json, operation: None, written: 0, unwritten: (0, None) })
    }

    /// Adds a request, whose number is counted from 1.
    pub fn add(&mut self, number: u64, request: Option<&[u8]>) -> anyhow::Result<()> {
        match self.line(request) {
            Ok(line) => {
                self.written += 1;
                self.lines.keep(line.as_bytes())
            }
            Err(why) => {
                let (count, first) = &mut self.unwritten;
                *count += 1;
                first.get_or_insert((number, why));
                Ok(())
            }
        }
    }

    fn line(&mut self, request: Option<&[u8]>) -> Result<String, Unwritable> {
        let call = Call::from_body(request.ok_or(Unwritable::Gone)?).map_err(|_| Unwritable::NoCall)?;
        let operation = self.operation.get_or_insert_with(|| call.operation.clone());
        if *operation != call.operation {
            return Err(Unwritable::OtherOperation(call.operation));
        }
        line(&call, self.json).ok_or(if self.json { Unwritable::NoJson } else { Unwritable::NoWords })
    }

    /// Writes the rest, and reports what to do with the file.
    ///
    /// # Errors
    /// If it can't be written, or if a request could not be.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.lines.flush()?;
        let path = self.path.display();
        if let Some(operation) = self.operation.filter(|_| self.written > 0) {
            let json = if self.json { " --json" } else { "" };
            let requests = many(self.written, "request");
            report_error(format_args!(
                "{path} has {requests} that failed: giostra submit {operation} --lines{json} < {path}"
            ));
        }
        match self.unwritten {
            (count, Some((number, why))) => {
                bail!("{} that failed: not in {path}: line {number}, {why}", many(count, "request"))
            }
            (_, None) => Ok(()),
        }
    }
}

/// Returns the line from which the same call is made, if there is one.
fn line(call: &Call, json: bool) -> Option<String> {
    let (line, kind) = match json {
        true => (serde_json::to_string(&Value::List(call.arguments.clone()).as_json()).ok()?, Kind::Json),
        false => {
            let words: Vec<_> = call.arguments.iter().map(ToString::to_string).collect();
            (words.join(" "), Kind::Words)
        }
    };
    let body = body(&call.operation, line.as_bytes(), kind).ok()?;
    let is_same = !line.contains('\n') && Call::from_body(&body).is_ok_and(|read| read == *call);
    is_same.then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(arguments: &[Value]) -> [Option<String>; 2] {
        let call = Call { operation: "op".into(), arguments: arguments.to_vec() };
        [false, true].map(|json| line(&call, json))
    }

    fn both(words: &str, json: &str) -> [Option<String>; 2] {
        [Some(words.into()), Some(json.into())]
    }

    #[test]
    fn a_line_is_written_only_if_the_same_request_is_read_from_it() {
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(written(&[Value::Int(-1), Value::Float(2.5), text("two")]), both("-1 2.5 two", r#"[-1,2.5,"two"]"#));
        assert_eq!(written(&[]), both("", "[]"));
        assert_eq!(written(&[Value::Float(2.5), text("007")]), both("2.5 007", r#"[2.5,"007"]"#));
        // As words they would be others, fewer or more.
        for (argument, json) in [
            (text("7"), r#"["7"]"#),
            (text("my notes.txt"), r#"["my notes.txt"]"#),
            (text(""), r#"[""]"#),
            (text("a\nb"), r#"["a\nb"]"#),
            (text("a\r"), r#"["a\r"]"#),
            (Value::Float(2.0), "[2.0]"),
            (Value::Bool(true), "[true]"),
            (Value::Nil, "[null]"),
            (Value::List(vec![Value::Int(1)]), "[[1]]"),
        ] {
            assert_eq!(written(std::slice::from_ref(&argument)), [None, Some(json.into())], "{argument:?}");
        }
        // In JSON there is no place for them.
        for argument in [Value::Bytes(vec![0xff]), Value::Float(f64::NAN), Value::Float(f64::INFINITY)] {
            assert_eq!(written(std::slice::from_ref(&argument)), [None, None], "{argument:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_file_is_an_error_and_the_rest_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failed");
        let call =
            |operation: &str, argument| Call { operation: operation.into(), arguments: vec![argument] }.to_body();
        let mut failed = FailedRequests::create(&path, false).unwrap();
        failed.add(1, Some(&call("div", Value::Int(1)))).unwrap();
        failed.add(2, Some(&call("div", Value::Text("a b".into())))).unwrap();
        failed.add(3, None).unwrap();
        failed.add(4, Some(&call("mul", Value::Int(1)))).unwrap();
        failed.add(5, Some(&call("div", Value::Int(2)))).unwrap();
        let error = failed.finish().unwrap_err().to_string();
        assert!(error.starts_with("3 requests that failed: not in ") && error.contains("line 2, its arg"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
    }
}
