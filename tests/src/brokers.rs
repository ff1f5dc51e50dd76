//! Several brokers, with workers and commands that know all of them.

use std::path::Path;

use anyhow::Result;
use giostra_client::{Client, Options};
use tempfile::TempDir;

use crate::process::Process;
use crate::system::{Batch, Finished, Setup, System};

/// The brokers, each a [`System`] without workers of its own, and the workers of all. Dropping it
/// kills them and deletes their files.
#[derive(Debug)]
pub struct Brokers {
    systems: Vec<System>,
    folder: TempDir,
    /// By number: worker 1 is the first.
    workers: Vec<Option<Process>>,
    worker_args: Vec<String>,
    commands: usize,
}

impl Brokers {
    /// Starts a broker of each setup, and this number of workers with these arguments, and waits until
    /// they are registered everywhere.
    pub fn start(setups: Vec<Setup>, workers: usize, args: &[&str]) -> Result<Self> {
        let systems = setups.into_iter().map(Setup::start).collect::<Result<Vec<_>>>()?;
        let folder = tempfile::Builder::new().prefix("giostra-").tempdir()?;
        let worker_args = args.iter().map(ToString::to_string).collect();
        let mut brokers = Self { systems, folder, workers: Vec::new(), worker_args, commands: 0 };
        for number in 1..=workers {
            brokers.start_worker(number)?;
        }
        Ok(brokers)
    }

    /// The broker of this number, counted from 0, and what it has logged.
    pub fn broker(&mut self, number: usize) -> &mut System {
        &mut self.systems[number]
    }

    /// The endpoints for clients, with commas.
    pub fn frontends(&self) -> String {
        self.systems.iter().map(System::frontend).collect::<Vec<_>>().join(",")
    }

    /// The endpoints for workers, with commas.
    pub fn backends(&self) -> String {
        self.systems.iter().map(System::backend).collect::<Vec<_>>().join(",")
    }

    /// The folder of the workers' and the commands' output.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts worker `number` (again), and waits until it is registered at each broker that runs.
    pub fn start_worker(&mut self, number: usize) -> Result<()> {
        let (name, backends) = (format!("worker-{number}"), self.backends());
        let before: Vec<_> = self.systems.iter().map(|system| system.registrations(number)).collect();
        let mut args = vec!["--broker", &backends, "--name", &name];
        args.extend(self.worker_args.iter().map(String::as_str));
        let process = self.systems[0].process(&name, "giostra-worker", &args)?;
        if self.workers.len() < number {
            self.workers.resize_with(number, || None);
        }
        self.workers[number - 1] = Some(process);
        for (system, before) in self.systems.iter().zip(before).filter(|(system, _)| system.has_broker()) {
            system.wait_for_registration(number, before + 1)?;
        }
        Ok(())
    }

    /// Returns the process of worker `number`, counted from 1.
    pub fn worker(&mut self, number: usize) -> &mut Process {
        self.workers[number - 1].as_mut().expect("the worker was started")
    }

    /// Kills worker `number` as `kill -9` does.
    pub fn kill_worker(&mut self, number: usize) -> Result<()> {
        self.workers[number - 1].take().expect("the worker was started").kill()
    }

    /// Starts a `giostra` command that knows all brokers.
    pub fn begin(&mut self, args: &[&str]) -> Result<Batch> {
        self.commands += 1;
        let frontends = self.frontends();
        let args: Vec<_> = ["--broker", &frontends].iter().chain(args).copied().collect();
        let name = format!("client-all-{}", self.commands);
        Ok(Batch::of(self.systems[0].process(&name, "giostra", &args)?))
    }

    /// Runs such a command to its end.
    pub fn run(&mut self, args: &[&str]) -> Result<Finished> {
        self.begin(args)?.finish()
    }

    /// Connects a client of the library that knows all brokers.
    pub fn client(&self) -> Result<Client> {
        let mut client = Client::connect(Options::new(self.frontends()))?;
        client.await_broker()?;
        Ok(client)
    }
}
