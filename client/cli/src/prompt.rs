//! `giostra prompt`: reads commands interactively. It asks for what is missing, as the original system
//! did: how many random requests, and an operation's operands.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use giostra_client::{Client, Error};
use giostra_common::stdio;
use giostra_protocol::code;
use giostra_transport::shutdown::Shutdown;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use serde_json::json;

use super::args::Command;
use super::common::CommonArgs;
use super::exit::Exit;
use super::printed::stdout;
use super::{dispatch, failure, operations};

const COMMANDS: [&str; 8] = ["random", "send", "bench", "status", "top", "drain", "help", "exit"];

const HELP: &str = "\
  random [COUNT]       random additions, subtractions, multiplications and divisions, checked
  OP NUMBER..          add sub mul div pow gcd take two numbers, sqrt is_prime primes fib sleep one
  bench [REQUESTS]     requests a second, and how long each takes
  status               the workers, their state and their share
  top                  the same live, on the whole screen
  drain WORKER         let it finish what it has, and give it no more
  help                 this
  exit                 leave (or Ctrl-D)
somma, sottrazione, moltiplicazione and divisione work, too. Tab completes, the arrow keys go back in history.";

type LineEditor = Editor<Words, FileHistory>;

/// A line that is parsed as a command line without the program's name.
#[derive(Debug, Parser)]
#[command(multicall = true, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// Reads and runs commands until the input ends, whether they succeed or not.
pub fn run(client: &mut Client, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    stdio::check_stdin().context("can't read stdin")?;
    let mut editor = LineEditor::new()?;
    editor.set_helper(Some(Words));
    let history = history_file();
    if let Some(file) = &history {
        // There is none yet at the first time.
        let _ = editor.load_history(file);
    }
    if !common.json {
        writeln!(stdout(), "giostra {}: help lists the commands", env!("CARGO_PKG_VERSION"))?;
    }
    loop {
        match editor.readline("giostra> ") {
            Ok(text) => {
                if text.trim().is_empty() {
                    continue;
                }
                editor.add_history_entry(&text)?;
                let Some(words) = complete(&mut editor, &text)? else { continue };
                match &*words[0] {
                    "exit" | "quit" => break,
                    "help" | "?" => writeln!(stdout(), "{HELP}")?,
                    _ => run_line(client, common, shutdown, &words)?,
                }
                // Ctrl-C ends a command that watches, and the prompt with it.
                if shutdown.requested() {
                    break;
                }
            }
            // Ctrl-C discards the line.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(file) = &history {
        // A history that can't be kept is no reason to fail.
        let _ = file.parent().map(fs::create_dir_all);
        let _ = editor.save_history(file);
    }
    Ok(Exit::Success)
}

/// Returns the words of a command, after asking for those that are missing; `None` if the user does
/// not answer.
fn complete(editor: &mut LineEditor, text: &str) -> anyhow::Result<Option<Vec<String>>> {
    let mut words: Vec<_> = text.split_whitespace().map(String::from).collect();
    let is_operation = operations::NAMES.contains(&&*words[0]);
    if words.len() == 1 && (is_operation || words[0] == "random") {
        match editor.readline(if is_operation { "its numbers? " } else { "how many? " }) {
            Ok(answer) => words.extend(answer.split_whitespace().map(String::from)),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    if is_operation {
        words.insert(0, "send".into());
    }
    Ok(Some(words))
}

/// Runs a command. An error is one after which no other command can run.
fn run_line(client: &mut Client, common: &CommonArgs, shutdown: &Shutdown, words: &[String]) -> anyhow::Result<()> {
    let ended = match CommandLine::try_parse_from(words).map(|line| line.command) {
        Ok(command) if command.reads_stdin() => {
            Err(anyhow!("{} reads stdin, which is the prompt's: use it in a shell", command.name()))
        }
        Ok(Command::Prompt) => Ok(Exit::Success),
        Ok(command) => dispatch(&command, common, shutdown, || Ok(client)),
        Err(error) => {
            // The first line has the error; clap's usage lines are for the shell.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return Ok(match common.json {
                true => writeln!(stdout(), "{}", json!({"error": failure::object(code::INVALID, first)})),
                false => writeln!(stdout(), "{first}\nhelp lists the commands"),
            }?);
        }
    };
    match ended {
        Err(error) if is_final(&error) => Err(error),
        // The next command may find a broker, or a file.
        Err(error) if common.json => Ok(failure::print_object(&error)?),
        Err(error) => Ok(writeln!(stdout(), "{}", failure::explain(&error))?),
        Ok(_) => Ok(()),
    }
}

/// Returns whether no command can follow: after Ctrl-C, libzmq's own failure, or an output that can't
/// be written.
fn is_final(error: &anyhow::Error) -> bool {
    let client_is_done = matches!(failure::of_client(error), Some(Error::Interrupted | Error::Socket(_)));
    client_is_done || failure::output_error(error).is_some()
}

/// Returns the file of the history: in the user's state folder, if they have a home.
fn history_file() -> Option<PathBuf> {
    let state = match std::env::var_os("XDG_STATE_HOME") {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".local/state"),
    };
    Some(state.join("giostra/history"))
}

/// Completes commands and operations.
struct Words;

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..position];
        let start = before.rfind(' ').map_or(0, |space| space + 1);
        // The first word, or the one after `send`.
        let known: Vec<_> = match before[..start].trim() {
            "" => COMMANDS.iter().chain(&operations::NAMES).collect(),
            "send" => operations::NAMES.iter().collect(),
            _ => Vec::new(),
        };
        let matching = known.into_iter().filter(|word| word.starts_with(&before[start..]));
        let pair = |word: &&str| Pair { display: (*word).into(), replacement: format!("{word} ") };
        Ok((start, matching.map(pair).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
