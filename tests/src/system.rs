//! A broker and its workers, as processes.

mod commands;
mod keys;
mod log;
mod setup;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use giostra_client::{Client, Options};
use serde_json::Value;
use tempfile::TempDir;

pub use self::commands::{Batch, Finished};
use self::keys::{BROKER, LATER_WORKER};
use self::log::as_text;
pub use self::log::{log_files, proved};
pub use self::setup::Setup;
use crate::port::Port;
use crate::process::{Process, wait_for};

/// A running broker and its workers. Dropping it kills them and deletes their files.
#[derive(Debug)]
pub struct System {
    setup: Setup,
    folder: TempDir,
    /// Of the frontend, the backend and the page, reserved over restarts of the broker. Unused if
    /// the system is spread over a network.
    ports: [Port; 3],
    /// The frontend and the backend, once the broker has been started.
    endpoints: Option<[String; 2]>,
    /// Where the page is served, once the broker has been started.
    http: Option<String>,
    broker: Option<Process>,
    /// By number: worker 1 is the first.
    workers: Vec<Option<Process>>,
    /// The number of workers started without a number.
    others: usize,
    /// The number of commands started.
    clients: usize,
    /// The frontends and the backends of other brokers, which workers and commands know, too.
    beside: Vec<[String; 2]>,
}

impl System {
    /// Starts the broker and waits until it listens. A broker started again has the same ports.
    pub fn start_broker(&mut self) -> Result<()> {
        let [front, back, page] = &self.ports;
        let [frontend, backend] = match (&self.setup.address, &self.endpoints) {
            (None, _) => [front.endpoint(), back.endpoint()],
            (Some(_), Some(before)) => before.clone(),
            (Some(address), None) => [format!("tcp://{address}:*"), format!("tcp://{address}:*")],
        };
        let folder = self.folder.path().display().to_string();
        let log = format!("{folder}/log");
        let mut args = vec!["--frontend", &frontend, "--backend", &backend, "--log-dir", &log];
        args.extend(self.setup.broker_args.iter().map(String::as_str));
        let [keys, allow] = [self.secret_file(BROKER), self.allow_dir()].map(|path| path.display().to_string());
        if self.setup.keys.is_some() {
            args.extend(["--keys", &keys, "--allow", &allow]);
        } else if self.setup.address.is_some() {
            // Other hosts reach it, of the test's own network.
            args.push("--insecure");
        }
        let http = page.address();
        if self.setup.watched {
            args.extend(["--http", &http]);
        }
        let before = as_text(&fs::read_to_string(self.folder.path().join("broker.err")).unwrap_or_default()).len();
        let mut broker = self.process("broker", "giostra-broker", &args)?;
        let listening = wait_for("the broker listens", || {
            let stderr = as_text(&broker.stderr());
            if !broker.is_running() {
                return Some(Err(anyhow::anyhow!("the broker ended: {}", &stderr[before..])));
            }
            let line = stderr[before..].lines().find(|line| line.contains(" listening "))?.to_string();
            Some(Ok(line))
        })??;
        let endpoint = |key: &str| {
            let value = listening.split(key).nth(1).and_then(|rest| rest.split(' ').next());
            value.map(String::from).with_context(|| format!("{key} in {listening}"))
        };
        self.endpoints = Some([endpoint("frontend=")?, endpoint("backend=")?]);
        if self.setup.watched {
            self.http = Some(wait_for("the page is served", || {
                let stderr = as_text(&broker.stderr());
                let line = stderr[before..].lines().find_map(|line| line.split_once(" watch http://"))?.1;
                Some(line.trim_end_matches('/').to_string())
            })?);
        }
        self.broker = Some(broker);
        Ok(())
    }

    /// Starts worker `number` (again) and waits until it is registered.
    pub fn start_worker(&mut self, number: usize) -> Result<()> {
        let before = self.registrations(number);
        self.launch_worker(number)?;
        self.wait_for_registration(number, before + 1)
    }

