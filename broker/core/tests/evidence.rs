//! What is held against a request, scenario by scenario: which losses of workers count, and when it
//! is given up.

mod world;

use std::time::{Duration, Instant};

use giostra_core::broker::Broker;
use giostra_core::config::Settings;
use giostra_protocol::Identity;
use giostra_protocol::{Bytes, Failure, FromClient, FromWorker, MAX_INSTANCE, Outcome, Registration, RequestId, code};
use world::{World, peer, registration};

/// How long a request waits for its worker to come back.
const MOMENT: Duration = Duration::from_millis(300);

/// A broker with the client `c`.
fn with_client(max_attempts: u32) -> World {
    let mut world = World::new(Settings { max_attempts, await_return: MOMENT, ..Settings::default() });
    world.client("c");
    world
}

impl World {
    /// A worker of this instance registers over this connection.
    fn join_again(&mut self, connection: &str, instance: u64) {
        let register = Registration { instance, ..registration(&format!("worker-{instance}")) };
        self.worker_says(connection, register.into());
    }

    /// Something else than its connection ends its registration.
    fn drop_by(&mut self, connection: &str, how: impl FnOnce(&mut Broker, &Identity, Instant)) {
        self.held.retain(|(holder, ..)| holder != connection);
        how(&mut self.broker, &peer(connection), self.now);
        self.settle();
    }

    /// It replies to the oldest request that it holds, with this.
    fn reply_with(&mut self, connection: &str, outcome: Outcome) {
        let place = self.held.iter().position(|(holder, ..)| holder == connection).expect("it holds a request");
        let (_, ticket, _) = self.held.remove(place);
        self.worker_says(connection, FromWorker::Replies(vec![(ticket, outcome)]));
    }

    /// The last line that begins so.
    fn line(&self, start: &str) -> &str {
        self.log.iter().rfind(|line| line.starts_with(start)).map_or("", String::as_str)
    }

    fn poisoned(&self) -> Vec<&str> {
        self.log.iter().filter_map(|line| line.strip_prefix("poison ")).collect()
    }

    fn outcomes(&self) -> Vec<(u64, Outcome)> {
        self.replies.iter().map(|(_, reply)| (reply.id.0, reply.outcome.clone())).collect()
    }
}

#[test]
fn a_worker_that_was_leaving_is_held_against_nothing() {
    let mut world = with_client(1);
    world.submit("c", [1]);
    for (number, drained) in [(1, false), (2, true), (3, false)] {
        let connection = number.to_string();
        world.join_again(&connection, number);
        assert_eq!(world.holding(&connection), [1]);
        match drained {
            true => {
                world.client_says("c", FromClient::Drain { worker: format!("worker-{number}"), number: 0, all: false });
            }
            false => world.worker_says(&connection, FromWorker::Leave),
        }
        world.lose(&connection);
        assert_eq!(
            world.line("dropped"),
            format!(
                "dropped worker-{number} w{number} returned=1 c1#1 unwanted=0 discarded=0 workers=0 evidence=no \
                 reason=connection broke"
            )
        );
    }
    world.pass(2 * MOMENT);
    world.join_again("4", 4);
    assert_eq!((world.holding("4"), world.poisoned()), (vec![1], vec![]));
}

#[test]
fn a_key_that_was_taken_out_a_second_registration_and_the_brokers_own_cut_are_held_against_nothing() {
    let mut world = with_client(1);
    world.submit("c", [1]);
    world.join_again("1", 1);
    world.drop_by("1", Broker::handle_revoked_worker);
    world.join_again("2", 2);
    world.drop_by("2", Broker::handle_overdue_worker);
    world.join_again("3", 3);
    world.held.clear();
    world.join_again("3", 3);
    assert_eq!(world.holding("3"), [1]);
    let dropped: Vec<_> = world.log.iter().filter(|line| line.starts_with("dropped ")).collect();
    assert!(
        dropped.len() == 3
            && dropped.iter().all(|line| line.contains(" c1#1 ") && line.contains(" evidence=no reason=")),
        "{dropped:?}"
    );
    world.pass(2 * MOMENT);
    assert!(world.poisoned().is_empty());
}

