//! The policy: how many workers are wanted, and what to do about the difference. No clock, no engine,
//! no broker: what is seen comes in, decisions come out.
//!
//! More are started as soon as they are wanted. Fewer are kept only once fewer were wanted for a whole
//! cool-down, as Kubernetes' autoscaler does with its stabilization window: a queue that is empty for a
//! moment costs no start. After starts that fail it pauses, for longer each time.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The first pause after a start that failed; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How long a worker may run without having registered before that is told.
const REGISTERED_WITHIN: Duration = Duration::from_secs(120);

/// The bounds of a policy.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The fewest workers, also without requests.
    pub min: u32,
    /// The most workers, also those that are about to end.
    pub max: u32,
    /// The number of requests that one computes at once, at least 1.
    pub threads: u32,
    /// The time in which the requests that are there are to be computed, where `max` allows it.
    pub horizon: Duration,
    /// For how long fewer workers must have been wanted before any is ended.
    pub cool_down: Duration,
    /// How long the engine may take to list what it has accepted.
    pub listed_within: Duration,
}

/// What there is to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Requests that have no reply yet.
    pub requests: u64,
    /// The seconds that one takes to compute, if that is known.
    pub seconds_each: Option<f64>,
    /// Whether it can be decided upon. It is not while workers are there that have been watched for a
    /// moment only: what a request costs is about to be known.
    pub is_settled: bool,
}

/// How far the engine is with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its place or its machine.
    Queued,
    /// It runs.
    Running,
    /// It is about to end.
    Ending,
}

/// A worker that the engine has been asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its id, by which the engine knows it.
    pub id: String,
    /// How far the engine is with it.
    pub stage: Stage,
    /// Its seats at the broker: one, or several if it is a program of several processes.
    pub seats: Vec<Seat>,
}

/// A seat at the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The worker's name.
    pub name: String,
    /// Its registration number.
    pub number: u64,
    /// The requests that it holds.
    pub in_flight: u64,
    /// Whether it is leaving.
    pub leaving: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask the engine for so many more.
    Start(u32),
    /// Have the engine end these, which have no seat.
    Stop(Vec<String>),
    /// Have the broker drain these seats.
    Drain(Vec<Seat>),
    /// Tell this.
    Tell(String),
}

/// What is remembered of a unit.
struct Known {
    since: Instant,
    /// Whether the engine has listed it.
    listed: bool,
    /// Since when it runs.
    running: Option<Instant>,
    /// Whether it has ever had a seat.
    registered: bool,
    /// Whether it was told that it has none.
    told: bool,
    /// Whether it was asked to end.
    stopped: bool,
}

impl Known {
    fn new(since: Instant, listed: bool) -> Self {
        Self { since, listed, running: None, registered: false, told: false, stopped: false }
    }
}

/// The policy of one pool.
pub struct Policy {
    limits: Limits,
    /// How many were wanted lately, the oldest first; each is more than all that follow.
    wanted: VecDeque<(Instant, u32)>,
    known: BTreeMap<String, Known>,
    /// Starts that failed, one after the other.
    failures: u32,
    /// No start before this.
    paused_until: Option<Instant>,
}

