//! What one peer may cost all others: tables, memory, the work of a turn, lines of the log.

#![allow(clippy::disallowed_methods)] // an instant to begin with, and what something took

use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_protocol::codec::Message;
use giostra_protocol::{
    Bytes, FromClient, FromWorker, Identity, MAX_MESSAGE_BYTES, Outcome, Registration, RequestId, Status, Ticket,
    ToClient, ToWorker, VERSION,
};

/// The inverse of rustc-hash's multiplier, modulo 2^64: its multiples hash to small numbers,
/// shifted.
const INVERSE: u64 = inverse(0xf135_7aea_2e62_a9c5);

/// By Newton's iteration: each step doubles the number of bits that are right.
const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut step) = (odd, 0);
    while step < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

/// A broker, its clock, and what has come out of it since that was taken.
struct World {
    broker: Broker,
    now: Instant,
    outputs: Vec<Output>,
}

fn peer(name: &str) -> Identity {
    Identity(Bytes::copy_from_slice(name.as_bytes()))
}

fn submit(session: u64, pool: &str, timeout_ms: u64, requests: Vec<(RequestId, Bytes)>) -> FromClient {
    FromClient::Submit { session, pool: pool.into(), timeout_ms, priority: Default::default(), wait: true, requests }
}

fn bodies(ids: impl IntoIterator<Item = u64>, bytes: usize) -> Vec<(RequestId, Bytes)> {
    ids.into_iter().map(|id| (RequestId(id), Bytes::from(vec![7; bytes]))).collect()
}

fn register(name: &str, pool: &str, operations: Vec<String>, threads: u32) -> FromWorker {
    Registration { name: name.into(), pool: pool.into(), operations, threads, ..Registration::default() }.into()
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { broker: Broker::new(settings, now), now, outputs: vec![] }
    }

    /// What has come out.
    fn settle(&mut self) -> &[Output] {
        self.outputs.clear();
        while let Some(output) = self.broker.poll_output(self.now) {
            self.outputs.push(output);
        }
        &self.outputs
    }

    /// The session of a client that says hello.
    fn client(&mut self, name: &str) -> u64 {
        let sessions = self.client_says(name, FromClient::Hello { version: VERSION, name: name.into() });
        let session = sessions.iter().find_map(|output| match output {
            Output::ToClient(_, ToClient::Welcome { session, .. }) => Some(*session),
            _ => None,
        });
        session.expect("a welcome")
    }

    fn client_says(&mut self, client: &str, message: FromClient) -> &[Output] {
        self.broker.handle_client(&peer(client), Rights::ALL, message, self.now);
        self.settle()
    }

    fn worker_says(&mut self, worker: &str, message: FromWorker) -> &[Output] {
        self.broker.handle_worker(&peer(worker), message, self.now);
        self.settle()
    }

    fn pass(&mut self, time: Duration) -> &[Output] {
        self.now += time;
        self.broker.handle_timeout(self.now);
        self.settle()
    }
}

fn rejected(outputs: &[Output]) -> usize {
    let busy = outputs.iter().filter_map(|output| match output {
        Output::ToClient(_, ToClient::Rejected(ids)) => Some(ids.len()),
        _ => None,
    });
    busy.sum()
}

fn answered(outputs: &[Output]) -> usize {
    let replies = outputs.iter().filter_map(|output| match output {
        Output::ToClient(_, ToClient::Replies(replies)) => Some(replies.len()),
        _ => None,
    });
    replies.sum()
}

fn refused(outputs: &[Output]) -> Option<&str> {
    outputs.iter().find_map(|output| match output {
        Output::ToClient(_, ToClient::Declined { reason, .. }) => Some(&**reason),
        _ => None,
    })
}

fn logged<'a>(outputs: &'a [Output], verb: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = outputs.iter().filter_map(|output| match output {
        Output::Log(event) => Some(event.to_string()),
        _ => None,
    });
    lines.filter(move |line| line.starts_with(verb))
}

