//! `giostra-broker`: see `--help`.

use std::process::ExitCode;

use anyhow::ensure;
use clap::CommandFactory;
use giostra_broker::access;
use giostra_broker::args::Args;
use giostra_broker::server::{self, Bound};
use giostra_common::args::{parse, report_fatal};
use giostra_common::signals::{self, outlive};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    let args: Args = parse();
    if let Some(status) = args.manual.print(Args::command()) {
        return status;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_fatal("giostra-broker", format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    args.check()?;
    let options = args.options()?;
    let (shutdown, hangups) = signals::shutdown_but_hangup()?;
    outlive()?;
    let warning = raise_file_limit()?;
    // The endpoints first: a broker that can't have them touches no log, which may be another's.
    let bound = Bound::new(&options)?;
    let log = args.open_log()?;
    server::run(bound, &options, &log, &shutdown, hangups, warning.as_slice())
}

/// Each connection is an open file, and the usual limit of 1024 is for programs that still use
/// select(2), as systemd's own manual says. A warning if few connections fit.
///
/// # Errors
/// If a broker could not serve anybody.
fn raise_file_limit() -> anyhow::Result<Option<String>> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    ensure!(
        files >= access::MIN_FILES,
        "only {files} files may be open at a time; a broker needs {} at least (ulimit -Hn)",
        access::MIN_FILES
    );
    let few = || format!("only {files} files may be open at a time, and so fewer connections (ulimit -Hn)");
    Ok((files < FEW_FILES).then(few))
}

/// With fewer, clients and workers could be turned away that `--max-connections` lets in.
const FEW_FILES: u64 = 4096;
