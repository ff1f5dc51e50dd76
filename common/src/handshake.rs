//! What becomes of connections: a socket's monitor, read.
//!
//! libzmq tells of it in [messages](https://libzmq.readthedocs.io/en/latest/zmq_socket_monitor_versioned.html) (here their second version,
//! which names both ends) over a PAIR socket in the process.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zmq::{Context, DONTWAIT, Socket, SocketType};

use crate::socket;

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// When a peer connected. It has not said anything yet.
    Accepted(RawFd),
    /// When the handshake was well.
    Succeeded,
    /// When the handshake failed.
    Failed(Failure),
    /// When a connection ended, be it in the middle of its handshake.
    Ended(RawFd),
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// When the other side's authentication refused this one, with a status of [ZAP](https://rfc.zeromq.org/spec/27/).
    Refused(u64),
    /// When the protocol was broken: one of libzmq's `ZMQ_PROTOCOL_ERROR_..`.
    Protocol(u64),
    /// When the other side was gone, or took too long.
    Broken(Errno),
}

impl Failure {
    /// Whether trying again with the same keys and flags is in vain.
    pub fn is_final(self) -> bool {
        match self {
            Self::Refused(status) => status == 400,
            Self::Protocol(code) => code == u64::from(zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH),
            Self::Broken(_) => false,
        }
    }
}

impl Failure {
    /// What a client or worker is to look at, to be put behind the failure.
    pub fn advice(self, with_keys: bool) -> &'static str {
        match (self, with_keys) {
            (Self::Refused(_), _) => {
                ". Its public certificate has to be in the broker's --allow folder (giostra keys allow), under this role; \
                 a broker that runs learns of it by SIGHUP"
            }
            (Self::Protocol(_), true) => ". Does the broker have keys (--keys)?",
            (Self::Protocol(_), false) => ". A broker with keys needs --keys and --broker-key here, too",
            (Self::Broken(_), true) => ". Is --broker-key the broker's public key?",
            (Self::Broken(_), false) => "",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(400) => f.write_str("this key is not allowed"),
            Self::Refused(status) => write!(f, "the authentication failed with status {status}"),
            Self::Protocol(code) => match u32::try_from(*code) {
                Ok(zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) => {
                    f.write_str("one side speaks with keys (CURVE), the other without")
                }
                Ok(zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) => {
                    f.write_str("what was sent can't be decrypted: not the right broker key")
                }
                _ => write!(f, "no ZMTP, or a breach of it ({code:#x})"),
            },
            Self::Broken(Errno::EAGAIN | Errno::ETIMEDOUT) => f.write_str("it took too long"),
            Self::Broken(_) => f.write_str("the connection ended in the middle of it"),
        }
    }
}

/// Handshakes that may fail one right after the other, as when a broker is killed and started again.
const FAILURES: u32 = 3;

/// The time between two attempts after that.
const PAUSE: Duration = Duration::from_secs(1);

/// A socket whose connections are watched.
///
/// libzmq's own threads write to its monitor, and would wait for ever if nobody could read there any more: so the two are together,
/// and the monitor is ended before either is closed.
pub struct Watched {
    socket: Socket,
    monitor: Option<Socket>,
    /// Handshakes that failed, one after the other.
    failures: u32,
    /// When to connect again.
    pause: Option<Instant>,
}

/// Something seen, and the peer's endpoint.
pub type Seen = (Sight, String);

impl Watched {
    /// Watches a socket that is neither bound nor connected yet.
    pub fn new(context: &Context, socket: Socket) -> zmq::Result<Self> {
        let mut watched = Self { socket, monitor: None, failures: 0, pause: None };
        watched.begin(context)?;
        Ok(watched)
    }

    /// Watches again, if it doesn't. Without room for more sockets in the context it does not: then nothing is seen, and that is all.
    pub fn look(&mut self, context: &Context) {
        if self.monitor.is_none() {
            let _ = self.begin(context);
        }
    }

