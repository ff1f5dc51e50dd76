//! The faults of a run and when they happen, drawn from a seed before the run begins.
//!
//! The seed settles the plan, not the run: which request is where when a fault strikes depends on
//! the machine. What is killed or frozen gets its restart or its thaw along with it, and is left in
//! peace until then; most of the time one worker at least is left in peace.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Workers at the beginning, and the fewest there are to be.
pub const WORKERS: usize = 5;

/// The most workers at a time.
const MOST_WORKERS: usize = 8;

/// `giostra random` processes at a time.
pub const BATCHES: usize = 4;

/// How long to leave a broker that was told to finish in peace, in milliseconds: until its grace is
/// over and some more.
const FINISHING_MS: u64 = 3000;

/// The longest time for which one of several brokers is frozen, in milliseconds: for longer than its
/// clients wait for it.
const LEFT_MS: u64 = 6000;

/// What is done to the system. Brokers, workers and batches are numbered, workers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    KillWorker(usize),
    /// SIGSTOP.
    FreezeWorker(usize),
    /// SIGCONT.
    ThawWorker(usize),
    /// SIGTERM: it finishes what it has.
    DismissWorker(usize),
    /// One that was killed or dismissed comes back, or a new one comes.
    StartWorker(usize),
    /// SIGKILL.
    KillBroker(usize),
    /// SIGSTOP.
    FreezeBroker(usize),
    /// SIGCONT.
    ThawBroker(usize),
    /// SIGTERM, and a new one as soon as it has finished.
    RelayBroker(usize),
    /// A new one on the ports of the one that was killed.
    StartBroker(usize),
    /// SIGKILL; another batch begins in its place.
    KillBatch(usize),
    /// SIGSTOP.
    FreezeBatch(usize),
    /// SIGCONT.
    ThawBatch(usize),
}

impl Fault {
    /// Whether it only mends what an earlier one broke.
    pub fn mends(self) -> bool {
        use Fault::{StartBroker, StartWorker, ThawBatch, ThawBroker, ThawWorker};
        matches!(self, ThawWorker(_) | ThawBroker(_) | ThawBatch(_) | StartWorker(_) | StartBroker(_))
    }
}

/// A fault and its time, counted from the beginning of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// The faults of a run with this number of brokers, in their order. What would be mended after its end is left to whoever ends
/// it.
pub fn plan(seed: u64, duration: Duration, brokers: usize) -> Vec<Step> {
    let mut plan = Plan {
        random: StdRng::seed_from_u64(seed),
        now: 0,
        steps: Vec::new(),
        workers: (1..=WORKERS).map(|number| (number, 0)).collect(),
        last_worker: WORKERS,
        brokers_busy: vec![0; brokers],
        batches_busy: [0; BATCHES],
    };
    let end = duration.as_millis().try_into().unwrap_or(u64::MAX);
    loop {
        plan.now += plan.random.random_range(50..=500);
        if plan.now >= end {
            break;
        }
        plan.draw();
    }
    plan.steps.retain(|&(at, _)| at < end);
    plan.steps.sort_by_key(|&(at, _)| at);
    plan.steps.iter().map(|&(at, fault)| Step { at: Duration::from_millis(at), fault }).collect()
}

/// All times in milliseconds.
struct Plan {
    random: StdRng,
    now: u64,
    steps: Vec<(u64, Fault)>,
    /// Those that are part of the system, and until when they are not to be touched.
    workers: Vec<(usize, u64)>,
    last_worker: usize,
    brokers_busy: Vec<u64>,
    batches_busy: [u64; BATCHES],
}

impl Plan {
    fn draw(&mut self) {
        match self.random.random_range(0..100) {
            0..60 => self.worker(),
            60..80 => self.broker(),
            80..90 => self.batch(),
            _ => self.newcomer(),
        }
    }

    fn worker(&mut self) {
        let idle: Vec<_> = (0..self.workers.len()).filter(|&i| self.workers[i].1 <= self.now).collect();
        // Now and then nobody is left in peace.
        let spared = if self.random.random_ratio(1, 20) { 0 } else { 1 };
        if idle.len() <= spared {
            return;
        }
        let index = idle[self.random.random_range(0..idle.len())];
        let number = self.workers[index].0;
        match self.random.random_range(0..10) {
            0..4 => {
                self.push(0, Fault::KillWorker(number));
                self.come_back(index, 0);
            }
            4..8 => {
                self.push(0, Fault::FreezeWorker(number));
                let thaw = self.random.random_range(100..=2000);
                if self.random.random_ratio(1, 5) {
                    self.push(thaw, Fault::KillWorker(number));
                    self.come_back(index, thaw);
                } else {
                    self.push(thaw, Fault::ThawWorker(number));
                    self.workers[index].1 = self.now + thaw;
                }
            }
            _ => {
                self.push(0, Fault::DismissWorker(number));
                if self.workers.len() > WORKERS {
                    self.workers.remove(index);
                } else {
                    self.come_back(index, 0);
                }
            }
        }
    }

