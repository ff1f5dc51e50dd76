//! What becomes of connections: a socket's monitor, read.
//!
//! libzmq tells of it in [messages](https://libzmq.readthedocs.io/en/latest/zmq_socket_monitor_versioned.html) (here their second version,
//! which names both ends) over a PAIR socket in the process.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use zmq::{Context, DONTWAIT, Socket, SocketType};

use crate::socket;

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// When a peer connected. It has not said anything yet.
    Accepted(RawFd),
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

/// A socket's monitor.
pub struct Watch {
    events: Socket,
}

/// Something seen, and the peer's endpoint.
pub type Seen = (Sight, String);

impl Watch {
    /// Watches a socket from now on, until it is closed.
    pub fn begin(context: &Context, watched: &mut Socket) -> zmq::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let endpoint = format!("inproc://giostra-watch-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let events = zmq_sys::ZMQ_EVENT_ACCEPTED
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq_sys::ZMQ_EVENT_DISCONNECTED;
        socket::monitor(watched, &endpoint, events)?;
        let pair = context.socket(SocketType::PAIR)?;
        // libzmq's own threads write here, and would wait for whoever reads: there is to be room.
        pair.set_rcvhwm(0)?;
        pair.connect(&endpoint)?;
        Ok(Self { events: pair })
    }

    /// What to wait for.
    pub fn socket(&self) -> &Socket {
        &self.events
    }

    /// The next thing seen, if there is one.
    pub fn next(&self) -> zmq::Result<Option<Seen>> {
        loop {
            match self.events.recv_multipart(DONTWAIT) {
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

    /// The last failed handshake of those seen since this was last asked.
    pub fn last_failure(&self) -> zmq::Result<Option<Failure>> {
        let mut last = None;
        while let Some((sight, _)) = self.next()? {
            if let Sight::Failed(failure) = sight {
                last = Some(failure);
            }
        }
        Ok(last)
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
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => Sight::Failed(Failure::Refused(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => Sight::Failed(Failure::Protocol(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
            Sight::Failed(Failure::Broken(Errno::from_raw(i32::try_from(value).unwrap_or(0))))
        }
        _ => return None,
    };
    Some((sight, String::from_utf8_lossy(remote).into_owned()))
}
