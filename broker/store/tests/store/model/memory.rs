//! A store in memory: what it is to answer, without a disk.

use std::collections::BTreeMap;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, JobRecord, Write};
use giostra_protocol::name::Label;
use giostra_protocol::{Bytes, JobState, Outcome};

use super::super::*;

#[derive(Clone)]
pub struct ModelJob {
    pub record: JobRecord,
    pub bodies: Vec<Bytes>,
    pub outcomes: BTreeMap<u32, Outcome>,
    pub attempts: BTreeMap<u32, Attempts>,
}

#[derive(Clone, Default)]
pub struct Model {
    pub now_ms: u64,
    pub home: u32,
    pub last_job: u64,
    pub jobs: BTreeMap<u64, ModelJob>,
}

impl Model {
    /// What the store is to say.
    pub fn apply(&mut self, write: &Write) -> Done {
        let now_ms = self.now_ms;
        match write {
            Write::Create { job, owner, spec } => return self.create(*job, owner, spec),
            Write::Append { job, first, bodies, closes } => {
                let Some(there) = self.jobs.get_mut(&job.0) else { return Done::Written };
                if there.record.state != JobState::Open {
                    return Done::Written;
                }
                assert_eq!(*first, there.record.requests, "after a gap");
                there.bodies.extend(bodies.iter().cloned());
                there.record.requests += bodies.len() as u32;
                if *closes {
                    there.record.state = JobState::Running;
                    if there.outcomes.len() == there.bodies.len() {
                        there.end(JobState::Finished, now_ms);
                    }
                }
            }
            Write::Results { job, outcomes, .. } => {
                let Some(there) = self.jobs.get_mut(&job.0).filter(|job| job.record.ended_ms == 0) else {
                    return Done::Written;
                };
                for (number, outcome) in outcomes {
                    there.outcomes.insert(*number, outcome.clone());
                    there.attempts.remove(number);
                    let ok = matches!(outcome, Outcome::Ok(_));
                    *if ok { &mut there.record.succeeded } else { &mut there.record.failed } += 1;
                }
                if there.record.state == JobState::Running && there.outcomes.len() == there.bodies.len() {
                    there.end(JobState::Finished, now_ms);
                }
            }
            Write::Attempts { job, attempts } => {
                if let Some(there) = self.jobs.get_mut(&job.0).filter(|job| job.record.ended_ms == 0) {
                    let pending = attempts.iter().filter(|(number, _)| !there.outcomes.contains_key(number));
                    there.attempts.extend(pending.copied());
                }
            }
            Write::Retry(job) => return Done::Jobs(self.retry(*job).into_iter().collect()),
            Write::Cancel(job) => {
                if let Some(there) = self.jobs.get_mut(&job.0).filter(|job| job.record.ended_ms == 0) {
                    there.end(JobState::Cancelled, now_ms);
                }
            }
            Write::Delete(job) => drop(self.jobs.remove(&job.0)),
        }
        Done::Written
    }

    pub fn create(&mut self, job: JobNumber, owner: &Label, spec: &Arc<JobSpec>) -> Done {
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
            submitted_ms: self.now_ms,
            ended_ms: 0,
        };
        self.jobs
            .insert(job.0, ModelJob { record, bodies: vec![], outcomes: BTreeMap::new(), attempts: BTreeMap::new() });
        Done::Created(self.now_ms)
    }

    pub fn retry(&mut self, job: JobNumber) -> Option<JobRecord> {
        let there = self.jobs.get_mut(&job.0).filter(|job| job.record.state == JobState::Finished)?;
        if there.record.failed > 0 {
            there.outcomes.retain(|_, outcome| matches!(outcome, Outcome::Ok(_)));
            (there.record.state, there.record.failed, there.record.ended_ms) = (JobState::Running, 0, 0);
        }
        Some(there.record.clone())
    }

    pub fn expired(&self) -> Done {
        let ended = self.jobs.values().map(|job| &job.record);
        let ended = ended.filter(|record| record.ended_ms > 0 && record.spec.keep_ms > 0);
        let left = |record: &&JobRecord| (record.ended_ms + record.spec.keep_ms).saturating_sub(self.now_ms);
        let mut jobs: Vec<_> = ended.clone().filter(|record| left(record) == 0).cloned().collect();
        jobs.sort_by_key(|record| (record.ended_ms, record.job));
        Done::Expired { jobs, next_ms: ended.map(|record| left(&record)).filter(|&left| left > 0).min() }
    }

    pub fn attempts(&self, job: u64) -> Vec<(u32, Attempts)> {
        let there = self.jobs.get(&job).filter(|job| job.record.ended_ms == 0);
        there.into_iter().flat_map(|job| &job.attempts).map(|(number, attempts)| (*number, *attempts)).collect()
    }

    pub fn pending(&self, job: u64, from: u32) -> Vec<(u32, Bytes)> {
        let Some(there) = self.jobs.get(&job).filter(|job| job.record.ended_ms == 0) else { return vec![] };
        let bodies = (0..).zip(there.bodies.iter().cloned());
        bodies.filter(|(number, _)| *number >= from && !there.outcomes.contains_key(number)).collect()
    }

    pub fn results(&self, job: u64, from: u32) -> Vec<(u32, Outcome)> {
        let outcomes = self.jobs.get(&job).map(|job| job.outcomes.range(from..));
        outcomes.into_iter().flatten().map(|(number, outcome)| (*number, outcome.clone())).collect()
    }
}

impl ModelJob {
    pub fn end(&mut self, state: JobState, now_ms: u64) {
        self.record.state = state;
        self.record.ended_ms = now_ms;
        self.attempts.clear();
    }
}
