//! `giostra random`: sends random requests and checks each result against a computation of its own.

mod journal;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use giostra_client::{Client, Error};
use giostra_protocol::{Reply, RequestId};
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use serde_json::json;

use super::common::CommonArgs;
use super::exit::Exit;
use super::help;
use super::operations::Task;
use super::send::value;
use super::summary::{Percentile, Summary};
use journal::Journal;

/// The options of `giostra random`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::RANDOM)]
pub struct Random {
    /// Number of requests
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,

    /// Seed of the random requests; the same seed gives the same ones [default: random, and printed]
    #[arg(long, env = "GIOSTRA_SEED")]
    pub seed: Option<u64>,

    /// Maximum number of unanswered requests
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub window: u32,

    /// Wait first until the pool has this many workers that take requests
    #[arg(long, env = "GIOSTRA_WAIT_WORKERS", default_value_t = 0, value_name = "N")]
    pub wait_workers: u32,

    /// Write into this file what became of each request, for giostra audit --journal
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

/// The interval of the progress bar, and of asking for the number of workers.
const TICK: Duration = Duration::from_millis(100);

const PERCENTILES: [Percentile; 2] = [("p50", 50.0), ("p99", 99.0)];

/// Runs the batch, and succeeds if every request was answered and every result was right.
pub fn run(client: &mut Client, random: &Random, common: &CommonArgs) -> anyhow::Result<Exit> {
    wait_for_workers(client, &common.pool, random.wait_workers)?;
    let journal = random.journal.as_deref().map(|path| Journal::create(path, client)).transpose()?;
    let seed = random.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let mut batch = Batch {
        draw: StdRng::seed_from_u64(seed),
        open: FxHashMap::default(),
        summary: Summary::default(),
        workers: BTreeMap::new(),
        journal,
    };
    let began = Instant::now();
    let ended = batch.run(client, random, common);
    batch.summary.took = began.elapsed();
    if let Err(Stop::Client(Error::Interrupted) | Stop::Journal(_)) = &ended {
        client.cancel_all()?;
    }
    batch.summary.duplicated = client.duplicated();
    let ended = batch.end_journal(ended, client);
    client.keep_record(false);
    let ended = ended?;
    let Batch { summary, workers, .. } = batch;
    let mut object = summary.json(&PERCENTILES, |ns| (ns / 1000).into());
    object["seed"] = seed.into();
    object["workers"] = json!(workers);
    object["gap_us"] = (summary.gap.as_micros() as u64).into();
    let millis = |ns: u64| format!("{:.3} ms", ns as f64 / 1e6);
    let mut text = summary.text(format_args!(" (seed {seed})"), &PERCENTILES, millis);
    if !workers.is_empty() {
        text += "\n  workers      ";
        text.extend(workers.iter().map(|(worker, count)| format!("  {worker} {count}")));
    }
    if common.broker.contains(',') {
        text += &format!("\n  longest time without an answer  {}", millis(summary.gap.as_nanos() as u64));
    }
    summary.finish(ended, object, &text, common)
}

/// Why a batch ended early.
enum Stop {
    Client(Error),
    /// When the journal can't be written.
    Journal(anyhow::Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

struct Batch {
    draw: StdRng,
    /// The unanswered tasks, and when each was sent.
    open: FxHashMap<RequestId, (Task, Instant)>,
    summary: Summary,
    /// The number of answers of each worker.
    workers: BTreeMap<String, u64>,
    journal: Option<Journal>,
}

impl Batch {
    fn run(&mut self, client: &mut Client, random: &Random, common: &CommonArgs) -> Result<(), Stop> {
        let bar = Bar::new(random.count);
        let mut next_tick = Instant::now();
        while self.replies() < random.count {
            let now = Instant::now();
            while self.summary.sent < random.count && self.open.len() < random.window as usize {
                let task = Task::draw(&mut self.draw);
                let id = client.submit_within(task.to_body(), common.timeout)?;
                self.open.insert(id, (task, now));
                self.summary.sent += 1;
            }
            let mut reply = client.next_reply(Some(TICK))?;
            let now = Instant::now();
            if reply.is_some() {
                self.summary.heard(now);
            }
            // All replies that have arrived are taken before more is sent, so that the next requests travel
            // together, too.
            while let Some(some) = reply {
                self.check(&some, now);
                reply = client.take_reply();
            }
            if let Some(journal) = &mut self.journal {
                journal.append(client).map_err(Stop::Journal)?;
            }
            if now >= next_tick {
                next_tick = now + TICK;
                bar.tick(self.replies(), client, common);
            }
        }
        Ok(())
    }

    /// Ends the journal. Returns how the client ended, or an error if the journal can't be written.
    fn end_journal(&mut self, ended: Result<(), Stop>, client: &mut Client) -> anyhow::Result<Result<(), Error>> {
        let ended = match ended {
            Ok(()) => Ok(()),
            Err(Stop::Client(error)) => Err(error),
            Err(Stop::Journal(error)) => return Err(error),
        };
        if let Some(journal) = self.journal.take() {
            journal.end(client, self.summary.sent, ended.is_err())?;
        }
        Ok(ended)
    }

    /// The number of requests that ended, with a result or an error.
    fn replies(&self) -> u64 {
        self.summary.sent - self.summary.unanswered()
    }

    fn check(&mut self, reply: &Reply, now: Instant) {
        let Some((task, sent)) = self.open.remove(&reply.id) else { return };
        match value(&reply.outcome) {
            Ok(value) => {
                self.summary.add_answer(reply.trace.attempts, task.is_right(&value), now - sent);
                match self.workers.get_mut(&*reply.trace.worker) {
                    Some(count) => *count += 1,
                    None => drop(self.workers.insert(reply.trace.worker.to_string(), 1)),
                }
            }
            Err(failure) => self.summary.add_failure(failure),
        }
    }
}

/// The progress bar; hidden unless stderr is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(count: u64) -> Self {
        let bar = if stderr().is_terminal() { ProgressBar::new(count) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len}  {per_sec}  {msg}");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn tick(&self, replies: u64, client: &Client, common: &CommonArgs) {
        self.0.set_position(replies);
        self.0.set_message(match client.without_broker_since() {
            Some(since) if since.elapsed() >= TICK => format!("waiting for a broker at {}", common.broker),
            _ => String::new(),
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Waits until the pool has `count` workers with a seat. An error if the broker is gone.
pub fn wait_for_workers(client: &mut Client, pool: &str, count: u32) -> Result<(), Error> {
    if count == 0 {
        return Ok(());
    }
    loop {
        if client.seats(pool)? >= u64::from(count) {
            return Ok(());
        }
        // The broker does not announce workers. No reply can come, so this is a sleep that Ctrl-C ends.
        client.next_reply(Some(TICK))?;
    }
}
