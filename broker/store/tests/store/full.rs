//! A full disk: new requests are refused, the rest goes on as far as it can, and everything does when
//! there is room again.
//!
//! Mostly it is the database that has a bound, which SQLite takes for a full disk. Where this user
//! may mount one, it is a small disk.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, Write};
use giostra_protocol::{Bytes, JobState, Outcome};
use giostra_store::{Options, Sqlite, Store as _, StoreError, maintenance};

use super::*;

const ALL: (usize, usize) = (usize::MAX, usize::MAX);

/// Opens a store that looks for room in each commit, or never.
fn opened(folder: &Path, looks: bool) -> Sqlite {
    let look_every = if looks { Duration::ZERO } else { Duration::MAX };
    Sqlite::open_with(folder, Options { look_every, ..Options::default() }).unwrap().0
}

fn full(store: &mut Sqlite) {
    store.set_max_bytes(Some(0)).unwrap();
}

/// Commits writes of which each is answered with whether it is refused.
fn refused(store: &mut Sqlite, group: &[Write]) -> Vec<bool> {
    let done = store.commit(group).unwrap();
    assert_eq!(done.len(), group.len());
    let refused = group.iter().zip(done).map(|(write, done)| match done {
        Done::Full { write: refused, reason } => {
            assert_eq!(*refused, *write);
            assert!(reason.contains("no space on the disk") && reason.contains("until there is room"), "{reason}");
            true
        }
        _ => false,
    });
    refused.collect()
}

/// Requests that are too many for the pages that there are.
fn large(job: u64, first: u32) -> Write {
    let bodies = (0..50).map(|_| Bytes::from(vec![7; 5000])).collect();
    Write::Append { job: JobNumber(job), first, bodies, closes: false }
}

#[test]
fn new_requests_are_refused_and_running_jobs_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = opened(folder.path(), false);
    store.commit(&[create(1, "a"), append(1, 0..9, true), create(2, "b"), append(2, 0..9, false)]).unwrap();
    assert_eq!(store.full(), None);
    full(&mut store);
    let group = [results(1, 0..3), large(2, 9), create(3, "c"), append(3, 0..9, true), results(1, 3..5)];
    assert_eq!(refused(&mut store, &group), [false, true, true, true, false]);
    assert!(!folder.path().join("reserve").exists(), "its space is for others");
    // At once, also what would fit; a key that is there is found; what adds nothing is no request.
    let group = [append(2, 9..10, false), create(4, "d"), create(5, "a"), append(2, 9..9, true), results(1, 5..9)];
    let done = store.commit(&group).unwrap();
    assert!(matches!(&done[..2], [Done::Full { .. }, Done::Full { .. }]), "{done:?}");
    assert!(matches!(&done[2..], [Done::Exists(_), Done::Written, Done::Written]), "{done:?}");
    assert!(store.full().unwrap().contains("no space"));
    let states = [1, 2].map(|job| record(&mut store, job).unwrap().state);
    assert_eq!(states, [JobState::Finished, JobState::Running]);
    assert_eq!((record(&mut store, 3), all_pending(&mut store, 2, 0, ALL).len()), (None, 9));
    store.commit(&[Write::Cancel(JobNumber(2)), Write::Delete(JobNumber(1))]).unwrap();
    sweep_all(&mut store);
    drop(store);

    let mut store = opened(folder.path(), false);
    assert_eq!(store.full(), None, "the disk has room");
    assert!(folder.path().join("reserve").exists());
    assert_eq!(record(&mut store, 2).unwrap().state, JobState::Cancelled);
    assert_eq!(refused(&mut store, &[create(6, "a"), append(6, 0..9, true)]), [false, false]);
}

#[test]
fn a_group_of_which_nothing_fits_is_refused_whole_and_can_be_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = opened(folder.path(), true);
    store.commit(&[create(1, "a"), append(1, 0..300, true), results(1, [99])]).unwrap();
    store.commit(&[create(2, "b"), append(2, 0..200, true), results(2, 0..200)]).unwrap();
    let all = all_pending(&mut store, 1, 0, ALL);
    full(&mut store);
    let huge = vec![(0, Outcome::Ok(Bytes::from(vec![7; 100_000])))];
    let group = [
        settle(1, huge.clone()),
        Write::Attempts { job: JobNumber(1), attempts: vec![(5, Attempts { lost: 1, failed: 0 })] },
        Write::Retry(JobNumber(2)),
        Write::Cancel(JobNumber(2)),
        Write::Delete(JobNumber(2)),
    ];
    assert_eq!(refused(&mut store, &group), [true; 5]);
    assert_eq!(all_pending(&mut store, 1, 0, ALL), all);
    assert_eq!(all_results(&mut store, 1, 0, 9), [(99, error(1, 99))]);
    assert_eq!(record(&mut store, 2).unwrap().failed, 2);
    store.set_max_bytes(None).unwrap();
    let done = store.commit(&group).unwrap();
    assert!(matches!(&done[2], Done::Jobs(jobs) if jobs.len() == 1), "{done:?}");
    assert_eq!(all_results(&mut store, 1, 0, 9)[0], huge[0]);
    assert_eq!((record(&mut store, 2), store.full()), (None, None));
    store.commit(&[results(1, (1..99).chain(100..300))]).unwrap();
    drop(store);
    assert_eq!(record(&mut open(folder.path()), 1).unwrap().state, JobState::Finished);
}

