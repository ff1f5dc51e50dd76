//! Why a broker can't start, or can't go on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use giostra_transport::descriptors::TooFew;
use giostra_transport::endpoint::Endpoint;
use giostra_transport::keys::KeyError;
use thiserror::Error;

/// Why a broker can't start, or can't go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// When other hosts can reach an endpoint, and the options have neither keys nor `insecure`.
    #[error("{side} {endpoint} can be reached from other hosts, and anyone who reaches it would be served")]
    Exposed {
        /// Whose endpoint it is.
        side: Side,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// When other hosts can reach the HTTP address, and the options don't have `http_public`.
    #[error("http {0} can be reached from other hosts, and shows all activity to anyone who reaches it, without a key")]
    HttpExposed(SocketAddr),
    /// When the frontend and the backend are the same endpoint.
    #[error("frontend and backend are both {0}; each needs an endpoint of its own")]
    SameEndpoint(Endpoint),
    /// When another process, or another socket of this one, has the endpoint.
    #[error("can't bind {endpoint}: {by}")]
    InUse {
        /// Whose endpoint it is.
        side: Side,
        /// The endpoint.
        endpoint: Endpoint,
        /// What is known of its holder, as a sentence.
        by: String,
    },
    /// When an endpoint can't be bound for another reason, such as an address that this host does
    /// not have.
    #[error("can't bind {endpoint}: {reason}")]
    Bind {
        /// Whose endpoint it is.
        side: Side,
        /// The endpoint.
        endpoint: Endpoint,
        /// The reason.
        reason: io::Error,
    },
    /// When the page can't be served at its address.
    #[error("can't listen at {address}: {reason}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// The reason.
        reason: io::Error,
    },
    /// When the folder of allowed keys can't be used.
    #[error(transparent)]
    Allow(#[from] AllowError),
    /// When the store of durable jobs can't be used.
    #[cfg(feature = "store")]
    #[error(transparent)]
    Store(#[from] giostra_store::StoreError),
    /// When libzmq would lack file descriptors, for which it ends the process.
    #[error(transparent)]
    TooFewFiles(#[from] TooFew),
    /// When the system or libzmq fails.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One of the broker's two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The endpoint for clients.
    Frontend,
    /// The endpoint for workers.
    Backend,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
        })
    }
}

/// Why the folder of allowed keys can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AllowError {
    /// When there is no such folder, or it can't be read.
    #[error("{path}: make it: giostra keys allow NAME.key --role client --dir DIR: {1}", path = .0.display())]
    NoFolder(PathBuf, io::Error),
    /// When something in it can't be read.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
    /// When every user of the machine can write it: the path and its mode.
    #[error("{path} can be written by every user (mode {1:04o}), who could so let in anybody: chmod o-w {path}", path = .0.display())]
    Writable(PathBuf, u32),
    /// When a certificate is in no role's folder: the file, and the folder of all roles.
    #[error("{} has no role: it belongs into {}/client, worker or admin", .0.display(), .1.display())]
    NoRole(PathBuf, PathBuf),
    /// When a secret key is in it.
    #[error("{} is a secret, and its owner's alone: remove it here", .0.display())]
    Secret(PathBuf),
    /// When a certificate makes no sense.
    #[error(transparent)]
    Certificate(#[from] KeyError),
}
