//! The options of `giostra scale`.

mod jobs;

use std::path::PathBuf;
use std::time::Duration;

use giostra_common::args::{duration, positive_duration};
use giostra_protocol::MAX_THREADS;
use giostra_transport::endpoint::{Endpoint, parse_to_connect};

use super::help;
pub use jobs::{Jobs, Pbs, Slurm};

/// The longest name of jobs: a number goes behind it, and both are a worker's name.
const MAX_NAME: usize = 40;

/// An engine.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scale {
    /// Workers on this host
    #[command(after_help = help::LOCAL)]
    Local(Local),
    /// Workers on other hosts, over ssh and a tunnel: the broker may listen on this host alone
    #[command(after_help = help::SSH)]
    Ssh(Ssh),
    /// Workers as jobs of Slurm
    #[command(after_help = help::SLURM)]
    Slurm(Slurm),
    /// Workers as jobs of OpenPBS or PBS Professional
    #[command(after_help = help::PBS)]
    Pbs(Pbs),
    /// Workers by three commands of your own: to start, to list, to stop
    #[command(after_help = help::CUSTOM)]
    Custom(Custom),
}

/// The options of `giostra scale local`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options")]
pub struct Local {
    #[command(flatten)]
    pub shared: Shared,
}

/// The options of `giostra scale ssh`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options")]
pub struct Ssh {
    /// A host, as ssh takes it, and the most workers there: HOST or HOST:N. May be repeated
    #[arg(long = "host", required_unless_present = "hosts", value_parser = place, value_name = "HOST[:N]")]
    pub host: Vec<Place>,

    /// A file with a host a line: HOST, or HOST N; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub hosts: Option<PathBuf>,

    /// Copy giostra-worker there first, to ~/.cache/giostra; without it, it has to be in PATH there
    #[arg(long, conflicts_with = "worker")]
    pub push: bool,

    /// Further option of ssh, such as -o Port=2222 or -F FILE. May be repeated
    #[arg(long, allow_hyphen_values = true, value_name = "OPTION")]
    pub ssh_option: Vec<String>,

    #[command(flatten)]
    pub shared: Shared,
}

/// The options of `giostra scale custom`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options")]
pub struct Custom {
    /// Shell command that starts a worker, and returns: {command} is the worker's command line, {name} its
    /// name
    #[arg(long, value_name = "COMMAND")]
    pub start: String,

    /// Shell command that lists the workers: a name a line, and behind it queued, running or ending
    #[arg(long, value_name = "COMMAND")]
    pub list: String,

    /// Shell command that has the worker {name} end, with SIGTERM if it runs
    #[arg(long, value_name = "COMMAND")]
    pub stop: String,

    #[command(flatten)]
    pub shared: Shared,
}

/// The options of every engine.
#[derive(Clone, Debug, clap::Args)]
pub struct Shared {
    /// Fewest workers, also without requests
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub min: u32,

    /// Most workers
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub max: u32,

    /// Requests that each worker computes at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)), value_name = "N")]
    pub threads: u32,

    /// Start so many that what waits is computed within this time, where --max allows it
    #[arg(long, default_value = "1m", value_parser = positive_duration, value_name = "DURATION")]
    pub horizon: Duration,

    /// End workers only after fewer were needed for this long
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "DURATION")]
    pub cool_down: Duration,

    /// How often to look
    #[arg(long, default_value = "5s", value_parser = positive_duration, value_name = "DURATION")]
    pub interval: Duration,

    /// Time limit of each command of the engine
    #[arg(long, default_value = "1m", value_parser = positive_duration, value_name = "DURATION")]
    pub command_timeout: Duration,

    /// Name of the engine's jobs, and beginning of the workers' names: one giostra scale has each
    /// [default: giostra-POOL]
    #[arg(long, value_parser = plain, value_name = "NAME")]
    pub name: Option<String>,

    /// Where the workers reach the broker
    #[arg(long, env = "GIOSTRA_BACKEND", default_value = "tcp://127.0.0.1:5556", value_parser = parse_to_connect, value_name = "ENDPOINT")]
    pub backend: String,

    /// File of the workers' secret key, as they reach it, for a broker with keys
    #[arg(long, env = "GIOSTRA_WORKER_KEYS", value_name = "FILE")]
    pub worker_keys: Option<PathBuf>,

    /// Program to run instead of giostra-worker, such as 'python3 -m giostra worker tasks:worker'
    #[arg(long, value_name = "COMMAND")]
    pub worker: Option<String>,

    /// Say once what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print the commands and scripts for the engine, and do nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub print: bool,

    /// Further options of the workers, such as -- --exec 'python3 score.py'
    #[arg(last = true, value_name = "OPTION")]
    pub worker_options: Vec<String>,
}

