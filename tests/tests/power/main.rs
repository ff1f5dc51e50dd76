//! Power cuts: what was acknowledged is on the disk.
//!
//! A library (`record.c`) is preloaded into a process that has a store, and records each write, each
//! sync and what the process says. The process is killed; from the record the folder is made as a
//! disk may have it after a power cut (`disk.rs`), and has to have all that was acknowledged.
//!
//! `GIOSTRA_POWER_CUTS=100` for more cuts than usual.

#![cfg(target_os = "linux")]

mod acknowledged;
mod broker;
mod child;
mod disk;
mod trace;

use std::env;
use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_store::{Sqlite, maintenance};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use acknowledged::Acknowledged;
use disk::Disk;
use trace::Op;

/// The number of power cuts.
const CUTS: usize = 20;

/// The number of cuts of the life of one process.
const CUTS_A_LIFE: usize = 4;

/// The bytes that a process says in a life in which the log goes into the database.
const LONG: Range<usize> = 40_000..50_000;

/// The environment of a recorded process.
const FOLDER: &str = "GIOSTRA_POWER_FOLDER";
const TRACE: &str = "GIOSTRA_POWER_TRACE";

/// A folder with the library, and the lives of processes that use a store one after the other.
struct Bench {
    folder: TempDir,
    library: PathBuf,
    rng: StdRng,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let library = folder.path().join("record.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/record.c");
        let args = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2", "-o"];
        let compiled = Command::new("cc").args(args).arg(&library).arg(source).arg("-lpthread").output();
        let compiled = compiled.context("there is no C compiler `cc`")?;
        ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let seed = rand::random();
        println!("seed {seed}");
        Ok(Self { folder, library, rng: StdRng::seed_from_u64(seed) })
    }

    /// Runs a child that commits to the store in `store` until it is killed, at a random moment after
    /// it has said some bytes, of which there are 20 for each write. Returns what it did.
    fn life(&mut self, store: &Path, syncs: bool, says: Range<usize>) -> Result<Vec<Op>> {
        let mut child = self.child(store, syncs)?.spawn()?;
        let mut left = self.rng.random_range(says);
        let mut said = child.stdout.take().context("a pipe")?;
        let mut some = [0; 512];
        while left > 0 {
            let count = said.read(&mut some)?;
            ensure!(count > 0, "it has ended by itself: {:?}", child.wait()?);
            left -= left.min(count);
        }
        std::thread::sleep(Duration::from_micros(self.rng.random_range(0..2000)));
        child.kill()?;
        std::io::copy(&mut said, &mut std::io::sink())?;
        child.wait()?;
        self.trace()
    }

    /// The command of a child.
    fn child(&self, store: &Path, syncs: bool) -> Result<Command> {
        let mut child = Command::new(env::current_exe()?);
        child.args(["--ignored", "--exact", "child::commits_until_it_is_killed", "--nocapture"]);
        child.env("LD_PRELOAD", &self.library).env(FOLDER, store).env(TRACE, self.folder.path().join("trace"));
        child.env(child::SYNCS, syncs.to_string()).stdout(Stdio::piped());
        Ok(child)
    }

    /// Takes the record of a process that has ended.
    fn trace(&self) -> Result<Vec<Op>> {
        let path = self.folder.path().join("trace");
        let ops = trace::parse(&fs::read(&path)?)?;
        fs::remove_file(&path)?;
        Ok(ops)
    }

    /// Cuts the power at some moments of a life, each time on a disk that was as `before` when it
    /// began, and returns the folders as they are then, with what was acknowledged.
    fn cuts(&mut self, before: Disk, ops: Vec<Op>, acknowledged: &Acknowledged) -> Result<Vec<Cut>> {
        let mut moments: Vec<usize> = (1..CUTS_A_LIFE).map(|_| self.rng.random_range(0..ops.len())).collect();
        moments.push(ops.len());
        moments.sort_unstable();
        let (mut disk, mut acknowledged) = (before, acknowledged.clone());
        let (mut cuts, mut ops, mut at) = (Vec::new(), ops.into_iter(), 0);
        for moment in moments {
            for op in ops.by_ref().take(moment - at) {
                match op {
                    Op::Said(text) => acknowledged.take_down(&text)?,
                    op => disk.apply(op),
                }
            }
            at = moment;
            let folder = tempfile::Builder::new().prefix("cut").tempdir_in(self.folder.path())?;
            disk.after_a_cut(&mut self.rng).write(folder.path())?;
            cuts.push(Cut { folder, acknowledged: acknowledged.clone() });
        }
        Ok(cuts)
    }
}

