//! Errors: why a client can't go on, and why a call has no result.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use giostra_protocol::{Failure, MAX_MESSAGE_BYTES};
use giostra_transport::{connector, descriptors};
use thiserror::Error;

/// Why a client can't go on.
///
/// The message is complete: no error has a source besides.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// When the broker's endpoint is malformed, or libzmq can't connect to it; or when there are other
    /// keys than brokers.
    #[error("{0}")]
    Endpoint(String),
    /// When no handshake succeeds with what listens at the endpoint, for instance because only one
    /// side has keys.
    #[error("{0}")]
    Handshake(String),
    /// When no broker answered in time.
    #[error("no broker at {endpoint} within {waited:?}{}; is one running?", .why.as_ref().map_or_else(String::new, |why| format!(" ({why})")))]
    NoBroker {
        /// The broker's endpoint, or several with commas between them.
        endpoint: String,
        /// How long the client waited.
        waited: Duration,
        /// Why none could be connected to, where that is known.
        why: Option<String>,
    },
    /// When the answer is no message of a broker of this version.
    #[error("what {endpoint} answered can't be read: {error}; is it a broker's frontend, of the same version?")]
    Unreadable {
        /// The endpoint that answered.
        endpoint: String,
        /// What is wrong with the answer.
        error: String,
    },
    /// When the broker refuses a message of this client; holds the broker's reason.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// When a request's body is too large to be sent; holds its size in bytes.
    #[error("the request has {0} bytes, and {MAX_MESSAGE_BYTES} are the most that can be sent")]
    TooLarge(usize),
    /// When a request of a job can't be made; holds why.
    #[error("{0}")]
    Request(Failure),
    /// When [`Options::shutdown`](crate::Options::shutdown) was requested.
    #[error("interrupted")]
    Interrupted,
    /// When the process may not open as many files as libzmq needs, which would abort the process.
    #[error(transparent)]
    TooFewFiles(#[from] descriptors::TooFew),
    /// When libzmq fails; holds its message.
    #[error("libzmq: {0}")]
    Socket(String),
    /// When the system can't start the thread of a [`SharedClient`](crate::SharedClient).
    #[error("can't start the client's thread: {0}")]
    Thread(io::Error),
    /// When a [`SharedClient`](crate::SharedClient) can't go on; all its answers share the reason.
    #[error(transparent)]
    Ended(Arc<Self>),
}

impl Error {
    pub(crate) fn of_connector(error: &connector::Error) -> Self {
        use connector::Error as Connector;
        match error {
            Connector::Endpoint { .. } | Connector::Keys { .. } | Connector::Connect { .. } => {
                Self::Endpoint(error.to_string())
            }
            // It ends nothing: the name may be known in a moment.
            Connector::Name { .. } | Connector::Handshake { .. } => Self::Handshake(error.to_string()),
            Connector::Zmq(error) => Self::Socket(error.to_string()),
        }
    }

    /// When the broker's answer has nothing to do with the question.
    pub(crate) fn not_an_answer() -> Self {
        Self::Refused("its answer is none to what was asked".into())
    }

    pub(crate) fn of_libzmq(error: zmq::Error) -> Self {
        Self::Socket(error.to_string())
    }
}

/// Why a call has no result.
///
/// The message is complete: no error has a source besides.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// When the client can't go on.
    #[error(transparent)]
    Client(#[from] Error),
    /// When the request ended without a result: its operation failed, its time limit passed, or no
    /// broker was there. [`Failure::code`] tells these apart; the codes are in [`code`](crate::code).
    #[error(transparent)]
    Failed(#[from] Failure),
    /// When the arguments can't be written as MessagePack; holds the reason.
    #[error("the arguments can't be encoded: {0}")]
    Encode(String),
    /// When the result is not of the type that was asked for; holds the reason.
    #[error("the result is not of that type: {0}")]
    Decode(String),
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_is_complete_without_its_sources() {
        let errors = [
            Error::Endpoint("can't connect to nonsense: the port is missing".into()),
            Error::Socket("Too many open files".into()),
            Error::Thread(io::Error::from(io::ErrorKind::OutOfMemory)),
            Error::Ended(Arc::new(Error::TooFewFiles(descriptors::TooFew(24)))),
        ];
        for error in errors {
            assert!(error.source().is_none(), "{error:?}");
            let error = CallError::from(error);
            assert!(error.source().is_none(), "{error:?}");
        }
    }

    #[test]
    fn a_malformed_endpoint_and_a_failing_socket_are_told_apart() {
        let error =
            Error::of_connector(&connector::Error::Connect { endpoint: "x".into(), source: zmq::Error::EINVAL.into() });
        assert!(matches!(&error, Error::Endpoint(message) if message.starts_with("can't connect to x: ")), "{error:?}");
        let error = Error::of_connector(&connector::Error::Zmq(zmq::Error::EMFILE.into()));
        assert_eq!(error.to_string(), format!("libzmq: {}", zmq::Error::EMFILE));
    }
}
