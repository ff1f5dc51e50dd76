//! Signals that were ignored at the start, signals that mean nothing, and process 1 of a container.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use giostra_client::{Client, Options};
use giostra_protocol::{Bytes, Outcome};
use giostra_tests::process::{PATIENCE, Process, binary, wait_for};
use giostra_tests::{Setup, System, test, trials};
use nix::sys::signal::Signal;

/// Runs what its argument says.
const OBEDIENT: &str = r#"sh -c 'eval "$1"' sh"#;

fn main() -> ExitCode {
    trials::run(&[
        test!(a_signal_that_was_ignored_at_the_start_ends_neither_worker_nor_map needs trials::anywhere),
        test!(a_broker_lives_through_a_hangup_that_was_ignored_and_still_reads_its_keys_anew needs trials::anywhere),
        test!(signals_that_mean_nothing_end_neither_broker_nor_worker needs trials::anywhere),
        test!(programs_run_though_the_worker_was_started_with_sigchld_ignored needs trials::anywhere),
        test!(process_1_of_a_container_leaves_no_zombies needs container),
    ])
}

fn a_signal_that_was_ignored_at_the_start_ends_neither_worker_nor_map() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let mut worker = start(&system, "env", &["--ignore-signal=HUP,INT"], &["--name", "deaf"])?;
    system.random(&["10", "--wait-workers", "1"])?;
    let mut map = Command::new("env");
    map.args(["--ignore-signal=HUP"]).arg(binary("giostra")?);
    map.args(["status", "--watch", "--json", "--broker", system.frontend()]);
    let mut map = Process::spawn(system.folder(), "watch", map)?;
    wait_for("it watches", || map.stdout().contains('\n').then_some(()))?;
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        ensure!(ignores(worker.id(), signal)?, "{signal}");
        worker.signal(signal)?;
    }
    ensure!(ignores(map.id(), Signal::SIGHUP)? && !ignores(map.id(), Signal::SIGINT)?);
    map.signal(Signal::SIGHUP)?;
    system.random(&["100"])?;
    ensure!(worker.is_running() && map.is_running());
    worker.signal(Signal::SIGTERM)?;
    assert_eq!(worker.wait()?.code(), Some(0));
    map.signal(Signal::SIGINT)?;
    map.wait()?;
    Ok(())
}

fn a_broker_lives_through_a_hangup_that_was_ignored_and_still_reads_its_keys_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log").display().to_string();
    let mut env = Command::new("env");
    env.arg("--ignore-signal=HUP").arg(binary("giostra-broker")?);
    env.args(["--frontend", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*", "--log-dir", &log]);
    let mut broker = Process::spawn(folder.path(), "broker", env)?;
    let said = || fs::read_to_string(folder.path().join("log/broker.log")).unwrap_or_default();
    wait_for("it listens", || said().contains(" listening ").then_some(()))?;
    ensure!(!ignores(broker.id(), Signal::SIGHUP)?);
    broker.signal(Signal::SIGHUP)?;
    broker.signal(Signal::SIGTERM)?;
    assert_eq!(broker.wait()?.code(), Some(0));
    Ok(())
}

fn signals_that_mean_nothing_end_neither_broker_nor_worker() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--exec", OBEDIENT]).start()?;
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGPIPE, Signal::SIGXFSZ] {
        system.broker().signal(signal)?;
        system.worker(1).signal(signal)?;
        assert_eq!(ask(system.frontend(), "echo well")?, "well", "{signal}");
    }
    // The programs have them as they were. SIGPIPE is ignored by programs in Rust, such as this test.
    let theirs = ignored(&ask(system.frontend(), "cat /proc/self/status")?)?;
    let own = ignored(&fs::read_to_string("/proc/self/status")?)?;
    assert_eq!(theirs, own & !(1 << (Signal::SIGPIPE as i32 - 1)));
    Ok(())
}

fn programs_run_though_the_worker_was_started_with_sigchld_ignored() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let _worker = start(&system, "env", &["--ignore-signal=CHLD"], &["--exec", OBEDIENT])?;
    assert_eq!(ask(system.frontend(), "echo well")?, "well");
    assert_eq!(ask(system.frontend(), "exit 3")?, "failed: sh exited with status 3");
    Ok(())
}

fn process_1_of_a_container_leaves_no_zombies() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let container = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let args = ["--exec", OBEDIENT, "--time-limit", "3s", "--kill-after", "100ms", "--threads", "4"];
    let _worker = start(&system, "unshare", &container, &args)?;
    assert_eq!(ask(system.frontend(), "echo $PPID")?, "1");
    for _ in 0..20 {
        // One that its group's end kills, and one that has left the group and ends by itself.
        assert_eq!(ask(system.frontend(), "sleep 100 >/dev/null 2>&1 & setsid true & echo well")?, "well");
        assert_eq!(ask(system.frontend(), "exit 4")?, "failed: sh exited with status 4");
    }
    let late = ask(system.frontend(), "sleep 100 & sleep 100")?;
    assert_eq!(late, "failed: sh took longer than 3s (--time-limit) and was ended");
    let zombies = r#"grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l"#;
    wait_for("no zombie is left", || ask(system.frontend(), zombies).is_ok_and(|count| count == "0").then_some(()))
}

/// Whether a process tree can have numbers of its own here.
fn container() -> Result<()> {
    trials::root()?;
    trials::program("unshare", "util-linux")?;
    let tried = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output()?;
    ensure!(tried.status.success(), "unshare: {}", String::from_utf8_lossy(&tried.stderr).trim());
    Ok(())
}

/// A worker that another program starts.
fn start(system: &System, starter: &str, options: &[&str], args: &[&str]) -> Result<Process> {
    let mut command = Command::new(starter);
    command.args(options).arg(binary("giostra-worker")?).args(["--broker", system.backend()]).args(args);
    Process::spawn(system.folder(), "other", command)
}

/// What the program `sh` of a worker prints for this script, or why it failed.
fn ask(broker: &str, script: &str) -> Result<String> {
    let mut client = Client::connect(Options { broker: broker.into(), ..Options::default() })?;
    let body = Bytes::from(rmp_serde::to_vec(&("sh", [script]))?);
    Ok(match client.call(body, Some(PATIENCE))?.outcome {
        Outcome::Ok(body) => rmp_serde::from_slice(&body)?,
        Outcome::Error(failure) => failure.to_string(),
    })
}

/// Whether a process ignores a signal.
fn ignores(process: u32, signal: Signal) -> Result<bool> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    Ok(ignored(&status)? >> (signal as i32 - 1) & 1 == 1)
}

/// The signals that a process with this status ignores.
fn ignored(status: &str) -> Result<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).context("no mask")?;
    // glibc uses some beyond the 31st itself.
    Ok(u64::from_str_radix(mask.trim(), 16)? & 0x7fff_ffff)
}
