//! Slurm: a job array of one-task jobs, each of which is a worker.
//!
//! What is read of Slurm is what it prints for programs: the job's number of `sbatch --parsable`, and
//! fields that `squeue --format` is asked for.

use std::path::PathBuf;
use std::time::Duration;

use super::super::command;
use super::super::policy::Stage;
use super::{Engine, Fault, Launch, clock, quoted, words};

/// The largest array: the default of Slurm's `MaxArraySize` is 1001.
const MAX_ARRAY: u32 = 1000;

/// How much earlier than it is told Slurm may send a signal.
const RESOLUTION: Duration = Duration::from_secs(60);

/// What is behind the name of an array's worker.
const SUFFIX: &str = r#"-"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}""#;

/// A cluster with Slurm.
pub struct Slurm {
    pub launch: Launch,
    /// Options of `sbatch`, besides those that this adds.
    pub options: Vec<String>,
    pub threads: u32,
    pub walltime: Duration,
    pub grace: Duration,
    /// The folder of the jobs' output.
    pub output: PathBuf,
    pub limit: Duration,
}

impl Slurm {
    fn run(&self, program: &str, arguments: &[String], input: &str) -> Result<String, Fault> {
        command::run(program, arguments, input, self.limit)
    }

    fn submission(&self, count: u32) -> Vec<String> {
        let own = [
            "--parsable".into(),
            format!("--job-name={}", self.launch.name),
            format!("--array=0-{}", count.saturating_sub(1)),
            "--ntasks=1".into(),
            format!("--cpus-per-task={}", self.threads),
            format!("--time={}", clock(self.walltime)),
            // Slurm would let it wait for two minutes, in the place of one that can be started at once.
            "--no-requeue".into(),
            "--open-mode=append".into(),
            format!("--output={}", self.output.join("%x-%A_%a.log").display()),
        ];
        own.into_iter().chain(self.signal()).chain(self.options.iter().cloned()).collect()
    }

    /// Has Slurm ask a worker to leave that does not know its lifetime, such as a program of the user's
    /// own: the batch shell, which it has taken the place of. Slurm may do so up to a minute earlier
    /// than it is told (`sbatch(1)`), so a short job would hardly compute.
    fn signal(&self) -> Option<String> {
        let before = self.grace.saturating_sub(RESOLUTION).as_secs().max(1);
        (self.walltime >= 5 * RESOLUTION).then(|| format!("--signal=B:TERM@{before}"))
    }

    fn batch(&self) -> String {
        let line = self.launch.line(&format!("{}{SUFFIX}", quoted(&self.launch.name)));
        format!("#!/bin/sh\n# A worker of Giostra, submitted by giostra scale slurm.\nexec {line}\n")
    }

    fn listing(&self) -> [String; 6] {
        let name = format!("--name={}", self.launch.name);
        ["--noheader".into(), "--array".into(), "--me".into(), "--states=all".into(), name, "--format=%i|%T".into()]
    }
}

impl Engine for Slurm {
    fn check(&mut self) -> Result<(), Fault> {
        std::fs::create_dir_all(&self.output)
            .map_err(|error| format!("can't make {}: {error}", self.output.display()))?;
        let test = ["--test-only".to_string()].into_iter().chain(self.submission(1)).collect::<Vec<_>>();
        self.run("sbatch", &test, &self.batch()).map(drop)
    }

    fn list(&mut self) -> Result<Vec<(String, Stage)>, Fault> {
        parse(&self.run("squeue", &self.listing(), "")?)
    }

    fn start(&mut self, count: u32) -> Result<Vec<String>, Fault> {
        let count = count.min(MAX_ARRAY);
        let said = self.run("sbatch", &self.submission(count), &self.batch())?;
        // With the cluster's name behind a semicolon, if there are several.
        let job = said.trim().split(';').next().unwrap_or_default();
        match job.parse::<u64>() {
            Ok(job) => Ok((0..count).map(|task| format!("{job}_{task}")).collect()),
            Err(_) => Err(format!("sbatch printed no job's number: {}", said.trim())),
        }
    }

    fn stop(&mut self, ids: &[String]) -> Result<(), Fault> {
        self.run("scancel", ids, "").map(drop)
    }

    fn worker(&self, id: &str) -> String {
        format!("{}-{id}", self.launch.name)
    }

    fn script(&self) -> String {
        let (submit, list) = (words(&self.submission(1)), words(&self.listing()));
        format!(
            "# start\nsbatch {submit} <<'SCRIPT'\n{}SCRIPT\n# list\nsqueue {list}\n# stop\nscancel JOB_TASK\n",
            self.batch()
        )
    }

    fn hint(&self) -> Option<String> {
        Some(format!("its output is in {}", self.output.display()))
    }
}

/// Parses a list: `JOB_TASK|STATE` a line. The states are those of `squeue(1)`.
fn parse(listed: &str) -> Result<Vec<(String, Stage)>, Fault> {
    let mut units = Vec::new();
    for line in listed.lines().filter(|line| !line.trim().is_empty()) {
        let (id, state) = line.trim().split_once('|').ok_or_else(|| format!("squeue printed '{line}'"))?;
        let stage = match state {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT"
            | "RESV_DEL_HOLD" => Stage::Queued,
            "RUNNING" | "RESIZING" | "SIGNALING" | "SUSPENDED" | "STOPPED" => Stage::Running,
            "COMPLETING" | "STAGE_OUT" => Stage::Ending,
            // Slurm remembers it for some minutes.
            _ => continue,
        };
        units.push((id.to_string(), stage));
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slurm() -> Slurm {
        let launch = Launch {
            program: vec!["/opt/giostra-worker".into()],
            options: ["--broker", "tcp://login:5556"].map(Into::into).into(),
            name: "giostra-compute".into(),
        };
        Slurm {
            launch,
            options: vec!["--partition=gpu".into()],
            threads: 4,
            walltime: Duration::from_secs(5400),
            grace: Duration::from_secs(120),
            output: "/home/me/out".into(),
            limit: command::LIMIT,
        }
    }

    #[test]
    fn the_script_becomes_the_worker_and_the_job_has_its_limits() {
        let script = slurm().script();
        let name = r#"--name giostra-compute-"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}""#;
        assert!(script.contains(&format!("\nexec /opt/giostra-worker {name} --broker tcp://login:5556\n")), "{script}");
        for option in ["--time=1:30:00", "--cpus-per-task=4", "--signal=B:TERM@60", "--partition=gpu", "--array=0-0"] {
            assert!(script.contains(option), "{option}: {script}");
        }
    }

    #[test]
    fn jobs_are_listed_by_task_and_those_that_have_ended_are_not() {
        let listed = "12_0|RUNNING\n12_1|PENDING\n12_2|COMPLETING\n12_3|COMPLETED\n12_4|NODE_FAIL\n12_5|REQUEUED\n\n";
        let expected =
            [("12_0", Stage::Running), ("12_1", Stage::Queued), ("12_2", Stage::Ending), ("12_5", Stage::Queued)];
        assert_eq!(parse(listed).unwrap(), expected.map(|(id, stage)| (id.to_string(), stage)));
        assert!(parse("slurm_load_jobs error").is_err());
    }
}
