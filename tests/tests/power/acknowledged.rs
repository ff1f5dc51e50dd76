//! What a process has said to be safe, and whether it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, JobRecord, Read};
use giostra_protocol::{Bytes, JobState, Outcome};
use giostra_store::{Sqlite, Store as _, maintenance};

use crate::child::{body, outcome};

/// What is known of a job.
#[derive(Clone, Debug, Default)]
struct Job {
    requests: u32,
    settled: BTreeSet<u32>,
    cancelled: bool,
    deleted: bool,
}

/// What was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    jobs: BTreeMap<u64, Job>,
}

impl Acknowledged {
    /// Reads what the child said: whole lines, and those of the test harness.
    pub fn take_down(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [what, job, numbers @ .., "."] = &words[..] else { continue };
            let Ok(job) = job.parse::<u64>() else { continue };
            let numbers = numbers.iter().map(|number| number.parse::<u32>()).collect::<Result<Vec<_>, _>>()?;
            let known = self.jobs.entry(job).or_default();
            match (*what, &numbers[..]) {
                ("created", []) => {}
                ("appended", &[end]) => known.requests = end,
                ("settled", &[start, end]) => known.settled.extend(start..end),
                ("cancelled", []) => known.cancelled = true,
                ("deleted", []) => known.deleted = true,
                _ => bail!("the child says {line:?}"),
            }
        }
        Ok(())
    }

    /// Returns how many jobs and results there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.jobs.len(), self.jobs.values().map(|job| job.settled.len()).sum())
    }

    /// Checks that a store is sound and has all of it.
    pub fn check(&self, folder: &Path) -> Result<()> {
        if self.jobs.is_empty() {
            // There may be no store yet, but one can be made.
            return Ok(Sqlite::open(folder).map(drop)?);
        }
        let problems = maintenance::check(folder)?.problems;
        ensure!(problems.is_empty(), "{problems:#?}");
        let (mut store, restored) = Sqlite::open(folder)?;
        ensure!(restored.last_job >= *self.jobs.keys().last().expect("there are jobs"), "the last job is missing");
        for (&number, job) in &self.jobs {
            job.check(number, &mut store).with_context(|| format!("job {number}"))?;
        }
        Ok(())
    }
}

impl Job {
    fn check(&self, job: u64, store: &mut Sqlite) -> Result<()> {
        let record = record(store, job)?;
        if self.deleted {
            ensure!(record.is_none(), "it was deleted");
            return Ok(());
        }
        // What was on its way, and not acknowledged, may have been kept.
        let Some(record) = record else {
            let may_be_deleted = job.is_multiple_of(3) && self.requests > 0;
            ensure!(may_be_deleted, "it is missing");
            return Ok(());
        };
        ensure!(record.requests >= self.requests, "{record:?}, not {} requests", self.requests);
        ensure!(!self.cancelled || record.state == JobState::Cancelled, "{record:?} was cancelled");
        let results: BTreeMap<_, _> = results(store, job)?.into_iter().collect();
        for (number, found) in &results {
            ensure!(*found == outcome(job, *number), "another result of {number}: {found:?}");
        }
        let missing = self.settled.iter().find(|number| !results.contains_key(number));
        ensure!(missing.is_none(), "the result of {missing:?} is missing");
        if record.state != JobState::Cancelled {
            let pending: BTreeMap<_, _> = pending(store, job)?.into_iter().collect();
            for number in (0..record.requests).filter(|number| !results.contains_key(number)) {
                ensure!(pending.get(&number) == Some(&body(job, number)), "request {number} is missing");
            }
        }
        Ok(())
    }
}

fn record(store: &mut Sqlite, job: u64) -> Result<Option<JobRecord>> {
    match store.scan(&Read::Job(JobNumber(job)))? {
        Done::Jobs(jobs) => Ok(jobs.into_iter().next()),
        other => bail!("{other:?}"),
    }
}

fn results(store: &mut Sqlite, job: u64) -> Result<Vec<(u32, Outcome)>> {
    let question = Read::Results { job: JobNumber(job), from: 0, bytes: usize::MAX, with_failed: false };
    match store.scan(&question)? {
        Done::Results { results, .. } => Ok(results),
        other => bail!("{other:?}"),
    }
}

fn pending(store: &mut Sqlite, job: u64) -> Result<Vec<(u32, Bytes)>> {
    let question = Read::Pending { job: JobNumber(job), from: 0, requests: usize::MAX, bytes: usize::MAX };
    match store.scan(&question)? {
        Done::Pending { requests, .. } => Ok(requests),
        other => bail!("{other:?}"),
    }
}
