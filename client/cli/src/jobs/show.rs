//! `giostra jobs`, `giostra job`, `giostra wait`: how far jobs are.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use giostra_client::{Client, JobState, JobStatus};
use humantime::{format_duration, format_rfc3339_seconds};
use serde_json::{Value, json};

use super::{One, Wait};
use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::printed::stdout;

/// Lists the jobs.
pub fn jobs(client: &mut Client, common: &CommonArgs) -> anyhow::Result<Exit> {
    let jobs = client.jobs()?;
    if common.json {
        writeln!(stdout(), "{}", json!({"jobs": jobs.iter().map(object).collect::<Vec<_>>()}))?;
    } else if jobs.is_empty() {
        writeln!(stdout(), "no jobs; giostra submit makes one")?;
    } else {
        print(&jobs, false)?;
    }
    Ok(Exit::Success)
}

/// Shows one job.
pub fn one(client: &mut Client, one: &One, common: &CommonArgs) -> anyhow::Result<Exit> {
    let job = client.job(one.id).status()?;
    if common.json {
        writeln!(stdout(), "{}", object(&job))?;
        return Ok(Exit::Success);
    }
    let time = |ms: u64| format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms));
    let mut out = stdout();
    writeln!(out, "job        {}", job.id)?;
    writeln!(out, "state      {}", job.state)?;
    writeln!(out, "requests   {}", job.requests)?;
    writeln!(out, "succeeded  {}", job.succeeded)?;
    writeln!(out, "failed     {}", job.failed)?;
    writeln!(out, "pool       {}", job.spec.pool)?;
    writeln!(out, "name       {}", job.spec.name)?;
    writeln!(out, "key        {}", job.spec.key)?;
    writeln!(out, "submitted  {}", time(job.submitted_ms))?;
    if job.ended_ms > 0 {
        writeln!(out, "ended      {}", time(job.ended_ms))?;
    }
    Ok(Exit::Success)
}

/// Waits for jobs, and succeeds if all their requests have.
pub fn wait(client: &mut Client, wait: &Wait, common: &CommonArgs) -> anyhow::Result<Exit> {
    let ended = wait.ids.iter().map(|&id| client.job(id).wait(None)).collect::<Result<Vec<_>, _>>()?;
    print(&ended, common.json)?;
    Ok(Exit::success_if(ended.iter().all(all_well)))
}

fn all_well(job: &JobStatus) -> bool {
    job.state == JobState::Finished && job.failed == 0
}

/// Prints a line for each job.
pub(super) fn print(jobs: &[JobStatus], json: bool) -> anyhow::Result<()> {
    let mut out = stdout();
    if json {
        writeln!(out, "{}", json!({"jobs": jobs.iter().map(object).collect::<Vec<_>>()}))?;
        return Ok(());
    }
    let id = jobs.iter().map(|job| job.id.to_string().len()).max().unwrap_or(0);
    writeln!(out, "{:id$}  {:9}  {:>19}  {:>8}  {:>9}  {:12}  NAME", "JOB", "STATE", "DONE", "FAILED", "AGE", "POOL")?;
    for job in jobs {
        let done = format!("{}/{}", job.succeeded + job.failed, job.requests);
        let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(job.submitted_ms));
        let age = format_duration(Duration::from_secs(age.unwrap_or_default().as_secs())).to_string();
        // The two largest units.
        let age = age.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let JobStatus { state, failed, spec, .. } = job;
        writeln!(out, "{:id$}  {state:9}  {done:>19}  {failed:>8}  {age:>9}  {:12}  {}", job.id, spec.pool, spec.name)?;
    }
    Ok(())
}

fn object(job: &JobStatus) -> Value {
    json!({
        "job": job.id.to_string(),
        "state": job.state.to_string(),
        "requests": job.requests,
        "succeeded": job.succeeded,
        "failed": job.failed,
        "pool": job.spec.pool,
        "name": job.spec.name,
        "key": job.spec.key,
        "owner": job.owner,
        "submitted_ms": job.submitted_ms,
        "ended_ms": job.ended_ms,
    })
}
