//! The options of the command line that make any program a worker.

use std::ffi::OsString;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::{Args, CommandFactory as _, ValueEnum};
use giostra_common::args::{duration, positive_duration, switch};
use giostra_common::service;
use giostra_protocol::name;
use giostra_worker::Options;

use super::guard::Guard;
use super::{Exec, Format, Limits, LineFormat, Lines, Mode, Program, Template, reaper};
use crate::args::Args as WorkerArgs;

/// Any program as a worker.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Any program as a worker")]
pub struct ExecArgs {
    /// Run COMMAND for each request: its arguments are the last words, or replace {}, {1}, {2}; bytes
    /// go to stdin; the result is stdout
    #[arg(long, env = "GIOSTRA_EXEC", group = "program", value_name = "COMMAND")]
    exec: Option<String>,

    /// Run COMMAND once for each thread: each request is a line on its stdin, each result a line on
    /// its stdout
    #[arg(long, env = "GIOSTRA_EXEC_LINES", group = "program", value_name = "COMMAND")]
    exec_lines: Option<String>,

    /// The operation's name [default: the program's file name]
    #[arg(long, env = "GIOSTRA_EXEC_OPERATION", requires = "program", value_parser = name::parse, value_name = "NAME")]
    operation: Option<String>,

    /// Pass the arguments as a JSON list on stdin, read the result as JSON from stdout
    #[arg(long, env = "GIOSTRA_EXEC_JSON", requires = "program", value_parser = switch)]
    json: bool,

    /// Exchange JSON objects, line by line, with an id that the answer repeats: {"id": 1,
    /// "arguments": []}, {"id": 1, "result": 2}
    #[arg(long, env = "GIOSTRA_EXEC_JSON_ID", requires = "exec_lines", value_parser = switch)]
    json_id: bool,

    /// Pass the last argument on stdin, whatever its type
    #[arg(long, env = "GIOSTRA_EXEC_STDIN", requires = "exec", conflicts_with = "json", value_parser = switch)]
    stdin: bool,

    /// Time limit of a request [default: none]
    #[arg(long, env = "GIOSTRA_EXEC_TIME_LIMIT", requires = "program", value_parser = positive_duration, value_name = "DURATION")]
    time_limit: Option<Duration>,

    /// Time limit of the first request of each process that stays, if longer: it has to load
    #[arg(long, env = "GIOSTRA_EXEC_START_LIMIT", requires = "exec_lines", default_value = "1m", value_parser = positive_duration, value_name = "DURATION")]
    start_limit: Duration,

    /// Time between SIGTERM and SIGKILL
    #[arg(long, env = "GIOSTRA_EXEC_KILL_AFTER", requires = "program", default_value = "2s", value_parser = duration, value_name = "DURATION")]
    kill_after: Duration,

    /// Most bytes that it may print for a request
    #[arg(long, env = "GIOSTRA_EXEC_MAX_OUTPUT", requires = "program", default_value = "60MiB", value_parser = output, value_name = "BYTES")]
    max_output: ByteSize,

    /// Where its stderr goes: its end into error replies, or all of it to the worker's stderr
    #[arg(
        long,
        env = "GIOSTRA_EXEC_STDERR",
        requires = "program",
        default_value = "reply",
        hide_possible_values = true,
        value_name = "reply|worker"
    )]
    stderr: StderrTarget,
}

/// Where a program's stderr goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StderrTarget {
    /// Error replies quote its end.
    Reply,
    /// It is the worker's own.
    Worker,
}

/// The largest value of `--max-output`: a message has to hold the output.
const MAX_OUTPUT: ByteSize = ByteSize::mib(63);

impl ExecArgs {
    /// Checks the command, without starting anything.
    ///
    /// # Errors
    /// If it can't be run, or can't be an operation.
    pub fn check(&self) -> anyhow::Result<()> {
        self.command().map(drop)
    }

    /// Returns the service, if these options ask for one.
    ///
    /// # Errors
    /// As [`Self::check`], and if the guard can't be started.
    pub fn service(&self, options: &Options) -> anyhow::Result<Option<Exec>> {
        let Some((template, operation)) = self.command()? else { return Ok(None) };
        let program = self.program(template, &operation, options)?;
        let lines = |format| Mode::Lines(Lines::new(options.threads, format));
        let mode = match (&self.exec, self.json) {
            (None, _) if self.json_id => lines(LineFormat::JsonId),
            (None, true) => lines(LineFormat::Json),
            (None, false) => lines(LineFormat::Plain),
            (Some(_), true) => Mode::Process(Format::Json),
            (Some(_), false) => Mode::Process(Format::Plain { stdin: self.stdin }),
        };
        Ok(Some(Exec::new(operation, program, mode)))
    }

    /// Returns the command and the name of its operation, if there is one.
    fn command(&self) -> anyhow::Result<Option<(Template, String)>> {
        let (flag, command) = match (&self.exec, &self.exec_lines) {
            (Some(command), _) => ("--exec", command),
            (None, Some(command)) => ("--exec-lines", command),
            (None, None) => return Ok(None),
        };
        let plain = self.json || self.exec.is_none();
        let template = if plain { Template::parse_plain(command) } else { Template::parse(command) }.context(flag)?;
        let operation = self.operation.clone().unwrap_or_else(|| template.name());
        name::check(&operation).with_context(|| format!("'{operation}' can't be an operation: give --operation"))?;
        Ok(Some((template, operation)))
    }

    fn program(&self, template: Template, operation: &str, options: &Options) -> anyhow::Result<Program> {
        let output = usize::try_from(self.max_output.as_u64())?;
        let environment = vec![("GIOSTRA_OPERATION", operation.into()), ("GIOSTRA_WORKER", options.name.clone())];
        let guard = Guard::start(self.kill_after).context("can't start the guard")?;
        reaper::start(&guard).context("can't start the thread that waits for orphans")?;
        Ok(Program {
            template,
            limits: Limits { time: self.time_limit, start: self.start_limit, output, grace: self.kill_after },
            environment,
            hidden: own_variables(),
            keeps_stderr: self.stderr == StderrTarget::Worker,
            guard,
            closing: AtomicBool::new(false),
        })
    }
}

/// Returns the environment variables of this worker's own flags, except for the broker's public key,
/// which clients use, too; and those by which it talks to its service manager.
fn own_variables() -> Vec<OsString> {
    let command = ExecArgs::augment_args(WorkerArgs::command());
    let variables = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = variables.filter(|&name| name != "GIOSTRA_BROKER_KEY").map(OsString::from);
    own.chain(service::VARIABLES.map(OsString::from)).collect()
}

fn output(text: &str) -> Result<ByteSize, String> {
    match text.parse()? {
        size if size <= MAX_OUTPUT => Ok(size),
        _ => Err(format!("no message can hold more than {MAX_OUTPUT}")),
    }
}
