//! A fault hunt, end to end: brokers, workers and clients as real processes under load, that are
//! killed, frozen and restarted; in the end each request must have been answered once, with the
//! right result.
//!
//! The faults follow a plan that a seed settles ([`plan`]). The load is of two kinds: threads that
//! use the client's library and keep books of their own ([`load`]), and `giostra random` processes
//! ([`batches`]). The audit of the log is [`audit`].

pub mod audit;
pub mod batches;
pub mod calls;
pub mod journal;
pub mod load;
pub mod plan;
pub mod stage;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use giostra_transport::shutdown::Shutdown;

use crate::System;
use load::{Load, Tally};
use stage::{NOTICED_AFTER, Stage};

/// How long what is unanswered when the faults are over may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look what is due.
const TICK: Duration = Duration::from_millis(2);

/// The number of the notable silences to list.
const LISTED: usize = 5;

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    tally: Tally,
    faults: u64,
    lives: u64,
    batches: u64,
    /// The longest part of a silence in which neither broker nor workers were frozen or down.
    unexplained: Duration,
    /// The worst silences, in words.
    silences: Vec<String>,
    /// Workers that were dropped for their silence, though they had not been frozen.
    dropped_unfrozen: Vec<String>,
}

impl Report {
    /// Whether nothing was lost, duplicated or wrong.
    pub fn all_well(&self) -> bool {
        let Tally { lost, duplicated, wrong, ref troubles, .. } = self.tally;
        [lost, duplicated, wrong] == [0; 3] && troubles.is_empty()
    }

    /// Requests that were submitted.
    pub fn requests(&self) -> u64 {
        self.tally.requests
    }

    /// Faults that were done.
    pub fn faults(&self) -> u64 {
        self.faults
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { requests, lost, duplicated, wrong, expired, cancelled, redispatched, .. } = self.tally;
        for silence in &self.silences {
            writeln!(f, "silence: {silence}")?;
        }
        for line in &self.dropped_unfrozen {
            writeln!(f, "dropped though it was not frozen: {line}")?;
        }
        for trouble in &self.tally.troubles {
            writeln!(f, "trouble: {trouble}")?;
        }
        writeln!(
            f,
            "broker_lives={} batches_ended_well={} expired={expired} cancelled={cancelled} dropped_unfrozen={}",
            self.lives,
            self.batches,
            self.dropped_unfrozen.len(),
        )?;
        let Tally { slowest, overdue, early, worst_gap, .. } = self.tally;
        let [slowest, overdue, early, unexplained, gap] =
            [slowest, overdue, early, self.unexplained, worst_gap].map(|time| time.as_millis());
        writeln!(
            f,
            "slowest_ms={slowest} most_overdue_ms={overdue} most_early_ms={early} gap_beyond_faults_ms={unexplained}"
        )?;
        write!(
            f,
            "lost={lost} duplicated={duplicated} wrong={wrong} worst_gap_ms={gap} requests={requests} faults={} \
             redispatched={redispatched}",
            self.faults
        )
    }
}

/// Runs with so many brokers for `duration` and as long as it takes until all is answered; `secure`:
/// with keys. An error if the system could not go on.
///
/// The folder with its files is kept, and named on stderr, if that is wanted or if not all was
/// well.
pub fn run(
    duration: Duration,
    seed: u64,
    brokers: usize,
    secure: bool,
    keep: bool,
    shutdown: &Shutdown,
) -> Result<Report> {
    let mut stage = Stage::set(seed, secure, brokers)?;
    let report = perform(&mut stage, duration, seed, shutdown);
    let well = report.as_ref().is_ok_and(Report::all_well);
    if (well && !keep) || shutdown.requested() {
        return report;
    }
    stage.system.keep_folder();
    stage.others.iter_mut().for_each(System::keep_folder);
    let folders: Vec<_> = stage.systems().map(|system| system.folder().display().to_string()).collect();
    let folder = folders.join(", ");
    eprintln!("seed {seed}; the log, stderr of all and the faults (chaos.txt) are in {folder}");
    report.with_context(|| format!("seed {seed}, folder {folder}"))
}

fn perform(stage: &mut Stage, duration: Duration, seed: u64, shutdown: &Shutdown) -> Result<Report> {
    let load = Load::start(&stage.system, seed, shutdown)?;
    let began = Instant::now();
    let mut steps = plan::plan(seed, duration, 1 + stage.others.len()).into_iter().peekable();
    while began.elapsed() < duration {
        if shutdown.requested() {
            bail!("interrupted");
        }
        if let Some(step) = steps.next_if(|step| step.at <= began.elapsed()) {
            stage.act(step.fault)?;
            continue;
        }
        stage.tend()?;
        stage.batches.tend(&mut stage.system)?;
        thread::sleep(TICK);
    }
    stage.mend()?;
    let by = Instant::now() + PATIENCE;
    let mut tally = load.finish(by)?;
    tally.add(stage.batches.finish(by)?);
    stage.tend()?;
    stage.see_off().unwrap_or_else(|error| tally.trouble(format!("{error:#}")));
    for system in stage.systems() {
        audit::audit(system).unwrap_or_else(|error| tally.trouble(format!("audit: {error:#}")));
    }
    report(stage, tally)
}

fn report(stage: &mut Stage, tally: Tally) -> Result<Report> {
    let mut silences: Vec<_> =
        tally.silences.iter().map(|silence| (stage.journal.unexplained(silence, NOTICED_AFTER), silence)).collect();
    silences.sort_by_key(|&(unexplained, _)| unexplained);
    let unexplained = silences.last().map_or(Duration::ZERO, |&(unexplained, _)| unexplained);
    let mut listed = Vec::new();
    for (unexplained, silence) in silences.iter().rev().take(LISTED) {
        let line = format!(
            "chaos-{} heard nothing for {} ms, {} ms of them beyond the faults",
            silence.client,
            (silence.to - silence.from).as_millis(),
            unexplained.as_millis()
        );
        stage.journal.note(silence.from, &line)?;
        listed.push(line);
    }
    let mut dropped_unfrozen = Vec::new();
    for system in stage.systems() {
        dropped_unfrozen.extend(audit::dropped_unfrozen(system, &stage.journal)?);
    }
    Ok(Report {
        faults: stage.faults,
        lives: stage.lives,
        batches: stage.batches.ended_well(),
        unexplained,
        silences: listed,
        dropped_unfrozen,
        tally,
    })
}
