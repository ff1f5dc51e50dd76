//! The command line of `giostra-worker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use giostra_common::args::duration;
use giostra_common::keys::{Credentials, KeyError};
use giostra_common::manual::Manual;
use giostra_common::name;
use giostra_common::protocol::DEFAULT_POOL;
use log::LevelFilter;

use crate::Options;
use crate::exec::args::ExecArgs;

const EXAMPLES: &str = "\
Examples:
  giostra-worker                           one thread, the broker on this host
  giostra-worker --name worker-4 --threads 8
  giostra-worker --threads 8 --window 8    long computations: hold only what is
                                           being computed
  giostra-worker --broker tcp://127.0.0.1:7002 --pool nightly
  giostra-worker --broker tcp://compute:5556 --keys worker-1.key_secret \\
      --broker-key broker.key
  giostra-worker --exec factor             any program as an operation: a
                                           process for each request
  giostra-worker --exec 'convert - -resize {1} png:-' --operation thumbnail \\
      --threads 4 --time-limit 30s         words in their places, bytes to stdin
  giostra-worker --exec 'python3 score.py' --json
                                           a JSON list on stdin, JSON on stdout
  giostra-worker --exec-lines 'python3 -u model.py' --json
                                           the same line by line, with a process
                                           for each thread that stays
  source <(giostra-worker --completions bash)
                                           see giostra completions --help

Operations: add sub mul div pow gcd (two numbers); sqrt is_prime primes fib sleep (one); echo (bytes). One's own operations: see the \
library giostra-worker. With --exec or --exec-lines there is one, COMMAND's, and no others.

Programs: No shell reads COMMAND or what a request puts into it; who wants one says so: --exec 'sh -c \"sort | uniq -c\" sh'. Each process has a \
process group of its own, and what is left of that ends with the request, the time limit, the client that leaves or the worker. An exit status \
other than 0 makes an error reply. GIOSTRA_OPERATION, GIOSTRA_WORKER and GIOSTRA_THREAD (from 0) are in its environment. More: docs/exec.md.

Signals: SIGINT or SIGTERM finishes what the worker has (see --grace) and leaves; a second one exits at once.

Exit status: 0 after leaving; 1 if the broker refused the worker or its key, or COMMAND can't be run; 2 for a wrong command line.";

/// Computes what the broker hands out. Registers by itself, also after the broker's restart.
#[derive(Clone, Debug, Parser)]
#[command(name = "giostra-worker", version, after_help = EXAMPLES)]
pub struct Args {
    /// The broker's backend
    #[arg(long, env = "GIOSTRA_BACKEND", default_value = "tcp://127.0.0.1:5556", value_name = "ENDPOINT")]
    broker: String,

    /// What the broker's log calls this worker [default: worker-PID]
    #[arg(long, env = "GIOSTRA_NAME", value_parser = name::parse)]
    name: Option<String>,

    /// Whose requests to compute
    #[arg(long, env = "GIOSTRA_POOL", default_value = DEFAULT_POOL, value_parser = name::parse)]
    pool: String,

    /// Requests to compute at once
    #[arg(long, env = "GIOSTRA_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "N")]
    threads: u32,

    /// The most requests to hold, computing and waiting [default: as many as the broker gives]
    #[arg(long, env = "GIOSTRA_WORKER_WINDOW", value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    window: Option<u32>,

    /// After a signal, how long to go on with what is left
    #[arg(long, env = "GIOSTRA_WORKER_GRACE", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    grace: Duration,

    /// Its own secret certificate, for a broker with keys (giostra keys new)
    #[arg(long, env = "GIOSTRA_WORKER_KEYS", requires = "broker_key", value_name = "FILE")]
    keys: Option<PathBuf>,

    /// The broker's public key, or the file of its public certificate
    #[arg(long, env = "GIOSTRA_BROKER_KEY", requires = "keys", allow_hyphen_values = true, value_name = "KEY|FILE")]
    broker_key: Option<String>,

    /// What is logged, to stderr
    #[arg(long, env = "GIOSTRA_LOG_LEVEL", default_value = "info", value_name = "off|error|warn|info|debug")]
    log_level: LevelFilter,

    /// What is printed instead.
    #[command(flatten)]
    pub manual: Manual,

    /// What computes instead of the ready operations. The last, since its heading goes on.
    #[command(flatten)]
    pub exec: ExecArgs,
}

impl Args {
    /// What the worker needs to know. An error if the keys can't be read.
    pub fn options(&self) -> Result<Options, KeyError> {
        let defaults = Options::default();
        Ok(Options {
            broker: self.broker.clone(),
            name: self.name.clone().unwrap_or(defaults.name),
            pool: self.pool.clone(),
            threads: self.threads as usize,
            window: self.window.unwrap_or(0),
            grace: self.grace,
            credentials: Credentials::from_flags(self.keys.as_deref(), self.broker_key.as_deref())?,
        })
    }

    /// What is logged.
    pub fn log_level(&self) -> LevelFilter {
        self.log_level
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }
}
