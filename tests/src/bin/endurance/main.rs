//! `just endurance [REQUESTS] [WORKERS]`: a long run under a coming and going of workers and
//! clients, the broker's memory watched.
//!
//! The broker is the real one; workers and clients are threads of this process. Exits with 1 if a
//! request was lost, answered twice or wrongly, if something is left in the broker at the end, or
//! if the broker's memory has grown beyond its bound. What the workers do is in `workers.rs`, what
//! the clients do in `clients.rs`.

mod clients;
mod workers;

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};

/// Threads that each play a share of the workers, and threads that each play one client after
/// another.
const WORKER_THREADS: usize = 4;
const CLIENT_THREADS: usize = 4;

/// How often the broker's memory is looked at.
const SAMPLE: Duration = Duration::from_millis(500);

/// The share of the run after which the broker is warm: its memory is compared with what it was
/// then.
const WARM: f64 = 0.1;

/// What it may grow to from there on: this many times as much, and this many bytes more.
const GROWTH: f64 = 1.5;
const SLACK: u64 = 20 << 20;

/// A long run, with the broker's memory watched.
#[derive(Clone, Copy, Debug, Parser)]
struct Args {
    /// Requests in all
    #[arg(default_value_t = 50_000_000)]
    requests: u64,

    /// The most workers at a time; some two thirds of them are there on average
    #[arg(default_value_t = 1000)]
    workers: usize,

    /// Draws the same sequence of joins and leaves as another run with this seed
    #[arg(long, default_value_t = rand::random::<u32>().into())]
    seed: u64,
}

/// What has happened so far, told by all threads.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    duplicated: AtomicU64,
    wrong: AtomicU64,
    redispatched: AtomicU64,
    clients: AtomicU64,
    joins: AtomicU64,
    leaves: AtomicU64,
    /// Workers that closed their connection without a word.
    breaks: AtomicU64,
    /// Workers that the broker dropped though they were alive.
    dropped: AtomicU64,
    /// Set when the workers are to end.
    over: AtomicBool,
}

/// Bytes of the broker's memory.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    warm: Option<u64>,
    most: u64,
    last: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("endurance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    println!("{} requests, up to {} workers, seed {}", args.requests, args.workers, args.seed);
    // So many attempts that the lost workers don't make a request suspect; so little log that it fits
    // anywhere.
    let broker = ["--max-attempts", "1000000", "--log-size", "8MiB", "--log-files", "2"];
    let mut system = Setup::workers(0).broker(&broker).start()?;
    let (frontend, backend) = (system.frontend().to_string(), system.backend().to_string());
    let broker = system.broker().id();
    let tally = Tally::default();
    let began = Instant::now();
    let memory = thread::scope(|scope| {
        let workers = (0..WORKER_THREADS).map(|number| {
            let (seats, seed) = (share(args.workers, WORKER_THREADS, number), args.seed.wrapping_add(number as u64));
            let (backend, tally) = (&backend, &tally);
            scope.spawn(move || workers::play(backend, seats, seed, tally))
        });
        let workers: Vec<_> = workers.collect();
        let clients = (0..CLIENT_THREADS).map(|number| {
            let requests = share(args.requests as usize, CLIENT_THREADS, number) as u64;
            let (frontend, tally) = (&frontend, &tally);
            scope.spawn(move || clients::play(frontend, requests, tally))
        });
        let clients: Vec<_> = clients.collect();

        let over = || {
            // Those that end before the end have failed.
            clients.iter().all(ScopedJoinHandle::is_finished) || workers.iter().any(ScopedJoinHandle::is_finished)
        };
        let watched = watch(args, broker, &tally, began, over);
        let clients = join(clients);
        tally.over.store(true, Ordering::Relaxed);
        join(workers).and(clients).and(watched)
    })?;
    report(args, &tally, memory, began.elapsed());
    judge(args, &tally, memory, &mut system)
}

/// The first error of the threads, all of which have ended then.
fn join(threads: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    ended.into_iter().collect()
}

/// Looks at the broker's memory until all is over, and prints how it goes.
fn watch(args: &Args, broker: u32, tally: &Tally, began: Instant, over: impl Fn() -> bool) -> Result<Memory> {
    let mut memory = Memory::default();
    let mut tenth = 0;
    loop {
        let ended = over();
        let answered = tally.answered.load(Ordering::Relaxed);
        memory.sample(broker, answered as f64 / args.requests as f64)?;
        if answered * 10 / args.requests > tenth {
            tenth = answered * 10 / args.requests;
            println!("{:>3}%  {:.0} s  {}", tenth * 10, began.elapsed().as_secs_f64(), memory.describe());
        }
        if ended {
            return Ok(memory);
        }
        thread::sleep(SAMPLE);
    }
}

/// An even share of `whole` for part `number` of `parts`.
fn share(whole: usize, parts: usize, number: usize) -> usize {
    whole / parts + usize::from(number < whole % parts)
}

impl Memory {
    fn sample(&mut self, process: u32, progress: f64) -> Result<()> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).context("the broker has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        self.last = kilobytes << 10;
        self.most = self.most.max(self.last);
        if progress >= WARM {
            self.warm.get_or_insert(self.last);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let warm = self.warm.map_or("-".into(), mib);
        format!("rss: warm {warm}, most {}, now {}", mib(self.most), mib(self.last))
    }
}

fn report(args: &Args, tally: &Tally, memory: Memory, took: Duration) {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let seconds = took.as_secs_f64();
    println!("requests {} in {seconds:.0} s, {:.0} a second", args.requests, args.requests as f64 / seconds);
    println!(
        "workers: {} joins, {} leaves, {} broken connections, {} dropped though alive; {} clients",
        of(&tally.joins),
        of(&tally.leaves),
        of(&tally.breaks),
        of(&tally.dropped),
        of(&tally.clients)
    );
    println!("{}", memory.describe());
    println!(
        "lost={} duplicated={} wrong={} redispatched={}",
        args.requests - of(&tally.answered),
        of(&tally.duplicated),
        of(&tally.wrong),
        of(&tally.redispatched)
    );
}

fn judge(args: &Args, tally: &Tally, memory: Memory, system: &mut System) -> Result<()> {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (lost, duplicated, wrong) = (args.requests - of(&tally.answered), of(&tally.duplicated), of(&tally.wrong));
    ensure!(lost == 0 && duplicated == 0 && wrong == 0, "that is not as it should be");
    wait_for("the broker holds nothing any more", || {
        let status = system.status().ok()?;
        let empty = status["pending"] == 0 && status["in_flight"] == 0 && status["workers"].as_array()?.is_empty();
        empty.then_some(())
    })?;
    let warm = memory.warm.context("the run was too short to judge the memory")?;
    let bound = (warm as f64 * GROWTH) as u64 + SLACK;
    if memory.most > bound {
        bail!("the broker's memory has grown to {} bytes; from {warm} on, {bound} are allowed", memory.most);
    }
    println!("the memory stayed within its bound, {GROWTH} times that of the warm broker and {} MiB", SLACK >> 20);
    Ok(())
}
