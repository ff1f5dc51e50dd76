//! `just chaos`: kills, freezes and restarts brokers, their workers and its clients under load, and
//! counts what was lost.
//!
//! Exits with 1 if anything is off; the seed and the folder with all logs are then printed.
//! Otherwise it leaves nothing.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use giostra_common::signals;
use giostra_tests::chaos;

/// The exit status after SIGINT, as a shell reports it.
const INTERRUPTED: u8 = 130;

/// Hunts for faults with real processes
#[derive(Debug, Parser)]
struct Args {
    /// For how long faults are made
    #[arg(default_value_t = 30)]
    seconds: u64,

    /// Settles the plan of the faults, not what they strike; 0: a random one
    #[arg(default_value_t = 0)]
    seed: u64,

    /// How many brokers there are, which workers and clients know all
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    brokers: u8,

    /// Leave the folder with all logs behind also if all was well
    #[arg(long)]
    keep: bool,

    /// Give keys to all
    #[arg(long)]
    secure: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = if args.seed == 0 { rand::random::<u32>().into() } else { args.seed };
    println!("seed {seed}, {} s (the seed settles the plan of the faults, not what they strike)", args.seconds);
    match run(&args, seed) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, seed: u64) -> Result<ExitCode> {
    let shutdown = signals::shutdown()?;
    let report =
        chaos::run(Duration::from_secs(args.seconds), seed, args.brokers.into(), args.secure, args.keep, &shutdown);
    if shutdown.requested() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let report = report?;
    println!("{report}");
    Ok(if report.all_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