/// A folder after a power cut, and what was acknowledged before it.
struct Cut {
    folder: TempDir,
    acknowledged: Acknowledged,
}

fn wanted_cuts() -> usize {
    env::var("GIOSTRA_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(CUTS)
}

#[test]
fn what_was_acknowledged_survives_power_cuts_at_any_moment() -> Result<()> {
    let mut bench = Bench::new()?;
    for _ in 0..wanted_cuts().div_ceil(CUTS) {
        lives_of_a_store(&mut bench)?;
    }
    Ok(())
}

/// Some lives of one store, each of which begins on the disk of the cut before.
fn lives_of_a_store(bench: &mut Bench) -> Result<()> {
    let mut last = Cut { folder: TempDir::new_in(bench.folder.path())?, acknowledged: Acknowledged::default() };
    let mut checkpoints = 0;
    for life in 0..CUTS / CUTS_A_LIFE {
        let before = Disk::of(last.folder.path())?;
        let ops = bench.life(last.folder.path(), true, if life == 0 { LONG } else { 500..LONG.end })?;
        // The database itself is synced by them.
        let database = fs::metadata(last.folder.path().join("store.db"))?.ino();
        checkpoints += ops.iter().filter(|op| **op == Op::Sync(database)).count();
        let cuts = bench.cuts(before, ops, &last.acknowledged)?;
        for cut in cuts {
            cut.acknowledged.check(cut.folder.path())?;
            last = cut;
        }
    }
    let (jobs, settled) = last.acknowledged.counts();
    println!("{jobs} jobs, {settled} results, {checkpoints} checkpoints");
    ensure!(jobs > 20 && settled > 500 && checkpoints > 0, "too few to tell");
    Ok(())
}

/// SQLite's own checkpoints would ignore it.
#[test]
fn after_a_failed_sync_of_the_database_nothing_is_acknowledged_and_nothing_is_lost() -> Result<()> {
    let mut bench = Bench::new()?;
    for failing in ["store.db", "store.db-wal"] {
        let store = TempDir::new_in(bench.folder.path())?;
        // The first life makes the store, and syncs it.
        drop(Sqlite::open(store.path())?);
        let before = Disk::of(store.path())?;
        let output = bench.child(store.path(), true)?.env("GIOSTRA_POWER_FAIL", failing).output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.success() && said.contains(child::FAILED), "{failing}: {said:.1000}");
        let ops = bench.trace()?;
        let (database, settled) = (fs::metadata(store.path().join("store.db"))?.ino(), said.contains("settled"));
        ensure!(settled == (failing == "store.db"), "{failing}: the log is synced first: {said:.1000}");
        ensure!(!ops.contains(&Op::Sync(database)), "{failing}: a failed sync is not tried again");
        for cut in bench.cuts(before, ops, &Acknowledged::default())? {
            cut.acknowledged.check(cut.folder.path())?;
        }
    }
    Ok(())
}

/// If this did not fail, the test above would prove nothing.
#[test]
fn a_store_that_does_not_sync_each_commit_loses_what_was_acknowledged() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut lost = 0;
    for _ in 0..3 {
        let store = TempDir::new_in(bench.folder.path())?;
        let before = Disk::of(store.path())?;
        let ops = bench.life(store.path(), false, 500..20_000)?;
        for cut in bench.cuts(before, ops, &Acknowledged::default())? {
            lost += usize::from(cut.acknowledged.check(cut.folder.path()).is_err());
        }
    }
    // Where a cut falls is chance: some are before anything was acknowledged.
    ensure!(lost >= 3, "{lost} of 12 cuts lost something");
    Ok(())
}
