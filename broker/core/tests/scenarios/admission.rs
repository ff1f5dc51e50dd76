//! Limits, rights, and peers that do not keep to the protocol.

use super::*;

#[test]
fn requests_without_room_are_rejected_and_accepted_later() {
    let mut world = World::new(Settings { max_pending: 10, window: 1, ..settings() });
    world.client("c");
    world.submit("c", 1..=10);
    // One client gets four fifths, and the names of the requests that it has to send again.
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
        // A status comes some time after the last one.
        world.pass(Duration::from_millis(250));
        // What a peer says of itself later changes nothing: rights are those of the Hello.
        world.broker.handle_client(&peer(name), Rights::ALL, message, world.now);
        world.settle();
        let (refused, sent) = (world.logged("refuse").len(), world.take_sent());
        (refused, sent)
    };
    let drain = || FromClient::Drain { worker: "worker-1".into(), number: 0, all: false };
    let (_, sent) = says("user", FromClient::Inspect);
    assert!(sent[0].starts_with("user Status") && sent[0].contains("limited: true"), "{sent:?}");
    let (_, sent) = says("user", drain());
    assert!(sent[0].contains("has not the role 'admin'"), "{sent:?}");
    let (refused, sent) = says("operator", submit(0, vec![(RequestId(1), body(1))]));
    assert!(sent[0].contains("has not the role 'client'"), "{sent:?}");
    assert_eq!(refused, 2);
    let (_, sent) = says("operator", FromClient::Inspect);
    assert!(sent[0].starts_with("operator Status"), "{sent:?}");
    assert!(world.logged("accept").is_empty() && world.logged("leaving").is_empty());
    world.submit("user", 1..=1);
    assert_eq!(world.logged("accept").len(), 1);
}

#[test]
fn a_peer_whose_key_is_revoked_is_gone_at_once_and_its_requests_are_not_lost() {
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
        Output::ToWorker(_, ToWorker::Dispatch { requests, .. }) => Some(requests),
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
fn a_client_that_asks_now_and_then_is_served_among_a_hundred_that_flood() {
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
fn clients_get_credit_in_turn_even_if_the_first_does_not_use_it() {
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
    let credited = |world: &mut World| {
        let sent = world.take_sent();
        sent.into_iter().filter_map(|sent| Some(sent.split_once(" Credit")?.0.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(credited(&mut world), ["b"]);
    world.reply("1");
    assert!(credited(&mut world).is_empty(), "b has got credit");
    for next in ["c", "a"] {
        let due = world.broker.poll_timeout().unwrap();
        assert!(due <= world.now + Duration::from_millis(10), "b has no longer than that");
        world.now = due;
        world.broker.handle_timeout(world.now);
        world.settle();
        assert_eq!(credited(&mut world), [next], "nobody uses it");
    }
}

#[test]
fn a_client_that_holds_nothing_gets_the_first_credit() {
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
    let [credit] = &sent[..] else { panic!("{sent:?}") };
    let client = credit.strip_suffix(" Credit { requests: 1 }").unwrap();
    assert!(world.logged("accept").iter().all(|line| !line.contains(&world.number_of(client))), "{credit}");
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
fn endless_garbage_does_not_fill_the_log() {
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
fn a_worker_without_a_thread_is_refused() {
    let mut world = World::new(settings());
    world.worker_says("1", Registration { threads: 0, ..registration("worker-1") }.into());
    assert!(world.logged("joined").is_empty());
    assert!(world.logged("refuse").iter().any(|line| line.contains("threads: 0")), "{:?}", world.logged("refuse"));
}

#[test]
fn long_texts_of_peers_are_refused_or_shortened() {
    let mut world = World::with_workers(1);
    let operations = |count: usize, length: usize| -> FromWorker {
        Registration { operations: vec!["x".repeat(length); count], ..registration("talker") }.into()
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
fn a_peer_that_does_not_introduce_itself_is_asked_to() {
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
