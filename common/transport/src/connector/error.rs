//! Why there is no connection.

use std::fmt;

use thiserror::Error;

use crate::endpoint::BadEndpoint;
use crate::error::LibzmqError;
use crate::monitor::Failure;

/// Why there is no connection to the broker.
#[derive(Debug, Error)]
pub enum Error {
    /// When the endpoint is malformed.
    #[error("can't connect to {endpoint}: {source}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        source: BadEndpoint,
    },
    /// When there are neither as many brokers' keys as brokers, nor one for all.
    #[error("{brokers} brokers are listed, and {keys} keys of brokers: one for each in the same order, or one for all")]
    Keys {
        /// The number of brokers.
        brokers: usize,
        /// The number of keys.
        keys: usize,
    },
    /// When a broker's name has no address.
    #[error("the name in {endpoint} can't be looked up: {reason}")]
    Name {
        /// The endpoint.
        endpoint: String,
        /// The name server's or the system's reason.
        reason: String,
    },
    /// When libzmq can't connect to the endpoint.
    #[error("can't connect to {endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: String,
        /// libzmq's error.
        source: LibzmqError,
    },
    /// When something answers at the endpoint, but the handshake fails.
    #[error("no conversation with the broker at {endpoint}: {failure}{}", .failure.advice(*.with_keys))]
    Handshake {
        /// The endpoint.
        endpoint: String,
        /// Why the last handshake failed.
        failure: Failure,
        /// Whether this side has keys.
        with_keys: bool,
    },
    /// When libzmq fails.
    #[error("libzmq: {0}")]
    Zmq(#[from] LibzmqError),
}

impl From<zmq::Error> for Error {
    fn from(error: zmq::Error) -> Self {
        Self::Zmq(error.into())
    }
}

/// Why an attempt to connect failed, in a sentence with what the user should check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(String);

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
