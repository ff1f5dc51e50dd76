//! A DEALER socket to a broker, replaced when libzmq has given up or retries too often.
//!
//! libzmq reconnects by itself after most failures, but not after what it takes for a protocol
//! violation: another program listened on the broker's port, a message exceeded the limit, or the
//! broker refused the key (`session_base_t::engine_error` in libzmq 4.3.5). And after a handshake
//! that failed for another reason, it reconnects at once, some ninety times a second.

use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use giostra_protocol::Bytes;
use thiserror::Error;
use zmq::Context;

use crate::endpoint::{BadEndpoint, Endpoint};
use crate::error::LibzmqError;
use crate::greeting;
use crate::io_loop::IoLoop;
use crate::keys::Credentials;
use crate::monitor::{Failure, MonitoredSocket};
use crate::socket::{self, QuietSocket, Sleeper};

/// The time without a `Welcome` after which the socket is replaced.
const REPLACE_AFTER: Duration = Duration::from_secs(5);

/// The number of handshakes that may fail in a row before attempts are spaced out. A broker that is
/// killed and restarted causes one or two.
const MAX_FAILURES: u32 = 3;

/// The time between two attempts from then on.
const PAUSE: Duration = Duration::from_secs(1);

/// The failed handshakes in a row, and when to connect again.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
    resume: Option<Instant>,
}

impl Attempts {
    /// Records a failed handshake. Returns whether to replace the socket by a new one, to be
    /// connected once [`Self::is_due`] says so.
    fn failed(&mut self, failure: Failure, now: Instant) -> bool {
        self.failed += 1;
        let replace = (self.failed >= MAX_FAILURES || !failure.is_retried()) && self.resume.is_none();
        if replace {
            self.resume = Some(now + PAUSE);
        }
        replace
    }

    /// Records that the broker answered.
    fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Returns whether it is time to connect, once.
    fn is_due(&mut self, now: Instant) -> bool {
        self.resume.take_if(|resume| *resume <= now).is_some()
    }
}

/// How to connect to a broker.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The broker's endpoint.
    pub endpoint: String,
    /// The first message over each connection.
    pub hello: Bytes,
    /// The message that libzmq inserts when a connection broke.
    pub hiccup: Bytes,
    /// How long a closed socket continues to send.
    pub linger: Duration,
    /// The keys, if the broker requires them.
    pub credentials: Option<Credentials>,
    /// For how long to look for messages before each sleep.
    pub looks: Duration,
}

/// Why there is no connection to the broker.
#[derive(Debug, Error)]
pub enum Error {
    /// When the endpoint is malformed.
    #[error("can't connect to {endpoint}: {source}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        source: BadEndpoint,
    },
    /// When libzmq can't connect to the endpoint.
    #[error("can't connect to {endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: String,
        /// libzmq's error.
        source: LibzmqError,
    },
    /// When something answers at the endpoint, but the handshake fails.
    #[error("no conversation with the broker at {endpoint}: {failure}{}", .failure.advice(*.with_keys))]
    Handshake {
        /// The endpoint.
        endpoint: String,
        /// Why the last handshake failed.
        failure: Failure,
        /// Whether this side has keys.
        with_keys: bool,
    },
    /// When libzmq fails.
    #[error("libzmq: {0}")]
    Zmq(#[from] LibzmqError),
}

impl From<zmq::Error> for Error {
    fn from(error: zmq::Error) -> Self {
        Self::Zmq(error.into())
    }
}

/// A monitored DEALER socket, and the state of its connection.
pub struct Connector {
    options: ConnectOptions,
    context: Context,
    /// Dropped before the socket, whose closing needs libzmq's thread.
    io: IoLoop,
    socket: MonitoredSocket,
    /// When the socket was last connected.
    connected: Instant,
    /// Since when the broker has not answered; `None` while the connection is up.
    unanswered_since: Option<Instant>,
    /// Whether the broker has ever answered.
    ever_answered: bool,
    attempts: Attempts,
    failure: Option<Failure>,
    /// The last failure that looked as if only one side used keys.
    mismatch: Option<Failure>,
}

