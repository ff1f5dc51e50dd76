//! `giostra send`: one request, its result on stdout.

use std::io::Write;

use giostra_client::Client;
use giostra_protocol::compute::{AsJson, Call, Value};
use giostra_protocol::{Failure, Outcome, Reply, code};
use humantime::format_duration;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::args::{Args, Send};
use super::failure::{complain, object};
use super::printed::stdout;

/// Whether there was a result.
pub fn run(client: &mut Client, send: &Send, args: &Args) -> anyhow::Result<bool> {
    let operation = send.operation.clone();
    let call = Call { operation, arguments: send.arguments() };
    let reply = client.call(call.to_body(), args.timeout)?;
    let (mut result, trace) = (value(&reply), reply.trace);
    if args.json
        && let Ok(value) = &result
        && let Err(error) = serde_json::to_string(&value.as_json())
    {
        result = Err(Failure::from(format!("the result: {error}")));
    }
    if args.json {
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
        Ok(value) if !args.json => {
            let mut line = Vec::new();
            value.write_to(&mut line)?;
            line.push(b'\n');
            stdout().write_all(&line)?;
        }
        Ok(_) => {}
        Err(failure) => complain(explain(failure, args)),
    }
    Ok(result.is_ok())
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
pub fn explain(failure: &Failure, args: &Args) -> String {
    if failure.code == code::NO_BROKER && failure.message.contains(';') {
        format!("{} (at {})", failure.message, args.broker)
    } else if failure.code == code::NO_BROKER {
        format!("{} at {}; is one running? (just up, or giostra-broker)", failure.message, args.broker)
    } else if let (code::EXPIRED, Some(timeout)) = (&*failure.code, args.timeout) {
        format!("{failure} (--timeout {})", format_duration(timeout))
    } else {
        failure.to_string()
    }
}
