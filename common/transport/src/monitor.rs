//! Events of a socket's connections, from libzmq's [socket monitor][monitor].
//!
//! The monitor sends them over a PAIR socket within the process, here in version 2 of their format,
//! which names both endpoints.
//!
//! [monitor]: https://libzmq.readthedocs.io/en/latest/zmq_socket_monitor_versioned.html

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use zmq::{Context, Socket, SocketType};

use crate::ffi;
use crate::socket::{self, QuietSocket};

/// An event of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorEvent {
    /// When a peer connected, before the handshake: the number of the connection's descriptor,
    /// which belongs to libzmq and may be closed at any time.
    Accepted(RawFd),
    /// When the handshake succeeded.
    Succeeded,
    /// When the handshake failed.
    Failed(Failure),
    /// When a connection ended, during its handshake or later.
    Ended(RawFd),
    /// When nobody listened, or the host did not answer: libzmq tries again.
    Unreachable,
}

/// Why an attempt to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedAttempt {
    /// When there is nobody to talk to.
    Unreachable,
    /// When the handshake failed.
    Handshake(Failure),
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// When the other side's authentication refused this side, with a status of
    /// [ZAP](https://rfc.zeromq.org/spec/27/).
    Refused(u64),
    /// When the other side violated the protocol: one of libzmq's `ZMQ_PROTOCOL_ERROR_..`.
    Protocol(u64),
    /// When the connection ended, or the handshake took too long.
    Broken(Errno),
}

impl Failure {
    /// Returns whether the broker refused this side's key.
    pub fn is_key_refused(self) -> bool {
        self == Self::Refused(400)
    }

    /// The failure when only one side uses keys.
    pub const MISMATCH: Self = Self::Protocol(zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH as u64);

    /// Returns whether only one side uses keys. libzmq reports the same of some peers that do not
    /// speak ZMTP at all.
    pub fn is_mismatch(self) -> bool {
        self == Self::MISMATCH
    }

