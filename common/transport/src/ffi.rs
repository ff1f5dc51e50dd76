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

/// Returns whether the kernel's clock is synchronised; `None` if the kernel does not say.
#[cfg(target_os = "linux")]
pub fn clock_is_synchronised() -> Option<bool> {
    // As systemd has it: the kernel adds to its error as long as nobody sets the clock right.
    const MAX_ERROR_US: nix::libc::c_long = 16_000_000;
    let mut clock = MaybeUninit::<nix::libc::timex>::zeroed();
    // Sound: all zeros are a value of the struct, which asks for no change; the kernel fills it in.
    let (state, clock) = unsafe { (nix::libc::adjtimex(clock.as_mut_ptr()), clock.assume_init()) };
    (state >= 0).then_some(clock.maxerror < MAX_ERROR_US)
}

/// Only Linux is asked.
#[cfg(not(target_os = "linux"))]
pub fn clock_is_synchronised() -> Option<bool> {
    None
}

/// Returns the descriptor that becomes readable when libzmq's threads have news for the socket.
pub fn descriptor(socket: &Socket) -> zmq::Result<BorrowedFd<'_>> {
    let descriptor = retrying(|| socket.get_fd())?;
    // Sound: the descriptor belongs to the socket and stays open as long as it, which is borrowed.
    Ok(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// Sleeps until a descriptor is readable, the timeout has passed, or a signal arrives. Returns
/// whether the sleep ended otherwise than by the first `own` descriptors alone.
pub fn poll_readable(descriptors: &[BorrowedFd<'_>], own: usize, timeout: Option<Duration>) -> zmq::Result<bool> {
    let mut polled: Vec<_> = descriptors.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, timeout.map(TimeSpec::from), None) {
        Ok(_) => Ok(polled[own..].iter().any(|fd| fd.any().unwrap_or(true))),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(Error::from_raw(error as i32)),
    }
}

/// A pointer to libzmq's I/O loop of a context. Its owner keeps the context alive.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct RawLoop(ptr::NonNull<c_void>);

// Sound: the functions below may be called by any thread; what only the thread that has entered may
// do takes an exclusive borrow of a value that `enter` has made.
#[cfg(target_os = "linux")]
unsafe impl Send for RawLoop {}
#[cfg(target_os = "linux")]
unsafe impl Sync for RawLoop {}

#[cfg(target_os = "linux")]
impl RawLoop {
    /// Returns the loop of the socket's context.
    pub fn of(socket: &mut Socket) -> Option<Self> {
        // Sound: the socket is open, and the call only reads its context's address.
        ptr::NonNull::new(unsafe { zmq_sys::io::zmq_io_find(socket.as_mut_ptr()) }).map(Self)
    }

    /// Makes the calling thread the one that runs the loop; returns whether it is.
    pub fn enter(&self) -> bool {
        // Sound: the context lives, and with it the loop.
        unsafe { zmq_sys::io::zmq_io_enter(self.0.as_ptr()) != 0 }
    }

    /// As [`Self::enter`], but does not ask libzmq's thread to step aside.
    pub fn try_enter(&self) -> bool {
        // Sound: as in `enter`.
        unsafe { zmq_sys::io::zmq_io_try_enter(self.0.as_ptr()) != 0 }
    }

    /// Ends what [`Self::enter`] began.
    pub fn leave(&self) {
        // Sound: as in `enter`.
        unsafe { zmq_sys::io::zmq_io_leave(self.0.as_ptr()) };
    }

    /// Lets libzmq's thread run the loop at once if nobody does.
    pub fn recall(&self) {
        // Sound: as in `enter`.
        unsafe { zmq_sys::io::zmq_io_recall(self.0.as_ptr()) };
    }

    /// Keeps the loop from being left alone until [`Self::unfollow`].
    pub fn follow(&self) {
        // Sound: as in `enter`.
        unsafe { zmq_sys::io::zmq_io_follow(self.0.as_ptr()) };
    }

    /// Ends what [`Self::follow`] began.
    pub fn unfollow(&self) {
        // Sound: as in `enter`.
        unsafe { zmq_sys::io::zmq_io_unfollow(self.0.as_ptr()) };
    }

    /// Sends what sockets have handed over. Only for the thread that has entered.
    pub fn push(&self) {
        // Sound: as in `pass`.
        unsafe { zmq_sys::io::zmq_io_push(self.0.as_ptr()) };
    }

    /// Makes the descriptor readable when something is due, until the next pass; returns whether
    /// nothing is due now. Only for the thread that has entered.
    pub fn arm(&self) -> bool {
        // Sound: as in `pass`.
        unsafe { zmq_sys::io::zmq_io_arm(self.0.as_ptr()) != 0 }
    }

    /// Handles what is due without waiting; returns whether there was anything. Only for the thread
    /// that has entered.
    pub fn pass(&self) -> bool {
        // Sound: as in `enter`, and no other thread runs the loop.
        unsafe { zmq_sys::io::zmq_io_pass(self.0.as_ptr()) > 0 }
    }

    /// Executes the timers that are due; returns the time to the next. Only for the thread that has
    /// entered.
    pub fn timers(&self) -> Option<Duration> {
        // Sound: as in `pass`.
        let millis = unsafe { zmq_sys::io::zmq_io_timer(self.0.as_ptr()) };
        u64::try_from(millis).ok().filter(|&millis| millis > 0).map(Duration::from_millis)
    }

    /// Returns the descriptor that is readable when something is due.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // Sound: it stays open as long as the loop, which outlives `self`.
        unsafe { BorrowedFd::borrow_raw(zmq_sys::io::zmq_io_descriptor(self.0.as_ptr())) }
    }
}

