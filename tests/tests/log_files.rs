//! The log where others look after it: files that are moved away, logrotate, lines in JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use giostra_audit::{Gap, Verdict, audit};
use giostra_tests::process::{binary, wait_for};
use giostra_tests::{Process, Setup, System, test, trials};
use nix::sys::signal::Signal;
use serde_json::Value;

fn main() -> ExitCode {
    trials::run(&[
        test!(a_log_that_is_moved_away_under_load_goes_on_and_is_proved_from_all_files needs trials::anywhere),
        test!(a_broker_that_does_nothing_begins_a_new_file_at_once needs trials::anywhere),
        test!(logrotate_moves_the_log_away_and_no_line_is_lost needs logrotate),
        test!(a_log_in_json_is_proved_over_the_death_of_its_broker needs trials::anywhere),
        test!(every_line_of_broker_and_worker_is_an_object needs trials::anywhere),
    ])
}

fn a_log_that_is_moved_away_under_load_goes_on_and_is_proved_from_all_files() -> Result<()> {
    for format in ["text", "json"] {
        let mut system = Setup::workers(2).broker(&["--log-format", format]).start()?;
        let current = current(&system);
        let batch = system.begin_random("300000", &[], "worker-1")?;
        for round in 1..=5 {
            // With and without a file in its place, as `create` and `nocreate` of logrotate; the last one
            // without a signal, which takes a second.
            fs::rename(&current, moved(&current, round))?;
            if round % 2 == 0 {
                let _ = fs::File::options().create_new(true).write(true).open(&current);
            }
            if round < 5 {
                system.broker().signal(Signal::SIGUSR1)?;
            }
            wait_for("it goes on", || {
                // Each command is a client, of which there are lines.
                system.status().ok()?;
                continues(&current).then_some(())
            })?;
        }
        batch.finish()?.all_well()?;
        system.random(&["100"])?;
        stop(&mut system)?;
        let report = system.audit()?;
        ensure!(report.files == 6 && report.counts.accepted == 300_100, "{format}: {report}");
        // One that is missing is missed, and nothing is refuted.
        fs::remove_file(moved(&current, 3))?;
        let report = audit(&[system.folder().join("log")])?;
        ensure!(report.verdict() == Verdict::NotProvable, "{format}: {report}");
        ensure!(matches!(report.gaps[..], [Gap::Moved(..)]), "{format}: {report}");
    }
    Ok(())
}

fn a_broker_that_does_nothing_begins_a_new_file_at_once() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let current = current(&system);
    // Nothing was moved: nothing happens.
    let before = fs::read_to_string(&current)?;
    system.broker().signal(Signal::SIGUSR1)?;
    system.status()?;
    ensure!(fs::read_to_string(&current)?.starts_with(&before) && !continues(&current));
    fs::rename(&current, moved(&current, 1))?;
    system.broker().signal(Signal::SIGUSR1)?;
    wait_for("it goes on", || continues(&current).then_some(()))?;
    // Twice, as an impatient script does.
    fs::rename(&current, moved(&current, 2))?;
    for _ in 0..3 {
        system.broker().signal(Signal::SIGUSR1)?;
    }
    wait_for("it goes on", || continues(&current).then_some(()))?;
    stop(&mut system)?;
    ensure!(system.audit()?.files == 3);
    Ok(())
}

fn logrotate_moves_the_log_away_and_no_line_is_lost() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let current = current(&system);
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/logrotate/giostra"))?;
    let kill = format!("kill -USR1 {}", system.broker().id());
    let signal = "systemctl kill --kill-who=main --signal=USR1 giostra-broker.service";
    ensure!(shipped.contains(signal) && shipped.contains("\n    compress\n") && shipped.contains("nocreate"));
    let ours = shipped.replace("/var/log/giostra/broker_rCURRENT.log", &current.display().to_string());
    let ours = ours.replace(signal, &kill);
    let (config, state) = (system.folder().join("logrotate.conf"), system.folder().join("state"));
    let batch = system.begin_random("300000", &[], "worker-1")?;
    for (round, making) in ["nocreate", "create 0640"].into_iter().enumerate() {
        fs::write(&config, ours.replace("nocreate", making))?;
        let run = Command::new(logrotate_path()?).arg("--force").arg("--state").arg(&state).arg(&config).output()?;
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        ensure!(run.status.success() && said.is_empty(), "{making}: {said}");
        wait_for("it goes on", || continues(&current).then_some(()))?;
        let moved = PathBuf::from(format!("{}.1", current.display()));
        ensure!(moved.exists(), "{round}");
    }
    batch.finish()?.all_well()?;
    stop(&mut system)?;
    // The older one is compressed by now, which is no refutation; unpacked, all is proved.
    let log = system.folder().join("log");
    let report = audit(std::slice::from_ref(&log))?;
    ensure!(report.verdict() == Verdict::NotProvable && report.violations.is_empty(), "{report}");
    let packed = PathBuf::from(format!("{}.2.gz", current.display()));
    let unpacked = Command::new("gunzip").arg(&packed).status()?;
    ensure!(unpacked.success());
    let report = system.audit()?;
    ensure!(report.files == 3 && report.counts.accepted == 300_000, "{report}");
    Ok(())
}

