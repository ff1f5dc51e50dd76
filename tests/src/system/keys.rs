//! The keys of a system with keys, and which of them its broker allows.

use std::path::PathBuf;

use anyhow::{Context, Result};
use giostra_transport::keys::{Credentials, KeyPair, PUBLIC_SUFFIX, Role, SECRET_SUFFIX, write_public};
use nix::sys::signal::Signal;

use super::System;
use crate::process::wait_for;

/// The names of keys. Those of a worker that the setup starts have the worker's name.
pub(super) const BROKER: &str = "broker";
pub(super) const CLIENT: &str = "client";
pub(super) const LATER_WORKER: &str = "later-worker";

impl System {
    /// Makes keys of this name, without allowing them anything.
    pub fn make_keys(&self, name: &str) -> Result<KeyPair> {
        let make = self.setup.keys.context("the system has no keys")?;
        make(&self.keys_dir(), name)?;
        Ok(KeyPair::read(&self.secret_file(name))?)
    }

    /// Allows the keys of this name. A running broker learns of it by [`Self::reload`].
    pub fn allow(&self, name: &str, role: Role) -> Result<()> {
        Ok(write_public(&self.certificate(name, role), name, &KeyPair::read(&self.secret_file(name))?.public)?)
    }

    /// Makes the broker read its allow-list again, and waits until it has.
    pub fn reload(&mut self) -> Result<()> {
        let answers = |system: &Self| system.count(" allowed keys=") + system.count(" hangup: ");
        let before = answers(self);
        self.broker().signal(Signal::SIGHUP)?;
        wait_for("the broker has read its allow-list", || (answers(self) > before).then_some(()))
    }

    /// Returns the file in the allow-list that gives these keys this role.
    pub fn certificate(&self, name: &str, role: Role) -> PathBuf {
        self.allow_dir().join(role.folder()).join(format!("{name}.{PUBLIC_SUFFIX}"))
    }

    /// Returns the file of the secret certificate of this name.
    pub fn secret_file(&self, name: &str) -> PathBuf {
        self.keys_dir().join(format!("{name}.{SECRET_SUFFIX}"))
    }

    /// Returns the credentials of a client or worker with the keys of this name.
    pub fn credentials(&self, name: &str) -> Result<Credentials> {
        let [own, broker] = [name, BROKER].map(|name| KeyPair::read(&self.secret_file(name)));
        Ok(Credentials::new(own?, broker?.public))
    }

    /// Returns the credentials of the system's own client; `None` if the system has no keys.
    pub fn client_credentials(&self) -> Result<Option<Credentials>> {
        self.setup.keys.map(|_| self.credentials(CLIENT)).transpose()
    }

    /// Returns the command-line arguments for these credentials; none if the system has no keys.
    pub fn key_args(&self, name: &str) -> Vec<String> {
        if self.setup.keys.is_none() {
            return Vec::new();
        }
        let [own, broker] = [self.secret_file(name), self.keys_dir().join(format!("{BROKER}.{PUBLIC_SUFFIX}"))]
            .map(|path| path.display().to_string());
        vec!["--keys".into(), own, "--broker-key".into(), broker]
    }

    /// Returns the folder of all keys.
    pub fn keys_dir(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Returns the folder of the allow-list.
    pub fn allow_dir(&self) -> PathBuf {
        self.keys_dir().join("allow")
    }
}
