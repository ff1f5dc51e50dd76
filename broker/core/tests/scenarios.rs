//! The core, scenario by scenario: what a user would lose if it were wrong. No sockets, no clock,
//! no sleeping.

mod world;

use std::time::Duration;

use giostra_core::broker::Output;
use giostra_core::config::{Rights, Settings};
use giostra_core::peer_info::{Key, PeerInfo};
use giostra_core::policy::rotation::Rotation;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, MAX_BATCH, Outcome, Progress, RequestId, Ticket, ToClient, ToWorker,
    VERSION, code,
};
use world::{World, body, peer, register, settings};

/// One without a key.
fn peer_info(address: &str) -> PeerInfo {
    PeerInfo { address: address.into(), key: None }
}

fn pong(sequence: u64) -> FromWorker {
    FromWorker::Pong { sequence, computing: 0, waiting: 0, oldest_ms: 0 }
}

fn submit(session: u64, requests: Vec<(RequestId, Bytes)>) -> FromClient {
    FromClient::Submit { session, pool: "p".into(), timeout_ms: 0, wait: true, requests }
}

impl World {
    /// With the client `c` and the workers `1` to `count`.
    fn with_workers(count: usize) -> Self {
        let mut world = Self::new(settings());
        world.client("c");
        (1..=count).for_each(|number| world.join(&number.to_string()));
        world
    }

    fn join_as(&mut self, worker: &str, name: &str) {
        self.worker_says(worker, register(name, 0));
    }

    /// What the client `c` is told, and how many workers are leaving or have left.
    fn drain(&mut self, worker: &str, number: u64, all: bool) -> (String, usize) {
        self.take_sent();
        self.client_says("c", FromClient::Drain { worker: worker.into(), number, all });
        (self.take_sent().concat(), self.logged("leaving").len())
    }

    fn submit_within(&mut self, client: &str, ids: impl IntoIterator<Item = u64>, timeout_ms: u64) {
        let requests = ids.into_iter().map(|id| (RequestId(id), body(id))).collect();
        self.submit_to("p", client, requests, timeout_ms);
    }

    /// A client as the lines of acceptance name it.
    fn number_of(&self, client: &str) -> String {
        let name = format!(" {client} clients=");
        let joined = self.log.iter().find(|line| line.starts_with("client-joined ") && line.contains(&name));
        format!(" {}#", joined.unwrap().split(' ').nth(1).unwrap())
    }

    /// What else was sent, but for pings and welcomes, since this was asked last.
    fn take_sent(&mut self) -> Vec<String> {
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|sent| !sent.contains("Ping") && !sent.contains("Welcome"));
        sent
    }

    fn reply_of_whoever(&mut self) {
        let worker = self.held[0].0.clone();
        self.reply(&worker);
    }
}

#[test]
fn replies_wait_a_moment_for_others_to_the_same_client_but_a_lone_one_for_nobody() {
    let coalesce = Duration::from_micros(90);
    let mut world = World::new(Settings { coalesce, ..settings() });
    world.client("c");
    world.client("d");
    (1..=3).for_each(|number| world.join(&number.to_string()));
    world.submit("d", [7]);
    world.submit("c", 1..=4);
    world.reply("1");
    assert_eq!(world.replies.len(), 1, "d has no other request that could be waited for");
    world.reply("2");
    assert_eq!(world.replies.len(), 1, "three of c's are under way");
    assert_eq!(world.broker.poll_timeout(), Some(world.now + coalesce));
    (0..3).for_each(|_| world.reply_of_whoever());
    assert_eq!(world.replies.len(), 5, "there is nothing left to wait for");

    world.submit("c", 11..=14);
    world.reply_of_whoever();
    world.now += coalesce;
    world.settle();
    assert_eq!(world.replies.len(), 6, "the others take longer");
    world.reply_of_whoever();
    world.broker.flush();
    world.settle();
    assert_eq!(world.replies.len(), 7, "the broker is about to sleep");
}

#[test]
fn requests_go_round_the_workers_one_seat_at_a_time() {
    let mut world = World::with_workers(3);
    world.submit("c", 1..=4);
    world.submit("c", 5..=8);
    let holding = ["1", "2", "3"].map(|worker| world.holding(worker));
    assert_eq!(holding, [vec![1, 4, 7], vec![2, 5, 8], vec![3, 6]]);
    // The lines of the log go round, too, also where a turn ended in the middle of a lap.
    assert_eq!(
        world.logged("dispatch"),
        [
            "dispatch worker-1 w1 t1 c1#1",
            "dispatch worker-2 w2 t2 c1#2",
            "dispatch worker-3 w3 t3 c1#3",
            "dispatch worker-1 w1 t4 c1#4",
            "dispatch worker-2 w2 t5 c1#5",
            "dispatch worker-3 w3 t6 c1#6",
            "dispatch worker-1 w1 t7 c1#7",
            "dispatch worker-2 w2 t8 c1#8",
        ]
    );
}

#[test]
fn full_laps_are_one_line_a_seat() {
    let mut world = World::with_workers(3);
    world.submit("c", 1..=11);
    assert_eq!(
        world.logged("dispatch"),
        [
            "dispatch worker-1 w1 t1..7/3 c1#1..7/3",
            "dispatch worker-2 w2 t2..8/3 c1#2..8/3",
            "dispatch worker-3 w3 t3..9/3 c1#3..9/3",
            "dispatch worker-1 w1 t10 c1#10",
            "dispatch worker-2 w2 t11 c1#11",
        ]
    );
}

#[test]
fn requests_wait_for_the_first_worker() {
    let mut world = World::with_workers(0);
    world.submit("c", 1..=2);
    assert!(world.held.is_empty());
    world.join("1");
    assert_eq!(world.holding("1"), [1, 2]);
}

#[test]
fn requests_of_a_lost_worker_go_to_the_next_seats_in_their_order_and_before_newer_ones() {
    let mut world = World::new(Settings { window: 2, ..settings() });
    world.client("c");
    ["1", "2", "3"].iter().for_each(|worker| world.join(worker));
    world.submit("c", 1..=9);
    assert_eq!(world.holding("2"), [2, 5]);
    world.lose("2");
    assert_eq!(
        world.logged("dropped"),
        [
            "dropped worker-2 w2 returned=2 c1#2..5/3 unwanted=0 discarded=0 workers=2 evidence=yes reason=connection broke"
        ]
    );
    // Room comes up seat by seat.
    ["1", "3", "1", "3"].iter().for_each(|worker| world.reply(worker));
    assert_eq!((world.holding("1"), world.holding("3")), (vec![2, 7], vec![5, 8]));
    assert_eq!(world.logged("redispatch").len(), 2);
}

#[test]
fn each_request_is_answered_once_also_if_a_lost_worker_replies_after_all() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=2);
    let (_, late, _) = world.held[0].clone();
    world.lose("1");
    world.reply_to("1", late, 1);
    assert!(world.outcome("c", 1).is_empty());
    assert_eq!(world.logged("discard"), ["discard ? ? late=1"]);
    assert!(world.sent.contains(&"1 RegisterAgain".into()));
    world.reply("2");
    world.reply("2");
    assert_eq!((world.outcome("c", 1).len(), world.outcome("c", 2).len()), (1, 1));
}

#[test]
fn a_worker_can_not_reply_to_anothers_request() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=2);
    let (_, of_the_other, _) = world.held[1].clone();
    world.reply_to("1", of_the_other, 2);
    assert!(world.replies.is_empty());
    assert_eq!(world.logged("discard"), ["discard worker-1 w1 late=1"]);
}

