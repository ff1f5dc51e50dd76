//! The options that are not at their defaults, and where each comes from.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use giostra_protocol::escape;

use super::keys::{Key, is_key};
use crate::args::{USAGE, report_error, report_unwritten};
use crate::stdio::{check_stdout, stdout};

/// The options of a process that are not at their defaults, and where each comes from.
#[derive(Clone, Debug)]
pub struct Settings {
    program: String,
    settings: Vec<Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    key: String,
    /// In TOML.
    value: String,
    /// A flag, a variable, or a file and a line.
    origin: String,
}

/// The column up to which the origins stand one below the other.
const MAX_ALIGNED: usize = 60;

impl Settings {
    /// Returns the settings of a command line that was parsed with these keys of a file.
    pub(super) fn new(command: &Command, matches: &ArgMatches, path: &Path, keys: &[Key]) -> Self {
        let setting = |arg: &Arg| {
            let (id, key) = (arg.get_id().as_str(), arg.get_long()?);
            let from_file = keys.iter().find(|key| key.id == id);
            let origin = match (from_file, matches.value_source(id)?) {
                (Some(key), _) => format!("{}:{}", path.display(), key.place.line),
                (None, ValueSource::CommandLine) => format!("--{key}"),
                (None, ValueSource::EnvVariable) => arg.get_env()?.display().to_string(),
                (None, _) => return None,
            };
            Some(Setting { key: key.into(), value: changed(arg, matches)?, origin })
        };
        let program = command.get_name().into();
        Self { program, settings: command.get_arguments().filter(|arg| is_key(arg)).filter_map(setting).collect() }
    }

    /// Prints the settings as a TOML file with the origins as comments, then the error if there is
    /// one. Returns the exit status of the process, which then has done its work.
    pub fn report<E: Display>(&self, checked: Result<(), E>) -> u8 {
        let printable = check_stdout().map_err(io::Error::from);
        if let Err(error) = printable.and_then(|()| stdout().write_all(self.text(checked.is_ok()).as_bytes())) {
            report_unwritten(&self.program, &error);
            return 1;
        }
        match checked {
            Ok(()) => 0,
            Err(error) => {
                report_error(&self.program, error);
                USAGE
            }
        }
    }

    /// Returns what is printed. `is_valid`: whether nothing is wrong.
    pub(super) fn text(&self, is_valid: bool) -> String {
        let pairs: Vec<_> = self.settings.iter().map(|it| format!("{} = {}", it.key, it.value)).collect();
        let width = pairs.iter().map(|pair| pair.chars().count()).max().unwrap_or_default().min(MAX_ALIGNED);
        let mut text = String::new();
        for (pair, setting) in pairs.iter().zip(&self.settings) {
            writeln!(text, "{pair:width$}  # {}", escape::sentence(&setting.origin)).expect("a String takes any text");
        }
        if is_valid {
            text.push_str("# valid; all other options have their defaults\n");
        }
        text
    }
}

/// Returns the value of an option in TOML, if it is not the default.
fn changed(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    if !arg.get_action().takes_values() {
        return matches.get_flag(id).then(|| "true".into());
    }
    let values: Vec<_> = matches.get_raw(id)?.collect();
    if values.iter().eq(arg.get_default_values()) {
        return None;
    }
    let mut values: Vec<_> = values.into_iter().map(|value| in_toml(&value.to_string_lossy())).collect();
    Some(match arg.get_action() {
        ArgAction::Append => format!("[{}]", values.join(", ")),
        _ => values.pop()?,
    })
}

/// Returns a value in TOML: an integer if it is written as one, else a string.
fn in_toml(text: &str) -> String {
    if text.parse::<i64>().is_ok_and(|integer| integer.to_string() == text) {
        return text.into();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)).expect("a String takes any text"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
