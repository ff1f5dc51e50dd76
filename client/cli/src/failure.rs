//! How a command that fails says so: a line on stderr, with `--json` an object on stdout, and the
//! exit status.

use std::fmt::Display;
use std::io::{self, Write};

use giostra_client::Error;
use giostra_common::args;
use giostra_protocol::escape::sentence;
use giostra_protocol::{Failure, code};
use serde_json::{Value, json};
use thiserror::Error;

use super::exit::Exit;
use super::printed::stdout;

const PROGRAM: &str = "giostra";

/// A failure that the object on stdout tells already.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct Reported(#[from] pub Error);

/// A line on stderr; a peer's control characters in it are spaces, what else can't be seen is
/// escaped.
pub fn report_error(what: impl Display) {
    args::report_error(PROGRAM, sentence(&what.to_string()));
}

/// Ends a command that failed: says why, and which exit status that is.
pub fn end(error: &anyhow::Error, json: bool) -> Exit {
    if let Some(error) = output_error(error) {
        args::report_unwritten(PROGRAM, error);
        return Exit::Failure;
    }
    if json {
        // What can't be printed now is on stderr.
        let _ = print_object(error);
    }
    report_error(format_args!("{error:#}"));
    match of_client(error) {
        Some(Error::Interrupted) => Exit::Interrupted,
        _ if error.is::<giostra_audit::Error>() => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// Prints the object of a failure, unless it was told.
pub fn print_object(error: &anyhow::Error) -> io::Result<()> {
    if error.is::<Reported>() {
        return Ok(());
    }
    writeln!(stdout(), "{}", json!({"error": object(code_of(error), &format!("{error:#}"))}))
}

/// What `error` is in the objects of all commands.
pub fn object(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// The same for a batch that was broken off, or some of whose requests failed.
pub fn of_batch(ended: &Result<(), Error>, first: Option<&Failure>) -> Option<Value> {
    match (ended, first) {
        (Err(error), _) => Some(object(code_of_client(error), &error.to_string())),
        (Ok(()), Some(first)) => Some(object(&first.code, &first.message)),
        (Ok(()), None) => None,
    }
}

/// What the client says, if it is the client that failed.
pub fn of_client(error: &anyhow::Error) -> Option<&Error> {
    error.downcast_ref().or_else(|| error.downcast_ref().map(|Reported(error)| error))
}

/// The error of stdout: the only one that commands hand on as it is. What concerns files names
/// them.
pub fn output_error(error: &anyhow::Error) -> Option<&io::Error> {
    error.downcast_ref().filter(|_| error.chain().len() == 1)
}

fn code_of(error: &anyhow::Error) -> &'static str {
    of_client(error).map_or(code::FAILED, code_of_client)
}

fn code_of_client(error: &Error) -> &'static str {
    match error {
        Error::Endpoint(_) | Error::Handshake(_) | Error::NoBroker { .. } => code::NO_BROKER,
        Error::Refused(_) => "refused",
        Error::TooLarge(_) => code::INVALID,
        Error::Interrupted => "interrupted",
        Error::Ended(error) => code_of_client(error),
        _ => code::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn an_error_is_found_also_when_it_was_told() {
        for error in [anyhow::Error::new(Error::Interrupted), Reported(Error::Interrupted).into()] {
            assert!(matches!(of_client(&error), Some(Error::Interrupted)), "{error:?}");
            assert_eq!((code_of(&error), error.to_string()), ("interrupted", "interrupted".into()));
        }
        assert_eq!(code_of(&anyhow!("keys/a.key: no such file")), "failed");
    }

    #[test]
    fn only_a_bare_error_is_of_stdout() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(output_error(&full().into()).is_some());
        assert!(output_error(&Err::<(), _>(full()).context("a file").unwrap_err()).is_none());
        assert!(output_error(&Error::Interrupted.into()).is_none());
    }
}