fn a_log_in_json_is_proved_over_the_death_of_its_broker() -> Result<()> {
    let mut system =
        Setup::workers(2).broker(&["--log-format", "json", "--log-size", "200KiB", "--log-files", "1000"]).start()?;
    for _ in 0..3 {
        let batch = system.begin_random("300000", &[], "worker-1")?;
        system.kill_broker()?;
        system.start_broker()?;
        batch.finish()?.all_well()?;
    }
    let batch = system.begin_random("300000", &[], "worker-2")?;
    system.kill_worker(2)?;
    batch.finish()?.all_well()?;
    let report = system.audit()?;
    ensure!(report.counts.lives == 4 && report.files > 1, "{report}");
    // The same broker goes on with text, and another one with objects.
    for format in ["text", "json"] {
        stop(&mut system)?;
        let log = system.folder().join("log").display().to_string();
        let args = ["--frontend", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*", "--log-dir", &log];
        let mut broker = Process::start(
            system.folder(),
            &format!("next-{format}"),
            "giostra-broker",
            &[&args[..], &["--log-format", format]].concat(),
        )?;
        wait_for("it listens", || broker.stderr().contains("listening").then_some(()))?;
        broker.signal(Signal::SIGTERM)?;
        broker.wait()?;
    }
    system.audit()?;
    Ok(())
}

fn every_line_of_broker_and_worker_is_an_object() -> Result<()> {
    let args = ["--log-format", "json", "--stderr-level", "debug"];
    let mut system = Setup::workers(1).broker(&args).worker(&["--log-format", "json"]).start()?;
    system.random(&["10"])?;
    system.worker(1).signal(Signal::SIGTERM)?;
    system.worker(1).wait()?;
    system.broker().signal(Signal::SIGTERM)?;
    system.broker().wait()?;
    let objects = |text: &str| -> Result<Vec<Value>> {
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_string())).collect()
    };
    let log = objects(&fs::read_to_string(current(&system))?)?;
    assert_eq!(log, objects(&system.broker().stderr())?);
    let dispatch = log.iter().find(|object| object["event"] == "dispatch").context("a dispatch")?;
    assert_eq!(dispatch["worker_name"], "worker-1");
    assert_eq!(dispatch["level"], "DEBUG");
    ensure!(dispatch["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{dispatch}");
    let stopped = log.last().context("a last line")?;
    assert_eq!(stopped["event"], "stopped");
    assert_eq!(stopped["lines"], log.len());
    let said = objects(&system.worker(1).stderr())?;
    ensure!(said.iter().any(|object| object["message"].as_str().is_some_and(|text| text.starts_with("registered as"))));
    // Also the last words of a broker that can't start.
    let refused = Command::new(binary("giostra-broker")?)
        .args(["--log-format", "json", "--frontend", "tcp://0.0.0.0:*", "--log-dir", "/nowhere"])
        .output()?;
    let last = objects(&String::from_utf8(refused.stderr)?)?;
    ensure!(last.len() == 1 && last[0]["level"] == "ERROR", "{last:?}");
    Ok(())
}

fn current(system: &System) -> PathBuf {
    system.folder().join("log/broker_rCURRENT.log")
}

/// The name of a moved file, as logrotate gives it.
fn moved(current: &Path, round: u32) -> PathBuf {
    PathBuf::from(format!("{}.{}", current.display(), 10 - round))
}

/// Whether a broker has begun this file because the one before was moved away.
fn continues(current: &Path) -> bool {
    let text = fs::read_to_string(current).unwrap_or_default();
    text.lines().next().is_some_and(|line| line.contains("log-continues"))
}

fn stop(system: &mut System) -> Result<()> {
    if system.broker().is_running() {
        system.broker().signal(Signal::SIGTERM)?;
        let status = system.broker().wait()?;
        ensure!(status.success(), "{status}");
    }
    Ok(())
}

fn logrotate_path() -> Result<PathBuf> {
    // Not on the path of everybody.
    let installed = Path::new("/usr/sbin/logrotate");
    if installed.is_file() { Ok(installed.into()) } else { trials::program("logrotate", "logrotate") }
}

fn logrotate() -> Result<()> {
    logrotate_path().map(drop)
}
