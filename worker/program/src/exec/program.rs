//! The program behind an operation: how it is started, its limits, and the replies that report its
//! end.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use giostra_protocol::{Failure, code};
use giostra_worker::Job;
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::child::Child;
use super::guard::Guard;
use super::msgpack::invalid;
use super::tail::Tail;
use super::template::{BadCommand, Template};

/// The pauses before a program that could not be started is tried again, if that may help.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// The limits of a program.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest time that a request may take.
    pub time: Option<Duration>,
    /// The same for the first request of a process that stays, if that is longer: it has to load
    /// before.
    pub start: Duration,
    /// The most bytes that it may print for a request.
    pub output: usize,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// A program, and what its processes have in common.
#[derive(Debug)]
pub struct Program {
    /// The command.
    pub template: Template,
    /// Its limits.
    pub limits: Limits,
    /// The variables that are set in its environment.
    pub environment: Vec<(&'static str, String)>,
    /// The variables that are removed from its environment: the worker's own settings, which would
    /// mislead a `giostra` that the program runs.
    pub hidden: Vec<OsString>,
    /// Whether its stderr is the worker's. If not, error replies quote the end of it.
    pub keeps_stderr: bool,
    /// The guard that ends its processes when the worker is killed.
    pub guard: Arc<Guard>,
    /// Set when the worker ends.
    pub closing: AtomicBool,
}

/// Why a program was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This time limit has passed.
    Late(TimeLimit),
    /// It has printed too much.
    TooMuch,
    /// Its result is no longer wanted.
    Unwanted,
}

/// A time limit, and the flag that sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(Duration, &'static str);

impl Limits {
    /// Returns the time limit of a request, if there is one.
    pub fn of_request(&self) -> Option<TimeLimit> {
        self.time.map(|time| TimeLimit(time, "--time-limit"))
    }

    /// Returns the time limit of the first request of a process that stays.
    pub fn of_first_request(&self) -> Option<TimeLimit> {
        self.of_request().map(|limit| if self.start > limit.0 { TimeLimit(self.start, "--start-limit") } else { limit })
    }
}

/// A request that a program computes.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The request.
    pub job: &'a Job<'a>,
    /// When the program began with it.
    pub began: Instant,
    /// Its time limit.
    pub limit: Option<TimeLimit>,
}

impl Task<'_> {
    /// Returns the time that is left.
    pub fn left(&self) -> Duration {
        self.limit.map_or(Duration::MAX, |limit| limit.0.saturating_sub(self.began.elapsed()))
    }
}

impl Program {
    /// Returns the default name of the operation.
    pub fn name(&self) -> String {
        self.template.name()
    }

    /// Starts it with these words behind its name, for a thread of the worker, from 0.
    ///
    /// # Errors
    /// The reply to the request that it was to compute.
    pub fn start(&self, words: &[OsString], thread: usize, stdin: Stdio) -> Result<Child, Failure> {
        let mut command = Command::new(self.template.program());
        command.arg0(self.template.first()).args(words).stdin(stdin).stdout(Stdio::piped());
        command.stderr(if self.keeps_stderr { Stdio::inherit() } else { Stdio::piped() });
        self.hidden.iter().for_each(|name| _ = command.env_remove(name));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("GIOSTRA_THREAD", thread.to_string());
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            match Child::start(&mut command, &self.guard) {
                Ok(child) => return Ok(child),
                Err(error) => match pauses.next().filter(|_| is_transient(&error)) {
                    Some(&pause) => sleep(pause),
                    None => return Err(self.not_started(&error)),
                },
            }
        }
    }

    /// Checks that its file is there and may be executed, and the interpreter if it is a script.
    ///
    /// # Errors
    /// The reason why it can't be started.
    pub fn is_there(&self) -> Result<(), String> {
        self.template.check().map_err(|bad| self.unusable(&bad))
    }

    /// Returns the reason to end a process now, whatever it has printed.
    pub fn stop(&self, task: &Task<'_>) -> Option<Stop> {
        if self.closing.load(Ordering::Acquire) || task.job.is_cancelled() {
            Some(Stop::Unwanted)
        } else {
            task.limit.filter(|limit| task.began.elapsed() >= limit.0).map(Stop::Late)
        }
    }

    /// Returns the reply to a request whose process was ended.
    pub fn stopped(&self, stop: Stop, stderr_tail: &Tail) -> Failure {
        let name = self.name();
        match stop {
            Stop::Late(TimeLimit(limit, flag)) => {
                format!("{name} took longer than {limit:?} ({flag}) and was ended{stderr_tail}").into()
            }
            Stop::TooMuch => {
                let most = ByteSize(self.limits.output as u64);
                format!("{name} printed more than {most} (--max-output) and was ended{stderr_tail}").into()
            }
            Stop::Unwanted => Failure::new(code::CANCELLED, "nobody waits for it any more"),
        }
    }

    /// Returns the reply to a request whose process ended too early or reported a failure.
    pub fn ended(&self, status: Option<ExitStatus>, stderr_tail: &Tail) -> Failure {
        // `env` in the first line of a script exits so if there is no such interpreter.
        let not_found = status.and_then(|status| status.code()).is_some_and(|code| code == 126 || code == 127);
        if not_found && let Err(why) = self.is_there() {
            return Failure::new(code::UNABLE, why);
        }
        format!("{} {}{stderr_tail}", self.name(), how(status)).into()
    }

    fn not_started(&self, error: &io::Error) -> Failure {
        let name = self.name();
        match error.kind() {
            ErrorKind::ArgumentListTooLong => {
                invalid(format!("the arguments are too long for {name}; bytes go to stdin"))
            }
            ErrorKind::InvalidInput => invalid("an argument with a zero byte can't be a word of a command"),
            // The request is not to blame.
            _ => Failure::new(code::UNABLE, self.cannot_start(error)),
        }
    }

    fn cannot_start(&self, error: &io::Error) -> String {
        // The system reports "No such file" for a script, too, whose interpreter is missing.
        match self.template.check() {
            Err(bad) => self.unusable(&bad),
            Ok(()) => format!("can't start {}: {error}", self.template.program().display()),
        }
    }

    fn unusable(&self, bad: &BadCommand) -> String {
        let path = self.template.program().display();
        match bad {
            BadCommand::NotExecutable(_, error) => format!("can't start {path}: {error}"),
            bad => format!("can't start {path}: {bad}"),
        }
    }
}

/// Whether the program may start in a moment: processes, memory or descriptors are short, or its
/// file is being written.
fn is_transient(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ETXTBSY))
}

/// Returns how a process ended, as a part of a sentence.
fn how(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "ended, nobody knows how: the worker ignores SIGCHLD".into() };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_program_ended_is_told_in_words() {
        assert_eq!(how(Some(ExitStatus::from_raw(3 << 8))), "exited with status 3");
        assert_eq!(how(Some(ExitStatus::from_raw(11))), "was ended by SIGSEGV");
        assert_eq!(how(Some(ExitStatus::from_raw(40))), "was ended by signal 40");
    }
}