    /// The worker is started again, some time after it ended in `ended` from now.
    fn come_back(&mut self, index: usize, ended: u64) {
        let start = ended + self.random.random_range(0..=2000);
        self.push(start, Fault::StartWorker(self.workers[index].0));
        self.workers[index].1 = self.now + start;
    }

    fn newcomer(&mut self) {
        if self.workers.len() < MOST_WORKERS {
            self.last_worker += 1;
            self.workers.push((self.last_worker, self.now));
            self.push(0, Fault::StartWorker(self.last_worker));
        }
    }

    fn broker(&mut self) {
        let brokers = self.brokers_busy.len();
        let number = if brokers > 1 { self.random.random_range(0..brokers) } else { 0 };
        if self.brokers_busy[number] > self.now {
            return;
        }
        // Half of the new ones come at once.
        let pause = if self.random.random() { 0 } else { self.random.random_range(0..=1000) };
        let busy = match self.random.random_range(0..10) {
            0..4 => {
                self.push(0, Fault::KillBroker(number));
                self.push(pause, Fault::StartBroker(number));
                pause
            }
            4..8 => {
                self.push(0, Fault::FreezeBroker(number));
                let longest = if brokers > 1 { LEFT_MS } else { 1500 };
                let thaw = self.random.random_range(50..=longest);
                if self.random.random_ratio(1, 5) {
                    self.push(thaw, Fault::KillBroker(number));
                    self.push(thaw + pause, Fault::StartBroker(number));
                    thaw + pause
                } else {
                    self.push(thaw, Fault::ThawBroker(number));
                    thaw
                }
            }
            _ => {
                self.push(0, Fault::RelayBroker(number));
                FINISHING_MS
            }
        };
        self.brokers_busy[number] = self.now + busy + 1;
    }

    fn batch(&mut self) {
        let slot = self.random.random_range(0..BATCHES);
        if self.batches_busy[slot] > self.now {
            return;
        }
        if self.random.random() {
            self.push(0, Fault::KillBatch(slot));
        } else {
            let thaw = self.random.random_range(100..=2000);
            self.push(0, Fault::FreezeBatch(slot));
            self.push(thaw, Fault::ThawBatch(slot));
            self.batches_busy[slot] = self.now + thaw;
        }
    }

    fn push(&mut self, after: u64, fault: Fault) {
        self.steps.push((self.now + after, fault));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_plan_and_another_one_another() {
        let minute = Duration::from_secs(60);
        assert_eq!(plan(1, minute, 2), plan(1, minute, 2));
        assert_ne!(plan(1, minute, 2), plan(2, minute, 2));
        assert!(plan(1, minute, 2).windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn what_is_down_is_only_mended_and_what_is_up_is_only_broken() {
        for seed in 0..50 {
            let mut down: Vec<_> = (WORKERS + 1..1000).collect();
            let mut frozen = Vec::new();
            let mut brokers = [true; 2];
            for Step { fault, .. } in plan(seed, Duration::from_secs(120), 1 + seed as usize % 2) {
                let mut fell = |number| {
                    assert!(!down.contains(&number), "{fault:?} of one that is down");
                    down.push(number);
                };
                match fault {
                    Fault::KillWorker(number) => {
                        frozen.retain(|&other| other != number);
                        fell(number);
                    }
                    Fault::DismissWorker(number) => {
                        assert!(!frozen.contains(&number));
                        fell(number);
                    }
                    Fault::FreezeWorker(number) => {
                        assert!(!down.contains(&number) && !frozen.contains(&number));
                        frozen.push(number);
                    }
                    Fault::ThawWorker(number) => {
                        assert!(frozen.contains(&number));
                        frozen.retain(|&other| other != number);
                    }
                    Fault::StartWorker(number) => {
                        assert!(down.contains(&number));
                        down.retain(|&other| other != number);
                    }
                    Fault::KillBroker(number) => assert!(std::mem::take(&mut brokers[number])),
                    Fault::StartBroker(number) => assert!(!std::mem::replace(&mut brokers[number], true)),
                    Fault::FreezeBroker(number) | Fault::RelayBroker(number) => assert!(brokers[number]),
                    _ => {}
                }
            }
        }
    }
}
