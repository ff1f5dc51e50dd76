//! The command line of `giostra-broker`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytesize::ByteSize;
use clap::Parser;
use giostra_common::args::{EndWith, duration, positive_duration, switch};
use giostra_common::config::ConfigArgs;
use giostra_common::log::{Format as LogFormat, Log, Rotation as LogRotation};
use giostra_common::manual::Manual;
use giostra_core::config::Settings;
use giostra_core::policy::rotation::Rotation;
use giostra_protocol::{MAX_BATCH, MAX_MESSAGE_BYTES};
use giostra_transport::endpoint::{Endpoint, parse_to_bind};
use giostra_transport::keys::KeyPair;
use log::LevelFilter;

use crate::options::{Keys, Options};

const EXAMPLES: &str = "\
Examples:
  giostra-broker                           for clients and workers on this host
  giostra-broker --frontend tcp://127.0.0.1:7001 --backend tcp://127.0.0.1:7002
  giostra-broker --log-dir /var/log/giostra
  giostra-broker --store /var/lib/giostra  with durable jobs: see giostra submit --help
  giostra-broker --http 127.0.0.1:8080     with a live page, and metrics for
                                           Prometheus
  giostra-broker --ping-interval 200ms     notice a frozen worker within 0.8 s
                                           instead of 4 s
  giostra-broker --rotation available      long computations of unequal length, or
                                           on unequal machines
  giostra-broker --config broker.toml --config-check
                                           what a file and the environment set
  giostra-broker --frontend 'tcp://127.0.0.1:*'
                                           a port that the system picks; the
                                           first log line names it
  giostra-broker --frontend 'tcp://*:5555' --backend 'tcp://*:5556' \\
      --keys keys/broker.key_secret --allow keys/allow
                                           for other hosts: see docs/security.md,
                                           and giostra keys --help
  source <(giostra-broker --completions bash)
                                           see giostra completions --help

Environment: An option that names a variable takes its value from there if it is not given. GIOSTRA_INSECURE and GIOSTRA_HTTP_PUBLIC are switches: 1, true, yes or \
on; 0, false, no, off or empty.

Configuration: A file for --config is in TOML. Its keys are the options' names without dashes in front: ping-interval = \"200ms\", window = 64, \
insecure = true, http-host = [\"a\", \"b\"]. The command line goes before the environment, the environment before the file. The file is \
read once, at the start. More: docs/operations.md.

Signals: SIGINT or SIGTERM finishes what is in flight (see --grace) and exits; a second one exits at once. SIGHUP reads --allow again at once and \
drops peers whose key is gone, which a change of the folder does in a second or two; not --config. SIGUSR1 begins a new log file if the current one was moved away, as by logrotate. SIGINT and SIGTERM stay ignored \
if they were at the start; SIGUSR2 and SIGALRM do nothing.

Exit status: 0 after a signal; 1 if the broker could not start; 2 for a wrong command line or configuration file, or if --config-check finds anything wrong.";

/// Hands clients' requests to workers in strict rotation, and a lost worker's requests to others.
#[derive(Clone, Debug, Parser)]
#[command(name = "giostra-broker", version, after_help = EXAMPLES)]
pub struct Args {
    /// Endpoint for clients
    #[arg(long, env = "GIOSTRA_FRONTEND", default_value = "tcp://127.0.0.1:5555", value_parser = parse_to_bind, value_name = "ENDPOINT")]
    frontend: Endpoint,

    /// Endpoint for workers
    #[arg(long, env = "GIOSTRA_BACKEND", default_value = "tcp://127.0.0.1:5556", value_parser = parse_to_bind, value_name = "ENDPOINT")]
    backend: Endpoint,

    /// The broker's secret certificate (giostra keys new). With it, peers need keys, too, and
    /// everything is encrypted
    #[arg(long, env = "GIOSTRA_BROKER_KEYS", requires = "allow", value_name = "FILE")]
    keys: Option<PathBuf>,

    /// Folder of the allowed public certificates, in client/, worker/ and admin/ (giostra keys
    /// allow)
    #[arg(long, env = "GIOSTRA_ALLOW", requires = "keys", value_name = "DIR")]
    allow: Option<PathBuf>,

    /// Allow endpoints that other hosts can reach, without keys: anyone who reaches them is served,
    /// in clear text
    #[arg(long, env = "GIOSTRA_INSECURE", value_parser = switch)]
    insecure: bool,

