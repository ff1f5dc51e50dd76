//! Calls into libzmq that crate `zmq` does not offer, and all `unsafe` code of this crate.
//!
//! Each function is safe to call and says why it is sound.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::time::Duration;

use giostra_protocol::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use zmq::{Error, Socket};

/// Sets an option that has no setter in crate `zmq`.
pub fn set_bytes(socket: &mut Socket, option: u32, value: &[u8]) -> zmq::Result<()> {
    // Sound: the socket is borrowed exclusively; libzmq copies the value of this length.
    let rc = unsafe { zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), option as i32, value.as_ptr().cast(), value.len()) };
    if rc == 0 { Ok(()) } else { Err(last_error()) }
}

/// Sends a frame without copying it: libzmq drops its clone of `bytes` when it has written them.
pub fn send_shared(socket: &mut Socket, bytes: &Bytes, flags: i32) -> zmq::Result<()> {
    unsafe extern "C" fn release(_data: *mut c_void, owner: *mut c_void) {
        // Sound: `owner` is the box from below, and libzmq calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    }
    let owner = Box::new(bytes.clone());
    let (data, len) = (owner.as_ptr().cast_mut().cast(), owner.len());
    let mut message = MaybeUninit::<zmq_sys::zmq_msg_t>::uninit();
    // Sound: libzmq only reads the data, which `owner` keeps alive until `release`, and Bytes may be
    // dropped by any thread. A successful send consumes the initialised message; otherwise it is closed
    // here.
    unsafe {
        let rc =
            zmq_sys::zmq_msg_init_data(message.as_mut_ptr(), data, len, Some(release), Box::into_raw(owner).cast());
        assert_eq!(rc, 0, "zmq_msg_init_data fails only without memory");
        let sent = retrying(|| match zmq_sys::zmq_msg_send(message.as_mut_ptr(), socket.as_mut_ptr(), flags) {
            -1 => Err(last_error()),
            _ => Ok(()),
        });
        if sent.is_err() {
            zmq_sys::zmq_msg_close(message.as_mut_ptr());
        }
        sent
    }
}

/// Makes libzmq send the events of a socket's connections to an endpoint within the process.
pub fn monitor(socket: &mut Socket, endpoint: &str, events: u32) -> zmq::Result<()> {
    let endpoint = CString::new(endpoint).map_err(|_| Error::EINVAL)?;
    // Sound: the socket is borrowed exclusively, and libzmq copies the endpoint.
    let rc = unsafe {
        zmq_sys::zmq_socket_monitor_versioned(
            socket.as_mut_ptr(),
            endpoint.as_ptr(),
            events.into(),
            MONITOR_VERSION,
            zmq_sys::ZMQ_PAIR as i32,
        )
    };
    if rc == 0 { Ok(()) } else { Err(last_error()) }
}

/// Makes libzmq send no more events.
pub fn end_monitor(socket: &mut Socket) {
    // Sound: the socket is borrowed exclusively. Without an endpoint the call stops the monitor, and
    // can't fail.
    unsafe {
        zmq_sys::zmq_socket_monitor_versioned(
            socket.as_mut_ptr(),
            ptr::null(),
            0,
            MONITOR_VERSION,
            zmq_sys::ZMQ_PAIR as i32,
        )
    };
}

/// The version of the event format.
const MONITOR_VERSION: i32 = 2;

/// Computes the public key of a secret key, both in Z85; `None` if the text is not a key.
pub fn curve_public(secret: &str) -> Option<String> {
    let secret = CString::new(secret).ok().filter(|secret| secret.as_bytes().len() == 40)?;
    let mut public = [0 as c_char; 41];
    // Sound: libzmq reads 40 characters and a zero byte, and writes as many.
    let rc = unsafe { zmq_sys::zmq_curve_public(public.as_mut_ptr(), secret.as_ptr()) };
    // Sound: the last byte is zero, whether libzmq has written the key or not.
    let public = unsafe { CStr::from_ptr(public.as_ptr()) };
    (rc == 0).then(|| public.to_str().ok().map(Into::into))?
}

/// Seeds rand(3), which libzmq uses.
pub fn seed_rand(seed: u32) {
    // Sound: the call only sets the state of rand(3), and nothing here depends on that state.
    unsafe { nix::libc::srand(seed) };
}

/// Returns the descriptor that becomes readable when libzmq's threads have news for the socket.
pub fn descriptor(socket: &Socket) -> zmq::Result<BorrowedFd<'_>> {
    let descriptor = retrying(|| socket.get_fd())?;
    // Sound: the descriptor belongs to the socket and stays open as long as it, which is borrowed.
    Ok(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// Sleeps until a descriptor is readable, the timeout has passed, or a signal arrives.
pub fn poll_readable(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
    let mut polled: Vec<_> = descriptors.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, timeout.map(TimeSpec::from), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(Error::from_raw(error as i32)),
    }
}

/// Repeats a call that a signal interrupts. Any call that processes commands of libzmq's threads may
/// be interrupted, even one that does not wait.
pub fn retrying<T>(mut call: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
    loop {
        match call() {
            Err(Error::EINTR) => {}
            result => return result,
        }
    }
}

fn last_error() -> Error {
    // Sound: the call only reads this thread's errno.
    Error::from_raw(unsafe { zmq_sys::zmq_errno() })
}
