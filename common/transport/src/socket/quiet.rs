//! Sockets whose readers run the I/O loop.

use std::ops::{Deref, DerefMut};

use zmq::Socket;

use crate::ffi;

/// A socket whose descriptor becomes readable only while [`sleep`](super::sleep) waits for it, or
/// after [`Self::arm`].
///
/// libzmq signals each message that arrives by writing to the socket's descriptor, and the reader
/// polls, reads and polls it. A thread that runs the [I/O loop](crate::io_loop) would signal to
/// itself: here a signal is a flag.
pub struct QuietSocket {
    raw: ffi::RawSocket,
    socket: Socket,
}

impl QuietSocket {
    /// Makes a socket quiet that is neither bound nor connected yet.
    pub fn new(mut socket: Socket) -> Self {
        Self { raw: ffi::RawSocket::make_quiet(&mut socket), socket }
    }

    /// Makes the descriptor readable as soon as there is news. Returns false, and does nothing, if
    /// there is news already.
    pub fn arm(&self) -> bool {
        self.raw.arm()
    }

    /// Ends what [`Self::arm`] began, if it did.
    pub fn disarm(&self) {
        self.raw.disarm();
    }

    /// Returns whether there is news. It is not lost by asking.
    pub fn has_news(&self) -> bool {
        self.raw.has_news()
    }
}

impl Deref for QuietSocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for QuietSocket {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}
