//! Requests as their clients see them: replies, time limits, cancellation, progress.

use super::*;

#[test]
fn replies_wait_a_moment_for_others_to_the_same_client_unless_they_are_alone() {
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
    (0..3).for_each(|_| world.reply_from_first_holder());
    assert_eq!(world.replies.len(), 5, "there is nothing left to wait for");

    world.submit("c", 11..=14);
    world.reply_from_first_holder();
    world.now += coalesce;
    world.settle();
    assert_eq!(world.replies.len(), 6, "the others take longer");
    world.reply_from_first_holder();
    world.broker.flush();
    world.settle();
    assert_eq!(world.replies.len(), 7, "the broker is about to sleep");
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
fn requests_from_before_a_reconnect_are_ignored_until_their_client_sends_them_again() {
    let mut world = World::with_workers(1);
    world.client_says("c", FromClient::Disconnected);
    let before = world.sessions["c"];
    // The pipe's leftovers come right behind the new connection's Hello.
    world.client("c-again");
    world.client_says("c-again", submit(before, vec![(RequestId(1), body(1))]));
    assert!(world.holding("1").is_empty());
    world.submit("c-again", 1..=1);
    world.reply("1");
    assert_eq!(world.answered(), [1]);
    assert_eq!(world.logged("stale"), ["stale c2 count=1"]);
}

#[test]
fn a_batch_that_does_not_fit_into_one_message_travels_in_several() {
    const MANY: u64 = MAX_BATCH as u64 + 10;
    let mut world = World::new(Settings { window: 1_000_000, max_batch: usize::MAX, ..settings() });
    world.client("c");
    world.submit("c", 1..=MANY);
    world.broker.handle_worker(&peer("1"), register("worker-1", 0), world.now);
    let mut replies = Vec::new();
    let mut sizes = Vec::new();
    while let Some(output) = world.broker.poll_output(world.now) {
        if let Output::ToWorker(_, ToWorker::Dispatch { requests: batch, .. }) = output {
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
fn a_cancelled_request_keeps_its_place_in_the_window_until_its_worker_replies() {
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
    // The others are counted when their client leaves.
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
    // A lost worker is sent nothing.
    world.submit_within("c", 3..=3, 100);
    world.client_says("c", FromClient::Cancel(vec![RequestId(3)]));
    assert_eq!(world.take_sent(), ["1 Cancel([Ticket(1003)])"]);
}

#[test]
fn progress_goes_only_to_clients_that_wait() {
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
        let submit = FromClient::Submit {
            session,
            pool: pool.into(),
            timeout_ms: 0,
            priority: Default::default(),
            wait: false,
            requests,
        };
        world.client_says("c", submit);
    };
    submit(&mut world, "nobody", &[1, 2]);
    let expected = r#"c NoWorker { pool: "nobody", pools: ["p"], requests: [RequestId(1), RequestId(2)] }"#;
    assert_eq!(world.take_sent(), [expected]);
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
