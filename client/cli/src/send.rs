//! `giostra send`: one request, its result on stdout.

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

/// One request.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::SEND)]
pub struct Send {
    /// add sub mul div pow gcd sqrt is_prime primes fib sleep echo, or what the pool's workers
    /// offer; status lists it
    #[arg(value_name = "OP", value_parser = Operation, hide_possible_values = true)]
    pub operation: String,

    /// Numbers, or texts; what begins with a dash and is no number goes behind --
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    arguments: Vec<String>,

    /// Send all arguments as texts, not those that are numbers as numbers
    #[arg(long, env = "GIOSTRA_TEXT", value_parser = switch)]
    text: bool,
}

impl Send {
    /// What it is to be computed on.
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
            Ok(value) => writeln!(stdout(), "{}", serde_json::to_string(&Written { result: value.as_json(), trace })?)?,
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

/// A result as `--json` has it.
#[derive(Serialize)]
struct Written<'a> {
    result: AsJson<'a>,
    trace: Json,
}

/// The value in a reply. One that is not of this command line's kind is a failure, too.
pub fn value(reply: &Reply) -> Result<Value, Failure> {
    match &reply.outcome {
        Outcome::Ok(body) => Value::from_body(body).map_err(|error| Failure::from(error.to_string())),
        Outcome::Error(failure) => Err(failure.clone()),
    }
}

/// The failure, and where to look.
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
