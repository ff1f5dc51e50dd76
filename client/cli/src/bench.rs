//! `giostra bench`: measures requests per second and latency against a running broker.
//!
//! All clients live in one thread over one libzmq context, and as little as possible is done for
//! each request: the client shares the machine with what it measures. The load is in
//! `bench/load.rs`, the requests are in `bench/work.rs`, the printed outcome in `bench/outcome.rs`.

mod args;
mod load;
mod outcome;
mod work;

use std::io::Write;

use giostra_client::Error;
use giostra_transport::shutdown::Shutdown;

use super::common::CommonArgs;
use super::exit::Exit;
use super::printed::stdout;
use super::summary::Summary;
use super::written::many;
pub use args::Bench;
use load::{Load, Span};
use work::Work;

/// Runs the load, and succeeds if every request was answered and every result was right.
pub fn run(bench: &Bench, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let work = bench.size.map_or_else(Work::add, Work::echo);
    let mut load = Load::connect(bench, common, shutdown)?;
    if !common.json {
        let clients = many(bench.clients.into(), "client");
        writeln!(stdout(), "{clients}, each with {} requests at a time: {work}", bench.window)?;
    }
    let mut summary = Summary::default();
    let mut ended = load.run(&work, Span { requests: bench.warm_up, length: None }, &mut summary);
    if ended.is_ok() && summary.all_well() {
        summary = Summary::default();
        let span = Span { requests: bench.requests.unwrap_or(u64::MAX), length: bench.length() };
        ended = load.run(&work, span, &mut summary);
    }
    if let Err(Error::Interrupted) = &ended {
        load.cancel_all()?;
    }
    summary.duplicated = load.duplicated();
    summary.finish(ended, outcome::json(&summary, bench, &work), &outcome::text(&summary), common)
}
