//! Durable jobs: what a sync costs, and what it does not cost.
//!
//! F is what the disk needs at least: an append of 128 bytes and `fdatasync`, the median of some
//! hundred, measured beside each figure in a file in the same folder.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use giostra_client::{Client, JobOptions, Options, SharedClient, body};
use giostra_protocol::{Bytes, JobId};
use giostra_tests::performance::usage::peak_memory_of;
use giostra_tests::performance::{Goal, Own, Report, Series, Unit};
use giostra_tests::process::wait_for;
use tempfile::TempDir;

use super::growth::in_turns;
use super::note;
use super::sides::{Giostra, Load, WORKERS, series};

/// Requests of the jobs that are measured as a whole, and of a large one.
const WHOLE: u32 = 1_000_000;
const LARGE: u32 = 10_000_000;

/// For how long submissions are measured.
const LENGTH: Duration = Duration::from_secs(1);

/// The appends that F is the median of.
const APPENDS: usize = 300;

/// The memory of a broker with a large job, at most.
const MEMORY: f64 = 300.0 * 1048576.0;

/// A broker with a store, and workers.
struct Durable {
    giostra: Giostra,
    /// Where the store is.
    folder: TempDir,
}

impl Durable {
    fn start(workers: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("store").display().to_string();
        Ok(Self { giostra: Giostra::start(workers, &["--store", &store])?, folder })
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::connect(Options { broker: self.giostra.system.frontend().into(), ..Options::default() })?)
    }
}

/// Submissions of several sizes, one and sixteen under way. No worker computes meanwhile.
pub fn submits(rounds: usize, report: &mut Report) -> Result<()> {
    for (requests, goals) in [
        (1, [Goal::AtMost(2.5), Goal::Open]),
        (16, [Goal::Open; 2]),
        (256, [Goal::Open, Goal::AtLeast(300_000.0)]),
        (4096, [Goal::Open; 2]),
    ] {
        for under_way in [1, 16] {
            let (mut floor, mut p50, mut rate) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let durable = Durable::start(0)?;
                floor.push(append_and_sync(durable.folder.path())?);
                let (median, each_second) = submit(&durable, requests, under_way)?;
                p50.push(median);
                rate.push(each_second);
            }
            let what = format!("durable submits of {requests}, {under_way} under way");
            let goal = if under_way == 1 { goals } else { [Goal::Open; 2] };
            let figure = |figures| Series::new(figures).context("no figures");
            let beside = Some(("F".into(), figure(floor)?));
            let latency =
                Own { what: format!("{what}: p50"), unit: Unit::Micros, figure: figure(p50)?, beside, goal: goal[0] };
            note(report, latency);
            let rate = Own {
                what: format!("{what}: requests"),
                unit: Unit::Rate,
                figure: figure(rate)?,
                beside: None,
                goal: goal[1],
            };
            note(report, rate);
        }
    }
    Ok(())
}

