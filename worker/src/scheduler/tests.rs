//! The scheduler's decisions in the situations that it is made for, one by one.

use std::ops::Range;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Outcome, Priority, Ticket};

use super::{Load, Monitor, MonitorStep, Outgoing, Scheduler, Step, TICK, Turn, Wakeups};
use crate::run_queue::{Claim, MAX_DELAY, Reply, RunQueues};

const QUICK: Duration = Duration::from_nanos(500);

struct Scene {
    now: Instant,
    scheduler: Scheduler,
    run_queues: RunQueues,
    monitor: Monitor,
}

impl Scene {
    /// A worker at rest: the first thread leads, the others are idle.
    fn at_rest(threads: usize) -> Self {
        let now = Instant::now();
        let (scheduler, run_queues) = (Scheduler::new(threads), RunQueues::new(threads));
        let mut scene = Self { now, scheduler, run_queues, monitor: Monitor::new(now) };
        assert_eq!(scene.leads(0), (vec![], None));
        (1..threads)
            .for_each(|thread| assert!(matches!(scene.next(thread), (Step::Sleep, Wakeups { leader: false, .. }))));
        scene
    }

    fn next(&mut self, thread: usize) -> (Step, Wakeups) {
        self.scheduler.next(&mut self.run_queues.lock(thread), self.now)
    }

    /// The thread becomes the leader and wakes nobody. Returns the replies to send and the wait.
    fn leads(&mut self, thread: usize) -> (Vec<Reply>, Option<Duration>) {
        match self.next(thread) {
            (Step::Lead(Turn { outgoing: Outgoing { replies, .. }, wait }), NOBODY) => (replies, wait),
            other => panic!("{other:?}"),
        }
    }

    /// The thread takes requests.
    fn takes(&mut self, thread: usize) -> Wakeups {
        match self.next(thread) {
            (Step::Compute, wakeups) => wakeups,
            other => panic!("{other:?}"),
        }
    }

    /// The leader receives this number of requests and ends its turn.
    fn receives(&mut self, requests: u64) -> Wakeups {
        self.receives_as(Priority::Normal, 0..requests)
    }

    fn receives_as(&mut self, priority: Priority, tickets: Range<u64>) -> Wakeups {
        let wakeups =
            self.scheduler.assign(0, priority, tickets.map(|ticket| (Ticket(ticket), Bytes::new())).collect());
        self.scheduler.end_turn();
        wakeups
    }

    /// The thread computes its run queue, each request in this time. Returns how many there were.
    fn computes(&mut self, thread: usize, each: Duration) -> u32 {
        let mut count = 0;
        loop {
            let Some(_) = self.run_queues.lock(thread).begin() else { return count };
            self.now += each;
            self.run_queues.lock(thread).finish(Outcome::Ok(Bytes::new()));
            count += 1;
        }
    }

    /// The monitor looks after a tick.
    fn tick(&mut self) -> (MonitorStep, Wakeups) {
        self.now += TICK;
        self.scheduler.monitor(&self.run_queues, &mut self.monitor, self.now)
    }

    /// Ticks until the monitor rests.
    fn come_to_rest(&mut self) {
        while !matches!(self.tick().0, MonitorStep::Rest) {}
    }
}

const NO_WAIT: Option<Duration> = Some(Duration::ZERO);
const NOBODY: Wakeups = Wakeups { thread: false, monitor: false, leader: false };

#[test]
fn one_thread_receives_computes_and_sends_and_wakes_nobody() {
    let mut scene = Scene::at_rest(1);
    for batch in [1, 3, 64, 1000] {
        scene.receives(batch);
        let mut computed = 0;
        while computed < batch as u32 {
            match scene.next(0) {
                (Step::Compute, wakeups) => assert_eq!(wakeups, NOBODY),
                (Step::Lead(turn), wakeups) => {
                    assert_eq!((turn.wait, wakeups), (NO_WAIT, NOBODY));
                    scene.scheduler.end_turn();
                }
                (Step::Sleep, _) => panic!("there is work"),
            }
            computed += scene.computes(0, QUICK);
        }
        assert!(!scene.leads(0).0.is_empty());
    }
}

#[test]
fn the_monitor_is_woken_by_the_first_request_after_a_rest_and_by_no_other() {
    let mut scene = Scene::at_rest(1);
    scene.come_to_rest();
    for wakeups in [Wakeups { monitor: true, ..NOBODY }, NOBODY, NOBODY] {
        scene.receives(1);
        assert_eq!(scene.takes(0), wakeups);
        scene.computes(0, QUICK);
        scene.leads(0);
    }
}

#[test]
fn replies_do_not_wait_until_all_requests_are_computed() {
    let mut scene = Scene::at_rest(1);
    scene.receives(10);
    scene.takes(0);
    scene.computes(0, MAX_DELAY / 2);
    scene.takes(0);
    scene.computes(0, MAX_DELAY);
    let (replies, wait) = scene.leads(0);
    assert_eq!((replies.len(), wait), (2, NO_WAIT));
}

#[test]
fn nobody_is_woken_for_small_work_one_thread_for_more() {
    let mut scene = Scene::at_rest(4);
    // How long they take is not known yet.
    assert!(scene.receives(1000).thread);
    // One thread that is waking up is enough.
    assert!(!scene.takes(0).thread);
    scene.computes(0, QUICK);
    assert!(scene.scheduler.wakes_up());
    // The rest takes half a millisecond.
    assert!(scene.takes(1).thread);

    let mut scene = Scene::at_rest(4);
    scene.scheduler.pace = QUICK;
    assert!(!scene.receives(50).thread);
    assert!(!scene.takes(0).thread);
    scene.computes(0, MAX_DELAY);
    assert!(scene.takes(0).thread);
}

