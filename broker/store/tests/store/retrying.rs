//! Requests that are computed again: what is known of earlier attempts, and the failed ones of a
//! finished job.

use std::collections::BTreeMap;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, JobRecord, Read, Write};
use giostra_protocol::{Bytes, JobState, Outcome};
use giostra_store::{Sqlite, Store as _, StoreError};
use rusqlite::Connection;

use super::*;

fn attempts(job: u64, attempts: &[(u32, u32, u32)]) -> Write {
    let attempts = attempts.iter().map(|&(number, lost, failed)| (number, Attempts { lost, failed }));
    Write::Attempts { job: JobNumber(job), attempts: attempts.collect() }
}

/// What is known of the attempts at all pending requests, asked for a few at a time.
fn known(store: &mut Sqlite, job: u64) -> Vec<(u32, u32, u32)> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let question = Read::Pending { job: JobNumber(job), from, requests: 700, bytes: usize::MAX };
        let Done::Pending { requests, attempts, next: more } = store.scan(&question).unwrap() else { panic!() };
        let (first, last) = (requests.first().map_or(0, |r| r.0), requests.last().map_or(0, |r| r.0));
        assert!(attempts.iter().all(|(number, _)| (first..=last).contains(number)), "of other requests");
        all.extend(attempts.into_iter().map(|(number, Attempts { lost, failed })| (number, lost, failed)));
        next = more;
    }
    all
}

fn count(folder: &Path, table: &str) -> i64 {
    let db = Connection::open(folder.join("store.db")).unwrap();
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn retry(store: &mut Sqlite, job: u64) -> Option<JobRecord> {
    match &store.commit(&[Write::Retry(JobNumber(job))]).unwrap()[..] {
        [Done::Jobs(jobs)] => jobs.first().cloned(),
        other => panic!("{other:?}"),
    }
}

/// A finished job of `count` requests, of which each 100th failed.
fn finished(store: &mut Sqlite, job: u64, count: u32) {
    store.commit(&[create(job, &job.to_string()), append(job, 0..count, true), results(job, 0..count)]).unwrap();
}

#[test]
fn what_is_known_of_attempts_is_known_after_a_restart_until_the_request_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..3000, true), attempts(1, &[(5, 1, 0), (1500, 0, 2)])]).unwrap();
    assert_eq!(known(&mut store, 1), [(5, 1, 0), (1500, 0, 2)]);
    store.commit(&[attempts(1, &[(5, 2, 0), (2999, 1, 1)]), attempts(1, &[(5, 2, 1)])]).unwrap();
    drop(store);
    let mut store = open(folder.path());
    assert_eq!(known(&mut store, 1), [(5, 2, 1), (1500, 0, 2), (2999, 1, 1)], "the later ones");
    store.commit(&[results(1, [5, 6]), attempts(1, &[(5, 3, 3), (7, 1, 0)])]).unwrap();
    store.commit(&[attempts(1, &[(8, 1, 0)]), results(1, [8]), attempts(1, &[(1500, 0, 0)])]).unwrap();
    assert_eq!(known(&mut store, 1), [(7, 1, 0), (2999, 1, 1)]);
    drop(store);
    assert_eq!(count(folder.path(), "att"), 2);
    let mut store = open(folder.path());
    assert_eq!(known(&mut store, 1), [(7, 1, 0), (2999, 1, 1)]);
    store.commit(&[results(1, (0..5).chain([7]).chain(9..3000))]).unwrap();
    drop(store);
    assert_eq!(count(folder.path(), "att"), 0, "of a finished job nothing is left");
}

#[test]
fn attempts_at_what_is_not_there_or_has_ended_are_ignored_and_deleted_jobs_leave_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..9, true), attempts(1, &[(1, 1, 1)])]).unwrap();
    store.commit(&[create(2, "b"), append(2, 0..9, true), attempts(2, &[(1, 1, 1)])]).unwrap();
    let late = [Write::Cancel(JobNumber(1)), attempts(1, &[(2, 1, 1)]), attempts(77, &[(2, 1, 1)])];
    assert_eq!(store.commit(&late).unwrap(), vec![Done::Written; 3]);
    store.commit(&[Write::Delete(JobNumber(2)), attempts(2, &[(2, 1, 1)])]).unwrap();
    sweep_all(&mut store);
    drop(store);
    assert_eq!(count(folder.path(), "att"), 0);
    let mut store = open(folder.path());
    store.commit(&[create(3, "c"), append(3, 0..9, false)]).unwrap();
    assert!(matches!(store.commit(&[attempts(3, &[(9, 1, 1)])]), Err(StoreError::Misuse(_))));
}

