//! A process for each request: words or stdin in, stdout out.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::Stdio;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Failure};
use giostra_worker::Job;

use super::body::{self, Argument};
use super::child::Child;
use super::json;
use super::msgpack::invalid;
use super::program::{Program, Stop, Task};

/// How long output is read after a process has exited, while others hold its pipes, before these are
/// killed. Output through a pipeline or `tee` may still be on its way.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The most bytes of unreadable output that an error quotes.
const MAX_QUOTE: usize = 200;

/// The format of arguments and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Texts and bytes.
    Plain {
        /// Whether the last argument goes to stdin, whatever its type. Bytes do so anyway.
        stdin: bool,
    },
    /// A JSON list of arguments on stdin, a JSON value on stdout.
    Json,
}

/// Computes a request by running the program once.
pub fn compute(program: &Program, format: Format, encoded: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
    let (words, input) = prepare(program, format, encoded)?;
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = program.start(&words, job.thread(), stdin)?;
    if let Some(input) = input {
        child.feed(input, true);
    }
    let task = Task { job, began: Instant::now(), limit: program.limits.of_request() };
    if let Err(stop) = follow(program, &mut child, &task) {
        child.end(program.limits.grace);
        return Err(program.stopped(stop, &child.stderr_tail));
    }
    let status = child.reap();
    if !status.is_some_and(|status| status.success()) {
        return Err(program.ended(status, &child.stderr_tail));
    }
    match format {
        Format::Plain { .. } => Ok(body::result(body::without_newline(&child.printed))),
        Format::Json => json_result(program, &child.printed),
    }
}

/// Returns the JSON value that was printed, as a result.
pub fn json_result(program: &Program, printed: &[u8]) -> Result<Bytes, Failure> {
    json::to_result(printed).map_err(|error| wrong(program, &error, printed))
}

/// Returns the reply to a request whose answer can't be read.
pub fn wrong(program: &Program, why: &impl Display, printed: &[u8]) -> Failure {
    let quoted = String::from_utf8_lossy(&printed[..printed.len().min(MAX_QUOTE)]).trim().to_string();
    format!("what {} printed is {why}: {quoted:?}", program.name()).into()
}

/// Returns the program's words and its stdin.
fn prepare(program: &Program, format: Format, encoded: &Bytes) -> Result<(Vec<OsString>, Option<Bytes>), Failure> {
    let Format::Plain { stdin } = format else {
        return Ok((program.template.fill(&[])?, Some(json::from_arguments(encoded)?.into())));
    };
    let mut arguments = body::arguments(encoded)?;
    let last = if stdin { arguments.pop() } else { None };
    if stdin && last.is_none() {
        return Err(invalid(format!("{} takes an argument, for its stdin", program.name())));
    }
    let mut input = last.map(|(Argument::Word(bytes) | Argument::Bytes(bytes))| bytes);
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument {
            Argument::Word(word) => words.push(word),
            Argument::Bytes(bytes) if input.is_none() => input = Some(bytes),
            Argument::Bytes(_) => return Err(invalid("bytes go to stdin, and only one argument can")),
        }
    }
    Ok((program.template.fill(&words)?, input))
}

/// Feeds the process and reads its output until it has exited.
///
/// # Errors
/// The reason to end it before that.
fn follow(program: &Program, child: &mut Child, task: &Task<'_>) -> Result<(), Stop> {
    let max_output = program.limits.output;
    let mut exited: Option<Instant> = None;
    loop {
        let left = exited.map_or(task.left(), |exited| DRAIN_TIME.saturating_sub(exited.elapsed()));
        child.turn(max_output, left);
        if child.printed.len() > max_output {
            return Err(Stop::TooMuch);
        }
        if exited.is_none() && child.has_exited() {
            exited = Some(Instant::now());
        }
        if exited.is_some_and(|exited| child.has_closed_output() || exited.elapsed() >= DRAIN_TIME) {
            return Ok(());
        }
        if let Some(stop) = program.stop(task) {
            return Err(stop);
        }
    }
}
