//! `giostra-worker`: see `--help`.

use std::process::ExitCode;

use clap::CommandFactory;
use giostra_common::args::complain;
use giostra_common::log::Log;
use giostra_common::shutdown::Shutdown;
use giostra_worker::args::Args;
use giostra_worker::{compute, serve};

fn main() -> ExitCode {
    let args = Args::of_process();
    if let Some(status) = args.manual.print(Args::command()) {
        return status;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("giostra-worker", format_args!("{error:#}"));
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
