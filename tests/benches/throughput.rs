//! Requests a second through Giostra, beside the bare `zmq_proxy` with echo workers, in turns, on this machine.
//!
//! `cargo bench -p giostra-tests --bench throughput [-- COUNT]`

use std::fs;

use anyhow::{Context, Result};
use giostra_tests::process::{Process, wait_for};
use giostra_tests::{Setup, System};

const WORKERS: usize = 3;
const WINDOW: &str = "4096";
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let count = std::env::args().skip(1).find(|arg| arg.parse::<u64>().is_ok()).unwrap_or_else(|| "1000000".into());
    machine();
    println!("{count} requests, window {WINDOW}, {WORKERS} workers with one thread each, {ROUNDS} rounds in turns");
    let mut system = Setup::workers(WORKERS).start()?;
    let reference = Reference::start()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(reference.rate(&count)?);
        ours.push(rate(&mut system, &count)?);
    }
    let (ours, theirs) = (show("giostra", ours), show("zmq_proxy", theirs));
    println!("ratio of the medians: {:.2}", ours / theirs);
    Ok(())
}

fn rate(system: &mut System, count: &str) -> Result<f64> {
    let summary = system.random(&[count, "--window", WINDOW])?;
    summary["rate"].as_f64().context("no rate")
}

/// Prints the rates and gives their median.
fn show(name: &str, mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let written: Vec<_> = rates.iter().map(|rate| format!("{:.3}", rate / 1e6)).collect();
    let median = rates[rates.len() / 2];
    println!("{name:<10} median {:.3} M/s  (all: {})", median / 1e6, written.join(" "));
    median
}

fn machine() {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores,{}", model.trim_start_matches(['\t', ':']));
}

struct Reference {
    folder: tempfile::TempDir,
    frontend: String,
    _processes: Vec<Process>,
}

impl Reference {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let any = "tcp://127.0.0.1:*";
        let proxy = Process::start(folder.path(), "proxy", "reference", &["proxy", any, any])?;
        let said = wait_for("the proxy listens", || Some(proxy.stderr()).filter(|said| said.ends_with('\n')))?;
        let mut words = said.split_whitespace().skip(1).map(|word| word.trim_end_matches('\0').to_string());
        let frontend = words.next().context("no frontend")?;
        let backend = words.next().context("no backend")?;
        let mut processes = vec![proxy];
        for number in 0..WORKERS {
            let echo = Process::start(folder.path(), &format!("echo-{number}"), "reference", &["echo", &backend])?;
            wait_for("the worker is ready", || (!echo.stderr().is_empty()).then_some(()))?;
            processes.push(echo);
        }
        Ok(Self { folder, frontend, _processes: processes })
    }

    fn rate(&self, count: &str) -> Result<f64> {
        let args = ["client", &self.frontend, count, WINDOW];
        let name = format!("client-{:?}", std::time::Instant::now()).replace(|c: char| !c.is_alphanumeric(), "");
        let mut client = Process::start(self.folder.path(), &name, "reference", &args)?;
        client.wait()?;
        client.stdout().trim().parse().with_context(|| client.stderr())
    }
}
