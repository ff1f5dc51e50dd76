//! A durable job, `kill -9` to the broker twice and to a worker once while it runs, and each of its
//! results compared with what is computed here.

use std::collections::HashMap;
use std::fs::{self, File};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use giostra_audit::{JobStory, Verdict, job_story};
use giostra_tests::process::{binary, wait_for};
use giostra_tests::{Setup, System};
use tempfile::TempDir;

use crate::{WORKERS, shortened, with_keys};

const REQUESTS: u64 = 20_000;

/// The numbers `n` of `fib n`, which takes the longer the larger they are: some hundred microseconds.
const SMALLEST: u64 = 20;
const LARGEST: u64 = 26;

pub fn run(secure: bool) -> Result<()> {
    let began = Instant::now();
    let store = TempDir::new()?;
    let store_dir = store.path().join("store").display().to_string();
    println!("starting a broker with a store, and {WORKERS} workers{}", with_keys(secure));
    let setup = Setup::workers(WORKERS).broker(&["--store", &store_dir]).worker(&["--threads", "2"]);
    let mut system = setup.secured_if(secure).start()?;

    println!("giostra submit fib --lines --name demo, with {REQUESTS} lines");
    let id = submit(&system)?;
    println!("  job {id} is safe: its client has left");
    let waiting = system.begin(&["wait", &id])?;

    restart_broker_at(&mut system, &id, REQUESTS / 6)?;
    wait_until(&mut system, &id, REQUESTS * 2 / 5)?;
    println!("kill -9 worker-2");
    system.kill_worker(2)?;
    println!("  {}", shortened(&system.wait_for_line(&[" dropped worker-2 "])?));
    println!("starting worker-2 again");
    system.start_worker(2)?;
    restart_broker_at(&mut system, &id, REQUESTS * 3 / 5)?;

    println!("giostra wait, which has waited since before the first kill");
    let waited = waiting.finish()?;
    ensure!(waited.code == Some(0), "the job did not end well: {waited:?}");
    println!("giostra collect");
    let collected = system.run(&["collect", &id, "--number"])?;
    ensure!(collected.code == Some(0), "not all could be collected: {}", collected.stderr);
    let faults = Faults::of(&collected.stdout);

    for line in system.audit()?.to_string().lines() {
        println!("  audit: {}", line.trim_start());
    }
    println!("giostra audit --job {id}");
    let story = job_story(&[system.folder().join("log")], id.parse().map_err(anyhow::Error::msg)?)?;
    for line in story.to_string().lines() {
        println!("  {}", shortened(line));
    }
    check(&story)?;
    println!("{REQUESTS} results in {:.1} s, with all kills and restarts", began.elapsed().as_secs_f64());
    let Faults { lost, duplicated, wrong } = faults;
    println!("lost={lost} duplicated={duplicated} wrong={wrong}");
    ensure!((lost, duplicated, wrong) == (0, 0, 0), "that is not as it should be");
    Ok(())
}

/// Submits the job, and returns its id.
fn submit(system: &System) -> Result<String> {
    let input = system.folder().join("input");
    fs::write(&input, (0..REQUESTS).map(|request| format!("{}\n", argument(request))).collect::<String>())?;
    let mut command = Command::new(binary("giostra")?);
    command.args(["--broker", system.frontend()]).args(system.key_args("client"));
    command.args(["submit", "fib", "--lines", "--name", "demo"]).stdin(File::open(input)?);
    let output = command.output()?;
    ensure!(output.status.success(), "it can't be submitted: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn restart_broker_at(system: &mut System, id: &str, results: u64) -> Result<()> {
    wait_until(system, id, results)?;
    println!("kill -9 the broker");
    system.kill_broker()?;
    println!("starting the broker again");
    let restored = system.count(" restored ");
    system.start_broker()?;
    system.wait_for_lines(" restored ", restored + 1)?;
    println!("  {}", shortened(system.lines(" restored ").last().context("it was just there")?));
    Ok(())
}

/// Waits until so many results are safe.
fn wait_until(system: &mut System, id: &str, results: u64) -> Result<()> {
    let done = wait_for("the job goes on", || {
        let job = system.run(&["job", id, "--json"]).and_then(|found| found.json()).ok()?;
        job["succeeded"].as_u64().filter(|&done| done >= results)
    })?;
    println!("  {done} of {REQUESTS} results are safe");
    ensure!(done < REQUESTS, "the job ended before it could be disturbed");
    Ok(())
}

/// What is wrong with results.
struct Faults {
    lost: u64,
    duplicated: u64,
    wrong: u64,
}

impl Faults {
    /// Compares results, each with the number of its line, with what they must be.
    fn of(collected: &str) -> Self {
        let mut results: HashMap<u64, Vec<&str>> = HashMap::new();
        for line in collected.lines() {
            let (number, result) = line.split_once('\t').unwrap_or((line, ""));
            results.entry(number.parse().unwrap_or(0)).or_default().push(result);
        }
        let right: Vec<_> = (0..=LARGEST).map(|n| fibonacci(n).to_string()).collect();
        let mut faults = Self { lost: 0, duplicated: 0, wrong: 0 };
        for request in 0..REQUESTS {
            // Lines are counted from 1.
            let found = results.remove(&(request + 1)).unwrap_or_default();
            faults.lost += u64::from(found.iter().all(|result| result.is_empty()));
            faults.duplicated += (found.len() as u64).saturating_sub(1);
            let expected = &right[argument(request) as usize];
            faults.wrong += found.iter().filter(|result| !result.is_empty() && *result != expected).count() as u64;
        }
        // Results of no request.
        faults.wrong += results.values().map(|found| found.len() as u64).sum::<u64>();
        faults
    }
}

/// Checks that the kills were in the middle of the job, and that its story is proved.
fn check(story: &JobStory) -> Result<()> {
    let interrupted = story.lives.iter().filter(|life| life.was_interrupted).count();
    let returned: u64 = story.lives.iter().map(|life| life.returned).sum();
    ensure!(story.verdict() == Verdict::Proved, "the log does not prove the job");
    ensure!(interrupted == 2 && returned > 0, "the kills were not in the middle of the job");
    Ok(())
}

/// The argument of a request: neighbours differ.
fn argument(request: u64) -> u64 {
    SMALLEST + request * 5 % (LARGEST - SMALLEST + 1)
}

/// Computes a Fibonacci number otherwise than a worker does.
fn fibonacci(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}
