//! Sleeping until sockets or descriptors are ready.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use zmq::{Error, Socket};

use crate::ffi::{self, descriptor, retrying};

/// Sleeps until one of `sockets` may have a message, one of `descriptors` is readable, or the
/// timeout has passed. A signal may end the sleep early.
///
/// It makes about half as many system calls as libzmq's own poll, which polls without a timeout
/// first and queries each socket again afterwards. Here each socket is queried once, before the
/// poll: a send may have consumed the notice of a message, after which the socket's descriptor does
/// not become readable for it.
pub fn sleep(sockets: &[&Socket], descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
    let mut all = descriptors.to_vec();
    for socket in sockets {
        if retrying(|| socket.get_events())?.contains(zmq::POLLIN) {
            return Ok(());
        }
        all.push(descriptor(socket)?);
    }
    ffi::poll_readable(&all, timeout)
}

/// Sleeps until one of the items is ready or the timeout has passed. `None` sleeps without a limit.
/// A signal ends the sleep early.
pub fn poll(items: &mut [zmq::PollItem<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
    // Rounded up: after a sleep that ends too early, several short ones would follow.
    let timeout = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i64::MAX));
    match zmq::poll(items, timeout) {
        Ok(_) | Err(Error::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