#[test]
fn a_reply_from_before_the_brokers_restart_fits_no_request_of_today() {
    let mut yesterday = World::with_workers(1);
    yesterday.submit("c", 1..=1);
    let (_, ticket, _) = yesterday.held[0].clone();
    let mut today = World::new(Settings { first_ticket: 5_000_000, ..settings() });
    today.client("c");
    today.join("1");
    today.submit("c", 7..=7);
    today.reply_to("1", ticket, 1);
    assert!(today.replies.is_empty());
    today.reply("1");
    assert_eq!(today.answered(), [7]);
}

#[test]
fn a_worker_that_stops_answering_pings_is_dropped_and_sits_at_the_tail_when_it_is_back() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=1);
    for second in 1..=4 {
        assert!(world.logged("dropped").is_empty());
        world.pass(Duration::from_secs(1));
        world.worker_says("2", pong(second));
    }
    assert_eq!(
        world.logged("dropped"),
        ["dropped worker-1 w1 returned=1 c1#1 unwanted=0 discarded=0 workers=1 evidence=yes reason=3 pings unanswered"]
    );
    assert_eq!(world.holding("2"), [1]);
    // Thawed, it says several things at once, and is asked to register once.
    world.worker_says("1", pong(1));
    world.worker_says("1", pong(2));
    assert_eq!(world.sent.iter().filter(|sent| *sent == "1 RegisterAgain").count(), 1);
    world.held.clear();
    world.join("1");
    world.submit("c", 2..=4);
    assert_eq!((world.holding("1"), world.holding("2")), (vec![2, 4], vec![3]), "w2 had the last turn");
    assert!(world.logged("joined").last().unwrap().ends_with(" seats=2 workers=2"));
}

#[test]
fn all_dead_workers_are_dropped_not_only_the_first() {
    let mut world = World::with_workers(5);
    for second in 1..=4 {
        world.pass(Duration::from_secs(1));
        world.worker_says("3", pong(second));
    }
    assert_eq!(world.logged("dropped").len(), 4);
}

#[test]
fn a_stall_of_the_broker_drops_nobody() {
    let mut world = World::with_workers(3);
    world.pass(Duration::from_secs(1));
    ["1", "2", "3"].iter().for_each(|worker| world.worker_says(worker, pong(1)));
    world.pass(Duration::from_secs(3600));
    assert!(world.logged("dropped").is_empty());
}

#[test]
fn a_poison_request_stops_and_its_error_names_the_workers() {
    let mut world = World::with_workers(3);
    world.submit("c", 1..=1);
    for worker in ["1", "2", "3"] {
        assert_eq!(world.holding(worker), [1]);
        world.lose(worker);
    }
    let failure = world.failure("c", 1);
    assert_eq!(failure.code, code::POISON);
    assert!(failure.message.contains("worker-1, worker-2, worker-3"), "{failure}");
    assert_eq!(world.logged("poison"), ["poison c1#1 workers=worker-1,worker-2,worker-3"]);
    world.join("4");
    assert!(world.holding("4").is_empty());
}

#[test]
fn a_request_expires_while_it_waits() {
    let mut world = World::with_workers(0);
    world.submit_within("c", 1..=2, 500);
    world.pass(Duration::from_millis(499));
    assert!(world.replies.is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.failure("c", 1).code, code::EXPIRED);
    assert!(world.failure("c", 2).message.contains("has no worker"), "{}", world.failure("c", 2));
    assert_eq!(world.logged("expire"), ["expire c1#1..2"]);
}

#[test]
fn a_request_expires_while_it_is_computed_and_its_result_is_discarded() {
    let mut world = World::with_workers(1);
    world.submit_within("c", 3..=3, 500);
    assert_eq!(world.holding("1"), [3]);
    world.pass(Duration::from_millis(500));
    assert!(world.failure("c", 3).message.contains("worker-1 was computing it"));
    world.reply("1");
    assert_eq!(world.outcome("c", 3).len(), 1);
    assert_eq!(world.logged("discard"), ["discard worker-1 w1 late=0 c1#3"]);
}

#[test]
fn a_client_that_leaves_has_its_requests_cancelled_and_its_results_discarded() {
    let mut world = World::new(Settings { window: 1, ..settings() });
    world.client("c");
    world.client("d");
    world.join("1");
    world.submit("c", 1..=3);
    world.submit("d", 1..=1);
    world.client_says("c", FromClient::Disconnected);
    assert_eq!(
        world.logged("client-left"),
        ["client-left c1 cancelled=2 unwanted=1 clients=1 reason=connection broke"]
    );
    world.reply("1");
    assert_eq!(world.logged("discard"), ["discard worker-1 w1 late=0 c1#1"]);
    world.reply("1");
    assert_eq!(world.replies.iter().map(|(to, reply)| (&**to, reply.id.0)).collect::<Vec<_>>(), [("d", 1)]);
}

#[test]
fn a_cancelled_request_is_neither_computed_nor_answered() {
    let mut world = World::new(Settings { window: 1, ..settings() });
    world.client("c");
    world.join("1");
    world.submit("c", 1..=3);
    world.client_says("c", FromClient::Cancel(vec![RequestId(1), RequestId(2), RequestId(99)]));
    world.reply("1");
    assert_eq!(world.holding("1"), [3]);
    world.reply("1");
    assert_eq!(world.answered(), [3]);
    assert_eq!(world.logged("cancel"), ["cancel c1#1..2"]);
}

#[test]
fn an_id_that_the_broker_holds_already_is_not_accepted_again() {
    let mut world = World::with_workers(1);
    world.submit("c", 1..=2);
    world.submit("c", [2, 2, 3]);
    assert_eq!(world.holding("1"), [1, 2, 3]);
    (0..3).for_each(|_| world.reply("1"));
    assert_eq!(world.answered(), [1, 2, 3]);
}

#[test]
fn requests_from_before_a_reconnect_are_left_to_their_client_to_send_again() {
    let mut world = World::with_workers(1);
    world.client_says("c", FromClient::Disconnected);
    let before = world.sessions["c"];
    // The pipe's leftovers come right behind the new connection's Hello.
    world.client("c-again");
    let stale = FromClient::Submit {
        session: before,
        pool: "p".into(),
        timeout_ms: 0,
        wait: true,
        requests: vec![(RequestId(1), body(1))],
    };
    world.client_says("c-again", stale);
    assert!(world.holding("1").is_empty());
    world.submit("c-again", 1..=1);
    world.reply("1");
    assert_eq!(world.answered(), [1]);
    assert_eq!(world.logged("stale"), ["stale c2 count=1"]);
}

#[test]
fn a_leaving_worker_finishes_what_it_has_and_gets_no_more() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=2);
    world.worker_says("1", FromWorker::Leave);
    world.submit("c", 3..=4);
    assert_eq!((world.holding("1"), world.holding("2")), (vec![1], vec![2, 3, 4]));
    assert!(!world.sent.contains(&"1 Goodbye".into()));
    world.reply("1");
    assert!(world.sent.contains(&"1 Goodbye".into()));
    world.lose("1");
    assert_eq!(world.answered(), [1]);
    assert!(world.logged("dropped").is_empty());
    assert_eq!(world.logged("left"), ["left worker-1 w1 discarded=0 workers=1"]);
}

