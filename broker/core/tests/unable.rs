//! Workers that can compute nothing for now, and turns that wait: what the core makes of them.

mod world;

use std::time::Duration;

use giostra_core::config::Settings;
use giostra_core::policy::rotation::Rotation;
use giostra_protocol::{Bytes, Failure, FromClient, FromWorker, Outcome, RequestId, Status, Ticket, code};
use world::{World, body, peer, register};

fn unable(tickets: impl IntoIterator<Item = Ticket>) -> FromWorker {
    FromWorker::Unable { reason: "no\nprogram".into(), tickets: tickets.into_iter().collect() }
}

/// A broker with the client `c`.
fn with_client(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.client("c");
    world
}

impl World {
    fn enter(&mut self, worker: &str, window: u32) {
        self.worker_says(worker, register(worker, window));
    }

    fn ask(&mut self, ids: impl IntoIterator<Item = u64>, timeout_ms: u64, wait: bool) {
        let requests = ids.into_iter().map(|id| (RequestId(id), body(id))).collect();
        let (session, pool) = (self.sessions["c"], "p".into());
        self.client_says(
            "c",
            FromClient::Submit { session, pool, timeout_ms, priority: Default::default(), wait, requests },
        );
    }

    fn answer(&mut self, worker: &str, ticket: Ticket) {
        self.worker_says(worker, FromWorker::Replies(vec![(ticket, Outcome::Ok(Bytes::new()))]));
    }

    /// The tickets that this worker was handed.
    fn of(&self, worker: &str) -> Vec<Ticket> {
        self.held.iter().filter(|(to, ..)| to == worker).map(|&(_, ticket, _)| ticket).collect()
    }

    fn status(&mut self) -> Status {
        self.broker.status(self.now)
    }

    /// The worker's state and reason.
    fn state(&mut self, worker: &str) -> (String, String) {
        let status = self.status().workers.into_iter().find(|status| status.name == worker).unwrap();
        (status.state, status.unable)
    }

    /// Returns the number of `NoWorker` messages to clients.
    fn nobody(&self) -> usize {
        self.sent.iter().filter(|sent| sent.contains(" NoWorker ")).count()
    }

    fn has_logged(&self, line: &str) -> bool {
        self.log.iter().any(|logged| logged == line)
    }
}

#[test]
fn what_an_unable_worker_hands_back_goes_to_the_next_seats_before_newer_ones_and_no_more_goes_to_it() {
    let mut world = with_client(Settings::default());
    world.enter("a", 2);
    world.enter("b", 4);
    world.ask(1..=5, 0, true);
    assert_eq!((world.of("a").len(), world.of("b").len()), (2, 2), "a is full, and the turn is a's");
    let held = world.of("a");
    world.worker_says("a", unable(held));
    assert!(world.has_logged("unable a w1 returned=2 c1#1..3/2 reason=no program"), "{:?}", world.log);
    assert!(world.has_logged("redispatch b w2 t5..6 c1#1..3/2"), "{:?}", world.log);
    assert_eq!(world.state("a"), ("unable".into(), "no program".into()));
    assert_eq!(world.status().pools[0].ring, [2]);
    world.of("b").into_iter().for_each(|ticket| world.answer("b", ticket));
    world.ask(6..=8, 0, true);
    assert_eq!(world.of("a").len(), 2, "it is handed nothing more");
    world.of("b").into_iter().for_each(|ticket| world.answer("b", ticket));
    assert_eq!(world.replies.len(), 8);
    world.worker_says("a", FromWorker::Able);
    world.worker_says("a", FromWorker::Able);
    assert!(world.has_logged("able a w1 seats=2"), "{:?}", world.log);
    assert_eq!((world.state("a"), world.status().pools[0].ring.clone()), (("idle".into(), String::new()), vec![2, 1]));
    world.ask(9..=10, 0, true);
    assert_eq!(world.of("a").len(), 3);
}

#[test]
fn handing_back_counts_towards_no_attempts() {
    let mut world = with_client(Settings { max_attempts: 1, ..Settings::default() });
    world.enter("a", 0);
    world.ask([1], 0, true);
    for _ in 0..10 {
        let ticket = *world.of("a").last().unwrap();
        world.worker_says("a", unable([ticket]));
        world.worker_says("a", FromWorker::Able);
    }
    let ticket = *world.of("a").last().unwrap();
    world.answer("a", ticket);
    assert_eq!(world.outcome("c", 1), [&Outcome::Ok(Bytes::new())]);
}

#[test]
fn an_only_worker_that_is_unable_is_waited_for_and_a_time_limit_says_why() {
    let mut world = with_client(Settings::default());
    world.enter("a", 0);
    world.worker_says("a", unable([]));
    // Requests that would not wait for a worker wait for this one, as for a busy one.
    world.ask([1], 0, false);
    world.ask([2], 100, true);
    assert_eq!(world.nobody(), 0);
    world.pass(Duration::from_millis(100));
    let Failure { code, message } = world.failure("c", 2);
    assert!(code == code::EXPIRED && message.contains("can compute nothing for now"), "{message}");
    world.worker_says("a", FromWorker::Able);
    let ticket = world.of("a")[0];
    world.answer("a", ticket);
    assert_eq!(world.replies.len(), 2);
    // One that leaves is not waited for.
    world.worker_says("a", unable([]));
    world.worker_says("a", FromWorker::Leave);
    world.ask([3], 0, false);
    assert_eq!(world.nobody(), 1);
}