#[test]
fn what_was_submitted_before_a_refusal_was_known_is_refused_as_well_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = opened(folder.path(), true);
    store.commit(&[create(1, "a"), append(1, 0..3, false)]).unwrap();
    full(&mut store);
    let submitted = [create(2, "b"), large(1, 3)];
    assert_eq!(refused(&mut store, &submitted), [true, true]);
    // There is room, but these are of requests that were refused.
    store.set_max_bytes(None).unwrap();
    let late = [append(2, 0..9, false), append(2, 9..9, true), append(1, 53..60, false), append(1, 60..60, true)];
    assert_eq!(refused(&mut store, &late), [true; 4]);
    assert_eq!(refused(&mut store, &submitted), [false; 2]);
    assert_eq!(refused(&mut store, &late), [false; 4]);
    let states = [1, 2].map(|job| record(&mut store, job).map(|job| (job.state, job.requests)));
    assert_eq!(states, [Some((JobState::Running, 60)), Some((JobState::Running, 9))]);
}

#[test]
fn a_job_is_not_finished_while_results_of_it_were_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = opened(folder.path(), true);
    store.commit(&[create(1, "a"), append(1, 0..10, true)]).unwrap();
    full(&mut store);
    let outcomes = (0..5).map(|number| (number, Outcome::Ok(Bytes::from(vec![7; 50_000])))).collect();
    let first = settle(1, outcomes);
    assert_eq!(refused(&mut store, std::slice::from_ref(&first)), [true]);
    store.set_max_bytes(None).unwrap();
    assert_eq!(refused(&mut store, &[results(1, 5..10)]), [false]);
    assert_eq!(record(&mut store, 1).unwrap().state, JobState::Running);
    assert_eq!(refused(&mut store, &[first]), [false]);
    assert_eq!(record(&mut store, 1).unwrap().state, JobState::Finished);
}

#[test]
fn deleted_jobs_are_room_though_the_file_does_not_shrink() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = opened(folder.path(), false);
    let body = Bytes::from(vec![7; 1 << 20]);
    let job = |job: u64| {
        let bodies = vec![body.clone(); 5];
        [create(job, &job.to_string()), Write::Append { job: JobNumber(job), first: 0, bodies, closes: true }]
    };
    (1..=5).for_each(|number| assert_eq!(refused(&mut store, &job(number)), [false; 2]));
    full(&mut store);
    assert_eq!(refused(&mut store, &job(6)), [true; 2]);
    (1..=5).for_each(|job| assert_eq!(refused(&mut store, &[Write::Delete(JobNumber(job))]), [false]));
    sweep_all(&mut store);
    drop(store);

    // The reserve can't be made.
    let _ = fs::remove_file(folder.path().join("reserve"));
    fs::create_dir(folder.path().join("reserve")).unwrap();
    let mut store = opened(folder.path(), false);
    full(&mut store);
    assert_eq!(store.full(), None);
    (1..=4).for_each(|number| assert_eq!(refused(&mut store, &job(number + 10)), [false; 2], "{number}"));
}

/// A disk of 40 MiB. Unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
    /// What is mounted by `mount -o loop`.
    image: tempfile::NamedTempFile,
}

impl SmallDisk {
    /// Returns a tmpfs, or nothing where this user may not mount one.
    fn mount() -> Option<Self> {
        Self::mounted(|_| Some(vec!["-t".into(), "tmpfs".into(), "-osize=40m".into(), "giostra-store-tests".into()]))
    }

