//! Runs seeds, as many as the environment asks for.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::counts::Counts;
use crate::trace::Trace;
use crate::world::World;

/// Runs `usual` seeds, unless the environment says otherwise. All kinds of events must have occurred
/// but those that `never` do. `command` is what to repeat a seed with.
pub fn run(usual: u64, never: &[&str], command: &str) {
    if let Some(seed) = number("SIMULATION_SEED") {
        let mut counts = Counts::default();
        World::run(seed, Trace::Print, &mut counts);
        println!("{counts}");
        return;
    }
    let (first, seeds) = (number("SIMULATION_FIRST_SEED").unwrap_or(0), number("SIMULATION_SEEDS").unwrap_or(usual));
    let mut counts = Counts::default();
    for seed in first..first + seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| World::run(seed, Trace::Off, &mut counts))) {
            println!("seed {seed} failed. To see all of it:");
            println!("SIMULATION_SEED={seed} {command} -- --nocapture");
            resume_unwind(panic);
        }
    }
    println!("{seeds} seeds. {counts}");
    counts.check(seeds, never);
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number, not {text:?}")))
}
