//! The workers' and the clients' own decisions, and those of several brokers, under a virtual clock,
//! with everything that fails in the simulation of the core.
//!
//! It is that simulation, in `broker/core/tests/simulation/`: world, network, faults and the witness of
//! each broker. In place of its models of workers and clients there are the sessions of the real ones,
//! which know one, two or three brokers. Each broker is judged by itself; each client that lives to the
//! end has exactly one reply to all that it asked for.
//!
//! The variables are those of that simulation: `SIMULATION_SEEDS`, `SIMULATION_FIRST_SEED` and
//! `SIMULATION_SEED`.

mod clients;
#[path = "../../../broker/core/tests/simulation/counts.rs"]
mod counts;
#[path = "../../../broker/core/tests/simulation/faults.rs"]
mod faults;
#[path = "../../../broker/core/tests/simulation/network.rs"]
mod network;
#[path = "../../../broker/core/tests/simulation/peers.rs"]
mod peers;
#[path = "../../../broker/core/tests/simulation/plan.rs"]
mod plan;
#[path = "../../../broker/core/tests/simulation/queues.rs"]
mod queues;
#[path = "../../../broker/core/tests/simulation/seats.rs"]
mod seats;
#[path = "../../../broker/core/tests/simulation/seeds.rs"]
mod seeds;
mod shares;
#[path = "../../../broker/core/tests/simulation/trace.rs"]
mod trace;
#[path = "../../../broker/core/tests/simulation/witness.rs"]
mod witness;
mod workers;
#[path = "../../../broker/core/tests/simulation/world.rs"]
mod world;

use counts::Counts;
use trace::Trace;
use world::World;

/// The numbers of brokers that there may be.
const BROKERS: &[usize] = &[1, 2, 2, 3];

/// The seeds of a run without the variables: some seconds on one core.
const SEEDS: u64 = 300;

#[test]
fn every_request_is_answered_once_whatever_fails_of_several_brokers() {
    // What the real ones never do.
    let never = ["answered-resent", "client-resends", "worker-grace-ends"];
    seeds::run(SEEDS, &never, "cargo test -p giostra-tests --test simulation every_request");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let run = || World::run(seed, Trace::Digest(0), &mut Counts::default());
        assert_eq!(run(), run(), "seed {seed}");
    }
}
