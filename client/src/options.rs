//! What a client is told, and why it can't go on.

use std::sync::Arc;
use std::time::Duration;

use giostra_protocol::{DEFAULT_POOL, MAX_MESSAGE_BYTES};
use giostra_transport::connector;
use giostra_transport::descriptors;
use giostra_transport::keys::Credentials;
use giostra_transport::shutdown::Shutdown;
use thiserror::Error;

/// What a client is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's frontend.
    pub broker: String,
    /// A label, one word, for the broker's log and status.
    pub name: String,
    /// The pool whose workers are to compute the requests.
    pub pool: String,
    /// Whether requests wait for a worker if there is none in the pool when they come to the
    /// broker. If not they end in `no-worker`.
    pub wait: bool,
    /// How long to go without a broker, at the start or after it was lost, before requests end in
    /// `no-broker`.
    pub broker_timeout: Duration,
    /// Its keys and the broker's, if the broker demands keys.
    pub credentials: Option<Credentials>,
    /// If given: its request ends every waiting with [`Error::Interrupted`].
    pub shutdown: Option<Shutdown>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: "tcp://127.0.0.1:5555".into(),
            name: giostra_protocol::name::of_process(""),
            pool: DEFAULT_POOL.into(),
            wait: true,
            broker_timeout: Duration::from_secs(10),
            credentials: None,
            shutdown: None,
        }
    }
}

/// Why a client can't go on.
#[derive(Debug, Error)]
pub enum Error {
    /// When the endpoint makes no sense, or no handshake succeeds with what is there.
    #[error(transparent)]
    Dial(#[from] connector::Error),
    /// When no broker answered in time.
    #[error("no broker at {endpoint} within {waited:?}; is one running? (just up, or giostra-broker)")]
    NoBroker {
        /// The endpoint.
        endpoint: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// When something answered that is no message of a broker of this version.
    #[error("what {endpoint} answered can't be read: {error}; is it a broker's frontend, of the same version?")]
    Unreadable {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        error: String,
    },
    /// When the broker does not accept what this client says.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// When a body is too large to be sent.
    #[error("the request has {0} bytes, and {MAX_MESSAGE_BYTES} are the most that can be sent")]
    TooLarge(usize),
    /// When the process was asked to finish.
    #[error("interrupted")]
    Interrupted,
    /// When libzmq would not get the descriptors that it needs, and end the process.
    #[error(transparent)]
    TooFewFiles(#[from] descriptors::TooFew),
    /// When libzmq fails.
    #[error("libzmq: {0}")]
    Zmq(#[from] zmq::Error),
    /// When the [`SharedClient`](crate::SharedClient) could not go on: why.
    #[error(transparent)]
    Ended(Arc<Self>),
}
