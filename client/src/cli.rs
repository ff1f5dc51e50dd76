//! The command line: one command a file.

mod args;
mod audit;
mod bench;
mod drain;
mod keys;
mod operations;
mod prompt;
mod random;
mod send;
mod status;
mod summary;
mod table;
mod top;
mod watch;
mod written;

use std::io::{self, IsTerminal, Write, stderr, stdin};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use giostra_client::{Client, Error, Options};
use giostra_common::log::Log;
use giostra_common::shutdown::Shutdown;
use log::LevelFilter;

use args::{Args, Command};

/// The exit status after SIGINT, as a shell reports it.
const INTERRUPTED: u8 = 130;

/// Runs the command; its exit status.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            // Whoever is told may be gone, as when a terminal was closed.
            let _ = writeln!(stderr(), "giostra: {error:#}");
            match error.downcast_ref() {
                Some(Error::Interrupted) => ExitCode::from(INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether whoever read the output has read enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit status, unless there is an error to explain.
fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let command = match &args.command {
        Some(command) => command,
        None if stdin().is_terminal() => &Command::Prompt,
        None => {
            Args::command().print_help()?;
            anyhow::bail!("no command; without one, the prompt needs a terminal");
        }
    };
    if let Command::Audit(options) = command {
        // Of the log alone: no broker need be there.
        return audit::run(options, args.json);
    }
    if let Command::Keys(command) = command {
        keys::run(command, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let _log = Log::to_stderr(LevelFilter::Warn)?;
    let shutdown = Shutdown::on_signals()?;
    if let Command::Bench(options) = command {
        // It has connections of its own.
        return Ok(exit_code(bench::run(options, args, &shutdown)?));
    }
    if let Command::Top(options) = command {
        if args.json {
            Args::command().error(ErrorKind::ArgumentConflict, top::NO_JSON).exit();
        }
        // It asks from a thread of its own.
        return Ok(exit_code(top::run(options, args, &shutdown)?));
    }
    let mut client = Client::connect(Options {
        broker: args.broker.clone(),
        name: format!("giostra-{}-{}", command.name(), std::process::id()),
        pool: args.pool.clone(),
        broker_timeout: args.broker_timeout,
        credentials: args.credentials()?,
        shutdown: Some(shutdown.clone()),
    })?;
    let well = match command {
        Command::Send(options) => send::run(&mut client, options, args)?,
        Command::Random(options) => random::run(&mut client, options, args)?,
        Command::Prompt => prompt::run(&mut client, args, &shutdown)?,
        Command::Status(options) => status::run(&mut client, options, args)?,
        Command::Drain(options) => drain::run(&mut client, options, args)?,
        Command::Bench(_) | Command::Top(_) | Command::Audit(_) | Command::Keys(_) => {
            unreachable!("they do not use this client, and are done")
        }
    };
    Ok(exit_code(well))
}

fn exit_code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
