//! The store of durable jobs as its user sees it: what is acknowledged is there, whatever happens to
//! the process.

mod deleting;
mod expiring;
mod full;
mod keeping;
mod killing;
mod maintaining;
mod model;
mod opening;
mod retrying;
mod thread;

use std::path::Path;
use std::sync::Arc;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, JobRecord, Read, Write};
use giostra_protocol::{Bytes, Failure, JobSpec, Outcome};
use giostra_store::{Sqlite, Store};

/// Opens a store that is sound.
fn open(folder: &Path) -> Sqlite {
    Sqlite::open(folder).unwrap().0
}

fn spec(key: &str) -> Arc<JobSpec> {
    Arc::new(JobSpec { pool: "compute".into(), key: key.into(), name: "nightly".into(), ..JobSpec::default() })
}

fn create(job: u64, key: &str) -> Write {
    Write::Create { job: JobNumber(job), owner: "owner".into(), spec: spec(key) }
}

/// The body of a request: each another one.
fn body(job: u64, number: u32) -> Bytes {
    format!("request {number} of {job}").into()
}

/// What became of a request: each another result, and each 100th an error.
fn outcome(job: u64, number: u32) -> Outcome {
    if number % 100 == 99 { error(job, number) } else { result(job, number) }
}

fn result(job: u64, number: u32) -> Outcome {
    Outcome::Ok(format!("result {number} of {job}").into())
}

fn error(job: u64, number: u32) -> Outcome {
    Outcome::Error(Failure::from(format!("error {number} of {job}")))
}

fn append(job: u64, numbers: std::ops::Range<u32>, closes: bool) -> Write {
    let first = numbers.start;
    Write::Append { job: JobNumber(job), first, bodies: numbers.map(|number| body(job, number)).collect(), closes }
}

fn results(job: u64, numbers: impl IntoIterator<Item = u32>) -> Write {
    let outcomes = numbers.into_iter().map(|number| (number, outcome(job, number))).collect();
    settle(job, outcomes)
}

fn settle(job: u64, outcomes: Vec<(u32, Outcome)>) -> Write {
    Write::Results { job: JobNumber(job), outcomes }
}

fn record(store: &mut Sqlite, job: u64) -> Option<JobRecord> {
    match store.scan(&Read::Job(JobNumber(job))).unwrap() {
        Done::Jobs(mut jobs) => jobs.pop(),
        other => panic!("{other:?}"),
    }
}

/// Asks what is pending until there is no more.
fn all_pending(store: &mut Sqlite, job: u64, from: u32, limits: (usize, usize)) -> Vec<(u32, Bytes)> {
    let (mut all, mut next) = (Vec::new(), Some(from));
    while let Some(from) = next {
        let question = Read::Pending { job: JobNumber(job), from, requests: limits.0, bytes: limits.1 };
        let Done::Pending { requests, next: more, .. } = store.scan(&question).unwrap() else { panic!("{question:?}") };
        assert!(requests.len() <= limits.0.max(1), "{} of {}", requests.len(), limits.0);
        let bytes: usize = requests.iter().map(|(_, body)| body.len()).sum();
        assert!(requests.len() == 1 || bytes <= limits.1, "{bytes} bytes of {}", limits.1);
        assert!(more.is_none_or(|more| requests.last().is_some_and(|(number, _)| *number < more)), "no progress");
        all.extend(requests);
        next = more;
    }
    all
}

/// Asks for results until there are no more.
fn all_results(store: &mut Sqlite, job: u64, from: u32, bytes: usize) -> Vec<(u32, Outcome)> {
    let (mut all, mut from) = (Vec::new(), from);
    loop {
        let question = Read::Results { job: JobNumber(job), from, bytes, with_failed: false };
        let Done::Results { results, .. } = store.scan(&question).unwrap() else { panic!("{question:?}") };
        let Some((last, _)) = results.last() else { return all };
        from = last + 1;
        all.extend(results);
    }
}

/// Asserts that nothing is wrong with a store that is closed.
fn assert_sound(folder: &Path) {
    let check = giostra_store::maintenance::check(folder).unwrap();
    assert!(check.is_sound(), "{:#?}", check.problems);
}

/// Sweeps until nothing is left to be removed, and returns the number of steps.
fn sweep_all(store: &mut Sqlite) -> usize {
    let mut steps = 1;
    while store.sweep().unwrap() {
        steps += 1;
    }
    steps
}
