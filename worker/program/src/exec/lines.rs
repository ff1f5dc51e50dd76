//! A long-lived process for each thread: a line in, a line out.
//!
//! Without [`LineFormat::JsonId`] only the order tells whose an answer is. So a process that has
//! printed anything unasked is not asked again: it is ended, and another one answers the next
//! request. The same holds of one whose answer has another id, or can't be read. For the same
//! reason no character that any common reader takes for a line's end reaches a process.

use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Failure, code};
use giostra_worker::Job;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::body::{self, Argument, invalid};
use super::child::{Child, TICK, from_now};
use super::process::{json, wrong};
use super::program::{Program, Stop, Task};
use super::tail::Tail;

/// The first and the longest pause before a program is started again that has ended without an
/// answer.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// When they are arguments with spaces between them, and a text.
    Plain,
    /// When they are JSON: a list of arguments, and a result.
    Json,
    /// When they are JSON objects with an id, which an answer has to repeat.
    JsonId,
}

/// The processes, one a thread.
#[derive(Debug)]
pub struct Lines {
    format: LineFormat,
    seats: Vec<Mutex<Seat>>,
}

/// Where a thread's process sits.
#[derive(Debug, Default)]
struct Seat {
    child: Option<Child>,
    /// Whether the process has answered anything yet.
    answered: bool,
    /// How many have ended without an answer, one after the other.
    vain: u32,
    /// The id of the last request, from 1. Goes on when the process is started again, so that no id
    /// comes twice.
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

/// A result that is there, if only `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Why there is no answer.
enum Trouble {
    Stop(Stop),
    /// When it has exited, or has closed its stdout.
    Over,
    /// When more than a line came.
    More,
}

impl Lines {
    /// Starts none before it is needed.
    pub fn new(threads: usize, format: LineFormat) -> Self {
        Self { format, seats: (0..threads).map(|_| Mutex::default()).collect() }
    }

    /// Computes a request by asking this thread's process.
    pub fn compute(&self, program: &Program, encoded: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
        let mut seat = lock(&self.seats[job.thread()]);
        seat.id += 1;
        let line = match self.format {
            LineFormat::Plain => line(encoded)?,
            LineFormat::Json => json_line(encoded)?,
            LineFormat::JsonId => id_line(seat.id, encoded)?,
        };
        let printed = loop {
            seat.prepare(program, job)?;
            // At most once: a process that has just been started is no such one.
            if let Some(printed) = seat.ask(program, &line, job)? {
                break printed;
            }
        };
        let (answer, trusted) = match self.format {
            LineFormat::Plain => (Ok(body::result(&printed)), true),
            LineFormat::Json => {
                let result = json(program, &printed);
                let trusted = result.is_ok() || is_json(&printed);
                (result, trusted)
            }
            LineFormat::JsonId => id_answer(program, seat.id, &printed),
        };
        if !trusted && let Some(mut child) = seat.child.take() {
            log::warn!("{} did not answer its request; starting it again{}", program.name(), child.complaints);
            child.end(program.limits.grace);
        }
        answer
    }

    /// Ends the processes that nobody asks at the moment: at the end of their stdin or, later, at a
    /// signal.
    pub fn close(&self, grace: Duration) {
        let seats = self.seats.iter().filter_map(|seat| seat.try_lock().ok());
        let mut all: Vec<_> = seats.filter_map(|mut seat| seat.child.take()).collect();
        all.iter_mut().for_each(Child::hang_up);
        let end = from_now(grace);
        all.retain_mut(|child| !child.exits_until(end));
        all.iter().for_each(Child::terminate);
        let end = from_now(grace);
        all.retain_mut(|child| !child.exits_until(end));
    }
}

impl Seat {
    /// Has a process there that waits for a line.
    fn prepare(&mut self, program: &Program, job: &Job<'_>) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take_if(|child| !is_waiting(child)) {
            let what = if child.printed.is_empty() { "has ended" } else { "printed something that nobody asked for" };
            log::warn!("{} {what}; starting it again{}", program.name(), child.complaints);
            child.end(program.limits.grace);
        }
        if self.child.is_none() {
            self.rest(program, job)?;
            self.child = Some(program.start(&program.template.fill(&[])?, job.thread(), Stdio::piped())?);
            self.answered = false;
        }
        Ok(())
    }

