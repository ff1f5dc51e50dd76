//! Durable jobs under a virtual clock: the core, a model of the store, clients that submit, and
//! workers, while the broker is killed, completions are lost, workers die and the disk fails.
//!
//! Each seed is one run. The model judges it: what was acknowledged is there, each result is stored
//! once, and at the end every job that was closed is finished with the results of all its requests.
//! `SIMULATION_SEEDS` and `SIMULATION_FIRST_SEED` are as in the other simulation.

#![allow(clippy::disallowed_methods)] // an instant to begin with

mod attempts;
mod bench;
mod scenarios;
mod store;
mod world;

use std::env;

use world::World;

/// The seeds of a run without the variable: some seconds.
const SEEDS: u64 = 2000;

#[test]
fn what_is_acknowledged_outlives_every_crash_and_is_answered_once() {
    let number = |variable| env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, seeds) = (number("SIMULATION_FIRST_SEED").unwrap_or(0), number("SIMULATION_SEEDS").unwrap_or(SEEDS));
    let mut crashes = 0;
    for seed in first..first + seeds {
        // The name of a failed run.
        println!("seed {seed}");
        crashes += World::run(seed);
    }
    assert!(crashes > seeds / 4, "{crashes} crashes in {seeds} runs");
}
