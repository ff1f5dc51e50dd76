//! Workers that can compute nothing for now, and turns that wait: what the core makes of them.

#![allow(clippy::disallowed_methods)] // an instant to begin with

use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_core::rotation::Rotation;
use giostra_protocol::Identity;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, Outcome, RequestId, Status, Ticket, ToClient, ToWorker, VERSION, code,
};

/// A broker with one client, and what has come out of it.
struct World {
    broker: Broker,
    now: Instant,
    session: u64,
    /// The requests that each worker was handed, in order: its name and the ticket.
    handed: Vec<(String, Ticket)>,
    replies: Vec<(u64, Outcome)>,
    nobody: usize,
    log: Vec<String>,
}

fn peer(name: &str) -> Identity {
    Identity(Bytes::copy_from_slice(name.as_bytes()))
}

fn unable(tickets: impl IntoIterator<Item = Ticket>) -> FromWorker {
    FromWorker::Unable { reason: "no\nprogram".into(), tickets: tickets.into_iter().collect() }
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let broker = Broker::new(settings, now);
        let mut world = Self { broker, now, session: 0, handed: vec![], replies: vec![], nobody: 0, log: vec![] };
        world.client_says(FromClient::Hello { version: VERSION, name: "c".into() });
        world
    }

    fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output(self.now) {
            match output {
                Output::Log(event) => self.log.push(event.to_string()),
                Output::ToWorker(to, ToWorker::Dispatch(requests)) => {
                    let to = String::from_utf8(to.0.to_vec()).unwrap();
                    self.handed.extend(requests.into_iter().map(|(ticket, _)| (to.clone(), ticket)));
                }
                Output::ToClient(_, ToClient::Welcome { session, .. }) => self.session = session,
                Output::ToClient(_, ToClient::Nobody { requests, .. }) => self.nobody += requests.len(),
                Output::ToClient(_, ToClient::Replies(replies)) => {
                    self.replies.extend(replies.into_iter().map(|reply| (reply.id.0, reply.outcome)));
                }
                _ => {}
            }
        }
        self.broker.check();
    }

    fn client_says(&mut self, message: FromClient) {
        self.broker.handle_client(&peer("c"), Rights::ALL, message, self.now);
        self.settle();
    }

    fn worker_says(&mut self, worker: &str, message: FromWorker) {
        self.broker.handle_worker(&peer(worker), message, self.now);
        self.settle();
    }

    fn join(&mut self, worker: &str, window: u32) {
        let (name, pool) = (worker.into(), "p".into());
        let register =
            FromWorker::Register { version: VERSION, name, pool, operations: vec![], threads: 1, window, instance: 0 };
        self.worker_says(worker, register);
    }

    fn submit(&mut self, ids: impl IntoIterator<Item = u64>, timeout_ms: u64, wait: bool) {
        let requests = ids.into_iter().map(|id| (RequestId(id), Bytes::new())).collect();
        let (session, pool) = (self.session, "p".into());
        self.client_says(FromClient::Submit { session, pool, timeout_ms, wait, requests });
    }

    fn reply(&mut self, worker: &str, ticket: Ticket) {
        self.worker_says(worker, FromWorker::Replies(vec![(ticket, Outcome::Ok(Bytes::new()))]));
    }

    fn time_passes(&mut self, time: Duration) {
        self.now += time;
        self.broker.handle_timeout(self.now);
        self.settle();
    }

    /// The tickets that this worker was handed.
    fn of(&self, worker: &str) -> Vec<Ticket> {
        self.handed.iter().filter(|(to, _)| to == worker).map(|&(_, ticket)| ticket).collect()
    }

    fn status(&mut self) -> Status {
        self.broker.status(self.now)
    }

    /// The worker's state and reason.
    fn state(&mut self, worker: &str) -> (String, String) {
        let told = self.status().workers.into_iter().find(|told| told.name == worker).unwrap();
        (told.state, told.unable)
    }

    fn has_logged(&self, line: &str) -> bool {
        self.log.iter().any(|logged| logged == line)
    }
}

#[test]
fn what_an_unable_worker_hands_back_goes_to_the_next_seats_before_newer_ones_and_no_more_goes_to_it() {
    let mut world = World::new(Settings::default());
    world.join("a", 2);
    world.join("b", 4);
    world.submit(1..=5, 0, true);
    assert_eq!((world.of("a").len(), world.of("b").len()), (2, 2), "a is full, and the turn is a's");
    let held = world.of("a");
    world.worker_says("a", unable(held));
    assert!(world.has_logged("unable a w1 returned=2 c1#1..3/2 reason=no program"), "{:?}", world.log);
    assert!(world.has_logged("redispatch b w2 t5..6 c1#1..3/2"), "{:?}", world.log);
    assert_eq!(world.state("a"), ("unable".into(), "no program".into()));
    assert_eq!(world.status().pools[0].ring, [2]);
    world.of("b").into_iter().for_each(|ticket| world.reply("b", ticket));
    world.submit(6..=8, 0, true);
    assert_eq!(world.of("a").len(), 2, "it is handed nothing more");
    world.of("b").into_iter().for_each(|ticket| world.reply("b", ticket));
    assert_eq!(world.replies.len(), 8);
    world.worker_says("a", FromWorker::Able);
    world.worker_says("a", FromWorker::Able);
    assert!(world.has_logged("able a w1 seats=2"), "{:?}", world.log);
    assert_eq!((world.state("a"), world.status().pools[0].ring.clone()), (("idle".into(), String::new()), vec![2, 1]));
    world.submit(9..=10, 0, true);
    assert_eq!(world.of("a").len(), 3);
}

