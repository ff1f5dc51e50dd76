//! The keys that a configuration file may have, and their values as arguments.

use std::error::Error as _;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Error};
use giostra_protocol::escape;

use super::file::{Entry, Fault, Place, Value};

/// Options that are no keys: those about the file, and those that print something and exit.
const NO_KEYS: [&str; 6] = ["completions", "config", "config-check", "help", "man", "version"];

/// The similarity, from 0 to 1, above which an unknown key passes for a misspelt one, as in `clap`.
const SIMILAR: f64 = 0.7;

/// The maximum number of characters of a wrong key or value that an error quotes.
const MAX_QUOTE: usize = 60;

/// A key of the file that a program has, with a value that it takes.
#[derive(Debug)]
pub(super) struct Key {
    /// The option's id in `clap`.
    pub(super) id: String,
    /// The key.
    pub(super) name: String,
    /// Its place.
    pub(super) place: Place,
    /// The same as arguments. None for `false` and for an empty list.
    pub(super) args: Vec<OsString>,
}

/// Whether an option can be a key. One that no help shows is for programs that start this one.
pub(super) fn is_key(arg: &Arg) -> bool {
    !arg.is_hide_set() && arg.get_long().is_some_and(|long| !NO_KEYS.contains(&long))
}

impl Key {
    /// Checks an entry of the file with this text.
    ///
    /// # Errors
    /// If there is no such option, or it does not take the value.
    pub(super) fn new(command: &Command, text: &str, entry: &Entry) -> Result<Self, Fault> {
        let fault = |at, what| Fault(Some(Place::of(text, at)), what);
        let mut options = command.get_arguments().filter(|arg| is_key(arg));
        let Some(arg) = options.find(|arg| arg.get_long() == Some(entry.key.as_str())) else {
            return Err(fault(entry.at, unknown(command, entry)));
        };
        let args = arguments(arg, entry).map_err(|what| fault(entry.value_at, what))?;
        check(command, &args).map_err(|error| {
            let (wrong, at) = wrong_value(&error, entry);
            fault(at, format!("{} can't be '{}': {}", entry.key, quote(&wrong), reason(&error)))
        })?;
        let place = Place::of(text, entry.at);
        Ok(Self { id: arg.get_id().to_string(), name: entry.key.clone(), place, args })
    }

    /// Returns the flag that has this name.
    pub(super) fn flag(&self) -> String {
        format!("--{}", self.name)
    }
}

/// Returns what is wrong with a key that the program does not have.
fn unknown(command: &Command, entry: &Entry) -> String {
    let key = quote(&entry.key);
    if NO_KEYS.contains(&&*entry.key) {
        return format!("'{key}' is no key: it belongs on the command line");
    }
    let names = command.get_arguments().filter(|arg| is_key(arg)).filter_map(Arg::get_long);
    let similar = names.map(|name| (strsim::jaro(name, &entry.key), name)).filter(|(how, _)| *how > SIMILAR);
    let nearest = similar.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name);
    match nearest {
        Some(name) if entry.key.replace('_', "-") == name => {
            format!("'{key}' is no key; with dashes, as flags are written, it is '{name}'")
        }
        Some(name) => format!("'{key}' is no key; did you mean '{name}'?"),
        None if entry.value == Value::Other("a table") => {
            format!("'{key}' is no key; keys are written without tables")
        }
        None => format!("'{key}' is no key; the keys are the options of {} --help", command.get_name()),
    }
}

/// Returns the arguments that give an option this value.
fn arguments(arg: &Arg, entry: &Entry) -> Result<Vec<OsString>, String> {
    let key = &entry.key;
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let with = |text: &String| format!("--{key}={text}").into();
    match (&entry.value, arg.get_action().takes_values()) {
        (Value::Switch(true), false) => Ok(vec![format!("--{key}").into()]),
        (Value::Switch(false), false) => Ok(vec![]),
        (_, false) => Err(format!("{key} is a switch: true or false")),
        (Value::One(text), true) => Ok(vec![with(text)]),
        (Value::List(texts), true) if is_list => Ok(texts.iter().map(|(text, _)| with(text)).collect()),
        (Value::List(_), true) => Err(format!("{key} takes one value, not a list")),
        (Value::Switch(_), true) => Err(format!("{key} takes a value, not true or false")),
        (Value::Other(kind), true) if is_list => Err(format!("{key} takes a string or a list of strings, not {kind}")),
        (Value::Other(kind), true) => Err(format!("{key} takes a string or an integer, not {kind}")),
    }
}

/// Checks the values of one option. Whether it needs others does not count.
fn check(command: &Command, args: &[OsString]) -> Result<(), Error> {
    let alone = command.clone().mut_args(|arg| arg.env(Resettable::Reset));
    let name = OsString::from(command.get_name());
    match alone.try_get_matches_from([&name].into_iter().chain(args)) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => Err(error),
        _ => Ok(()),
    }
}

/// Returns the value that an error is about, and its offset in the file.
fn wrong_value(error: &Error, entry: &Entry) -> (String, usize) {
    let wrong = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(wrong)) => wrong.clone(),
        _ => String::new(),
    };
    let at = match &entry.value {
        Value::List(texts) => texts.iter().find(|(text, _)| *text == wrong).map(|(_, at)| *at),
        _ => None,
    };
    (wrong, at.unwrap_or(entry.value_at))
}

/// Returns `clap`'s reason why a value is wrong.
fn reason(error: &Error) -> String {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => escape::sentence(&source.to_string()).into_owned(),
        (None, Some(ContextValue::Strings(valid))) => format!("it is one of {}", valid.join(", ")),
        (None, _) => "it must not be empty".into(),
    }
}

/// Returns the beginning of a text from the file, as one line.
fn quote(text: &str) -> String {
    let mut start: String = text.chars().take(MAX_QUOTE).collect();
    if start.len() < text.len() {
        start.push_str("..");
    }
    escape::sentence(&start).into_owned()
}
