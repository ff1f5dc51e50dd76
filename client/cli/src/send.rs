//! `giostra send`: sends one request and prints its result.

use std::io::Write;

use giostra_client::Client;
use giostra_common::args::switch;
use giostra_protocol::compute::{AsJson, Call, Value};
use giostra_protocol::{Failure, Outcome, Trace, code};
use humantime::format_duration;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{no_broker_hint, object, report_error, report_more};
use super::help;
use super::operations::Operation;
use super::printed::stdout;

/// The options of `giostra send`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::SEND)]
pub struct Send {
    /// add sub mul div pow gcd sqrt is_prime primes fib sleep echo, or another operation of the pool's
    /// workers; status lists them
    #[arg(value_name = "OP", value_parser = Operation, hide_possible_values = true)]
    pub operation: String,

    /// Numbers or texts; a text that begins with a dash goes after --
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    arguments: Vec<String>,

    /// Send all arguments as texts, even numbers
    #[arg(long, env = "GIOSTRA_TEXT", value_parser = switch)]
    text: bool,
}

impl Send {
    /// Returns the arguments as values.
    pub fn arguments(&self) -> Vec<Value> {
        values(&self.arguments, self.text)
    }
}

/// Returns the values that words mean: texts alone, or numbers, too.
pub fn values(words: &[String], are_texts: bool) -> Vec<Value> {
    let value = |word: &String| if are_texts { Ok(Value::Text(word.clone())) } else { word.parse() };
    words.iter().flat_map(value).collect()
}

/// Sends the request, and succeeds if there is a result.
pub fn run(client: &mut Client, send: &Send, common: &CommonArgs) -> anyhow::Result<Exit> {
    let call = Call { operation: send.operation.clone(), arguments: send.arguments() };
    let reply = client.call(call.to_body(), common.timeout)?;
    let trace = common.json.then(|| {
        let Trace { worker, attempts, waited_us, took_us, .. } = &reply.trace;
        json!({"worker": worker, "attempts": attempts, "waited_us": waited_us, "took_us": took_us})
    });
    let line = value(&reply.outcome).and_then(|value| format_result(&value, trace.as_ref()));
    match &line {
        Ok(line) => stdout().write_all(line)?,
        Err(failure) => {
            if let Some(trace) = trace {
                let error = object(&failure.code, &failure.message);
                writeln!(stdout(), "{}", json!({"error": error, "trace": trace}))?;
            }
            report_error(explain(failure, common));
            // Such as the traceback of a worker in Python.
            failure.message.lines().skip(1).for_each(report_more);
        }
    }
    Ok(Exit::success_if(line.is_ok()))
}

/// A result as `--json` prints it.
#[derive(Serialize)]
struct JsonResult<'a> {
    result: AsJson<'a>,
    trace: &'a Json,
}

/// Formats a result as a line, in JSON if there is a trace.
fn format_result(value: &Value, trace: Option<&Json>) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    let written = match trace {
        Some(trace) => serde_json::to_writer(&mut line, &JsonResult { result: value.as_json(), trace }),
        None => value.write_to(&mut line).map_err(serde_json::Error::io),
    };
    written.map_err(|error| format!("the result: {error}"))?;
    line.push(b'\n');
    Ok(line)
}

/// Returns the value in an outcome. A body that is no value of the built-in kind is a failure, too.
pub fn value(outcome: &Outcome) -> Result<Value, Failure> {
    match outcome {
        Outcome::Ok(body) => Value::from_body(body).map_err(|error| Failure::from(error.to_string())),
        Outcome::Error(failure) => Err(failure.clone()),
    }
}

/// Formats a failure with a hint where to look.
pub fn explain(failure: &Failure, common: &CommonArgs) -> String {
    if failure.code == code::NO_BROKER && failure.message.contains(';') {
        format!("{} (at {})", failure.message, common.broker)
    } else if failure.code == code::NO_BROKER {
        format!("{} at {}; is one running? {}", failure.message, common.broker, no_broker_hint(&common.broker))
    } else if let (code::EXPIRED, Some(timeout)) = (&*failure.code, common.timeout) {
        format!("{failure} (--timeout {})", format_duration(timeout))
    } else {
        // The first line says what happened. What a traceback adds is for one request, not for a line of many.
        let (first, _) = failure.message.split_once('\n').unwrap_or((&failure.message, ""));
        format!("{}: {first}", failure.code)
    }
}
