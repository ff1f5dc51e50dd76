//! Lost workers: their requests, their late replies, and poison.

use super::*;

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
fn a_reply_from_before_the_brokers_restart_answers_no_request() {
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
fn a_stall_of_the_broker_drops_no_worker() {
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
fn a_leaving_worker_that_dies_first_loses_nothing() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=2);
    world.worker_says("1", FromWorker::Leave);
    world.lose("1");
    assert_eq!(world.holding("2"), [2, 1]);
}

#[test]
fn a_request_before_its_last_attempt_is_alone_with_its_worker() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=4);
    world.lose("1");
    world.lose("2");
    // Two and four were lost once, one and three twice: these go to a worker
    // that holds nothing else.
    world.join("3");
    assert_eq!(world.holding("3"), [1]);
    world.join("4");
    assert_eq!(world.holding("4"), [2], "the turn passes on while the next request finds an empty worker");
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
fn the_loss_of_a_worker_that_was_suspect_does_not_count_against_a_request() {
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
fn a_worker_that_sends_garbage_is_dropped_so_that_nothing_waits_for_it() {
    let mut world = World::with_workers(2);
    world.submit("c", 1..=1);
    world.broker.handle_malformed_worker(&peer("1"), "not a message", world.now);
    world.settle();
    assert_eq!(world.holding("2"), [1]);
}
