//! The options of the batch systems, whose jobs have a time limit.

use std::path::PathBuf;
use std::time::Duration;

use giostra_common::args::duration;

use super::Shared;

/// The options of every batch system.
#[derive(Clone, Debug, clap::Args)]
pub struct Jobs {
    /// Time limit of each job. A worker leaves before, with time to finish what it holds
    #[arg(long, default_value = "1h", value_parser = walltime, value_name = "DURATION")]
    pub walltime: Duration,

    /// Time to finish what it holds [default: 2m, but at most a quarter of --walltime]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub grace: Option<Duration>,

    /// Folder of the jobs' output, which all hosts reach [default: giostra/scale in $XDG_STATE_HOME, or in
    /// ~/.local/state]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// The options of `giostra scale slurm`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options")]
pub struct Slurm {
    #[command(flatten)]
    pub jobs: Jobs,

    /// Partition
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,

    /// Account
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,

    /// Quality of service
    #[arg(long, value_name = "NAME")]
    pub qos: Option<String>,

    /// GPUs of each worker, as sbatch --gpus takes them: 1, or a100:2
    #[arg(long, value_name = "[TYPE:]N")]
    pub gpus: Option<String>,

    /// Memory of each worker, as sbatch --mem takes it
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,

    /// Further option of sbatch, such as --constraint=icelake. May be repeated
    #[arg(long = "sbatch", allow_hyphen_values = true, value_name = "OPTION")]
    pub sbatch: Vec<String>,

    #[command(flatten)]
    pub shared: Shared,
}

/// The options of `giostra scale pbs`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options")]
pub struct Pbs {
    #[command(flatten)]
    pub jobs: Jobs,

    /// Queue, as qsub -q takes it
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,

    /// Account, as qsub -A takes it
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,

    /// Project, as qsub -P takes it
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,

    /// GPUs of each worker: ngpus of its chunk
    #[arg(long, value_name = "N")]
    pub gpus: Option<u32>,

    /// Memory of each worker, such as 32gb: mem of its chunk
    #[arg(long, value_parser = resource, value_name = "SIZE")]
    pub mem: Option<String>,

    /// Further resources of its chunk, such as model=rome:scratch=10gb
    #[arg(long, value_parser = resource, value_name = "NAME=VALUE[:..]")]
    pub select: Option<String>,

    /// Further option of qsub, such as -lplace=excl. May be repeated
    #[arg(long = "qsub", allow_hyphen_values = true, value_name = "OPTION")]
    pub qsub: Vec<String>,

    #[command(flatten)]
    pub shared: Shared,
}

impl Jobs {
    /// How long a worker has to finish what it holds.
    pub fn grace(&self) -> Duration {
        self.grace.unwrap_or((self.walltime / 4).min(Duration::from_secs(120)))
    }

    /// The age at which a worker leaves: it is there a moment after its job has begun.
    ///
    /// # Errors
    /// If the walltime leaves it no time to compute.
    pub fn lifetime(&self) -> Result<Duration, String> {
        let margin = self.grace() + (self.walltime / 20).min(Duration::from_secs(30));
        match self.walltime.checked_sub(margin) {
            Some(lifetime) if lifetime >= self.walltime / 4 => Ok(lifetime),
            _ => Err(format!("--grace {:?} leaves too little of --walltime {:?}", self.grace(), self.walltime)),
        }
    }
}

impl Slurm {
    /// The options of `sbatch`.
    pub fn options(&self) -> Vec<String> {
        let named = [
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
            ("gpus", &self.gpus),
            ("mem", &self.mem),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        named.chain(self.sbatch.iter().cloned()).collect()
    }
}

impl Pbs {
    /// The one chunk of a job, with a CPU for each of `threads`.
    pub fn chunk(&self, threads: u32) -> String {
        let ncpus = Some(format!("1:ncpus={threads}"));
        let ngpus = self.gpus.map(|gpus| format!("ngpus={gpus}"));
        let mem = self.mem.as_ref().map(|mem| format!("mem={mem}"));
        [ncpus, ngpus, mem, self.select.clone()].into_iter().flatten().collect::<Vec<_>>().join(":")
    }

    /// The options of `qsub`, but for the queue and the resources.
    pub fn options(&self) -> Vec<String> {
        let named = [("-A", &self.account), ("-P", &self.project)];
        let named = named.into_iter().filter_map(|(name, value)| Some([name.to_string(), value.clone()?]));
        named.flatten().chain(self.qsub.iter().cloned()).collect()
    }
}

/// Parses a time limit that batch systems can tell: Slurm counts in minutes.
fn walltime(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_secs(60) => Err("it must be at least a minute".into()),
        long => Ok(long),
    }
}

/// Checks a part of a chunk: a worker is one, and `+` would begin another.
fn resource(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| "+,".contains(c) || c.is_whitespace()) {
        return Err("these are resources of one chunk, with a colon between them".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::super::Scale;

    fn parse(line: &str) -> Result<Scale, clap::Error> {
        let words = ["giostra", "scale"].into_iter().chain(line.split_whitespace());
        let args = <crate::args::Args as clap::Parser>::try_parse_from(words)?;
        let Some(crate::args::Command::Scale(scale)) = args.command else { panic!("{line}") };
        Ok(scale)
    }

    #[test]
    fn a_worker_leaves_before_its_walltime_with_time_to_finish() {
        let lifetime = |line: &str| {
            let Scale::Slurm(slurm) = parse(&format!("slurm --max 1 {line}")).unwrap() else { panic!("{line}") };
            (slurm.jobs.lifetime().map(|lifetime| lifetime.as_secs()), slurm.jobs.grace().as_secs())
        };
        assert_eq!(lifetime(""), (Ok(3450), 120));
        assert_eq!(lifetime("--walltime 1m"), (Ok(42), 15));
        assert_eq!(lifetime("--walltime 2m --grace 10s"), (Ok(104), 10));
        assert!(lifetime("--walltime 2m --grace 100s").0.is_err());
    }

    #[test]
    fn a_worker_of_pbs_is_one_chunk_with_what_it_needs() {
        let pbs = |line: &str| {
            let Scale::Pbs(pbs) = parse(&format!("pbs --max 1 {line}"))? else { panic!("{line}") };
            Ok::<_, clap::Error>((pbs.chunk(pbs.shared.threads), pbs.options().join(" ")))
        };
        assert_eq!(pbs("").unwrap(), ("1:ncpus=1".into(), String::new()));
        let line =
            "--threads 8 --gpus 2 --mem 32gb --select model=rome:scratch=1gb --account a --project p --qsub=-lx=1";
        let chunk = "1:ncpus=8:ngpus=2:mem=32gb:model=rome:scratch=1gb";
        assert_eq!(pbs(line).unwrap(), (chunk.into(), "-A a -P p -lx=1".into()));
        for wrong in ["--select 1+2", "--mem 1gb,walltime=9:00", "--gpus many"] {
            assert!(pbs(wrong).is_err(), "{wrong}");
        }
    }
}
