//! `giostra submit`: hands a job over to the broker.

use std::io::Write;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::ensure;
use giostra_client::{Client, Error, JobOptions};
use giostra_common::args::switch;
use giostra_protocol::compute::Call;
use giostra_protocol::{Bytes, Failure, code, name};
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket;
use serde_json::json;
use zmq::PollItem;

use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::help;
use crate::input::{Input, Next};
use crate::line::{Kind, body};
use crate::operations::Operation;
use crate::printed::stdout;
use crate::send::values;

/// The options of `giostra submit`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::SUBMIT)]
pub struct Submit {
    /// Operation to compute, as with send
    #[arg(value_name = "OP", value_parser = Operation, hide_possible_values = true)]
    operation: String,

    /// Arguments of the only request, as with send
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    arguments: Vec<String>,

    /// Make a request of each line of stdin, as map does; with --json each line is JSON
    #[arg(long, conflicts_with = "arguments")]
    lines: bool,

    /// Send all words as texts, even numbers
    #[arg(long, env = "GIOSTRA_TEXT", value_parser = switch)]
    text: bool,

    /// With --lines: send the whole line as one text, white space and all, instead of its words
    #[arg(long, requires = "lines")]
    line: bool,

    /// Name of the job, for people
    #[arg(long, value_parser = name::parse, value_name = "NAME")]
    name: Option<String>,

    /// Key of the submission: the same key to the same pool gives the same job, however often it is
    /// submitted
    #[arg(long, value_parser = name::parse, value_name = "KEY")]
    key: Option<String>,
}

/// Submits the job, and prints its id once all of it is safe.
pub fn run(client: &mut Client, submit: &Submit, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    ensure!(common.timeout.is_none(), "the requests of a job have no time limit; leave out --timeout");
    let name = submit.name.clone().unwrap_or_default();
    let options = JobOptions { key: submit.key.clone(), name, ..JobOptions::default() };
    let id = match submit.lines {
        true => {
            let (kind, mut input) = (Kind::of(common.json, submit.text, submit.line)?, Input::open()?);
            let requests = std::iter::from_fn(|| request(submit, kind, &mut input, shutdown));
            client.try_submit_job(options, requests)?
        }
        false => {
            let arguments = values(&submit.arguments, submit.text);
            let call = Call { operation: submit.operation.clone(), arguments };
            client.submit_job(options, [call.to_body()])?
        }
    };
    match common.json {
        true => writeln!(stdout(), "{}", json!({"job": id.to_string()}))?,
        false => writeln!(stdout(), "{id}")?,
    }
    Ok(Exit::Success)
}

/// Returns the request of the next line, for which it waits until Ctrl-C.
fn request(submit: &Submit, kind: Kind, input: &mut Input, shutdown: &Shutdown) -> Option<Result<Bytes, Error>> {
    let failed = |number: u64, why: String| {
        Error::Request(Failure::new(code::INVALID, format!("line {number}: {why}; the job is cancelled")))
    };
    loop {
        if shutdown.requested() {
            return Some(Err(Error::Interrupted));
        }
        match input.next() {
            Ok(Next::Line(line)) => {
                let body = body(&submit.operation, &line, kind);
                return Some(body.map_err(|failure| failed(input.taken(), failure.to_string())));
            }
            Ok(Next::Later) => {
                let descriptors = [input.fd(), shutdown.as_fd()];
                let mut items = descriptors.map(|fd| PollItem::from_fd(fd.as_raw_fd(), zmq::POLLIN));
                if let Err(error) = socket::poll(&mut items, None) {
                    return Some(Err(failed(input.taken(), format!("can't wait for stdin: {error}"))));
                }
            }
            Ok(Next::End) => return None,
            Err(error) => return Some(Err(failed(input.taken(), format!("{error:#}")))),
        }
    }
}
