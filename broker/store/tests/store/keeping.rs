//! What is committed is there after a restart, complete and in order.

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Read, Restored, Write};
use giostra_protocol::{Bytes, JobState, MAX_JOB_REQUESTS, Outcome};
use giostra_store::{Sqlite, Store as _, StoreError};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::*;

const ALL: (usize, usize) = (usize::MAX, usize::MAX);

#[test]
fn a_new_store_is_empty_and_its_number_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (store, first) = Sqlite::open(folder.path()).unwrap();
    assert_eq!(first, Restored { home: first.home, last_job: 0, jobs: vec![] });
    assert_ne!(first.home, 0);
    drop(store);
    assert_eq!(Sqlite::open(folder.path()).unwrap().1, first);
}

#[test]
fn an_open_job_goes_on_after_a_restart_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let done = store.commit(&[create(1, "a"), append(1, 0..1500, false), results(1, 3..700)]).unwrap();
    let [Done::Created(submitted_ms), Done::Written, Done::Written] = done[..] else { panic!("{done:?}") };
    assert!(submitted_ms > 1_600_000_000_000);
    drop(store);

    let (mut store, restored) = Sqlite::open(folder.path()).unwrap();
    let [job] = &restored.jobs[..] else { panic!("{restored:?}") };
    assert_eq!((job.job, &*job.owner, &job.spec), (JobNumber(1), "owner", &spec("a")));
    assert_eq!((job.state, job.requests, job.succeeded, job.failed), (JobState::Open, 1500, 690, 7));
    assert_eq!((job.submitted_ms, job.ended_ms), (submitted_ms, 0));
    let pending: Vec<_> = (0..3).chain(700..1500).map(|number| (number, body(1, number))).collect();
    assert_eq!(all_pending(&mut store, 1, 0, ALL), pending);
    assert_eq!(all_results(&mut store, 1, 0, usize::MAX), (3..700).map(|n| (n, outcome(1, n))).collect::<Vec<_>>());

    store.commit(&[append(1, 1500..1501, true)]).unwrap();
    assert_eq!(record(&mut store, 1).unwrap().state, JobState::Running);
    store.commit(&[results(1, (0..3).chain(700..1501))]).unwrap();
    let record = record(&mut store, 1).unwrap();
    assert_eq!((record.state, record.succeeded, record.failed), (JobState::Finished, 1486, 15));
    assert!(record.ended_ms >= submitted_ms);
    drop(store);
    let (mut store, restored) = Sqlite::open(folder.path()).unwrap();
    assert_eq!((restored.jobs, restored.last_job), (vec![], 1));
    assert_eq!(all_results(&mut store, 1, 0, 100), (0..1501).map(|n| (n, outcome(1, n))).collect::<Vec<_>>());
}

#[test]
fn results_in_any_order_over_many_commits_come_back_complete_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(7, "a"), append(7, 0..3000, true)]).unwrap();
    let mut numbers: Vec<u32> = (0..3000).collect();
    numbers.shuffle(&mut StdRng::seed_from_u64(1));
    for (commit, part) in numbers.chunks(117).enumerate() {
        store.commit(&[results(7, part.iter().copied())]).unwrap();
        if commit == 10 {
            // What is known of each block is read from the tables again.
            drop(store);
            store = open(folder.path());
        }
    }
    let all: Vec<_> = (0..3000).map(|number| (number, outcome(7, number))).collect();
    for bytes in [0, 1000, usize::MAX] {
        assert_eq!(all_results(&mut store, 7, 0, bytes), all);
    }
    assert_eq!(all_results(&mut store, 7, 1500, 1000), all[1500..]);
    assert_eq!(all_pending(&mut store, 7, 0, ALL), []);
}

#[test]
fn a_job_is_submitted_once_whatever_is_repeated_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..2, false)]).unwrap();
    drop(store);
    let mut store = open(folder.path());
    let done = store.commit(&[append(1, 2..5, false), create(2, "a"), append(2, 0..9, true)]).unwrap();
    let Done::Exists(there) = &done[1] else { panic!("{done:?}") };
    assert_eq!((there.job, there.requests, there.state), (JobNumber(1), 5, JobState::Open));
    assert_eq!(done[2], Done::Written);
    // Also in later groups there is no such job.
    store.commit(&[append(2, 9..12, true), results(2, 0..3), Write::Cancel(JobNumber(2))]).unwrap();
    assert_eq!(record(&mut store, 2), None);
    assert_eq!((all_pending(&mut store, 2, 0, ALL), all_results(&mut store, 2, 0, 9)), (vec![], vec![]));
    assert_eq!(all_pending(&mut store, 1, 0, ALL).len(), 5);
    // Another owner, another pool, another key: another job.
    let mut other = (*spec("a")).clone();
    other.pool = "render".into();
    let writes = [
        Write::Create { job: JobNumber(3), owner: "else".into(), spec: spec("a") },
        Write::Create { job: JobNumber(4), owner: "owner".into(), spec: other.into() },
        create(5, "b"),
    ];
    let done = store.commit(&writes).unwrap();
    assert!(done.iter().all(|done| matches!(done, Done::Created(_))), "{done:?}");
}

