//! A long-lived process for each thread: a line in, a line out.
//!
//! Without [`LineFormat::JsonId`] only the order tells which request an answer belongs to. So a
//! process that has printed anything unasked is ended, and another one answers the next request. The
//! same happens to a process whose answer has another id or can't be read. For the same reason, no
//! character that any common reader takes for a line's end reaches a process.

use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Failure, code};
use giostra_worker::Job;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::body::{self, Argument};
use super::child::{Child, TICK, from_now};
use super::json;
use super::msgpack::invalid;
use super::process::{json_result, wrong};
use super::program::{Program, Stop, Task};
use super::tail::Tail;

/// The first and the longest pause before a program that has ended without an answer is started
/// again.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// The format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// Arguments with spaces between them in, a text out.
    Plain,
    /// A JSON list of arguments in, a JSON value out.
    Json,
    /// JSON objects with an id, which an answer has to repeat.
    JsonId,
}

/// The processes, one for each thread.
#[derive(Debug)]
pub struct Lines {
    format: LineFormat,
    processes: Vec<Mutex<Coprocess>>,
}

/// The process of a thread, and its history.
#[derive(Debug, Default)]
struct Coprocess {
    child: Option<Child>,
    /// Whether the process has answered anything yet.
    answered: bool,
    /// The number of processes in a row that have ended without any answer.
    failed_starts: u32,
    /// The id of the last request, from 1. It continues with the next process, so that no id comes
    /// twice.
    id: u64,
}

/// An answer with an id.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    id: u64,
    #[serde(default, borrow, deserialize_with = "given")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<String>,
}

/// Reads a member that is present, as `Some` even if it is `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Why there is no answer.
enum NoAnswer {
    /// The process has to be ended.
    Stop(Stop),
    /// The process has exited or closed its stdout.
    Closed,
    /// It printed more than one line.
    TooManyLines,
}

impl Lines {
    /// Creates places for the processes, each of which is started when it is needed.
    pub fn new(threads: usize, format: LineFormat) -> Self {
        Self { format, processes: (0..threads).map(|_| Mutex::default()).collect() }
    }

    /// Computes a request by asking this thread's process.
    pub fn compute(&self, program: &Program, encoded: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
        let mut process = lock(&self.processes[job.thread()]);
        process.id += 1;
        let line = line(self.format, process.id, encoded)?;
        let printed = loop {
            process.prepare(program, job)?;
            // Repeats at most once: only a process that has answered before returns `None`.
            if let Some(printed) = process.ask(program, &line, job)? {
                break printed;
            }
        };
        let (answer, trusted) = match self.format {
            LineFormat::Plain => (Ok(body::result(&printed)), true),
            LineFormat::Json => {
                let result = json_result(program, &printed);
                let trusted = result.is_ok() || is_json(&printed);
                (result, trusted)
            }
            LineFormat::JsonId => id_answer(program, process.id, &printed),
        };
        if !trusted && let Some(mut child) = process.child.take() {
            log::warn!("{} did not answer its request; starting it again{}", program.name(), child.stderr_tail);
            child.end(program.limits.grace);
        }
        answer
    }

    /// Ends the processes that are not being asked: closes their stdin and, after the grace, sends
    /// SIGTERM.
    pub fn close(&self, grace: Duration) {
        let idle = self.processes.iter().filter_map(|process| process.try_lock().ok());
        let mut all: Vec<_> = idle.filter_map(|mut process| process.child.take()).collect();
        all.iter_mut().for_each(Child::close_stdin);
        let end = from_now(grace);
        all.retain_mut(|child| !child.exits_until(end));
        all.iter().for_each(Child::terminate);
        let end = from_now(grace);
        all.retain_mut(|child| !child.exits_until(end));
    }
}

