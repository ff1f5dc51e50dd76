//! The prompt, with the habits of the original system: `random`, then how many; an operation, then
//! its operands; `exit`.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory;
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

use super::args::{Args, Command};
use super::common::CommonArgs;
use super::exit::Exit;
use super::printed::stdout;
use super::{audit, bench, drain, failure, keys, man, operations, random, send, status, top};

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

type Line = Editor<Words, FileHistory>;

/// What a line asks for.
#[derive(Debug, Parser)]
#[command(multicall = true, disable_help_subcommand = true)]
struct Asked {
    #[command(subcommand)]
    command: Command,
}

/// Reads and runs commands until the input ends, whatever becomes of them.
pub fn run(client: &mut Client, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    stdio::check_stdin().context("can't read stdin")?;
    let mut line = Line::new()?;
    line.set_helper(Some(Words));
    let history = history_file();
    if let Some(file) = &history {
        // None yet is no error.
        let _ = line.load_history(file);
    }
    if !common.json {
        writeln!(stdout(), "giostra {}: help lists the commands", env!("CARGO_PKG_VERSION"))?;
    }
    loop {
        match line.readline("giostra> ") {
            Ok(text) => {
                let words: Vec<_> = text.split_whitespace().map(String::from).collect();
                if words.is_empty() {
                    continue;
                }
                line.add_history_entry(&text)?;
                if !obey(&mut line, client, common, shutdown, words)? {
                    break;
                }
            }
            // Ctrl-C throws away the line.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(file) = &history {
        // A history that can't be kept is no reason to fail.
        let _ = file.parent().map(fs::create_dir_all);
        let _ = line.save_history(file);
    }
    Ok(Exit::Success)
}

/// Runs one line. Returns whether the prompt goes on.
fn obey(
    line: &mut Line,
    client: &mut Client,
    common: &CommonArgs,
    shutdown: &Shutdown,
    mut words: Vec<String>,
) -> anyhow::Result<bool> {
    match words[0].as_str() {
        "exit" | "quit" => return Ok(false),
        "help" | "?" => {
            return print(HELP);
        }
        "random" if words.len() == 1 => match ask(line, "how many? ")? {
            Some(answer) => words.extend(answer),
            None => return Ok(true),
        },
        name if operations::NAMES.contains(&name) => {
            if words.len() == 1 {
                match ask(line, "its numbers? ")? {
                    Some(answer) => words.extend(answer),
                    None => return Ok(true),
                }
            }
            words.insert(0, "send".into());
        }
        _ => {}
    }
    let done = match Asked::try_parse_from(&words) {
        Ok(Asked { command: Command::Random(options) }) => random::run(client, &options, common),
        Ok(Asked { command: Command::Send(options) }) => send::run(client, &options, common),
        Ok(Asked { command: Command::Bench(options) }) => bench::run(&options, common, shutdown),
        Ok(Asked { command: Command::Status(options) }) => status::run(client, &options, common),
        Ok(Asked { command: Command::Top(options) }) => match top::obstacle(common) {
            Some(obstacle) => return print(obstacle),
            None => top::run(&options, common, shutdown),
        },
        Ok(Asked { command: Command::Drain(options) }) => drain::run(client, &options, common),
        Ok(Asked { command: Command::Audit(options) }) => audit::run(&options, common.json),
        Ok(Asked { command: Command::Keys(command) }) => keys::run(&command, common.json),
        Ok(Asked { command: Command::Completions(options) }) => man::completions(&options, Args::command()),
        Ok(Asked { command: Command::Man(options) }) => man::run(&options, Args::command(), common.json),
        Ok(Asked { command: Command::Map(_) }) => {
            return print("map reads stdin, which is the prompt's: use it in a shell");
        }
        Ok(Asked { command: Command::Prompt }) => Ok(Exit::Success),
        Err(error) => {
            // The first line says it; clap's usage lines are for the shell.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return match common.json {
                true => print(json!({"error": failure::object(code::INVALID, first)})),
                false => print(format_args!("{first}\nhelp lists the commands")),
            };
        }
    };
    match done {
        // Ctrl-C ends what is watched, and the prompt with it.
        Ok(_) => Ok(!shutdown.requested()),
        Err(error) if is_the_end(&error) => Err(error),
        // The next command may find a broker, or a file.
        Err(error) if common.json => {
            failure::print_object(&error)?;
            Ok(true)
        }
        Err(error) => print(format_args!("{error:#}")),
    }
}

/// Prints a line, after which the prompt goes on.
fn print(line: impl Display) -> anyhow::Result<bool> {
    writeln!(stdout(), "{line}")?;
    Ok(true)
}

/// Whether nothing can come after it: Ctrl-C during a command, libzmq's own failure, an output that
/// can't be written.
fn is_the_end(error: &anyhow::Error) -> bool {
    let client_is_done = matches!(failure::of_client(error), Some(Error::Interrupted | Error::Socket(_)));
    client_is_done || failure::output_error(error).is_some()
}

/// The words of the answer, unless there is none.
fn ask(line: &mut Line, question: &str) -> anyhow::Result<Option<Vec<String>>> {
    match line.readline(question) {
        Ok(answer) => Ok(Some(answer.split_whitespace().map(String::from).collect())),
        Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where the history is kept: in the user's state folder, if they have a home.
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
