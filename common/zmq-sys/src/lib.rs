//! The declarations of libzmq 4.3.5, built with CURVE and the draft API: a stand-in for crates.io's
//! `zmq-sys`, put in its place by `[patch.crates-io]` in the workspace's `Cargo.toml`.
//!
//! The published one builds libzmq without libsodium (so without CURVE) and without the draft
//! options `ZMQ_HELLO_MSG`, `ZMQ_DISCONNECT_MSG` and `ZMQ_HICCUP_MSG`, which Giostra's liveness
//! rests on. Crate `zmq` itself is used as published. Once it offers both, this folder and the
//! patch can go.
//!
//! The version is the published one's, 0.12.0. Cargo takes a patch of another version only if no
//! `Cargo.lock` names the published one yet.

mod ffi;

pub use ffi::*;
pub use std::os::fd::RawFd;

pub mod errno {
    //! The error numbers libzmq returns: the system's, and those it adds.

    use super::ffi::ZMQ_HAUSNUMERO;

    pub use libc::{
        EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBUSY, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINPROGRESS, EINTR,
        EINVAL, EMFILE, EMSGSIZE, ENAMETOOLONG, ENETDOWN, ENOBUFS, ENODEV, ENOENT, ENOMEM, ENOTCONN, ENOTSOCK, ENOTSUP,
        EPROTO, EPROTONOSUPPORT,
    };

    const OWN: i32 = ZMQ_HAUSNUMERO as i32;

    pub const EFSM: i32 = OWN + 51;
    pub const ENOCOMPATPROTO: i32 = OWN + 52;
    pub const ETERM: i32 = OWN + 53;
    pub const EMTHREAD: i32 = OWN + 54;

    // In use on systems that lack the names above.
    pub const ENOTSUP_ALT: i32 = OWN + 1;
    pub const EPROTONOSUPPORT_ALT: i32 = OWN + 2;
    pub const ENOBUFS_ALT: i32 = OWN + 3;
    pub const ENETDOWN_ALT: i32 = OWN + 4;
    pub const EADDRINUSE_ALT: i32 = OWN + 5;
    pub const EADDRNOTAVAIL_ALT: i32 = OWN + 6;
    pub const ECONNREFUSED_ALT: i32 = OWN + 7;
    pub const EINPROGRESS_ALT: i32 = OWN + 8;
    pub const ENOTSOCK_ALT: i32 = OWN + 9;
    pub const EMSGSIZE_ALT: i32 = OWN + 10;
    pub const EAFNOSUPPORT_ALT: i32 = OWN + 11;
    pub const ENETUNREACH_ALT: i32 = OWN + 12;
    pub const ECONNABORTED_ALT: i32 = OWN + 13;
    pub const ECONNRESET_ALT: i32 = OWN + 14;
    pub const ENOTCONN_ALT: i32 = OWN + 15;
    pub const ETIMEDOUT_ALT: i32 = OWN + 16;
    pub const EHOSTUNREACH_ALT: i32 = OWN + 17;
    pub const ENETRESET_ALT: i32 = OWN + 18;
}

/// libzmq's I/O loop, which a thread may run by itself: `poller.hpp`.
#[cfg(target_os = "linux")]
pub mod io {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        /// Lets contexts that are created afterwards do what libzmq does as published: for comparisons.
        /// No socket of theirs may be made quiet, and nobody may enter their loops.
        pub fn zmq_io_be_as_published();
        /// Returns the loop of a socket's context, which lives as long as the context; null if it has
        /// none.
        pub fn zmq_io_find(socket: *mut c_void) -> *mut c_void;
        /// Makes the calling thread the one that runs the loop. Returns 0 if another one does.
        pub fn zmq_io_enter(io: *mut c_void) -> c_int;
        /// The same, but does not ask libzmq's thread to step aside.
        pub fn zmq_io_try_enter(io: *mut c_void) -> c_int;
        /// Ends what `zmq_io_enter` began. libzmq's thread goes on some milliseconds later if nobody has
        /// entered by then.
        pub fn zmq_io_leave(io: *mut c_void);
        /// Lets libzmq's thread go on at once.
        pub fn zmq_io_recall(io: *mut c_void);
        /// Keeps the loop from being left alone until `zmq_io_unfollow`.
        pub fn zmq_io_follow(io: *mut c_void);
        /// Ends what `zmq_io_follow` began.
        pub fn zmq_io_unfollow(io: *mut c_void);
        /// Sends what sockets have handed over, without looking for what has arrived.
        pub fn zmq_io_push(io: *mut c_void);
        /// Handles what is due without waiting. Returns the number of descriptors that were ready.
        pub fn zmq_io_pass(io: *mut c_void) -> c_int;
        /// Makes the descriptor readable when something is due, until the next pass. Returns 0 if
        /// something is due now.
        pub fn zmq_io_arm(io: *mut c_void) -> c_int;
        /// Returns the descriptor that is readable when something is due.
        pub fn zmq_io_descriptor(io: *mut c_void) -> c_int;
        /// Executes the timers that are due. Returns the milliseconds to the next one; 0 without one.
        pub fn zmq_io_timer(io: *mut c_void) -> c_int;
        /// Lets a new socket's descriptor become readable only while the socket is armed.
        pub fn zmq_io_make_quiet(socket: *mut c_void);
        /// Arms a socket before its reader sleeps on the descriptor. Returns 0 if there is news already.
        pub fn zmq_io_arm_socket(socket: *mut c_void) -> c_int;
        /// Ends what `zmq_io_arm_socket` began.
        pub fn zmq_io_disarm_socket(socket: *mut c_void);
        /// Returns whether there is news for a quiet socket.
        pub fn zmq_io_has_news(socket: *mut c_void) -> c_int;
    }
}
