//! Workers and brokers that leave in order.

use super::*;

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
fn of_several_workers_with_one_name_the_named_registration_is_drained() {
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
