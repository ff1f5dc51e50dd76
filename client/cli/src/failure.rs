//! Reports of failures: a line on stderr, with `--json` an object on stdout, and the exit status.

use std::fmt::Display;
use std::io::{self, Write};

use giostra_client::Error;
use giostra_common::args;
use giostra_protocol::escape::sentence;
use giostra_protocol::{Failure, code};
use giostra_transport::endpoint::Endpoint;
use serde_json::{Value, json};
use thiserror::Error;

use super::exit::Exit;
use super::printed::stdout;

const PROGRAM: &str = "giostra";

/// How to start a broker on this machine.
pub const START: &str = "start one with: giostra up";

/// An error that is in the object on stdout already.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct Reported(#[from] pub Error);

/// Prints a line on stderr. Control characters become spaces, other invisible ones are escaped.
pub fn report_error(what: impl Display) {
    args::report_error(PROGRAM, sentence(&what.to_string()));
}

/// Prints a further line of an error on stderr.
pub fn report_more(line: &str) {
    // If it can't be printed, nobody can be told.
    let _ = writeln!(io::stderr(), "  {}", sentence(line));
}

/// Reports why a command failed, and returns its exit status.
pub fn end(error: &anyhow::Error, json: bool) -> Exit {
    if let Some(error) = output_error(error) {
        args::report_unwritten(PROGRAM, error);
        return Exit::Failure;
    }
    if json {
        // If it can't be printed, the error is still on stderr.
        let _ = print_object(error);
    }
    report_error(explain(error));
    match of_client(error) {
        Some(Error::Interrupted) => Exit::Interrupted,
        _ if error.is::<giostra_audit::Error>() => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// Prints the object of an error, unless it was printed already.
pub fn print_object(error: &anyhow::Error) -> io::Result<()> {
    if error.is::<Reported>() {
        return Ok(());
    }
    writeln!(stdout(), "{}", json!({"error": object(code_of(error), &explain(error))}))
}

/// Formats an error with its causes, and with what to do if there is no broker.
pub fn explain(error: &anyhow::Error) -> String {
    match of_client(error) {
        // It ends in a question, which this answers.
        Some(Error::NoBroker { endpoint, .. }) => format!("{error:#} {}", no_broker_hint(endpoint)),
        _ => format!("{error:#}"),
    }
}

/// Formats a client's error, with what to do if there is no broker.
pub fn explain_client(error: &Error) -> String {
    match error {
        Error::NoBroker { endpoint, .. } => format!("{error} {}", no_broker_hint(endpoint)),
        error => error.to_string(),
    }
}

/// Says what to do if there is no broker at an endpoint, or at any of a list.
pub fn no_broker_hint(endpoint: &str) -> String {
    if Endpoint::list_to_connect(endpoint).is_ok_and(|list| list.iter().all(is_here)) {
        START.into()
    } else {
        format!("giostra doctor --broker {endpoint} looks for the reason")
    }
}

/// Returns whether an endpoint is one of this machine's own.
pub fn is_here(endpoint: &Endpoint) -> bool {
    endpoint.is_local() || matches!(endpoint, Endpoint::Tcp(host, _) if host == "localhost")
}

/// Returns the value of `error` in the objects of all commands.
pub fn object(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// Returns the same for a batch that was interrupted, or has failed requests.
pub fn of_batch(ended: &Result<(), Error>, first: Option<&Failure>) -> Option<Value> {
    match (ended, first) {
        (Err(error), _) => Some(object(code_of_client(error), &explain_client(error))),
        (Ok(()), Some(first)) => Some(object(&first.code, &first.message)),
        (Ok(()), None) => None,
    }
}

/// Returns the client's error, if it is one.
pub fn of_client(error: &anyhow::Error) -> Option<&Error> {
    error.downcast_ref().or_else(|| error.downcast_ref().map(|Reported(error)| error))
}

/// Returns the error of stdout, if it is one: the only I/O error that commands return without context.
pub fn output_error(error: &anyhow::Error) -> Option<&io::Error> {
    error.downcast_ref().filter(|_| error.chain().len() == 1)
}

/// Returns the code of an error.
pub fn code_of(error: &anyhow::Error) -> &'static str {
    of_client(error).map_or(code::FAILED, code_of_client)
}

/// Returns the code of a client's error.
pub fn code_of_client(error: &Error) -> &'static str {
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
    fn an_error_is_found_also_when_it_was_reported() {
        for error in [anyhow::Error::new(Error::Interrupted), Reported(Error::Interrupted).into()] {
            assert!(matches!(of_client(&error), Some(Error::Interrupted)), "{error:?}");
            assert_eq!((code_of(&error), error.to_string()), ("interrupted", "interrupted".into()));
        }
        assert_eq!(code_of(&anyhow!("keys/a.key: no such file")), "failed");
    }

    #[test]
    fn without_a_broker_the_error_says_how_to_get_one() {
        let explained = |endpoint: &str| {
            let error =
                Error::NoBroker { endpoint: endpoint.into(), waited: std::time::Duration::from_secs(1), why: None };
            (explain(&error.into()), no_broker_hint(endpoint))
        };
        for here in ["tcp://127.0.0.1:5555", "tcp://localhost:5555", "ipc:///run/giostra/frontend"] {
            let (text, hint) = explained(here);
            assert!(text.ends_with("; is one running? start one with: giostra up"), "{text}");
            assert!(text.ends_with(&hint), "{text}");
        }
        let (text, _) = explained("tcp://broker.example:5555");
        assert!(text.ends_with("? giostra doctor --broker tcp://broker.example:5555 looks for the reason"), "{text}");
        assert_eq!(explain(&Error::Interrupted.into()), "interrupted");
        let with_context = anyhow::Error::from(Error::Refused("no store".into())).context("--detach");
        assert!(explain(&with_context).starts_with("--detach: "), "what it is about is not lost");
    }

    #[test]
    fn only_a_bare_error_is_of_stdout() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(output_error(&full().into()).is_some());
        assert!(output_error(&Err::<(), _>(full()).context("a file").unwrap_err()).is_none());
        assert!(output_error(&Error::Interrupted.into()).is_none());
    }
}
