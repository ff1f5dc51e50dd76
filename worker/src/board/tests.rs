//! What the board says in the situations that it is made for, one by one.

use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Outcome, Ticket};

use super::{Board, Calls, Duty, Load, Stay, Step, TICK, Visit, Watch};
use crate::hand::{Hands, LONG, Reply};

const QUICK: Duration = Duration::from_nanos(500);

struct Scene {
    now: Instant,
    board: Board<()>,
    hands: Hands,
    watch: Watch,
}

impl Scene {
    /// So many threads, of which the first sits at the desk and the others have looked at the
    /// board.
    fn at_rest(threads: usize) -> Self {
        let now = Instant::now();
        let (board, hands) = (Board::new((), threads), Hands::new(threads));
        let mut scene = Self { now, board, hands, watch: Watch::begin(now) };
        assert_eq!(scene.attends(0), (vec![], Stay::UntilCalled));
        (1..threads)
            .for_each(|thread| assert!(matches!(scene.look(thread), (Step::Sleep, Calls { alarm: false, .. }))));
        scene
    }

    fn look(&mut self, thread: usize) -> (Step<()>, Calls) {
        self.board.next(&mut self.hands.lock(thread), self.now)
    }

    /// The thread sits down.
    fn attends(&mut self, thread: usize) -> (Vec<Reply>, Stay) {
        match self.look(thread) {
            (Step::Attend(Visit { done, stay, .. }), calls) if calls == Calls::default() => (done, stay),
            other => panic!("{other:?}"),
        }
    }

    /// The thread takes requests.
    fn takes(&mut self, thread: usize) -> Calls {
        match self.look(thread) {
            (Step::Compute, calls) => calls,
            other => panic!("{other:?}"),
        }
    }

    /// Whoever sits at the desk hears of so many requests, and gets up.
    fn hears(&mut self, requests: u64) -> Calls {
        let calls = self.board.assign((0..requests).map(|ticket| (Ticket(ticket), Bytes::new())).collect());
        self.board.leave(());
        calls
    }

    /// The thread computes all in its hand, and that takes so long for each; how many there were.
    fn computes(&mut self, thread: usize, each: Duration) -> u32 {
        let mut count = 0;
        loop {
            let Some((ticket, _)) = self.hands.lock(thread).begin() else { return count };
            self.now += each;
            self.hands.lock(thread).finish(ticket, Outcome::Ok(Bytes::new()));
            count += 1;
        }
    }

    /// The watchman looks after a tick.
    fn patrol(&mut self) -> (Duty<()>, Calls) {
        self.now += TICK;
        self.board.patrol(&self.hands, &mut self.watch, self.now)
    }

    /// Until the watchman rests.
    fn come_to_rest(&mut self) {
        while !matches!(self.patrol().0, Duty::Rest) {}
    }
}

const NOBODY: Calls = Calls { thread: false, watchman: false, alarm: false };

#[test]
fn one_thread_computes_what_it_has_heard_and_sends_the_results_and_wakes_nobody() {
    let mut scene = Scene::at_rest(1);
    for batch in [1, 3, 64, 1000] {
        scene.hears(batch);
        let mut computed = 0;
        while computed < batch as u32 {
            match scene.look(0) {
                (Step::Compute, calls) => assert_eq!(calls, NOBODY),
                (Step::Attend(visit), calls) => {
                    assert_eq!((visit.stay, calls), (Stay::Glance, NOBODY));
                    scene.board.leave(());
                }
                (Step::Sleep, _) => panic!("there is work"),
            }
            computed += scene.computes(0, QUICK);
        }
        assert!(!scene.attends(0).0.is_empty());
    }
}

#[test]
fn the_watchman_is_woken_by_the_first_request_after_a_rest_and_by_no_other() {
    let mut scene = Scene::at_rest(1);
    scene.come_to_rest();
    for calls in [Calls { watchman: true, ..NOBODY }, NOBODY, NOBODY] {
        scene.hears(1);
        assert_eq!(scene.takes(0), calls);
        scene.computes(0, QUICK);
        scene.attends(0);
    }
}

