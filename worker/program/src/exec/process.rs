//! A process for each request: its words or its stdin in, its stdout out.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::Stdio;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Failure};
use giostra_worker::Job;

use super::body::{self, Argument, invalid};
use super::child::Child;
use super::program::{Program, Stop, Task};

/// How long a process that has exited is waited for by others that hold its pipes, before they are
/// killed: what comes through a pipeline or `tee` may still be on its way.
const BRIEFLY: Duration = Duration::from_secs(1);

/// How much of what is no JSON is quoted.
const QUOTED: usize = 200;

/// What arguments and output look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// When they are texts and bytes.
    Plain {
        /// Whether the last argument goes to stdin, whatever it is. Bytes do so anyway.
        stdin: bool,
    },
    /// When they are JSON, a list of arguments on stdin.
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
        return Err(program.stopped(stop, &child.complaints));
    }
    let status = child.reap();
    if !status.is_some_and(|status| status.success()) {
        return Err(program.ended(status, &child.complaints));
    }
    match format {
        Format::Plain { .. } => Ok(body::result(body::without_newline(&child.printed))),
        Format::Json => json(program, &child.printed),
    }
}

/// What JSON was printed; for one line or all of an output.
pub fn json(program: &Program, printed: &[u8]) -> Result<Bytes, Failure> {
    body::json_result(printed).map_err(|error| wrong(program, &error, printed))
}

/// The reply to a request whose answer can't be read.
pub fn wrong(program: &Program, why: &impl Display, printed: &[u8]) -> Failure {
    let quoted = String::from_utf8_lossy(&printed[..printed.len().min(QUOTED)]).trim().to_string();
    format!("what {} printed is {why}: {quoted:?}", program.name()).into()
}

/// The program's words and its stdin.
fn prepare(program: &Program, format: Format, encoded: &Bytes) -> Result<(Vec<OsString>, Option<Bytes>), Failure> {
    let Format::Plain { stdin } = format else {
        return Ok((program.template.fill(&[])?, Some(body::json(encoded)?.into())));
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

/// Feeds it and reads what it prints until it has exited; why it is to be ended before, if it is.
fn follow(program: &Program, child: &mut Child, task: &Task<'_>) -> Result<(), Stop> {
    let most = program.limits.output;
    let mut exited: Option<Instant> = None;
    loop {
        let left = exited.map_or(task.left(), |exited| BRIEFLY.saturating_sub(exited.elapsed()));
        child.turn(most, left);
        if child.printed.len() > most {
            return Err(Stop::TooMuch);
        }
        if exited.is_none() && child.has_exited() {
            exited = Some(Instant::now());
        }
        if exited.is_some_and(|exited| child.is_silent() || exited.elapsed() >= BRIEFLY) {
            return Ok(());
        }
        if let Some(stop) = program.stop(task) {
            return Err(stop);
        }
    }
}