fn statuses(outputs: &[Output]) -> Vec<(usize, &Status)> {
    let statuses = outputs.iter().filter_map(|output| match output {
        Output::Status(to, status) => Some((to.len(), &**status)),
        _ => None,
    });
    statuses.collect()
}

#[test]
fn ids_that_were_chosen_to_collide_take_no_longer_than_others() {
    const MANY: u64 = 65_536;
    let took = |multiplier: u64| {
        let mut world = World::new(Settings::default());
        let session = world.client("c");
        // The largest first: what follows it does not ascend, and is found by its hash.
        let ids = std::iter::once(u64::MAX).chain((1..MANY).map(|n| n.wrapping_mul(multiplier)));
        let requests = bodies(ids, 1);
        let begun = Instant::now();
        let outputs = world.client_says("c", submit(session, "p", 0, requests));
        assert_eq!((rejected(outputs), refused(outputs)), (0, None));
        let took = begun.elapsed();
        assert_eq!(world.broker.status(world.now).pending, MANY);
        took
    };
    let (honest, chosen) = (took(0x9e37_79b9_7f4a_7c15), took(INVERSE));
    assert!(chosen < 20 * honest + Duration::from_millis(200), "{chosen:?} instead of {honest:?}");
}

#[test]
fn a_crowd_of_requests_expires_in_many_turns_each_once() {
    const MANY: usize = 20_000;
    let mut world = World::new(Settings::default());
    let session = world.client("c");
    world.client_says("c", submit(session, "p", 10, bodies(1..=MANY as u64, 1)));
    let (mut all, mut turns) = (answered(world.pass(Duration::from_millis(20))), 1);
    while all < MANY {
        assert!(all <= turns * 4096, "{all} after {turns} turns");
        assert!(world.broker.poll_timeout().is_some_and(|due| due <= world.now), "the others are due at once");
        all += answered(world.pass(Duration::ZERO));
        turns += 1;
    }
    assert!(all == MANY && turns >= 5, "{all} after {turns} turns");
    assert_eq!(answered(world.pass(Duration::from_secs(1))), 0);
    world.broker.check();
}

#[test]
fn a_client_that_leaves_with_a_crowd_of_requests_is_taken_out_in_many_turns() {
    const MANY: usize = 100_000;
    let longest = |is_left: bool| {
        let mut world = World::new(Settings::default());
        let session = world.client("c");
        for first in (0..MANY as u64).step_by(50_000) {
            world.client_says("c", submit(session, "p", 3_600_000, bodies(first..first + 50_000, 1)));
        }
        let before = world.broker.work();
        let message = match is_left {
            true => FromClient::Disconnected,
            false => FromClient::Cancel((0..65_536).map(RequestId).collect()),
        };
        let begun = Instant::now();
        world.client_says("c", message);
        let (mut longest, work) = (begun.elapsed(), world.broker.work() - before);
        let mut turns = 0;
        while world.broker.poll_timeout().is_some_and(|due| due <= world.now) {
            let begun = Instant::now();
            world.pass(Duration::ZERO);
            (longest, turns) = (longest.max(begun.elapsed()), turns + 1);
        }
        println!("left {is_left}: {turns} turns, {work} at once, the longest {longest:?}");
        (turns, work)
    };
    let (turns, work) = longest(true);
    assert!(turns >= MANY / 4096 && work < 4096, "{turns} turns, and {work} requests in the first");
    // One message names no more than a batch, and the loop hears no other in its turn.
    assert_eq!(longest(false), (0, 65_536));
}

/// A broker with room for 8 MiB, and a worker with many threads that holds what was submitted to it
/// in several rounds, each of which has expired.
fn with_a_worker_that_does_not_read() -> (World, u64, usize) {
    let mut world = World::new(Settings { max_pending_bytes: 8 << 20, ..Settings::default() });
    let session = world.client("c");
    world.worker_says("w", register("w", "p", vec![], 1000));
    let (mut id, mut taken) = (0, 0);
    for _ in 0..10 {
        let requests = bodies(id..id + 10, 1 << 20);
        id += 10;
        let outputs = world.client_says("c", submit(session, "p", 10, requests));
        taken += 10 - rejected(outputs);
        world.pass(Duration::from_millis(20));
        world.broker.check();
    }
    (world, id, taken)
}

