//! `giostra wait`: waits until jobs have ended, with a progress bar on a terminal.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use giostra_client::{Client, Error, JobId, JobState, JobStatus};
use indicatif::{HumanCount, HumanDuration, ProgressBar};

use super::pace::Pace;
use super::several::Several;
use crate::bar;
use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::help;

/// How often the bar moves. With many jobs it is less often: each is asked for.
const TICK: Duration = Duration::from_millis(300);

/// The number of jobs for which it is as often.
const AT_ONCE: u32 = 20;

/// The jobs that `giostra wait` waits for.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::WAIT)]
pub struct Wait {
    /// The jobs' ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
}

/// Waits for the jobs that are there, and succeeds if all of them are and all their requests have.
pub fn run(client: &mut Client, wait: &Wait, common: &CommonArgs) -> anyhow::Result<Exit> {
    let bar = bar::new(Some(0), stderr().is_terminal());
    let mut several = Several::ask(&wait.ids, |id| client.job(id).status())?;
    match bar.is_hidden() {
        true => several.ask_again(|id| client.job(id).wait(None))?,
        false => {
            let ended = watch(client, &mut several, &bar);
            bar.finish_and_clear();
            ended?;
        }
    }
    several.print(common.json)?;
    Ok(Exit::success_if(several.refused.is_empty() && several.jobs.iter().all(all_well)))
}

/// Moves the bar until all have ended.
fn watch(client: &mut Client, several: &mut Several, bar: &ProgressBar) -> Result<(), Error> {
    let tick = TICK * (several.jobs.len() as u32).div_ceil(AT_ONCE).max(1);
    let mut pace = Pace::default();
    loop {
        let sum = Sum::of(&several.jobs);
        pace.add(Instant::now(), sum.done);
        bar.set_length(sum.requests);
        bar.set_position(sum.done);
        bar.set_message(sum.message(&pace));
        bar.tick();
        let Some(first) = several.first_live() else { return Ok(()) };
        several.ask_again(|id| if id == first { client.job(id).wait(Some(tick)) } else { client.job(id).status() })?;
    }
}

/// How far several jobs are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    requests: u64,
    done: u64,
    failed: u64,
    /// Whether more requests may come.
    open: bool,
}

impl Sum {
    fn of(jobs: &[JobStatus]) -> Self {
        jobs.iter().fold(Self::default(), |sum, job| {
            let done = u64::from(job.succeeded) + u64::from(job.failed);
            // What a cancelled job has no result of is waited for no more.
            let requests = if job.state == JobState::Cancelled { done } else { job.requests.into() };
            Self {
                requests: sum.requests + requests,
                done: sum.done + done,
                failed: sum.failed + u64::from(job.failed),
                open: sum.open || job.state == JobState::Open,
            }
        })
    }

    fn message(self, pace: &Pace) -> String {
        let mut message = format!("{} of {}", HumanCount(self.done), HumanCount(self.requests));
        if self.failed > 0 {
            message += &format!(", {} failed", HumanCount(self.failed));
        }
        let Some(rate) = pace.rate() else { return message };
        message += &format!("  {rate:.0}/s");
        if let Some(left) = pace.time_for(self.requests.saturating_sub(self.done)).filter(|_| !self.open) {
            message += &format!("  {} left", HumanDuration(left));
        }
        message
    }
}

fn all_well(job: &JobStatus) -> bool {
    job.state == JobState::Finished && job.failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: JobState, requests: u32, succeeded: u32, failed: u32) -> JobStatus {
        JobStatus { state, requests, succeeded, failed, ..JobStatus::default() }
    }

    #[test]
    fn several_jobs_are_one_sum() {
        let jobs = [
            job(JobState::Running, 2000, 700, 50),
            job(JobState::Cancelled, 500, 40, 10),
            job(JobState::Finished, 10, 10, 0),
        ];
        let sum = Sum::of(&jobs);
        assert_eq!(sum, Sum { requests: 2060, done: 810, failed: 60, open: false });
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.add(now, 310);
        assert_eq!(sum.message(&pace), "810 of 2,060, 60 failed");
        pace.add(now + Duration::from_secs(5), 810);
        assert_eq!(sum.message(&pace), "810 of 2,060, 60 failed  100/s  13 seconds left");
        let open = Sum::of(&[job(JobState::Open, 2000, 810, 0)]);
        assert_eq!(open.message(&pace), "810 of 2,000  100/s");
    }
}
