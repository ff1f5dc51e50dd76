//! `giostra-broker`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use giostra_broker::args::Args;
use giostra_broker::server;
use giostra_common::shutdown::Shutdown;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("giostra-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    args.check()?;
    let options = args.options()?;
    let (shutdown, hangups) = Shutdown::on_signals_but_hangup()?;
    let log = args.open_log()?;
    server::run(&options, &log, &shutdown, hangups)
}
