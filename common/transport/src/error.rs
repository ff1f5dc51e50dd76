//! libzmq's errors, without the types of crate `zmq` in public signatures.

use thiserror::Error;

/// An error of libzmq; displays as libzmq's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct LibzmqError(zmq::Error);

impl From<zmq::Error> for LibzmqError {
    fn from(error: zmq::Error) -> Self {
        Self(error)
    }
}
