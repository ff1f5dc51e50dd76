//! Rotation and windows: which worker gets which request, and how many.

use super::*;

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

/// Lets a worker reply to all requests that it holds, after this time for each.
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
fn a_worker_that_joins_has_work_at_once_because_long_requests_are_not_hoarded() {
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
        world.worker_says("1", Registration { threads, window: wanted, ..registration("worker-1") }.into());
        world.submit("c", 1..=5000);
        assert_eq!(world.holding("1").len(), held, "{threads} threads, {wanted} wanted");
    }
}

#[test]
fn the_seat_whose_turn_it_is_gets_a_few_more_while_another_worker_idles() {
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
fn short_requests_stream_and_after_a_rest_the_window_resets() {
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
fn cancelled_requests_that_a_worker_skips_do_not_widen_its_window() {
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
fn the_windows_of_seats_that_are_passed_over_are_in_the_log() {
    let mut world = holding(Rotation::Available);
    world.join("2");
    assert!(world.logged("window").is_empty(), "nobody was passed over");
    world.submit("c", 1..=10);
    assert_eq!((world.holding("1"), world.holding("2")), (vec![1], vec![2]));
    let lines = ["window worker-1 w1 size=1", "window worker-2 w2 size=1"];
    assert_eq!(world.logged("window"), lines);
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
fn pools_do_not_see_each_others_requests() {
    let mut world = World::with_workers(1);
    let requests = vec![(RequestId(9), body(9))];
    world.submit_to("other", "c", requests, 0);
    world.submit("c", 1..=1);
    assert_eq!(world.holding("1"), [1]);
}