    /// Returns an ext4, which allocates late, and frees what is removed with its next commit.
    fn ext4() -> Option<Self> {
        Self::mounted(|image| {
            fs::File::options().write(true).open(image).and_then(|file| file.set_len(48 << 20)).unwrap();
            let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image).status();
            made.is_ok_and(|made| made.success()).then(|| vec!["-oloop".into(), image.into()])
        })
    }

    fn mounted(args: impl Fn(&Path) -> Option<Vec<OsString>>) -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().unwrap(), image: tempfile::NamedTempFile::new().unwrap() };
        let args = args(disk.image.path());
        let output = args.map(|args| Command::new("mount").args(args).arg(disk.folder.path()).output());
        if output.is_some_and(|output| output.is_ok_and(|output| output.status.success())) {
            return Some(disk);
        }
        eprintln!("ignored: no small disk can be mounted");
        None
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Fills what is free, but for some bytes.
    fn fill(&self, but: u64) {
        let ballast = fs::File::options().create(true).append(true).open(self.ballast()).unwrap();
        let free = nix::sys::statvfs::statvfs(self.folder.path()).unwrap();
        let free = free.blocks_available() * free.fragment_size();
        let filled = std::io::copy(&mut std::io::repeat(1).take(free.saturating_sub(but)), &mut &ballast);
        // A file system may need some of it for itself.
        assert!(filled.is_ok() || but == 0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

#[test]
fn on_a_small_disk_jobs_end_and_are_deleted_and_new_ones_come_when_there_is_room() {
    [SmallDisk::mount(), SmallDisk::ext4()].iter().flatten().for_each(run_out_of_space);
}

fn run_out_of_space(disk: &SmallDisk) {
    let mut store = opened(&disk.store(), true);
    let requests = 2000;
    store
        .commit(&[create(1, "a"), append(1, 0..requests, true), create(2, "b"), append(2, 0..requests, true)])
        .unwrap();
    disk.fill(0);
    // The log takes what it has before it is full.
    let mut next = 0;
    while store.full().is_none() {
        assert!(next < 1000, "the disk is full, and nobody has noticed");
        let done = store.commit(&[create(100 + next, &next.to_string()), large(100 + next, 0)]).unwrap();
        assert_eq!(matches!(done[0], Done::Full { .. }), store.full().is_some(), "{done:?}");
        next += 1;
    }
    disk.fill(2 << 20);
    assert_eq!(refused(&mut store, &[create(9, "z")]), [true]);
    // The results of a job go on, and so does its end.
    for first in (0..requests).step_by(100) {
        let group = [results(1, first..first + 100)];
        assert_eq!(refused(&mut store, &group), [false], "{first}");
    }
    assert_eq!(refused(&mut store, &[Write::Delete(JobNumber(1)), Write::Cancel(JobNumber(2))]), [false; 2]);
    sweep_all(&mut store);
    drop(store);

    // A restart on the full disk finds all.
    assert_sound(&disk.store());
    let mut store = opened(&disk.store(), true);
    assert!(store.full().is_some());
    assert_eq!(refused(&mut store, &[create(9, "z")]), [true]);
    assert_eq!(record(&mut store, 2).unwrap().state, JobState::Cancelled);
    for job in 0..next - 1 {
        assert_eq!(all_pending(&mut store, 100 + job, 0, ALL).len(), 50, "{job}");
    }
    fs::remove_file(disk.ballast()).unwrap();
    assert_eq!(refused(&mut store, &[create(9, "z"), append(9, 0..9, true)]), [false; 2]);
    assert!(store.full().is_none() && disk.store().join("reserve").exists());
}

#[test]
fn a_checkpoint_that_finds_no_space_loses_nothing() {
    [SmallDisk::mount(), SmallDisk::ext4()].iter().flatten().for_each(checkpoint_without_space);
}

fn checkpoint_without_space(disk: &SmallDisk) {
    let mut store = opened(&disk.store(), false);
    // 7 MB in the log, none of them in the database.
    let jobs = 28;
    for job in 1..=jobs {
        store.commit(&[create(job, &job.to_string()), large(job, 0)]).unwrap();
    }
    assert!(fs::metadata(disk.store().join("store.db")).unwrap().len() < 1 << 20);
    fs::remove_file(disk.store().join("reserve")).unwrap();
    disk.fill(2 << 20);
    let mut committed = jobs;
    loop {
        let job = committed + 1;
        if refused(&mut store, &[create(job, &job.to_string()), large(job, 0)])[0] {
            break;
        }
        committed = job;
    }
    let size = |name| fs::metadata(disk.store().join(name)).unwrap().len();
    assert!(size("store.db-wal") > 2000 * 4096 && committed > jobs, "it was time for a checkpoint");
    assert!(size("store.db") < 4 << 20, "it found no space");
    for _ in 0..2 {
        for job in 1..=committed {
            assert_eq!(all_pending(&mut store, job, 0, ALL).len(), 50, "{job}");
        }
        drop(store);
        assert_sound(&disk.store());
        store = opened(&disk.store(), false);
    }
}

#[test]
fn a_store_is_compacted_only_if_the_copy_fits() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut store = opened(&disk.store(), false);
    let jobs = 8;
    for job in 1..=jobs {
        store.commit(&[create(job, &job.to_string()), large(job, 0)]).unwrap();
    }
    drop(store);
    disk.fill(1 << 20);
    let error = maintenance::compact(&disk.store()).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom(_, 2_500_000.., free) if free <= 2 << 20), "{error}");
    assert!(error.to_string().contains("MiB more"), "{error}");
    assert_sound(&disk.store());
    fs::remove_file(disk.ballast()).unwrap();
    maintenance::compact(&disk.store()).unwrap();
    assert_sound(&disk.store());
}

#[test]
fn a_store_can_not_be_made_on_a_disk_without_any_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill(0);
    let error = Sqlite::open(&disk.store()).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(error.to_string().contains("free some"), "{error}");
}
