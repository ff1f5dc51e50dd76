//! `giostra bench`: how many requests a second, and how long each takes, against a broker that is
//! running.
//!
//! All clients live in one thread over one libzmq context, and as little as possible is done for
//! each request: the client shares the machine with what it measures. The load is in
//! `bench/load.rs`, what is asked in `bench/work.rs`, the outcome in `bench/outcome.rs`.

mod args;
mod load;
mod outcome;
mod work;

use std::io::Write;

use giostra_client::Error;
use giostra_transport::shutdown::Shutdown;

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{Told, of_batch, report_error};
use super::printed::stdout;
use super::send::explain;
pub use args::Bench;
use load::{Load, Span};
use outcome::Outcome;
use work::Work;

/// Runs the batch, and succeeds if every request was answered and every result was right.
pub fn run(bench: &Bench, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let work = bench.size.map_or_else(Work::add, Work::echo);
    let mut load = Load::connect(bench, common, shutdown)?;
    if !common.json {
        let clients = if bench.clients == 1 { "1 client".into() } else { format!("{} clients", bench.clients) };
        writeln!(stdout(), "{clients}, each with {} requests at a time: {work}", bench.window)?;
    }
    let mut outcome = Outcome::default();
    let mut ended = load.run(&work, Span { requests: bench.warm_up, length: None }, &mut outcome);
    if ended.is_ok() && outcome.all_well() {
        outcome = Outcome::default();
        let span = Span { requests: bench.requests.unwrap_or(u64::MAX), length: bench.length() };
        ended = load.run(&work, span, &mut outcome);
    }
    if let Err(Error::Interrupted) = &ended {
        load.cancel_all()?;
    }
    outcome.duplicated = load.duplicated();
    if let Some(failure) = &outcome.first_failure {
        report_error(format_args!("the first failure: {}", explain(failure, common)));
    }
    if common.json {
        let mut object = outcome.json(bench, &work);
        if let Some(error) = of_batch(&ended, outcome.first_failure.as_ref()) {
            object["error"] = error;
        }
        writeln!(stdout(), "{object}")?;
    } else {
        writeln!(stdout(), "{outcome}")?;
    }
    ended.map_err(Told)?;
    Ok(Exit::success_if(outcome.all_well()))
}
