//! The command line of a worker: that of `giostra-worker`, but for what it computes; for workers of
//! one's own, too.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use giostra_common::args::{duration, parse};
use giostra_common::log::Log;
use giostra_protocol::{DEFAULT_POOL, MAX_THREADS, name};
use giostra_transport::endpoint::parse_to_connect;
use giostra_transport::keys::{Credentials, KeyError};
use giostra_worker::Options;
use log::LevelFilter;

/// Computes what the broker hands out. Registers by itself, also after the broker's restart.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// The broker's backend
    #[arg(long, env = "GIOSTRA_BACKEND", default_value = "tcp://127.0.0.1:5556", value_parser = parse_to_connect, value_name = "ENDPOINT")]
    broker: String,

    /// What the broker's log calls this worker [default: HOST-PID]
    #[arg(long, env = "GIOSTRA_NAME", value_parser = name::parse)]
    name: Option<String>,

    /// Whose requests to compute
    #[arg(long, env = "GIOSTRA_POOL", default_value = DEFAULT_POOL, value_parser = name::parse)]
    pool: String,

    /// Requests to compute at once
    #[arg(long, env = "GIOSTRA_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)), value_name = "N")]
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
}

impl Args {
    /// That of this process. Ends it after `--help`, and if the command line is wrong.
    pub fn of_process() -> Self {
        parse()
    }

    /// Has what the crate `log` is told logged to stderr, as far as `--log-level` says: the
    /// library's lines and the operations' own. Until the process ends. Once a process; who has
    /// a logger of their own leaves it.
    ///
    /// # Errors
    /// If there is a logger already.
    pub fn log_to_stderr(&self) -> io::Result<()> {
        // Each line is written at once if it can be; for those that can't, `serve` waits at its end.
        Log::to_stderr(self.log_level).map(std::mem::forget).map_err(io::Error::other)
    }

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