    /// Maximum connections from one address to each endpoint; more are closed at once
    #[arg(long, env = "GIOSTRA_MAX_CONNECTIONS", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_connections: u32,

    /// Time a new connection has to complete its handshake
    #[arg(long, env = "GIOSTRA_HANDSHAKE_TIMEOUT", default_value = "10s", value_parser = positive_duration, value_name = "DURATION")]
    handshake_timeout: Duration,

    /// Time after which a silent client, such as one stopped by Ctrl-Z, is disconnected and its
    /// requests are cancelled; it sends them again when it resumes. At least 1s
    #[arg(long, env = "GIOSTRA_CLIENT_TIMEOUT", default_value = "10s", value_parser = client_timeout, value_name = "DURATION")]
    client_timeout: Duration,

    /// Maximum size of a message frame, and so of a body; a peer that sends a larger one is
    /// disconnected. 1MiB to 64MiB
    #[arg(long, env = "GIOSTRA_MAX_MESSAGE", default_value = "64MiB", value_parser = message_size, value_name = "BYTES")]
    max_message: ByteSize,

    /// Maximum requests in one message; a larger message is refused
    #[arg(long, env = "GIOSTRA_MAX_BATCH", default_value_t = MAX_BATCH as u32, value_parser = clap::value_parser!(u32).range(1..=MAX_BATCH as i64), value_name = "N")]
    max_batch: u32,

    /// Serve the live page, /status.json and /metrics by HTTP, for instance at 127.0.0.1:8080
    #[arg(long, env = "GIOSTRA_HTTP", value_parser = http_address, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,

    /// Name by which HTTP clients may call this host, besides its addresses and localhost; may be
    /// repeated
    #[arg(long, env = "GIOSTRA_HTTP_HOST", value_delimiter = ',', value_name = "NAME")]
    http_host: Vec<String>,

    /// Address of another broker's page, to which the page links, like http://b:8080; may be repeated
    #[arg(long, env = "GIOSTRA_PEER", value_delimiter = ',', value_parser = peer, value_name = "URL")]
    peer: Vec<String>,

    /// Allow an --http address that other hosts can reach: anyone who reaches it sees all activity,
    /// in clear text
    #[arg(long, env = "GIOSTRA_HTTP_PUBLIC", value_parser = switch)]
    http_public: bool,

    /// Time between two pings of a worker
    #[arg(long, env = "GIOSTRA_PING_INTERVAL", default_value = "1s", value_parser = positive_duration, value_name = "DURATION")]
    ping_interval: Duration,

    /// Unanswered pings after which a worker is dropped
    #[arg(long, env = "GIOSTRA_PING_MAX_OUT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    ping_max_out: u32,

    /// Time a worker may compute one request before the status calls it stuck, although it answers
    /// pings. Nothing else depends on it
    #[arg(long, env = "GIOSTRA_STUCK_AFTER", default_value = "5m", value_parser = positive_duration, value_name = "DURATION")]
    stuck_after: Duration,

    /// Workers lost while they held a request, and not come back, after which it ends in an error.
    /// Before its last attempt a request is alone with its worker; with 1, all requests of a lost
    /// worker end in errors
    #[arg(long, env = "GIOSTRA_MAX_ATTEMPTS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_attempts: u32,

    /// Maximum requests waiting for a worker; more wait at their clients. One client gets at most
    /// 4/5 of it
    #[arg(long, env = "GIOSTRA_MAX_PENDING", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=MAX_PENDING), value_name = "N")]
    max_pending: u64,

    /// Maximum requests of one client waiting for a worker [default: 4/5 of --max-pending]
    #[arg(long, env = "GIOSTRA_MAX_CLIENT_PENDING", value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    max_client_pending: Option<u64>,

    /// Maximum size of the bodies of all unanswered requests; more wait at their clients
    #[arg(long, env = "GIOSTRA_MAX_PENDING_BYTES", default_value = "1GiB", value_name = "BYTES")]
    max_pending_bytes: ByteSize,

    /// Maximum pools. One client's requests create at most 4/5 of them; workers may create as many
    /// again
    #[arg(long, env = "GIOSTRA_MAX_POOLS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_pools: u32,

    /// Maximum requests in flight to one worker, unless it has more threads; a worker may ask for
    /// fewer (giostra-worker --window)
    #[arg(long, env = "GIOSTRA_WINDOW", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    window: u32,

