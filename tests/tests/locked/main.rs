//! A broker with keys: who is let in, who is not, what those learn who are not, and what the others
//! notice of it.

mod access;
mod files;
mod limits;
mod peer;
mod relay;
mod revoked;
mod secrecy;
mod siege;

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use giostra_audit::Line;
use giostra_tests::process::Process;
use giostra_tests::system::Finished;
use giostra_tests::{Setup, System};

#[test]
fn peers_with_the_right_keys_are_served_as_without_keys() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    system.random(&["2000"])?;
    system.start_worker(3)?;
    system.random(&["2000"])?;
    let status = system.status()?;
    assert_eq!((&status["totals"]["refused"], status["workers"].as_array().map(Vec::len)), (&0.into(), Some(3)));
    system.audit()?;
    Ok(())
}

/// Runs a program of the workspace to its end, with its files in the system's folder.
fn run(system: &System, program: &str, args: &[&str]) -> Result<Finished> {
    let mut process = start(system, program, args)?;
    let code = process.wait()?.code();
    Ok(Finished { code, stdout: process.stdout(), stderr: process.stderr() })
}

/// Starts one.
fn start(system: &System, program: &str, args: &[&str]) -> Result<Process> {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let name = format!("other-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Process::start(system.folder(), &name, program, args)
}

/// One argument beside another.
fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// A total of the broker's status.
fn total(system: &mut System, of: &str) -> Result<u64> {
    system.status()?["totals"][of].as_u64().context("a total is a number")
}

/// The broker is alive and serves whom it should, and its log consists of lines of its own.
fn check(system: &mut System) -> Result<()> {
    system.random(&["500", "--timeout", "30s"])?;
    ensure!(system.broker().is_running());
    let stderr = system.broker().stderr();
    ensure!(!stderr.contains("panicked") && !stderr.contains("Assertion"), "{stderr}");
    for line in system.log().lines() {
        Line::parse(line).with_context(|| format!("not a line of the log: {line}"))?;
    }
    Ok(())
}
