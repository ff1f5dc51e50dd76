//! The two sides of a comparison, each with the same load: Giostra, and libzmq's `zmq_proxy` with
//! echo workers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_tests::performance::usage::{cpu_of, cpu_of_ended_children, peak_memory_of};
use giostra_tests::performance::{Series, Side};
use giostra_tests::process::{Process, wait_for};
use giostra_tests::{Setup, System};
use giostra_transport::keys::KeyPair;
use serde_json::Value;
use tempfile::TempDir;

/// Workers of either side, with one thread each.
pub const WORKERS: usize = 3;

/// Log files so many and so large that none of a run's lines are rotated away, and the log can be
/// audited whole.
const WHOLE_LOG: [&str; 4] = ["--log-size", "256MiB", "--log-files", "100"];

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections.
    pub clients: usize,
    /// Requests of each that may be unanswered at a time.
    pub window: usize,
    /// Bytes of a request; `None`: an addition, which has as many as [`ADDITION`].
    pub size: Option<usize>,
    /// Requests before the clock starts.
    pub warm_up: u64,
    /// For how long requests are sent.
    pub length: Duration,
    /// Whether all have keys, and everything is encrypted.
    pub keys: bool,
}

/// Bytes of an addition's request.
pub const ADDITION: usize = 24;

impl Default for Load {
    fn default() -> Self {
        Self { clients: 1, window: 4096, size: None, warm_up: 1000, length: Duration::from_millis(1500), keys: false }
    }
}

/// What one run of a load showed.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Requests a second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50: f64,
    /// CPU time of the broker, or the proxy, for each request, in microseconds.
    pub broker_cpu: f64,
    /// The same of all processes.
    pub all_cpu: f64,
}

/// One figure of all rounds.
pub fn series(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Result<Series> {
    Series::new(rounds.iter().map(figure).collect()).context("no figures")
}

/// The rounds of a side, compared by `figure`; `memory` is the peak of its broker or proxy.
pub fn side(rounds: &[Round], figure: impl Fn(&Round) -> f64, memory: u64) -> Result<Side> {
    Ok(Side {
        figure: series(rounds, figure)?,
        broker_cpu: series(rounds, |round| round.broker_cpu)?,
        all_cpu: series(rounds, |round| round.all_cpu)?,
        memory: memory as f64,
    })
}

/// The CPU time of some processes before a load, and of the load's client, which ends with it.
struct Before {
    broker: u32,
    workers: Vec<u32>,
    cpu: [Duration; 3],
}

impl Before {
    fn of(broker: u32, workers: Vec<u32>) -> Result<Self> {
        let cpu = Self::cpu(broker, &workers)?;
        Ok(Self { broker, workers, cpu })
    }

    fn cpu(broker: u32, workers: &[u32]) -> Result<[Duration; 3]> {
        let workers: Vec<_> = workers.iter().map(|&worker| cpu_of(worker)).collect::<Result<_>>()?;
        Ok([cpu_of(broker)?, workers.into_iter().sum(), cpu_of_ended_children()?])
    }

    /// What the client that has ended says, and what all have used for it.
    fn round(self, load: &Load, summary: &Value) -> Result<Round> {
        let after = Self::cpu(self.broker, &self.workers)?;
        let number = |value: &Value, key: &str| value[key].as_f64().with_context(|| format!("no {key} in {summary}"));
        let requests = number(summary, "answered")? + load.warm_up as f64;
        let used = [0, 1, 2].map(|who| after[who].saturating_sub(self.cpu[who]).as_secs_f64() * 1e6 / requests);
        Ok(Round {
            rate: number(summary, "rate")?,
            p50: number(&summary["latency_us"], "p50")?,
            broker_cpu: used[0],
            all_cpu: used.iter().sum(),
        })
    }
}

/// A broker, and workers that compute.
pub struct Giostra {
    /// Its processes.
    pub system: System,
}

impl Giostra {
    /// Starts it, the broker with these arguments besides the usual ones.
    pub fn start(workers: usize, broker: &[&str]) -> Result<Self> {
        Ok(Self { system: Self::setup(workers, broker).start()? })
    }

    /// The same with keys, if the load is to have them.
    pub fn start_for(load: &Load) -> Result<Self> {
        Ok(Self { system: Self::setup(WORKERS, &[]).secured_if(load.keys).start()? })
    }

    fn setup(workers: usize, broker: &[&str]) -> Setup {
        Setup::workers(workers).broker(&WHOLE_LOG).broker(broker).worker(&["--log-level", "warn"])
    }

    /// The arguments of `giostra bench` for a load.
    pub fn bench(load: &Load) -> Vec<String> {
        let mut args = vec!["bench".to_string(), "--json".into()];
        let mut add = |flag: &str, value: String| args.extend([flag.to_string(), value]);
        add("--clients", load.clients.to_string());
        add("--window", load.window.to_string());
        add("--warm-up", load.warm_up.to_string());
        add("--duration", format!("{}ms", load.length.as_millis()));
        if let Some(size) = load.size {
            add("--size", size.to_string());
        }
        args
    }

    /// Runs a load.
    pub fn run(&mut self, load: &Load) -> Result<Round> {
        let workers = self.system.worker_ids();
        let before = Before::of(self.system.broker().id(), workers)?;
        let args = Self::bench(load);
        let summary = self.system.run(&args.iter().map(String::as_str).collect::<Vec<_>>())?.all_well()?;
        before.round(load, &summary)
    }

    /// The most memory that the broker had.
    pub fn memory(&mut self) -> Result<u64> {
        peak_memory_of(self.system.broker().id())
    }

    /// Proves the promises from the log of all that has run, and says so.
    pub fn audit(&self) -> Result<()> {
        let counts = self.system.audit()?.counts;
        println!(
            "    audit: proved, {} dispatches ({} of them again), {} replies",
            counts.dispatched, counts.redispatched, counts.replies
        );
        Ok(())
    }
}

/// One request at a time through a relay on TCP sockets, between processes as many as Giostra's.
pub struct Floor(Between);

impl Floor {
    /// Starts it. The relay looks for data for as long as the broker does.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let spin = format!("--spin={}us", giostra_broker::Options::default().spin.as_micros());
        let args = ["relay".to_string(), format!("--workers={WORKERS}"), spin];
        let relay = Process::start(folder.path(), "relay", "reference", &args)?;
        let [frontend, backend] = listens(&relay)?;
        let workers = echoes(folder.path(), &["raw-echo", &backend])?;
        Ok(Self(Between { folder, frontend, process: relay, workers, clients: 0 }))
    }

    /// Runs a load of one client with one request at a time.
    pub fn run(&mut self, load: &Load) -> Result<Round> {
        self.0.run("raw-client", load, None)
    }
}

