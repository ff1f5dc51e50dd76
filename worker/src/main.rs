//! `giostra-worker`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use giostra_common::log::Log;
use giostra_common::shutdown::Shutdown;
use giostra_worker::args::Args;
use giostra_worker::{compute, serve};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("giostra-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let options = args.options()?;
    let _log = Log::to_stderr(args.log_level())?;
    let shutdown = Shutdown::on_signals()?;
    serve(&options, compute::operations(), &shutdown)?;
    Ok(())
}
