//! The store beside a model of it in memory: any writes, any restarts, and the same answers.

use std::collections::BTreeMap;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, JobRecord, Read, Restored, Write};
use giostra_protocol::name::Label;
use giostra_protocol::{Bytes, JobState, Outcome};
use giostra_store::{Sqlite, Store as _};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

/// A step of a test. Jobs are chosen from those that there were, also deleted ones.
#[derive(Clone, Debug)]
enum Step {
    Create { owner: u8, key: u8 },
    Append { job: usize, count: u32, closes: bool },
    Results { job: usize, count: usize },
    Cancel(usize),
    Delete(usize),
    Commit,
    Sweep,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let job = 0..6usize;
    let count = prop_oneof![0..4u32, 0..50u32, 900..1200u32];
    prop_oneof![
        2 => (0..2u8, 0..6u8).prop_map(|(owner, key)| Step::Create { owner, key }),
        5 => (job.clone(), count, prop::bool::weighted(0.2))
            .prop_map(|(job, count, closes)| Step::Append { job, count, closes }),
        6 => (job.clone(), prop_oneof![0..20usize, 500..3000usize])
            .prop_map(|(job, count)| Step::Results { job, count }),
        1 => job.clone().prop_map(Step::Cancel),
        1 => job.prop_map(Step::Delete),
        6 => Just(Step::Commit),
        1 => Just(Step::Sweep),
        2 => Just(Step::Reopen),
    ]
}

struct ModelJob {
    record: JobRecord,
    bodies: Vec<Bytes>,
    outcomes: BTreeMap<u32, Outcome>,
}

#[derive(Default)]
struct Model {
    home: u32,
    last_job: u64,
    jobs: BTreeMap<u64, ModelJob>,
}

impl Model {
    /// What the store is to say. When something happened is not known: 1 stands for any time.
    fn apply(&mut self, write: &Write) -> Done {
        match write {
            Write::Create { job, owner, spec } => return self.create(*job, owner, spec),
            Write::Append { job, bodies, closes, .. } => {
                let Some(there) = self.jobs.get_mut(&job.0) else { return Done::Written };
                if there.record.state != JobState::Open {
                    return Done::Written;
                }
                there.bodies.extend(bodies.iter().cloned());
                there.record.requests += bodies.len() as u32;
                if *closes {
                    there.record.state = JobState::Running;
                    if there.outcomes.len() == there.bodies.len() {
                        there.end(JobState::Finished);
                    }
                }
            }
            Write::Results { job, outcomes, finishes } => {
                let Some(there) = self.jobs.get_mut(&job.0).filter(|job| job.record.ended_ms == 0) else {
                    return Done::Written;
                };
                for (number, outcome) in outcomes {
                    there.outcomes.insert(*number, outcome.clone());
                    let ok = matches!(outcome, Outcome::Ok(_));
                    *if ok { &mut there.record.succeeded } else { &mut there.record.failed } += 1;
                }
                if *finishes {
                    there.end(JobState::Finished);
                }
            }
            Write::Cancel(job) => {
                if let Some(there) = self.jobs.get_mut(&job.0).filter(|job| job.record.ended_ms == 0) {
                    there.end(JobState::Cancelled);
                }
            }
            Write::Delete(job) => drop(self.jobs.remove(&job.0)),
        }
        Done::Written
    }

    fn create(&mut self, job: JobNumber, owner: &Label, spec: &Arc<JobSpec>) -> Done {
        let same = |there: &&ModelJob| there.record.owner == *owner && there.record.spec.key == spec.key;
        if let Some(there) = self.jobs.values().find(same) {
            return Done::Exists(there.record.clone().into());
        }
        self.last_job = job.0;
        let record = JobRecord {
            job,
            owner: owner.clone(),
            spec: spec.clone(),
            state: JobState::Open,
            requests: 0,
            succeeded: 0,
            failed: 0,
            submitted_ms: 1,
            ended_ms: 0,
        };
        self.jobs.insert(job.0, ModelJob { record, bodies: vec![], outcomes: BTreeMap::new() });
        Done::Created(1)
    }

    fn pending(&self, job: u64, from: u32) -> Vec<(u32, Bytes)> {
        let Some(there) = self.jobs.get(&job).filter(|job| job.record.ended_ms == 0) else { return vec![] };
        let bodies = (0..).zip(there.bodies.iter().cloned());
        bodies.filter(|(number, _)| *number >= from && !there.outcomes.contains_key(number)).collect()
    }

    fn results(&self, job: u64, from: u32) -> Vec<(u32, Outcome)> {
        let outcomes = self.jobs.get(&job).map(|job| job.outcomes.range(from..));
        outcomes.into_iter().flatten().map(|(number, outcome)| (*number, outcome.clone())).collect()
    }
}

