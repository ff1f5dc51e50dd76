//! The program `giostra-broker`: command line, signals and log files around the server.

mod args;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::CommandFactory as _;
use giostra_common::args::{report_error, report_fatal};
use giostra_common::config::parse;
use giostra_common::log::{Log, set_format};
use giostra_common::{service, signals};
use giostra_transport::wake::{Alarm, alarm};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::access::{MIN_FILES, check_allowed};
use crate::error::Error;
use crate::server::{Bound, LogFiles};
use args::Args;

/// The number of files below which clients and workers could be turned away that
/// `--max-connections` lets in.
const FEW_FILES: u64 = 4096;

/// Runs the program.
pub fn main() -> ExitCode {
    let (args, settings) = parse::<Args>();
    if let Some(status) = args.manual.print(Args::command()) {
        return status;
    }
    if args.config.config_check {
        return settings.report(check(&args).map_err(|error| format!("{error:#}"))).into();
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
    set_format(args.log_format);
    let options = args.options()?;
    options.check().map_err(explain)?;
    service::start();
    let (reload, reloads) = alarm()?;
    let (reopen, reopens) = alarm()?;
    signals::on_user_signal(move || reopen.wake())?;
    let shutdown = signals::shutdown_but_hangup(move || reload.wake())?;
    args.end_with.apply(&shutdown)?;
    signals::outlive()?;
    let warning = raise_file_limit()?;
    // The endpoints first: a broker that can't have them leaves the log alone, perhaps another's.
    let bound = Bound::new(options, warning.into_iter().collect()).map_err(explain)?;
    let (log, folder) = args.open_log()?;
    bound.run(&Files { log, folder, reopens }, &shutdown, reloads)?;
    Ok(())
}

/// Checks what can be checked without starting anything: that the options are safe, and the files of
/// keys.
fn check(args: &Args) -> anyhow::Result<()> {
    let options = args.options()?;
    options.check().map_err(explain)?;
    if let Some(keys) = &options.keys {
        for warning in check_allowed(&keys.allow).map_err(|error| explain(error.into()))? {
            report_error("giostra-broker", format_args!("--allow: {warning}"));
        }
    }
    Ok(())
}

/// Adds the flags that help to an error.
fn explain(error: Error) -> anyhow::Error {
    let text = match &error {
        Error::Exposed { .. } => format!(
            "--{error}. Give it --keys and --allow (docs/security.md), bind to 127.0.0.1, or say --insecure if the \
             network keeps strangers out"
        ),
        Error::HttpExposed(_) => {
            format!("--{error}. Bind it to 127.0.0.1, or say --http-public if the network keeps strangers out")
        }
        Error::InUse { side, .. } | Error::Bind { side, .. } => format!("{error}; --{side} takes another endpoint"),
        Error::Http { .. } => format!("{error}; --http takes another address, or none"),
        Error::Store(_) => format!("--store: {error}"),
        Error::Allow(_) => format!("--allow: {error}"),
        _ => return error.into(),
    };
    anyhow::Error::msg(text)
}

/// Raises the limit on open files as far as possible: each connection is an open file. The usual
/// limit of 1024 is for programs that still use select(2), as systemd's manual says. Returns a
/// warning if few connections fit.
///
/// # Errors
/// If a broker could not serve anybody.
fn raise_file_limit() -> anyhow::Result<Option<String>> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    ensure!(
        files >= MIN_FILES,
        "only {files} files may be open at a time; a broker needs {MIN_FILES} at least (ulimit -Hn)"
    );
    let few = || format!("only {files} files may be open at a time, and so fewer connections (ulimit -Hn)");
    Ok((files < FEW_FILES).then(few))
}

struct Files {
    log: Log,
    folder: PathBuf,
    /// Rings when the files are to be opened again.
    reopens: Alarm,
}

impl LogFiles for Files {
    fn tick(&self) {
        self.log.tick();
    }

    fn flush(&self) {
        self.log.flush();
    }

    fn lines(&self) -> Option<u64> {
        Some(self.log.lines())
    }

    fn reopen_request(&self) -> Option<BorrowedFd<'_>> {
        Some(self.reopens.as_fd())
    }

    fn reopen(&self) {
        if self.reopens.clear() {
            self.log.tick();
            self.log.reopen();
        }
    }

    fn origin(&self) -> [String; 2] {
        [self.log.predecessor().unwrap_or("none").into(), self.folder.display().to_string()]
    }
}
