//! `giostra-worker`: see `--help`.

mod cli;

use std::process::ExitCode;

use clap::CommandFactory;
use giostra_common::args::report_fatal;
use giostra_common::config::parse;
use giostra_common::log::stderr;
use giostra_common::service;
use giostra_common::signals::{self, outlive};
use giostra_worker::serve;
use giostra_worker_cli::compute;
use giostra_worker_cli::exec::guard;

use cli::Cli;

fn main() -> ExitCode {
    if guard::is_meant() {
        return if guard::watch().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (cli, settings) = parse::<Cli>();
    if let Some(status) = cli.manual.print(Cli::command()) {
        return status;
    }
    if cli.args.config.config_check {
        return settings.report(check(&cli).map_err(|error| format!("{error:#}"))).into();
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_fatal("giostra-worker", format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Checks what can be checked without starting anything: the files of keys, and the program of
/// `--exec`.
fn check(Cli { args, exec, .. }: &Cli) -> anyhow::Result<()> {
    args.options()?;
    exec.check()
}

fn run(Cli { args, exec, end_with, .. }: &Cli) -> anyhow::Result<()> {
    let options = args.options()?;
    args.log_to_stderr()?;
    service::start();
    let shutdown = signals::shutdown()?;
    end_with.apply(&shutdown)?;
    outlive()?;
    let Some(exec) = exec.service(&options)? else {
        return Ok(serve(&options, compute::operations(), &shutdown)?);
    };
    let end = serve(&options, exec.clone(), &shutdown);
    exec.close();
    stderr::finish();
    Ok(end?)
}
