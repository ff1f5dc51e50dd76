//! `giostra`, the command line: one command a file. See `--help`.

mod args;
mod audit;
mod bench;
mod drain;
mod events;
mod failure;
mod global;
mod help;
mod keys;
mod live;
mod man;
mod map;
mod operations;
mod printed;
mod prompt;
mod random;
mod send;
mod status;
mod summary;
mod table;
mod top;
mod written;

use std::io::{self, IsTerminal, stdin};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap::error::ErrorKind;
use giostra_client::Client;
use giostra_common::args::{USAGE, parse};
use giostra_common::log::Log;
use giostra_common::signals;
use giostra_common::stdio;
use log::LevelFilter;

use args::{Args, Command};

fn main() -> ExitCode {
    let args: Args = parse();
    run(&args).unwrap_or_else(|error| failure::end(&error, args.fails_in_json()))
}

/// The exit status, unless there is an error to explain.
fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let global = &args.global;
    let command = match &args.command {
        Some(command) => command,
        None if stdin().is_terminal() => &Command::Prompt,
        None => {
            failure::report_error("no command, and the prompt needs a terminal; giostra --help lists the commands");
            return Ok(ExitCode::from(USAGE));
        }
    };
    // Before anything is done whose result would be lost.
    stdio::check_stdout().map_err(io::Error::from)?;
    // No broker need be there for some.
    let done = match command {
        Command::Audit(options) => Some(audit::run(options, global.json)?),
        Command::Keys(command) => Some(keys::run(command, global.json).map(|()| true)?),
        Command::Completions(options) => Some(man::completions(options, Args::command()).map(|()| true)?),
        Command::Man(options) => Some(man::run(options, Args::command(), global.json).map(|()| true)?),
        _ => None,
    };
    if let Some(well) = done {
        return Ok(exit_code(well));
    }
    let _log = Log::to_stderr(LevelFilter::Warn)?;
    let shutdown = signals::shutdown().context("can't listen for signals")?;
    if let Command::Bench(options) = command {
        // It has connections of its own.
        return Ok(exit_code(bench::run(options, global, &shutdown)?));
    }
    if let Command::Top(options) = command {
        if global.json {
            Args::command().error(ErrorKind::ArgumentConflict, top::NO_JSON).exit();
        }
        // It asks from a thread of its own.
        return Ok(exit_code(top::run(options, global, &shutdown)?));
    }
    let mut client = Client::connect(global.options(command.name(), &shutdown)?)?;
    let well = match command {
        Command::Send(options) => send::run(&mut client, options, global)?,
        Command::Random(options) => random::run(&mut client, options, global)?,
        Command::Map(options) => map::run(&mut client, options, global, &shutdown)?,
        Command::Prompt => prompt::run(&mut client, global, &shutdown)?,
        Command::Status(options) => status::run(&mut client, options, global)?,
        Command::Drain(options) => drain::run(&mut client, options, global)?,
        Command::Bench(_) | Command::Top(_) => unreachable!("they have connections of their own, and are done"),
        Command::Audit(_) | Command::Keys(_) | Command::Completions(_) | Command::Man(_) => {
            unreachable!("they need no broker, and are done")
        }
    };
    Ok(exit_code(well))
}

fn exit_code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
