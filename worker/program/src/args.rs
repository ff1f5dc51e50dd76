//! The command line of a worker, except for what it computes: that of `giostra-worker`, also for
//! workers of one's own.

use std::io;
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::Parser;
use giostra_common::args::{duration, positive_duration};
use giostra_common::config::{ConfigArgs, parse};
use giostra_common::log::{Format, Log, set_format};
use giostra_protocol::{DEFAULT_POOL, MAX_THREADS, name};
use giostra_transport::endpoint::parse_list_to_connect;
use giostra_transport::keys::{Credentials, KeyError};
use giostra_worker::Options;
use log::LevelFilter;

/// Computes the requests that the broker dispatches. Registers again after the broker's restart.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Endpoint of the broker's backend; of several brokers, which it all serves, a list with commas
    #[arg(long, env = "GIOSTRA_BACKEND", default_value = "tcp://127.0.0.1:5556", value_parser = parse_list_to_connect, value_name = "ENDPOINT")]
    broker: String,

    /// Name in the broker's log and status [default: HOST-PID]
    #[arg(long, env = "GIOSTRA_NAME", value_parser = name::parse)]
    name: Option<String>,

    /// Name of this machine in the broker's status [default: its host name]
    #[arg(long, env = "GIOSTRA_HOST", value_parser = name::parse)]
    host: Option<String>,

    /// Pool whose requests to compute
    #[arg(long, env = "GIOSTRA_POOL", default_value = DEFAULT_POOL, value_parser = name::parse)]
    pool: String,

    /// Number of requests to compute at once
    #[arg(long, env = "GIOSTRA_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)), value_name = "N")]
    threads: u32,

    /// Most requests to hold, computing and waiting [default: up to the broker]
    #[arg(long, env = "GIOSTRA_WORKER_WINDOW", value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    window: Option<u32>,

    /// Time after a signal to finish the requests that are held
    #[arg(long, env = "GIOSTRA_WORKER_GRACE", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    grace: Duration,

    /// Leave after this time, as after a signal: before a batch system's limit, minus --grace
    #[arg(long, env = "GIOSTRA_WORKER_LIFETIME", value_parser = positive_duration, value_name = "DURATION")]
    lifetime: Option<Duration>,

    /// Leave up to this much earlier, by chance, so that workers started together do not leave together
    /// [default: a tenth of --lifetime]
    #[arg(long, env = "GIOSTRA_WORKER_LIFETIME_STAGGER", requires = "lifetime", value_parser = duration, value_name = "DURATION")]
    lifetime_stagger: Option<Duration>,

    /// Leave after this time without a request, also if there is no broker
    #[arg(long, env = "GIOSTRA_WORKER_IDLE_TIMEOUT", value_parser = positive_duration, value_name = "DURATION")]
    idle_timeout: Option<Duration>,

    /// File of this worker's secret certificate, for a broker with keys (giostra keys new)
    #[arg(long, env = "GIOSTRA_WORKER_KEYS", requires = "broker_key", value_name = "FILE")]
    keys: Option<PathBuf>,

    /// The broker's public key, or the file of its public certificate; of several a list in the same order
    #[arg(long, env = "GIOSTRA_BROKER_KEY", requires = "keys", allow_hyphen_values = true, value_name = "KEY|FILE")]
    broker_key: Option<String>,

    /// Log level, to stderr
    #[arg(long, env = "GIOSTRA_LOG_LEVEL", default_value = "info", value_name = "off|error|warn|info|debug")]
    log_level: LevelFilter,

    /// Form of log lines: text, or a JSON object for each line
    #[arg(
        long,
        env = "GIOSTRA_LOG_FORMAT",
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json"
    )]
    log_format: Format,

    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl Args {
    /// Parses the command line of this process, and the file of `--config`. Ends the process after
    /// `--help` and `--config-check`, and if one of them is wrong.
    pub fn of_process() -> Self {
        let (args, settings) = parse::<Self>();
        if args.config.config_check {
            exit(settings.report(args.options().map(drop)).into());
        }
        args
    }

    /// Installs a logger that writes the lines of crate `log` to stderr, those of `--log-level` and
    /// above, as `--log-format` says, until the process ends. A worker with a logger of its own does
    /// not call this.
    ///
    /// # Errors
    /// If there is a logger already.
    pub fn log_to_stderr(&self) -> io::Result<()> {
        set_format(self.log_format);
        // A line is mostly written at once. `serve` waits for the others at its end.
        Log::to_stderr(self.log_level).map(std::mem::forget).map_err(io::Error::other)
    }

    /// Returns the worker's options.
    ///
    /// # Errors
    /// If the keys can't be read.
    pub fn options(&self) -> Result<Options, KeyError> {
        let defaults = Options::default();
        Ok(Options {
            broker: self.broker.clone(),
            name: self.name.clone().unwrap_or(defaults.name),
            host: self.host.clone().unwrap_or(defaults.host),
            pool: self.pool.clone(),
            threads: self.threads as usize,
            window: self.window.unwrap_or(0),
            grace: self.grace,
            lifetime: self.lifetime,
            lifetime_stagger: self.lifetime_stagger.or(self.lifetime.map(|it| it / 10)).unwrap_or_default(),
            idle_timeout: self.idle_timeout,
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
