//! A model of the store: what is durable, and what has been asked and not been done yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, JobRecord, Op, Read, Restored, Write};
use giostra_protocol::{Bytes, JobState, Outcome};

/// The number of the store.
pub const HOME: u32 = 7;

/// What is on the disk.
#[derive(Default)]
pub struct Disk {
    pub jobs: BTreeMap<JobNumber, Stored>,
    last: u64,
    /// Whether there is no room for requests, and none for anything else.
    pub full: [bool; 2],
    /// Jobs of which requests had no room.
    refused: BTreeSet<JobNumber>,
    pub now_ms: u64,
}

/// A job on the disk.
pub struct Stored {
    pub record: JobRecord,
    pub bodies: Vec<Bytes>,
    pub results: BTreeMap<u32, Outcome>,
    pub attempts: BTreeMap<u32, Attempts>,
}

/// The store of one life: it loses with it what it has not done.
#[derive(Default)]
pub struct Queue {
    asked: VecDeque<Op>,
    /// What is done and not said yet.
    done: VecDeque<Done>,
    failed: bool,
}

impl Queue {
    pub fn ask(&mut self, op: Op) {
        self.asked.push_back(op);
    }

    pub fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.done.is_empty()
    }

    /// From now on nothing is stored any more.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Does some of what was asked.
    pub fn work(&mut self, disk: &mut Disk, count: usize) {
        for _ in 0..count {
            let Some(op) = self.asked.pop_front() else { return };
            let done = match op {
                _ if self.failed => Done::Failed("the disk is gone".into()),
                Op::Write(write) => disk.write(write),
                Op::Read(read) => disk.read(&read),
            };
            self.done.push_back(done);
        }
    }

    pub fn say(&mut self) -> Option<Done> {
        self.done.pop_front()
    }
}

impl Disk {
    pub fn restored(&self) -> Restored {
        let jobs = self.jobs.values().map(|job| &job.record);
        let jobs = jobs.filter(|record| !record.state.has_ended()).cloned().collect();
        Restored { home: HOME, last_job: self.last, jobs }
    }

    fn write(&mut self, write: Write) -> Done {
        let adds = matches!(write, Write::Create { .. } | Write::Append { .. });
        let follows_a_gap = matches!(&write, Write::Append { job, first, .. }
            if self.refused.contains(job) && self.jobs.get(job).is_some_and(|stored| stored.bodies.len() != *first as usize));
        if self.full[usize::from(!adds)] || follows_a_gap {
            if let Write::Append { job, .. } = write {
                self.refused.insert(job);
            }
            return Done::Full { write: write.into(), reason: "no space".into() };
        }
        let now_ms = self.now_ms;
        match write {
            Write::Create { job, owner, spec } => {
                let same = |record: &JobRecord| {
                    (&record.owner, &record.spec.pool, &record.spec.key) == (&owner, &spec.pool, &spec.key)
                };
                if let Some(earlier) = self.jobs.values().find(|stored| same(&stored.record)) {
                    return Done::Exists(earlier.record.clone().into());
                }
                assert!(job.0 > self.last, "{job} is no new number");
                self.last = job.0;
                let record = JobRecord {
                    job,
                    owner,
                    spec,
                    state: JobState::Open,
                    requests: 0,
                    succeeded: 0,
                    failed: 0,
                    submitted_ms: 1,
                    ended_ms: 0,
                };
                self.jobs.insert(
                    job,
                    Stored { record, bodies: vec![], results: BTreeMap::new(), attempts: BTreeMap::new() },
                );
                return Done::Created(1);
            }
            Write::Append { job, first, bodies, closes } => {
                let Some(Stored { record, bodies: stored, results, .. }) = self.open(job) else { return Done::Written };
                assert_eq!((record.state, stored.len()), (JobState::Open, first as usize), "{job}");
                stored.extend(bodies);
                record.requests = stored.len() as u32;
                if closes {
                    let is_finished = results.len() == stored.len();
                    record.state = if is_finished { JobState::Finished } else { JobState::Running };
                    record.ended_ms = if is_finished { now_ms } else { 0 };
                }
            }
            Write::Results { job, outcomes } => {
                let Some(Stored { record, bodies, results, attempts }) = self.open(job) else { return Done::Written };
                for (number, outcome) in outcomes {
                    assert!((number as usize) < bodies.len(), "{job}#{number} was never stored");
                    match outcome {
                        Outcome::Ok(_) => record.succeeded += 1,
                        Outcome::Error(_) => record.failed += 1,
                    }
                    attempts.remove(&number);
                    assert_eq!(results.insert(number, outcome), None, "{job}#{number} has two results");
                }
                if record.state == JobState::Running && results.len() == bodies.len() {
                    (record.state, record.ended_ms) = (JobState::Finished, now_ms);
                }
            }
            Write::Cancel(job) => {
                if let Some(stored) = self.open(job) {
                    (stored.record.state, stored.record.ended_ms) = (JobState::Cancelled, now_ms);
                }
            }
            Write::Delete(job) => _ = self.jobs.remove(&job),
            Write::Attempts { job, attempts } => {
                if let Some(stored) = self.open(job) {
                    for (number, attempts) in attempts {
                        assert!(!stored.results.contains_key(&number), "{job}#{number} has a result");
                        stored.attempts.insert(number, attempts);
                    }
                }
            }
            Write::Retry(job) => {
                let Some(stored) = self.jobs.get_mut(&job).filter(|it| it.record.state == JobState::Finished) else {
                    return Done::Jobs(vec![]);
                };
                stored.results.retain(|_, outcome| matches!(outcome, Outcome::Ok(_)));
                if std::mem::take(&mut stored.record.failed) > 0 {
                    (stored.record.state, stored.record.ended_ms) = (JobState::Running, 0);
                }
                return Done::Jobs(vec![stored.record.clone()]);
            }
        }
        Done::Written
    }