/// Lets contexts that are created afterwards do what libzmq does as published.
#[cfg(target_os = "linux")]
pub fn be_as_published() {
    // Sound: the call sets a flag.
    unsafe { zmq_sys::io::zmq_io_be_as_published() };
}

/// Does nothing where libzmq is as published.
#[cfg(not(target_os = "linux"))]
pub fn be_as_published() {}

/// libzmq's I/O loop where its own thread alone can run it: there is none to be had.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub enum RawLoop {}

#[cfg(not(target_os = "linux"))]
#[allow(missing_docs)]
impl RawLoop {
    pub fn of(_socket: &mut Socket) -> Option<Self> {
        None
    }
    pub fn enter(&self) -> bool {
        match *self {}
    }
    pub fn try_enter(&self) -> bool {
        match *self {}
    }
    pub fn leave(&self) {
        match *self {}
    }
    pub fn recall(&self) {
        match *self {}
    }
    pub fn follow(&self) {
        match *self {}
    }
    pub fn unfollow(&self) {
        match *self {}
    }
    pub fn push(&self) {
        match *self {}
    }
    pub fn pass(&self) -> bool {
        match *self {}
    }
    pub fn arm(&self) -> bool {
        match *self {}
    }
    pub fn timers(&self) -> Option<Duration> {
        match *self {}
    }
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

/// A pointer to a quiet socket, kept beside the socket.
#[derive(Debug)]
pub struct RawSocket(#[cfg_attr(not(target_os = "linux"), allow(dead_code))] *mut c_void);

// Sound: the pointer is used as the socket is, which one thread at a time may use.
unsafe impl Send for RawSocket {}

#[cfg(target_os = "linux")]
impl RawSocket {
    /// Makes a new socket quiet.
    pub fn make_quiet(socket: &mut Socket) -> Self {
        let raw = Self(socket.as_mut_ptr());
        // Sound: the socket is open, and borrowed exclusively.
        unsafe { zmq_sys::io::zmq_io_make_quiet(raw.0) };
        raw
    }

    /// Arms the socket; returns whether there was no news.
    pub fn arm(&self) -> bool {
        // Sound: the socket is open as long as `self` is kept beside it, and only its reader's thread
        // has it: it is not `Sync`.
        unsafe { zmq_sys::io::zmq_io_arm_socket(self.0) != 0 }
    }

    /// Disarms the socket.
    pub fn disarm(&self) {
        // Sound: as in `arm`.
        unsafe { zmq_sys::io::zmq_io_disarm_socket(self.0) };
    }

    /// Returns whether there is news.
    pub fn has_news(&self) -> bool {
        // Sound: as in `arm`.
        unsafe { zmq_sys::io::zmq_io_has_news(self.0) != 0 }
    }
}

/// Where libzmq's own poller is in use, no socket is quiet.
#[cfg(not(target_os = "linux"))]
#[allow(missing_docs)]
impl RawSocket {
    pub fn make_quiet(socket: &mut Socket) -> Self {
        Self(socket.as_mut_ptr())
    }
    pub fn arm(&self) -> bool {
        true
    }
    pub fn disarm(&self) {}
    pub fn has_news(&self) -> bool {
        true
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