impl Coprocess {
    /// Makes sure that there is a process that waits for a line.
    fn prepare(&mut self, program: &Program, job: &Job<'_>) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take_if(|child| !is_waiting(child)) {
            let what = if child.printed.is_empty() { "has ended" } else { "printed something that nobody asked for" };
            log::warn!("{} {what}; starting it again{}", program.name(), child.stderr_tail);
            child.end(program.limits.grace);
        }
        if self.child.is_none() {
            self.back_off(program, job)?;
            self.child = Some(program.start(&program.template.fill(&[])?, job.thread(), Stdio::piped())?);
            self.answered = false;
        }
        Ok(())
    }

    /// Waits before the start of a program that has ended without any answer.
    fn back_off(&self, program: &Program, job: &Job<'_>) -> Result<(), Failure> {
        let Some(doublings) = self.failed_starts.checked_sub(1) else { return Ok(()) };
        let pause = (PAUSES[0] * 2u32.pow(doublings.min(10))).min(PAUSES[1]);
        let began = Instant::now();
        let task = Task { job, began, limit: None };
        while began.elapsed() < pause {
            if program.stop(&task).is_some() {
                return Err(program.stopped(Stop::Unwanted, &Tail::default()));
            }
            sleep(TICK.min(pause.saturating_sub(began.elapsed())));
        }
        Ok(())
    }

    /// Asks the process. Returns `None` if it has answered other requests, and has ended without
    /// reading any of this line: another process can be asked.
    fn ask(&mut self, program: &Program, line: &Bytes, job: &Job<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let child = self.child.as_mut().expect("it was prepared");
        child.stderr_tail.clear();
        child.feed(line.clone(), false);
        let limits = program.limits;
        let limit = if self.answered { limits.of_request() } else { limits.of_first_request() };
        let task = Task { job, began: Instant::now(), limit };
        match answer(program, child, &task) {
            Ok(line) => {
                (self.answered, self.failed_starts) = (true, 0);
                Ok(Some(line))
            }
            Err(no_answer) => {
                let mut failure = end(program, child, &no_answer);
                let unread = matches!(no_answer, NoAnswer::Closed) && self.answered && !child.has_read_input();
                self.child = None;
                if unread {
                    log::debug!("{failure}: it did not read the request, which another process is asked");
                    return Ok(None);
                }
                let has_failed = matches!(no_answer, NoAnswer::Closed) && !self.answered;
                self.failed_starts = if has_failed { self.failed_starts.saturating_add(1) } else { 0 };
                if self.failed_starts > 1 {
                    failure.message.push_str(&format!(" ({} in a row)", self.failed_starts));
                }
                Err(failure)
            }
        }
    }
}

/// Whether the process runs and has printed nothing.
fn is_waiting(child: &mut Child) -> bool {
    child.turn(0, Duration::ZERO);
    child.printed.is_empty() && !child.has_closed_stdout() && !child.has_exited()
}

/// Returns the next line that the process prints, without its end.
fn answer(program: &Program, child: &mut Child, task: &Task<'_>) -> Result<Vec<u8>, NoAnswer> {
    let max_output = program.limits.output;
    let mut searched = 0;
    loop {
        // All that it printed before it exited is read below.
        let exited = child.has_exited();
        child.turn(max_output, task.left());
        if child.printed.len() > max_output {
            return Err(NoAnswer::Stop(Stop::TooMuch));
        }
        if let Some(end) = child.printed[searched..].iter().position(|&byte| byte == b'\n') {
            let mut line = std::mem::take(&mut child.printed);
            let end = searched + end;
            if end + 1 < line.len() {
                return Err(NoAnswer::TooManyLines);
            }
            line.truncate(end);
            return Ok(line);
        }
        searched = child.printed.len();
        if exited || child.has_closed_stdout() {
            return Err(NoAnswer::Closed);
        }
        if let Some(stop) = program.stop(task) {
            return Err(NoAnswer::Stop(stop));
        }
    }
}

/// Ends a process that has given no answer. Returns the reply to its request.
fn end(program: &Program, child: &mut Child, no_answer: &NoAnswer) -> Failure {
    let grace = program.limits.grace;
    match no_answer {
        NoAnswer::Closed => {
            // It may be about to exit, and its status belongs in the reply.
            if child.exits_until(from_now(grace)) {
                let status = child.reap();
                let mut failure = program.ended(status, &child.stderr_tail);
                if failure.code != code::UNABLE {
                    failure.message.insert_str(0, "there is no answer: ");
                }
                return failure;
            }
            child.end(grace);
            format!("{} closed its stdout without an answer and was ended{}", program.name(), child.stderr_tail).into()
        }
        NoAnswer::TooManyLines => {
            child.end(grace);
            format!("{} printed more than a line; nobody knows which is the answer", program.name()).into()
        }
        NoAnswer::Stop(stop) => {
            child.end(grace);
            program.stopped(*stop, &child.stderr_tail)
        }
    }
}

