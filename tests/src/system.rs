//! A broker and its workers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use giostra_audit::{Report, Verdict, audit};
use giostra_transport::keys::{Credentials, KeyPair, PUBLIC_SUFFIX, Role, SECRET_SUFFIX, write_public};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::network::Network;
use crate::port::Port;
use crate::process::{Process, wait_for};
use crate::terminal::Terminal;

/// What a system is to be like.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    workers: usize,
    broker_args: Vec<String>,
    worker_args: Vec<String>,
    /// Of a network's hosts, if it is spread over them: their names and namespaces.
    namespaces: Vec<(String, String)>,
    /// Of the broker's host, if that is not this one.
    address: Option<String>,
    /// Where the log is, if it is not among the other files.
    log_dir: Option<PathBuf>,
    /// What makes the keys of all, if they have any: of a name, in a folder.
    keys: Option<fn(&Path, &str) -> Result<()>>,
    /// Whether it can be watched.
    watched: bool,
}

impl Setup {
    /// A broker with the default settings and so many workers.
    pub fn workers(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    /// Arguments for the broker.
    #[must_use]
    pub fn broker(mut self, args: &[&str]) -> Self {
        self.broker_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Arguments for each worker.
    #[must_use]
    pub fn worker(mut self, args: &[&str]) -> Self {
        self.worker_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Spreads it over a network: each process runs on the host of its name, or on the one called
    /// `client` or `worker` for all that have none of their own.
    #[must_use]
    pub fn across(mut self, network: &Network) -> Self {
        self.namespaces = network.namespaces();
        self.address = Some(network.address("broker"));
        self.broker(&["--insecure"])
    }

    /// Puts the log into this folder.
    #[must_use]
    pub fn log_in(mut self, folder: &Path) -> Self {
        self.log_dir = Some(folder.into());
        self
    }

    /// Has the broker serve its page, and the like, by HTTP.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// Gives keys to the broker, to each worker, and to the client as which [`System`] itself runs
    /// commands; that one is an admin, too.
    #[must_use]
    pub fn secured(self) -> Self {
        self.secured_by(|folder, name| Ok(KeyPair::generate()?.write(folder, name).map(drop)?))
    }

    /// The same with certificates of somebody else's making, who is handed the folder and a name.
    #[must_use]
    pub fn secured_by(mut self, make: fn(&Path, &str) -> Result<()>) -> Self {
        self.keys = Some(make);
        self
    }

    /// [`Self::secured`], or not.
    #[must_use]
    pub fn secured_if(self, secured: bool) -> Self {
        if secured { self.secured() } else { self }
    }

    /// Where a process runs.
    fn namespace(&self, process: &str) -> Option<&str> {
        let kind = process.split('-').next();
        let of = |host: &str| self.namespaces.iter().find(|(name, _)| name == host);
        of(process).or_else(|| of(kind?)).map(|(_, namespace)| namespace.as_str())
    }

    /// Starts it: the broker, then the workers one by one, so that `worker-1` has the first seat.
    pub fn start(self) -> Result<System> {
        let folder = tempfile::Builder::new().prefix("giostra-").tempdir()?;
        if let Some(log_dir) = &self.log_dir {
            symlink(log_dir, folder.path().join("log"))?;
        }
        let mut system = System {
            setup: self,
            folder,
            ports: [Port::reserve()?, Port::reserve()?, Port::reserve()?],
            endpoints: None,
            http: None,
            broker: None,
            workers: Vec::new(),
            others: 0,
            clients: 0,
        };
        if system.setup.keys.is_some() {
            system.make_keys(BROKER)?;
            system.make_keys(CLIENT)?;
            system.allow(CLIENT, Role::Client)?;
            system.allow(CLIENT, Role::Admin)?;
            // Those that are started later share theirs: a broker that is frozen then could not learn of them.
            let workers = (1..=system.setup.workers).map(|number| format!("worker-{number}"));
            for name in workers.chain([LATER_WORKER.into()]) {
                system.make_keys(&name)?;
                system.allow(&name, Role::Worker)?;
            }
        }
        system.start_broker()?;
        for number in 1..=system.setup.workers {
            system.start_worker(number)?;
        }
        Ok(system)
    }
}

/// What the keys of the broker and of the system's own client are called; a worker's are called
/// like it.
const BROKER: &str = "broker";
const CLIENT: &str = "client";
const LATER_WORKER: &str = "later-worker";

/// A running broker and its workers. They end with it, and their files go.
#[derive(Debug)]
pub struct System {
    setup: Setup,
    folder: TempDir,
    /// Of the frontend, the backend and the page, unless it is spread over a network: its own from
    /// one life of the broker to the next.
    ports: [Port; 3],
    /// Of the frontend and the backend, known once the broker has been started.
    endpoints: Option<[String; 2]>,
    /// Where it is watched, known by then, too.
    http: Option<String>,
    broker: Option<Process>,
    /// Worker 1 first.
    workers: Vec<Option<Process>>,
    /// Workers beside these.
    others: usize,
    clients: usize,
}

/// A `giostra` command that runs.
#[derive(Debug)]
pub struct Batch {
    process: Process,
}

impl System {
    /// Starts the broker, on the ports that it had before if it had any, and waits until it
    /// listens.
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
        }
        let http = page.address();
        if self.setup.watched {
            args.extend(["--http", &http]);
        }
        let before = fs::read_to_string(self.folder.path().join("broker.err")).unwrap_or_default().len();
        let mut broker = self.process("broker", "giostra-broker", &args)?;
        let listening = wait_for("the broker listens", || {
            let said = broker.stderr();
            if !broker.is_running() {
                return Some(Err(anyhow::anyhow!("the broker ended: {}", &said[before..])));
            }
            let line = said[before..].lines().find(|line| line.contains(" listening "))?.to_string();
            Some(Ok(line))
        })??;
        let endpoint = |key: &str| {
            let value = listening.split(key).nth(1).and_then(|rest| rest.split(' ').next());
            value.map(String::from).with_context(|| format!("{key} in {listening}"))
        };
        self.endpoints = Some([endpoint("frontend=")?, endpoint("backend=")?]);
        if self.setup.watched {
            self.http = Some(wait_for("the broker can be watched", || {
                let said = broker.stderr();
                let line = said[before..].lines().find_map(|line| line.split_once(" watch http://"))?.1;
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

    /// Starts worker `number` (again), which registers when it can.
    pub fn launch_worker(&mut self, number: usize) -> Result<()> {
        let name = format!("worker-{number}");
        let own = if number <= self.setup.workers { &*name } else { LATER_WORKER };
        let keys = self.key_args(own);
        let mut args = vec!["--broker", self.backend(), "--name", &name];
        args.extend(keys.iter().chain(&self.setup.worker_args).map(String::as_str));
        let process = self.process(&name, "giostra-worker", &args)?;
        if self.workers.len() < number {
            self.workers.resize_with(number, || None);
        }
        self.workers[number - 1] = Some(process);
        Ok(())
    }

    /// Starts a worker of any name and pool beside those that have numbers, and waits until it is
    /// registered.
    pub fn other_worker(&mut self, name: &str, pool: &str) -> Result<Process> {
        self.others += 1;
        let joined = format!(" joined {name} ");
        let before = self.log().matches(&joined).count();
        let args = ["--broker", self.backend(), "--name", name, "--pool", pool];
        let process = self.process(&format!("other-worker-{}", self.others), "giostra-worker", &args)?;
        wait_for(&format!("{name} registers"), || (self.log().matches(&joined).count() > before).then_some(()))?;
        Ok(process)
    }

    /// Makes keys of this name, which are allowed nothing yet.
    pub fn make_keys(&self, name: &str) -> Result<KeyPair> {
        let make = self.setup.keys.context("the system has no keys")?;
        make(&self.keys_dir(), name)?;
        Ok(KeyPair::read(&self.secret_file(name))?)
    }

    /// Lets the keys of this name in; a broker that runs does not know it until [`Self::reload`].
    pub fn allow(&self, name: &str, role: Role) -> Result<()> {
        Ok(write_public(&self.certificate(name, role), name, &KeyPair::read(&self.secret_file(name))?.public)?)
    }

    /// Has a broker that runs read whom to let in, and waits until it has.
    pub fn reload(&mut self) -> Result<()> {
        let answers = |log: &str| log.matches(" allowed keys=").count() + log.matches(" hangup: ").count();
        let before = answers(&self.log());
        self.broker().signal(Signal::SIGHUP)?;
        wait_for("the broker has read whom to let in", || (answers(&self.log()) > before).then_some(()))
    }

    /// The file that lets the keys of this name in.
    pub fn certificate(&self, name: &str, role: Role) -> PathBuf {
        self.allow_dir().join(role.folder()).join(format!("{name}.{PUBLIC_SUFFIX}"))
    }

    /// The secret certificate of this name.
    pub fn secret_file(&self, name: &str) -> PathBuf {
        self.keys_dir().join(format!("{name}.{SECRET_SUFFIX}"))
    }

    /// What a client or worker with the keys of this name needs to know.
    pub fn credentials(&self, name: &str) -> Result<Credentials> {
        let [own, broker] = [name, BROKER].map(|name| KeyPair::read(&self.secret_file(name)));
        Ok(Credentials { own: own?, broker: broker?.public })
    }

    /// The same for a client of this library that is to be let in: none if the system has no keys.
    pub fn client_credentials(&self) -> Result<Option<Credentials>> {
        self.setup.keys.map(|_| self.credentials(CLIENT)).transpose()
    }

    /// The arguments that say so on a command line; none if the system has no keys.
    pub fn key_args(&self, name: &str) -> Vec<String> {
        if self.setup.keys.is_none() {
            return Vec::new();
        }
        let [own, broker] = [self.secret_file(name), self.keys_dir().join(format!("{BROKER}.{PUBLIC_SUFFIX}"))]
            .map(|path| path.display().to_string());
        vec!["--keys".into(), own, "--broker-key".into(), broker]
    }

    /// The folder of all their keys.
    pub fn keys_dir(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// The folder of those that are let in.
    pub fn allow_dir(&self) -> PathBuf {
        self.keys_dir().join("allow")
    }

    fn process<A: AsRef<OsStr>>(&self, name: &str, program: &str, args: &[A]) -> Result<Process> {
        Process::start_in(self.setup.namespace(name), self.folder.path(), name, program, args)
    }

    /// How often worker `number` has registered so far.
    pub fn registrations(&self, number: usize) -> usize {
        self.log().lines().filter(|line| line.contains(&format!(" joined worker-{number} "))).count()
    }

    /// Waits until worker `number` has registered `times` times.
    pub fn wait_for_registration(&self, number: usize, times: usize) -> Result<()> {
        wait_for(&format!("worker-{number} registers"), || (self.registrations(number) >= times).then_some(()))
    }

    /// The broker.
    pub fn broker(&mut self) -> &mut Process {
        self.broker.as_mut().expect("the broker was started")
    }

    /// Worker `number`, from 1.
    pub fn worker(&mut self, number: usize) -> &mut Process {
        self.workers[number - 1].as_mut().expect("the worker was started")
    }

    /// The process ids of the workers that were started and not killed.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.workers.iter().flatten().map(Process::id).collect()
    }

    /// `kill -9` to worker `number`.
    pub fn kill_worker(&mut self, number: usize) -> Result<()> {
        self.take_worker(number)?.kill()
    }

    /// Worker `number`, which is no longer part of the system.
    pub fn take_worker(&mut self, number: usize) -> Result<Process> {
        self.workers.get_mut(number - 1).and_then(Option::take).context("the worker was started")
    }

    /// `kill -9` to the broker.
    pub fn kill_broker(&mut self) -> Result<()> {
        self.broker.take().context("the broker was started")?.kill()
    }

    /// Where clients connect.
    pub fn frontend(&self) -> &str {
        &self.endpoints.as_ref().expect("the broker was started")[0]
    }

    /// Where workers connect.
    pub fn backend(&self) -> &str {
        &self.endpoints.as_ref().expect("the broker was started")[1]
    }

    /// Where the broker is watched, as `127.0.0.1:8080`.
    pub fn http(&self) -> &str {
        self.http.as_deref().expect("the broker can be watched")
    }

    /// What it serves there at this path.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.http());
        Ok(ureq::get(&url).call().with_context(|| url.clone())?.body_mut().read_to_string()?)
    }

    /// Its `/status.json`.
    pub fn snapshot(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status.json")?)?)
    }

    /// The folder of all their files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves that folder behind.
    pub fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The log's files, the oldest first.
    pub fn log_files(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("log");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| !path.is_symlink() && path.extension() == Some(OsStr::new("log")))
            .collect();
        // `_rCURRENT` comes before `_r00000` by its name, and after it in time.
        files.sort_by_key(|path| (path.to_string_lossy().ends_with("_rCURRENT.log"), path.clone()));
        files
    }

    /// The broker's log so far, all its files.
    pub fn log(&self) -> String {
        self.log_files().iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// What the log proves so far. An error if anything in it is refuted or can't be proved.
    pub fn audit(&self) -> Result<Report> {
        let report = audit(&[self.folder.path().join("log")])?;
        ensure!(report.verdict() == Verdict::Proved, "the log does not prove the promises:\n{report}");
        Ok(report)
    }

    /// Starts a `giostra` command, with the system's own client's keys if there are any.
    pub fn begin(&mut self, args: &[&str]) -> Result<Batch> {
        let keys = self.key_args(CLIENT);
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        self.begin_as(&keys, args)
    }

    /// The same with other keys, or none: [`Self::key_args`].
    pub fn begin_as(&mut self, keys: &[&str], args: &[&str]) -> Result<Batch> {
        self.clients += 1;
        let name = format!("client-{}", self.clients);
        let args: Vec<_> =
            ["--broker", self.frontend()].iter().chain(keys).chain(args).map(ToString::to_string).collect();
        Ok(Batch { process: self.process(&name, "giostra", &args)? })
    }

    /// Starts a `giostra` command on a terminal, with the system's own client's keys if there are
    /// any.
    pub fn begin_on_terminal(&self, columns: u16, rows: u16, args: &[&str]) -> Result<Terminal> {
        let own = ["--broker".into(), self.frontend().into()].into_iter().chain(self.key_args(CLIENT));
        let args: Vec<_> = own.chain(args.iter().map(ToString::to_string)).collect();
        Terminal::start(columns, rows, "giostra", &args)
    }

    /// Runs a `giostra` command to its end.
    pub fn run(&mut self, args: &[&str]) -> Result<Finished> {
        self.begin(args)?.finish()
    }

    /// Runs `giostra random` and expects all to be well.
    pub fn random(&mut self, args: &[&str]) -> Result<Value> {
        let all: Vec<_> = ["random", "--json"].iter().chain(args).copied().collect();
        self.run(&all)?.all_well()
    }

    /// What `giostra status` says.
    pub fn status(&mut self) -> Result<Value> {
        let finished = self.run(&["status", "--json"])?;
        finished.json()
    }
}

/// A `giostra` command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Batch {
    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<Finished> {
        let code = self.process.wait()?.code();
        Ok(Finished { code, stdout: self.process.stdout(), stderr: self.process.stderr() })
    }
}

impl Finished {
    /// The JSON object on the last line of its stdout.
    pub fn json(&self) -> Result<Value> {
        let line = self.stdout.lines().last().with_context(|| format!("no output: {self:?}"))?;
        serde_json::from_str(line).with_context(|| format!("no JSON: {self:?}"))
    }

    /// The same of a random batch, which must have gone well: each request answered once, no result
    /// wrong.
    pub fn all_well(&self) -> Result<Value> {
        let summary = self.json()?;
        let well = self.code == Some(0)
            && summary["answered"] == summary["sent"]
            && ["failed", "unanswered", "wrong", "duplicated"].iter().all(|bad| summary[bad] == 0);
        ensure!(well, "not all went well: {self:?}");
        Ok(summary)
    }
}
