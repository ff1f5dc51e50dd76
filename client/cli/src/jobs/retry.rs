//! `giostra retry`: has the requests of jobs that failed computed again.

use std::io::Write;

use anyhow::bail;
use giostra_client::{Client, JobId, JobState, JobStatus};
use serde_json::json;

use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::help;
use crate::printed::stdout;
use crate::written::many;

/// The jobs that `giostra retry` is about.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::RETRY)]
pub struct Retry {
    /// The jobs' ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
}

/// Prints how many requests of each job are computed again. Nothing is begun if one of the jobs has none.
pub fn run(client: &mut Client, retry: &Retry, common: &CommonArgs) -> anyhow::Result<Exit> {
    let mut jobs = Vec::new();
    for &id in &retry.ids {
        let job = client.job(id).status()?;
        if let Some(why) = obstacle(&job) {
            bail!(why);
        }
        jobs.push(job);
    }
    for job in &jobs {
        client.job(job.id).retry()?;
        if !common.json {
            writeln!(stdout(), "retrying {} of job {}", many(job.failed.into(), "request"), job.id)?;
        }
    }
    if common.json {
        let jobs = jobs.iter().map(|job| json!({"job": job.id.to_string(), "retried": job.failed}));
        writeln!(stdout(), "{}", json!({"jobs": jobs.collect::<Vec<_>>()}))?;
    }
    Ok(Exit::Success)
}

/// Returns why nothing of the job can be computed again, if so.
fn obstacle(job: &JobStatus) -> Option<String> {
    let JobStatus { id, state, failed, .. } = job;
    match state {
        JobState::Open | JobState::Running => {
            Some(format!("job {id} is {state}: what failed is computed again once it is finished (giostra wait {id})"))
        }
        JobState::Cancelled => Some(format!("job {id} was cancelled: its requests are no longer there")),
        JobState::Finished => (*failed == 0).then(|| format!("job {id} has no request that failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_in_a_finished_job_is_computed_again() {
        let why = |state, failed| obstacle(&JobStatus { state, failed, ..JobStatus::default() });
        assert_eq!(why(JobState::Finished, 1), None);
        assert!(why(JobState::Finished, 0).unwrap().contains("no request that failed"));
        assert!(why(JobState::Running, 1).unwrap().contains("is running") && why(JobState::Open, 1).is_some());
        assert!(why(JobState::Cancelled, 1).unwrap().contains("was cancelled"));
    }
}