    /// Returns whether libzmq reconnects by itself after this failure.
    pub fn is_retried(self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// Returns what the user of a client or worker should check, as sentences to append to the
    /// failure's text.
    pub fn advice(self, with_keys: bool) -> &'static str {
        match (self, with_keys) {
            (Self::Refused(_), _) => {
                ". Its public certificate has to be in the broker's --allow folder (giostra keys allow), under this role; \
                 a broker that runs notices that in a second or two"
            }
            (Self::Protocol(_), true) => ". Does the broker have keys (--keys)?",
            (Self::Protocol(_), false) => ". If the broker has keys, --keys and --broker-key are needed here, too",
            (Self::Broken(_), true) => {
                ". Is --broker-key the broker's public key? Has the broker keys at all (--keys)? Or has it too many connections \
                 from this address (--max-connections)? Its log says which"
            }
            (Self::Broken(_), false) => {
                ". If the broker has keys, --keys and --broker-key are needed here, too. Or it has too many connections from this \
                 address (--max-connections); its log says which"
            }
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

/// A socket with its monitor.
///
/// libzmq's threads write to the monitor and would block for ever once nobody could read there. So
/// this type owns both sockets, and stops the monitor before it closes either.
pub struct MonitoredSocket {
    socket: QuietSocket,
    monitor: Option<QuietSocket>,
}

impl MonitoredSocket {
    /// Monitors a socket that is neither bound nor connected yet.
    pub fn new(context: &Context, socket: Socket) -> zmq::Result<Self> {
        let mut monitored = Self { socket: QuietSocket::new(socket), monitor: None };
        monitored.try_start(context)?;
        Ok(monitored)
    }

    /// Starts the monitor again after [`Self::stop_monitor`]. If the context has no socket left,
    /// nothing happens: there are no events then, which is harmless.
    pub fn start_monitor(&mut self, context: &Context) {
        if self.monitor.is_none() {
            let _ = self.try_start(context);
        }
    }

    fn try_start(&mut self, context: &Context) -> zmq::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let endpoint = format!("inproc://giostra-monitor-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let events = zmq_sys::ZMQ_EVENT_ACCEPTED
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq_sys::ZMQ_EVENT_CONNECT_RETRIED
            | zmq_sys::ZMQ_EVENT_DISCONNECTED;
        let monitor = QuietSocket::new(context.socket(SocketType::PAIR)?);
        // No limit: libzmq's threads never block, however slowly the events are read.
        monitor.set_rcvhwm(0)?;
        monitor.set_linger(0)?;
        ffi::monitor(&mut self.socket, &endpoint, events)?;
        // From here on libzmq may write to the monitor, so it needs a reader or has to end.
        if let Err(error) = monitor.connect(&endpoint) {
            ffi::end_monitor(&mut self.socket);
            return Err(error);
        }
        self.monitor = Some(monitor);
        Ok(())
    }

    /// Returns the monitor's socket, to be polled for events, while the monitor runs.
    pub fn monitor(&self) -> Option<&QuietSocket> {
        self.monitor.as_ref()
    }

    /// Stops the monitor. It costs file descriptors and is not needed while the connection is up.
    pub fn stop_monitor(&mut self) {
        if let Some(monitor) = self.monitor.take() {
            ffi::end_monitor(&mut self.socket);
            drop(monitor);
        }
    }

    /// Returns the next event and the peer's endpoint, if there is one.
    pub fn next_event(&self) -> zmq::Result<Option<(MonitorEvent, String)>> {
        let Some(monitor) = &self.monitor else { return Ok(None) };
        while let Some(frames) = socket::receive_frames(monitor)? {
            if let Some(event) = parse(&frames) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Returns the next failed attempt to connect, if there is one, and skips all other events.
    pub fn next_failed(&self) -> zmq::Result<Option<FailedAttempt>> {
        while let Some((event, _)) = self.next_event()? {
            match event {
                MonitorEvent::Failed(failure) => return Ok(Some(FailedAttempt::Handshake(failure))),
                MonitorEvent::Unreachable => return Ok(Some(FailedAttempt::Unreachable)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns the next failed handshake, if there is one, and skips all other events.
    #[cfg(test)]
    fn next_failure(&self) -> zmq::Result<Option<Failure>> {
        loop {
            match self.next_failed()? {
                Some(FailedAttempt::Handshake(failure)) => return Ok(Some(failure)),
                Some(FailedAttempt::Unreachable) => {}
                None => return Ok(None),
            }
        }
    }
}

impl Deref for MonitoredSocket {
    type Target = QuietSocket;

    fn deref(&self) -> &QuietSocket {
        &self.socket
    }
}

impl DerefMut for MonitoredSocket {
    fn deref_mut(&mut self) -> &mut QuietSocket {
        &mut self.socket
    }
}

impl Drop for MonitoredSocket {
    fn drop(&mut self) {
        self.stop_monitor();
    }
}

/// Parses an event of version 2: event, number of values, values, local endpoint, remote endpoint.
fn parse(frames: &[Vec<u8>]) -> Option<(MonitorEvent, String)> {
    let number = |frame: &Vec<u8>| frame.as_slice().try_into().ok().map(u64::from_ne_bytes);
    let [event, _, value, .., remote] = frames else { return None };
    let (event, value) = (u32::try_from(number(event)?).ok()?, number(value)?);
    let fd = || RawFd::try_from(value).ok();
    let event = match event {
        zmq_sys::ZMQ_EVENT_ACCEPTED => MonitorEvent::Accepted(fd()?),
        zmq_sys::ZMQ_EVENT_DISCONNECTED => MonitorEvent::Ended(fd()?),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => MonitorEvent::Succeeded,
        zmq_sys::ZMQ_EVENT_CONNECT_RETRIED => MonitorEvent::Unreachable,
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => MonitorEvent::Failed(Failure::Refused(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => MonitorEvent::Failed(Failure::Protocol(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
            MonitorEvent::Failed(Failure::Broken(Errno::from_raw(i32::try_from(value).unwrap_or(0))))
        }
        _ => return None,
    };
    Some((event, String::from_utf8_lossy(remote).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use giostra_protocol::MAX_MESSAGE_BYTES;

    use super::*;
    use crate::keys::{Credentials, KeyPair};
    use crate::socket::{Peers, RouterOptions};

    /// Returns a ROUTER with these keys, its endpoint, and a DEALER that is not connected yet.
    fn pair(keys: Option<&KeyPair>, credentials: Option<&Credentials>) -> (MonitoredSocket, String, MonitoredSocket) {
        let context = Context::new();
        let options = RouterOptions {
            keys: keys.cloned(),
            handshake: Duration::from_secs(30),
            client_timeout: socket::PEER_TIMEOUT,
            max_message: MAX_MESSAGE_BYTES,
        };
        let router =
            MonitoredSocket::new(&context, socket::router(&context, b"left", Peers::Clients, &options).unwrap())
                .unwrap();
        socket::bind(&router, "tcp://127.0.0.1:*").unwrap();
        let endpoint = socket::bound_endpoint(&router).unwrap();
        let keys = credentials.map(|it| (&it.own, it.broker(0)));
        let dealer = socket::dealer(&context, b"hello", b"hiccup", Duration::ZERO, socket::PEER_TIMEOUT, keys).unwrap();
        (router, endpoint, MonitoredSocket::new(&context, dealer).unwrap())
    }

    fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "no event within 30 s");
            std::thread::yield_now();
        }
    }

    #[test]
    fn both_sides_see_that_only_one_has_keys() {
        let keys = KeyPair::generate().unwrap();
        let (router, endpoint, dealer) = pair(Some(&keys), None);
        dealer.connect(&endpoint).unwrap();
        let failure = wait_for(|| dealer.next_failure().unwrap());
        assert!(failure.is_mismatch() && failure.to_string().contains("one side speaks with keys"), "{failure}");
        assert!(failure.advice(false).contains("--broker-key"));
        let from = wait_for(|| match router.next_event().unwrap() {
            Some((MonitorEvent::Failed(theirs), from)) => Some((theirs == failure, from)),
            _ => None,
        });
        assert!(from.0 && from.1.starts_with("tcp://127.0.0.1:") && from.1 != endpoint, "{from:?}");
    }

    #[test]
    fn a_connection_is_seen_from_its_beginning_to_its_end() {
        let (router, endpoint, dealer) = pair(None, None);
        dealer.connect(&endpoint).unwrap();
        let (event, from) = wait_for(|| router.next_event().unwrap());
        let MonitorEvent::Accepted(descriptor) = event else { panic!("{event:?} from {from}") };
        wait_for(|| socket::receive_from(&router).unwrap());
        assert_eq!(wait_for(|| router.next_event().unwrap()), (MonitorEvent::Succeeded, from.clone()));
        drop(dealer);
        assert_eq!(wait_for(|| router.next_event().unwrap()), (MonitorEvent::Ended(descriptor), from));
    }

    #[test]
    fn the_wrong_broker_key_is_seen_as_a_connection_that_breaks() {
        let [keys, own, others] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let credentials = Credentials::new(own, others.public);
        let (router, endpoint, dealer) = pair(Some(&keys), Some(&credentials));
        dealer.connect(&endpoint).unwrap();
        let failure = wait_for(|| dealer.next_failure().unwrap());
        assert!(failure.is_retried() && failure.advice(true).contains("--broker-key"), "{failure}");
        let theirs = wait_for(|| router.next_failure().unwrap());
        assert!(theirs.to_string().contains("can't be decrypted"), "{theirs}");
    }

    #[test]
    fn every_event_is_parsed_or_ignored() {
        let number = |number: u64| number.to_ne_bytes().to_vec();
        let event =
            |event: u32, value: u64| [number(event.into()), number(1), number(value), vec![], b"tcp://x".to_vec()];
        let parsed = |frames: &[Vec<u8>]| parse(frames).map(|(event, _)| event);
        let failed = |failure| Some(MonitorEvent::Failed(failure));
        assert_eq!(parsed(&event(zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, 400)), failed(Failure::Refused(400)));
        let no_detail = event(zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL, u64::MAX);
        assert!(matches!(parsed(&no_detail), Some(MonitorEvent::Failed(Failure::Broken(_)))));
        assert_eq!(parsed(&event(zmq_sys::ZMQ_EVENT_ACCEPTED, u64::MAX)), None);
        assert_eq!(parsed(&event(0, 1)), None);
        let whole = event(zmq_sys::ZMQ_EVENT_ACCEPTED, 7);
        assert!(parsed(&whole).is_some() && (0..4).all(|cut| parsed(&whole[..cut]).is_none()));
        assert_eq!(parsed(&[vec![1], vec![], vec![], vec![]]), None);
    }
}
