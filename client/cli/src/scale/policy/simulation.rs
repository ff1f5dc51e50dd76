//! The policy in a simulated cluster: a queue with waiting times, time limits, nodes that fail.
//!
//! What counts is how long a backlog takes beside a cluster that has as many workers as it may from
//! the beginning, with the same waiting times, limits and failures.

use std::ops::Range;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How often the policy looks, in seconds.
const INTERVAL: u64 = 5;

/// A cluster, and what is to be computed on it. Times are in seconds.
#[derive(Clone)]
struct Cluster {
    random: Xoshiro256PlusPlus,
    time: u64,
    jobs: Vec<Job>,
    /// What the requests take that nobody has begun.
    pending: Vec<u64>,
    /// The longest that a job waits in the queue.
    queue: u64,
    /// The time limit of a job; workers leave before it.
    limit: u64,
    /// One in so many jobs ends at once, on a node that fails; 0: none.
    fails: u32,
    started: u64,
    /// The jobs that ended by themselves: at their limit, or on a failing node.
    ended: u64,
    stopped: u64,
    most: usize,
    computed: f64,
    answered: f64,
}

#[derive(Clone)]
struct Job {
    number: u64,
    runs_at: u64,
    leaves_at: u64,
    fails: bool,
    leaving: bool,
    /// When it has computed the request that it holds.
    busy_until: Option<u64>,
}

impl Cluster {
    fn new(seed: u64, fails: u32) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (queue, limit) = (random.random_range(0..90), random.random_range(300..1200));
        Self {
            random,
            time: 0,
            jobs: Vec::new(),
            pending: Vec::new(),
            queue,
            limit,
            fails,
            started: 0,
            ended: 0,
            stopped: 0,
            most: 0,
            computed: 0.0,
            answered: 0.0,
        }
    }

    fn submit(&mut self, count: usize, seconds: Range<u64>) {
        self.pending.extend((0..count).map(|_| self.random.random_range(seconds.clone())));
    }

    fn start(&mut self, count: u32) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            self.started += 1;
            let runs_at = self.time + self.random.random_range(0..=self.queue);
            let leaves_at = runs_at + self.limit - self.random.random_range(0..=self.limit / 10);
            let fails = self.fails > 0 && self.random.random_range(0..self.fails) == 0;
            self.jobs.push(Job { number: self.started, runs_at, leaves_at, fails, leaving: false, busy_until: None });
            ids.push(self.started.to_string());
        }
        self.most = self.most.max(self.jobs.len());
        ids
    }

    fn units(&self) -> Vec<Unit> {
        let unit = |job: &Job| {
            let (runs, id) = (job.runs_at <= self.time, job.number.to_string());
            let in_flight = u64::from(job.busy_until.is_some());
            let seat = Seat { name: id.clone(), number: job.number, in_flight, leaving: job.leaving };
            let stage = if runs { Stage::Running } else { Stage::Queued };
            Unit { id, stage, seats: if runs && !job.fails { vec![seat] } else { Vec::new() } }
        };
        self.jobs.iter().map(unit).collect()
    }

    fn demand(&self) -> Demand {
        let in_flight = self.jobs.iter().filter(|job| job.busy_until.is_some()).count();
        let seconds_each = (self.answered > 0.0).then(|| self.computed / self.answered);
        Demand { requests: (self.pending.len() + in_flight) as u64, seconds_each, is_settled: true }
    }

    fn is_done(&self) -> bool {
        self.demand().requests == 0
    }

    /// A second passes.
    fn pass(&mut self) {
        self.time += 1;
        for job in self.jobs.iter_mut().filter(|job| job.runs_at <= self.time && !job.fails) {
            job.leaving |= job.leaves_at <= self.time;
            if job.busy_until.is_some_and(|until| until <= self.time) {
                job.busy_until = None;
                self.answered += 1.0;
            }
            if job.busy_until.is_none() && !job.leaving {
                job.busy_until = self.pending.pop().map(|seconds| self.time + seconds.max(1));
            }
            self.computed += f64::from(u8::from(job.busy_until.is_some()));
        }
        let (time, before) = (self.time, self.jobs.len());
        // A job on a failing node ends after three seconds.
        self.jobs.retain(|job| !(job.leaving && job.busy_until.is_none() || job.fails && job.runs_at + 3 <= time));
        self.ended += (before - self.jobs.len()) as u64;
    }

    fn act(&mut self, policy: &mut Policy, decisions: Vec<Decision>, now: Instant) {
        for decision in decisions {
            match decision {
                Decision::Start(count) => {
                    let ids = self.start(count);
                    policy.handle_started(Ok(ids), now);
                }
                Decision::Stop(ids) => {
                    self.stopped += ids.len() as u64;
                    self.jobs.retain(|job| !ids.contains(&job.number.to_string()));
                }
                Decision::Drain(seats) => {
                    self.stopped += seats.len() as u64;
                    for job in &mut self.jobs {
                        job.leaving |= seats.iter().any(|seat| seat.number == job.number);
                    }
                }
                Decision::Tell(_) => {}
            }
        }
    }

    fn look(&mut self, policy: &mut Policy, begin: Instant) {
        if self.time.is_multiple_of(INTERVAL) {
            let now = begin + Duration::from_secs(self.time);
            let decisions = policy.handle(self.demand(), &self.units(), now);
            self.act(policy, decisions, now);
        }
    }

    /// Computes all with the policy. Returns the seconds that it took.
    fn with_policy(&mut self, policy: &mut Policy, begin: Instant) -> u64 {
        let start = self.time;
        while !self.is_done() {
            self.look(policy, begin);
            self.pass();
            assert!(self.time - start < 1_000_000, "it never ends");
        }
        self.time - start
    }

    /// Computes all with as many workers as there may be, from the beginning. Returns the seconds.
    fn with_the_most(mut self, max: u32) -> u64 {
        while !self.is_done() {
            self.start(max.saturating_sub(self.jobs.len() as u32));
            self.pass();
        }
        self.time
    }
}