#[test]
fn an_idle_thread_is_woken_to_lead_if_the_former_leader_computes_for_long() {
    let mut scene = Scene::at_rest(2);
    for (pace, wakeups) in [(QUICK, NOBODY), (MAX_DELAY, Wakeups { thread: true, ..NOBODY })] {
        scene.scheduler.pace = pace;
        scene.receives(1);
        assert_eq!(scene.takes(0), wakeups);
        scene.computes(0, QUICK);
        scene.leads(0);
    }
}

#[test]
fn the_monitor_leads_after_a_leaderless_tick_and_collects_the_replies_before_a_long_request() {
    let mut scene = Scene::at_rest(1);
    scene.scheduler.pace = QUICK;
    scene.receives(4);
    scene.takes(0);
    scene.computes(0, QUICK);
    scene.takes(0);
    scene.run_queues.lock(0).begin().unwrap();
    scene.run_queues.lock(0).finish(Outcome::Ok(Bytes::new()));
    scene.run_queues.lock(0).begin().unwrap();
    assert!(matches!(scene.tick(), (MonitorStep::Tick, NOBODY)));
    match scene.tick() {
        (MonitorStep::Lead(Turn { outgoing, wait }), NOBODY) => {
            assert_eq!((outgoing.replies.len(), wait), (2, Some(TICK)));
        }
        other => panic!("{other:?}"),
    }
    let load = scene.scheduler.load(None, &scene.run_queues, scene.now + TICK);
    assert_eq!((load.computing, load.waiting), (1, 1));
    assert!(load.oldest >= 3 * TICK && load.oldest < 4 * TICK, "{load:?}");
    // The monitor gives leadership up for a thread that becomes idle.
    scene.scheduler.discard(0, &scene.run_queues);
    assert_eq!(scene.scheduler.load(None, &scene.run_queues, scene.now).waiting, 0);
    scene.run_queues.lock(0).finish(Outcome::Ok(Bytes::new()));
    assert!(matches!(scene.next(0), (Step::Sleep, Wakeups { leader: true, .. })));
    scene.scheduler.end_turn();
    assert!(matches!(scene.tick(), (MonitorStep::Tick, Wakeups { thread: true, .. })));
    assert_eq!(scene.leads(0), (vec![], None), "a discarded reply is not sent");
    assert_eq!(scene.scheduler.load(None, &scene.run_queues, scene.now), Load::default());
}

#[test]
fn what_waits_behind_a_long_request_goes_to_an_idle_thread() {
    let mut scene = Scene::at_rest(2);
    scene.scheduler.pace = QUICK;
    for _ in 0..3 {
        scene.receives(8);
        scene.takes(0);
        scene.computes(0, QUICK);
    }
    scene.takes(0);
    scene.run_queues.lock(0).begin().unwrap();
    let waiting = scene.run_queues.lock(0).waiting().count();
    assert!(waiting > 0);
    assert!(matches!(scene.tick(), (MonitorStep::Tick, Wakeups { thread: true, .. })));
    assert!(scene.scheduler.wakes_up());
    assert_eq!(scene.leads(1).1, NO_WAIT);
    scene.scheduler.end_turn();
    scene.takes(1);
    // Its requests are now expected to be long as well: the others are left in the shared queue.
    assert_eq!((scene.run_queues.lock(0).waiting().count(), scene.run_queues.lock(1).waiting().count()), (0, 1));
}

#[test]
fn urgent_requests_are_begun_before_those_that_can_wait_also_after_a_retake() {
    let mut scene = Scene::at_rest(1);
    scene.receives_as(Priority::Low, 0..3);
    // The first chunk is of one request, the next of two.
    scene.takes(0);
    scene.computes(0, QUICK);
    scene.takes(0);
    let begun = |scene: &Scene| scene.run_queues.lock(0).begin().map(|(claim, _)| claim.ticket.0);
    assert_eq!(begun(&scene), Some(1));
    // While it is computed, the one behind it goes back, and urgent ones come.
    scene.tick();
    scene.tick();
    scene.scheduler.end_turn();
    scene.receives_as(Priority::Normal, 10..11);
    scene.receives_as(Priority::High, 20..21);
    scene.run_queues.lock(0).finish(Outcome::Ok(Bytes::new()));
    let mut order = Vec::new();
    while scene.scheduler.load(None, &scene.run_queues, scene.now).waiting > 0 {
        if let (Step::Compute, _) = scene.next(0) {
            while let Some(ticket) = begun(&scene) {
                scene.run_queues.lock(0).finish(Outcome::Ok(Bytes::new()));
                order.push(ticket);
            }
        } else {
            scene.scheduler.end_turn();
        }
    }
    assert_eq!(order, [20, 10, 2]);
}

#[test]
fn an_urgent_reply_is_sent_before_requests_that_can_wait_are_computed() {
    let mut scene = Scene::at_rest(1);
    scene.receives_as(Priority::Low, 0..3);
    scene.receives_as(Priority::Normal, 10..11);
    scene.takes(0);
    assert_eq!(scene.computes(0, QUICK), 1);
    let (replies, wait) = scene.leads(0);
    assert_eq!((replies.len(), replies[0].0, wait), (1, Claim { link: 0, ticket: Ticket(10) }, Some(Duration::ZERO)));
    scene.scheduler.end_turn();
    // Those of requests that can wait travel together.
    scene.takes(0);
    scene.computes(0, QUICK);
    scene.takes(0);
}
