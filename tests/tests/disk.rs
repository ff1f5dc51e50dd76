//! A disk that is full, and a log folder that is taken away, under a running broker.
//!
//! The small disk is a tmpfs of the test's own; where it can't be mounted, those tests count as
//! ignored.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use giostra_audit::{Event, Line};
use giostra_client::{JobOptions, body, result};
use giostra_protocol::compute::{Call, Value};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System, test, trials};
use tempfile::TempDir;

/// Bytes of the small disk, and how many of them somebody else holds at first.
const DISK: u64 = 1 << 20;
const BALLAST: usize = 700 << 10;

/// Enough to fill the rest of the disk, and then the broker's memory for lines.
const MANY: &str = "1000000";

fn main() -> ExitCode {
    trials::run(&[
        test!(a_full_disk_costs_lines_of_the_log_but_no_request_and_the_log_says_so needs mountable),
        test!(after_a_kill_on_a_full_disk_the_log_goes_on_with_a_new_line needs mountable),
        test!(a_full_disk_refuses_new_jobs_and_everything_goes_on_when_there_is_room needs mountable),
        test!(a_store_at_the_limit_of_a_files_size_is_full_until_the_limit_is_raised needs limitable),
        test!(a_limit_of_a_files_size_begins_a_new_file_and_costs_no_line needs limitable),
        test!(a_log_folder_that_is_taken_away_is_made_anew needs trials::anywhere),
    ])
}

fn a_full_disk_costs_lines_of_the_log_but_no_request_and_the_log_says_so() -> Result<()> {
    let disk = SmallDisk::mount()?;
    disk.fill()?;
    let mut system = Setup::workers(3).log_in(&disk.path()).start()?;
    assert_eq!(system.random(&[MANY])?["answered"].to_string(), MANY);
    let said = system.broker().stderr();
    assert_eq!(said.matches("No space left").count(), 1, "{said}");
    ensure!(!system.log().contains(" client-left c1 "), "the disk was not full");

    disk.make_room()?;
    system.random(&["100"])?;
    let gap = wait_for("the log goes on", || line(&system, " log-gap "))?;
    let lost: u64 = gap.rsplit('=').next().unwrap_or_default().parse().with_context(|| gap.clone())?;
    wait_for("the broker goes on", || line(&system, " client-left c2 "))?;
    ensure!(lost > 0, "{gap}");
    assert_eq!(system.broker().stderr().matches("is written again").count(), 1);
    // What there is, is whole, on both sides of the gap.
    system.log().lines().try_for_each(|line| Line::parse(line).map(drop).with_context(|| line.to_string()))?;
    Ok(())
}

fn after_a_kill_on_a_full_disk_the_log_goes_on_with_a_new_line() -> Result<()> {
    let disk = SmallDisk::mount()?;
    disk.fill()?;
    let mut system = Setup::workers(1).log_in(&disk.path()).start()?;
    system.random(&[MANY])?;
    system.kill_broker()?;
    // One run in a hundred stops at a line's end by chance.
    let file = system.log_files().pop().context("no log")?;
    let whole = fs::metadata(&file)?.len();
    if system.log().ends_with('\n') {
        OpenOptions::new().write(true).open(&file)?.set_len(whole - 2)?;
    }
    disk.make_room()?;
    system.start_broker()?;
    system.wait_for_registration(1, 2)?;
    let log = system.log();
    let unreadable = log.lines().filter(|line| Line::parse(line).is_none() || line.matches("Z ").count() > 1).count();
    ensure!(unreadable <= 1, "{unreadable} lines can't be read");
    let listening =
        log.lines().filter_map(Line::parse).filter(|line| matches!(line.event, Event::Listening { .. })).count();
    assert_eq!(listening, 2);
    Ok(())
}

fn a_full_disk_refuses_new_jobs_and_everything_goes_on_when_there_is_room() -> Result<()> {
    let disk = SmallDisk::mount()?;
    mounting("mount", &["-o", "remount,size=64m"], disk.folder.path())?;
    let store = disk.folder.path().join("store").display().to_string();
    let mut system = Setup::workers(2).broker(&["--store", &store]).start()?;
    let mut client = system.client()?;
    let slow = Call { operation: "sleep".into(), arguments: vec![Value::Float(0.002)] }.to_body();
    let running = client.submit_job(JobOptions::default(), vec![slow; 1000])?;
    disk.fill_wholly()?;
    let large = Call { operation: "echo".into(), arguments: vec![Value::Bytes(vec![7; 100_000])] }.to_body();
    let refused = client.submit_job(JobOptions::default(), vec![large; 1000]).err().context("there was room for it")?;
    ensure!(refused.to_string().contains("no space on the disk"), "{refused}");
    // Also a small one, at once.
    let requests = |count: u32| (0..count).map(|n| body("add", &[n, 1]).expect("numbers can be encoded"));
    let refused = client.submit_job(JobOptions::default(), requests(1)).err().context("there was room for it")?;
    ensure!(refused.to_string().contains("until there is room"), "{refused}");
    system.wait_for_line(&[" store-full "])?;
    // What there is goes on: the reserve is for results.
    assert_eq!(client.job(running).wait(None)?.succeeded, 1000);
    assert_eq!(system.random(&["1000"])?["answered"], 1000);

    disk.make_room()?;
    let next = wait_for("there is room", || client.submit_job(JobOptions::default(), requests(10)).ok())?;
    assert_eq!(client.job(next).wait(None)?.succeeded, 10);
    // Nothing is forgotten by a kill afterwards.
    system.kill_broker()?;
    system.start_broker()?;
    let results = client.job(next).results(0).collect::<Result<Vec<_>, _>>()?;
    for (expected, (number, outcome)) in (0..).zip(results) {
        assert_eq!((number, result::<u32>(outcome)?), (expected, expected + 1));
    }
    assert_eq!(client.job(running).status()?.succeeded, 1000);
    system.audit()?;
    Ok(())
}

