//! `giostra send`: sends one request and prints its result.

use std::io::Write;

use giostra_client::Client;
use giostra_common::args::switch;
use giostra_protocol::compute::{AsJson, Call, Value};
use giostra_protocol::{Failure, Outcome, Reply, code};
use humantime::format_duration;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{object, report_error};
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
        let value = |word: &String| if self.text { Ok(Value::Text(word.clone())) } else { word.parse() };
        self.arguments.iter().flat_map(value).collect()
    }
}

/// Sends the request, and succeeds if there is a result.
pub fn run(client: &mut Client, send: &Send, common: &CommonArgs) -> anyhow::Result<Exit> {
    let operation = send.operation.clone();
    let call = Call { operation, arguments: send.arguments() };
    let reply = client.call(call.to_body(), common.timeout)?;
    let (mut result, trace) = (value(&reply), reply.trace);
    if common.json
        && let Ok(value) = &result
        && let Err(error) = serde_json::to_string(&value.as_json())
    {
        result = Err(Failure::from(format!("the result: {error}")));
    }
    if common.json {
        let trace = json!({
            "worker": trace.worker, "attempts": trace.attempts, "waited_us": trace.waited_us, "took_us": trace.took_us,
        });
        match &result {
            Ok(value) => {
                writeln!(stdout(), "{}", serde_json::to_string(&JsonResult { result: value.as_json(), trace })?)?;
            }
            Err(Failure { code, message }) => {
                writeln!(stdout(), "{}", json!({"error": object(code, message), "trace": trace}))?;
            }
        }
    }
    match &result {
        Ok(value) if !common.json => {
            let mut line = Vec::new();
            value.write_to(&mut line)?;
            line.push(b'\n');
            stdout().write_all(&line)?;
        }
        Ok(_) => {}
        Err(failure) => report_error(explain(failure, common)),
    }
    Ok(Exit::success_if(result.is_ok()))
}

/// A result as `--json` prints it.
#[derive(Serialize)]
struct JsonResult<'a> {
    result: AsJson<'a>,
    trace: Json,
}

/// Returns the value in a reply. A body that is no value of the built-in kind is a failure, too.
pub fn value(reply: &Reply) -> Result<Value, Failure> {
    match &reply.outcome {
        Outcome::Ok(body) => Value::from_body(body).map_err(|error| Failure::from(error.to_string())),
        Outcome::Error(failure) => Err(failure.clone()),
    }
}

/// Formats a failure with a hint where to look.
pub fn explain(failure: &Failure, common: &CommonArgs) -> String {
    if failure.code == code::NO_BROKER && failure.message.contains(';') {
        format!("{} (at {})", failure.message, common.broker)
    } else if failure.code == code::NO_BROKER {
        format!("{} at {}; is one running? (just up, or giostra-broker)", failure.message, common.broker)
    } else if let (code::EXPIRED, Some(timeout)) = (&*failure.code, common.timeout) {
        format!("{failure} (--timeout {})", format_duration(timeout))
    } else {
        failure.to_string()
    }
}
