//! What is no sound store is an error that says what to do, and never a panic.

use std::fs;
use std::path::PathBuf;

use giostra_core::ids::JobNumber;
use giostra_core::store::Read;
use giostra_store::{Sqlite, Store as _, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;

use super::*;

/// Makes a store with jobs, and closes it.
fn made() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for job in 1..=20 {
        let key = job.to_string();
        store.commit(&[create(job, &key), append(job, 0..600, true), results(job, 0..300)]).unwrap();
    }
    drop(store);
    let path = folder.path().join("store.db");
    (folder, path)
}

fn refused(folder: &Path) -> StoreError {
    match Sqlite::open(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[test]
fn a_store_is_opened_by_one_at_a_time() {
    let (folder, _) = made();
    let store = open(folder.path());
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::InUse(_, Some(pid)) if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    open(folder.path());
}

#[test]
fn a_store_that_another_program_has_open_is_in_use() {
    let (folder, path) = made();
    let other = Connection::open(&path).unwrap();
    let reading = other.unchecked_transaction().unwrap();
    reading.query_row("SELECT count(*) FROM job", [], |_| Ok(())).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::InUse(_, None)), "{error}");
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let (folder, path) = made();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::Newer(_, 3)), "{error}");
    assert!(error.to_string().contains("newer broker"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_store_of_an_older_version_is_left_alone() {
    let (folder, path) = made();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::Older(_, 1)), "{error}");
    assert!(error.to_string().contains("older broker that wrote it"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let foreign = tempfile::tempdir().unwrap();
    let path = foreign.path().join("store.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE precious (a); INSERT INTO precious VALUES (1)")
        .unwrap();
    let database = fs::read(&path).unwrap();
    for content in [database, b"a letter to my grandmother ".repeat(300), b"short".to_vec(), vec![]] {
        fs::write(&path, &content).unwrap();
        let error = refused(foreign.path());
        assert!(matches!(error, StoreError::NotAStore(_)), "{error}");
        assert!(error.to_string().contains("choose another folder"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_log_without_its_store_is_not_taken_for_a_new_store() {
    let (folder, path) = made();
    fs::rename(&path, folder.path().join("store.db-wal")).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::Damaged(..)), "{error}");
}

#[test]
fn a_store_that_was_never_completed_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store.new"), "half").unwrap();
    fs::write(folder.path().join("store.new-journal"), "half").unwrap();
    let (_store, restored) = Sqlite::open(folder.path()).unwrap();
    assert_eq!(restored.jobs, []);
    assert!(!folder.path().join("store.new").exists());
}

#[test]
fn a_truncated_store_is_an_error_that_says_what_to_do() {
    let (folder, path) = made();
    let whole = fs::read(&path).unwrap();
    for left in [whole.len() - 4096, whole.len() / 2, 4096, 100] {
        fs::write(&path, &whole[..left]).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, StoreError::Damaged(..) | StoreError::NotAStore(_)), "{left}: {error}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }
}

#[test]
fn a_garbled_store_gives_errors_or_other_answers_but_no_panic() {
    let (folder, path) = made();
    let whole = fs::read(&path).unwrap();
    let mut rng = StdRng::seed_from_u64(3);
    let mut errors = 0;
    for _ in 0..100 {
        let mut garbled = whole.clone();
        for _ in 0..rng.random_range(1..200) {
            let at = rng.random_range(100..garbled.len());
            garbled[at] = rng.random();
        }
        fs::write(&path, &garbled).unwrap();
        errors += usize::from(use_all(folder.path()).is_err());
        let _ = fs::remove_file(folder.path().join("store.db-wal"));
    }
    assert!(errors > 30, "{errors} of 100 were noticed");
}

/// Reads all there is, and writes to each job.
fn use_all(folder: &Path) -> Result<(), StoreError> {
    let (mut store, restored) = Sqlite::open(folder)?;
    store.scan(&Read::Jobs { owner: None, before: JobNumber(u64::MAX), limit: usize::MAX })?;
    for job in restored.jobs.into_iter().map(|job| job.job) {
        store.scan(&Read::Pending { job, from: 0, requests: usize::MAX, bytes: usize::MAX })?;
        store.scan(&Read::Results { job, from: 0, bytes: usize::MAX, with_failed: true })?;
        store.commit(&[results(job.0, 300..600)])?;
        store.commit(&[Write::Delete(job)])?;
    }
    while store.sweep()? {}
    Ok(())
}

#[test]
fn a_damaged_row_is_an_error_for_who_reads_it() {
    let damages = [
        "UPDATE sub SET t = x'00'",
        "UPDATE sub SET t = x'0000ffffffff'",
        "UPDATE sub SET t = 5",
        "UPDATE sub SET b = 'text'",
        "UPDATE sub SET b = x''",
        "UPDATE res SET t = x'ffff00000000'",
        "UPDATE res SET b = x'01'",
        "UPDATE err SET b = x'c1'",
        "UPDATE job SET spec = x'c1'",
        "UPDATE job SET state = 9",
        "UPDATE job SET requests = -1",
        "DROP TABLE res",
        "DROP TABLE att",
    ];
    for damage in damages {
        let (folder, path) = made();
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let error = use_all(folder.path()).map_or_else(|error| error, |()| panic!("{damage} was not noticed"));
        assert!(matches!(error, StoreError::Damaged(..)), "{damage}: {error}");
        assert!(error.to_string().contains("restore a backup"), "{damage}: {error}");
    }
}

#[test]
fn a_folder_that_can_not_be_made_is_an_error_that_names_it() {
    let error = refused(Path::new("/proc/no-such/store"));
    assert!(matches!(error, StoreError::Io(..)) && error.to_string().contains("/proc/no-such/store"), "{error}");
}

#[test]
fn the_jobs_of_a_store_are_its_users_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, path) = made();
    let _store = open(folder.path());
    for path in [path.with_extension("db-wal"), path] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}
