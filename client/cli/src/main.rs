//! The `giostra` command line: each command has a file. See `--help`.

mod args;
mod audit;
mod bar;
mod bench;
mod common;
mod doctor;
mod drain;
mod each;
mod events;
mod exit;
mod failure;
mod help;
mod hosts;
mod input;
mod jobs;
mod keys;
mod line;
mod live;
mod man;
mod map;
mod operations;
mod printed;
mod prompt;
mod random;
mod scale;
mod send;
mod status;
#[cfg(feature = "store")]
mod store;
mod summary;
mod table;
mod top;
mod up;
mod watch;
mod written;

use std::io::{self, IsTerminal, stdin};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap::error::ErrorKind;
use giostra_client::Client;
use giostra_common::args::parse;
use giostra_common::log::Log;
use giostra_common::signals;
use giostra_common::stdio;
use giostra_transport::shutdown::Shutdown;
use log::LevelFilter;

use args::{ALONE, Args, Command};
use common::CommonArgs;
use exit::Exit;

fn main() -> ExitCode {
    let args: Args = parse();
    run(&args).unwrap_or_else(|error| failure::end(&error, args.fails_in_json())).into()
}

/// Runs the command. An error is one that is still to be explained.
fn run(args: &Args) -> anyhow::Result<Exit> {
    let common = &args.common;
    let command = match &args.command {
        Some(command) => command,
        None if stdin().is_terminal() => &Command::Prompt,
        None => {
            failure::report_error("no command, and the prompt needs a terminal; giostra --help lists the commands");
            return Ok(Exit::Usage);
        }
    };
    if matches!(command, Command::Top(_)) && common.json {
        Args::command().error(ErrorKind::ArgumentConflict, top::NO_JSON).exit();
    }
    let alone = ALONE.contains(&command.name());
    if !alone && let Err(wrong) = common.check_broker() {
        Args::command().error(ErrorKind::ValueValidation, wrong).exit();
    }
    // Before anything is done whose result would be lost.
    stdio::check_stdout().map_err(io::Error::from)?;
    // What a client would log is what the doctor says.
    let is_doctor = matches!(command, Command::Doctor(_));
    let level = if matches!(command, Command::Scale(_)) { LevelFilter::Info } else { LevelFilter::Warn };
    let _log = if alone || is_doctor { None } else { Some(Log::to_stderr(level)?) };
    let shutdown = if alone { Shutdown::new()? } else { signals::shutdown().context("can't listen for signals")? };
    let mut client = None;
    dispatch(command, common, &shutdown, || {
        Ok(client.insert(Client::connect(common.options(command.name(), &shutdown)?)?))
    })
}

/// Runs a command. `client` returns the client, for a command that needs one.
fn dispatch<'a>(
    command: &Command,
    common: &CommonArgs,
    shutdown: &Shutdown,
    client: impl FnOnce() -> anyhow::Result<&'a mut Client>,
) -> anyhow::Result<Exit> {
    match command {
        Command::Up(options) => up::up(options, common),
        Command::Down(options) => up::down(options),
        Command::Send(options) => send::run(client()?, options, common),
        Command::Random(options) => random::run(client()?, options, common),
        Command::Map(options) => map::run(client()?, options, common, shutdown),
        Command::Prompt => prompt::run(client()?, common, shutdown),
        Command::Submit(options) => jobs::submit(client()?, options, common, shutdown),
        Command::Jobs(options) => jobs::jobs(client()?, options, common, shutdown),
        Command::Job(options) => jobs::one(client()?, options, common),
        Command::Wait(options) => jobs::wait(client()?, options, common),
        Command::Collect(options) => jobs::collect(client()?, options, common),
        Command::Retry(options) => jobs::retry(client()?, options, common),
        Command::Cancel(options) => jobs::cancel(client()?, options, common),
        Command::Status(options) => status::run(client()?, options, common, shutdown),
        Command::Drain(options) => drain::run(client()?, options, common),
        Command::Scale(options) => scale::run(options, common, client),
        // These open connections of their own.
        Command::Doctor(options) => doctor::run(options, common, shutdown),
        Command::Bench(options) => bench::run(options, common, shutdown),
        Command::Top(options) => top::run(options, common, shutdown),
        Command::Audit(options) => audit::run(options, common.json),
        Command::Keys(command) => keys::run(command, common.json),
        #[cfg(feature = "store")]
        Command::Store(command) => store::run(command, common.json),
        Command::Completions(options) => man::completions(options, Args::command()),
        Command::Man(options) => man::run(options, Args::command(), common.json),
    }
}