#[test]
fn a_worker_whose_connection_is_cut_again_and_again_is_held_against_nothing() {
    for max_attempts in [1, 2, 3] {
        let mut world = with_client(max_attempts);
        world.submit("c", [1, 2]);
        for cut in 1..=20 {
            let connection = cut.to_string();
            world.join_again(&connection, 7);
            let back = if cut == 1 { String::new() } else { format!(" back=w{}", cut - 1) };
            let joined = format!("joined worker-7 w{cut} pool=p threads=1 window=1024 seats=1 workers=1{back}");
            assert_eq!(world.line("joined"), joined);
            assert_eq!(world.holding(&connection), [1, 2]);
            world.lose(&connection);
            assert!(
                world
                    .line("dropped")
                    .contains(" c1#1..2 unwanted=0 discarded=0 workers=0 evidence=unless-back reason=")
            );
            world.pass(MOMENT / 2);
        }
        assert!(world.poisoned().is_empty() && world.replies.is_empty());
    }
}

#[test]
fn a_request_waits_a_moment_for_its_last_worker_to_come_back_and_is_then_given_up() {
    let mut world = with_client(1);
    world.submit("c", [1]);
    world.join_again("1", 1);
    world.lose("1");
    world.join_again("2", 2);
    assert!(world.holding("2").is_empty(), "it waits for the other");
    assert_eq!(world.broker.poll_timeout(), Some(world.now + MOMENT));
    world.pass(MOMENT - Duration::from_millis(1));
    assert!(world.poisoned().is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.poisoned(), ["c1#1 workers=worker-1"]);
    let [(1, Outcome::Error(failure))] = &world.outcomes()[..] else { panic!("{:?}", world.replies) };
    assert_eq!(failure.code, code::POISON);
    assert!(failure.message.contains("(worker-1), and has not come back"), "{failure}");
    // Too late.
    world.join_again("3", 1);
    assert_eq!(world.line("joined"), "joined worker-1 w3 pool=p threads=1 window=1024 seats=2 workers=2");
}

#[test]
fn a_process_that_a_supervisor_starts_anew_does_not_excuse_the_one_before() {
    let mut world = with_client(3);
    world.submit("c", [1]);
    for process in 1..=3 {
        let connection = process.to_string();
        world.join_again(&connection, process);
        assert_eq!(world.holding(&connection), [1]);
        world.lose(&connection);
    }
    world.pass(MOMENT);
    assert_eq!(world.poisoned(), ["c1#1 workers=worker-1,worker-2,worker-3"]);
}

#[test]
fn any_of_the_lost_workers_that_comes_back_gives_a_request_another_attempt() {
    let mut world = with_client(3);
    world.submit("c", [1]);
    for process in 1..=3 {
        world.join_again(&process.to_string(), process);
        world.lose(&process.to_string());
    }
    world.join_again("again", 1);
    assert_eq!(world.holding("again"), [1], "two are held against it");
    world.submit("c", [2]);
    assert_eq!(world.holding("again"), [1], "and the next loss would be its last");
    world.lose("again");
    world.pass(MOMENT);
    assert_eq!(world.poisoned(), ["c1#1 workers=worker-2,worker-3,worker-1"]);
}

#[test]
fn a_return_ends_the_quarantine_of_what_waits_for_an_empty_worker() {
    let mut world = with_client(2);
    world.join_again("1", 1);
    world.submit("c", [1]);
    world.lose("1");
    world.submit("c", [2, 3]);
    world.join_again("2", 2);
    assert_eq!(world.holding("2"), [1], "alone");
    world.lose("2");
    world.join_again("3", 3);
    assert_eq!(world.holding("3"), [2, 3], "the first waits for the second worker");
    world.join_again("2 again", 2);
    assert_eq!(world.holding("2 again"), [1], "one loss is held against it: it is alone");
    world.join_again("1 again", 1);
    world.submit("c", [4, 5]);
    assert_eq!(world.holding("1 again"), [4], "strict rotation waits for the seat that has one alone");
}