    /// Work that a worker holds: as many requests as it computes in this time, at least one per
    /// thread, and with strict rotation one more. 0: always as many as --window
    #[arg(long, env = "GIOSTRA_HOLD", default_value = "50ms", value_parser = duration, value_name = "DURATION")]
    hold: Duration,

    /// When the next worker's window is full: strict waits for it, available skips it
    #[arg(long, env = "GIOSTRA_ROTATION", default_value_t = Rotation::Strict, value_name = "strict|available")]
    rotation: Rotation,

    /// Time to wait after a signal for requests in flight, and for clients to read their replies
    #[arg(long, env = "GIOSTRA_GRACE", default_value = "5s", value_parser = duration, value_name = "DURATION")]
    grace: Duration,

    /// Time to look for more work before sleeping: costs CPU, saves wake-ups
    #[arg(long, env = "GIOSTRA_SPIN", default_value = "200us", value_parser = duration, value_name = "DURATION")]
    spin: Duration,

    /// Maximum time that a reply waits to be sent together with others to the same client. A lone
    /// reply, and a broker about to sleep, don't wait
    #[arg(long, env = "GIOSTRA_COALESCE", default_value = "90us", value_parser = duration, value_name = "DURATION")]
    coalesce: Duration,

    /// Maximum size of replies waiting for a client that does not read, before it is cut off
    #[arg(long, env = "GIOSTRA_MAX_BACKLOG", default_value = "64MiB", value_name = "BYTES")]
    max_backlog: ByteSize,

    /// Folder of the store of durable jobs, which outlive their client and the broker (giostra submit);
    /// created if missing. Without it there are no jobs
    #[arg(long, env = "GIOSTRA_STORE", value_name = "DIR")]
    store: Option<PathBuf>,

    /// Folder of the log; created if missing
    #[arg(long, env = "GIOSTRA_LOG_DIR", default_value = "log", value_name = "DIR")]
    log_dir: PathBuf,

    /// Size from which a new log file is started
    #[arg(long, env = "GIOSTRA_LOG_SIZE", default_value = "64MiB", value_name = "BYTES")]
    log_size: ByteSize,

    /// Number of log files kept besides the current one
    #[arg(long, env = "GIOSTRA_LOG_FILES", default_value_t = 15, value_name = "N")]
    log_files: usize,

    /// Log level: debug logs everything; info leaves out dispatches and replies, and can't be
    /// audited
    #[arg(long, env = "GIOSTRA_LOG_LEVEL", default_value = "debug", value_name = "off|error|warn|info|debug")]
    log_level: LevelFilter,

    /// Form of log lines, also on stderr: text, or a JSON object for each line. Both can be audited
    #[arg(
        long,
        env = "GIOSTRA_LOG_FORMAT",
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json"
    )]
    pub log_format: LogFormat,

    /// Level up to which log lines are also printed to stderr
    #[arg(long, env = "GIOSTRA_STDERR_LEVEL", default_value = "info", value_name = "off|error|warn|info|debug")]
    stderr_level: LevelFilter,

    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Options that print something and exit.
    #[command(flatten)]
    pub manual: Manual,

    #[command(flatten)]
    pub end_with: EndWith,
}

impl Args {
    /// Opens the log; returns it and its folder.
    pub fn open_log(&self) -> anyhow::Result<(Log, PathBuf)> {
        let folder = self.log_dir.clone();
        let rotation = LogRotation { bytes: self.log_size.as_u64().max(1), files: self.log_files };
        let log = Log::to_files(&folder, "broker", rotation, self.log_level, self.stderr_level)
            .with_context(|| format!("can't write the log in {}; see --log-dir", folder.display()))?;
        Ok((log, folder))
    }

