//! The store beside a model of it in memory: any writes, any restarts, with room and without, and the
//! same answers.

mod memory;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, Read, Restored, Write};
use giostra_protocol::name::Label;
use giostra_protocol::{Bytes, JobState};
use giostra_store::{Options, Sqlite, Store as _};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use memory::{Model, ModelJob};

/// A step of a test. Jobs are chosen from those that there were, also deleted ones.
#[derive(Clone, Debug)]
enum Step {
    Create {
        owner: u8,
        key: u8,
    },
    Append {
        job: usize,
        count: u32,
        closes: bool,
    },
    Results {
        job: usize,
        count: usize,
    },
    Attempts {
        job: usize,
        count: usize,
    },
    Cancel(usize),
    Retry(usize),
    Delete(usize),
    Commit,
    Sweep,
    Reopen,
    /// The disk is full, or has room again.
    Full(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let job = prop_oneof![3 => 0..2usize, 1 => 0..6usize];
    let count = prop_oneof![0..4u32, 0..50u32, 900..1200u32];
    prop_oneof![
        2 => (0..2u8, 0..6u8).prop_map(|(owner, key)| Step::Create { owner, key }),
        10 => (job.clone(), count, prop::bool::weighted(0.3))
            .prop_map(|(job, count, closes)| Step::Append { job, count, closes }),
        12 => (job.clone(), prop_oneof![0..20usize, 500..3000usize])
            .prop_map(|(job, count)| Step::Results { job, count }),
        4 => (job.clone(), 0..20usize).prop_map(|(job, count)| Step::Attempts { job, count }),
        1 => job.clone().prop_map(Step::Cancel),
        4 => job.clone().prop_map(Step::Retry),
        1 => job.prop_map(Step::Delete),
        10 => Just(Step::Commit),
        1 => Just(Step::Sweep),
        2 => Just(Step::Reopen),
        2 => prop::bool::weighted(0.6).prop_map(Step::Full),
    ]
}

/// A store, its model, and the writes that are not committed yet.
struct Pair {
    folder: tempfile::TempDir,
    store: Option<Sqlite>,
    clock: Arc<AtomicU64>,
    /// What is committed.
    model: Model,
    /// What will be, if all that is not committed is.
    ahead: Model,
    group: Vec<Write>,
    full: bool,
    unmade: BTreeSet<u64>,
    next_job: u64,
    rng: StdRng,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1000));
        let (store, Restored { home, .. }) = opened(folder.path(), &clock);
        let model = Model { home, now_ms: 1000, ..Model::default() };
        let rng = StdRng::seed_from_u64(seed);
        let ahead = model.clone();
        Self {
            folder,
            store: Some(store),
            clock,
            model,
            ahead,
            group: vec![],
            full: false,
            unmade: BTreeSet::new(),
            next_job: 1,
            rng,
        }
    }

    fn store(&mut self) -> &mut Sqlite {
        self.store.as_mut().unwrap()
    }

    /// One of the last jobs: their order number from the end.
    fn job(&self, from_the_end: usize) -> JobNumber {
        JobNumber(self.next_job.saturating_sub(1 + from_the_end as u64))
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Commit => self.commit(),
            Step::Sweep => {
                self.commit();
                assert!(self.store().sweep().is_ok() || self.full);
            }
            Step::Reopen => {
                self.commit();
                self.store = None;
                assert_sound(self.folder.path());
                self.full = false;
                let (store, restored) = opened(self.folder.path(), &self.clock);
                self.store = Some(store);
                let live = self.model.jobs.values().filter(|job| job.record.ended_ms == 0);
                let jobs: Vec<_> = live.map(|job| job.record.clone()).collect();
                let Restored { home, last_job, jobs: found } = restored;
                assert_eq!((home, last_job >= self.model.last_job), (self.model.home, true));
                assert_eq!(found, jobs);
            }
            Step::Full(full) => {
                self.commit();
                self.full = full;
                self.store().set_max_bytes(full.then_some(0)).unwrap();
            }
            _ => {
                let write = self.write(step);
                self.ahead.apply(&write);
                self.group.push(write);
            }
        }
    }

    fn write(&mut self, step: &Step) -> Write {
        match *step {
            Step::Create { owner, key } => {
                self.next_job += 1;
                let owner = if owner == 0 { "".into() } else { "owner".into() };
                Write::Create { job: self.job(0), owner, spec: kept(key) }
            }
            Step::Append { job, count, closes } => {
                let job = self.job(job);
                let first = self.ahead.jobs.get(&job.0).map_or(0, |job| job.record.requests);
                let bodies = (first..first + count).map(|number| self.filled(body(job.0, number))).collect();
                Write::Append { job, first, bodies, closes }
            }
            Step::Results { job, count } => {
                let job = self.job(job);
                // Only of requests that are safe: no others are computed.
                let ahead = self.ahead.jobs.get(&job.0);
                let has = |number: &u32| ahead.is_some_and(|job| job.outcomes.contains_key(number));
                let pending = self.model.pending(job.0, 0).into_iter().map(|(number, _)| number);
                let mut pending: Vec<_> = pending.filter(|number| !has(number)).collect();
                let mut outcomes = Vec::new();
                while outcomes.len() < count && !pending.is_empty() {
                    // The first ones more often, as they are computed first.
                    let at = self.rng.random_range(0..pending.len().min(200));
                    let number = pending.remove(at);
                    // Each tenth fails, at first.
                    let fails = number % 10 == 9 && self.rng.random_ratio(2, 3);
                    outcomes.push((number, if fails { error(job.0, number) } else { result(job.0, number) }));
                }
                settle(job.0, outcomes)
            }
            Step::Attempts { job, count } => {
                let job = self.job(job);
                let requests = self.model.jobs.get(&job.0).map_or(0, |job| job.record.requests);
                let some = |rng: &mut StdRng| Attempts { lost: rng.random_range(0..3), failed: rng.random_range(1..3) };
                let numbers = (0..if requests == 0 { 0 } else { count }).map(|_| self.rng.random_range(0..requests));
                let numbers: BTreeSet<_> = numbers.collect();
                let attempts = numbers.into_iter().map(|number| (number, some(&mut self.rng))).collect();
                Write::Attempts { job, attempts }
            }
            Step::Retry(job) => {
                // One that has failed, if there is any.
                let failed = |job: &&ModelJob| job.record.state == JobState::Finished && job.record.failed > 0;
                let failed: Vec<_> = self.ahead.jobs.values().filter(failed).map(|job| job.record.job).collect();
                Write::Retry(failed.get(job).copied().unwrap_or_else(|| self.job(job)))
            }
            Step::Cancel(job) => Write::Cancel(self.job(job)),
            Step::Delete(job) => Write::Delete(self.job(job)),
            Step::Commit | Step::Sweep | Step::Reopen | Step::Full(_) => unreachable!("no write"),
        }
    }

    /// Makes few of the bodies large.
    fn filled(&mut self, body: Bytes) -> Bytes {
        if self.rng.random_ratio(1, 300) { body.repeat(self.rng.random_range(1000..8000)).into() } else { body }
    }

    fn commit(&mut self) {
        let group = std::mem::take(&mut self.group);
        let done = self.store().commit(&group).unwrap();
        for (write, done) in group.into_iter().zip(done) {
            match done {
                Done::Full { write: refused, .. } if self.may_refuse(&write) => assert!(*refused == write),
                done => {
                    let expected = self.model.apply(&write);
                    assert!(done == expected, "{done:.200?} for {write:.200?}, not {expected:.200?}");
                }
            }
        }
        self.ahead = self.model.clone();
        // Mostly, time goes on.
        self.model.now_ms = self.model.now_ms.saturating_add_signed(self.rng.random_range(-100..500)).max(1);
        self.ahead.now_ms = self.model.now_ms;
        self.clock.store(self.model.now_ms, Ordering::Relaxed);
        self.compare();
    }

    /// Returns whether a write may be refused: on a full disk, or because its job was.
    fn may_refuse(&mut self, write: &Write) -> bool {
        match write {
            Write::Create { job, .. } if self.full => self.unmade.insert(job.0),
            Write::Append { job, .. } => self.full || self.unmade.contains(&job.0),
            _ => self.full,
        }
    }

    fn compare(&mut self) {
        let store = self.store.as_mut().unwrap();
        for job in 0..self.next_job {
            let from = self.rng.random_range(0..2500) * u32::from(self.rng.random_bool(0.5));
            let bytes = self.rng.random_range(100..100_000);
            let limits = (self.rng.random_range(30..3000), bytes);
            assert_eq!(all_pending(store, job, from, limits), self.model.pending(job, from), "pending of {job}");
            assert_eq!(all_results(store, job, from, bytes), self.model.results(job, from), "results of {job}");
            let expected = self.model.jobs.get(&job).map(|job| job.record.clone());
            assert_eq!(record(store, job), expected);
            let question = Read::Pending { job: JobNumber(job), from: 0, requests: usize::MAX, bytes: usize::MAX };
            let Done::Pending { attempts, .. } = store.scan(&question).unwrap() else { panic!("{question:?}") };
            assert_eq!(attempts, self.model.attempts(job), "attempts at {job}");
        }
        let owner = Label::from("owner");
        let question = Read::Jobs { owner: Some(owner.clone()), before: JobNumber(self.next_job), limit: 3 };
        let Done::Jobs(found) = store.scan(&question).unwrap() else { panic!("{question:?}") };
        let jobs = self.model.jobs.values().rev().filter(|job| job.record.owner == owner).take(3);
        let expected: Vec<_> = jobs.map(|job| job.record.clone()).collect();
        assert_eq!(found, expected);
        assert_eq!(store.scan(&Read::Expired { limit: 99 }).unwrap(), self.model.expired());
    }
}

/// Opens a store with the model's clock.
fn opened(folder: &Path, clock: &Arc<AtomicU64>) -> (Sqlite, Restored) {
    let clock = clock.clone();
    let clock = Box::new(move || clock.load(Ordering::Relaxed));
    Sqlite::open_with(folder, Options { clock, look_every: Duration::ZERO, ..Options::default() }).unwrap()
}

/// What is said of a job with a key: those with some keys are kept for a time only.
fn kept(key: u8) -> Arc<JobSpec> {
    Arc::new(JobSpec { keep_ms: u64::from(key % 3) * 400, ..(*spec(&key.to_string())).clone() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_and_restarted_the_answers_are_those_of_the_model(
        steps in prop::collection::vec(step(), 1..90),
        seed in any::<u64>(),
    ) {
        let mut pair = Pair::new(seed);
        steps.iter().for_each(|step| pair.run(step));
        pair.run(&Step::Reopen);
        pair.commit();
        sweep_all(pair.store());
        pair.compare();
    }
}