#[test]
fn a_worker_that_registers_before_its_old_connection_is_missed_is_held_against_nothing() {
    let mut world = with_client(1);
    world.join_again("1", 1);
    world.submit("c", [1]);
    world.join_again("2", 1);
    assert_eq!(world.line("joined"), "joined worker-1 w2 pool=p threads=1 window=1024 seats=2 workers=2 back=w1");
    world.lose("1");
    assert_eq!(
        world.line("dropped"),
        "dropped worker-1 w1 returned=1 c1#1 unwanted=0 discarded=0 workers=1 evidence=no reason=connection broke"
    );
    assert_eq!(world.holding("2"), [1]);
}

#[test]
fn what_can_not_be_read_is_held_against_the_requests_though_its_worker_lives() {
    // It may be the reply to one of them, which the next worker would send as well: nothing else
    // ends that.
    let mut world = with_client(2);
    world.submit("c", [1]);
    for _ in 0..2 {
        world.join_again("1", 1);
        world.drop_by("1", |broker, peer, now| broker.handle_malformed_worker(peer, "no message", now));
    }
    assert_eq!(
        world.line("dropped"),
        "dropped worker-1 w2 returned=1 c1#1 unwanted=0 discarded=0 workers=0 evidence=yes \
         reason=sent something unreadable: no message"
    );
    assert_eq!(world.poisoned(), ["c1#1 workers=worker-1,worker-1"]);
}

#[test]
fn a_worker_without_an_instance_never_comes_back() {
    let mut world = with_client(2);
    world.submit("c", [1]);
    for _ in 0..2 {
        world.join_again("1", 0);
        world.lose("1");
        assert!(world.line("dropped").contains(" evidence=yes "));
    }
    assert_eq!(world.poisoned(), ["c1#1 workers=worker-0,worker-0"]);
}

#[test]
fn what_waits_for_a_return_can_expire_and_be_cancelled_and_leaves_nothing_behind() {
    let mut world = with_client(1);
    world.join_again("1", 1);
    world.submit("c", 1..=3);
    let requests = vec![(RequestId(4), Bytes::copy_from_slice(&4_u64.to_be_bytes()))];
    world.submit_to("p", "c", requests, 100);
    world.lose("1");
    world.client_says("c", FromClient::Cancel(vec![RequestId(2)]));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.line("expire"), "expire c1#4");
    world.pass(MOMENT - Duration::from_millis(100));
    assert_eq!(world.poisoned(), ["c1#1 workers=worker-1", "c1#3 workers=worker-1"]);
    world.join_again("2", 2);
    assert!(world.holding("2").is_empty());
}

#[test]
fn where_nothing_is_tried_twice_no_request_is_alone_and_all_that_a_lost_worker_held_is_given_up() {
    let mut world = with_client(1);
    world.join_again("1", 1);
    world.submit("c", 1..=3);
    assert_eq!(world.holding("1"), [1, 2, 3]);
    world.lose("1");
    world.pass(MOMENT);
    assert_eq!(world.poisoned().len(), 3);
}

#[test]
fn a_worker_that_registers_in_a_loop_leaves_nothing_behind() {
    let mut world = with_client(2);
    for round in 0..1000 {
        world.join_again("1", MAX_INSTANCE + round);
        world.lose("1");
    }
    world.submit("c", [1]);
    for _ in 0..1000 {
        world.join_again("1", 9);
        world.lose("1");
    }
    // That the tables hold no more than the open request says is checked after every step.
    world.client_says("c", FromClient::Cancel(vec![RequestId(1)]));
    assert!(world.poisoned().is_empty());
}

#[test]
fn a_workers_failure_does_not_pass_for_the_brokers_own() {
    let mut world = with_client(2);
    world.join_again("1", 1);
    world.submit("c", 1..=3);
    for code in [code::POISON, code::CANCELLED, "no-luck"] {
        world.reply_with("1", Outcome::Error(Failure::new(code, "because")));
    }
    let expected = [(1, code::FAILED), (2, code::FAILED), (3, "no-luck")];
    let expected = expected.map(|(id, code)| (id, Outcome::Error(Failure::new(code, "because"))));
    assert_eq!(world.outcomes(), expected);
}