/// Submits for a while; returns the median time until a submission is acknowledged, in microseconds,
/// and the requests a second.
fn submit(durable: &Durable, requests: usize, under_way: usize) -> Result<(f64, f64)> {
    let options = Options { broker: durable.giostra.system.frontend().into(), ..Options::default() };
    let client = SharedClient::connect(options)?;
    let bodies = vec![Bytes::from(vec![7; 64]); requests];
    let (mut open, mut times) = (VecDeque::new(), Vec::new());
    let begun = Instant::now();
    loop {
        while open.len() < under_way && begun.elapsed() < LENGTH {
            open.push_back((Instant::now(), client.submit_job(JobOptions::default(), bodies.iter().cloned())));
        }
        let Some((sent, asked)) = open.pop_front() else { break };
        asked.wait()?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    let rate = (times.len() * requests) as f64 / begun.elapsed().as_secs_f64();
    Ok((Series::new(times).context("nothing was submitted")?.median(), rate))
}

/// The median time of an append of 128 bytes and `fdatasync` in this folder, in microseconds.
fn append_and_sync(folder: &Path) -> Result<f64> {
    let path = folder.join("floor");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let begun = Instant::now();
        file.write_all(&[7; 128])?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(Series::new(times).context("no figures")?.median())
}

/// A whole job, from its submission until its results are collected and it is deleted, beside the
/// same requests in memory.
pub fn whole(rounds: usize, report: &mut Report) -> Result<()> {
    let mut durable = Durable::start(WORKERS)?;
    let (mut client, load) = (durable.client()?, Load::default());
    let (mut lives, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        beside.push(durable.giostra.run(&load)?.rate);
        lives.push(f64::from(WHOLE) / live(&mut client, WHOLE)?.as_secs_f64());
    }
    durable.giostra.audit()?;
    let own = Own {
        what: "requests of a whole job: submitted, computed, collected, deleted".into(),
        unit: Unit::Rate,
        figure: Series::new(lives).context("no figures")?,
        beside: Some(("not durable, W=4096".into(), Series::new(beside).context("no figures")?)),
        goal: Goal::Open,
    };
    note(report, own);
    Ok(())
}

/// Runs a job of additions through its whole life.
fn live(client: &mut Client, requests: u32) -> Result<Duration> {
    let begun = Instant::now();
    let id = submit_additions(client, requests)?;
    client.job(id).wait(None)?;
    let mut results = 0;
    for result in client.job(id).results(0) {
        result?;
        results += 1;
    }
    ensure!(results == requests, "{results} results of {requests} requests");
    client.job(id).delete()?;
    Ok(begun.elapsed())
}

fn submit_additions(client: &mut Client, requests: u32) -> Result<JobId> {
    let bodies = (0..requests).map(|number| body("add", &[number, 1]).expect("numbers can be encoded"));
    Ok(client.submit_job(JobOptions::default(), bodies)?)
}

/// A job of ten million requests: the broker's memory, the rate, and how long the question for its
/// state takes meanwhile.
pub fn large(_rounds: usize, report: &mut Report) -> Result<()> {
    let mut durable = Durable::start(WORKERS)?;
    let random = durable.giostra.run(&Load { length: Duration::from_secs(5), ..Load::default() })?.rate;
    let (mut client, mut other) = (durable.client()?, durable.client()?);
    let begun = Instant::now();
    let id = submit_additions(&mut client, LARGE)?;
    let mut answers = Vec::new();
    loop {
        let asked = Instant::now();
        let ended = other.job(id).status()?.state.has_ended();
        answers.push(asked.elapsed().as_secs_f64() * 1e6);
        if ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let rate = f64::from(LARGE) / begun.elapsed().as_secs_f64();
    let mut results = 0;
    for result in client.job(id).results(0) {
        result?;
        results += 1;
    }
    ensure!(results == LARGE, "{results} results of {LARGE} requests");
    let of = |figure| Series::new(vec![figure]).context("no figure");
    let memory = peak_memory_of(durable.giostra.system.broker().id())? as f64;
    let what = "a job of 10,000,000 requests";
    let beside = Some(("not durable, W=4096".into(), of(random)?));
    let owns = [
        Own {
            what: format!("{what}: until all results are safe"),
            unit: Unit::Rate,
            figure: of(rate)?,
            beside,
            goal: Goal::AtLeast(0.7),
        },
        Own {
            what: format!("{what}: peak memory of the broker"),
            unit: Unit::Bytes,
            figure: of(memory)?,
            beside: None,
            goal: Goal::AtMost(MEMORY),
        },
        Own {
            what: format!("{what}: `giostra job` meanwhile"),
            unit: Unit::Micros,
            figure: Series::new(answers).context("no answers")?,
            beside: None,
            goal: Goal::AtMost(100_000.0),
        },
    ];
    owns.into_iter().for_each(|own| note(report, own));
    Ok(())
}

/// Interactive requests, one at a time, beside a job that is submitted and computed at full speed.
pub fn interactive(rounds: usize, report: &mut Report) -> Result<()> {
    let mut durable = Durable::start(WORKERS)?;
    let load = Load { window: 1, length: Duration::from_millis(500), ..Load::default() };
    let (mut client, mut other) = (durable.client()?, durable.client()?);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(durable.giostra.run(&load)?.p50);
        let id = std::thread::scope(|scope| {
            let submitted = scope.spawn(|| submit_additions(&mut client, 5 * WHOLE));
            wait_for("the job is under way", || {
                other.jobs().ok()?.first().filter(|job| !job.state.has_ended() && job.succeeded > 0).map(drop)
            })?;
            beside.push(durable.giostra.run(&load)?.p50);
            let job = other.jobs()?.into_iter().next().context("no job")?;
            ensure!(!job.state.has_ended(), "the job has ended meanwhile");
            submitted.join().map_err(|_| anyhow!("the thread that submits has panicked"))?
        })?;
        client.job(id).cancel()?;
    }
    let own = Own {
        what: "W=1 p50 beside a job of additions that is being submitted".into(),
        unit: Unit::Micros,
        figure: Series::new(beside).context("no figures")?,
        beside: Some(("alone".into(), Series::new(alone).context("no figures")?)),
        goal: Goal::AtMost(2.0),
    };
    note(report, own);
    Ok(())
}

/// Requests that are not durable at a broker with a store, beside one without.
pub fn unconcerned(rounds: usize, report: &mut Report) -> Result<()> {
    let (mut with, mut without) = (Durable::start(WORKERS)?, Giostra::start(WORKERS, &[])?);
    for (window, unit) in [(1, Unit::Micros), (4096, Unit::Rate)] {
        let load = Load { window, ..Load::default() };
        let [with, without] = in_turns(rounds, || with.giostra.run(&load), || without.run(&load))?;
        let figure = |rounds: &[_]| match unit {
            Unit::Micros => series(rounds, |round| round.p50),
            _ => series(rounds, |round| round.rate),
        };
        let own = Own {
            what: format!("W={window} with a store"),
            unit,
            figure: figure(&with)?,
            beside: Some(("without".into(), figure(&without)?)),
            goal: if window == 1 { Goal::AtMost(1.0 / 0.95) } else { Goal::AtLeast(0.95) },
        };
        note(report, own);
    }
    Ok(())
}