impl Connector {
    /// Starts to connect.
    pub fn new(context: &Context, mut options: ConnectOptions, now: Instant) -> Result<Self, Error> {
        match Endpoint::to_connect(&options.endpoint) {
            Ok(endpoint) => options.endpoint = endpoint.to_string(),
            Err(source) => return Err(Error::Endpoint { endpoint: options.endpoint, source }),
        }
        let mut socket = make(context, &options)?;
        let connector = Self {
            io: IoLoop::of(context, &mut socket),
            socket,
            options,
            context: context.clone(),
            connected: now,
            unanswered_since: Some(now),
            ever_answered: false,
            attempts: Attempts::default(),
            failure: None,
            mismatch: None,
        };
        connector.connect()?;
        Ok(connector)
    }

    /// Records that the broker sent its `Welcome`.
    pub fn answered(&mut self) {
        self.unanswered_since = None;
        self.ever_answered = true;
        self.attempts.succeeded();
        (self.failure, self.mismatch) = (None, None);
        self.socket.stop_monitor();
    }

    /// Records that the connection broke, or that the broker asked for a new `Hello` or `Register`.
    pub fn lost(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
        self.socket.start_monitor(&self.context);
    }

    /// Checks the connection, and reconnects where libzmq does not. Returns the last handshake that
    /// failed since the previous call, if there is one.
    ///
    /// # Errors
    /// If retrying is hopeless, because the keys do not fit, and the broker has never answered. One
    /// that has answered before may just be changing its keys.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Failure>, Error> {
        let mut last = None;
        while let Some(failure) = self.socket.next_failure()? {
            let failure = self.look_closer(failure);
            last = Some(failure);
            self.failure = last;
            // One mismatch is not enough, since another program may have listened there. Two need not be in a
            // row: the side that detects the mismatch closes, so the next failure may look different.
            let hopeless = if failure.is_key_refused() { last } else { self.mismatch };
            self.mismatch = self.mismatch.or(last.filter(|failure| failure.is_mismatch()));
            if let Some(failure) = hopeless.filter(|_| !self.ever_answered) {
                return Err(self.handshake_failed(failure));
            }
            if self.attempts.failed(failure, now) {
                // The old socket is dropped, so none of its events arrive later.
                self.socket = make(&self.context, &self.options)?;
                self.connected = now;
            }
        }
        if self.attempts.is_due(now) {
            self.connect()?;
            self.connected = now;
        }
        if self.replace_at().is_some_and(|at| at <= now) {
            self.socket = make(&self.context, &self.options)?;
            self.connect()?;
            self.connected = now;
        }
        Ok(last)
    }

    /// Returns when to call [`Self::poll`] even if no socket is readable.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.attempts.resume, self.replace_at()].into_iter().flatten().min()
    }

    /// Returns why the broker does not answer, if the last handshake failed.
    pub fn error(&self) -> Option<Error> {
        self.failure.map(|failure| self.handshake_failed(failure))
    }

    /// Describes a failure, and what the user should check.
    pub fn explain(&self, failure: Failure) -> String {
        format!("{failure}{}", failure.advice(self.options.credentials.is_some()))
    }

    /// Sleeps until there may be a message or something for [`Self::poll`], one of the descriptors is
    /// readable, or the timeout has passed.
    pub fn sleep(&self, descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
        let sockets: Vec<_> = self.sockets().collect();
        socket::sleep(&self.io, self.sleeper(), &sockets, descriptors, timeout)
    }

    /// The sockets that a sleeper waits for.
    pub fn sockets(&self) -> impl Iterator<Item = &QuietSocket> {
        [Some(&*self.socket), self.socket.monitor()].into_iter().flatten()
    }

    /// Sends at once what the socket has taken, which would otherwise wait for the next sleep, or some
    /// milliseconds for libzmq's thread.
    pub fn push(&self) {
        if self.is_up() {
            socket::push(&self.io);
        }
    }

    /// Sends, and receives what has arrived, without waiting.
    pub fn run_io(&self) {
        if self.is_up() {
            socket::run_io(&self.io);
        }
    }

    /// The I/O loop of the socket's context.
    pub fn io(&self) -> &IoLoop {
        &self.io
    }

    /// How to sleep. To connect may take seconds in the loop, as that asks name servers.
    pub fn sleeper(&self) -> Sleeper {
        if self.is_up() { Sleeper::RunsLoop { looks: self.options.looks } } else { Sleeper::Follows }
    }

    /// Whether the connection is up.
    pub fn is_up(&self) -> bool {
        self.unanswered_since.is_none()
    }

    /// Returns [`Failure::MISMATCH`] for a connection that broke because only one side has keys: see
    /// [`greeting`]. A broker that has answered before is not asked.
    fn look_closer(&self, failure: Failure) -> Failure {
        if !failure.is_retried() || self.ever_answered {
            return failure;
        }
        let endpoint = Endpoint::to_connect(&self.options.endpoint).expect("it was parsed before");
        match greeting::uses_keys(&endpoint, greeting::TIMEOUT) {
            Ok(with_keys) if with_keys != self.options.credentials.is_some() => Failure::MISMATCH,
            _ => failure,
        }
    }

    fn replace_at(&self) -> Option<Instant> {
        // During a pause there is no connection to wait for.
        let since = self.unanswered_since.filter(|_| self.attempts.resume.is_none())?;
        Some(since.max(self.connected) + REPLACE_AFTER)
    }

    fn connect(&self) -> Result<(), Error> {
        let failed =
            |error: zmq::Error| Error::Connect { endpoint: self.options.endpoint.clone(), source: error.into() };
        self.socket.connect(&self.options.endpoint).map_err(failed)
    }

    fn handshake_failed(&self, failure: Failure) -> Error {
        let (endpoint, with_keys) = (self.options.endpoint.clone(), self.options.credentials.is_some());
        Error::Handshake { endpoint, failure, with_keys }
    }
}

