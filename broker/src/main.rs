//! `giostra-broker`: see `--help`.

use std::process::ExitCode;

use clap::CommandFactory;
use giostra_broker::args::Args;
use giostra_broker::server;
use giostra_common::args::{complain, parse};
use giostra_common::shutdown::Shutdown;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    let args: Args = parse();
    if let Some(status) = args.manual.print(Args::command()) {
        return status;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("giostra-broker", format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    args.check()?;
    let options = args.options()?;
    let (shutdown, hangups) = Shutdown::on_signals_but_hangup()?;
    let log = args.open_log()?;
    raise_file_limit();
    server::run(&options, &log, &shutdown, hangups)
}

/// Each connection is an open file, and the usual limit of 1024 is for programs that still use select(2), as systemd's own manual says.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(files) if files >= FEW_FILES => {}
        Ok(files) => log::warn!("only {files} files may be open at a time, and so fewer connections (ulimit -Hn)"),
        Err(error) => log::warn!("can't raise the limit of open files: {error}"),
    }
}

/// With fewer, clients and workers could be turned away that `--max-connections` lets in.
const FEW_FILES: u64 = 4096;
