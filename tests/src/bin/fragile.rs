//! A worker for the tests, with operations that fail in the worst ways.
//!
//! `add` adds two whole numbers; `panic` panics; `die` ends the process as the kernel does when
//! memory runs out: at once, by SIGKILL.

use anyhow::Result;
use clap::Parser;
use giostra_common::signals;
use giostra_protocol::Failure;
use giostra_worker::{Operations, serve};
use giostra_worker_cli::args::Args;
use nix::sys::signal::{Signal, raise};

fn main() -> Result<()> {
    let args = Args::parse();
    args.log_to_stderr()?;
    let operations = Operations::new()
        .with("add", |(a, b): (i64, i64)| Ok::<_, Failure>(a + b))
        .with("panic", |_: Vec<i64>| -> Result<(), Failure> { panic!("on purpose") })
        .with("die", |_: Vec<i64>| raise(Signal::SIGKILL).map_err(|error| Failure::from(error.to_string())));
    serve(&args.options()?, operations, &signals::shutdown()?)?;
    Ok(())
}