#[test]
fn handing_back_counts_towards_no_attempts() {
    let mut world = World::new(Settings { max_attempts: 1, ..Settings::default() });
    world.join("a", 0);
    world.submit([1], 0, true);
    for _ in 0..10 {
        let ticket = *world.of("a").last().unwrap();
        world.worker_says("a", unable([ticket]));
        world.worker_says("a", FromWorker::Able);
    }
    let ticket = *world.of("a").last().unwrap();
    world.reply("a", ticket);
    assert_eq!(world.replies, [(1, Outcome::Ok(Bytes::new()))]);
}

#[test]
fn an_only_worker_that_is_unable_is_waited_for_and_a_time_limit_says_why() {
    let mut world = World::new(Settings::default());
    world.join("a", 0);
    world.worker_says("a", unable([]));
    // Who would not wait for a worker waits for this one, as for a busy one.
    world.submit([1], 0, false);
    world.submit([2], 100, true);
    assert_eq!(world.nobody, 0);
    world.time_passes(Duration::from_millis(100));
    let [(2, Outcome::Error(Failure { code, message }))] = &world.replies[..] else { panic!("{:?}", world.replies) };
    assert!(code == code::EXPIRED && message.contains("can compute nothing for now"), "{message}");
    world.worker_says("a", FromWorker::Able);
    let ticket = world.of("a")[0];
    world.reply("a", ticket);
    assert_eq!(world.replies.len(), 2);
    // One that leaves is not waited for.
    world.worker_says("a", unable([]));
    world.worker_says("a", FromWorker::Leave);
    world.submit([3], 0, false);
    assert_eq!(world.nobody, 1);
}

#[test]
fn tickets_that_are_not_its_own_or_not_wanted_any_more_are_left_alone_and_who_leaves_may_hand_back() {
    let mut world = World::new(Settings::default());
    world.join("a", 0);
    world.join("b", 0);
    world.submit(1..=4, 0, true);
    world.client_says(FromClient::Cancel(vec![RequestId(1)]));
    let (of_a, of_b) = (world.of("a"), world.of("b"));
    world.worker_says("a", FromWorker::Leave);
    world.worker_says("a", unable([of_a[0], of_a[1], of_b[0], Ticket(u64::MAX), of_a[1]]));
    assert!(world.has_logged("unable a w1 returned=1 c1#3 reason=no program"), "{:?}", world.log);
    assert!(world.has_logged("discard a w1 late=3 c1#1") && world.has_logged("left a w1"), "{:?}", world.log);
    world.worker_says("a", unable([of_b[0]]));
    world.worker_says("stranger", FromWorker::Able);
    world.of("b").into_iter().for_each(|ticket| world.reply("b", ticket));
    let mut answered: Vec<_> = world.replies.iter().map(|&(id, _)| id).collect();
    answered.sort_unstable();
    assert_eq!(answered, [2, 3, 4]);
}

#[test]
fn the_status_says_whom_strict_rotation_waits_for_and_since_when_while_others_have_room() {
    let mut world = World::new(Settings::default());
    world.join("a", 1);
    world.join("b", 3);
    let waits = |world: &mut World| {
        let pool = world.status().pools.swap_remove(0);
        (pool.waits_for, pool.waits_ms)
    };
    world.submit(1..=2, 0, true);
    assert_eq!(waits(&mut world), (None, 0), "nothing is pending");
    world.time_passes(Duration::from_millis(500));
    world.submit(3..=4, 0, true);
    assert_eq!(waits(&mut world), (Some(1), 0));
    world.time_passes(Duration::from_millis(700));
    world.submit([5], 0, true);
    assert_eq!(waits(&mut world), (Some(1), 700), "what comes later does not begin it anew");
    let ticket = world.of("a")[0];
    world.reply("a", ticket);
    assert_eq!(waits(&mut world), (Some(1), 0), "it has had its turn, and b too: now it is a's again");
    // Who waits for what all are busy with is not told of.
    world.submit(6..=20, 0, true);
    let ticket = world.of("a")[1];
    world.reply("a", ticket);
    assert_eq!((world.of("b").len(), waits(&mut world)), (3, (None, 0)));
    // Nor when the worker is gone, before anything is settled.
    world.broker.handle_worker(&peer("a"), FromWorker::Disconnected, world.now);
    assert_eq!(waits(&mut world), (None, 0));
    let mut available = World::new(Settings { rotation: Rotation::Available, ..Settings::default() });
    available.join("a", 1);
    available.submit(1..=2, 0, true);
    available.join("b", 1);
    assert_eq!(waits(&mut available), (None, 0));
}
