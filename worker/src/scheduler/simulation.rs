//! A simulation: threads, a monitor and one or two brokers act in random order, in virtual time, on a real
//! scheduler. A sleeper continues only after the scheduler has had it woken, so that a lost wake-up
//! leaves something undone for ever.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Outcome, Priority, Progress, Ticket};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::{Monitor, MonitorStep, Outgoing, Scheduler, Step, TICK, Turn, Wakeups};
use crate::run_queue::{Claim, RunQueues};

/// The time that a long request takes.
const LONG: Duration = Duration::from_secs(10);

/// The most time that anything may take besides long requests: some ticks, and the turns of the
/// others.
const SOON: Duration = Duration::from_millis(20);

#[test]
fn nobody_sleeps_while_there_is_something_to_do() {
    let seeds = 0..500;
    for seed in seeds {
        World::new(seed).run();
    }
}

/// What a thread or the monitor is doing.
#[derive(Debug)]
enum At {
    Asking,
    /// Waking others, before it does what follows.
    Waking(Wakeups, Box<At>),
    Computing(Option<(Claim, Instant)>),
    Asleep,
    Woken,
    Leading(Turn),
    Poll(Option<Duration>, Instant),
    Receiving,
    /// The monitor, until then.
    Ticking(Instant),
}

enum Message {
    Dispatch(usize, Vec<Ticket>),
    Cancel(usize, Vec<Ticket>),
    Ping,
    RegisterAgain(usize),
}

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waiting,
    Computed(Instant),
    Sent,
    Forgotten,
}

