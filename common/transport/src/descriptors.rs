//! A check that the process has enough file descriptors left for libzmq.
//!
//! libzmq aborts the process when it gets none for its threads and sockets.

use std::io;

use thiserror::Error;

/// The number of descriptors for a connection to a broker with its own context, and some to spare.
const CONNECTION: usize = 24;

/// The error that too few descriptors are left; holds how many more are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too few files may be open at a time: {0} more are needed (ulimit -n)")]
pub struct TooFew(pub usize);

/// Checks that enough descriptors are left for a connection to a broker.
///
/// # Errors
/// If there are too few, because of the process's limit or the system's.
pub fn check_connection() -> Result<(), TooFew> {
    check_connections(1)
}

/// Checks that enough descriptors are left for connections to this many brokers.
///
/// # Errors
/// As [`check_connection`].
pub fn check_connections(count: usize) -> Result<(), TooFew> {
    // Tried by opening pipes, two descriptors each: the limit alone tells neither how many are open, nor
    // what the system allows.
    let needed = count * CONNECTION;
    let pipes: Result<Vec<_>, _> = (0..needed / 2).map(|_| io::pipe()).collect();
    pipes.map(drop).map_err(|_| TooFew(needed))
}
