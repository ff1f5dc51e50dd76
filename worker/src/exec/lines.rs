//! A long-lived process for each thread: a line in, a line out.
//!
//! Nothing but their order tells which answer is whose. So a process that has printed anything that nobody asked for is not asked again: it is
//! ended, and another one answers the next request.

use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use giostra_common::Bytes;
use giostra_common::protocol::Failure;

use super::body::{self, Argument, invalid};
use super::child::{Child, TICK};
use super::process::json;
use super::program::{Program, Stop, Task};
use super::tail::Tail;
use crate::Job;

/// The first and the longest pause before a program is started again that has ended without an answer.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// The processes, one a thread.
#[derive(Debug)]
pub struct Lines {
    json: bool,
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
    /// None is started before it is needed. With `json`, requests and answers are JSON.
    pub fn new(threads: usize, json: bool) -> Self {
        Self { json, seats: (0..threads).map(|_| Mutex::default()).collect() }
    }

    /// Computes a request by asking this thread's process.
    pub fn compute(&self, program: &Program, encoded: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
        let line = if self.json { json_line(encoded)? } else { line(encoded)? };
        let mut seat = lock(&self.seats[job.thread()]);
        seat.prepare(program, job)?;
        let answer = seat.ask(program, line, job)?;
        if self.json { json(program, &answer) } else { Ok(body::result(&answer)) }
    }

    /// Ends the processes that nobody asks at the moment: at the end of their stdin or, later, at a signal.
    pub fn close(&self, grace: Duration) {
        let seats = self.seats.iter().filter_map(|seat| seat.try_lock().ok());
        let mut all: Vec<_> = seats.filter_map(|mut seat| seat.child.take()).collect();
        all.iter_mut().for_each(Child::hang_up);
        let end = Instant::now() + grace;
        all.retain_mut(|child| !child.exits_until(end));
        all.iter().for_each(Child::terminate);
        let end = Instant::now() + grace;
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

    /// Has the process answer.
    fn ask(&mut self, program: &Program, line: Bytes, job: &Job<'_>) -> Result<Vec<u8>, Failure> {
        let child = self.child.as_mut().expect("it was prepared");
        child.complaints.clear();
        child.feed(line, false);
        let limits = program.limits;
        let limit = if self.answered { limits.of_request() } else { limits.of_first_request() };
        let task = Task { job, began: Instant::now(), limit };
        match answer(program, child, &task) {
            Ok(line) => {
                (self.answered, self.vain) = (true, 0);
                Ok(line)
            }
            Err(trouble) => {
                let mut failure = give_up(program, child, &trouble);
                self.child = None;
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
            if child.exits_until(Instant::now() + grace) {
                let status = child.reap();
                let mut failure = program.ended(status, &child.complaints);
                failure.message.insert_str(0, "there is no answer: ");
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
        if word.contains(&b'\n') {
            return Err(invalid("an argument with a newline in it can't be sent as a line; --json can"));
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
    }
}