#[test]
fn bodies_that_a_worker_has_not_read_take_room_though_they_have_expired() {
    let (mut world, id, taken) = with_a_worker_that_does_not_read();
    assert!((6..=8).contains(&taken), "{taken} MiB of 8 were taken");
    // A pong to a ping behind them: it has read them, and computes.
    let pinged = world.pass(Duration::from_secs(1)).iter().find_map(|output| match output {
        Output::ToWorker(_, ToWorker::Ping { sequence }) => Some(*sequence),
        _ => None,
    });
    let sequence = pinged.expect("a ping");
    world.worker_says("w", FromWorker::Pong { sequence, computing: 1, waiting: 0, oldest_ms: 0 });
    world.broker.check();
    let session = world.client("c");
    let outputs = world.client_says("c", submit(session, "p", 10, bodies([id], 1 << 20)));
    assert_eq!((rejected(outputs), logged(outputs, "accept").count()), (0, 1));
    world.broker.check();
}

#[test]
fn a_silent_worker_that_has_not_read_much_loses_its_connection_and_gives_the_room_back() {
    let (mut world, id, _) = with_a_worker_that_does_not_read();
    // A client that leaves takes nothing along that libzmq still holds.
    world.client_says("c", FromClient::Disconnected);
    world.broker.check();
    let session = world.client("d");
    let outputs = world.client_says("d", submit(session, "p", 10, bodies([id], 4 << 20)));
    assert_eq!(rejected(outputs) + logged(outputs, "accept").count(), 1);
    let mut closed = 0;
    for _ in 0..5 {
        let outputs = world.pass(Duration::from_secs(1));
        closed += outputs.iter().filter(|output| **output == Output::Close(peer("w"))).count();
    }
    assert_eq!(closed, 1);
    world.broker.check();
    let outputs = world.client_says("d", submit(session, "q", 0, bodies([id + 1], 6 << 20)));
    assert_eq!(rejected(outputs), 0);
}

#[test]
fn one_client_makes_its_share_of_the_pools_and_another_may_still_have_one() {
    let mut world = World::new(Settings { max_pools: 10, ..Settings::default() });
    let (c, d) = (world.client("c"), world.client("d"));
    let mut made = 0;
    for number in 0..50 {
        let outputs = world.client_says("c", submit(c, &format!("pool-{number}"), 0, bodies([number], 1)));
        match refused(outputs) {
            Some(reason) => assert!(reason.contains("--max-pools"), "{reason}"),
            None => made += 1,
        }
    }
    assert_eq!(made, 8);
    world.broker.check();
    // Into a pool that is there it may submit, and the other makes one, also a worker.
    assert_eq!(refused(world.client_says("c", submit(c, "pool-0", 0, bodies([100], 1)))), None);
    assert_eq!(refused(world.client_says("d", submit(d, "other", 0, bodies([1], 1)))), None);
    let outputs = world.worker_says("w", register("w", "a-third", vec![], 1));
    assert!(outputs.iter().any(|output| matches!(output, Output::ToWorker(_, ToWorker::Welcome { .. }))));
    // What it gives up makes room.
    world.client_says("c", FromClient::Cancel((0..50).chain([100]).map(RequestId).collect()));
    world.broker.check();
    assert_eq!(refused(world.client_says("c", submit(c, "pool-49", 0, bodies([200], 1)))), None);
    world.broker.check();
}