#[test]
fn the_same_result_twice_is_counted_once_and_the_first_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..3, true), results(1, [1])]).unwrap();
    drop(store);
    let mut store = open(folder.path());
    let again = settle(1, vec![(1, error(1, 1)), (2, result(1, 2)), (2, error(1, 2))]);
    store.commit(&[again]).unwrap();
    assert_eq!(all_results(&mut store, 1, 0, usize::MAX), [(1, result(1, 1)), (2, result(1, 2))]);
    let record = record(&mut store, 1).unwrap();
    assert_eq!((record.succeeded, record.failed), (2, 0));
}

#[test]
fn a_job_without_requests_or_with_all_its_results_is_finished_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..0, true)]).unwrap();
    store.commit(&[create(2, "b"), append(2, 0..2, false), results(2, 0..2)]).unwrap();
    assert_eq!(record(&mut store, 2).unwrap().state, JobState::Open);
    store.commit(&[append(2, 2..2, true)]).unwrap();
    for job in [1, 2] {
        let record = record(&mut store, job).unwrap();
        assert!(record.state == JobState::Finished && record.ended_ms > 0, "{record:?}");
    }
}

#[test]
fn large_bodies_come_back_one_at_a_time_if_no_more_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let large = |number: u32| Bytes::from(vec![number as u8; 100_000 + number as usize]);
    let bodies = (0..20).map(large).collect();
    store.commit(&[create(1, "a"), Write::Append { job: JobNumber(1), first: 0, bodies, closes: true }]).unwrap();
    let pending: Vec<_> = (0..20).map(|number| (number, large(number))).collect();
    assert_eq!(all_pending(&mut store, 1, 0, (1000, 250_000)), pending);
    let outcomes: Vec<_> = (0..20).rev().map(|number| (number, Outcome::Ok(large(number)))).collect();
    store.commit(&[settle(1, outcomes.clone())]).unwrap();
    let question = Read::Results { job: JobNumber(1), from: 3, bytes: 250_000, with_failed: true };
    let results = vec![(3, Outcome::Ok(large(3))), (4, Outcome::Ok(large(4)))];
    assert_eq!(store.scan(&question).unwrap(), Done::Results { results, failed: vec![] });
    assert_eq!(all_results(&mut store, 1, 0, 1), outcomes.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn the_write_ahead_log_goes_into_the_database_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a")]).unwrap();
    for first in 0..400 {
        let bodies = vec![Bytes::from(vec![7; 100_000])];
        store.commit(&[Write::Append { job: JobNumber(1), first, bodies, closes: false }]).unwrap();
    }
    let size = |name| std::fs::metadata(folder.path().join(name)).unwrap().len() >> 20;
    assert!(size("store.db-wal") < 10 && size("store.db") > 30, "{} {}", size("store.db-wal"), size("store.db"));
}

#[test]
fn jobs_are_listed_by_owner_the_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let owner = |job: u64| if job.is_multiple_of(3) { "three" } else { "owner" };
    let writes = (1..=30).map(|job| Write::Create {
        job: JobNumber(job),
        owner: owner(job).into(),
        spec: spec(&job.to_string()),
    });
    store.commit(&writes.collect::<Vec<_>>()).unwrap();
    let mut list = |owner: Option<&str>, before, limit| {
        let question = Read::Jobs { owner: owner.map(Into::into), before: JobNumber(before), limit };
        match store.scan(&question).unwrap() {
            Done::Jobs(jobs) => jobs.into_iter().map(|job| job.job.0).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(None, u64::MAX, 3), [30, 29, 28]);
    assert_eq!(list(Some("three"), 30, 2), [27, 24]);
    assert_eq!(list(Some("owner"), 5, 100), [4, 2, 1]);
    assert_eq!(list(Some("nobody"), u64::MAX, usize::MAX), [0; 0]);
}

#[test]
fn a_job_that_was_never_there_has_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for job in [0, 1, 1 << 39, u64::MAX] {
        assert_eq!(record(&mut store, job), None);
        assert_eq!(all_pending(&mut store, job, 0, ALL), []);
        assert_eq!(all_results(&mut store, job, MAX_JOB_REQUESTS - 1, 1), []);
        let writes = [append(job, 0..1, true), results(job, 0..1)];
        assert_eq!(store.commit(&writes).unwrap(), [Done::Written, Done::Written]);
        assert_eq!(store.commit(&[Write::Cancel(JobNumber(job))]).unwrap(), [Done::Written]);
        assert_eq!(store.commit(&[Write::Delete(JobNumber(job))]).unwrap(), [Done::Written]);
    }
}

#[test]
fn after_a_write_that_makes_no_sense_nothing_is_acknowledged_and_what_was_kept_stays() {
    let gap = append(1, 5..6, false);
    let stranger = results(1, [3]);
    for wrong in [gap, stranger, create(0, "z"), create(1 << 39, "z"), create(1, "z")] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.commit(&[create(1, "a"), append(1, 0..3, false)]).unwrap();
        let error = store.commit(&[results(1, [0]), wrong]).unwrap_err();
        assert!(matches!(error, StoreError::Misuse(_)), "{error}");
        assert!(matches!(store.commit(&[append(1, 3..4, false)]), Err(StoreError::OutOfService(_))));
        assert!(matches!(store.scan(&Read::Job(JobNumber(1))), Err(StoreError::OutOfService(_))));
        drop(store);
        let mut store = open(folder.path());
        assert_eq!(all_pending(&mut store, 1, 0, ALL).len(), 3);
    }
}
