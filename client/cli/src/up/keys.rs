//! The keys of `up --secure`: fresh ones for the brokers, their workers, and the clients of this host.

use std::path::PathBuf;

use giostra_transport::keys::{KeyError, KeyPair, PUBLIC_SUFFIX, Role, write_public};

/// The certificate files of a system.
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Those in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes those of a peer, which is let in with these roles.
    ///
    /// # Errors
    /// If there are some already, or they can't be written.
    pub fn make(&self, name: &str, roles: &[Role]) -> Result<(), KeyError> {
        let keys = KeyPair::generate()?;
        keys.write(&self.folder, name)?;
        let file = format!("{name}.{PUBLIC_SUFFIX}");
        let allow = |role: &Role| write_public(&self.allowed().join(role.folder()).join(&file), name, &keys.public);
        roles.iter().try_for_each(allow)
    }

    /// The secret certificate of a peer.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key_secret"))
    }

    /// The public certificates of these brokers, with commas.
    pub fn brokers(&self, names: &[String]) -> String {
        let path = |name: &String| self.folder.join(format!("{name}.{PUBLIC_SUFFIX}")).display().to_string();
        names.iter().map(path).collect::<Vec<_>>().join(",")
    }

    /// The folder of those that are let in.
    pub fn allowed(&self) -> PathBuf {
        self.folder.join("allow")
    }
}
