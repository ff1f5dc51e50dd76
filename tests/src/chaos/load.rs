//! Clients of a fault hunt, each a thread with a connection of its own, that check all that they
//! are told.
//!
//! Each keeps its own books beside the library's: what it asked for, and what was answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use giostra_client::{Client, Error, Options};
use giostra_protocol::{Outcome, Reply, RequestId, code};
use giostra_transport::shutdown::Shutdown;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::calls::{Oracle, Task};
use crate::System;

/// How often a client that gets no reply looks what it is to do.
const TICK: Duration = Duration::from_millis(20);

/// Silences from here on are noted one by one.
const NOTABLE: Duration = Duration::from_millis(200);

/// How much earlier than at its time limit a request may expire: the broker's clock stands still
/// while it reads.
const EARLY: Duration = Duration::from_millis(50);

/// For how long a client puts up with there being no broker: for longer than any fault lasts.
pub const BROKER_TIMEOUT: Duration = Duration::from_secs(60);

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
struct Habit {
    name: &'static str,
    window: usize,
    /// The longest time limit of a request; some are then bound to expire.
    limit: Option<Duration>,
    /// Whether it gives up all that is unanswered now and then.
    cancels: bool,
}

const HABITS: [Habit; 6] = [
    Habit { name: "single", window: 1, limit: None, cancels: false },
    Habit { name: "few", window: 16, limit: None, cancels: false },
    Habit { name: "many", window: 512, limit: None, cancels: false },
    Habit { name: "hasty", window: 64, limit: Some(Duration::from_millis(40)), cancels: false },
    Habit { name: "patient", window: 64, limit: Some(Duration::from_secs(3)), cancels: false },
    Habit { name: "fickle", window: 128, limit: None, cancels: true },
];

/// The clients have to do this.
const SUBMIT: u8 = 0;
/// They submit nothing more, and wait for what is unanswered.
const FINISH: u8 = 1;
/// They go at once.
const GO: u8 = 2;

/// A time in which a client that waited for replies got none.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// The client.
    pub client: &'static str,
    /// When it had last got one, or had begun to wait.
    pub from: Instant,
    /// When the next one came.
    pub to: Instant,
}

/// What became of the clients' requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests submitted.
    pub requests: u64,
    /// Those without any reply in the end.
    pub lost: u64,
    /// Replies to requests that had one already.
    pub duplicated: u64,
    /// Replies that were not what they should have been.
    pub wrong: u64,
    /// Requests that reached their time limit, as some are to.
    pub expired: u64,
    /// Requests that were given up.
    pub cancelled: u64,
    /// Requests that were answered by another worker than the first one they were handed to.
    pub redispatched: u64,
    /// The longest time from a request to its reply.
    pub slowest: Duration,
    /// The longest time by which a reply came after its request's time limit.
    pub overdue: Duration,
    /// The longest time by which a request expired before its time limit.
    pub early: Duration,
    /// The longest time in which a client that waited for replies got none.
    pub worst_gap: Duration,
    /// The notable ones.
    pub silences: Vec<Silence>,
    /// What was lost or wrong, in words; the first few.
    pub troubles: Vec<String>,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.redispatched += other.redispatched;
        self.slowest = self.slowest.max(other.slowest);
        self.overdue = self.overdue.max(other.overdue);
        self.early = self.early.max(other.early);
        self.worst_gap = self.worst_gap.max(other.worst_gap);
        self.silences.extend(other.silences);
        other.troubles.into_iter().for_each(|trouble| self.trouble(trouble));
    }

    /// Notes what went wrong, unless enough was noted already.
    pub fn trouble(&mut self, trouble: String) {
        const ENOUGH: usize = 100;
        if self.troubles.len() < ENOUGH {
            self.troubles.push(trouble);
        }
    }
}

/// A list of brokers, the last `places` of them first.
fn rotated(list: &str, places: usize) -> String {
    let mut brokers: Vec<_> = list.split(',').collect();
    brokers.rotate_right(places);
    brokers.join(",")
}

/// The running clients. They go when it is dropped.
pub struct Load {
    todo: Arc<AtomicU8>,
    threads: Vec<JoinHandle<Result<Tally, Error>>>,
}

impl Load {
    /// Starts them; what they ask for is drawn from `seed`.
    pub fn start(system: &System, seed: u64, shutdown: &Shutdown) -> Result<Self> {
        let mut load = Self { todo: Arc::new(AtomicU8::new(SUBMIT)), threads: Vec::new() };
        for (habit, number) in HABITS.into_iter().zip(1..) {
            let client = Client::connect(Options {
                // Half of them begin at the last broker.
                broker: rotated(&system.frontends(), number as usize % 2),
                name: format!("chaos-{}", habit.name),
                broker_timeout: BROKER_TIMEOUT,
                credentials: system.client_credentials()?,
                shutdown: Some(shutdown.clone()),
                ..Options::default()
            })?;
            let todo = Arc::clone(&load.todo);
            let random = StdRng::seed_from_u64(seed ^ number);
            let run = move || Requester::new(habit, client, random).run(&todo);
            load.threads.push(thread::Builder::new().name(habit.name.into()).spawn(run)?);
        }
        Ok(load)
    }