    /// Waits before a program is started again that does nothing but end.
    fn rest(&self, program: &Program, job: &Job<'_>) -> Result<(), Failure> {
        let Some(doublings) = self.vain.checked_sub(1) else { return Ok(()) };
        let pause = (PAUSES[0] * 2u32.pow(doublings.min(10))).min(PAUSES[1]);
        let began = Instant::now();
        let task = Task { job, began, limit: None };
        while began.elapsed() < pause {
            if let Some(Stop::Unwanted) = program.stop(&task) {
                return Err(program.stopped(Stop::Unwanted, &Tail::default()));
            }
            sleep(TICK.min(pause.saturating_sub(began.elapsed())));
        }
        Ok(())
    }

    /// Has the process answer. `None` if it has answered others, and ended without taking anything
    /// of this line: another process can be asked.
    fn ask(&mut self, program: &Program, line: &Bytes, job: &Job<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let child = self.child.as_mut().expect("it was prepared");
        child.complaints.clear();
        child.feed(line.clone(), false);
        let limits = program.limits;
        let limit = if self.answered { limits.of_request() } else { limits.of_first_request() };
        let task = Task { job, began: Instant::now(), limit };
        match answer(program, child, &task) {
            Ok(line) => {
                (self.answered, self.vain) = (true, 0);
                Ok(Some(line))
            }
            Err(trouble) => {
                let mut failure = give_up(program, child, &trouble);
                let untaken = matches!(trouble, Trouble::Over) && self.answered && !child.has_taken();
                self.child = None;
                if untaken {
                    log::debug!("{failure}: it has not taken the request, which the next one is asked");
                    return Ok(None);
                }
                let vain = matches!(trouble, Trouble::Over) && !self.answered;
                self.vain = if vain { self.vain.saturating_add(1) } else { 0 };
                if self.vain > 1 {
                    failure.message.push_str(&format!(" ({} in a row)", self.vain));
                }
                Err(failure)
            }
        }
    }
}

/// Whether it is there, and silent.
fn is_waiting(child: &mut Child) -> bool {
    child.turn(0, Duration::ZERO);
    child.printed.is_empty() && !child.has_closed_stdout() && !child.has_exited()
}

/// The next line that it prints, without its end.
fn answer(program: &Program, child: &mut Child, task: &Task<'_>) -> Result<Vec<u8>, Trouble> {
    let most = program.limits.output;
    let mut searched = 0;
    loop {
        // What it printed before it exited is there by then.
        let over = child.has_exited();
        child.turn(most, task.left());
        if child.printed.len() > most {
            return Err(Trouble::Stop(Stop::TooMuch));
        }
        if let Some(end) = child.printed[searched..].iter().position(|&byte| byte == b'\n') {
            let mut line = std::mem::take(&mut child.printed);
            let end = searched + end;
            if end + 1 < line.len() {
                return Err(Trouble::More);
            }
            line.truncate(end);
            return Ok(line);
        }
        searched = child.printed.len();
        if over || child.has_closed_stdout() {
            return Err(Trouble::Over);
        }
        if let Some(stop) = program.stop(task) {
            return Err(Trouble::Stop(stop));
        }
    }
}

