//! Threads, a watchman and a broker that act in random order, in virtual time, on a real board. Who
//! sleeps goes on only when the board has had him woken, so that a wake-up which is forgotten
//! leaves something undone for ever.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Outcome, Progress, Ticket};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::{Board, Calls, Duty, Stay, Step, TICK, Visit, Watch};
use crate::hand::Hands;

/// How long a long request takes.
const LONG: Duration = Duration::from_secs(10);

/// What anything may take that nothing long stands in the way of: some ticks, and the time in which
/// others had their turns.
const SOON: Duration = Duration::from_millis(20);

#[test]
fn nobody_sleeps_while_there_is_something_to_do() {
    let seeds = 0..500;
    for seed in seeds {
        World::new(seed).run();
    }
}

/// Where a thread, or the watchman, is.
#[derive(Debug)]
enum At {
    Board,
    /// Not yet where it goes, since it wakes others first.
    Calling(Calls, Box<At>),
    Computing(Option<(Ticket, Instant)>),
    Asleep,
    Woken,
    Desk(Visit<()>),
    Poll(Stay, Instant),
    Hearing,
    /// The watchman, until then.
    Ticking(Instant),
}

enum Message {
    Dispatch(Vec<Ticket>),
    Cancel(Vec<Ticket>),
    Ping,
    RegisterAgain,
}

