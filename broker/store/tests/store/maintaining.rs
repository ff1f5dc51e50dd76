//! Looking at a store, checking and compacting it while no broker uses it.

use std::fs;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Write};
use giostra_store::maintenance::{self, MAX_PROBLEMS};
use giostra_store::{Store as _, StoreError};
use rusqlite::Connection;

use super::*;

/// A store with a job of each kind.
fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for job in 1..=5 {
        store
            .commit(&[create(job, &job.to_string()), append(job, 0..1500, false), append(job, 1500..3000, true)])
            .unwrap();
        store.commit(&[results(job, (0..1000).step_by(2)), results(job, 1001..1200)]).unwrap();
    }
    store.commit(&[create(6, "6"), append(6, 0..100, false), results(6, [99])]).unwrap();
    let attempts = vec![(2000, Attempts { lost: 1, failed: 0 })];
    store.commit(&[Write::Attempts { job: JobNumber(1), attempts }]).unwrap();
    store.commit(&[results(2, (1..1000).step_by(2).chain([1000]).chain(1200..3000))]).unwrap();
    store.commit(&[Write::Cancel(JobNumber(3)), Write::Delete(JobNumber(4))]).unwrap();
    folder
}

fn problems(folder: &Path) -> Vec<String> {
    maintenance::check(folder).unwrap().problems
}

#[test]
fn a_store_says_what_it_holds() {
    let folder = made();
    let info = maintenance::info(folder.path()).unwrap();
    assert_eq!((info.format, info.jobs, info.last_job), (2, [1, 2, 1, 1], 6));
    assert_eq!((info.requests, info.succeeded, info.failed), (4 * 3000 + 100, 3 * 697 + 2970, 3 * 2 + 30 + 1));
    let file = fs::metadata(folder.path().join("store.db")).unwrap().len();
    assert_eq!((info.database_bytes, info.reserve_bytes), (file, 8 << 20));
    assert_ne!(info.home, 0);
    assert_eq!(open_home(folder.path()), info.home);
}

fn open_home(folder: &Path) -> u32 {
    Sqlite::open(folder).unwrap().1.home
}

#[test]
fn what_the_store_writes_is_sound_also_while_something_is_being_removed() {
    let folder = made();
    assert_eq!(problems(folder.path()), [""; 0]);
    let mut store = open(folder.path());
    store.commit(&[Write::Retry(JobNumber(2)), Write::Delete(JobNumber(1))]).unwrap();
    drop(store);
    assert_eq!(problems(folder.path()), [""; 0]);
    sweep_all(&mut open(folder.path()));
    assert_eq!(problems(folder.path()), [""; 0]);
}

#[test]
fn what_is_wrong_is_found_and_said_of_which_job() {
    let damages = [
        ("UPDATE job SET succeeded = succeeded + 1 WHERE number = 1", "job 1: it is to have"),
        ("UPDATE job SET failed = 0, ended_ms = 1 WHERE number = 2", "job 2: it is to have"),
        ("UPDATE job SET ended_ms = 0 WHERE number = 2", "job 2: its state"),
        ("UPDATE job SET state = 1, ended_ms = 0 WHERE number = 2", "job 2: all requests have a result"),
        ("UPDATE job SET state = 9 WHERE number = 2", "job 2: a job has the unknown state"),
        ("UPDATE job SET spec = x'c1' WHERE number = 2", "job 2: what a client said"),
        ("UPDATE job SET key = 'other' WHERE number = 2", "job 2: what the client said"),
        ("UPDATE job SET expires_ms = 5 WHERE number = 2", "job 2: it expires"),
        ("UPDATE job SET requests = 4000 WHERE number = 1", "job 1: 72 requests without a result are missing"),
        ("UPDATE job SET requests = 2900 WHERE number = 1", "job 1: there is a row of request 2900"),
        ("UPDATE job SET requests = 100 WHERE number = 1", "job 1: sub: there are rows after its last request"),
        ("UPDATE job SET number = 9 WHERE number = 1", "sub: there are rows of job 1"),
        ("UPDATE sqlite_sequence SET seq = 2", "job 6 has a number"),
        ("DELETE FROM sub WHERE id >> 24 = 2", "job 2: 10 requests without a result are missing"),
        ("UPDATE sub SET t = x'00' WHERE id >> 24 = 1", "job 1: a table of bodies"),
        ("UPDATE res SET b = x'' WHERE id >> 24 = 1", "job 1: a table of bodies is of other bodies"),
        ("UPDATE err SET b = x'c1' WHERE id >> 24 = 1", "job 1: an error"),
        ("INSERT INTO err SELECT (1 << 24) + 4, b FROM err LIMIT 1", "job 1: request 4 has a result and an error"),
        (
            "INSERT INTO res SELECT id + 2, x'020001000000', x'00' FROM res LIMIT 1",
            "job 1: res: request 2 is there twice",
        ),
        ("UPDATE att SET id = id - 2000", "job 1: request 0 is settled"),
        ("INSERT INTO gone VALUES (1, 1)", "job 1: it is there, but being removed"),
        ("DELETE FROM job WHERE number = 5", "sub: there are rows of job 5"),
        ("DROP TABLE att", "the tables can't be read"),
        ("UPDATE meta SET home = 0", "the tables can't be read"),
        ("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'err'", "SQLite says"),
    ];
    for (damage, expected) in damages {
        let folder = made();
        let db = Connection::open(folder.path().join("store.db")).unwrap();
        db.execute_batch(damage).unwrap();
        drop(db);
        let found = problems(folder.path());
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{damage}: {found:?}");
    }
}

