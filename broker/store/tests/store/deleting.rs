//! Deleted and cancelled jobs: nothing of them is left, and nothing of others is lost.

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Write};
use giostra_protocol::{Bytes, JobState, Outcome};
use giostra_store::{Sqlite, Store as _, StoreError};
use rusqlite::Connection;

use super::*;

const ALL: (usize, usize) = (usize::MAX, usize::MAX);

/// Counts the rows of a table in the file.
fn rows(folder: &Path, table: &str) -> i64 {
    let db = Connection::open(folder.join("store.db")).unwrap();
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Commits a job of many rows: each request in a commit of its own, and each result.
fn many_rows(store: &mut Sqlite, job: u64, count: u32) {
    store.commit(&[create(job, &job.to_string())]).unwrap();
    for number in 0..count {
        store.commit(&[append(job, number..number + 1, false)]).unwrap();
    }
    for number in (0..count).filter(|number| number % 2 == 1) {
        store.commit(&[results(job, [number])]).unwrap();
    }
}

#[test]
fn a_job_is_deleted_in_steps_that_go_on_after_a_restart_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    many_rows(&mut store, 1, 1100);
    store.commit(&[create(2, "two"), append(2, 0..2000, true), results(2, 0..500)]).unwrap();
    store.commit(&[Write::Delete(JobNumber(1))]).unwrap();
    // At once it is not there any more, though its rows are.
    assert_eq!(record(&mut store, 1), None);
    assert_eq!((all_pending(&mut store, 1, 0, ALL), all_results(&mut store, 1, 0, 9)), (vec![], vec![]));
    drop(store);
    assert!(rows(folder.path(), "sub") > 500);

    let mut store = open(folder.path());
    // A restart that comes in between, too.
    assert!(store.sweep().unwrap());
    drop(store);
    let mut store = open(folder.path());
    sweep_all(&mut store);
    let left: Vec<_> = all_pending(&mut store, 2, 0, ALL).into_iter().map(|(number, _)| number).collect();
    assert_eq!(left, (500..2000).collect::<Vec<_>>());
    assert_eq!(all_results(&mut store, 2, 0, 999).len(), 500);
    store.commit(&[Write::Delete(JobNumber(2))]).unwrap();
    sweep_all(&mut store);
    drop(store);
    for table in ["job", "sub", "res", "err", "gone"] {
        assert_eq!(rows(folder.path(), table), 0, "{table}");
    }
}

#[test]
fn deletion_goes_on_while_others_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    many_rows(&mut store, 1, 1100);
    store.commit(&[create(2, "two"), Write::Delete(JobNumber(1))]).unwrap();
    for number in 0..10 {
        store.commit(&[append(2, number..number + 1, false)]).unwrap();
    }
    assert_eq!(sweep_all(&mut store), 1, "nothing was left to sweep");
    drop(store);
    assert_eq!((rows(folder.path(), "sub"), rows(folder.path(), "res")), (10, 0));
}

#[test]
fn large_bodies_are_deleted_few_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let bodies = vec![Bytes::from(vec![1; 1 << 20]); 20];
    store.commit(&[create(1, "a"), Write::Append { job: JobNumber(1), first: 0, bodies, closes: true }]).unwrap();
    store.commit(&[Write::Delete(JobNumber(1))]).unwrap();
    assert!(sweep_all(&mut store) >= 4);
    drop(store);
    assert_eq!(rows(folder.path(), "sub"), 0);
}

#[test]
fn a_cancelled_job_keeps_what_was_finished_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..2000, false), results(1, 50..150)]).unwrap();
    let cancel = Write::Cancel(JobNumber(1));
    let late = [append(1, 2000..2010, true), cancel, append(1, 2010..2020, true), results(1, 0..10)];
    assert_eq!(store.commit(&late).unwrap(), vec![Done::Written; 4]);
    drop(store);
    let (mut store, restored) = Sqlite::open(folder.path()).unwrap();
    assert_eq!(restored.jobs, []);
    sweep_all(&mut store);
    let record = record(&mut store, 1).unwrap();
    assert!(record.state == JobState::Cancelled && record.ended_ms > 0, "{record:?}");
    assert_eq!((record.succeeded, record.failed), (99, 1));
    assert_eq!(all_results(&mut store, 1, 0, 99), (50..150).map(|n| (n, outcome(1, n))).collect::<Vec<_>>());
    assert_eq!(all_pending(&mut store, 1, 0, ALL), []);
    drop(store);
    assert_eq!((rows(folder.path(), "sub"), rows(folder.path(), "gone")), (0, 0));

    let mut store = open(folder.path());
    store.commit(&[Write::Delete(JobNumber(1))]).unwrap();
    sweep_all(&mut store);
    drop(store);
    assert_eq!((rows(folder.path(), "res"), rows(folder.path(), "err")), (0, 0));
}

