//! Workers summed up by host, and what each pool has answered of late.

use super::*;

fn join(world: &mut World, worker: &str, pool: &str, host: &str) {
    let (pool, host) = (pool.into(), host.into());
    world.worker_says(worker, Registration { pool, host, ..registration(&format!("worker-{worker}")) }.into());
}

/// Name, workers, requests in flight, answers, and lost workers of each host.
fn hosts(world: &mut World) -> Vec<(String, u64, u64, u64, u64)> {
    let hosts = world.broker.status(world.now).hosts.into_iter();
    hosts.map(|host| (host.name, host.workers, host.in_flight, host.answered, host.lost)).collect()
}

#[test]
fn a_hosts_sums_include_all_its_workers_and_those_that_are_gone() {
    let mut world = World::new(settings());
    world.client("c");
    for (worker, host) in [("1", "north"), ("2", "north"), ("3", "south"), ("4", "")] {
        join(&mut world, worker, "p", host);
    }
    world.submit("c", 1..=8);
    for worker in ["1", "2", "3"] {
        world.reply(worker);
    }
    assert_eq!(
        hosts(&mut world),
        [("".into(), 1, 2, 0, 0), ("north".into(), 2, 2, 2, 0), ("south".into(), 1, 1, 1, 0)]
    );
    let status = world.broker.status(world.now);
    assert_eq!((&*status.workers[0].host, &*status.workers[2].host, &*status.workers[3].host), ("north", "south", ""));
    assert_eq!((status.hosts[1].idle, status.hosts[1].busy, status.hosts[1].threads), (0, 2, 2));

    // What a lost worker has answered is not forgotten, and the host is told of while nobody is there.
    world.lose("1");
    world.lose("3");
    let told = hosts(&mut world);
    assert_eq!((told[1].1, told[1].3, told[1].4), (1, 2, 1), "{told:?}");
    assert_eq!((told[2].1, told[2].3, told[2].4), (0, 1, 1), "{told:?}");
    assert_eq!(world.broker.status(world.now).lost[1].host, "south");
    // Back under its name it is missing no more.
    join(&mut world, "3", "p", "south");
    let told = hosts(&mut world);
    assert_eq!((told[2].1, told[2].3, told[2].4), (1, 1, 0), "{told:?}");
}

#[test]
fn the_log_has_the_host_of_a_worker_that_names_one() {
    let mut world = World::new(settings());
    join(&mut world, "1", "p", "north");
    join(&mut world, "2", "p", "");
    assert_eq!(
        world.logged("joined"),
        [
            "joined worker-1 w1 pool=p threads=1 window=1024 seats=1 workers=1 host=north",
            "joined worker-2 w2 pool=p threads=1 window=1024 seats=2 workers=2",
        ]
    );
}

#[test]
fn a_host_that_is_no_name_is_refused() {
    let mut world = World::new(settings());
    let long = "x".repeat(65);
    for (worker, host) in [("1", "a b"), ("2", "a\nb"), ("3", "key=k"), ("4", &*long)] {
        join(&mut world, worker, "p", host);
    }
    assert_eq!(world.broker.status(world.now).workers.len(), 0);
    assert_eq!(world.logged("refuse").len(), 4);
    assert!(world.logged("refuse")[0].contains("host: a name must not have spaces"), "{:?}", world.logged("refuse"));
}

#[test]
fn a_status_lists_a_thousand_hosts_those_with_workers_first() {
    let mut world = World::new(settings());
    for number in 0..1003 {
        join(&mut world, &number.to_string(), "p", &format!("host-{number:04}"));
    }
    world.lose("0");
    let status = world.broker.status(world.now);
    assert_eq!((status.hosts.len(), status.left_out.hosts), (1000, 3));
    assert_eq!((&*status.hosts[0].name, &*status.hosts[999].name), ("host-0001", "host-1000"));
}

#[test]
fn each_pool_has_the_seconds_of_its_own_requests() {
    let mut world = World::new(settings());
    world.client("c");
    join(&mut world, "1", "p", "");
    join(&mut world, "2", "q", "");
    world.pass(Duration::from_secs(2));
    for (pool, ids) in [("p", 1..=3), ("q", 4..=5)] {
        world.submit_to(pool, "c", ids.map(|id| (RequestId(id), body(id))).collect(), 0);
    }
    world.now += Duration::from_millis(7);
    while !world.held.is_empty() {
        world.reply_from_first_holder();
    }
    world.now += Duration::from_secs(1);
    let status = world.broker.status(world.now);
    let last = |pool: usize| {
        let History { rate, p50_us, .. } = &status.pools[pool].history;
        (*rate.last().unwrap(), p50_us.last().unwrap() / 1000, rate.len())
    };
    assert_eq!((last(0), last(1)), ((3, 7, 1), (2, 7, 1)), "they begin with the pool's first answer");
    assert_eq!((status.history.rate.last(), status.history.step_ms), (Some(&5), 1000));
    assert_eq!(status.pools[0].history.step_ms, 1000);
}
