//! The status, and the log's lines about peers.

use super::*;

#[test]
fn of_two_lost_workers_with_one_name_one_is_missing_until_both_are_back() {
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
fn peers_that_join_or_are_refused_are_logged_with_address_and_key() {
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
fn the_status_has_the_turn_the_durations_and_the_last_events() {
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
        world.reply_from_first_holder();
    }
    world.now += Duration::from_secs(1);
    let status = world.broker.status(world.now);
    assert_eq!((&status.pools[0].ring[..], status.pools[0].rate, status.pools[0].pending), (&[1, 3][..], 10, 0));
    assert_eq!((status.history.rate.as_slice(), status.history.p50_us.len()), (&[8][..], 1));
    assert!((30_000..31_000).contains(&status.latency_us.p50), "{:?}", status.latency_us);
    assert_eq!(status.workers.iter().map(|worker| worker.rate).sum::<u64>(), 8);
    assert!(status.workers.iter().all(|worker| worker.service_us.p99 > 0 && worker.redispatched_from == 0));
    let kinds: Vec<_> = status.events.iter().map(|event| (&*event.kind, event.worker, event.count)).collect();
    assert!(kinds.contains(&("dropped", Some(2), Some(2))), "{kinds:?}");
    assert!(kinds.iter().any(|(kind, ..)| *kind == "redispatch") && kinds.iter().all(|(kind, ..)| *kind != "accept"));
    assert!(status.events.is_sorted_by_key(|event| event.sequence));
    let [lost] = &status.lost[..] else { panic!("{:?}", status.lost) };
    assert_eq!(
        (&*lost.name, lost.number, &*lost.address, lost.at_ms, lost.returned),
        ("worker-2", 2, "10.0.0.2:2", 30, 2)
    );
    assert!(lost.reason.contains("connection"), "{lost:?}");

    // Under its old name it gets the seat at the tail, and the requests that it lost count for the
    // name.
    world.join("2");
    let status = world.broker.status(world.now);
    assert_eq!(status.pools[0].ring, [1, 3, 4]);
    assert!(status.lost.is_empty());
    assert_eq!((status.workers[2].redispatched_from, status.workers[2].seat), (2, Some(2)));
    // The address went with the connection.
    assert_eq!(status.workers[2].address, "");

    // The counts of a pool stay when it is empty and gone.
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
fn a_lost_worker_is_in_the_status_for_a_quarter_of_an_hour() {
    let mut world = World::with_workers(2);
    world.lose("1");
    world.now += Duration::from_secs(60);
    world.lose("2");
    let lost = |world: &mut World, after: u64| {
        let status = world.broker.status(world.now + Duration::from_secs(after));
        status.lost.into_iter().map(|lost| lost.name).collect::<Vec<_>>()
    };
    assert_eq!(lost(&mut world, 14 * 60 - 1), ["worker-1", "worker-2"]);
    assert_eq!(lost(&mut world, 14 * 60), ["worker-2"]);
    assert_eq!(lost(&mut world, 15 * 60 - 1), ["worker-2"]);
    assert!(lost(&mut world, 15 * 60).is_empty());
    // The pool's count of lost workers stays.
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
fn counts_of_workers_that_share_a_name_never_decrease_and_are_kept_by_pool() {
    let mut world = World::new(settings());
    world.client("c");
    for (worker, pool) in [("1", "p"), ("2", "p"), ("3", "q")] {
        world.worker_says(worker, Registration { pool: pool.into(), ..registration("twin") }.into());
    }
    world.submit("c", 1..=6);
    for worker in ["1", "2"] {
        world.reply(worker);
        world.reply(worker);
    }
    let counts = |world: &mut World| -> Vec<_> {
        let workers = world.broker.status(world.now).workers.into_iter();
        workers.map(|it| (it.pool, it.answered, it.answered_before, it.redispatched_from)).collect()
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
    world.worker_says("4", register("twin", 0));
    assert_eq!(counts(&mut world), [(p, 0, 6, 1), (q, 0, 0, 0)]);
}

#[test]
fn a_pool_has_in_hand_what_waits_and_what_its_workers_hold_and_no_other_pools() {
    let mut world = World::new(Settings { window: 2, ..settings() });
    world.client("c");
    world.join("1");
    world.join("2");
    world.worker_says("3", Registration { pool: "q".into(), ..registration("w") }.into());
    for (pool, ids) in [("p", 1..=7), ("q", 8..=8), ("nobody", 9..=10)] {
        world.submit_to(pool, "c", ids.map(|id| (RequestId(id), body(id))).collect(), 0);
    }
    let in_hand = |world: &mut World| {
        let pools = world.broker.status(world.now).pools.into_iter();
        pools.map(|pool| (pool.name, pool.pending, pool.in_flight, pool.unanswered)).collect::<Vec<_>>()
    };
    let others = [("nobody".into(), 2, 0, 2), ("q".into(), 0, 1, 1)];
    let [nobody, q] = others.clone();
    assert_eq!(in_hand(&mut world), [nobody, ("p".into(), 3, 4, 7), q]);
    // A worker may still compute what its client no longer wants, and is needed for so long.
    world.client_says("c", FromClient::Cancel(vec![RequestId(1), RequestId(7)]));
    let [nobody, q] = others.clone();
    assert_eq!(in_hand(&mut world), [nobody, ("p".into(), 2, 4, 6), q]);
    world.lose("1");
    let [nobody, q] = others;
    assert_eq!(in_hand(&mut world), [nobody, ("p".into(), 3, 2, 5), q]);
}

#[test]
fn a_client_that_may_not_administer_learns_the_counts_of_pools_and_nobodys_name() {
    let mut world = World::new(Settings { window: 2, ..settings() });
    world.client("ada");
    world.broker.handle_worker_info(&peer("1"), peer_info("10.0.0.2:1"));
    world.join("1");
    world.join("2");
    world.lose("2");
    world.submit("ada", 1..=5);
    let bob = Rights { submit: true, administer: false };
    let ask = |world: &mut World, message| world.broker.handle_client(&peer("bob"), bob, message, world.now);
    ask(&mut world, FromClient::Hello { version: VERSION, name: "bob".into() });
    world.settle();
    world.take_sent();
    ask(&mut world, FromClient::Inspect);
    world.client_says("ada", FromClient::Inspect);
    world.pass(Duration::from_secs(1));
    let sent = world.take_sent();
    let of = |who: &str| sent.iter().find(|sent| sent.starts_with(&format!("{who} Status("))).expect("an answer");
    for hint in ["ada", "worker-1", "worker-2", "10.0.0.2", "accepted: 5"] {
        assert!(of("ada").contains(hint) && !of("bob").contains(hint), "{hint} in {sent:#?}");
    }
    assert!(of("ada").contains("limited: false") && of("bob").contains("limited: true"));
    for count in ["name: \"p\", ring: [1]", "pending: 3", "in_flight: 2", "unanswered: 5"] {
        assert!(of("bob").contains(count), "{count} in {}", of("bob"));
    }
}