#[test]
fn problems_are_bounded_and_the_others_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&(1..=300).map(|job| create(job, &job.to_string())).collect::<Vec<_>>()).unwrap();
    drop(store);
    Connection::open(folder.path().join("store.db")).unwrap().execute_batch("UPDATE job SET failed = 1").unwrap();
    let check = maintenance::check(folder.path()).unwrap();
    assert_eq!((check.problems.len(), check.left_out), (MAX_PROBLEMS, 300 - MAX_PROBLEMS as u64));
}

#[test]
fn a_compacted_store_is_smaller_and_has_the_same_jobs() {
    let folder = made();
    let mut store = open(folder.path());
    let bodies = vec![Bytes::from(vec![7; 1 << 20]); 20];
    store.commit(&[create(7, "7"), Write::Append { job: JobNumber(7), first: 0, bodies, closes: true }]).unwrap();
    store.commit(&[Write::Delete(JobNumber(7))]).unwrap();
    let (records, pending) = contents(&mut store);
    drop(store);
    // An earlier one was interrupted.
    fs::write(folder.path().join("store.new"), "half").unwrap();
    let (before, after) = maintenance::compact(folder.path()).unwrap();
    assert!(before > 20 << 20 && after < 3 << 20, "{before} {after}");
    assert_eq!(fs::metadata(folder.path().join("store.db")).unwrap().len(), after);
    assert!(!folder.path().join("store.new").exists());
    assert_eq!(problems(folder.path()), [""; 0]);
    let (mut store, restored) = Sqlite::open(folder.path()).unwrap();
    assert_eq!((contents(&mut store), restored.last_job), ((records, pending), 7));
    store.commit(&[create(8, "8"), append(8, 0..10, true)]).unwrap();
    drop(store);
    assert_eq!(maintenance::info(folder.path()).unwrap().removing, 0);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(folder.path().join("store.db")).unwrap().permissions().mode() & 0o077, 0);
}

fn contents(store: &mut Sqlite) -> (Vec<Option<JobRecord>>, Vec<(u32, Bytes)>) {
    let records = (1..9).map(|job| record(store, job)).collect();
    (records, all_pending(store, 1, 0, (usize::MAX, usize::MAX)))
}

#[test]
fn a_store_that_was_not_closed_is_maintained_with_what_is_in_its_log() {
    let folder = made();
    let copy = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[create(7, "7"), append(7, 0..10, true)]).unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    maintenance::compact(copy.path()).unwrap();
    assert_eq!(maintenance::info(copy.path()).unwrap().last_job, 7);
    assert_eq!(problems(copy.path()), [""; 0]);
}

#[test]
fn a_store_in_use_is_left_alone_and_where_there_is_none_none_is_made() {
    let folder = made();
    let store = open(folder.path());
    for error in [
        maintenance::info(folder.path()).map(drop).unwrap_err(),
        maintenance::check(folder.path()).map(drop).unwrap_err(),
        maintenance::compact(folder.path()).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::InUse(_, Some(pid)) if pid == std::process::id()), "{error}");
    }
    drop(store);
    let none = folder.path().join("none");
    let error = maintenance::info(&none).unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)) && error.to_string().contains("--store"), "{error}");
    assert!(!none.exists());
    fs::write(folder.path().join("store.db"), "a letter").unwrap();
    assert!(matches!(maintenance::compact(folder.path()), Err(StoreError::NotAStore(_))));
    assert_eq!(fs::read(folder.path().join("store.db")).unwrap(), b"a letter");
}
