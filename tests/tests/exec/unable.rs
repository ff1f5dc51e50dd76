//! Programs that can't be started: their worker answers nothing, hands back what it has, and comes
//! again.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_tests::process::{binary, wait_for, wait_within};
use giostra_tests::{Process, Setup, System};
use serde_json::Value;

/// Each request takes a moment, so that one worker alone does not do all of them.
const SCRIPT: &str = "-c 'sleep 0.02; echo \"done $1\"' sh";

/// A shell of this name: a link, since a script that is deleted may have been started and not yet
/// been read.
fn program(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    symlink("/bin/sh", &path)?;
    Ok(path)
}

/// A worker of the operation `job` with this program, registered.
fn worker(system: &System, name: &str, program: &Path) -> Result<Process> {
    let exec = format!("{} {SCRIPT}", program.display());
    let args = ["--broker", system.backend(), "--name", name, "--operation", "job", "--exec", &exec];
    let worker = Process::start(system.folder(), name, "giostra-worker", &args)?;
    let joined = format!(" joined {name} ");
    system.wait_for_line(&[&joined])?;
    Ok(worker)
}

fn map(system: &System, lines: impl Iterator<Item = u32>, args: &[&str]) -> Result<Child> {
    let mut map = Command::new(binary("giostra")?);
    map.args(["map", "job", "--quiet", "--broker", system.frontend()]).args(args);
    let mut map = map.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = map.stdin.take().context("stdin")?;
    lines.into_iter().try_for_each(|line| writeln!(stdin, "{line}"))?;
    Ok(map)
}

fn expect_done(map: Child, lines: impl Iterator<Item = u32>) -> Result<()> {
    let Output { status, stdout, stderr } = map.wait_with_output()?;
    let expected: String = lines.map(|line| format!("done {line}\n")).collect();
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success() && String::from_utf8_lossy(&stdout) == expected, "{status}: {said}");
    Ok(())
}

/// The status of the worker of this name.
fn told(system: &mut System, name: &str) -> Result<Value> {
    let status = system.status()?;
    let workers = status["workers"].as_array().context("workers")?;
    workers.iter().find(|worker| worker["name"] == name).cloned().context("it is registered")
}

#[test]
fn a_worker_whose_program_is_deleted_answers_nothing_and_comes_back_when_it_is_restored() -> Result<()> {
    for rotation in ["available", "strict"] {
        let mut system = Setup::workers(0).broker(&["--rotation", rotation]).watched().start()?;
        let folder = system.folder().to_path_buf();
        let (good, frail) = (program(&folder, "good")?, program(&folder, "frail")?);
        let _good = worker(&system, "good", &good)?;
        let _frail = worker(&system, "frail", &frail)?;

        let batch = map(&system, 1..=400, &[])?;
        system.wait_for_line(&[" reply frail "])?;
        fs::remove_file(&frail)?;
        wait_for("it is unable", || (told(&mut system, "frail").ok()?["state"] == "unable").then_some(()))?;
        let frail_told = told(&mut system, "frail")?;
        assert!(frail_told["unable"].as_str().is_some_and(|why| why.contains("can't start")), "{frail_told}");
        assert_eq!(frail_told["seat"], Value::Null);
        let shown = system.run(&["status"])?.stdout;
        assert!(shown.contains("\nunable: frail w2 of pool compute: can't start "), "{shown}");
        wait_for("the metrics have it", || {
            let metrics = system.get("/metrics").ok()?;
            metrics.contains("giostra_workers{pool=\"compute\",state=\"unable\"} 1").then_some(())
        })?;
        expect_done(batch, 1..=400)?;

        program(&folder, "frail")?;
        wait_for("it is able", || (told(&mut system, "frail").ok()?["state"] == "idle").then_some(()))?;
        let answered = told(&mut system, "frail")?["answered"].as_u64();
        expect_done(map(&system, 1..=40, &[])?, 1..=40)?;
        assert!(told(&mut system, "frail")?["answered"].as_u64() > answered, "it does its share again");
        let report = system.audit()?;
        assert_eq!(report.counts.reply_errors, 0, "{report}");
        assert!(report.counts.workers_unable >= 1 && report.max_lost == 0, "{report}");
    }
    Ok(())
}

#[test]
fn requests_wait_for_an_only_worker_that_is_unable_and_those_with_a_limit_are_told_why() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let folder = system.folder().to_path_buf();
    let path = program(&folder, "only")?;
    let _only = worker(&system, "only", &path)?;
    fs::remove_file(&path)?;
    let batch = map(&system, 1..=3, &[])?;
    wait_for("it is unable", || (told(&mut system, "only").ok()?["state"] == "unable").then_some(()))?;
    let limited = system.run(&["send", "job", "9", "--timeout", "300ms"])?;
    assert!(limited.code == Some(1) && limited.stderr.contains("can compute nothing for now"), "{limited:?}");
    program(&folder, "only")?;
    expect_done(batch, 1..=3)?;
    system.audit()?;
    Ok(())
}

#[test]
fn a_script_without_its_interpreter_counts_as_deleted_until_it_is_back() -> Result<()> {
    for first in ["#!", "#!/usr/bin/env "] {
        let mut system = Setup::workers(0).start()?;
        let folder = system.folder().to_path_buf();
        let interpreter = program(&folder, "interpreter")?;
        let script = folder.join("script");
        fs::write(&script, format!("{first}{}\necho \"done $1\"\n", interpreter.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let exec = script.display().to_string();
        let args = ["--broker", system.backend(), "--name", "only", "--operation", "job", "--exec", &exec];
        let _worker = Process::start(&folder, "only", "giostra-worker", &args)?;
        expect_done(map(&system, 1..=3, &[])?, 1..=3)?;

        fs::remove_file(&interpreter)?;
        let batch = map(&system, 1..=3, &[])?;
        wait_for("it is unable", || (told(&mut system, "only").ok()?["state"] == "unable").then_some(()))?;
        let why = told(&mut system, "only")?["unable"].to_string();
        assert!(why.contains("its first line names the interpreter"), "{first}: {why}");
        // It has looked more than once by then, and is not taken in by the script, which is there.
        let again = wait_within(Duration::from_secs(4), || system.log().contains(" able only ").then_some(()));
        assert!(again.is_none(), "{first}: {}", system.log());
        program(&folder, "interpreter")?;
        expect_done(batch, 1..=3)?;
        assert_eq!(system.audit()?.counts.reply_errors, 0);
    }
    Ok(())
}

#[test]
fn a_worker_without_descriptors_for_more_processes_hands_requests_back_and_all_are_computed() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let folder = system.folder().to_path_buf();
    // Forty processes at once would want two descriptors each.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(binary("giostra-worker")?);
    shell.args(["--broker", system.backend(), "--name", "narrow", "--operation", "job", "--threads", "40"]);
    shell.args(["--exec", "sh -c 'sleep 1; echo \"done $1\"' sh"]);
    let _narrow = Process::spawn(&folder, "narrow", shell)?;
    system.wait_for_line(&[" joined narrow "])?;
    expect_done(map(&system, 1..=60, &["--window", "60"])?, 1..=60)?;
    let log = system.log();
    assert!(log.contains(" unable narrow ") && log.contains("Too many open files"), "{log}");
    assert_eq!(system.audit()?.counts.reply_errors, 0);
    assert_eq!(told(&mut system, "narrow")?["answered"], 60);
    Ok(())
}