struct World {
    seed: u64,
    random: Xoshiro256PlusPlus,
    /// The probability that a request can't be computed for now.
    unable: f64,
    now: Instant,
    scheduler: Scheduler,
    run_queues: RunQueues,
    monitor: Monitor,
    /// The threads, then the monitor.
    all: Vec<At>,
    alarm: bool,
    /// The messages that the broker has still to send, the last one first.
    plan: Vec<Message>,
    socket: VecDeque<(Instant, Message)>,
    /// Whether a request is a long one, and its state.
    fates: BTreeMap<Claim, (bool, Fate)>,
    /// Since when a report has not been sent.
    report_since: Option<Instant>,
    /// Since when requests have waited while a thread was idle.
    idle_since: Option<Instant>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let threads = [1, 1, 2, 3, 5][random.random_range(0..5)];
        let long_ones = [0.0, 0.02, 0.2][random.random_range(0..3)];
        let unable = [0.0, 0.0, 0.01, 0.1][random.random_range(0..4)];
        let mut fates = BTreeMap::new();
        let mut plan = Vec::new();
        let links = random.random_range(1..3);
        for _ in 0..random.random_range(1..30) {
            let link = random.random_range(0..links);
            // Both brokers use the same tickets.
            let known = fates.keys().filter(|claim: &&Claim| claim.link == link).map(|claim| claim.ticket);
            plan.push(match random.random_range(0..20) {
                0..3 => Message::Ping,
                3 => Message::RegisterAgain(link),
                4..6 => Message::Cancel(link, known.filter(|_| random.random_bool(0.2)).collect()),
                _ => {
                    let first = known.count() as u64;
                    let tickets: Vec<_> = (first..first + random.random_range(1..40)).map(Ticket).collect();
                    let claims = tickets.iter().map(|&ticket| Claim { link, ticket });
                    fates.extend(claims.map(|it| (it, (random.random_bool(long_ones), Fate::Waiting))));
                    Message::Dispatch(link, tickets)
                }
            });
        }
        plan.reverse();
        let now = Instant::now();
        let mut all: Vec<_> = (0..threads).map(|_| At::Asking).collect();
        all.push(At::Ticking(now + TICK));
        let (scheduler, run_queues, monitor) = (Scheduler::new(threads), RunQueues::new(threads), Monitor::new(now));
        Self {
            seed,
            random,
            unable,
            now,
            scheduler,
            run_queues,
            monitor,
            all,
            alarm: false,
            plan,
            socket: VecDeque::new(),
            fates,
            report_since: None,
            idle_since: None,
        }
    }

    fn run(mut self) {
        loop {
            self.check();
            if self.random.random_bool(0.02) {
                self.report();
            }
            let able: Vec<_> =
                (0..self.all.len()).filter(|&who| self.due(who).is_some_and(|at| at <= self.now)).collect();
            // The broker sends in between, or when nothing else happens any more.
            let next = (0..self.all.len()).filter_map(|who| self.due(who)).min();
            let sends = self.random.random_bool(0.02) || next.is_none_or(|at| at > self.now + 30 * TICK);
            if sends && let Some(message) = self.plan.pop() {
                self.socket.push_back((self.now, message));
            } else if !able.is_empty() {
                let who = able[self.random.random_range(0..able.len())];
                self.act(who);
                self.now += Duration::from_micros(self.random.random_range(0..20));
            } else if let Some(at) = next {
                self.now = at;
            } else {
                break self.check_the_end();
            }
        }
    }

    /// When one can continue, if nobody wakes it before.
    fn due(&self, who: usize) -> Option<Instant> {
        match &self.all[who] {
            At::Computing(Some((_, until))) | At::Ticking(until) => Some(*until),
            At::Poll(wait, since) if self.socket.is_empty() && !self.alarm => wait.map(|limit| *since + limit),
            At::Asleep => None,
            _ => Some(self.now),
        }
    }

    fn act(&mut self, who: usize) {
        let is_monitor = who == self.all.len() - 1;
        let at = std::mem::replace(&mut self.all[who], At::Asking);
        self.all[who] = match at {
            At::Waking(wakeups, then) => {
                self.wake(wakeups);
                *then
            }
            At::Computing(Some((claim, _))) if self.random.random_bool(self.unable) => self.hand_back(who, claim),
            At::Computing(done) => {
                let mut run_queue = self.run_queues.lock(who);
                if let Some((claim, _)) = done {
                    run_queue.finish(Outcome::Ok(Bytes::new()));
                    let fate = &mut self.fates.get_mut(&claim).unwrap().1;
                    *fate = if *fate == Fate::Waiting { Fate::Computed(self.now) } else { *fate };
                }
                match run_queue.begin() {
                    None => At::Asking,
                    Some((claim, _)) => {
                        let took = if self.fates[&claim].0 { LONG } else { Duration::ZERO };
                        At::Computing(Some((claim, self.now + took)))
                    }
                }
            }
            At::Woken if is_monitor => {
                if self.scheduler.ticking() {
                    At::Ticking(self.now + TICK)
                } else {
                    At::Asleep
                }
            }
            At::Woken => {
                if self.scheduler.wakes_up() {
                    At::Asking
                } else {
                    At::Asleep
                }
            }
            At::Leading(Turn { outgoing: Outgoing { replies, unable, .. }, wait }) => {
                let returned = unable.into_iter().flat_map(|unable| unable.claims);
                for claim in replies.into_iter().map(|(claim, _)| claim).chain(returned) {
                    let fate = &mut self.fates.get_mut(&claim).unwrap().1;
                    assert!(matches!(fate, Fate::Computed(_)), "seed {}: {claim:?} was {fate:?}", self.seed);
                    *fate = Fate::Sent;
                }
                self.report_since = None;
                At::Poll(wait, self.now)
            }
            At::Poll(wait, _) => {
                self.alarm &= wait == Some(Duration::ZERO);
                At::Receiving
            }
            At::Receiving => match self.socket.pop_front() {
                Some((_, message)) => {
                    self.receive(message);
                    At::Receiving
                }
                None => {
                    self.scheduler.end_turn();
                    if is_monitor { self.monitor() } else { self.next(who) }
                }
            },
            At::Ticking(_) => self.monitor(),
            At::Asking => self.next(who),
            At::Asleep => unreachable!("a sleeper does nothing"),
        };
    }

    /// The current request of a thread can't be computed for now.
    fn hand_back(&mut self, who: usize, claim: Claim) -> At {
        let returned = self.run_queues.lock(who).put_back();
        self.is_due(claim);
        let wakeups = self.scheduler.hand_back("no program".into(), returned, &self.run_queues);
        self.returned_are_due();
        At::Waking(wakeups, Box::new(At::Computing(None)))
    }

    /// The broker is to hear of this request soon.
    fn is_due(&mut self, claim: Claim) {
        let fate = &mut self.fates.get_mut(&claim).unwrap().1;
        *fate = if *fate == Fate::Waiting { Fate::Computed(self.now) } else { *fate };
    }

    fn returned_are_due(&mut self) {
        let unable = self.scheduler.outgoing.unable.as_ref();
        let claims = unable.map(|unable| unable.claims.clone()).unwrap_or_default();
        claims.into_iter().for_each(|claim| self.is_due(claim));
    }

    fn next(&mut self, who: usize) -> At {
        let (step, wakeups) = self.scheduler.next(&mut self.run_queues.lock(who), self.now);
        match step {
            Step::Compute => At::Waking(wakeups, Box::new(At::Computing(None))),
            Step::Lead(turn) => At::Waking(wakeups, Box::new(At::Leading(turn))),
            Step::Sleep => {
                self.wake(wakeups);
                if self.scheduler.wakes_up() { At::Asking } else { At::Asleep }
            }
        }
    }

    fn monitor(&mut self) -> At {
        let (step, wakeups) = self.scheduler.monitor(&self.run_queues, &mut self.monitor, self.now);
        match step {
            MonitorStep::Lead(turn) => At::Waking(wakeups, Box::new(At::Leading(turn))),
            MonitorStep::Tick => {
                self.wake(wakeups);
                At::Ticking(self.now + TICK)
            }
            MonitorStep::Rest => {
                assert_eq!(wakeups, Wakeups::default());
                At::Asleep
            }
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Dispatch(link, tickets) => {
                let requests = tickets.into_iter().map(|ticket| (ticket, Bytes::new())).collect();
                let priority = Priority::ALL[self.random.random_range(0..Priority::ALL.len())];
                let wakeups = self.scheduler.assign(link, priority, requests);
                self.returned_are_due();
                self.wake(wakeups);
            }
            Message::Cancel(link, tickets) => {
                self.scheduler.cancel(link, &tickets, &self.run_queues, self.now);
                for claim in tickets.into_iter().map(|ticket| Claim { link, ticket }) {
                    let begun = |at: &At| matches!(at, At::Computing(Some((begun, _))) if *begun == claim);
                    let fate = &mut self.fates.get_mut(&claim).unwrap().1;
                    if *fate == Fate::Waiting && !self.all.iter().any(begun) {
                        *fate = Fate::Computed(self.now);
                    }
                }
            }
            Message::Ping => {}
            Message::RegisterAgain(link) => {
                self.scheduler.discard(link, &self.run_queues);
                if self.scheduler.outgoing.reports.is_empty() {
                    self.report_since = None;
                }
                let messages: Vec<_> = self.plan.iter().chain(self.socket.iter().map(|(_, message)| message)).collect();
                let to_come: Vec<_> = messages
                    .iter()
                    .filter_map(|it| if let Message::Dispatch(of, it) = it { Some((of, it)) } else { None })
                    .flat_map(|(&link, tickets)| tickets.iter().map(move |&ticket| Claim { link, ticket }))
                    .collect();
                for (claim, (_, fate)) in self.fates.iter_mut().filter(|(claim, _)| claim.link == link) {
                    if *fate != Fate::Sent && !to_come.contains(claim) {
                        *fate = Fate::Forgotten;
                    }
                }
            }
        }
    }

    /// A thread that computes reports its progress, if there is one.
    fn report(&mut self) {
        let computing = |at: &At| matches!(at, At::Computing(Some(_)));
        let Some(who) = self.all.iter().position(computing) else { return };
        let Some(claim) = self.run_queues.lock(who).begin_report(self.now) else { return };
        let wakeups = self.scheduler.report((claim, Progress::default()));
        self.wake(wakeups);
        self.report_since.get_or_insert(self.now);
    }

    fn wake(&mut self, wakeups: Wakeups) {
        let (monitor, threads) = self.all.split_last_mut().unwrap();
        if wakeups.thread {
            let mut asleep: Vec<_> = threads.iter_mut().filter(|at| matches!(at, At::Asleep)).collect();
            if !asleep.is_empty() {
                let chosen = self.random.random_range(0..asleep.len());
                *asleep[chosen] = At::Woken;
            }
        }
        if wakeups.monitor && matches!(monitor, At::Asleep) {
            *monitor = At::Woken;
        }
        self.alarm |= wakeups.leader;
    }

    /// However long some requests take, messages are received, replies are sent, and idle threads
    /// help.
    fn check(&mut self) {
        let late = |since: Instant| self.now > since + SOON;
        let heard = self.socket.front().is_none_or(|&(since, _)| !late(since));
        assert!(heard, "seed {}: messages are not received: {:?}", self.seed, self.all);
        for (claim, (_, fate)) in &self.fates {
            let kept = matches!(fate, Fate::Computed(since) if late(*since));
            assert!(!kept, "seed {}: the reply to {claim:?} is not sent: {:?}", self.seed, self.all);
        }
        assert!(!self.report_since.is_some_and(late), "seed {}: a report is not sent: {:?}", self.seed, self.all);
        let waits = !self.scheduler.queue.is_empty()
            || self.run_queues.each().any(|run_queue| run_queue.waiting().next().is_some());
        let threads = &self.all[..self.all.len() - 1];
        let idle = waits && threads.iter().any(|at| matches!(at, At::Asleep | At::Poll(..)));
        let since = self.idle_since.filter(|_| idle).or(idle.then_some(self.now));
        assert!(!since.is_some_and(late), "seed {}: no idle thread helps: {:?}", self.seed, self.all);
        self.idle_since = since;
    }

    fn check_the_end(&self) {
        let undone = self.fates.iter().find(|(_, (_, fate))| !matches!(fate, Fate::Sent | Fate::Forgotten));
        assert_eq!(undone, None, "seed {}: {:?}", self.seed, self.all);
        let (monitor, threads) = self.all.split_last().unwrap();
        let polling = threads.iter().filter(|at| matches!(at, At::Poll(None, _))).count();
        let asleep = threads.iter().filter(|at| matches!(at, At::Asleep)).count();
        let at_rest = (polling, asleep) == (1, threads.len() - 1) && matches!(monitor, At::Asleep);
        assert!(at_rest, "seed {}: {:?}", self.seed, self.all);
    }
}