#[test]
fn a_status_has_its_bounds_and_says_what_it_leaves_out() {
    let mut world = World::new(Settings { max_pools: 1_000_000, ..Settings::default() });
    let session = world.client("crowd");
    for number in 0..5100 {
        world.client(&format!("client-{number}"));
    }
    for number in 0..3000 {
        let pool = format!("{number:04}{}", "🎠".repeat(31));
        world.client_says("crowd", submit(session, &pool, 0, bodies([number], 1)));
    }
    let operations: Vec<_> = (0..128).map(|number| format!("{number:03}{}", "x".repeat(61))).collect();
    for number in 0..1000 {
        world.worker_says(&format!("w{number}"), register("w", "zzz", operations.clone(), 1));
    }
    let status = world.broker.status(world.now);
    assert_eq!((status.clients.len(), status.pools.len(), status.workers.len()), (5000, 1000, 1000));
    assert!(status.pools.iter().any(|pool| pool.name == "zzz"), "what has workers goes first");
    let named: usize = status.workers.iter().map(|worker| worker.operations.len()).sum();
    let left_out = status.left_out;
    assert_eq!((left_out.clients, left_out.pools, left_out.workers), (101, 2001, 0));
    assert_eq!(left_out.operations, (1000 * 128 - named) as u64);
    assert!(left_out.summary().starts_with("101 clients, 2001 pools, "), "{}", left_out.summary());
    let message = ToClient::<Bytes>::Status(Box::new(status)).encode();
    assert!(message.bytes() < MAX_MESSAGE_BYTES / 8, "{} bytes", message.bytes());
    assert!(ToClient::<Bytes>::decode(&message).is_ok());
    // More operations than that are no registration.
    let many = (0..256).map(|number| format!("{number:03}{}", "é".repeat(61))).collect();
    let outputs = world.worker_says("many", register("many", "zzz", many, 1));
    assert!(outputs.iter().any(|output| matches!(output, Output::ToWorker(_, ToWorker::Refused { .. }))));
}

#[test]
fn however_many_inspect_one_status_is_made_for_all_and_the_next_after_a_pause() {
    let mut world = World::new(Settings::default());
    (0..1000).for_each(|number| _ = world.client(&format!("client-{number}")));
    for round in 0..100 {
        for client in ["client-1", "client-2", "client-3"] {
            let message = FromClient::Inspect;
            world.broker.handle_client(&peer(client), Rights::ALL, message, world.now);
        }
        let statuses: Vec<_> = statuses(world.settle()).iter().map(|(askers, _)| *askers).collect();
        assert_eq!(statuses, if round == 0 { vec![3] } else { vec![] });
    }
    let due = world.broker.poll_timeout().expect("somebody waits");
    assert!(due > world.now && due <= world.now + Duration::from_millis(250), "after {:?}", due - world.now);
    // One of them has left.
    world.client_says("client-1", FromClient::Disconnected);
    world.now = due;
    assert_eq!(statuses(world.settle()).iter().map(|(askers, _)| *askers).collect::<Vec<_>>(), [2]);
    assert!(statuses(world.pass(Duration::from_secs(1))).is_empty(), "nobody has asked since");
}

#[test]
fn what_is_done_for_nobody_fills_no_log_and_is_counted() {
    let mut world = World::new(Settings::default());
    let session = world.client("c");
    world.worker_says("w", register("w", "p", vec![], 1));
    let mut lines = Vec::new();
    for id in 0..1000 {
        let stale = submit(session + 1, "p", 0, bodies([id], 1));
        lines.extend(logged(world.client_says("c", stale), "stale").collect::<Vec<_>>());
        let mut nobody = submit(session, "q", 0, bodies([id], 1));
        if let FromClient::Submit { wait, .. } = &mut nobody {
            *wait = false;
        }
        lines.extend(logged(world.client_says("c", nobody), "no-worker").collect::<Vec<_>>());
        let late = FromWorker::Replies(vec![(Ticket(id), Outcome::Error("late".into()))]);
        lines.extend(logged(world.worker_says("w", late), "discard").collect::<Vec<_>>());
    }
    assert!((1..=10).contains(&lines.len()), "{} lines", lines.len());
    lines.extend(world.client_says("c", FromClient::Disconnected).iter().filter_map(|output| match output {
        Output::Log(event) => Some(event.to_string()),
        _ => None,
    }));
    let sum = |verb: &str| {
        let counts = lines.iter().filter(|line| line.starts_with(verb)).map(|line| line.rsplit('=').next().unwrap());
        counts.map(|count| count.parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("stale "), sum("no-worker ")), (1000, 1000));
}