    /// Starts worker `number` (again), without waiting for it to register.
    pub fn launch_worker(&mut self, number: usize) -> Result<()> {
        let name = format!("worker-{number}");
        let own = if number <= self.setup.workers { &*name } else { LATER_WORKER };
        let keys = self.key_args(own);
        let backends = self.backends();
        let mut args = vec!["--broker", &backends, "--name", &name];
        args.extend(keys.iter().chain(&self.setup.worker_args).map(String::as_str));
        let process = self.process(&name, "giostra-worker", &args)?;
        if self.workers.len() < number {
            self.workers.resize_with(number, || None);
        }
        self.workers[number - 1] = Some(process);
        Ok(())
    }

    /// Starts a worker with another name and pool, and waits until it is registered.
    pub fn other_worker(&mut self, name: &str, pool: &str) -> Result<Process> {
        self.others += 1;
        let joined = format!(" joined {name} ");
        let before = self.count(&joined);
        let args = ["--broker", self.backend(), "--name", name, "--pool", pool];
        let process = self.process(&format!("other-worker-{}", self.others), "giostra-worker", &args)?;
        self.wait_for_lines(&joined, before + 1)?;
        Ok(process)
    }

    /// Returns the broker's process.
    pub fn broker(&mut self) -> &mut Process {
        self.broker.as_mut().expect("the broker was started")
    }

    /// Returns the process of worker `number`, counted from 1.
    pub fn worker(&mut self, number: usize) -> &mut Process {
        self.workers[number - 1].as_mut().expect("the worker was started")
    }

    /// Returns the process ids of the workers that were started and not killed.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.workers.iter().flatten().map(Process::id).collect()
    }

    /// Kills worker `number` as `kill -9` does.
    pub fn kill_worker(&mut self, number: usize) -> Result<()> {
        self.take_worker(number)?.kill()
    }

    /// Removes worker `number` from the system, without ending its process.
    pub fn take_worker(&mut self, number: usize) -> Result<Process> {
        self.workers.get_mut(number - 1).and_then(Option::take).context("the worker was started")
    }

    /// Kills the broker as `kill -9` does.
    pub fn kill_broker(&mut self) -> Result<()> {
        self.broker.take().context("the broker was started")?.kill()
    }

    /// Returns the endpoint for clients.
    pub fn frontend(&self) -> &str {
        &self.endpoints.as_ref().expect("the broker was started")[0]
    }

    /// Returns the endpoint for workers.
    pub fn backend(&self) -> &str {
        &self.endpoints.as_ref().expect("the broker was started")[1]
    }

    /// Has the workers and commands that are started from now on know this broker, too.
    pub fn beside(&mut self, other: &Self) {
        self.beside.push([other.frontend().into(), other.backend().into()]);
    }

    /// Returns the endpoints for clients of this broker and of those beside it, with commas.
    pub fn frontends(&self) -> String {
        let others = self.beside.iter().map(|[frontend, _]| frontend.as_str());
        [self.frontend()].into_iter().chain(others).collect::<Vec<_>>().join(",")
    }

    /// Returns the endpoints for workers of this broker and of those beside it, with commas.
    pub fn backends(&self) -> String {
        let others = self.beside.iter().map(|[_, backend]| backend.as_str());
        [self.backend()].into_iter().chain(others).collect::<Vec<_>>().join(",")
    }

    /// Returns the address of the broker's page, such as `127.0.0.1:8080`.
    pub fn http(&self) -> &str {
        self.http.as_deref().expect("the broker has --http")
    }

    /// Returns what the broker serves by HTTP at this path.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.http());
        Ok(ureq::get(&url).call().with_context(|| url.clone())?.body_mut().read_to_string()?)
    }

    /// Returns the broker's `/status.json`.
    pub fn snapshot(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status.json")?)?)
    }

    /// Returns the folder of the system's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder when the system is dropped.
    pub fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// Connects a client of the library, without keys, and waits for the broker's welcome.
    pub fn client(&self) -> Result<Client> {
        self.client_of("compute")
    }

    /// Connects a client of another pool.
    pub fn client_of(&self, pool: &str) -> Result<Client> {
        let options = Options { broker: self.frontend().into(), pool: pool.into(), ..Options::default() };
        let mut client = Client::connect(options)?;
        client.await_broker()?;
        Ok(client)
    }

    /// Whether the broker was started and not killed.
    pub fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    pub(crate) fn process<A: AsRef<OsStr>>(&self, name: &str, program: &str, args: &[A]) -> Result<Process> {
        Process::start_in(self.setup.namespace(name), self.folder.path(), name, program, args)
    }
}