#[test]
fn the_failed_requests_of_a_finished_job_are_computed_again_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    finished(&mut store, 1, 2500);
    finished(&mut store, 2, 500);
    let failed: Vec<u32> = (0..2500).filter(|number| number % 100 == 99).collect();
    let record = retry(&mut store, 1).unwrap();
    assert_eq!((record.state, record.succeeded, record.failed, record.ended_ms), (JobState::Running, 2475, 0, 0));
    let pending: Vec<_> = failed.iter().map(|number| (*number, body(1, *number))).collect();
    assert_eq!(all_pending(&mut store, 1, 0, (usize::MAX, usize::MAX)), pending);
    assert_eq!(all_results(&mut store, 1, 0, usize::MAX).len(), 2475);
    drop(store);

    let (mut store, restored) = Sqlite::open(folder.path()).unwrap();
    assert_eq!(restored.jobs, [record]);
    assert_eq!(all_pending(&mut store, 1, 0, (7, usize::MAX)), pending);
    // Half of them succeed, the others fail again.
    let outcomes = failed.iter().map(|&number| {
        let again = if number % 200 == 99 { result(1, number) } else { error(1, number) };
        (number, again)
    });
    let outcomes: Vec<_> = outcomes.collect();
    store.commit(&[settle(1, outcomes.clone())]).unwrap();
    let mut expected: BTreeMap<_, _> = (0..2500).map(|number| (number, outcome(1, number))).collect();
    expected.extend(outcomes);
    assert_eq!(all_results(&mut store, 1, 0, 9999), expected.into_iter().collect::<Vec<_>>());
    let record = retry(&mut store, 1).unwrap();
    assert_eq!((record.succeeded, record.failed), (2488, 0), "and a third time");
    let again: Vec<_> = failed.into_iter().filter(|number| number % 200 != 99).collect();
    store.commit(&[settle(1, again.iter().map(|&n| (n, result(1, n))).collect())]).unwrap();
    assert_eq!(super::record(&mut store, 2).unwrap().failed, 5, "the other job is as it was");
    drop(store);
    assert_eq!((count(folder.path(), "err"), count(folder.path(), "sub")), (5, 1), "only the other job's");
}

#[test]
fn a_job_that_did_not_fail_or_is_not_finished_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    finished(&mut store, 1, 50);
    store.commit(&[create(2, "b"), append(2, 0..200, false), results(2, [99])]).unwrap();
    store.commit(&[create(3, "c"), append(3, 0..200, true), results(3, [99])]).unwrap();
    store.commit(&[create(4, "d"), append(4, 0..200, true), results(4, [99]), Write::Cancel(JobNumber(4))]).unwrap();
    let before: Vec<_> = (1..=4).map(|job| record(&mut store, job)).collect();
    assert_eq!(retry(&mut store, 1), before[0]);
    for job in [2, 3, 4, 5, u64::MAX] {
        assert_eq!(retry(&mut store, job), None, "{job}");
    }
    assert_eq!((1..=4).map(|job| record(&mut store, job)).collect::<Vec<_>>(), before);
}

#[test]
fn a_job_can_be_finished_retried_and_finished_again_in_one_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let again = settle(1, vec![(99, result(1, 99)), (199, error(1, 199))]);
    let group = [
        create(1, "a"),
        append(1, 0..200, true),
        results(1, 0..200),
        Write::Retry(JobNumber(1)),
        attempts(1, &[(99, 0, 1)]),
        again,
        create(2, "a"),
    ];
    let done = store.commit(&group).unwrap();
    let [.., Done::Jobs(jobs), Done::Written, Done::Written, Done::Exists(there)] = &done[..] else {
        panic!("{done:?}")
    };
    assert_eq!((jobs[0].state, jobs[0].succeeded, jobs[0].failed), (JobState::Running, 198, 0));
    assert_eq!((there.state, there.succeeded, there.failed), (JobState::Finished, 199, 1));
    assert_eq!(record(&mut store, 1).as_ref(), Some(&**there));
    assert_eq!(all_results(&mut store, 1, 199, 9), [(199, error(1, 199))]);
    drop(store);
    assert_eq!((count(folder.path(), "err"), count(folder.path(), "att")), (1, 0));
}

#[test]
fn failed_requests_come_with_the_results_if_they_are_asked_for_and_count_to_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let large = |number: u32| Bytes::from(vec![number as u8; 1000]);
    let bodies = (0..3000).map(large).collect();
    store.commit(&[create(1, "a"), Write::Append { job: JobNumber(1), first: 0, bodies, closes: true }]).unwrap();
    store.commit(&[results(1, 0..3000)]).unwrap();
    let (mut from, mut all, mut answers) = (0, Vec::new(), 0);
    loop {
        let question = Read::Results { job: JobNumber(1), from, bytes: 5000, with_failed: true };
        let Done::Results { results, failed } = store.scan(&question).unwrap() else { panic!() };
        let Some((last, _)) = results.last() else { break };
        let bytes: usize = failed.iter().map(|(_, body)| body.len()).sum();
        assert!(bytes <= 5000);
        let errors = results.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Error(_)));
        assert!(
            errors.map(|(number, _)| *number).eq(failed.iter().map(|(number, _)| *number)),
            "of those in the answer"
        );
        (from, answers) = (last + 1, answers + 1);
        all.extend(failed);
    }
    assert_eq!(all, (0..30).map(|n| (n * 100 + 99, large(n * 100 + 99))).collect::<Vec<_>>());
    assert!(answers > 15, "{answers}");
    let question = Read::Results { job: JobNumber(1), from: 99, bytes: 1, with_failed: true };
    let Done::Results { results, failed } = store.scan(&question).unwrap() else { panic!() };
    assert_eq!((results.len(), failed), (1, vec![(99, large(99))]), "one in any case");
}

#[test]
fn of_a_cancelled_job_there_are_errors_but_no_failed_requests() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..200, true), results(1, [99]), Write::Cancel(JobNumber(1))]).unwrap();
    for _ in 0..2 {
        let question = Read::Results { job: JobNumber(1), from: 0, bytes: 999, with_failed: true };
        let Done::Results { results, failed } = store.scan(&question).unwrap() else { panic!() };
        assert_eq!((results, failed), (vec![(99, error(1, 99))], vec![]));
        sweep_all(&mut store);
    }
}