#[test]
fn a_leaving_worker_that_dies_first_loses_nothing() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=2);
    world.worker_says("1", FromWorker::Leave);
    world.lose("1");
    assert_eq!(world.holding("2"), [2, 1]);
}

#[test]
fn a_request_has_its_last_chance_with_a_worker_that_holds_nothing_else() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=4);
    world.lose("1");
    world.lose("2");
    // Two and four were lost once, one and three twice. Whoever ends the third worker, ends it alone.
    world.join("3");
    assert_eq!(world.holding("3"), [1]);
    world.join("4");
    assert_eq!(world.holding("4"), [2], "the turn goes on, as far as there is an empty seat for those to come");
    world.lose("3");
    assert_eq!(world.logged("poison"), ["poison c1#1 workers=worker-1,worker-2,worker-3"]);
    while !world.held.is_empty() {
        world.reply("4");
    }
    world.submit("c", 5..=6);
    world.reply("4");
    assert_eq!(world.answered(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_worker_that_was_silent_when_it_was_handed_a_request_is_not_held_against_it() {
    let mut world = World::new(Settings { max_attempts: 1, ..settings() });
    world.client("c");
    world.join("1");
    for _ in 0..2 {
        world.now = world.broker.poll_timeout().unwrap();
        world.broker.handle_timeout(world.now);
    }
    world.submit("c", 1..=1);
    assert_eq!(world.logged("dispatch"), ["dispatch worker-1 w1 t1 c1#1 suspect"]);
    world.lose("1");
    assert!(world.logged("poison").is_empty());
    world.join("2");
    world.lose("2");
    assert_eq!(world.logged("poison"), ["poison c1#1 workers=worker-2"]);
}

#[test]
fn a_worker_can_be_drained_by_its_name() {
    let mut world = World::with_workers(2);
    world.client_says("c", FromClient::Drain { worker: "worker-1".into(), number: 0, all: false });
    world.client_says("c", FromClient::Drain { worker: "worker-9".into(), number: 0, all: false });
    world.submit("c", 1..=2);
    assert_eq!(world.holding("2"), [1, 2]);
    assert!(world.sent.iter().any(|sent| sent.contains("Draining")));
    assert!(world.sent.iter().any(|sent| sent.contains("there is no worker 'worker-9'")));
}

#[test]
fn of_several_workers_of_one_name_the_one_that_is_meant_is_drained() {
    let mut world = World::new(settings());
    world.client("c");
    for peer in ["1", "2", "3"] {
        world.join_as(peer, "twin");
    }
    world.join_as("4", "w3");
    let (refused, leaving) = world.drain("twin", 0, false);
    assert!(refused.contains("3 workers are called 'twin': w1") && refused.contains("drain twin w1"), "{refused}");
    assert!(refused.contains("--all") && leaving == 0, "{refused}");
    assert!(world.drain("twin", 4, false).0.contains("there is no worker 'twin' w4"));
    assert!(world.drain("w9", 0, false).0.contains("there is no worker 'w9'"));
    // It is a name before it is a number, and where names look like numbers it is none.
    assert!(world.drain("w4", 0, false).0.contains("there is no worker 'w4'"));
    let (drained, leaving) = world.drain("w3", 0, false);
    assert!(drained.contains("Draining") && drained.contains("numbers: [4]") && leaving == 1, "{drained}");
    let (drained, leaving) = world.drain("twin", 2, false);
    assert!(drained.contains("numbers: [2]") && leaving == 2, "{drained}");
    let (drained, leaving) = world.drain("w1", 0, false);
    assert!(drained.contains("numbers: [1]") && leaving == 3, "{drained}");
    world.join_as("5", "twin");
    let (drained, leaving) = world.drain("twin", 0, true);
    assert!(drained.contains("numbers: [3, 5]") && leaving == 5, "{drained}");
}

#[test]
fn of_two_lost_namesakes_one_is_missing_until_both_are_back() {
    let mut world = World::new(settings());
    for peer in ["1", "2"] {
        world.join_as(peer, "twin");
    }
    world.lose("1");
    world.lose("2");
    let lost = |world: &mut World| world.broker.status(world.now).lost.len();
    assert_eq!(lost(&mut world), 2);
    world.join_as("3", "twin");
    assert_eq!(lost(&mut world), 1);
    world.join_as("4", "twin");
    assert_eq!(lost(&mut world), 0);
}

#[test]
fn strict_rotation_waits_for_a_full_seat_and_the_other_passes_it_over() {
    for (rotation, second) in [(Rotation::Strict, vec![2]), (Rotation::Available, vec![2, 3, 4])] {
        let mut world = World::new(Settings { rotation, ..settings() });
        world.client("c");
        world.join_with_window("1", 1);
        world.join_with_window("2", 9);
        world.submit("c", 1..=4);
        assert_eq!((world.holding("1"), world.holding("2")), (vec![1], second), "{rotation}");
    }
}

/// Windows that follow the work.
fn holding(rotation: Rotation) -> World {
    let mut world = World::new(Settings { hold: Duration::from_millis(50), rotation, ..settings() });
    world.client("c");
    world.join("1");
    world
}

/// The worker replies to all that it holds, each of which took it so long.
fn reply_to_all(world: &mut World, worker: &str, each: Duration) {
    let count = world.holding(worker).len();
    let (its, held) = std::mem::take(&mut world.held).into_iter().partition(|(holder, ..)| holder == worker);
    let its: Vec<(String, Ticket, u64)> = its;
    world.held = held;
    world.now += each * count as u32;
    let replies = its.into_iter().map(|(_, ticket, id)| (ticket, Outcome::Ok(body(id)))).collect();
    world.worker_says(worker, FromWorker::Replies(replies));
}

#[test]
fn long_requests_are_not_hoarded_so_that_one_who_joins_has_work_at_once() {
    let mut world = holding(Rotation::Strict);
    world.submit("c", 1..=100);
    assert_eq!(world.holding("1"), [1, 2], "how long they take is not known yet");
    for first in 2..5 {
        world.now += Duration::from_secs(10);
        world.reply("1");
        assert_eq!(world.holding("1"), [first, first + 1]);
    }
    world.join("2");
    assert_eq!((world.holding("1"), world.holding("2")), (vec![4, 5], vec![6]), "the turn waits for the first seat");
    for _ in 0..3 {
        world.now += Duration::from_secs(10);
        world.reply("1");
        world.reply("2");
    }
    assert_eq!(world.replies.len(), 9);
    assert_eq!(world.broker.status(world.now).workers.iter().map(|worker| worker.window).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn each_thread_has_work_also_if_there_are_more_than_the_window_allows_unless_the_worker_wants_less() {
    for (threads, wanted, held) in [(5, 0, 5), (5, 4, 4), (2, 0, 3), (u32::MAX, 0, 4096)] {
        let mut world = World::new(Settings { window: 3, ..settings() });
        world.client("c");
        let FromWorker::Register { version, name, pool, operations, .. } = register("worker-1", 0) else {
            unreachable!()
        };
        let (window, instance) = (wanted, 0);
        world.worker_says("1", FromWorker::Register { version, name, pool, operations, threads, window, instance });
        world.submit("c", 1..=5000);
        assert_eq!(world.holding("1").len(), held, "{threads} threads, {wanted} wanted");
    }
}

#[test]
fn the_seat_that_is_waited_for_gets_a_few_more_while_another_has_nothing_to_do() {
    for (rotation, first, most) in [(Rotation::Strict, 2, 8), (Rotation::Available, 1, 1)] {
        let mut world = holding(rotation);
        world.join("2");
        world.submit("c", 1..=100);
        assert_eq!((world.holding("1").len(), world.holding("2").len()), (first, first));
        world.now += Duration::from_secs(1);
        world.reply("2");
        assert_eq!(world.holding("1").len(), first, "{rotation}: the other has one to compute");
        while !world.holding("2").is_empty() && world.replies.len() < 40 {
            world.now += Duration::from_secs(1);
            world.reply("2");
        }
        assert_eq!(world.holding("1").len(), most, "{rotation}");
    }
}

#[test]
fn short_requests_stream_and_what_comes_after_a_rest_is_looked_at_anew() {
    let mut world = holding(Rotation::Strict);
    world.submit("c", 1..=5000);
    reply_to_all(&mut world, "1", Duration::from_micros(10));
    assert_eq!(world.holding("1").len(), 1024, "after one reply");
    while !world.held.is_empty() {
        reply_to_all(&mut world, "1", Duration::from_micros(10));
    }
    world.submit("c", 5001..=5100);
    assert_eq!(world.holding("1").len(), 100, "they come at once, and are thought to be alike");
    reply_to_all(&mut world, "1", Duration::from_micros(10));
    world.pass(Duration::from_secs(2));
    world.submit("c", 5101..=5200);
    assert_eq!(world.holding("1").len(), 2);
}

#[test]
fn what_a_worker_skips_because_nobody_wants_it_does_not_make_it_fast() {
    let mut world = holding(Rotation::Strict);
    world.submit("c", 1..=200);
    for first in (1..=180).step_by(2) {
        world.now += Duration::from_secs(1);
        world.client_says("c", FromClient::Cancel(vec![RequestId(first), RequestId(first + 1)]));
        for (_, ticket, _) in std::mem::take(&mut world.held) {
            let skipped = Outcome::Error(Failure::new(code::CANCELLED, String::new()));
            world.worker_says("1", FromWorker::Replies(vec![(ticket, skipped)]));
        }
    }
    assert_eq!(world.holding("1"), [181, 182]);
}

#[test]
fn the_log_tells_the_windows_by_which_seats_are_passed_over() {
    let mut world = holding(Rotation::Available);
    world.join("2");
    assert!(world.logged("window").is_empty(), "nobody was passed over");
    world.submit("c", 1..=10);
    assert_eq!((world.holding("1"), world.holding("2")), (vec![1], vec![2]));
    let told = ["window worker-1 w1 size=1", "window worker-2 w2 size=1"];
    assert_eq!(world.logged("window"), told);
    let place = |start: &str| world.log.iter().rposition(|line| line.starts_with(start)).unwrap();
    assert!(place("window") < place("dispatch worker-1"), "{:?}", world.log);
    reply_to_all(&mut world, "1", Duration::from_micros(10));
    assert_eq!(world.holding("1"), [3, 4, 5, 6, 7, 8, 9, 10], "its window is wide, and the other's still full");
    assert_eq!(world.logged("window")[2..], ["window worker-1 w1 size=1024"]);
    world.submit("c", 11..=20);
    assert_eq!(world.logged("window").len(), 3, "all is as it was");
}

#[test]
fn a_client_with_few_requests_is_not_starved_by_one_with_many() {
    let mut world = World::new(Settings { window: 1, ..settings() });
    world.client("flood");
    world.client("few");
    world.join("1");
    world.submit("flood", 1..=1000);
    world.submit("few", 1..=1);
    (0..3).for_each(|_| world.reply("1"));
    assert_eq!(world.outcome("few", 1).len(), 1);
}

#[test]
fn what_there_is_no_room_for_is_turned_away_and_comes_again() {
    let mut world = World::new(Settings { max_pending: 10, window: 1, ..settings() });
    world.client("c");
    world.submit("c", 1..=10);
    // One client gets four fifths; and is told what it has to send again.
    assert_eq!(world.logged("accept"), ["accept c1#1..8 pool=p"]);
    assert_eq!(world.take_sent(), ["c Rejected([RequestId(9), RequestId(10)])"]);
    // Others have room still.
    world.client("d");
    world.submit("d", 1..=1);
    assert_eq!(world.logged("accept").last().unwrap(), &"accept c2#1 pool=p");
    assert_eq!(world.logged("rejected"), ["rejected c1 count=2"]);

    // There is room as soon as something is dispatched; it is counted.
    world.join("1");
    assert_eq!(world.take_sent(), ["c Credit { requests: 1 }"]);
    world.submit("c", 9..=10);
    assert_eq!(world.take_sent(), ["c Rejected([RequestId(10)])"]);
    world.reply("1");
    world.reply("1");
    assert_eq!(world.take_sent(), ["c Credit { requests: 1 }"]);
    world.submit("c", 10..=10);
    while !world.held.is_empty() {
        world.reply("1");
    }
    assert_eq!(world.answered().len(), 11);
}

#[test]
fn one_client_has_its_own_bound_however_much_room_there_is() {
    let mut world = World::new(Settings { max_client_pending: 3, window: 1, ..settings() });
    world.client("c");
    world.client("d");
    world.submit("c", 1..=5);
    assert_eq!(world.take_sent(), ["c Rejected([RequestId(4), RequestId(5)])"]);
    world.submit("d", 1..=3);
    assert_eq!(world.logged("accept"), ["accept c1#1..3 pool=p", "accept c2#1..3 pool=p"]);
    world.join("1");
    assert_eq!(world.take_sent(), ["c Credit { requests: 1 }"]);
    world.submit("c", 4..=5);
    assert_eq!(world.take_sent(), ["c Rejected([RequestId(5)])"]);
    while !world.held.is_empty() {
        world.reply("1");
    }
    assert_eq!(world.take_sent(), ["c Credit { requests: 1 }"]);
    world.submit("c", 5..=5);
    world.reply("1");
    assert_eq!(world.answered().len(), 8);
}

#[test]
fn a_batch_over_the_limit_is_refused_whole_and_the_next_is_not() {
    let mut world = World::new(Settings { max_batch: 2, ..settings() });
    world.client("c");
    world.submit("c", 1..=3);
    assert!(world.take_sent()[0].contains("3 requests in one message; 2 are the most"));
    world.submit("c", 1..=2);
    assert_eq!(world.logged("accept"), ["accept c1#1..2 pool=p"]);
}

#[test]
fn each_key_does_what_its_roles_say_and_nothing_else() {
    let mut world = World::with_workers(1);
    let hello = || FromClient::Hello { version: VERSION, name: "x".into() };
    let only_submit = Rights { submit: true, administer: false };
    let only_administer = Rights { submit: false, administer: true };
    for (name, rights) in [("user", only_submit), ("operator", only_administer)] {
        world.broker.handle_client(&peer(name), rights, hello(), world.now);
        world.settle();
    }
    let mut says = |name: &str, message: FromClient| {
        // What a peer says of itself later changes nothing: rights are those of the Hello.
        world.broker.handle_client(&peer(name), Rights::ALL, message, world.now);
        world.settle();
        let (refused, sent) = (world.logged("refuse").len(), world.take_sent());
        (refused, sent)
    };
    let drain = || FromClient::Drain { worker: "worker-1".into(), number: 0, all: false };
    let (_, sent) = says("user", FromClient::Inspect);
    assert!(sent[0].contains("has not the role 'admin'"), "{sent:?}");
    let (_, sent) = says("user", drain());
    assert!(sent[0].contains("has not the role 'admin'"), "{sent:?}");
    let (refused, sent) = says("operator", submit(0, vec![(RequestId(1), body(1))]));
    assert!(sent[0].contains("has not the role 'client'"), "{sent:?}");
    assert_eq!(refused, 3);
    let (_, sent) = says("operator", FromClient::Inspect);
    assert!(sent[0].starts_with("operator Status"), "{sent:?}");
    assert!(world.logged("accept").is_empty() && world.logged("leaving").is_empty());
    world.submit("user", 1..=1);
    assert_eq!(world.logged("accept").len(), 1);
}

#[test]
fn whose_key_is_taken_out_is_gone_at_once_and_its_requests_are_not_lost() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=4);
    world.broker.handle_revoked_worker(&peer("1"), world.now);
    world.broker.handle_revoked_worker(&peer("nobody"), world.now);
    world.settle();
    world.held.retain(|(holder, ..)| holder != "1");
    assert_eq!(
        world.logged("dropped"),
        [
            "dropped worker-1 w1 returned=2 c1#1..3/2 unwanted=0 discarded=0 workers=1 evidence=no reason=its key is no longer allowed"
        ]
    );
    while !world.held.is_empty() {
        world.reply("2");
    }
    assert_eq!(world.answered().len(), 4);
    world.submit("c", 5..=6);
    world.broker.handle_revoked_client(&peer("c"));
    world.settle();
    let left = world.logged("client-left");
    assert!(
        left[0].starts_with("client-left c1 cancelled=0 unwanted=2 clients=0 reason=its key is no longer allowed"),
        "{left:?}"
    );
}

#[test]
fn the_bytes_of_unanswered_requests_are_bounded_too() {
    let mut world = World::new(Settings { max_pending_bytes: 1000, ..settings() });
    world.client("c");
    world.join("1");
    let requests = (1..=10).map(|id| (RequestId(id), Bytes::from(vec![0; 200]))).collect();
    world.broker.handle_client(&peer("c"), Rights::ALL, submit(world.sessions["c"], requests), world.now);
    let dispatched = std::iter::from_fn(|| world.broker.poll_output(world.now)).find_map(|output| match output {
        Output::ToWorker(_, ToWorker::Dispatch(requests)) => Some(requests),
        _ => None,
    });
    let dispatched = dispatched.unwrap();
    assert_eq!(dispatched.len(), 4, "four fifths of it, in flight or not");
    // Answered, they take no room any more.
    let replies = dispatched.into_iter().map(|(ticket, _)| (ticket, Outcome::Ok(Bytes::new()))).collect();
    world.worker_says("1", FromWorker::Replies(replies));
    assert_eq!(world.sent.last().unwrap(), "c Credit { requests: 4 }");
}

#[test]
fn one_who_asks_now_and_then_is_served_among_a_hundred_who_flood() {
    let mut world = World::new(Settings { max_pending: 10_000, window: 1, ..settings() });
    let floods: Vec<_> = (0..100).map(|number| format!("flood-{number}")).collect();
    for flood in &floods {
        world.client(flood);
    }
    for flood in &floods {
        world.submit(flood, 1..=2000);
    }
    world.client("few");
    world.join("1");
    world.take_sent();
    world.submit("few", 1..=1);
    assert!(world.take_sent().is_empty(), "there is room for it");
    // One turn of everybody else, and what was dispatched before.
    (0..=101).for_each(|_| world.reply("1"));
    assert_eq!(world.outcome("few", 1).len(), 1);
}

#[test]
fn those_who_wait_for_room_get_it_in_turn_also_if_the_first_does_not_take_it() {
    let mut world = World::new(Settings { max_pending: 2, window: 1, ..settings() });
    for client in ["a", "b", "c"] {
        world.client(client);
    }
    world.submit("a", 1..=2);
    world.submit("b", 1..=1);
    world.submit("c", 1..=1);
    world.submit("a", 3..=3);
    world.take_sent();
    world.join("1");
    let told = |world: &mut World| {
        let sent = world.take_sent();
        sent.into_iter().filter_map(|sent| Some(sent.split_once(" Credit")?.0.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world), ["b"]);
    world.reply("1");
    assert!(told(&mut world).is_empty(), "b has been given it");
    for next in ["c", "a"] {
        let due = world.broker.poll_timeout().unwrap();
        assert!(due <= world.now + Duration::from_millis(10), "b has no longer than that");
        world.now = due;
        world.broker.handle_timeout(world.now);
        world.settle();
        assert_eq!(told(&mut world), [next], "nobody takes it");
    }
}

#[test]
fn whoever_has_nothing_gets_the_first_room_there_is() {
    let mut world = World::new(Settings { max_pending: 160, window: 1, ..settings() });
    for number in 0..80 {
        let flood = format!("flood-{number}");
        world.client(&flood);
        world.submit(&flood, 1..=2);
        world.submit(&flood, 3..=3);
    }
    world.take_sent();
    world.join("1");
    let sent = world.take_sent();
    // The first have waited longest; but they have something pending, and wait until it is worth a
    // message.
    let [told] = &sent[..] else { panic!("{sent:?}") };
    let client = told.strip_suffix(" Credit { requests: 1 }").unwrap();
    assert!(world.logged("accept").iter().all(|line| !line.contains(&world.number_of(client))), "{told}");
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_told_so_once() {
    let mut world = World::new(Settings { window: 1, ..settings() });
    world.client("c");
    world.join("1");
    world.submit("c", 1..=2);
    world.take_sent();
    world.broker.handle_overdue_client(&peer("c"));
    world.settle();
    assert_eq!(
        world.logged("client-left"),
        ["client-left c1 cancelled=1 unwanted=1 clients=0 reason=does not read its replies"]
    );
    // What it said before it knew is lost on the broker.
    world.submit("c", 3..=3);
    world.client_says("c", FromClient::Cancel(vec![RequestId(1)]));
    assert_eq!(world.take_sent(), ["c HelloAgain", "1 Cancel([Ticket(1001)])"]);
    world.client("c");
    world.submit("c", 1..=3);
    world.reply("1");
    (0..3).for_each(|_| world.reply("1"));
    assert_eq!(world.answered(), [1, 2, 3]);
}

#[test]
fn rubbish_without_end_fills_no_log() {
    let mut world = World::with_workers(1);
    for _ in 0..1000 {
        world.broker.handle_malformed_client(&peer("c"), "no message", world.now);
        world.worker_says("stranger", FromWorker::Replies(vec![(Ticket(1), Outcome::Ok(Bytes::new()))]));
    }
    assert_eq!((world.logged("refuse").len(), world.logged("discard").len()), (10, 10));
    world.now += Duration::from_secs(1);
    world.broker.handle_malformed_client(&peer("c"), "no message", world.now);
    world.worker_says("stranger", FromWorker::Replies(vec![(Ticket(1), Outcome::Ok(Bytes::new()))]));
    assert_eq!(world.logged("refuse").last().unwrap(), &"refuse c1 unsaid=990 reason=no message");
    assert_eq!(world.logged("discard").last().unwrap(), &"discard ? ? late=991");
    assert_eq!(world.broker.status(world.now).totals.refused, 1001);
}

#[test]
fn who_joins_or_is_refused_is_logged_with_address_and_key() {
    let mut world = World::new(settings());
    let public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    for (who, name) in [("c", "alice"), ("w", "")] {
        let peer_info =
            PeerInfo { address: "10.0.0.1:1".into(), key: Some(Key { public: public.into(), name: name.into() }) };
        world.broker.handle_client_info(&peer(who), peer_info.clone());
        world.broker.handle_worker_info(&peer(who), peer_info);
    }
    world.broker.handle_malformed_client(&peer("c"), "rubbish", world.now);
    world.client("c");
    world.broker.handle_malformed_client(&peer("c"), "rubbish", world.now);
    world.broker.handle_malformed_worker(&peer("w"), "rubbish", world.now);
    world.join("w");
    let [alice, unnamed] = [format!("key={public} name=alice"), format!("key={public}")];
    assert_eq!(
        world.logged("refuse"),
        [
            format!("refuse a client at 10.0.0.1:1 {alice} reason=rubbish"),
            format!("refuse c1 at 10.0.0.1:1 {alice} reason=rubbish"),
            format!("refuse a worker at 10.0.0.1:1 {unnamed} reason=rubbish"),
        ]
    );
    assert_eq!(world.logged("client-joined"), [format!("client-joined c1 c clients=1 {alice}")]);
    assert_eq!(
        world.logged("joined"),
        [format!("joined worker-w w1 pool=p threads=1 window=1024 seats=1 workers=1 {unnamed}")]
    );
    // They went with the connection.
    world.client_says("c", FromClient::Disconnected);
    world.client("c");
    assert_eq!(world.logged("client-joined").last().unwrap(), &"client-joined c2 c clients=1");
}

#[test]
fn what_does_not_fit_into_one_message_travels_in_several() {
    const MANY: u64 = MAX_BATCH as u64 + 10;
    let mut world = World::new(Settings { window: 1_000_000, max_batch: usize::MAX, ..settings() });
    world.client("c");
    world.submit("c", 1..=MANY);
    world.broker.handle_worker(&peer("1"), register("worker-1", 0), world.now);
    let mut replies = Vec::new();
    let mut sizes = Vec::new();
    while let Some(output) = world.broker.poll_output(world.now) {
        if let Output::ToWorker(_, ToWorker::Dispatch(batch)) = output {
            sizes.push(batch.len());
            replies.extend(batch.into_iter().map(|(ticket, body)| (ticket, Outcome::Ok(body))));
        }
    }
    assert_eq!(sizes, [MAX_BATCH, 10]);
    // Two messages of a worker in one turn.
    let rest = replies.split_off(10);
    world.broker.handle_worker(&peer("1"), FromWorker::Replies(rest), world.now);
    world.broker.handle_worker(&peer("1"), FromWorker::Replies(replies), world.now);
    let sizes: Vec<_> = std::iter::from_fn(|| world.broker.poll_output(world.now))
        .filter_map(|output| match output {
            Output::ToClient(_, ToClient::Replies(replies)) => Some(replies.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [MAX_BATCH, 10]);
}

#[test]
fn a_worker_without_a_thread_is_refused() {
    let mut world = World::new(settings());
    let FromWorker::Register { version, name, pool, operations, window, instance, .. } = register("worker-1", 0) else {
        unreachable!()
    };
    world.worker_says("1", FromWorker::Register { version, name, pool, operations, threads: 0, window, instance });
    assert!(world.logged("joined").is_empty());
    assert!(world.logged("refuse").iter().any(|line| line.contains("threads: 0")), "{:?}", world.logged("refuse"));
}

#[test]
fn what_peers_say_at_length_is_refused_or_shortened() {
    let mut world = World::with_workers(1);
    let operations = |count: usize, length: usize| FromWorker::Register {
        version: VERSION,
        name: "talker".into(),
        pool: "p".into(),
        operations: vec!["x".repeat(length); count],
        threads: 1,
        window: 0,
        instance: 0,
    };
    world.worker_says("t", operations(257, 1));
    world.worker_says("t", operations(1, 65));
    assert_eq!(world.logged("joined").len(), 1);
    world.worker_says("t", operations(256, 64));
    assert_eq!(world.logged("joined").len(), 2);
    world.client_says("c", FromClient::Drain { worker: "x".repeat(1 << 20), number: 0, all: false });
    assert!(world.sent.iter().all(|sent| sent.len() < 1000));

    world.submit("c", 1..=1);
    let (_, ticket, _) = world.held[0];
    let failure = Failure::new("failed", "x".repeat(1 << 20));
    world.worker_says("1", FromWorker::Replies(vec![(ticket, Outcome::Error(failure))]));
    let Outcome::Error(failure) = &world.replies[0].1.outcome else { panic!() };
    assert!(failure.message.len() < 5000 && failure.message.ends_with(" .."));
}

#[test]
fn a_worker_that_registers_twice_has_forgotten_what_it_was_handed() {
    let mut world = World::with_workers(1);
    world.submit("c", 1..=1);
    world.held.clear();
    world.join("1");
    assert_eq!(world.holding("1"), [1]);
    assert_eq!(
        world.logged("dropped"),
        ["dropped worker-1 w1 returned=1 c1#1 unwanted=0 discarded=0 workers=0 evidence=no reason=registered again"]
    );
    world.reply("1");
    assert_eq!(world.answered(), [1]);
}

#[test]
fn two_workers_of_one_name_are_two_workers() {
    let mut world = World::with_workers(0);
    world.worker_says("a", register("twin", 0));
    world.worker_says("b", register("twin", 0));
    world.submit("c", 1..=2);
    assert_eq!((world.holding("a"), world.holding("b")), (vec![1], vec![2]));
    world.lose("a");
    assert_eq!(world.holding("b"), [2, 1]);
}

#[test]
fn pools_do_not_see_each_others_requests() {
    let mut world = World::with_workers(1);
    let requests = vec![(RequestId(9), body(9))];
    world.submit_to("other", "c", requests, 0);
    world.submit("c", 1..=1);
    assert_eq!(world.holding("1"), [1]);
}

#[test]
fn who_does_not_introduce_themselves_is_told_to() {
    let mut world = World::with_workers(1);
    world.submit("stranger", 1..=1);
    world.client_says("old", FromClient::Hello { version: VERSION + 1, name: "old".into() });
    world.client_says("rude", FromClient::Hello { version: VERSION, name: "two words".into() });
    world.worker_says("nobody", register("", 0));
    assert!(world.holding("1").is_empty());
    assert_eq!(world.sent.iter().filter(|sent| sent.contains("Refused")).count(), 3);
    assert!(world.sent.contains(&"stranger HelloAgain".into()));
    assert!(world.sent.iter().any(|sent| sent.contains("version")));
}

#[test]
fn a_worker_that_sends_garbage_is_dropped_so_that_nothing_waits_for_it() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=1);
    world.broker.handle_malformed_worker(&peer("1"), "not a message", world.now);
    world.settle();
    assert_eq!(world.holding("2"), [1]);
}

#[test]
fn a_closing_broker_dispatches_nothing_more_and_tells_everyone() {
    let mut world = World::new(Settings { window: 1, ..settings() });
    world.client("c");
    world.join("1");
    world.submit("c", 1..=2);
    world.broker.close();
    world.settle();
    assert!(world.sent.contains(&"c Closing".into()) && world.sent.contains(&"1 Closing".into()));
    world.submit("c", 3..=3);
    world.reply("1");
    assert_eq!((world.answered(), world.broker.in_flight()), (vec![1], 0));
    assert!(world.held.is_empty());
}

#[test]
fn replies_for_one_client_in_one_turn_are_one_message() {
    let mut world = World::with_workers(1);
    world.submit("c", 1..=3);
    let replies = world.held.iter().map(|&(_, ticket, _)| (ticket, Outcome::Ok(Bytes::new()))).collect();
    world.broker.handle_worker(&peer("1"), FromWorker::Replies(replies), world.now);
    let messages = std::iter::from_fn(|| world.broker.poll_output(world.now))
        .filter(|output| matches!(output, Output::ToClient(..)))
        .count();
    assert_eq!(messages, 1);
}

#[test]
fn the_status_tells_whose_turn_it_is_how_long_things_took_and_what_happened_last() {
    let mut world = World::new(Settings { window: 2, ..settings() });
    world.broker.handle_client_info(&peer("c"), peer_info("10.0.0.1:1"));
    world.client("c");
    for worker in ["1", "2", "3"] {
        world.broker.handle_worker_info(&peer(worker), peer_info(&format!("10.0.0.2:{worker}")));
        world.join(worker);
    }
    world.submit("c", 1..=8);
    world.now += Duration::from_millis(30);
    let status = world.broker.status(world.now);
    let [pool] = &status.pools[..] else { panic!("{:?}", status.pools) };
    // Six are in flight, and strict rotation waits for the first seat.
    assert_eq!((&*pool.name, &pool.ring[..], pool.turn, pool.pending, pool.oldest_ms), ("p", &[1, 2, 3][..], 0, 2, 30));
    assert_eq!(status.clients[0].address, "10.0.0.1:1");
    let worker = &status.workers[1];
    assert_eq!((&*worker.address, worker.seat, worker.in_flight), ("10.0.0.2:2", Some(1), 2));

    // A worker is lost: what it held waits first, and the turn goes round two seats.
    world.worker_says("2", FromWorker::Disconnected);
    world.held.retain(|(holder, ..)| holder != "2");
    while !world.held.is_empty() {
        world.reply_of_whoever();
    }
    world.now += Duration::from_secs(1);
    let status = world.broker.status(world.now);
    assert_eq!((&status.pools[0].ring[..], status.pools[0].rate, status.pools[0].pending), (&[1, 3][..], 10, 0));
    assert_eq!((status.history.rate.as_slice(), status.history.p50_us.len()), (&[8][..], 1));
    assert!((30_000..31_000).contains(&status.latency_us.p50), "{:?}", status.latency_us);
    assert_eq!(status.workers.iter().map(|worker| worker.rate).sum::<u64>(), 8);
    assert!(status.workers.iter().all(|worker| worker.service_us.p99 > 0 && worker.redispatched_from == 0));
    let told: Vec<_> = status.events.iter().map(|event| (&*event.kind, event.worker, event.count)).collect();
    assert!(told.contains(&("dropped", Some(2), Some(2))), "{told:?}");
    assert!(told.iter().any(|(kind, ..)| *kind == "redispatch") && told.iter().all(|(kind, ..)| *kind != "accept"));
    assert!(status.events.is_sorted_by_key(|event| event.sequence));
    let [lost] = &status.lost[..] else { panic!("{:?}", status.lost) };
    assert_eq!(
        (&*lost.name, lost.number, &*lost.address, lost.at_ms, lost.returned),
        ("worker-2", 2, "10.0.0.2:2", 30, 2)
    );
    assert!(lost.reason.contains("connection"), "{lost:?}");

    // Under its old name it sits down at the tail, and what was handed on from it is told of the name.
    world.join("2");
    let status = world.broker.status(world.now);
    assert_eq!(status.pools[0].ring, [1, 3, 4]);
    assert!(status.lost.is_empty());
    assert_eq!((status.workers[2].redispatched_from, status.workers[2].seat), (2, Some(2)));
    // The address went with the connection.
    assert_eq!(status.workers[2].address, "");

    // What a pool has seen is told also when it is empty and gone.
    for worker in ["1", "2", "3"] {
        world.worker_says(worker, FromWorker::Disconnected);
    }
    let status = world.broker.status(world.now);
    let [pool] = &status.pool_totals[..] else { panic!("{:?}", status.pool_totals) };
    assert!(status.pools.is_empty() && status.bounds_us.len() + 1 == pool.took.len());
    assert_eq!((&*pool.name, pool.accepted, pool.succeeded, pool.dispatched, pool.redispatched), ("p", 8, 8, 10, 2));
    assert_eq!(pool.workers_lost, 4);
    let took = status.bounds_us.partition_point(|&bound| bound < 30_000);
    assert_eq!((pool.took[took], pool.took.iter().sum::<u64>(), pool.took_us / 8 / 1000), (8, 8, 30));
    world.join("1");

    // A pong tells the round trip of its ping.
    world.now = world.broker.poll_timeout().unwrap();
    world.broker.handle_timeout(world.now);
    world.settle();
    world.now += Duration::from_millis(7);
    world.worker_says("1", pong(1));
    let worker = &world.broker.status(world.now).workers[0];
    assert_eq!((worker.round_trip_us, worker.pong_age_ms), (7000, 0));
}

#[test]
fn a_worker_is_told_what_nobody_waits_for_and_keeps_its_place_in_the_window_until_it_replies() {
    let mut world = World::new(Settings { window: 2, ..settings() });
    world.client("c");
    world.join("1");
    world.submit("c", 1..=4);
    world.take_sent();
    // One that is in flight, and one that is pending: of this the worker knows nothing.
    world.client_says("c", FromClient::Cancel([1, 4].map(RequestId).into()));
    assert_eq!(world.take_sent(), ["1 Cancel([Ticket(1001)])"]);
    assert_eq!(world.holding("1"), [1, 2]);
    world.worker_says("1", FromWorker::Replies(vec![(Ticket(1001), Outcome::Error("cancelled".into()))]));
    assert_eq!(world.logged("discard"), ["discard worker-1 w1 late=0 c1#1"]);
    world.held.remove(0);
    assert_eq!(world.holding("1"), [2, 3]);
    // The others are told when their client leaves.
    world.client_says("c", FromClient::Disconnected);
    assert_eq!(world.take_sent(), ["1 Cancel([Ticket(1002), Ticket(1003)])"]);
}

#[test]
fn a_worker_is_told_that_a_time_limit_has_passed() {
    let mut world = World::with_workers(2);
    world.submit_within("c", 1..=2, 100);
    world.take_sent();
    world.pass(Duration::from_millis(100));
    assert_eq!(world.take_sent(), ["1 Cancel([Ticket(1001)])", "2 Cancel([Ticket(1002)])"]);
    assert_eq!(world.answered(), [1, 2]);
    // One that is lost is told nothing.
    world.submit_within("c", 3..=3, 100);
    world.client_says("c", FromClient::Cancel(vec![RequestId(3)]));
    assert_eq!(world.take_sent(), ["1 Cancel([Ticket(1003)])"]);
}

#[test]
fn progress_goes_to_those_who_wait_and_to_nobody_else() {
    let mut world = World::with_workers(2);
    world.client("d");
    world.submit("c", 1..=2);
    world.submit("d", 7..=7);
    world.client_says("c", FromClient::Cancel(vec![RequestId(1)]));
    world.take_sent();
    let progress = |tickets: &[u64]| {
        FromWorker::Progress(tickets.iter().map(|&it| (Ticket(it), Progress { done: it, total: 2000 })).collect())
    };
    // The first is cancelled, the second another worker's, the last nobody's.
    world.worker_says("1", progress(&[1001, 1002, 1003, 1004]));
    assert_eq!(world.take_sent(), ["d Progress([(RequestId(7), Progress { done: 1003, total: 2000 })])"]);
    world.worker_says("2", progress(&[1002]));
    assert_eq!(world.take_sent(), ["c Progress([(RequestId(2), Progress { done: 1002, total: 2000 })])"]);
    world.worker_says("stranger", progress(&[1002]));
    assert!(world.take_sent().is_empty());
}

#[test]
fn requests_that_do_not_wait_are_told_which_pools_have_workers() {
    let mut world = World::with_workers(2);
    let submit = |world: &mut World, pool: &str, ids: &[u64]| {
        let requests = ids.iter().map(|&id| (RequestId(id), body(id))).collect();
        let session = world.sessions["c"];
        let submit = FromClient::Submit { session, pool: pool.into(), timeout_ms: 0, wait: false, requests };
        world.client_says("c", submit);
    };
    submit(&mut world, "nobody", &[1, 2]);
    let told = r#"c NoWorker { pool: "nobody", pools: ["p"], requests: [RequestId(1), RequestId(2)] }"#;
    assert_eq!(world.take_sent(), [told]);
    assert_eq!(world.logged("no-worker"), ["no-worker c1 count=2"]);
    submit(&mut world, "p", &[1]);
    assert_eq!(world.holding("1"), [1]);
    // A worker that leaves takes nothing more; what was accepted is not turned away when it comes
    // again.
    world.worker_says("2", FromWorker::Leave);
    world.worker_says("1", FromWorker::Leave);
    world.take_sent();
    submit(&mut world, "p", &[1, 3]);
    assert_eq!(world.take_sent(), [r#"c NoWorker { pool: "p", pools: [], requests: [RequestId(3)] }"#]);
    world.reply("1");
    assert_eq!(world.answered(), [1]);
}

#[test]
fn a_lost_worker_is_told_of_for_a_quarter_of_an_hour_and_then_no_more() {
    let mut world = World::with_workers(2);
    world.lose("1");
    world.now += Duration::from_secs(60);
    world.lose("2");
    let told = |world: &mut World, after: u64| {
        let status = world.broker.status(world.now + Duration::from_secs(after));
        status.lost.into_iter().map(|lost| lost.name).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world, 14 * 60 - 1), ["worker-1", "worker-2"]);
    assert_eq!(told(&mut world, 14 * 60), ["worker-2"]);
    assert_eq!(told(&mut world, 15 * 60 - 1), ["worker-2"]);
    assert!(told(&mut world, 15 * 60).is_empty());
    // That many were lost is still told of the pool.
    assert_eq!(world.broker.status(world.now).pool_totals[0].workers_lost, 2);
}

#[test]
fn a_worker_is_stuck_when_it_answers_pings_while_a_request_does_not_end() {
    let mut world = World::new(Settings { stuck_after: Duration::from_secs(60), ..settings() });
    world.client("c");
    world.join("1");
    let state = |world: &mut World| world.broker.status(world.now).workers[0].state.clone();
    let pong = |sequence, computing, oldest_ms| FromWorker::Pong { sequence, computing, waiting: 0, oldest_ms };
    assert_eq!(state(&mut world), "idle");
    world.submit("c", 1..=1);
    world.pass(Duration::from_secs(1));
    world.worker_says("1", pong(1, 1, 60_000));
    assert_eq!(state(&mut world), "busy");
    world.pass(Duration::from_secs(1));
    world.worker_says("1", pong(2, 1, 60_001));
    assert_eq!(state(&mut world), "stuck");
    assert_eq!(world.broker.status(world.now).workers[0].oldest_ms, 60_001);
    // Nothing is decided by it: it has its seat, and is handed what comes.
    world.submit("c", 2..=2);
    assert_eq!(world.holding("1"), [1, 2]);
    // One that is suspect besides may be dead.
    world.pass(Duration::from_secs(1));
    world.pass(Duration::from_secs(1));
    assert_eq!(state(&mut world), "suspect");
    world.worker_says("1", pong(4, 0, 0));
    assert_eq!(state(&mut world), "busy");
    world.reply("1");
    world.reply("1");
    assert_eq!(state(&mut world), "idle");
}

#[test]
fn of_workers_that_share_a_name_no_count_goes_down_when_one_goes_and_pools_are_told_apart() {
    let mut world = World::new(settings());
    world.client("c");
    let register = |pool: &str| FromWorker::Register {
        version: VERSION,
        name: "twin".into(),
        pool: pool.into(),
        operations: vec![],
        threads: 1,
        window: 0,
        instance: 0,
    };
    for (worker, pool) in [("1", "p"), ("2", "p"), ("3", "q")] {
        world.worker_says(worker, register(pool));
    }
    world.submit("c", 1..=6);
    for worker in ["1", "2"] {
        world.reply(worker);
        world.reply(worker);
    }
    let counts = |world: &mut World| -> Vec<_> {
        let told = world.broker.status(world.now).workers.into_iter();
        told.map(|it| (it.pool, it.answered, it.answered_before, it.redispatched_from)).collect()
    };
    let [p, q] = ["p", "q"].map(String::from);
    assert_eq!(counts(&mut world), [(p.clone(), 2, 0, 0), (p.clone(), 2, 0, 0), (q.clone(), 0, 0, 0)]);
    world.lose("1");
    assert_eq!(counts(&mut world), [(p.clone(), 2, 2, 1), (q.clone(), 0, 0, 0)]);
    // Also when none is left for a while, and when one leaves in order.
    world.reply("2");
    world.reply("2");
    world.worker_says("2", FromWorker::Leave);
    assert_eq!(counts(&mut world), [(q.clone(), 0, 0, 0)]);
    world.worker_says("4", register("p"));
    assert_eq!(counts(&mut world), [(p, 0, 6, 1), (q, 0, 0, 0)]);
}

#[test]
fn a_closing_broker_waits_until_each_client_that_it_answered_has_read_everything() {
    let mut world = World::with_workers(1);
    ["reader", "goer", "idle"].into_iter().for_each(|client| world.client(client));
    world.submit("reader", 1..=1);
    world.submit("goer", 1..=1);
    world.client_says("reader", FromClient::Goodbye);
    world.reply("1");
    assert!(!world.broker.has_finished(), "nobody has asked it to finish");
    world.broker.close();
    world.settle();
    assert!(world.sent.contains(&"reader Goodbye".into()) && !world.sent.contains(&"goer Goodbye".into()));
    world.reply("1");
    assert!(world.sent.contains(&"goer Goodbye".into()) && !world.sent.contains(&"idle Goodbye".into()));
    assert!(world.broker.in_flight() == 0 && !world.broker.has_finished());
    // What was on its way already is for the next broker.
    world.submit("reader", 2..=2);
    world.client_says("reader", FromClient::Goodbye);
    assert!(!world.sent.contains(&"reader HelloAgain".into()) && !world.broker.has_finished());
    world.client_says("goer", FromClient::Disconnected);
    assert!(world.broker.has_finished());
    assert_eq!((world.logged("goodbye").len(), world.logged("unheard").len()), (1, 1), "{:?}", world.log);
}
