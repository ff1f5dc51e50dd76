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
mod peers;
mod plan;
mod queues;
mod seats;
mod seeds;
mod trace;
mod witness;
mod workers;
mod world;

use counts::Counts;
use trace::Trace;
use world::World;

/// The numbers of brokers that there may be: these workers and clients know one. Those that know several
/// are the real ones', in `tests/tests/simulation/`, which shares all else.
const BROKERS: &[usize] = &[1];

/// The seeds of a run without these variables: some twenty seconds on one core.
const SEEDS: u64 = 3000;

#[test]
fn the_promises_hold_whatever_fails() {
    // With a single broker there is no other to go to.
    seeds::run(SEEDS, &["broker-given-up"], "cargo test -p giostra-core --test simulation promises");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let run = || World::run(seed, Trace::Digest(0), &mut Counts::default());
        assert_eq!(run(), run(), "seed {seed}");
    }
}