/// A proxy or relay with its workers, and how many clients it has had.
struct Between {
    folder: TempDir,
    frontend: String,
    process: Process,
    workers: Vec<Process>,
    clients: usize,
}

impl Between {
    /// Runs a load by this kind of client, with the argument that tells it the proxy's key, if any.
    fn run(&mut self, client: &str, load: &Load, key: Option<String>) -> Result<Round> {
        let before = Before::of(self.process.id(), self.workers.iter().map(Process::id).collect())?;
        self.clients += 1;
        let args = [
            client.to_string(),
            self.frontend.clone(),
            format!("--clients={}", load.clients),
            format!("--window={}", load.window),
            format!("--size={}", load.size.unwrap_or(ADDITION)),
            format!("--warm-up={}", load.warm_up),
            format!("--duration={}ms", load.length.as_millis()),
        ];
        let args: Vec<_> = args.into_iter().chain(key).collect();
        let mut client = Process::start(self.folder.path(), &format!("client-{}", self.clients), "reference", &args)?;
        let status = client.wait()?;
        ensure!(status.success(), "the reference's client: {}", client.stderr());
        before.round(load, &serde_json::from_str(&client.stdout())?)
    }
}

/// Waits until a proxy or relay listens. Returns its frontend and its backend.
fn listens(process: &Process) -> Result<[String; 2]> {
    let said = wait_for("the proxy listens", || Some(process.stderr()).filter(|said| said.ends_with('\n')))?;
    let mut words = said.split_whitespace().skip(1).map(String::from);
    Ok([words.next().context("no frontend")?, words.next().context("no backend")?])
}

/// Starts the echo workers, with these arguments each.
fn echoes(folder: &Path, args: &[&str]) -> Result<Vec<Process>> {
    let start = |number| {
        let echo = Process::start(folder, &format!("echo-{number}"), "reference", args)?;
        wait_for("the worker is ready", || (!echo.stderr().is_empty()).then_some(()))?;
        Ok(echo)
    };
    (0..WORKERS).map(start).collect()
}

/// `zmq_proxy` and echo workers.
pub struct Reference {
    between: Between,
    /// What tells the client the proxy's key, if it has one.
    key: Option<String>,
}

impl Reference {
    /// Starts it, with CURVE if `keys`.
    pub fn start(keys: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let any = "tcp://127.0.0.1:*";
        let mut args = vec!["proxy".to_string(), any.into(), any.into()];
        let mut key = None;
        if keys {
            let keys = KeyPair::generate()?;
            let [_, secret] = keys.write(folder.path(), "proxy")?;
            args.extend(["--keys".into(), secret.display().to_string()]);
            key = Some(format!("--key={}", keys.public));
        }
        let proxy = Process::start(folder.path(), "proxy", "reference", &args)?;
        let [frontend, backend] = listens(&proxy)?;
        let args: Vec<_> = ["echo", &backend].into_iter().chain(key.as_deref()).collect();
        let workers = echoes(folder.path(), &args)?;
        Ok(Self { between: Between { folder, frontend, process: proxy, workers, clients: 0 }, key })
    }

    /// The proxy's process.
    pub fn proxy(&self) -> u32 {
        self.between.process.id()
    }

    /// Runs a load.
    pub fn run(&mut self, load: &Load) -> Result<Round> {
        self.between.run("client", load, self.key.clone())
    }

    /// The most memory that the proxy had.
    pub fn memory(&self) -> Result<u64> {
        peak_memory_of(self.proxy())
    }
}