impl Policy {
    /// Creates a policy that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        let (wanted, known) = (VecDeque::new(), BTreeMap::new());
        Self { limits, wanted, known, failures: 0, paused_until: None }
    }

    /// Decides. `units` are all that the engine lists.
    pub fn handle(&mut self, demand: Demand, units: &[Unit], now: Instant) -> Vec<Decision> {
        let mut decisions = self.observe(units, now);
        if !demand.is_settled {
            return decisions;
        }
        let wanted = self.wanted(demand);
        self.remember(wanted, now);
        let most = self.wanted.front().map_or(wanted, |&(_, most)| most);
        let unlisted = self.known.values().filter(|known| !known.listed && !known.stopped).count();
        let alive = units.iter().filter(|unit| unit.stage != Stage::Ending).count() + unlisted;
        let staying: Vec<_> = units.iter().filter(|unit| self.stays(unit)).collect();
        let supply = count(staying.len() + unlisted);
        if wanted > supply && self.paused_until.is_none_or(|until| until <= now) {
            let start = (wanted - supply).min(self.limits.max.saturating_sub(count(alive)));
            decisions.extend((start > 0).then_some(Decision::Start(start)));
        } else if supply > most {
            decisions.extend(self.reduce(staying, supply - most));
        }
        decisions
    }

    /// Handles the outcome of a start: the ids, or why there are none. Returns what to tell.
    pub fn handle_started(&mut self, started: Result<Vec<String>, String>, now: Instant) -> Option<String> {
        match started {
            Ok(ids) => {
                self.known.extend(ids.into_iter().map(|id| (id, Known::new(now, false))));
                None
            }
            Err(why) => Some(self.pause(&why, now)),
        }
    }

    /// Handles that one could not be asked to end: it counts again.
    pub fn handle_not_ended(&mut self, id: &str) {
        if let Some(known) = self.known.get_mut(id) {
            known.stopped = false;
        }
    }

    /// Returns how many are wanted.
    pub fn wanted(&self, Demand { requests, seconds_each, .. }: Demand) -> u32 {
        let Limits { min, max, threads, horizon, .. } = self.limits;
        let by_count = requests.div_ceil(u64::from(threads.max(1)));
        let by_work = seconds_each.map(|seconds| {
            let each = f64::from(threads.max(1)) * horizon.as_secs_f64().max(1.0);
            // A number beyond the range of the type becomes its largest.
            ((requests as f64 * seconds / each).ceil() as u64).max(u64::from(requests > 0))
        });
        let wanted = by_work.map_or(by_count, |by_work| by_count.min(by_work));
        u32::try_from(wanted).unwrap_or(u32::MAX).clamp(min, max)
    }

    /// Whether a unit is there for what comes.
    fn stays(&self, unit: &Unit) -> bool {
        let stopped = self.known.get(&unit.id).is_some_and(|known| known.stopped);
        let leaves = !unit.seats.is_empty() && unit.seats.iter().all(|seat| seat.leaving);
        unit.stage != Stage::Ending && !stopped && !leaves
    }

    /// Learns what has become of the units.
    fn observe(&mut self, units: &[Unit], now: Instant) -> Vec<Decision> {
        let mut tell = Vec::new();
        for unit in units {
            let known = self.known.entry(unit.id.clone()).or_insert_with(|| Known::new(now, true));
            known.listed = true;
            if unit.stage == Stage::Running {
                known.running.get_or_insert(now);
            } else if unit.stage == Stage::Queued {
                // It was put back into the queue.
                known.running = None;
            }
            if !unit.seats.is_empty() && !known.registered {
                known.registered = true;
                self.failures = 0;
                self.paused_until = None;
            }
            let late = known.running.is_some_and(|since| now.duration_since(since) > REGISTERED_WITHIN);
            if late && !known.registered && !known.stopped && !std::mem::replace(&mut known.told, true) {
                let text =
                    format!("{} has been running for {REGISTERED_WITHIN:?} without a worker at the broker", unit.id);
                tell.push(Decision::Tell(text));
            }
        }
        let (mut failed, listed_within) = (Vec::new(), self.limits.listed_within);
        self.known.retain(|id, known| {
            let waits = !known.listed && now.duration_since(known.since) < listed_within;
            let gone = !waits && !units.iter().any(|unit| unit.id == *id);
            if gone && !known.registered && !known.stopped {
                failed.push(id.clone());
            }
            !gone
        });
        if !failed.is_empty() {
            let what = format!("{} ended without a worker having been at the broker", failed.join(", "));
            tell.push(Decision::Tell(self.pause(&what, now)));
        }
        tell
    }

    fn pause(&mut self, why: &str, now: Instant) -> String {
        let pause = (FIRST_PAUSE * (1 << self.failures.min(10))).min(LONGEST_PAUSE);
        self.failures += 1;
        self.paused_until = Some(now + pause);
        format!("{why}; no start for {pause:?}")
    }

    /// Remembers how many are wanted now, and forgets what was longer ago than the cool-down.
    fn remember(&mut self, wanted: u32, now: Instant) {
        while self.wanted.back().is_some_and(|&(_, earlier)| earlier <= wanted) {
            self.wanted.pop_back();
        }
        self.wanted.push_back((now, wanted));
        while self.wanted.front().is_some_and(|&(at, _)| now.duration_since(at) > self.limits.cool_down) {
            self.wanted.pop_front();
        }
    }

    /// Ends so many: those that wait in the engine's queue first, the last ones before others, then
    /// those that hold nothing, then those that have not come to the broker, then the least busy.
    fn reduce(&mut self, mut staying: Vec<&Unit>, surplus: u32) -> Vec<Decision> {
        staying.reverse();
        staying.sort_by_key(|unit| {
            let in_flight: u64 = unit.seats.iter().map(|seat| seat.in_flight).sum();
            match (unit.stage, unit.seats.is_empty()) {
                (Stage::Queued, true) => (0, 0),
                (_, false) => (if in_flight == 0 { 1 } else { 3 }, in_flight),
                (_, true) => (2, 0),
            }
        });
        let (mut stop, mut drain) = (Vec::new(), Vec::new());
        for unit in staying.into_iter().take(surplus as usize) {
            if unit.seats.is_empty() {
                stop.push(unit.id.clone());
            } else {
                drain.extend(unit.seats.iter().filter(|seat| !seat.leaving).cloned());
            }
            if let Some(known) = self.known.get_mut(&unit.id) {
                known.stopped = true;
            }
        }
        let stop = (!stop.is_empty()).then_some(Decision::Stop(stop));
        let drain = (!drain.is_empty()).then_some(Decision::Drain(drain));
        [stop, drain].into_iter().flatten().collect()
    }
}

fn count(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}
