//! The audit beside a real broker: while the log is written and rotated, over lives that were
//! killed, and where something was removed from it.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use giostra_audit::{Error, Gap, Report, Verdict, audit};
use giostra_client::{JobOptions, body};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};

/// The audit of the log as it is at this moment; `None` if its files came and went too fast.
fn audited(system: &System) -> Result<Option<Report>> {
    match audit(&[system.folder().join("log")]) {
        Ok(report) => Ok(Some(report)),
        Err(Error::Unsteady) => Ok(None),
        Err(error) => bail!(error),
    }
}

/// Audits again and again while batches run and the broker is killed. What each report must be,
/// `check` says. Also returns how many lives there were.
fn audit_under_load(files: &str, check: impl Fn(&Report) -> bool) -> Result<(System, u64)> {
    let mut system = Setup::workers(3).broker(&["--log-size", "40KiB", "--log-files", files]).start()?;
    let (mut reports, mut lives) = (0, 1);
    // Three as a rule; more where a batch is over before it has been audited.
    for _ in 0..30 {
        let mut batch = system.begin(&["random", "20000", "--window", "20", "--json"])?;
        let mut may_be_killed = lives < 3;
        while batch.process().is_running() {
            if let Some(report) = audited(&system)? {
                ensure!(check(&report), "{report}");
                reports += 1;
            }
            // In the middle of its work. The clients send again what is open.
            if std::mem::take(&mut may_be_killed) {
                system.kill_broker()?;
                system.start_broker()?;
                lives += 1;
            }
        }
        batch.finish()?.all_well()?;
        if reports > 3 && lives == 3 {
            return Ok((system, lives));
        }
    }
    bail!("{reports} audits and {lives} lives are too few to tell")
}

#[test]
fn the_log_of_a_busy_broker_is_proved_at_each_moment_while_it_is_written_and_rotated() -> Result<()> {
    let (system, lives) = audit_under_load("100000", |report| report.verdict() == Verdict::Proved)?;
    ensure!(system.log_files().len() > 5, "{:?}", system.log_files());
    assert_eq!(system.audit()?.counts.lives, lives);
    Ok(())
}

#[test]
fn a_log_of_few_files_is_never_refuted_while_the_oldest_are_removed() -> Result<()> {
    let no_cut = |report: &Report| !report.gaps.iter().any(|gap| matches!(gap, Gap::Cut(..)));
    audit_under_load("3", |report| report.verdict() != Verdict::Refuted && no_cut(report)).map(drop)
}

#[test]
fn a_removed_stop_line_between_two_lives_is_noticed() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    system.random(&["100"])?;
    system.broker().signal(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(system.broker().wait()?.success());
    system.start_broker()?;
    system.random(&["100"])?;
    // The workers of the second life are there, and its client has gone: the log stands still.
    system.wait_for_lines(" client-left ", 2)?;
    system.audit()?;
    let [file] = &system.log_files()[..] else { bail!("{:?}", system.log_files()) };
    let whole = fs::read_to_string(file)?;
    let copy = system.folder().join("copy.log");
    let stopped = whole.lines().find(|line| line.contains(" stopped lines=")).context("it has stopped")?;
    fs::write(&copy, whole.replace(&format!("{stopped}\n"), ""))?;
    let report = audit(std::slice::from_ref(&copy))?;
    let [Gap::Cut(_, _, after)] = &report.gaps[..] else { bail!("{report}") };
    ensure!(stopped.starts_with(after.as_str()) && report.verdict() == Verdict::NotProvable, "{report}");
    Ok(())
}

#[test]
fn the_story_of_a_job_has_both_lives_of_a_killed_broker_and_is_refuted_without_a_reply() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name| folder.path().join(name).display().to_string();
    let mut system = Setup::workers(2).broker(&["--store", &path("store")]).start()?;
    let mut client = system.client()?;
    let naps = (0..300).map(|_| body("sleep", &[0.01]).expect("a number can be encoded"));
    let id = client.submit_job(JobOptions::default(), naps)?;
    wait_for("some results", || client.job(id).status().ok().filter(|job| job.succeeded > 20))?;
    system.kill_broker()?;
    system.start_broker()?;
    client.job(id).wait(None)?;
    system.kill_broker()?;

    let (id, log) = (id.to_string(), system.folder().join("log").display().to_string());
    let story = system.run(&["audit", &log, "--job", &id])?;
    for part in [
        "life 1 of the broker",
        "life 2 of the broker",
        "finished: 300 succeeded, 0 failed",
        "the broker was started again once meanwhile",
        "proved: nothing missing, nothing twice",
    ] {
        ensure!(story.code == Some(0) && story.stdout.contains(part), "no {part:?} in {}", story.stdout);
    }
    let (whole, cut) = (system.log(), path("broker.log"));
    let (before, reply) = whole.rsplit_once(" reply worker-").context("no reply in the log")?;
    let (before, _) = before.rsplit_once('\n').context("no line")?;
    let (_, after) = reply.split_once('\n').context("no line")?;
    fs::write(&cut, format!("{before}\n{after}"))?;
    let refuted = system.run(&["audit", &cut, "--job", &id])?;
    ensure!(refuted.code == Some(1) && refuted.stdout.contains("\nrefuted: "), "{}", refuted.stdout);
    Ok(())
}