fn limits(max: u32) -> Limits {
    let (horizon, cool_down, listed_within) = (60 * SECOND, 120 * SECOND, Duration::ZERO);
    Limits { min: 0, max, threads: 1, horizon, cool_down, listed_within }
}

#[test]
fn a_backlog_takes_at_most_1_3_times_as_long_as_with_all_workers_from_the_beginning() {
    let mut worst: f64 = 0.0;
    for seed in 0..300 {
        let mut cluster = Cluster::new(seed, if seed % 3 == 0 { 10 } else { 0 });
        let max = if seed % 50 == 0 { 1000 } else { cluster.random.random_range(2..40) };
        let count = max as usize * cluster.random.random_range(20..100);
        let longest = cluster.random.random_range(2..60);
        cluster.submit(count, 1..longest);
        let ideal = cluster.clone().with_the_most(max);
        let took = cluster.with_policy(&mut Policy::new(limits(max)), Instant::now());
        assert!(cluster.most <= max as usize, "seed {seed}: {} at once, {max} allowed", cluster.most);
        // The horizon says how long a small one may take.
        let ratio = took as f64 / ideal.max(60 + cluster.queue) as f64;
        worst = worst.max(ratio);
        assert!(ratio <= 1.3, "seed {seed}: {took} s, {ideal} s with all from the beginning");
    }
    println!("worst ratio {worst:.2}");
}

#[test]
fn under_a_steady_load_nothing_is_ended_and_only_what_ended_by_itself_is_started_again() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(seed, if seed % 2 == 0 { 20 } else { 0 });
        let (mut policy, begin) = (Policy::new(limits(20)), Instant::now());
        let (mut ended, mut started) = (0, 0);
        for second in 0..20_000 {
            // More than is ever computed meanwhile.
            if second % 10 == 0 && cluster.pending.len() < 500 {
                cluster.submit(50, 5..15);
            }
            cluster.look(&mut policy, begin);
            cluster.pass();
            if second == 2000 {
                (ended, started) = (cluster.ended, cluster.started);
                cluster.stopped = 0;
            }
        }
        let (ended, started) = (cluster.ended - ended, cluster.started - started);
        assert_eq!(cluster.stopped, 0, "seed {seed}");
        assert!(started.abs_diff(ended) <= 20, "seed {seed}: {started} started, {ended} ended by themselves");
    }
}

#[test]
fn when_all_is_computed_all_end_and_none_is_started_until_there_is_more() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(seed, 0);
        let (mut policy, begin) = (Policy::new(limits(10)), Instant::now());
        for round in 1..=5 {
            cluster.submit(100, 1..20);
            cluster.with_policy(&mut policy, begin);
            let started = cluster.started;
            for _ in 0..300 {
                cluster.look(&mut policy, begin);
                cluster.pass();
            }
            assert_eq!((cluster.jobs.len(), cluster.started), (0, started), "seed {seed}, round {round}");
        }
    }
}
