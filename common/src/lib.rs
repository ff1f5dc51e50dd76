//! What broker, worker and client share: the wire contract, the sockets' options, names, the log and the shutdown.
//!
//! No policy: who gets which request, when somebody counts as dead, what is resent, is decided elsewhere.

pub mod args;
mod bytes;
pub mod compute;
pub mod descriptors;
pub mod dialer;
pub mod endpoint;
pub mod handshake;
pub mod keys;
pub mod lock;
pub mod log;
mod malformed;
pub mod manual;
pub mod name;
pub mod numbered;
pub mod protocol;
pub mod shown;
pub mod shutdown;
pub mod socket;
pub mod stdio;
pub mod wake;
pub mod wire;
mod z85;

pub use self::bytes::Bytes;