#[test]
fn nothing_of_a_cancelled_job_is_pending_though_its_requests_are_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    many_rows(&mut store, 1, 600);
    store.commit(&[Write::Cancel(JobNumber(1))]).unwrap();
    assert_eq!(all_pending(&mut store, 1, 0, ALL), []);
    assert_eq!(all_results(&mut store, 1, 0, 99).len(), 300);
    drop(store);
    assert!(rows(folder.path(), "sub") > 0);
}

#[test]
fn a_group_about_very_many_blocks_forgets_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let jobs = 1..1800;
    let submit = jobs.clone().flat_map(|job| [create(job, &job.to_string()), append(job, 0..3, false)]);
    store.commit(&submit.collect::<Vec<_>>()).unwrap();
    let some = |numbers: [u32; 1]| jobs.clone().map(move |job| results(job, numbers));
    store.commit(&some([0]).chain(some([1]).rev()).collect::<Vec<_>>()).unwrap();
    for job in [1, 900, 1799] {
        assert_eq!(all_pending(&mut store, job, 0, ALL), [(2, body(job, 2))], "{job}");
    }
    store.commit(&some([2]).collect::<Vec<_>>()).unwrap();
    drop(store);
    assert_eq!(rows(folder.path(), "sub"), 0);
}

#[test]
fn the_bodies_of_a_block_go_with_its_last_result_but_stay_if_one_failed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(1, "a"), append(1, 0..3000, true)]).unwrap();
    let succeed = |numbers: std::ops::Range<u32>| {
        settle(1, numbers.map(|number| (number, result(1, number))).collect::<Vec<(u32, Outcome)>>())
    };
    store.commit(&[succeed(0..1000), succeed(1030..1040)]).unwrap();
    drop(store);
    assert_eq!(rows(folder.path(), "sub"), 3);
    let mut store = open(folder.path());
    store.commit(&[succeed(1000..1024)]).unwrap();
    let failed = settle(1, vec![(1029, error(1, 1029))]);
    store.commit(&[failed, succeed(1024..1029), succeed(1040..2048)]).unwrap();
    // The last block is not full.
    store.commit(&[succeed(2048..3000)]).unwrap();
    assert_eq!(all_pending(&mut store, 1, 0, ALL), []);
    assert_eq!(all_results(&mut store, 1, 0, 9).len(), 3000);
    drop(store);
    assert_eq!(rows(folder.path(), "sub"), 1, "the block with an error");
}

#[test]
fn the_number_of_a_deleted_job_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(5, "a"), create(9, "b")]).unwrap();
    store.commit(&[Write::Delete(JobNumber(9)), Write::Delete(JobNumber(5))]).unwrap();
    sweep_all(&mut store);
    drop(store);
    let (mut store, restored) = Sqlite::open(folder.path()).unwrap();
    assert_eq!((restored.last_job, restored.jobs), (9, vec![]));
    // The key is free: the same work can be submitted once more.
    assert!(matches!(store.commit(&[create(10, "a")]).unwrap()[..], [Done::Created(_)]));
}

#[test]
fn a_job_can_not_take_the_rows_of_a_deleted_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    many_rows(&mut store, 1, 600);
    store.commit(&[Write::Delete(JobNumber(1))]).unwrap();
    assert!(matches!(store.commit(&[create(1, "again")]), Err(StoreError::Misuse(_))));
}

#[test]
fn a_job_that_is_created_and_deleted_in_one_group_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let delete = Write::Delete(JobNumber(1));
    let group = [create(1, "a"), append(1, 0..9, true), results(1, 0..3), delete, create(2, "a")];
    let done = store.commit(&group).unwrap();
    assert!(matches!(done[4], Done::Created(_)), "{done:?}");
    sweep_all(&mut store);
    drop(store);
    for (table, count) in [("job", 1), ("sub", 0), ("res", 0), ("err", 0), ("gone", 0)] {
        assert_eq!(rows(folder.path(), table), count, "{table}");
    }
}
