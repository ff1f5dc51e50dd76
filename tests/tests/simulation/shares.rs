//! A worker whose brokers all have work computes for all of them, and for each as much as for the
//! others.

use crate::clients::Client;
use crate::counts::Counts;
use crate::faults::Fault;
use crate::peers::Task;
use crate::plan::{Dice, Plan};
use crate::trace::Trace;
use crate::workers::Worker;
use crate::world::World;
use giostra_protocol::Priority;

/// The requests of each client.
const REQUESTS: usize = 400;

/// Without faults, and with a client at each broker, all in one pool.
fn plan(dice: &mut Dice) -> Plan {
    let mut plan = Plan { pools: 1, poison: 0, faults: vec![Fault::Inspect], ..Plan::draw(dice) };
    plan.brokers = dice.one_of(&[2, 3]);
    plan.clients = plan.brokers;
    let settings = &mut plan.settings;
    (settings.max_pending, settings.max_pending_bytes) = (1_000_000, 1 << 30);
    settings.max_client_pending = usize::MAX;
    plan
}

/// Runs until one of the brokers has nothing more to hand out. Returns the longest time for which a
/// worker has begun nothing for one of them, and how long that may be, in microseconds.
fn longest_wait(seed: u64) -> (u64, u64) {
    let mut dice = Dice::new(seed);
    let plan = plan(&mut dice);
    // A worker with one thread may compute for each of the others before.
    let limit = plan.settings.ping_interval.as_micros() as u64 + plan.brokers as u64 * plan.computing;
    let mut counts = Counts::default();
    let mut world = World::new(dice, plan, Trace::Off, &mut counts);
    world.calm = true;
    world.begin();
    (0..world.clients.len()).for_each(|number| world.clients[number].socket.broker = number);
    while !world.workers.iter().all(Worker::is_steady) || !world.clients.iter().all(Client::is_up) {
        world.step();
    }
    for number in 0..world.clients.len() {
        (0..REQUESTS).for_each(|_| world.ask(number, None, Priority::Normal, Task::Compute));
        world.pump(number);
    }
    let began = world.now;
    let mut longest = 0;
    let pending =
        |world: &World, broker: usize| world.brokers[broker].as_ref().map_or(0, |life| life.witness.pending());
    let mut all_have_work = false;
    loop {
        world.step();
        let have_work = (0..world.brokers.len()).all(|broker| pending(&world, broker) > 0);
        if all_have_work && !have_work {
            break;
        }
        all_have_work |= have_work;
        let served = world.workers.iter().flat_map(|worker| &worker.served);
        let waits = served.map(|&(last, _)| world.now - last.max(began));
        longest = longest.max(waits.max().unwrap_or(0));
    }
    for worker in &world.workers {
        let times: Vec<_> = worker.served.iter().map(|&(_, times)| times).collect();
        let equal = times.iter().sum::<u64>() / times.len() as u64;
        // Where there is too little to divide, it may be by chance.
        assert!(equal < 30 || times.iter().all(|&times| 2 * times >= equal), "{}: {times:?}", worker.name);
    }
    (longest, limit)
}

#[test]
fn brokers_with_work_get_their_share_of_each_worker_within_a_ping_interval() {
    for seed in 0..30 {
        let (longest, limit) = longest_wait(seed);
        assert!(longest <= limit, "seed {seed}: a broker with work got nothing of a worker for {longest} us");
    }
}
