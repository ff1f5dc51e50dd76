//! What the shell knows about the other end of a connection, for the log and the status. Nothing is
//! decided by it.

use std::fmt;

use giostra_protocol::name::Label;

/// A peer. Displays as it follows a name in the log: ` at 10.0.0.1:4321 key=.. name=alice`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// The address and port; empty if they are unknown.
    pub address: Label,
    /// The key, if the broker has keys.
    pub key: Option<Key>,
}

/// A peer's key. Displays as `key=.. name=alice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The public key, as 40 characters of Z85.
    pub public: Label,
    /// Its name in the allow-list, one word; empty if it is not there.
    pub name: Label,
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.address.is_empty() {
            write!(f, " at {}", self.address)?;
        }
        match &self.key {
            Some(key) => write!(f, " {key}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key={}", self.public)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " name={}", self.name) }
    }
}
