//! OpenPBS and PBS Professional: a job for each worker.
//!
//! Not an array: arrays are always rerunnable (`qsub(1B)`), so what PBS would start again at its own
//! time could not be told from what is started here. What is read of PBS is what it prints for programs:
//! the ids that `qsub` and `qselect` print, and exit statuses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::command;
use super::super::policy::Stage;
use super::{Engine, Fault, Launch, clock, quoted, words};

/// The most jobs that are submitted in a row: each is a command, and the broker's state grows old
/// meanwhile.
const MAX_AT_ONCE: u32 = 100;

/// What is behind the name of a job's worker: the id without the server's name.
const SUFFIX: &str = r#"-"${PBS_JOBID%%.*}""#;

/// The states of `qselect -s`, in the order in which a job goes through them: one that goes on while
/// they are asked for is listed twice, and never left out.
const STAGES: [(&str, Stage); 3] = [("HQTW", Stage::Queued), ("RSU", Stage::Running), ("E", Stage::Ending)];

/// A cluster with PBS.
pub struct Pbs {
    pub launch: Launch,
    pub queue: Option<String>,
    /// The resources of a worker, as `-l select` takes them.
    pub chunk: String,
    /// Options of `qsub`, besides those that this adds.
    pub options: Vec<String>,
    pub walltime: Duration,
    /// The folder of the jobs' output.
    pub output: PathBuf,
    /// Whose jobs they are.
    pub user: String,
    pub limit: Duration,
}

impl Pbs {
    fn run(&self, program: &str, arguments: &[String]) -> Result<String, Fault> {
        command::run(program, arguments, "", self.limit)
    }

    fn submission(&self) -> Vec<String> {
        let select = format!("select={}", self.chunk);
        let walltime = format!("walltime={}", clock(self.walltime));
        // A folder, since it ends with a slash: the file is called after the job.
        let output = format!("{}/", self.output.display());
        let mut words: Vec<String> = [
            // Else a process stays behind that keeps the connection for the next one.
            &["-f", "-N", &self.launch.name, "-l", &select, "-l", &walltime][..],
            // Another one is started here. Nobody wants a mail for each.
            &["-r", "n", "-m", "n"],
            // Written where it is to be, where PBS can, and not copied there at the end.
            &["-j", "oe", "-k", "oed", "-o", &output],
        ]
        .concat()
        .into_iter()
        .map(String::from)
        .collect();
        words.extend(self.queue.iter().flat_map(|queue| ["-q".into(), queue.clone()]));
        words.extend(self.options.iter().cloned());
        // A script would run in a shell inside the user's login shell, whose end PBS takes for the job's.
        // This becomes the worker, which hears PBS's signals itself.
        let line = self.launch.line(&format!("{}{SUFFIX}", quoted(&self.launch.name)));
        words.extend(["--".into(), "/bin/sh".into(), "-c".into(), format!("exec {line}")]);
        words
    }

    fn listing(&self, states: &str) -> Vec<String> {
        ["-N", &self.launch.name, "-u", &self.user, "-s", states].map(String::from).into()
    }

    /// Submits a job. Returns its id.
    fn submit(&self) -> Result<String, Fault> {
        let said = self.run("qsub", &self.submission())?;
        let id = said.trim();
        if sequence(id).is_empty() || !sequence(id).bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("qsub printed no job's id: {id}"));
        }
        Ok(id.into())
    }
}

impl Engine for Pbs {
    /// PBS has nothing like `sbatch --test-only`. What it says to the first job is told then.
    fn check(&mut self) -> Result<(), Fault> {
        std::fs::create_dir_all(&self.output)
            .map_err(|error| format!("can't make {}: {error}", self.output.display()))?;
        if let Some(queue) = &self.queue {
            self.run("qstat", &["-Q".into(), queue.clone()])?;
        }
        self.list().map(drop)
    }

    fn list(&mut self) -> Result<Vec<(String, Stage)>, Fault> {
        let mut units = BTreeMap::new();
        for (states, stage) in STAGES {
            let listed = self.run("qselect", &self.listing(states))?;
            units.extend(listed.split_whitespace().map(|id| (id.to_string(), stage)));
        }
        let mut units: Vec<_> = units.into_iter().collect();
        // The oldest first: of numbers, the shorter one is less.
        units.sort_by_cached_key(|(id, _)| (sequence(id).len(), id.clone()));
        Ok(units)
    }

    fn start(&mut self, count: u32) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::new();
        for _ in 0..count.min(MAX_AT_ONCE) {
            match self.submit() {
                Ok(id) => ids.push(id),
                Err(fault) if ids.is_empty() => return Err(fault),
                // The next time it is said.
                Err(_) => break,
            }
        }
        Ok(ids)
    }

    fn stop(&mut self, ids: &[String]) -> Result<(), Fault> {
        let Err(fault) = self.run("qdel", ids) else { return Ok(()) };
        // It fails if one of them has ended meanwhile, and deletes the others all the same.
        let left = self.list()?;
        let waits = |id: &String| left.iter().any(|(left, stage)| left == id && *stage == Stage::Queued);
        if ids.iter().any(waits) { Err(fault) } else { Ok(()) }
    }

    fn worker(&self, id: &str) -> String {
        format!("{}-{}", self.launch.name, sequence(id))
    }

    fn script(&self) -> String {
        let lists = STAGES.map(|(states, _)| format!("qselect {}\n", words(&self.listing(states)))).concat();
        format!("# start\nqsub {}\n# list\n{lists}# stop\nqdel JOB\n", words(&self.submission()))
    }

    fn hint(&self) -> Option<String> {
        Some(format!("its output is in {}", self.output.display()))
    }
}

/// Returns a job's number: its id without the server's name.
fn sequence(id: &str) -> &str {
    id.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pbs() -> Pbs {
        let launch = Launch {
            program: vec!["/opt/giostra-worker".into()],
            options: ["--broker", "tcp://login:5556", "--exec", "python3 'a b'.py"].map(Into::into).into(),
            name: "giostra-compute".into(),
        };
        Pbs {
            launch,
            queue: Some("gpu".into()),
            chunk: "1:ncpus=4:mem=2gb".into(),
            options: vec!["-lplace=excl".into()],
            walltime: Duration::from_secs(5400),
            output: "/home/me/out".into(),
            user: "me".into(),
            limit: command::LIMIT,
        }
    }

    #[test]
    fn the_job_becomes_the_worker_and_has_its_limits() {
        let submission = pbs().submission();
        let name = r#"--name giostra-compute-"${PBS_JOBID%%.*}""#;
        let line = format!(r#"exec /opt/giostra-worker {name} --broker tcp://login:5556 --exec "python3 'a b'.py""#);
        assert_eq!(submission[submission.len() - 4..], ["--", "/bin/sh", "-c", &line]);
        let own = submission.join(" ");
        for option in ["-l select=1:ncpus=4:mem=2gb -l walltime=1:30:00", "-q gpu", "-o /home/me/out/", "-lplace=excl"]
        {
            assert!(own.contains(option), "{option}: {own}");
        }
    }

    #[test]
    fn a_worker_is_called_after_its_job_whatever_server_it_is_of() {
        let pbs = pbs();
        assert_eq!(pbs.worker("1234.pbs01.example.org"), "giostra-compute-1234");
        assert_eq!(pbs.worker("1234"), "giostra-compute-1234");
    }
}
