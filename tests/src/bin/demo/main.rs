//! `just demo`: the whole story, unattended: a broker and three workers on free ports, work, kills in
//! the middle of it, and the proof from the log that nothing was lost.
//!
//! With `--jobs` the work is a durable job, and the broker is killed, too. With `--brokers` there are
//! two brokers, and one is killed and stays away. With `--secure` all have
//! keys. Exits with 1 if anything is off. Leaves nothing: no process, no file.

mod batch;
mod brokers;
mod jobs;

use std::process::ExitCode;

use clap::Parser;

const WORKERS: usize = 3;

/// The whole story, unattended
#[derive(Debug, Parser)]
struct Args {
    /// Tell the story of a durable job, which outlives its broker
    #[arg(long, conflicts_with = "brokers")]
    jobs: bool,

    /// Tell the story of two brokers, one of which is killed
    #[arg(long)]
    brokers: bool,

    /// Give keys to all
    #[arg(long)]
    secure: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let tell = match args {
        Args { jobs: true, .. } => jobs::run,
        Args { brokers: true, .. } => brokers::run,
        _ => batch::run,
    };
    let told = tell(args.secure);
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn with_keys(secure: bool) -> &'static str {
    if secure { ", all with keys" } else { "" }
}

fn shortened(line: &str) -> String {
    const MOST: usize = 130;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.into(),
    }
}
