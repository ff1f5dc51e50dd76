//! `just bench`: Giostra beside the bare `zmq_proxy`, in turns on this machine, and Giostra's own
//! bounds; see `docs/performance.md`.
//!
//! `cargo bench -p giostra-tests --bench performance -- [SCENARIO..] [--rounds N] [--write]`. It
//! measures and does not judge: the exit status is 1 if a request was lost, answered wrongly or
//! twice, or if the log does not prove the promises, whatever the figures.

mod beside;
mod durable;
mod failover;
mod growth;
mod sides;
mod watched;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use giostra_tests::performance::machine::Machine;
use giostra_tests::performance::{Own, Report, plot, report};

/// Where the results go, from this package's folder on.
const DOCUMENT: &str = "../docs/performance.md";
const PLOT: &str = "../docs/performance.svg";

/// Measures Giostra beside `zmq_proxy`.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Only those whose name contains one of these
    scenarios: Vec<String>,

    /// How often each side is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Write docs/performance.md and docs/performance.svg although not all scenarios were run
    #[arg(long)]
    write: bool,

    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

type Scenario = fn(usize, &mut Report) -> Result<()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("W=4096", beside::window_4096),
    ("W=64", beside::window_64),
    ("W=1", beside::window_1),
    ("64 clients", beside::clients_64),
    ("1000 clients", beside::clients_1000),
    ("bodies", beside::bodies),
    ("keys", beside::keys),
    ("rest", beside::rest),
    ("log", growth::log),
    ("watched", watched::watched),
    ("workers", growth::workers),
    ("pending", growth::pending),
    ("memory", growth::memory),
    ("killed", failover::killed),
    ("frozen", failover::frozen),
    ("restart", failover::restart),
    ("store", durable::unconcerned),
    ("durable submits", durable::submits),
    ("durable jobs", durable::whole),
    ("ten million", durable::large),
    ("interactive", durable::interactive),
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("performance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let wanted = |name: &str| args.scenarios.is_empty() || args.scenarios.iter().any(|part| name.contains(&**part));
    let chosen: Vec<_> = SCENARIOS.iter().filter(|(name, _)| wanted(name)).collect();
    let names: Vec<_> = SCENARIOS.iter().map(|&(name, _)| name).collect();
    ensure!(!chosen.is_empty(), "no such scenario; there are: {}", names.join(", "));
    let (machine, began) = (Machine::here(), Instant::now());
    println!("{machine}; {} rounds of each side, in turns", args.rounds);
    let mut report = Report::default();
    for (name, scenario) in &chosen {
        println!("{name}");
        scenario(args.rounds as usize, &mut report).with_context(|| format!("scenario {name}"))?;
    }
    println!("\n{}\nin {:.0} s", report.markdown(), began.elapsed().as_secs_f64());
    if args.write || chosen.len() == SCENARIOS.len() {
        write(&report, &machine, args.rounds)?;
    }
    Ok(())
}

/// Says and keeps a result.
fn note(report: &mut Report, own: Own) {
    println!("    {own}");
    report.own.push(own);
}

/// Puts the tables and the plot where the documentation shows them.
fn write(report: &Report, machine: &Machine, rounds: u32) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (document, plot) = (folder.join(DOCUMENT), folder.join(PLOT));
    let text = fs::read_to_string(&document).with_context(|| format!("can't read {}", document.display()))?;
    let times = if rounds == 1 {
        "once".into()
    } else {
        format!("{rounds} times, in turns: the median, and in brackets the spread")
    };
    let measured = format!("{machine}. Each side {times}. Bold: the goal is reached.\n\n{}", report.markdown());
    fs::write(&document, report::exchanged(&text, &measured)?)?;
    fs::write(&plot, plot::svg(&report.beside, &machine.to_string()))?;
    println!("written: docs/performance.md, docs/performance.svg");
    Ok(())
}