/// A host with the most workers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub host: String,
    pub most: u32,
}

impl Scale {
    /// Returns the options of every engine.
    pub fn shared(&self) -> &Shared {
        match self {
            Self::Local(Local { shared })
            | Self::Ssh(Ssh { shared, .. })
            | Self::Slurm(Slurm { shared, .. })
            | Self::Pbs(Pbs { shared, .. })
            | Self::Custom(Custom { shared, .. }) => shared,
        }
    }
}

impl Shared {
    /// Returns the name of the engine's jobs.
    ///
    /// # Errors
    /// If it is to be that of the pool, and engines could not take it.
    pub fn name(&self, pool: &str) -> Result<String, String> {
        let of_pool = || plain(&format!("giostra-{pool}")).map_err(|wrong| format!("{wrong}; say another --name"));
        self.name.clone().map_or_else(of_pool, Ok)
    }

    /// The time after which a worker without requests ends by itself. Long enough that this program,
    /// which also knows what is about to come, is mostly first.
    pub fn idle_timeout(&self) -> Duration {
        2 * self.cool_down + Duration::from_secs(60)
    }

    /// Returns the endpoint of the broker's backend.
    pub fn endpoint(&self) -> Option<Endpoint> {
        Endpoint::to_connect(&self.backend).ok()
    }
}

/// Checks a name that is one to shells, file systems and batch systems alike.
fn plain(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with(['.', '-']) || !name.chars().all(fits) {
        return Err(format!(
            "'{name}' is no name for jobs: these have up to {MAX_NAME} letters, digits, '_', '-' and '.'"
        ));
    }
    Ok(name.into())
}

/// Parses `HOST` or `HOST:N`.
fn place(text: &str) -> Result<Place, String> {
    let (host, most) = match text.rsplit_once(':') {
        // Not the last part of an address of version 6.
        Some((host, most)) if !host.contains(':') => (host, most.parse().ok().filter(|&most| most > 0)),
        _ => (text, Some(1)),
    };
    let most = most.ok_or_else(|| format!("'{text}' is no host: write HOST, or HOST:N with N workers at most"))?;
    if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
        return Err(format!("'{host}' is no host"));
    }
    Ok(Place { host: host.into(), most })
}

/// Parses a file with a host a line.
///
/// # Errors
/// If a line is none: which.
pub fn places(text: &str) -> Result<Vec<Place>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default()));
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let read = |(at, line): (usize, &str)| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [host] => place(host),
            [host, most] => place(&format!("{host}:{most}")),
            _ => Err(format!("'{}' is no host", line.trim())),
        }
        .map_err(|wrong| format!("line {at}: {wrong}"))
    };
    lines.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_names_that_no_shell_and_no_engine_reads_otherwise() {
        assert_eq!(plain("giostra-compute_2.b").unwrap(), "giostra-compute_2.b");
        let long = "x".repeat(41);
        for wrong in ["", "-x", ".x", "a/b", "a,b", "a b", "a%j", "a'b", "é", &long] {
            assert!(plain(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_have_a_number_of_workers_or_one() {
        let place = |host: &str, most| Place { host: host.into(), most };
        let text = "# two\nnode1\n user@node2  8 # large\n\nfe80::1\n";
        assert_eq!(places(text).unwrap(), [place("node1", 1), place("user@node2", 8), place("fe80::1", 1)]);
        for (wrong, line) in [("a b c", 1), ("a\nb zero", 2), ("a 0", 1), ("-oProxyCommand=x", 1)] {
            assert!(places(wrong).unwrap_err().starts_with(&format!("line {line}: ")), "{wrong}");
        }
    }
}
