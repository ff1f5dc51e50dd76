//! `giostra scale` on this host: workers come with requests and go without them. Other engines are in
//! the tests of `just cluster-test`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use giostra_tests::process::{Process, binary, wait_for};
use giostra_tests::{Setup, System};
use nix::sys::signal::Signal;

/// What is looked at, and given up, within a test's patience.
const FAST: [&str; 4] = ["--interval", "100ms", "--cool-down", "500ms"];

/// A broker without workers.
fn broker() -> Result<System> {
    Setup::workers(0).start()
}

/// Starts `giostra scale` with what its engine keeps beside the system's other files.
fn scale(system: &System, name: &str, words: &[&str]) -> Result<Process> {
    let mut command = Command::new(binary("giostra")?);
    command.args(["--broker", system.frontend(), "scale"]).args(words).args(["--backend", system.backend()]).args(FAST);
    command.env("XDG_STATE_HOME", system.folder());
    Process::spawn(system.folder(), name, command)
}

fn workers(system: &mut System) -> Result<usize> {
    Ok(system.status()?["workers"].as_array().context("workers")?.len())
}

#[test]
fn workers_come_with_requests_and_leave_in_order_without() -> Result<()> {
    let mut system = broker()?;
    let mut scaled = scale(&system, "scale", &["local", "--max", "3"])?;
    let done = system.random(&["20000"])?;
    ensure!(done["answered"] == 20000);
    wait_for("all have left", || (workers(&mut system).ok()? == 0).then_some(()))?;
    ensure!(system.count(" joined ") <= 3, "more than three came");
    ensure!(system.count(" dropped ") == 0, "one was lost");
    // Not twice under one name, but what would be done can be asked beside it.
    let mut dry = scale(&system, "dry", &["local", "--max", "3", "--min", "2", "--dry-run"])?;
    ensure!(dry.wait()?.success() && dry.stdout().contains("would start 2 workers"), "{}", dry.stdout());
    let worker = system.other_worker("present", "compute")?;
    let mut dry = scale(&system, "dry-again", &["local", "--max", "3", "--min", "2", "--dry-run"])?;
    ensure!(dry.wait()?.success() && dry.stdout().contains("would start 2 workers"), "{}", dry.stdout());
    worker.kill()?;
    let mut second = scale(&system, "second", &["local", "--max", "3"])?;
    ensure!(second.wait()?.code() == Some(1) && second.stderr().contains("--name takes another one"));
    scaled.signal(Signal::SIGTERM)?;
    ensure!(scaled.wait()?.success(), "{}", scaled.stderr());
    system.audit().map(drop)
}

#[test]
fn workers_end_with_what_has_started_them_and_their_requests_wait_for_the_next() -> Result<()> {
    let mut system = broker()?;
    let first = scale(&system, "first", &["local", "--max", "2"])?;
    let batch = system.begin_random("300000", &[], "giostra-compute-")?;
    first.kill()?;
    wait_for("they are gone", || (workers(&mut system).ok()? == 0).then_some(()))?;
    let mut next = scale(&system, "next", &["local", "--max", "2"])?;
    batch.finish()?.all_well()?;
    next.signal(Signal::SIGINT)?;
    ensure!(next.wait()?.success(), "{}", next.stderr());
    ensure!(workers(&mut system)? == 0, "one is left");
    system.audit().map(drop)
}

#[test]
fn a_broker_that_is_restarted_finds_the_same_workers() -> Result<()> {
    let mut system = broker()?;
    let scaled = scale(&system, "scale", &["local", "--max", "2", "--min", "2"])?;
    wait_for("both are there", || (workers(&mut system).ok()? == 2).then_some(()))?;
    system.kill_broker()?;
    wait_for("it is missed", || scaled.stderr().contains("no broker at").then_some(()))?;
    system.start_broker()?;
    wait_for("both are back", || (workers(&mut system).ok()? == 2).then_some(()))?;
    wait_for("it goes on", || scaled.stderr().contains("going on").then_some(()))?;
    ensure!(scaled.stderr().matches("started ").count() == 1, "{}", scaled.stderr());
    Ok(())
}

#[test]
fn a_program_that_is_no_worker_is_not_started_again_and_again() -> Result<()> {
    let mut system = broker()?;
    let scaled = scale(&system, "scale", &["local", "--max", "2", "--worker", "false"])?;
    let batch = system.begin(&["send", "add", "1", "2", "--timeout", "3s"])?;
    wait_for("it pauses", || {
        scaled.stderr().contains("without a worker having been at the broker; no start for 10s").then_some(())
    })?;
    ensure!(batch.finish()?.code == Some(1));
    let starts = scaled.stderr().matches("started 1 worker").count();
    ensure!(starts == 1, "{starts} starts: {}", scaled.stderr());
    Ok(())
}

#[test]
fn ones_own_commands_start_list_and_stop_workers_that_outlive_it() -> Result<()> {
    let mut system = broker()?;
    // A process with a file: what a container runtime would do.
    let folder = system.folder().join("units");
    fs::create_dir(&folder)?;
    let units = folder.display();
    let start = format!("{{command}} 2>/dev/null >&2 & echo $! > {units}/{{name}}");
    let list = format!("cd {units}; for unit in *; do kill -0 $(cat $unit) 2>/dev/null && echo $unit; done; true");
    let stop = format!("kill $(cat {units}/{{name}})");
    let words = ["custom", "--max", "2", "--min", "2", "--start", &start, "--list", &list, "--stop", &stop];
    let first = scale(&system, "first", &words)?;
    wait_for("both are there", || (workers(&mut system).ok()? == 2).then_some(()))?;
    first.kill()?;
    let done = system.random(&["3000"])?;
    ensure!(done["answered"] == 3000);
    // The next one finds them, and ends them when they are too many.
    let words = ["custom", "--max", "2", "--start", &start, "--list", &list, "--stop", &stop];
    let mut next = scale(&system, "next", &words)?;
    wait_for("they have left", || (workers(&mut system).ok()? == 0).then_some(()))?;
    ensure!(system.count(" joined ") == 2 && system.count(" left ") == 2, "{}", system.log());
    next.signal(Signal::SIGTERM)?;
    ensure!(next.wait()?.success(), "{}", next.stderr());
    Ok(())
}

#[test]
fn a_worker_ends_by_itself_when_it_is_idle_or_old() -> Result<()> {
    let mut system = broker()?;
    for (option, line) in
        [("--idle-timeout", "no request for 300ms: leaving"), ("--lifetime", "at the end of a lifetime of")]
    {
        let args = ["--broker", system.backend(), "--name", "short", option, "300ms"];
        let mut worker = Process::start(system.folder(), option, "giostra-worker", &args)?;
        ensure!(worker.wait()?.code() == Some(0), "{}", worker.stderr());
        ensure!(worker.stderr().contains(line), "{}", worker.stderr());
    }
    ensure!(system.count(" left short ") == 2 && system.count(" dropped ") == 0, "{}", system.log());
    ensure!(workers(&mut system)? == 0);
    Ok(())
}