fn a_store_at_the_limit_of_a_files_size_is_full_until_the_limit_is_raised() -> Result<()> {
    let folder = TempDir::new()?;
    let store = folder.path().join("store").display().to_string();
    let mut system = Setup::workers(2).broker(&["--store", &store]).start()?;
    let mut client = system.client()?;
    let call = |operation: &str, argument| Call { operation: operation.into(), arguments: vec![argument] }.to_body();
    let running = client.submit_job(JobOptions::default(), vec![call("sleep", Value::Float(0.002)); 3000])?;
    limit(&mut system, "12582912:unlimited")?;
    let large = call("echo", Value::Bytes(vec![7; 100_000]));
    let refused = client.submit_job(JobOptions::default(), vec![large; 1000]).err().context("there was room for it")?;
    ensure!(refused.to_string().contains("the limit of a file's size"), "{refused}");
    system.wait_for_line(&[" store-full "])?;
    assert_eq!(system.random(&["1000"])?["answered"], 1000);

    limit(&mut system, "unlimited:unlimited")?;
    assert_eq!(client.job(running).wait(None)?.succeeded, 3000);
    let requests = || (0..10_u32).map(|n| body("add", &[n, 1]).expect("numbers can be encoded"));
    let next = wait_for("there is room", || client.submit_job(JobOptions::default(), requests()).ok())?;
    system.kill_broker()?;
    system.start_broker()?;
    assert_eq!(client.job(next).wait(None)?.succeeded, 10);
    system.audit()?;
    Ok(())
}

fn a_limit_of_a_files_size_begins_a_new_file_and_costs_no_line() -> Result<()> {
    let mut system = Setup::workers(3).broker(&["--log-files", "10000"]).start()?;
    // Below the size at which a new file begins.
    limit(&mut system, "50000:50000")?;
    assert_eq!(system.random(&["20000", "--window", "10"])?["answered"].to_string(), "20000");
    system.kill_broker()?;
    ensure!(system.log_files().len() > 3, "{:?}", system.log_files());
    ensure!(!system.log().contains(" log-gap "));
    system.audit()?;
    Ok(())
}

fn a_log_folder_that_is_taken_away_is_made_anew() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    system.random(&["1000"])?;
    fs::remove_dir_all(system.folder().join("log"))?;
    let gap = wait_for("the log goes on", || {
        system.random(&["10"]).expect("the broker serves on");
        line(&system, " log-gap ")
    })?;
    Line::parse(&gap).with_context(|| gap.clone())?;
    let before = system.log().len();
    system.random(&["10"])?;
    ensure!(system.log().len() > before);
    assert!(fs::read_to_string(system.folder().join("log/broker.log"))?.contains(" reply worker-"));
    Ok(())
}

/// The last line of the log with that part.
fn line(system: &System, part: &str) -> Option<String> {
    system.log().lines().rfind(|line| line.contains(part)).map(String::from)
}

/// Limits the size of the broker's files, as `ulimit -f`. SIGXFSZ ends who does not expect it.
fn limit(system: &mut System, bytes: &str) -> Result<()> {
    let process = system.broker().id().to_string();
    let limited = Command::new("prlimit").args([&format!("--fsize={bytes}"), "--pid", &process]).status()?;
    ensure!(limited.success(), "prlimit failed");
    Ok(())
}

fn limitable() -> Result<()> {
    trials::program("prlimit", "util-linux").map(drop)
}

/// Whether this machine can have a small disk.
fn mountable() -> Result<()> {
    trials::root()?;
    SmallDisk::mount().map(drop)
}

/// A disk of [`DISK`] bytes. Unmounted when dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self> {
        let disk = Self { folder: tempfile::Builder::new().prefix("giostra-disk-").tempdir()? };
        let size = format!("size={DISK}");
        mounting("mount", &["-t", "tmpfs", "-o", &size, "giostra-tests"], disk.folder.path())?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Leaves room for a part of the log only.
    fn fill(&self) -> Result<()> {
        fs::create_dir(self.path())?;
        Ok(fs::write(self.folder.path().join("ballast"), vec![1; BALLAST])?)
    }

    /// Leaves no room at all.
    fn fill_wholly(&self) -> Result<()> {
        let mut ballast = fs::File::create(self.folder.path().join("ballast"))?;
        let chunk = vec![1; 64 << 10];
        while ballast.write_all(&chunk).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.folder.path().join("ballast"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, in case of a process that still has a file on it. If it was never mounted, there is
        // nothing to undo.
        let _ = mounting("umount", &["--lazy"], self.folder.path());
    }
}

fn mounting(program: &str, args: &[&str], path: &Path) -> Result<()> {
    let output =
        Command::new(program).args(args).arg(path).output().with_context(|| format!("there is no `{program}`"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