/// Creates a socket that is not connected yet.
fn make(context: &Context, options: &ConnectOptions) -> zmq::Result<MonitoredSocket> {
    let ConnectOptions { hello, hiccup, linger, credentials, .. } = options;
    MonitoredSocket::new(context, socket::dealer(context, hello, hiccup, *linger, credentials.as_ref())?)
}

impl Deref for Connector {
    type Target = QuietSocket;

    fn deref(&self) -> &QuietSocket {
        &self.socket
    }
}

impl DerefMut for Connector {
    fn deref_mut(&mut self) -> &mut QuietSocket {
        &mut self.socket
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn after_three_failures_there_is_a_pause_and_then_one_attempt_a_second() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        let broken = Failure::Broken(Errno::EPIPE);
        assert_eq!([(); 3].map(|()| attempts.failed(broken, now)), [false, false, true]);
        for _ in 0..3 {
            // A late failure changes nothing.
            assert!(!attempts.failed(broken, now) && !attempts.is_due(now));
            assert_eq!(attempts.resume, Some(now + PAUSE));
            now += PAUSE;
            assert!(attempts.is_due(now) && !attempts.is_due(now));
            assert!(attempts.failed(broken, now));
        }
        attempts.succeeded();
        assert!(!attempts.failed(broken, now) && attempts.resume.is_none());
        // After this failure libzmq does not reconnect by itself.
        assert!(attempts.failed(Failure::Refused(400), now));
    }

    #[test]
    fn a_malformed_endpoint_is_an_error_at_once() {
        let options = |endpoint: &str| ConnectOptions {
            endpoint: endpoint.into(),
            hello: Bytes::new(),
            hiccup: Bytes::new(),
            linger: Duration::ZERO,
            credentials: None,
            looks: Duration::ZERO,
        };
        let connect = |endpoint: &str| Connector::new(&Context::new(), options(endpoint), Instant::now()).map(drop);
        for (bad, reason) in [("nonsense", "the port is missing"), ("tcp://127.0.0.1:99999", "'99999' is no port")] {
            let error = connect(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(connect("tcp://127.0.0.1:1").is_ok(), "somebody may listen there later");
    }
}
