//! Configuration files: options from a TOML file, whose keys are the names of the flags.
//!
//! The file's values become arguments in front of those of the command line, unless the command line
//! or the environment has them, too. So `clap` treats them as it treats flags: an option may require
//! another one, or exclude it. Before that each value is checked by itself, so that an error can say
//! where in the file it is.

mod file;
mod keys;
mod settings;

use std::env::args_os;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, Parser};

use self::file::Fault;
use self::keys::{Key, is_key};
use crate::args::parse_with;

pub use self::settings::Settings;

/// The options about the file itself, for a program that calls [`parse`].
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Read options from this TOML file, with their names as keys: window = 64. The command line and
    /// the environment take precedence
    #[arg(long, env = "GIOSTRA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the options, --config and the files of keys, print what is not the default and where it
    /// comes from, and exit: 0 if all is well, 2 if not
    #[arg(long)]
    pub config_check: bool,
}

/// The maximum number of faults that one error lists.
const MAX_FAULTS: usize = 20;

/// As [`args::parse`](crate::args::parse), with the options of the file that `--config` or its
/// variable names. Also returns where each comes from. Ends the process if the file is wrong, too.
pub fn parse<A: Parser>() -> (A, Settings) {
    parse_with(|command| matches(&command, &args_os().collect::<Vec<_>>()))
}

/// Parses a command line, the program's name first, together with the file that it names.
fn matches(command: &Command, args: &[OsString]) -> Result<(ArgMatches, Settings), Error> {
    let source = Source::find(command, args);
    let keys = source.as_ref().map(Source::read).transpose()?.unwrap_or_default();
    let matches = parse_together(command, args, &keys).map_err(|error| match &source {
        Some(source) => source.blame(error, args, &keys),
        None => error,
    })?;
    let path = source.map(|source| source.path).unwrap_or_default();
    let settings = Settings::new(command, &matches, &path, &keys);
    Ok((matches, settings))
}

/// Parses a command line with these keys in front.
fn parse_together<'a>(
    command: &Command,
    args: &[OsString],
    keys: impl IntoIterator<Item = &'a Key>,
) -> Result<ArgMatches, Error> {
    let (name, rest) = args.split_at(args.len().min(1));
    let keys = keys.into_iter().flat_map(|key| &key.args);
    command.clone().try_get_matches_from(name.iter().chain(keys).chain(rest))
}

/// A configuration file, and the command line that it is for.
struct Source<'a> {
    command: &'a Command,
    path: PathBuf,
    /// The command line and the environment alone.
    given: ArgMatches,
}

impl<'a> Source<'a> {
    /// Returns the file that a command line or its environment names. None if something is to be
    /// printed instead, such as help. If they are wrong, parsing them again says so.
    fn find(command: &'a Command, args: &[OsString]) -> Option<Self> {
        let given = command.clone().ignore_errors(true).try_get_matches_from(args).ok()?;
        let path = given.try_get_one::<PathBuf>("config").ok()??.clone();
        let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
        let prints = |id: &str| !matches!(id, "config" | "config_check") && is_given(id);
        if command.get_arguments().any(|arg| !arg.is_hide_set() && !is_key(arg) && prints(arg.get_id().as_str())) {
            return None;
        }
        Some(Self { command, path, given })
    }

    /// Reads the file. Returns the keys that count: those that nothing else gives.
    ///
    /// # Errors
    /// If the file can't be read, or any key or value is wrong.
    fn read(&self) -> Result<Vec<Key>, Error> {
        let text = file::read(&self.path).map_err(|fault| self.error(&[fault]))?;
        let entries = file::parse(&text).map_err(|fault| self.error(&[fault]))?;
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for entry in &entries {
            match Key::new(self.command, &text, entry) {
                Ok(key) => keys.push(key),
                Err(fault) => faults.push(fault),
            }
            // What is no configuration file at all could have any number.
            if faults.len() > MAX_FAULTS {
                break;
            }
        }
        if !faults.is_empty() {
            return Err(self.error(&faults));
        }
        keys.retain(|key| self.given.value_source(&key.id).is_none_or(|source| source == ValueSource::DefaultValue));
        Ok(keys)
    }

    fn error(&self, faults: &[Fault]) -> Error {
        let path = self.path.display();
        let mut lines: Vec<_> = faults
            .iter()
            .take(MAX_FAULTS)
            .map(|Fault(place, what)| match place {
                Some(place) => format!("{path}:{place}: {what}"),
                None => format!("{path}: {what}"),
            })
            .collect();
        if faults.len() > MAX_FAULTS {
            lines.push("and more".into());
        }
        if self.given.value_source("config") == Some(ValueSource::EnvVariable) {
            lines.push("(GIOSTRA_CONFIG names this file)".into());
        }
        Error::raw(ErrorKind::ValueValidation, lines.join("\n") + "\n")
    }

    /// Adds to an error about options that need or exclude others which of them are the file's: those
    /// without which it would be another error, or none.
    fn blame(&self, mut error: Error, args: &[OsString], keys: &[Key]) -> Error {
        let cause = |error: &Error| {
            let part = |kind| error.get(kind).cloned();
            (error.kind(), part(ContextKind::InvalidArg), part(ContextKind::PriorArg))
        };
        let is_involved = |one: &&Key| {
            let others = keys.iter().filter(|other| other.id != one.id);
            parse_together(self.command, args, others).err().as_ref().map(cause) != Some(cause(&error))
        };
        let tips = keys
            .iter()
            .filter(is_involved)
            .map(|key| StyledStr::from(format!("{} is in {}:{}", key.flag(), self.path.display(), key.place.line)));
        let tips: Vec<_> = tips.collect();
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
        error
    }
}

#[cfg(test)]
mod tests;