    /// Returns the server's options.
    ///
    /// # Errors
    /// If the keys can't be read.
    pub fn options(&self) -> anyhow::Result<Options> {
        // Not `conflicts_with`: a variable that says no would conflict, too.
        ensure!(
            !self.insecure || self.keys.is_none(),
            "--insecure is for a broker without keys; with --keys leave it out"
        );
        let keys = self.keys.as_deref().zip(self.allow.clone());
        let keys = keys.map(|(own, allow)| anyhow::Ok(Keys { own: KeyPair::read(own).context("--keys")?, allow }));
        Ok(Options {
            frontend: self.frontend.clone(),
            backend: self.backend.clone(),
            keys: keys.transpose()?,
            insecure: self.insecure,
            max_connections: self.max_connections as usize,
            handshake_timeout: self.handshake_timeout,
            client_timeout: self.client_timeout,
            max_backlog: bytes(self.max_backlog),
            http: self.http,
            http_hosts: self.http_host.clone(),
            http_peers: self.peer.clone(),
            http_public: self.http_public,
            store: self.store.clone(),
            grace: self.grace,
            spin: self.spin,
            core: Settings {
                coalesce: self.coalesce,
                ping_interval: self.ping_interval,
                ping_max_out: self.ping_max_out,
                max_attempts: self.max_attempts,
                max_pending: usize::try_from(self.max_pending).unwrap_or(usize::MAX),
                max_pending_bytes: bytes(self.max_pending_bytes).max(1),
                max_client_pending: self
                    .max_client_pending
                    .map_or(usize::MAX, |most| most.try_into().unwrap_or(usize::MAX)),
                max_batch: self.max_batch as usize,
                max_message_bytes: bytes(self.max_message),
                max_pools: self.max_pools as usize,
                window: self.window as usize,
                hold: self.hold,
                rotation: self.rotation,
                stuck_after: self.stuck_after,
                ..Settings::default()
            },
        })
    }
}

/// The broker counts requests in 32 bits, those that workers hold included.
const MAX_PENDING: u64 = 1 << 31;

/// The lower bound of --max-message: the client's own batches have up to 320 KiB.
const MIN_MESSAGE: u64 = 1 << 20;

fn message_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    match size.as_u64() {
        MIN_MESSAGE..=MAX_MESSAGE => Ok(size),
        _ => Err("it must be 1MiB to 64MiB".into()),
    }
}

fn peer(text: &str) -> Result<String, String> {
    crate::check_address(text).map(|()| text.into())
}

fn http_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.rsplit_once(':').filter(|(host, _)| host.eq_ignore_ascii_case("localhost"));
    let text = local.map_or_else(|| text.to_string(), |(_, port)| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| {
        "write an address of this host and a port, like 127.0.0.1:8080 or [::1]:8080; --http-host is for names".into()
    })
}

/// The lower bound of --client-timeout: on a busy host, a living client may not answer for a while.
const MIN_CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

fn client_timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < MIN_CLIENT_TIMEOUT => Err("it must be 1s or longer".into()),
        time => Ok(time),
    }
}

const MAX_MESSAGE: u64 = MAX_MESSAGE_BYTES as u64;

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::program::explain;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_page_is_served_at_an_address_or_at_localhost() {
        assert_eq!(http_address("localhost:8080"), Ok(([127, 0, 0, 1], 8080).into()));
        assert_eq!(http_address("[::1]:0"), Ok("[::1]:0".parse().unwrap()));
        for bad in ["8080", "localhost", "localhost:x", "example.org:80", ":80", "127.0.0.1:99999"] {
            assert!(http_address(bad).unwrap_err().contains("127.0.0.1:8080"), "{bad}");
        }
    }

    #[test]
    fn only_this_host_is_served_unless_told_otherwise() {
        let check = |more: &[&str]| {
            let options = Args::parse_from(["giostra-broker"].iter().chain(more)).options()?;
            options.check().map_err(explain)
        };
        let folder = tempfile::tempdir().unwrap();
        let [_, keys] = KeyPair::generate().unwrap().write(folder.path(), "broker").unwrap();
        let keys = keys.display().to_string();
        assert!(check(&[]).is_ok());
        assert!(check(&["--backend", "tcp://*:1"]).unwrap_err().to_string().contains("--insecure"));
        assert!(check(&["--backend", "tcp://*:1", "--keys", &keys, "--allow", "d"]).is_ok());
        let parsed = |more: &[&str]| Args::try_parse_from(["giostra-broker"].iter().chain(more));
        assert!(parsed(&["--keys", "k"]).unwrap_err().to_string().contains("--allow"));
        assert!(parsed(&["--allow", "d"]).unwrap_err().to_string().contains("--keys"));
        assert!(parsed(&["--max-message", "1MB"]).unwrap_err().to_string().contains("1MiB to 64MiB"));
        assert!(parsed(&["--client-timeout", "999ms"]).unwrap_err().to_string().contains("1s or longer"));
        assert!(check(&["--backend", "tcp://*:1", "--insecure"]).is_ok());
        assert!(
            check(&["--insecure", "--keys", &keys, "--allow", "d"]).unwrap_err().to_string().contains("leave it out")
        );
        assert!(check(&["--backend", "tcp://127.0.0.1:5555"]).is_err());
    }
}
