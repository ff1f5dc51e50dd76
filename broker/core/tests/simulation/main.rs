//! The core under a virtual clock, with a network, workers and clients that fail in every way their
//! real ones do.
//!
//! Each seed is one run: it draws settings, a crowd of peers and a schedule of faults, drives the
//! shipping core as the shell does ([`world`]), and ends when the faults have stopped and every
//! client has its replies. A [`witness`] judges each run by what goes into the core and what comes
//! out of it. What is not here: sockets, bytes on the wire, the log's text, and the shell's own
//! code, which [`world`] imitates.
//!
//! `SIMULATION_SEEDS=20000` runs more seeds than usual, `SIMULATION_FIRST_SEED=..` others, and
//! `SIMULATION_SEED=17` only that one, and prints everything that happens in it.

mod clients;
mod counts;
mod faults;
mod network;
mod plan;
mod queues;
mod seats;
mod trace;
mod witness;
mod workers;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use counts::Counts;
use trace::Trace;
use world::World;

/// The seeds of a run without these variables: some twenty seconds on one core.
const SEEDS: u64 = 3000;

/// With fewer seeds than this a rare kind of event may be missing by chance.
const SEEDS_FOR_ALL_KINDS: u64 = 500;

#[test]
fn the_promises_hold_whatever_fails() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let mut counts = Counts::default();
        World::run(seed, Trace::Print, &mut counts);
        println!("{counts}");
        return;
    }
    let (first, seeds) = (number("SIMULATION_FIRST_SEED").unwrap_or(0), number("SIMULATION_SEEDS").unwrap_or(SEEDS));
    let mut counts = Counts::default();
    for seed in first..first + seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| World::run(seed, Trace::Off, &mut counts))) {
            println!("seed {seed} failed. To see all of it:");
            println!("SIMULATION_SEED={seed} cargo test -p giostra-core --test simulation promises -- --nocapture");
            resume_unwind(panic);
        }
    }
    println!("{seeds} seeds. {counts}");
    counts.check(seeds >= SEEDS_FOR_ALL_KINDS);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let run = || World::run(seed, Trace::Digest(0), &mut Counts::default());
        assert_eq!(run(), run(), "seed {seed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number, not {text:?}")))
}
