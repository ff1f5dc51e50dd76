//! `giostra submit`: hands a job over to the broker.

use std::fmt::Display;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::time::Duration;

use giostra_client::{Client, Error, JobOptions, Priority};
use giostra_common::args::{positive_duration, switch};
use giostra_protocol::compute::Call;
use giostra_protocol::{Bytes, Failure, code, name};
use giostra_transport::shutdown::Shutdown;
use serde_json::json;

use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::failure::report_error;
use crate::help;
use crate::input::{Input, Next};
use crate::line::{Kind, body};
use crate::operations::Operation;
use crate::printed::stdout;
use crate::send::values;
use crate::written::many;

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
    pub lines: bool,

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

    /// Compute a request that failed again up to this many times, after growing pauses
    #[arg(long, default_value_t = 0, value_name = "N")]
    retries: u32,

    /// For how long the job and its results are kept after its end, such as 12h or 30d, or forever
    #[arg(long, env = "GIOSTRA_KEEP", default_value = "7d", value_parser = keep, value_name = "DURATION|forever")]
    keep: Keep,
}

/// For how long a job is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    For(Duration),
    Forever,
}

/// Parses for how long a job is kept.
fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "forever" => Ok(Keep::Forever),
        _ => positive_duration(text).map(Keep::For).map_err(|error| format!("{error}; or forever")),
    }
}

impl Submit {
    fn options(&self, common: &CommonArgs) -> JobOptions {
        JobOptions {
            key: self.key.clone(),
            name: self.name.clone().unwrap_or_default(),
            retries: self.retries,
            keep: match self.keep {
                Keep::For(duration) => Some(duration),
                Keep::Forever => None,
            },
            ..job_options(common)
        }
    }
}

/// Returns what the options that every command has say of a job.
pub fn job_options(common: &CommonArgs) -> JobOptions {
    JobOptions { priority: common.priority.unwrap_or(Priority::Low), timeout: common.timeout, ..JobOptions::default() }
}

/// Submits the job, and prints its id once all of it is safe.
pub fn run(client: &mut Client, submit: &Submit, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let options = submit.options(common);
    let mut lines = submit.lines.then(|| Lines::open(submit, common, shutdown)).transpose()?;
    let id = match &mut lines {
        Some(lines) => client.try_submit_job(options, std::iter::from_fn(|| lines.request().transpose()))?,
        None => {
            let arguments = values(&submit.arguments, submit.text);
            let call = Call { operation: submit.operation.clone(), arguments };
            client.submit_job(options, [call.to_body()])?
        }
    };
    match common.json {
        true => writeln!(stdout(), "{}", json!({"job": id.to_string()}))?,
        false => writeln!(stdout(), "{id}")?,
    }
    if submit.key.is_some() {
        let count = lines.map_or(Ok(1), Lines::count)?;
        let known = client.job(id).status()?.requests;
        if count != u64::from(known) {
            let known = many(known.into(), "request");
            report_error(format_args!("job {id} under this key has {known}, not {count}: nothing was added"));
        }
    }
    Ok(Exit::Success)
}

/// The lines of stdin, of which each is a request.
struct Lines<'a> {
    input: Input,
    operation: &'a str,
    kind: Kind,
    /// What becomes of the job when a line makes no request.
    consequence: &'static str,
    shutdown: &'a Shutdown,
}

impl<'a> Lines<'a> {
    fn open(submit: &'a Submit, common: &CommonArgs, shutdown: &'a Shutdown) -> anyhow::Result<Self> {
        let kind = Kind::of(common.json, submit.text, submit.line)?;
        let consequence = if submit.key.is_some() { "the job stays open" } else { "the job is cancelled" };
        Ok(Self { input: Input::open()?, operation: &submit.operation, kind, consequence, shutdown })
    }

    /// Returns the request of the next line.
    fn request(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(line) = self.next()? else { return Ok(None) };
        let body = body(self.operation, &line, self.kind);
        body.map(Some).map_err(|why| {
            let why = format_args!("line {}: {}", self.input.taken(), why.message);
            self.failed(code::INVALID, why)
        })
    }

    /// Returns the next line, for which it waits until Ctrl-C.
    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.shutdown.requested() {
                return Err(Error::Interrupted);
            }
            match self.input.next() {
                Ok(Next::Line(line)) => return Ok(Some(line)),
                Ok(Next::Later) => {
                    let waited = self.input.wait(&[self.shutdown.as_fd()]);
                    waited.map_err(|error| self.failed(code::FAILED, format_args!("can't wait for stdin: {error}")))?;
                }
                Ok(Next::End) => return Ok(None),
                Err(error) => return Err(self.failed(code::FAILED, format_args!("{error:#}"))),
            }
        }
    }

    /// Reads to the end, and returns the number of all lines.
    fn count(mut self) -> Result<u64, Error> {
        while self.next()?.is_some() {}
        Ok(self.input.taken())
    }

    fn failed(&self, code: &str, why: impl Display) -> Error {
        Error::Request(Failure::new(code, format!("{why}; {}", self.consequence)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn options(line: &str) -> Option<JobOptions> {
        let Args { command, common } = Args::try_parse_from(line.split(' ')).ok()?;
        match command {
            Some(Command::Submit(submit)) => Some(submit.options(&common)),
            _ => None,
        }
    }

    #[test]
    fn a_job_waits_for_others_and_is_kept_for_a_week_unless_it_is_said_otherwise() {
        assert_eq!(options("giostra submit add 1 2"), Some(JobOptions::default()));
        let all = options("giostra submit add 1 2 --priority high --timeout 10m --retries 3 --keep 30d").unwrap();
        let minutes = Duration::from_secs(600);
        assert_eq!((all.priority, all.timeout, all.retries), (Priority::High, Some(minutes), 3));
        assert_eq!(all.keep, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(options("giostra submit add 1 2 --keep forever").unwrap().keep, None);
        for wrong in ["--keep 0s", "--keep never", "--keep 7", "--retries -1", "--priority urgent", "--timeout 0s"] {
            assert_eq!(options(&format!("giostra submit add 1 2 {wrong}")), None, "{wrong}");
        }
    }
}