/// Returns a request as a line.
fn line(format: LineFormat, id: u64, encoded: &Bytes) -> Result<Bytes, Failure> {
    let mut line = match format {
        LineFormat::Plain => words(encoded)?,
        LineFormat::Json => json::from_arguments(encoded)?,
        LineFormat::JsonId => {
            let arguments = json::from_arguments(encoded)?;
            [format!(r#"{{"id":{id},"arguments":"#).as_bytes(), &arguments, b"}"].concat()
        }
    };
    line.push(b'\n');
    Ok(line.into())
}

/// Returns the arguments with a space between them.
fn words(encoded: &Bytes) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    for (i, Argument::Word(word) | Argument::Bytes(word)) in body::arguments(encoded)?.iter().enumerate() {
        if let Some(end) = json::line_end(word) {
            let what = if end == '\n' { "a newline".into() } else { format!("U+{:04X}", u32::from(end)) };
            return Err(invalid(format!(
                "an argument with {what} in it, which some programs take for the end of a line, can't be sent as a line; a worker \
                 with --json can"
            )));
        }
        if i > 0 {
            line.push(b' ');
        }
        line.extend_from_slice(word);
    }
    Ok(line)
}

/// Reads an answer with an id. Returns the reply, and whether the answer is this request's.
fn id_answer(program: &Program, id: u64, printed: &[u8]) -> (Result<Bytes, Failure>, bool) {
    let name = program.name();
    match serde_json::from_slice(printed) {
        Ok(Answer { id: other, .. }) if other != id => {
            let message = format!("{name} answered request {other} instead of {id}, and was ended");
            (Err(message.into()), false)
        }
        Ok(Answer { result: Some(result), error: None, .. }) => (json_result(program, result.get().as_bytes()), true),
        Ok(Answer { result: None, error: Some(error), .. }) => {
            let mut text = Tail::default();
            text.push(error.as_bytes());
            (Err(format!("{name} says{text}").into()), true)
        }
        Ok(_) => (Err(wrong(program, &"no answer: it has to have either a result or an error", printed)), true),
        Err(error) => (Err(wrong(program, &format_args!("no answer with an id: {error}"), printed)), false),
    }
}

fn is_json(printed: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(printed).is_ok()
}

fn lock(process: &Mutex<Coprocess>) -> MutexGuard<'_, Coprocess> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line() {
        let encoded = |arguments: &[&str]| Bytes::from(rmp_serde::to_vec(arguments).unwrap());
        assert_eq!(line(LineFormat::Plain, 7, &encoded(&["a b", "c"])).unwrap(), "a b c\n");
        assert_eq!(line(LineFormat::Plain, 7, &encoded(&[])).unwrap(), "\n");
        assert!(line(LineFormat::Plain, 7, &encoded(&["a\nb"])).unwrap_err().message.contains("newline"));
        assert_eq!(line(LineFormat::Json, 7, &encoded(&["a\nb"])).unwrap(), "[\"a\\nb\"]\n");
        assert_eq!(line(LineFormat::JsonId, 7, &encoded(&["a"])).unwrap(), "{\"id\":7,\"arguments\":[\"a\"]}\n");
    }

    #[test]
    fn what_any_reader_takes_for_the_end_of_a_line_does_not_reach_the_program() {
        for end in json::LINE_ENDS {
            let encoded = Bytes::from(rmp_serde::to_vec(&["note", &format!("a{end}b")]).unwrap());
            let failure = line(LineFormat::Plain, 7, &encoded).unwrap_err();
            assert!(failure.message.contains("can't be sent as a line"), "{end:?}: {failure}");
            let line = line(LineFormat::Json, 7, &encoded).unwrap();
            let text = std::str::from_utf8(&line).unwrap().strip_suffix('\n').unwrap();
            assert!(!text.contains(json::LINE_ENDS), "{text:?}");
        }
    }
}