/// Ends it, and says why.
fn give_up(program: &Program, child: &mut Child, trouble: &Trouble) -> Failure {
    let grace = program.limits.grace;
    match trouble {
        Trouble::Over => {
            // It may be about to exit, and how it does is worth knowing.
            if child.exits_until(from_now(grace)) {
                let status = child.reap();
                let mut failure = program.ended(status, &child.complaints);
                if failure.code != code::UNABLE {
                    failure.message.insert_str(0, "there is no answer: ");
                }
                return failure;
            }
            child.end(grace);
            format!("{} closed its stdout without an answer and was ended{}", program.name(), child.complaints).into()
        }
        Trouble::More => {
            child.end(grace);
            format!("{} printed more than a line; nobody knows which is the answer", program.name()).into()
        }
        Trouble::Stop(stop) => {
            child.end(grace);
            program.stopped(*stop, &child.complaints)
        }
    }
}

/// The arguments with a space between them.
fn line(encoded: &Bytes) -> Result<Bytes, Failure> {
    let mut line = Vec::new();
    for (i, Argument::Word(word) | Argument::Bytes(word)) in body::arguments(encoded)?.iter().enumerate() {
        if let Some(end) = body::line_end(word) {
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
    line.push(b'\n');
    Ok(line.into())
}

fn json_line(encoded: &Bytes) -> Result<Bytes, Failure> {
    let mut line = body::json(encoded)?;
    line.push(b'\n');
    Ok(line.into())
}

/// A request with its id.
fn id_line(id: u64, encoded: &Bytes) -> Result<Bytes, Failure> {
    let mut line = format!(r#"{{"id":{id},"arguments":"#).into_bytes();
    line.append(&mut body::json(encoded)?);
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

/// What an answer with an id says, and whether it is this request's.
fn id_answer(program: &Program, id: u64, printed: &[u8]) -> (Result<Bytes, Failure>, bool) {
    let name = program.name();
    match serde_json::from_slice(printed) {
        Ok(Answer { id: other, .. }) if other != id => {
            let message = format!("{name} answered request {other} instead of {id}, and was ended");
            (Err(message.into()), false)
        }
        Ok(Answer { result: Some(result), error: None, .. }) => (json(program, result.get().as_bytes()), true),
        Ok(Answer { result: None, error: Some(error), .. }) => {
            let mut said = Tail::default();
            said.push(error.as_bytes());
            (Err(format!("{name} says{said}").into()), true)
        }
        Ok(_) => (Err(wrong(program, &"no answer: it has to have either a result or an error", printed)), true),
        Err(error) => (Err(wrong(program, &format_args!("no answer with an id: {error}"), printed)), false),
    }
}

fn is_json(printed: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(printed).is_ok()
}

fn lock(seat: &Mutex<Seat>) -> MutexGuard<'_, Seat> {
    seat.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line() {
        let encoded = |arguments: &[&str]| Bytes::from(rmp_serde::to_vec(arguments).unwrap());
        assert_eq!(line(&encoded(&["a b", "c"])).unwrap(), "a b c\n");
        assert_eq!(line(&encoded(&[])).unwrap(), "\n");
        assert!(line(&encoded(&["a\nb"])).unwrap_err().message.contains("newline"));
        assert_eq!(json_line(&encoded(&["a\nb"])).unwrap(), "[\"a\\nb\"]\n");
        assert_eq!(id_line(7, &encoded(&["a"])).unwrap(), "{\"id\":7,\"arguments\":[\"a\"]}\n");
    }

    #[test]
    fn whatever_a_reader_takes_for_the_end_of_a_line_is_refused_before_it_reaches_the_program() {
        for end in body::LINE_ENDS {
            let encoded = Bytes::from(rmp_serde::to_vec(&["note", &format!("a{end}b")]).unwrap());
            let refused = line(&encoded).unwrap_err();
            assert!(refused.message.contains("can't be sent as a line"), "{end:?}: {refused}");
            let json = json_line(&encoded).unwrap();
            let text = std::str::from_utf8(&json).unwrap().strip_suffix('\n').unwrap();
            assert!(!text.contains(body::LINE_ENDS), "{text:?}");
        }
    }
}