    fn open(&mut self, job: JobNumber) -> Option<&mut Stored> {
        self.jobs.get_mut(&job).filter(|stored| !stored.record.state.has_ended())
    }

    fn read(&self, read: &Read) -> Done {
        match *read {
            Read::Pending { job, from, requests, .. } => {
                let pending = self.jobs.get(&job).into_iter().flat_map(|stored| {
                    let numbers = (0..).zip(&stored.bodies).skip(from as usize);
                    numbers.filter(|(number, _)| !stored.results.contains_key(number))
                });
                let mut pending = pending.map(|(number, body)| (number, body.clone()));
                let found: Vec<_> = pending.by_ref().take(requests.max(1)).collect();
                let stored = self.jobs.get(&job);
                let known = |&(number, _): &(u32, Bytes)| Some((number, *stored?.attempts.get(&number)?));
                let attempts = found.iter().filter_map(known).collect();
                Done::Pending { requests: found, attempts, next: pending.next().map(|(number, _)| number) }
            }
            Read::Results { job, from, with_failed, .. } => {
                let stored = self.jobs.get(&job).into_iter().flat_map(|stored| stored.results.range(from..));
                let results: Vec<_> = stored.take(3).map(|(&number, outcome)| (number, outcome.clone())).collect();
                let failed = results.iter().filter(|(_, outcome)| with_failed && matches!(outcome, Outcome::Error(_)));
                let failed = failed.map(|&(number, _)| (number, self.jobs[&job].bodies[number as usize].clone()));
                Done::Results { failed: failed.collect(), results }
            }
            Read::Expired { limit } => {
                let ended = self.jobs.values().map(|stored| &stored.record);
                let ended = ended.filter(|record| record.state.has_ended() && record.spec.keep_ms > 0);
                let left = |record: &&JobRecord| (record.ended_ms + record.spec.keep_ms).saturating_sub(self.now_ms);
                let jobs = ended.clone().filter(|record| left(record) == 0).take(limit).cloned().collect();
                Done::Expired { jobs, next_ms: ended.map(|record| left(&record)).filter(|&left| left > 0).min() }
            }
            Read::Job(job) => Done::Jobs(self.jobs.get(&job).map(|stored| stored.record.clone()).into_iter().collect()),
            Read::Jobs { ref owner, before, limit } => {
                let jobs = self.jobs.values().rev().map(|stored| &stored.record);
                let its =
                    |record: &&JobRecord| record.job < before && owner.as_ref().is_none_or(|own| *own == record.owner);
                Done::Jobs(jobs.filter(its).take(limit).cloned().collect())
            }
        }
    }
}