/// What has become of a request.
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
    /// How often a request can't be computed for now.
    trouble: f64,
    now: Instant,
    board: Board<()>,
    hands: Hands,
    watch: Watch,
    /// The threads, then the watchman.
    all: Vec<At>,
    alarm: bool,
    /// What the broker has still to say.
    plan: Vec<Message>,
    socket: VecDeque<(Instant, Message)>,
    /// Whether a request is a long one, and what has become of it.
    fates: BTreeMap<Ticket, (bool, Fate)>,
    /// Since when there has been news that is not sent.
    news_since: Option<Instant>,
    /// Since when requests have waited while a thread computed nothing.
    idle_since: Option<Instant>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let threads = [1, 1, 2, 3, 5][random.random_range(0..5)];
        let long_ones = [0.0, 0.02, 0.2][random.random_range(0..3)];
        let trouble = [0.0, 0.0, 0.01, 0.1][random.random_range(0..4)];
        let mut fates = BTreeMap::new();
        let mut plan = Vec::new();
        for _ in 0..random.random_range(1..30) {
            plan.push(match random.random_range(0..20) {
                0..3 => Message::Ping,
                3 => Message::RegisterAgain,
                4..6 => Message::Cancel(fates.keys().copied().filter(|_| random.random_bool(0.2)).collect()),
                _ => {
                    let first = fates.len() as u64;
                    let tickets: Vec<_> = (first..first + random.random_range(1..40)).map(Ticket).collect();
                    fates.extend(tickets.iter().map(|&it| (it, (random.random_bool(long_ones), Fate::Waiting))));
                    Message::Dispatch(tickets)
                }
            });
        }
        plan.reverse();
        let now = Instant::now();
        let mut all: Vec<_> = (0..threads).map(|_| At::Board).collect();
        all.push(At::Ticking(now + TICK));
        let (board, hands, watch) = (Board::new((), threads), Hands::new(threads), Watch::begin(now));
        Self {
            seed,
            random,
            trouble,
            now,
            board,
            hands,
            watch,
            all,
            alarm: false,
            plan,
            socket: VecDeque::new(),
            fates,
            news_since: None,
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
            // The broker speaks in between, or when nothing else happens any more.
            let next = (0..self.all.len()).filter_map(|who| self.due(who)).min();
            let speaks = self.random.random_bool(0.02) || next.is_none_or(|at| at > self.now + 30 * TICK);
            if speaks && let Some(message) = self.plan.pop() {
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

    /// When somebody can go on, if nobody does anything for him before.
    fn due(&self, who: usize) -> Option<Instant> {
        match &self.all[who] {
            At::Computing(Some((_, until))) | At::Ticking(until) => Some(*until),
            At::Poll(stay, since) if self.socket.is_empty() && !self.alarm => match stay {
                Stay::AtMost(limit) => Some(*since + *limit),
                Stay::UntilCalled => None,
                Stay::Glance => Some(self.now),
            },
            At::Asleep => None,
            _ => Some(self.now),
        }
    }

    fn act(&mut self, who: usize) {
        let watchman = who == self.all.len() - 1;
        let at = std::mem::replace(&mut self.all[who], At::Board);
        self.all[who] = match at {
            At::Calling(calls, then) => {
                self.make(calls);
                *then
            }
            At::Computing(Some((ticket, _))) if self.random.random_bool(self.trouble) => self.give_up(who, ticket),
            At::Computing(done) => {
                let mut hand = self.hands.lock(who);
                if let Some((ticket, _)) = done {
                    hand.finish(ticket, Outcome::Ok(Bytes::new()));
                    let fate = &mut self.fates.get_mut(&ticket).unwrap().1;
                    *fate = if *fate == Fate::Waiting { Fate::Computed(self.now) } else { *fate };
                }
                match hand.begin() {
                    None => At::Board,
                    Some((ticket, _)) => {
                        let took = if self.fates[&ticket].0 { LONG } else { Duration::ZERO };
                        At::Computing(Some((ticket, self.now + took)))
                    }
                }
            }
            At::Woken if watchman => {
                if self.board.ticking() {
                    At::Ticking(self.now + TICK)
                } else {
                    At::Asleep
                }
            }
            At::Woken => {
                if self.board.answer_call() {
                    At::Board
                } else {
                    At::Asleep
                }
            }
            At::Desk(visit) => {
                for (ticket, _) in visit.done {
                    let fate = &mut self.fates.get_mut(&ticket).unwrap().1;
                    assert!(matches!(fate, Fate::Computed(_)), "seed {}: {ticket:?} was {fate:?}", self.seed);
                    *fate = Fate::Sent;
                }
                for ticket in visit.trouble.into_iter().flat_map(|trouble| trouble.tickets) {
                    let fate = &mut self.fates.get_mut(&ticket).unwrap().1;
                    assert!(matches!(fate, Fate::Computed(_)), "seed {}: {ticket:?} was {fate:?}", self.seed);
                    *fate = Fate::Sent;
                }
                self.news_since = None;
                At::Poll(visit.stay, self.now)
            }
            At::Poll(stay, _) => {
                self.alarm &= stay == Stay::Glance;
                At::Hearing
            }
            At::Hearing => match self.socket.pop_front() {
                Some((_, message)) => {
                    self.hear(message);
                    At::Hearing
                }
                None => {
                    self.board.leave(());
                    if watchman { self.patrol() } else { self.look(who) }
                }
            },
            At::Ticking(_) => self.patrol(),
            At::Board => self.look(who),
            At::Asleep => unreachable!("who sleeps does nothing"),
        };
    }

    /// What somebody has begun can't be computed for now.
    fn give_up(&mut self, who: usize, ticket: Ticket) -> At {
        let given_back = self.hands.lock(who).put_back(ticket).then_some(ticket);
        self.is_due(ticket);
        let calls = self.board.give_up("no program".into(), given_back, &self.hands);
        self.trouble_is_due();
        At::Calling(calls, Box::new(At::Computing(None)))
    }

    /// The broker is to hear of it now.
    fn is_due(&mut self, ticket: Ticket) {
        let fate = &mut self.fates.get_mut(&ticket).unwrap().1;
        *fate = if *fate == Fate::Waiting { Fate::Computed(self.now) } else { *fate };
    }

    fn trouble_is_due(&mut self) {
        let tickets = self.board.trouble.as_ref().map(|trouble| trouble.tickets.clone()).unwrap_or_default();
        tickets.into_iter().for_each(|ticket| self.is_due(ticket));
    }

    fn look(&mut self, who: usize) -> At {
        let (step, calls) = self.board.next(&mut self.hands.lock(who), self.now);
        match step {
            Step::Compute => At::Calling(calls, Box::new(At::Computing(None))),
            Step::Attend(visit) => At::Calling(calls, Box::new(At::Desk(visit))),
            Step::Sleep => {
                self.make(calls);
                if self.board.answer_call() { At::Board } else { At::Asleep }
            }
        }
    }

    fn patrol(&mut self) -> At {
        let (duty, calls) = self.board.patrol(&self.hands, &mut self.watch, self.now);
        match duty {
            Duty::Attend(visit) => At::Calling(calls, Box::new(At::Desk(visit))),
            Duty::Tick => {
                self.make(calls);
                At::Ticking(self.now + TICK)
            }
            Duty::Rest => {
                assert_eq!(calls, Calls::default());
                At::Asleep
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Dispatch(tickets) => {
                let calls = self.board.assign(tickets.into_iter().map(|ticket| (ticket, Bytes::new())).collect());
                self.trouble_is_due();
                self.make(calls);
            }
            Message::Cancel(tickets) => {
                self.board.cancel(&tickets, &self.hands, self.now);
                for ticket in tickets {
                    let begun = |at: &At| matches!(at, At::Computing(Some((begun, _))) if *begun == ticket);
                    let fate = &mut self.fates.get_mut(&ticket).unwrap().1;
                    if *fate == Fate::Waiting && !self.all.iter().any(begun) {
                        *fate = Fate::Computed(self.now);
                    }
                }
            }
            Message::Ping => {}
            Message::RegisterAgain => {
                self.board.discard(&self.hands);
                self.news_since = None;
                let told: Vec<_> = self.plan.iter().chain(self.socket.iter().map(|(_, message)| message)).collect();
                let to_come: Vec<_> = told
                    .iter()
                    .filter_map(|it| if let Message::Dispatch(it) = it { Some(it) } else { None })
                    .flatten()
                    .collect();
                for (ticket, (_, fate)) in &mut self.fates {
                    if *fate != Fate::Sent && !to_come.contains(&ticket) {
                        *fate = Fate::Forgotten;
                    }
                }
            }
        }
    }

    /// Somebody who computes says how far he is, if somebody does.
    fn report(&mut self) {
        let computing = |at: &At| matches!(at, At::Computing(Some(_)));
        let Some(who) = self.all.iter().position(computing) else { return };
        let Some(ticket) = self.hands.lock(who).has_news(self.now) else { return };
        let calls = self.board.report((ticket, Progress::default()));
        self.make(calls);
        self.news_since.get_or_insert(self.now);
    }

    fn make(&mut self, calls: Calls) {
        let (watchman, threads) = self.all.split_last_mut().unwrap();
        if calls.thread {
            let mut asleep: Vec<_> = threads.iter_mut().filter(|at| matches!(at, At::Asleep)).collect();
            if !asleep.is_empty() {
                let chosen = self.random.random_range(0..asleep.len());
                *asleep[chosen] = At::Woken;
            }
        }
        if calls.watchman && matches!(watchman, At::Asleep) {
            *watchman = At::Woken;
        }
        self.alarm |= calls.alarm;
    }

    /// However long some compute, the broker is heard, results are sent, and who computes nothing
    /// helps.
    fn check(&mut self) {
        let late = |since: Instant| self.now > since + SOON;
        let heard = self.socket.front().is_none_or(|&(since, _)| !late(since));
        assert!(heard, "seed {}: the broker is not heard: {:?}", self.seed, self.all);
        for (ticket, (_, fate)) in &self.fates {
            let kept = matches!(fate, Fate::Computed(since) if late(*since));
            assert!(!kept, "seed {}: the result of {ticket:?} is not sent: {:?}", self.seed, self.all);
        }
        assert!(!self.news_since.is_some_and(late), "seed {}: news is not sent: {:?}", self.seed, self.all);
        let waits = !self.board.queue.is_empty() || self.hands.each().any(|hand| hand.waiting() > 0);
        let threads = &self.all[..self.all.len() - 1];
        let idle = waits && threads.iter().any(|at| matches!(at, At::Asleep | At::Poll(..)));
        let since = self.idle_since.filter(|_| idle).or(idle.then_some(self.now));
        assert!(!since.is_some_and(late), "seed {}: nobody helps: {:?}", self.seed, self.all);
        self.idle_since = since;
    }

    fn check_the_end(&self) {
        let undone = self.fates.iter().find(|(_, (_, fate))| !matches!(fate, Fate::Sent | Fate::Forgotten));
        assert_eq!(undone, None, "seed {}: {:?}", self.seed, self.all);
        let (watchman, threads) = self.all.split_last().unwrap();
        let polling = threads.iter().filter(|at| matches!(at, At::Poll(Stay::UntilCalled, _))).count();
        let asleep = threads.iter().filter(|at| matches!(at, At::Asleep)).count();
        let at_rest = (polling, asleep) == (1, threads.len() - 1) && matches!(watchman, At::Asleep);
        assert!(at_rest, "seed {}: {:?}", self.seed, self.all);
    }
}
