//! What becomes of connections: a socket's monitor, read.
//!
//! libzmq tells of it in [messages](https://libzmq.readthedocs.io/en/latest/zmq_socket_monitor_versioned.html) (here their second version,
//! which names both ends) over a PAIR socket in the process.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use zmq::{Context, Socket, SocketType};

use crate::ffi;
use crate::socket;

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorEvent {
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
    /// Whether the broker has said that it does not want this key.
    pub fn is_no(self) -> bool {
        self == Self::Refused(400)
    }

    /// Whether one side has keys and the other has none. That is also what libzmq makes of some who
    /// don't speak ZMTP at all.
    pub fn is_mismatch(self) -> bool {
        self == Self::Protocol(zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH.into())
    }

    /// Whether libzmq connects again by itself after it.
    pub fn is_tried_again(self) -> bool {
        matches!(self, Self::Broken(_))
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

/// A socket whose connections are watched.
///
/// libzmq's own threads write to its monitor, and would wait for ever if nobody could read there
/// any more: so the two are together, and the monitor is ended before either is closed.
pub struct MonitoredSocket {
    socket: Socket,
    monitor: Option<Socket>,
}

/// Something seen, and the peer's endpoint.
pub type Seen = (MonitorEvent, String);

impl MonitoredSocket {
    /// Watches a socket that is neither bound nor connected yet.
    pub fn new(context: &Context, socket: Socket) -> zmq::Result<Self> {
        let mut watched = Self { socket, monitor: None };
        watched.begin(context)?;
        Ok(watched)
    }

    /// Watches again, if it doesn't. Without room for more sockets in the context it does not: then
    /// nothing is seen, and that is all.
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
        ffi::monitor(&mut self.socket, &endpoint, events)?;
        // From here on libzmq may write there, and somebody has to be able to read.
        if let Err(error) = monitor.connect(&endpoint) {
            ffi::end_monitor(&mut self.socket);
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
    pub fn stop_monitor(&mut self) {
        if let Some(monitor) = self.monitor.take() {
            ffi::end_monitor(&mut self.socket);
            drop(monitor);
        }
    }

    /// The next thing seen, if there is one.
    pub fn see(&self) -> zmq::Result<Option<Seen>> {
        let Some(monitor) = &self.monitor else { return Ok(None) };
        while let Some(frames) = socket::receive_frames(monitor)? {
            if let Some(seen) = read(&frames) {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// The next failed handshake, if there is one.
    pub fn next_failure(&self) -> zmq::Result<Option<Failure>> {
        while let Some((sight, _)) = self.see()? {
            if let MonitorEvent::Failed(failure) = sight {
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }
}

impl Deref for MonitoredSocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for MonitoredSocket {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

impl Drop for MonitoredSocket {
    fn drop(&mut self) {
        self.stop_monitor();
    }
}

/// An event of version 2: event, number of values, values, local endpoint, remote endpoint.
fn read(frames: &[Vec<u8>]) -> Option<Seen> {
    let number = |frame: &Vec<u8>| frame.as_slice().try_into().ok().map(u64::from_ne_bytes);
    let [event, _, value, .., remote] = frames else { return None };
    let (event, value) = (u32::try_from(number(event)?).ok()?, number(value)?);
    let fd = || RawFd::try_from(value).ok();
    let sight = match event {
        zmq_sys::ZMQ_EVENT_ACCEPTED => MonitorEvent::Accepted(fd()?),
        zmq_sys::ZMQ_EVENT_DISCONNECTED => MonitorEvent::Ended(fd()?),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => MonitorEvent::Succeeded,
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => MonitorEvent::Failed(Failure::Refused(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => MonitorEvent::Failed(Failure::Protocol(value)),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
            MonitorEvent::Failed(Failure::Broken(Errno::from_raw(i32::try_from(value).unwrap_or(0))))
        }
        _ => return None,
    };
    Some((sight, String::from_utf8_lossy(remote).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use giostra_protocol::MAX_MESSAGE_BYTES;

    use super::*;
    use crate::keys::{Credentials, KeyPair};
    use crate::socket::{Entry, Peers};

    /// A ROUTER with these keys, its endpoint, and a DEALER that is not connected yet.
    fn pair(keys: Option<&KeyPair>, credentials: Option<&Credentials>) -> (MonitoredSocket, String, MonitoredSocket) {
        let context = Context::new();
        let entry = Entry {
            keys: keys.cloned(),
            handshake: Duration::from_secs(30),
            client_timeout: socket::SILENCE,
            max_message: MAX_MESSAGE_BYTES,
        };
        let router =
            MonitoredSocket::new(&context, socket::router(&context, b"left", Peers::Clients, &entry).unwrap()).unwrap();
        socket::bind(&router, "tcp://127.0.0.1:*").unwrap();
        let endpoint = socket::bound_endpoint(&router).unwrap();
        let dealer = socket::dealer(&context, b"hello", b"hiccup", Duration::ZERO, credentials).unwrap();
        (router, endpoint, MonitoredSocket::new(&context, dealer).unwrap())
    }

    fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not come");
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
        let from = wait_for(|| match router.see().unwrap() {
            Some((MonitorEvent::Failed(seen), from)) => Some((seen == failure, from)),
            _ => None,
        });
        assert!(from.0 && from.1.starts_with("tcp://127.0.0.1:") && from.1 != endpoint, "{from:?}");
    }

    #[test]
    fn a_connection_is_seen_from_its_beginning_to_its_end() {
        let (router, endpoint, dealer) = pair(None, None);
        dealer.connect(&endpoint).unwrap();
        let (sight, from) = wait_for(|| router.see().unwrap());
        let MonitorEvent::Accepted(descriptor) = sight else { panic!("{sight:?} from {from}") };
        wait_for(|| socket::receive_from(&router).unwrap());
        assert_eq!(wait_for(|| router.see().unwrap()), (MonitorEvent::Succeeded, from.clone()));
        drop(dealer);
        assert_eq!(wait_for(|| router.see().unwrap()), (MonitorEvent::Ended(descriptor), from));
    }

    #[test]
    fn the_wrong_broker_key_is_seen_as_a_connection_that_breaks() {
        let [keys, own, others] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let credentials = Credentials { own, broker: others.public };
        let (router, endpoint, dealer) = pair(Some(&keys), Some(&credentials));
        dealer.connect(&endpoint).unwrap();
        let failure = wait_for(|| dealer.next_failure().unwrap());
        assert!(failure.is_tried_again() && failure.advice(true).contains("--broker-key"), "{failure}");
        let seen = wait_for(|| router.next_failure().unwrap());
        assert!(seen.to_string().contains("can't be decrypted"), "{seen}");
    }

    #[test]
    fn whatever_the_monitor_says_is_read_or_left_alone() {
        let number = |number: u64| number.to_ne_bytes().to_vec();
        let event =
            |event: u32, value: u64| [number(event.into()), number(1), number(value), vec![], b"tcp://x".to_vec()];
        let sight = |frames: &[Vec<u8>]| read(frames).map(|(sight, _)| sight);
        let failed = |failure| Some(MonitorEvent::Failed(failure));
        assert_eq!(sight(&event(zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, 400)), failed(Failure::Refused(400)));
        let no_detail = event(zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL, u64::MAX);
        assert!(matches!(sight(&no_detail), Some(MonitorEvent::Failed(Failure::Broken(_)))));
        assert_eq!(sight(&event(zmq_sys::ZMQ_EVENT_ACCEPTED, u64::MAX)), None);
        assert_eq!(sight(&event(0, 1)), None);
        let whole = event(zmq_sys::ZMQ_EVENT_ACCEPTED, 7);
        assert!(sight(&whole).is_some() && (0..4).all(|cut| sight(&whole[..cut]).is_none()));
        assert_eq!(sight(&[vec![1], vec![], vec![], vec![]]), None);
    }
}
