//! What a system consists of, and its start.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;
use giostra_transport::keys::{KeyPair, Role};

use super::System;
use super::keys::{BROKER, CLIENT, LATER_WORKER};
use crate::network::Network;
use crate::port::Port;

/// The settings of a [`System`].
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub(super) workers: usize,
    pub(super) broker_args: Vec<String>,
    pub(super) worker_args: Vec<String>,
    /// The names and namespaces of the network's hosts, if the system is spread over a network.
    pub(super) namespaces: Vec<(String, String)>,
    /// The address of the broker's host, in a network.
    pub(super) address: Option<String>,
    /// The folder of the log, if it is not among the other files.
    pub(super) log_dir: Option<PathBuf>,
    /// Makes the keys of a name in a folder; `None` for a system without keys.
    pub(super) keys: Option<fn(&Path, &str) -> Result<()>>,
    /// The folder of another system's keys, which are this one's, too.
    pub(super) keys_dir: Option<PathBuf>,
    /// Whether the broker serves its page.
    pub(super) watched: bool,
}

impl Setup {
    /// Returns a setup of a broker with the default settings and this number of workers.
    pub fn workers(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    /// Adds arguments for the broker.
    #[must_use]
    pub fn broker(mut self, args: &[&str]) -> Self {
        self.broker_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Adds arguments for each worker.
    #[must_use]
    pub fn worker(mut self, args: &[&str]) -> Self {
        self.worker_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Spreads the system over a network: each process runs on the host of its name, or on the host
    /// `client` or `worker` if no host has its name.
    #[must_use]
    pub fn across(mut self, network: &Network) -> Self {
        self.namespaces = network.namespaces();
        self.address = Some(network.address("broker"));
        self
    }

    /// Spreads the system over a network as [`Self::across`] does, with the broker on this host.
    #[must_use]
    pub fn across_from(mut self, network: &Network, host: &str) -> Self {
        self.namespaces = network.namespaces();
        let (_, namespace) = self.namespaces.iter().find(|(name, _)| name == host).expect("a host of this network");
        self.namespaces.insert(0, ("broker".into(), namespace.clone()));
        self.address = Some(network.address(host));
        self
    }

    /// Puts the log into this folder.
    #[must_use]
    pub fn log_in(mut self, folder: &Path) -> Self {
        self.log_dir = Some(folder.into());
        self
    }

    /// Has the broker serve its page and metrics by HTTP.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// Gives keys to the broker, to each worker, and to the client as which [`System`] runs
    /// commands, which is an admin, too.
    #[must_use]
    pub fn secured(self) -> Self {
        self.secured_by(|folder, name| Ok(KeyPair::generate()?.write(folder, name).map(drop)?))
    }

    /// Gives keys as [`Self::secured`] does, made by `make` from a folder and a name.
    #[must_use]
    pub fn secured_by(mut self, make: fn(&Path, &str) -> Result<()>) -> Self {
        self.keys = Some(make);
        self
    }

    /// Gives keys as [`Self::secured`] does, if `secured`.
    #[must_use]
    pub fn secured_if(self, secured: bool) -> Self {
        if secured { self.secured() } else { self }
    }

    /// Gives the broker the keys and the allow-list of another system, if that has any.
    #[must_use]
    pub fn secured_as(mut self, other: &System) -> Self {
        (self.keys, self.keys_dir) = (other.setup.keys, other.setup.keys.map(|_| other.keys_dir()));
        self
    }

    /// Returns the network namespace in which a process runs.
    pub(super) fn namespace(&self, process: &str) -> Option<&str> {
        let kind = process.split('-').next();
        let of = |host: &str| self.namespaces.iter().find(|(name, _)| name == host);
        of(process).or_else(|| of(kind?)).map(|(_, namespace)| namespace.as_str())
    }

    /// Starts the broker, then the workers one by one, so that `worker-1` has the first seat.
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
            beside: Vec::new(),
        };
        if let Some(keys) = &system.setup.keys_dir {
            symlink(keys, system.keys_dir())?;
        } else if system.setup.keys.is_some() {
            system.make_keys(BROKER)?;
            system.make_keys(CLIENT)?;
            system.allow(CLIENT, Role::Client)?;
            system.allow(CLIENT, Role::Admin)?;
            // Workers that are started later share keys, because a broker that is frozen by then could
            // not be told of new ones.
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
