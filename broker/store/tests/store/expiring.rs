//! Jobs that are kept for some time after their end.

use std::sync::atomic::{AtomicU64, Ordering};

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Read, Write};
use giostra_store::{Options, Sqlite, Store as _};

use super::*;

/// A store whose clock is the test's.
struct Timed {
    store: Sqlite,
    now: Arc<AtomicU64>,
}

impl Timed {
    fn open(folder: &Path, now_ms: u64) -> Self {
        let now = Arc::new(AtomicU64::new(now_ms));
        let clock = {
            let now = now.clone();
            Box::new(move || now.load(Ordering::Relaxed))
        };
        let (store, _) = Sqlite::open_with(folder, Options { clock, ..Options::default() }).unwrap();
        Self { store, now }
    }

    fn at(&mut self, now_ms: u64) -> &mut Sqlite {
        self.now.store(now_ms, Ordering::Relaxed);
        &mut self.store
    }

    fn expired(&mut self, now_ms: u64, limit: usize) -> Vec<u64> {
        match self.at(now_ms).scan(&Read::Expired { limit }).unwrap() {
            Done::Expired { jobs, .. } => jobs.into_iter().map(|job| job.job.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the milliseconds until the next job expires.
    fn next(&mut self, now_ms: u64) -> Option<u64> {
        match self.at(now_ms).scan(&Read::Expired { limit: 9 }).unwrap() {
            Done::Expired { next_ms, .. } => next_ms,
            other => panic!("{other:?}"),
        }
    }
}

/// The writes of a job that is kept for a time.
fn kept(job: u64, keep_ms: u64) -> [Write; 2] {
    let spec = Arc::new(JobSpec { keep_ms, ..(*spec(&job.to_string())).clone() });
    [Write::Create { job: JobNumber(job), owner: "owner".into(), spec }, append(job, 0..100, true)]
}

#[test]
fn jobs_expire_when_they_were_kept_for_their_time_after_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut timed = Timed::open(folder.path(), 1_000);
    for (job, keep_ms) in [(1, 0), (2, 500), (3, 300), (4, 1), (5, 500), (6, u64::MAX)] {
        timed.at(1_000).commit(&kept(job, keep_ms)).unwrap();
    }
    for job in [1, 3, 2, 6] {
        timed.at(2_000 + job).commit(&[results(job, 0..100)]).unwrap();
    }
    timed.at(2_100).commit(&[Write::Cancel(JobNumber(5))]).unwrap();
    assert_eq!(timed.expired(2_302, 9), [0; 0]);
    assert_eq!([2_302, 2_303, 2_599].map(|now_ms| timed.next(now_ms)), [Some(1), Some(199), Some(1)]);
    assert_eq!(timed.expired(2_303, 9), [3]);
    drop(timed);
    let mut timed = Timed::open(folder.path(), 0);
    assert_eq!(timed.expired(2_600, 9), [2, 3, 5], "those that ended first, not those that expired first");
    assert_eq!(timed.expired(2_600, 2), [2, 3]);
    assert_eq!(timed.expired(i64::MAX as u64 - 1, 9), [2, 3, 5], "1 is kept for ever, 4 runs, 6 practically for ever");
    // Deleted, or running again.
    timed.at(3_000).commit(&[Write::Delete(JobNumber(2)), Write::Retry(JobNumber(3))]).unwrap();
    assert_eq!(timed.expired(9_000, 9), [5]);
    timed.at(9_000).commit(&[results(3, [99])]).unwrap();
    assert_eq!(timed.expired(9_299, 9), [5]);
    assert_eq!(timed.expired(9_300, 9), [5, 3], "it ended anew");
}

#[test]
fn a_clock_that_is_set_forth_or_back_expires_jobs_earlier_or_later_and_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut timed = Timed::open(folder.path(), 0);
    timed.at(5_000).commit(&kept(1, 100)).unwrap();
    timed.at(5_000).commit(&[results(1, 0..100)]).unwrap();
    assert_eq!(timed.expired(0, 9), [0; 0]);
    timed.at(0).commit(&kept(2, 100)).unwrap();
    timed.at(0).commit(&[results(2, 0..100)]).unwrap();
    assert_eq!(timed.expired(u64::MAX, 9), [2, 1]);
    assert_eq!(record(timed.at(0), 2).unwrap().ended_ms, 1, "a job that ended has a time, also in 1970");
    timed.at(u64::MAX).commit(&kept(3, u64::MAX)).unwrap();
    timed.at(u64::MAX).commit(&[results(3, 0..100)]).unwrap();
    assert_eq!(timed.expired(7_000, 9), [2, 1]);
    assert_eq!(timed.expired(u64::MAX, 9), [2, 1, 3]);
}