#[test]
fn results_do_not_wait_until_all_requests_are_computed() {
    let mut scene = Scene::at_rest(1);
    scene.hears(10);
    scene.takes(0);
    scene.computes(0, LONG / 2);
    scene.takes(0);
    scene.computes(0, LONG);
    let (done, stay) = scene.attends(0);
    assert_eq!((done.len(), stay), (2, Stay::Glance));
}

#[test]
fn nobody_is_woken_for_a_little_work_one_for_more() {
    let mut scene = Scene::at_rest(4);
    // Nobody knows yet how long they take.
    assert!(scene.hears(1000).thread);
    // One that is on his way is enough.
    assert!(!scene.takes(0).thread);
    scene.computes(0, QUICK);
    assert!(scene.board.answer_call());
    // What is left takes half a millisecond.
    assert!(scene.takes(1).thread);

    let mut scene = Scene::at_rest(4);
    scene.board.pace = QUICK;
    assert!(!scene.hears(50).thread);
    assert!(!scene.takes(0).thread);
    scene.computes(0, LONG);
    assert!(scene.takes(0).thread);
}

#[test]
fn an_idle_thread_is_called_to_the_desk_if_the_one_that_leaves_it_will_be_long() {
    let mut scene = Scene::at_rest(2);
    for (pace, calls) in [(QUICK, NOBODY), (LONG, Calls { thread: true, ..NOBODY })] {
        scene.board.pace = pace;
        scene.hears(1);
        assert_eq!(scene.takes(0), calls);
        scene.computes(0, QUICK);
        scene.attends(0);
    }
}

#[test]
fn the_watchman_sits_down_when_the_desk_has_stood_for_a_tick_and_takes_out_the_results_before_a_long_request() {
    let mut scene = Scene::at_rest(1);
    scene.board.pace = QUICK;
    scene.hears(4);
    scene.takes(0);
    scene.computes(0, QUICK);
    scene.takes(0);
    let (ticket, _) = scene.hands.lock(0).begin().unwrap();
    scene.hands.lock(0).finish(ticket, Outcome::Ok(Bytes::new()));
    scene.hands.lock(0).begin().unwrap();
    assert!(matches!(scene.patrol(), (Duty::Tick, NOBODY)));
    match scene.patrol() {
        (Duty::Attend(Visit { done, stay, .. }), NOBODY) => {
            assert_eq!((done.len(), stay), (2, Stay::AtMost(TICK)));
        }
        other => panic!("{other:?}"),
    }
    let load = scene.board.load(&scene.hands, scene.now + TICK);
    assert_eq!((load.computing, load.waiting), (1, 1));
    assert!(load.oldest >= 3 * TICK && load.oldest < 4 * TICK, "{load:?}");
    // And he gives it up for whoever has nothing to do.
    scene.board.discard(&scene.hands);
    assert_eq!(scene.board.load(&scene.hands, scene.now).waiting, 0);
    scene.hands.lock(0).finish(ticket, Outcome::Ok(Bytes::new()));
    assert!(matches!(scene.look(0), (Step::Sleep, Calls { alarm: true, .. })));
    scene.board.leave(());
    assert!(matches!(scene.patrol(), (Duty::Tick, Calls { thread: true, .. })));
    assert_eq!(scene.attends(0), (vec![], Stay::UntilCalled), "a discarded result is not sent");
    assert_eq!(scene.board.load(&scene.hands, scene.now), Load::default());
}

#[test]
fn what_waits_behind_a_long_request_goes_to_an_idle_thread() {
    let mut scene = Scene::at_rest(2);
    scene.board.pace = QUICK;
    for _ in 0..3 {
        scene.hears(8);
        scene.takes(0);
        scene.computes(0, QUICK);
    }
    scene.takes(0);
    scene.hands.lock(0).begin().unwrap();
    let waiting = scene.hands.lock(0).waiting();
    assert!(waiting > 0);
    assert!(matches!(scene.patrol(), (Duty::Tick, Calls { thread: true, .. })));
    assert!(scene.board.answer_call());
    assert_eq!(scene.attends(1).1, Stay::Glance);
    scene.board.leave(());
    scene.takes(1);
    // Who is now thought to be long as well: the rest is left to others.
    assert_eq!((scene.hands.lock(0).waiting(), scene.hands.lock(1).waiting()), (0, 1));
}
