//! The common parts of command lines: parsing, exit statuses, errors, durations and switches.

use std::env::var_os;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::exit;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{ArgMatches, ColorChoice, Command, Error, Parser};
use giostra_transport::shutdown::Shutdown;
use giostra_transport::time::MAX_DURATION;
use humantime::DurationError;

use crate::log::stderr;
use crate::signals;
use crate::stdio::{self, Retrying};

/// The exit status after a wrong command line.
pub const USAGE: u8 = 2;

/// Parses the process's command line. Ends the process after `--help` and `--version`, and if the
/// command line is wrong.
pub fn parse<A: Parser>() -> A {
    parse_with(|command| Ok((command.try_get_matches()?, ()))).0
}

/// As [`parse`], where `matches` parses the command line, and returns more besides.
pub(crate) fn parse_with<A: Parser, T>(matches: impl Fn(Command) -> Result<(ArgMatches, T), Error>) -> (A, T) {
    let wrong = match try_parse(matches) {
        Ok(args) => return args,
        Err(wrong) => wrong,
    };
    let printable = if wrong.use_stderr() { Ok(()) } else { stdio::check_stdout().map_err(io::Error::from) };
    match printable.and_then(|()| wrong.print()) {
        Err(error) if !wrong.use_stderr() => {
            report_unwritten(A::command().get_name(), &error);
            exit(1)
        }
        _ => exit(wrong.exit_code()),
    }
}

/// As [`Parser::try_parse`], but without colours on a dumb terminal even where `CI` is set, which
/// `clap` takes as a sign that escapes are understood.
fn try_parse<A: Parser, T>(matches: impl Fn(Command) -> Result<(ArgMatches, T), Error>) -> Result<(A, T), Error> {
    let mut command = A::command();
    let set = |key| var_os(key).is_some_and(|value| !value.is_empty() && value != "0");
    if var_os("TERM").is_some_and(|term| term == "dumb") && !set("CLICOLOR_FORCE") && !set("CLICOLOR") {
        command = command.color(ColorChoice::Never);
    }
    let (mut matches, more) = match matches(without_empty(command.clone())) {
        // Help lists all variables, empty or not.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => matches(command.clone()),
        result => result,
    }?;
    let args = A::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok((args, more))
}

/// Returns the command without its empty environment variables: an empty one counts as unset.
fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty)
}

/// Reports that stdout can't be written, unless its reader has closed it, as `head` does.
pub fn report_unwritten(program: &str, error: &io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe {
        report_error(program, format_args!("can't write to stdout: {error}"));
    }
}

/// Writes a line to stderr. Unlike `eprintln`, it does not panic if stderr is on a full disk.
pub fn report_error(program: &str, what: impl Display) {
    // Earlier log lines come first.
    stderr::finish();
    let _ = writeln!(Retrying(io::stderr()), "{program}: {what}");
}

/// Writes the last line of a server to stderr. Returns even if stderr is not read.
pub fn report_fatal(program: &str, what: impl Display) {
    stderr::write_last(&format!("{program}: {what}"));
}

/// Parses the environment variable of a switch, for `clap`. An empty one is off.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("a switch is 1, true, yes or on; or 0, false, no, off or empty"),
    }
}

/// Parses durations such as `500ms`, `3s`, `1m 30s` or `7d`, up to ten years, for `clap`.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) => Err("that is over ten years".into()),
        Err(DurationError::NumberOverflow) => Err("that is over ten years".into()),
        Err(error) => Err(format!("{error}; durations are written 500ms, 3s, 2m, 12h, 7d")),
    }
}

/// As [`duration`], but not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than nothing".into()),
        some => Ok(some),
    }
}

/// An option of the programs that `giostra up` starts, for `giostra up` alone.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct EndWith {
    /// Ends the process when its parent, with this process id, does.
    #[arg(long, hide = true, value_name = "PID")]
    end_with: Option<u32>,
}

impl EndWith {
    /// Requests the end when the parent ends, if that was asked for. To be called in the first thread,
    /// before [`signals::outlive`].
    ///
    /// # Errors
    /// If the parent has ended already.
    pub fn apply(self, shutdown: &Shutdown) -> io::Result<()> {
        match self.end_with.map(|parent| signals::end_with_parent(parent, shutdown)).transpose()? {
            Some(false) => Err(io::Error::other("the process that has started this one has ended")),
            Some(true) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_or_off_and_never_a_guess() {
        for (on, texts) in [(true, &["1", "true", "YES", "on"][..]), (false, &["", "0", "False", "no", "off"])] {
            assert!(texts.iter().all(|text| switch(text) == Ok(on)), "{texts:?}");
        }
        assert!(["2", "fasle", " "].into_iter().all(|text| switch(text).is_err()));
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for (text, hours) in [("90m", 1.5), ("12h", 12.0), ("7d", 168.0), ("1d 6h", 30.0), ("52w", 8736.0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(hours * 3600.0)), "{text}");
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(positive_duration("0s").is_err());
        assert!(duration("5").unwrap_err().contains("500ms"));
        assert!(duration("99999999999999999999s").is_err());
        assert!(duration("1000y").is_err());
    }
}
