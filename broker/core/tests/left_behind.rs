//! Clients that leave with much: gone at once for everybody, and taken out of the tables in parts.

mod world;

use std::time::Duration;

use giostra_core::config::Settings;
use giostra_protocol::{FromClient, FromWorker, Outcome, RequestId};
use world::{World, body, settings};

/// A broker that takes two requests a turn out of its tables, the client `c` with the requests 1 to
/// 9, of which worker 1 holds the first three, and worker 2 the next three if there is one.
fn with_much(workers: usize, timeout_ms: u64) -> World {
    let mut world = World::new(Settings { freed_at_once: 2, ..settings() });
    world.client("c");
    (1..=workers).for_each(|worker| world.join_with_window(&worker.to_string(), 3));
    let requests = (1..=9).map(|id| (RequestId(id), body(id))).collect();
    world.submit_to("p", "c", requests, timeout_ms);
    world
}

impl World {
    /// Pending, in flight, cancelled in all.
    fn counts(&mut self) -> (u64, u64, u64) {
        let status = self.broker.status(self.now);
        (status.pending, status.in_flight, status.totals.cancelled)
    }

    /// Turns until nothing is left to be taken out.
    fn turns(&mut self) -> usize {
        let mut turns = 0;
        while self.broker.poll_timeout().is_some_and(|due| due <= self.now) {
            self.pass(Duration::ZERO);
            turns += 1;
        }
        turns
    }
}

#[test]
fn a_client_that_leaves_with_much_is_gone_at_once_and_none_of_its_requests_is_dispatched() {
    let mut world = with_much(1, 0);
    world.client("d");
    world.submit("d", [100]);
    world.client_says("c", FromClient::Disconnected);
    assert_eq!(
        world.logged("client-left"),
        ["client-left c1 cancelled=6 unwanted=3 clients=1 reason=connection broke"]
    );
    assert_eq!(world.counts(), (1, 0, 9), "only the other client's is left");
    let status = world.broker.status(world.now);
    assert_eq!((status.clients.len(), status.pools[0].pending, status.pool_totals[0].cancelled), (1, 1, 9));
    let cancel = "1 Cancel([Ticket(1001), Ticket(1002), Ticket(1003)])".to_string();
    assert!(world.sent.contains(&cancel), "its worker is sent the cancellation at once, too: {:?}", world.sent);
    (0..3).for_each(|_| world.reply("1"));
    assert_eq!(world.holding("1"), [100]);
    assert_eq!(world.logged("discard").len(), 3);
    assert_eq!(world.turns(), 3);
    world.reply("1");
    assert_eq!((world.answered(), world.counts()), (vec![100], (0, 0, 9)));
}

#[test]
fn a_client_that_comes_back_meanwhile_may_use_the_same_numbers() {
    let mut world = with_much(1, 0);
    world.client_says("c", FromClient::Disconnected);
    world.client("c");
    world.submit("c", 1..=9);
    assert_eq!(world.counts(), (9, 0, 9), "three places of the worker's window are taken by what is not wanted");
    world.client_says("c", FromClient::Cancel([9].map(RequestId).into()));
    world.pass(Duration::ZERO);
    let held = std::mem::take(&mut world.held);
    for (worker, ticket, id) in held {
        world.reply_to(&worker, ticket, id);
    }
    while !world.held.is_empty() {
        world.reply("1");
    }
    assert_eq!(world.answered(), [1, 2, 3, 4, 5, 6, 7, 8]);
    world.turns();
    assert_eq!(world.counts(), (0, 0, 10));
}

#[test]
fn what_a_lost_or_unable_worker_gives_back_meanwhile_is_not_a_client_s_that_has_left() {
    let mut world = with_much(2, 0);
    world.client_says("c", FromClient::Disconnected);
    let tickets = world.held.iter().filter(|(holder, ..)| holder == "2").map(|&(_, ticket, _)| ticket).collect();
    world.worker_says("2", FromWorker::Unable { reason: "no program".into(), tickets });
    world.lose("1");
    assert_eq!(world.logged("unable"), ["unable worker-2 w2 returned=0 reason=no program"]);
    assert_eq!(
        world.logged("dropped"),
        ["dropped worker-1 w1 returned=0 unwanted=3 discarded=0 workers=1 evidence=yes reason=connection broke"]
    );
    world.join("3");
    assert!(world.holding("3").is_empty());
    assert_eq!((world.turns(), world.counts()), (2, (0, 0, 9)));
}

#[test]
fn what_was_given_back_before_its_client_left_is_dispatched_to_nobody() {
    let mut world = with_much(1, 0);
    world.lose("1");
    world.client_says("c", FromClient::Disconnected);
    assert_eq!(
        world.logged("client-left"),
        ["client-left c1 cancelled=9 unwanted=0 clients=0 reason=connection broke"]
    );
    assert_eq!(world.counts(), (0, 0, 9));
    world.join("2");
    assert!(world.holding("2").is_empty());
    assert_eq!(world.turns(), 3);
}

#[test]
fn a_time_limit_that_passes_meanwhile_is_told_to_nobody() {
    let mut world = with_much(1, 10);
    world.client_says("c", FromClient::Disconnected);
    world.pass(Duration::from_millis(20));
    world.turns();
    assert!(world.logged("expire").is_empty() && world.replies.is_empty());
    assert_eq!(world.broker.status(world.now).totals.expired, 0);
    world.pass(Duration::from_millis(20));
    assert_eq!(world.counts(), (0, 0, 9));
}

#[test]
fn a_broker_that_closes_meanwhile_waits_for_nothing_of_a_client_that_has_left() {
    let mut world = with_much(1, 0);
    world.client_says("c", FromClient::Disconnected);
    world.broker.close();
    world.settle();
    assert_eq!(world.logged("closing"), ["closing in-flight=3"]);
    let held = std::mem::take(&mut world.held);
    for (worker, ticket, id) in held {
        world.worker_says(&worker, FromWorker::Replies(vec![(ticket, Outcome::Ok(body(id)))]));
    }
    assert!(world.broker.has_finished());
}

#[test]
fn what_is_left_behind_takes_room_until_it_is_out_of_the_tables() {
    let mut world = World::new(Settings { freed_at_once: 2, max_pending: 10, ..settings() });
    world.client("c");
    world.submit("c", 1..=8);
    world.client_says("c", FromClient::Disconnected);
    world.client("d");
    world.submit("d", 1..=10);
    let (pending, ..) = world.counts();
    assert!((1..=4).contains(&pending), "{pending} besides the eight that are left behind");
    world.turns();
    world.submit("d", 11..=18);
    assert_eq!(world.counts().0, 8);
}