    fn begin(&mut self, context: &Context) -> zmq::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let endpoint = format!("inproc://giostra-watch-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let events = zmq_sys::ZMQ_EVENT_ACCEPTED
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq_sys::ZMQ_EVENT_DISCONNECTED;
        let monitor = context.socket(SocketType::PAIR)?;
        // However slowly it is read, there is room.
        monitor.set_rcvhwm(0)?;
        monitor.set_linger(0)?;
        socket::monitor(&mut self.socket, &endpoint, events)?;
        // From here on libzmq may write there, and somebody has to be able to read.
        if let Err(error) = monitor.connect(&endpoint) {
            socket::end_monitor(&mut self.socket);
            return Err(error);
        }
        self.monitor = Some(monitor);
        Ok(())
    }

    /// What else to wait for, as long as it is watched.
    pub fn monitor(&self) -> Option<&Socket> {
        self.monitor.as_ref()
    }

    /// Watches no longer: there is somebody to talk to.
    pub fn look_away(&mut self) {
        self.failures = 0;
        self.pause = None;
        if let Some(monitor) = self.monitor.take() {
            socket::end_monitor(&mut self.socket);
            drop(monitor);
        }
    }

    /// The next thing seen, if there is one.
    pub fn see(&self) -> zmq::Result<Option<Seen>> {
        let Some(monitor) = &self.monitor else { return Ok(None) };
        loop {
            match monitor.recv_multipart(DONTWAIT) {
                Ok(frames) => {
                    if let Some(seen) = read(&frames) {
                        return Ok(Some(seen));
                    }
                }
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(zmq::Error::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// For a socket that is connected to an endpoint: how the last handshake failed, of those since this was last called, and when to call it
    /// again though nothing has happened.
    ///
    /// libzmq connects again at once after a failed handshake, some ninety times a second. Here it rests after a few of them.
    pub fn tend(&mut self, endpoint: &str, now: Instant) -> zmq::Result<(Option<Failure>, Option<Instant>)> {
        let mut last = None;
        while let Some((sight, _)) = self.see()? {
            if let Sight::Failed(failure) = sight {
                last = Some(failure);
                self.failures += 1;
            }
        }
        if self.failures >= FAILURES && self.pause.is_none() {
            // What libzmq has given up by itself is not connected any more.
            match self.socket.disconnect(endpoint) {
                Ok(()) | Err(zmq::Error::ENOENT) => {}
                Err(error) => return Err(error),
            }
            self.pause = Some(now + PAUSE);
        }
        if self.pause.is_some_and(|until| until <= now) {
            self.pause = None;
            self.failures = FAILURES - 1;
            self.socket.connect(endpoint)?;
        }
        Ok((last, self.pause))
    }
}

impl Deref for Watched {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.look_away();
    }
}

/// An event of version 2: event, number of values, values, local endpoint, remote endpoint.
fn read(frames: &[Vec<u8>]) -> Option<Seen> {
    let number = |frame: &Vec<u8>| frame.as_slice().try_into().ok().map(u64::from_ne_bytes);
    let [event, _, value, .., remote] = frames else { return None };
    let (event, value) = (u32::try_from(number(event)?).ok()?, number(value)?);
    let fd = || RawFd::try_from(value).ok();
    let sight = match event {
        zmq_sys::ZMQ_EVENT_ACCEPTED => Sight::Accepted(fd()?),
        zmq_sys::ZMQ_EVENT_DISCONNECTED => Sight::Ended(fd()?),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => Sight::Succeeded,
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => Sight::Failed(Failure::Refused(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => Sight::Failed(Failure::Protocol(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
            Sight::Failed(Failure::Broken(Errno::from_raw(i32::try_from(value).unwrap_or(0))))
        }
        _ => return None,
    };
    Some((sight, String::from_utf8_lossy(remote).into_owned()))
}