#[test]
fn tickets_that_are_not_its_own_or_not_wanted_any_more_are_left_alone_and_who_leaves_may_hand_back() {
    let mut world = with_client(Settings::default());
    world.enter("a", 0);
    world.enter("b", 0);
    world.ask(1..=4, 0, true);
    world.client_says("c", FromClient::Cancel(vec![RequestId(1)]));
    let (of_a, of_b) = (world.of("a"), world.of("b"));
    world.worker_says("a", FromWorker::Leave);
    world.worker_says("a", unable([of_a[0], of_a[1], of_b[0], Ticket(u64::MAX), of_a[1]]));
    assert!(world.has_logged("unable a w1 returned=1 c1#3 reason=no program"), "{:?}", world.log);
    assert!(
        world.has_logged("discard a w1 late=3 c1#1") && world.has_logged("left a w1 discarded=4 workers=1"),
        "{:?}",
        world.log
    );
    world.worker_says("a", unable([of_b[0]]));
    world.worker_says("stranger", FromWorker::Able);
    world.of("b").into_iter().for_each(|ticket| world.answer("b", ticket));
    let mut answered = world.answered();
    answered.sort_unstable();
    assert_eq!(answered, [2, 3, 4]);
}

#[test]
fn the_status_says_whom_strict_rotation_waits_for_and_since_when_while_others_have_room() {
    let mut world = with_client(Settings::default());
    world.enter("a", 1);
    world.enter("b", 3);
    let waits = |world: &mut World| {
        let pool = world.status().pools.swap_remove(0);
        (pool.waits_for, pool.waits_ms)
    };
    world.ask(1..=2, 0, true);
    assert_eq!(waits(&mut world), (None, 0), "nothing is pending");
    world.pass(Duration::from_millis(500));
    world.ask(3..=4, 0, true);
    assert_eq!(waits(&mut world), (Some(1), 0));
    world.pass(Duration::from_millis(700));
    world.ask([5], 0, true);
    assert_eq!(waits(&mut world), (Some(1), 700), "what comes later does not begin it anew");
    let ticket = world.of("a")[0];
    world.answer("a", ticket);
    assert_eq!(waits(&mut world), (Some(1), 0), "it has had its turn, and b too: now it is a's again");
    // Waiting for workers that are all busy is not reported.
    world.ask(6..=20, 0, true);
    let ticket = world.of("a")[1];
    world.answer("a", ticket);
    assert_eq!((world.of("b").len(), waits(&mut world)), (3, (None, 0)));
    // Nor when the worker is gone, before anything is settled.
    world.broker.handle_worker(&peer("a"), FromWorker::Disconnected, world.now);
    assert_eq!(waits(&mut world), (None, 0));
    let mut available = with_client(Settings { rotation: Rotation::Available, ..Settings::default() });
    available.enter("a", 1);
    available.ask(1..=2, 0, true);
    available.enter("b", 1);
    assert_eq!(waits(&mut available), (None, 0));
}

#[test]
fn a_worker_that_changes_its_mind_without_end_fills_no_log_and_gets_its_seat_with_the_next_ping() {
    let mut world = with_client(Settings::default());
    world.enter("a", 1);
    for round in 0..1000 {
        let reason = format!("reason {round}");
        world.worker_says("a", FromWorker::Unable { reason: reason.clone(), tickets: vec![] });
        world.worker_says("a", FromWorker::Able);
        // The last one is the one that counts.
        if round < 999 {
            world.worker_says("a", FromWorker::Unable { reason: "another".into(), tickets: vec![] });
            world.worker_says("a", FromWorker::Able);
        }
    }
    let lines = world.log.iter().filter(|line| line.starts_with("able ") || line.starts_with("unable ")).count();
    assert!((2..=30).contains(&lines), "{lines} lines");
    assert_eq!(world.state("a").0, "unable");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state("a").0, "idle");
    world.ask([1], 0, true);
    assert_eq!(world.of("a").len(), 1);
}

#[test]
fn a_worker_that_registers_without_end_is_told_to_wait_and_may_later() {
    let mut world = with_client(Settings::default());
    (0..1000).for_each(|_| world.enter("a", 1));
    assert_eq!(world.log.iter().filter(|line| line.starts_with("joined ")).count(), 100);
    assert!(world.sent.last().is_some_and(|sent| sent.contains("wait a second")), "{:?}", world.sent.last());
    assert!(world.status().workers.is_empty());
    world.pass(Duration::from_secs(1));
    world.enter("a", 1);
    assert_eq!(world.status().workers.len(), 1);
    // Over another connection, or when this one is made anew, it is another's.
    world.enter("b", 1);
    world.worker_says("a", FromWorker::Disconnected);
    world.enter("a", 1);
    assert_eq!(world.status().workers.len(), 2);
}
