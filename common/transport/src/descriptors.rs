//! File descriptors: whether there are enough left for libzmq.
//!
//! libzmq ends the process when it gets none for its own threads and sockets.

use std::io;

use thiserror::Error;

/// How many one connection to a broker takes, with a context of its own, and some to spare.
const CONNECTION: usize = 24;

/// When too few files may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too few files may be open at a time: {CONNECTION} more are needed (ulimit -n)")]
pub struct TooFew;

/// Checks that there is room for a connection to a broker.
///
/// # Errors
/// If there is not, counting what is open already.
pub fn check_connection() -> Result<(), TooFew> {
    // Two each. Tried out, since the limit alone doesn't say what is open, nor what the whole system
    // allows.
    let pipes: Result<Vec<_>, _> = (0..CONNECTION / 2).map(|_| io::pipe()).collect();
    pipes.map(drop).map_err(|_| TooFew)
}