impl ModelJob {
    fn end(&mut self, state: JobState) {
        self.record.state = state;
        self.record.ended_ms = 1;
    }
}

/// A store, its model, and the writes that are not committed yet.
struct Pair {
    folder: tempfile::TempDir,
    store: Option<Sqlite>,
    model: Model,
    group: Vec<Write>,
    expected: Vec<Done>,
    next_job: u64,
    rng: StdRng,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, Restored { home, .. }) = Sqlite::open(folder.path()).unwrap();
        let model = Model { home, ..Model::default() };
        let rng = StdRng::seed_from_u64(seed);
        Self { folder, store: Some(store), model, group: vec![], expected: vec![], next_job: 1, rng }
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
                self.store().sweep().unwrap();
            }
            Step::Reopen => {
                self.commit();
                self.store = None;
                let (store, restored) = Sqlite::open(self.folder.path()).unwrap();
                self.store = Some(store);
                let live = self.model.jobs.values().filter(|job| job.record.ended_ms == 0);
                let jobs: Vec<_> = live.map(|job| job.record.clone()).collect();
                let Restored { home, last_job, jobs: found } = restored;
                assert_eq!((home, last_job >= self.model.last_job), (self.model.home, true));
                assert_eq!(found.into_iter().map(timeless).collect::<Vec<_>>(), jobs);
            }
            _ => {
                let write = self.write(step);
                self.expected.push(self.model.apply(&write));
                self.group.push(write);
            }
        }
    }

    fn write(&mut self, step: &Step) -> Write {
        match *step {
            Step::Create { owner, key } => {
                self.next_job += 1;
                let owner = if owner == 0 { "".into() } else { "owner".into() };
                Write::Create { job: self.job(0), owner, spec: spec(&key.to_string()) }
            }
            Step::Append { job, count, closes } => {
                let job = self.job(job);
                let first = self.model.jobs.get(&job.0).map_or(0, |job| job.record.requests);
                let bodies = (first..first + count).map(|number| self.filled(body(job.0, number))).collect();
                Write::Append { job, first, bodies, closes }
            }
            Step::Results { job, count } => {
                let job = self.job(job);
                let mut pending: Vec<_> = self.model.pending(job.0, 0).into_iter().map(|(number, _)| number).collect();
                let mut outcomes = Vec::new();
                while outcomes.len() < count && !pending.is_empty() {
                    // The first ones more often, as they are computed first.
                    let at = self.rng.random_range(0..pending.len().min(200));
                    let number = pending.remove(at);
                    outcomes.push((number, outcome(job.0, number)));
                }
                let running = self.model.jobs.get(&job.0).is_some_and(|job| job.record.state == JobState::Running);
                Write::Results { job, outcomes, finishes: running && pending.is_empty() }
            }
            Step::Cancel(job) => Write::Cancel(self.job(job)),
            Step::Delete(job) => Write::Delete(self.job(job)),
            Step::Commit | Step::Sweep | Step::Reopen => unreachable!("no write"),
        }
    }

    /// Makes few of the bodies large.
    fn filled(&mut self, body: Bytes) -> Bytes {
        if self.rng.random_ratio(1, 300) { body.repeat(self.rng.random_range(1000..8000)).into() } else { body }
    }

    fn commit(&mut self) {
        let group = std::mem::take(&mut self.group);
        let done = self.store().commit(&group).unwrap();
        let done = done.into_iter().map(|done| match done {
            Done::Created(ms) => Done::Created(ms.min(1)),
            Done::Exists(record) => Done::Exists(timeless(*record).into()),
            other => other,
        });
        assert_eq!(done.collect::<Vec<_>>(), std::mem::take(&mut self.expected));
        self.compare();
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
            assert_eq!(record(store, job).map(timeless), expected);
        }
        let owner = Label::from("owner");
        let question = Read::Jobs { owner: Some(owner.clone()), before: JobNumber(self.next_job), limit: 3 };
        let Done::Jobs(found) = store.scan(&question).unwrap() else { panic!("{question:?}") };
        let jobs = self.model.jobs.values().rev().filter(|job| job.record.owner == owner).take(3);
        let expected: Vec<_> = jobs.map(|job| job.record.clone()).collect();
        assert_eq!(found.into_iter().map(timeless).collect::<Vec<_>>(), expected);
    }
}

/// Replaces times by 1.
fn timeless(record: JobRecord) -> JobRecord {
    JobRecord { submitted_ms: record.submitted_ms.min(1), ended_ms: record.ended_ms.min(1), ..record }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_and_restarted_the_answers_are_those_of_the_model(
        steps in prop::collection::vec(step(), 1..60),
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
