//! Two brokers and a random batch: `kill -9` to the broker that has it, then to a worker, and the proof
//! from the logs of both.

use anyhow::{Context, Result, ensure};
use giostra_audit::{Verdict, account};
use giostra_tests::Up;
use giostra_tests::process::{Process, wait_for};
use giostra_tests::system::{Finished, log_files};
use nix::sys::signal::{Signal, kill};

use crate::{WORKERS, shortened, with_keys};

const REQUESTS: &str = "3000000";

/// Bytes of a broker's log after which it is well at work.
const AT_WORK: u64 = 500_000;

pub fn run(secure: bool) -> Result<()> {
    println!("starting two brokers and {WORKERS} workers that serve both{}", with_keys(secure));
    let up = Up::new()?;
    let workers = WORKERS.to_string();
    up.up(&[&["--brokers", "2", "--workers", &workers][..], if secure { &["--secure"] } else { &[] }].concat())?;
    let log_of = |broker: &str| log_files(&up.log_dir().join(broker));
    let works = |broker: &str| {
        let bytes = |broker| log_of(broker).iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
        wait_for(&format!("{broker} is at work"), || Some(bytes(broker)).filter(|&bytes: &u64| bytes > AT_WORK))
    };

    println!("giostra random {REQUESTS} --journal journal");
    let journal = up.dir().join("journal");
    let random = ["random", REQUESTS, "--json", "--journal", &journal.display().to_string()];
    let mut batch = Process::spawn(up.dir(), "batch", up.client(&random)?)?;
    works("broker-1")?;
    println!("kill -9 broker-1");
    kill(up.pid("broker-1")?, Signal::SIGKILL)?;
    works("broker-2")?;
    println!("kill -9 worker-2");
    kill(up.pid("worker-2")?, Signal::SIGKILL)?;
    let finished = Finished::of(&mut batch)?;
    for line in finished.stderr.lines() {
        println!("  {}", shortened(line));
    }
    up.does(&["down"])?;
    println!("giostra audit log/broker-1 log/broker-2 --journal journal");
    let logs = ["broker-1", "broker-2"].map(|broker| up.log_dir().join(broker));
    let audited = account(&logs, &[journal])?;
    let shown = audited.to_string().replace(&format!("{}/", up.dir().display()), "");
    let (reports, clients) = shown.split_at(shown.find("2 brokers, ").unwrap_or_default());
    // Of each broker its name and the verdict.
    for line in reports.lines().filter(|line| !line.starts_with("  ") || *line == "  proved").chain(clients.lines()) {
        println!("  {line}");
    }
    ensure!(audited.verdict() == Verdict::Proved, "not proved:\n{audited}");

    let summary = finished.json()?;
    let number = |key: &str| summary[key].as_u64().with_context(|| format!("no {key} in {summary}"));
    let lost = number("sent")? - number("answered")?;
    let (duplicated, wrong, gap) = (number("duplicated")?, number("wrong")?, number("gap_us")?);
    println!("{} requests answered, {:.0} a second", number("answered")?, summary["rate"].as_f64().unwrap_or(0.0));
    println!("lost={lost} duplicated={duplicated} wrong={wrong} longest_gap_ms={:.1}", gap as f64 / 1000.0);
    ensure!(finished.code == Some(0) && lost == 0 && duplicated == 0 && wrong == 0, "that is not as it should be");
    Ok(())
}