    /// Lets them finish what is unanswered. What is not answered by then is lost.
    pub fn finish(mut self, by: Instant) -> Result<Tally> {
        self.todo.store(FINISH, Ordering::Relaxed);
        while Instant::now() < by && !self.threads.iter().all(JoinHandle::is_finished) {
            thread::sleep(TICK);
        }
        self.todo.store(GO, Ordering::Relaxed);
        let mut tally = Tally::default();
        for thread in self.threads.drain(..) {
            tally.add(thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(tally)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.todo.store(GO, Ordering::Relaxed);
    }
}

struct Waiting {
    task: Task,
    since: Instant,
    limit: Option<Duration>,
}

struct Requester {
    habit: Habit,
    client: Client,
    random: StdRng,
    oracle: Oracle,
    waiting: HashMap<RequestId, Waiting>,
    answered: HashSet<RequestId>,
    /// Since when there has been no reply, or nothing to wait for.
    quiet_since: Instant,
    cancel_at: Instant,
    tally: Tally,
}

impl Requester {
    fn new(habit: Habit, client: Client, random: StdRng) -> Self {
        let now = Instant::now();
        Self {
            habit,
            client,
            random,
            oracle: Oracle::new(),
            waiting: HashMap::new(),
            answered: HashSet::new(),
            quiet_since: now,
            cancel_at: now,
            tally: Tally::default(),
        }
    }

    fn run(mut self, todo: &AtomicU8) -> Result<Tally, Error> {
        loop {
            match todo.load(Ordering::Relaxed) {
                SUBMIT => self.submit()?,
                FINISH if !self.waiting.is_empty() => {}
                _ => break,
            }
            let mut reply = self.client.next_reply(Some(TICK))?;
            while let Some(some) = reply {
                self.judge(&some);
                reply = self.client.take_reply();
            }
            if self.habit.cancels && self.cancel_at <= Instant::now() {
                self.cancel()?;
            }
        }
        if !self.waiting.is_empty() {
            self.silence_ends(Instant::now());
            self.tally.lost += self.waiting.len() as u64;
            let mut ids: Vec<_> = self.waiting.keys().map(|id| id.0).collect();
            ids.sort_unstable();
            self.trouble(&format!("never answered: {ids:?}"));
        }
        let twice = self.client.duplicated();
        if twice > 0 {
            self.trouble(&format!("the library threw away {twice} second replies"));
        }
        self.tally.duplicated += twice;
        Ok(self.tally)
    }

    fn submit(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            self.quiet_since = Instant::now();
        }
        while self.waiting.len() < self.habit.window {
            let task = Task::draw(&mut self.random);
            let limit = self.habit.limit.map(|most| self.random.random_range(Duration::from_millis(1)..=most));
            let since = Instant::now();
            let id = self.client.submit_within(task.body.clone(), limit)?;
            self.waiting.insert(id, Waiting { task, since, limit });
            self.tally.requests += 1;
        }
        Ok(())
    }

    fn judge(&mut self, reply: &Reply) {
        let now = Instant::now();
        self.silence_ends(now);
        let Some(Waiting { task, since, limit }) = self.waiting.remove(&reply.id) else {
            if self.answered.contains(&reply.id) {
                self.tally.duplicated += 1;
                return self.trouble(&format!("request {} was answered twice", reply.id.0));
            }
            self.tally.wrong += 1;
            return self.trouble(&format!("request {} was answered though it was given up", reply.id.0));
        };
        self.answered.insert(reply.id);
        let took = now - since;
        self.tally.slowest = self.tally.slowest.max(took);
        self.tally.redispatched += u64::from(reply.trace.attempts > 1);
        if let Some(limit) = limit {
            self.tally.overdue = self.tally.overdue.max(took.saturating_sub(limit));
        }
        match &reply.outcome {
            Outcome::Error(failure)
                if limit.is_some() && [code::EXPIRED, code::NO_BROKER].contains(&&*failure.code) =>
            {
                self.tally.expired += 1;
                let early = limit.map_or(Duration::ZERO, |limit| limit.saturating_sub(took));
                self.tally.early = self.tally.early.max(early);
                if early > EARLY {
                    self.tally.wrong += 1;
                    self.trouble(&format!("request {} expired after {took:?}, not {limit:?}", reply.id.0));
                }
            }
            outcome if self.oracle.is_right(&task, outcome) => {}
            outcome => {
                self.tally.wrong += 1;
                let body = String::from_utf8_lossy(&task.body).into_owned();
                self.trouble(&format!("request {} ({body}): {outcome:?} by {:?}", reply.id.0, reply.trace.worker));
            }
        }
    }

    fn cancel(&mut self) -> Result<(), Error> {
        self.cancel_at = Instant::now() + Duration::from_millis(self.random.random_range(1..500));
        self.client.cancel_all()?;
        // What is here already is still handed out.
        while let Some(reply) = self.client.take_reply() {
            self.judge(&reply);
        }
        self.tally.cancelled += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    fn silence_ends(&mut self, now: Instant) {
        let gap = now - self.quiet_since;
        self.tally.worst_gap = self.tally.worst_gap.max(gap);
        if gap >= NOTABLE {
            self.tally.silences.push(Silence { client: self.habit.name, from: self.quiet_since, to: now });
        }
        self.quiet_since = now;
    }

    fn trouble(&mut self, what: &str) {
        self.tally.trouble(format!("client chaos-{}: {what}", self.habit.name));
    }
}
