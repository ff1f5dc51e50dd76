//! A random batch, `kill -9` to a worker in the middle of it, the worker again, and the proof from the
//! log that nothing was lost.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use giostra_audit::{Event, Line};
use giostra_tests::Up;
use giostra_tests::process::{Process, wait_for};
use giostra_tests::system::Finished;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::{WORKERS, shortened, with_keys};

const REQUESTS: &str = "1000000";

/// Bytes of log after which the batch is well under way.
const UNDER_WAY: u64 = 500_000;

pub fn run(secure: bool) -> Result<()> {
    println!("starting a broker and {WORKERS} workers{}", with_keys(secure));
    let up = Up::new()?;
    up.up(&[&["--workers", &WORKERS.to_string()][..], if secure { &["--secure"] } else { &[] }].concat())?;

    println!("giostra random {REQUESTS}");
    let mut batch = Process::spawn(up.dir(), "batch", up.client(&["random", REQUESTS, "--json"])?)?;
    let log_size = || up.log_files().iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
    wait_for("the batch is under way", || Some(log_size()).filter(|&bytes: &u64| bytes > UNDER_WAY))?;

    println!("kill -9 worker-2");
    // Stopped first until its window is full, so that it is certain to hold requests when it dies.
    let worker = up.pid("worker-2")?;
    kill(worker, Signal::SIGSTOP)?;
    wait_for("worker-2 holds requests", || {
        let status: Value =
            serde_json::from_slice(&up.client(&["status", "--json"]).ok()?.output().ok()?.stdout).ok()?;
        let worker = status["workers"].as_array()?.iter().find(|worker| worker["name"] == "worker-2")?;
        (worker["in_flight"].as_u64() >= worker["window"].as_u64()).then_some(())
    })?;
    let killed = SystemTime::now();
    kill(worker, Signal::SIGKILL)?;
    println!("starting worker-2 again");
    wait_for("worker-2 has ended", || up.pid("worker-2").is_err().then_some(()))?;
    up.does(&["up", "--again"])?;
    let finished = Finished::of(&mut batch)?;
    let summary = finished.json()?;

    let log: String = up.log_files().iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let lines: Vec<_> = log.lines().filter_map(Line::parse).collect();
    let dropped = lines
        .iter()
        .find(|line| matches!(line.event, Event::Dropped { worker, .. } if worker.name == "worker-2"))
        .context("worker-2 was not dropped")?;
    let mut redispatched = HashSet::new();
    for line in &lines {
        if let Event::Dispatch { again: true, requests, .. } = line.event {
            redispatched.extend(requests.ids());
        }
    }
    let answers_one = |line: &&Line<'_>| match line.event {
        Event::Reply { requests, .. } => requests.ids().any(|request| redispatched.contains(&request)),
        _ => false,
    };
    let last_reply =
        lines.iter().filter(answers_one).map(Line::time).max().context("no re-dispatched request was answered")?;
    for line in log.lines().filter(|line| line.contains(" dropped ") || line.contains(" joined ")) {
        println!("  {}", shortened(line));
    }
    let example = log.lines().find(|line| line.contains(" redispatch ")).context("nothing was dispatched again")?;
    println!("  {}", shortened(example));

    let since_kill = |time: SystemTime| time.duration_since(killed).unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0;
    let number = |key: &str| summary[key].as_u64().with_context(|| format!("no {key} in {summary}"));
    let lost = number("sent")? - number("answered")?;
    let (duplicated, wrong) = (number("duplicated")?, number("wrong")?);
    for line in up.audit()?.to_string().lines() {
        println!("  audit: {}", line.trim_start());
    }
    println!("{} requests answered, {:.0} a second", number("answered")?, summary["rate"].as_f64().unwrap_or(0.0));
    println!(
        "lost={lost} duplicated={duplicated} wrong={wrong} redispatched={} dropped_after_ms={:.1} failover_ms={:.1}",
        redispatched.len(),
        since_kill(dropped.time()),
        since_kill(last_reply),
    );
    ensure!(finished.code == Some(0) && lost == 0 && duplicated == 0 && wrong == 0, "that is not as it should be");
    ensure!(
        number("redispatched")? == redispatched.len() as u64,
        "client and log disagree about what was re-dispatched"
    );
    Ok(())
}
