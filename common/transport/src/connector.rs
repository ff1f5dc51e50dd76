//! A DEALER to a broker, which is made anew when libzmq has given up or tries too often.
//!
//! libzmq connects again by itself after most failures. Not so after what it takes for a breach of
//! protocol: something else listened on the broker's port, a message was over the limit, the broker
//! refused the key (`session_base_t::engine_error` in libzmq 4.3.5). And after a handshake that
//! failed otherwise it connects again at once, some ninety times a second.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use giostra_protocol::Bytes;
use thiserror::Error;
use zmq::{Context, Socket};

use crate::endpoint::{BadEndpoint, Endpoint};
use crate::keys::Credentials;
use crate::monitor::{Failure, MonitoredSocket};
use crate::socket;

/// After how long without an answer a new socket is taken.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// Handshakes that may fail one right after the other, as when a broker is killed and started
/// again.
const FAILURES: u32 = 3;

/// The time between two attempts after that.
const PAUSE: Duration = Duration::from_secs(1);

/// When to try again after failed handshakes.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
    resume: Option<Instant>,
}

impl Attempts {
    /// A handshake has failed. Whether that is enough: then the socket is to be exchanged for a new
    /// one, which is connected when that is due.
    fn failed(&mut self, failure: Failure, now: Instant) -> bool {
        self.failed += 1;
        let enough = (self.failed >= FAILURES || !failure.is_tried_again()) && self.resume.is_none();
        if enough {
            self.resume = Some(now + PAUSE);
        }
        enough
    }

    /// There is somebody to talk to.
    fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether it is time to connect. Says so once.
    fn is_due(&mut self, now: Instant) -> bool {
        self.resume.take_if(|resume| *resume <= now).is_some()
    }
}

/// Whom to call, and what to say.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The broker's.
    pub endpoint: String,
    /// What is said first over each connection.
    pub hello: Bytes,
    /// What is heard when a connection broke.
    pub hiccup: Bytes,
    /// How long a closing socket goes on sending.
    pub linger: Duration,
    /// The keys, if the broker demands some.
    pub credentials: Option<Credentials>,
}

/// Why there will be no conversation.
#[derive(Debug, Error)]
pub enum Error {
    /// When the endpoint is none.
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
        /// What libzmq says.
        source: zmq::Error,
    },
    /// When something is there, but it and this side did not come to terms.
    #[error("no conversation with the broker at {endpoint}: {failure}{}", .failure.advice(*.with_keys))]
    Handshake {
        /// The endpoint.
        endpoint: String,
        /// How the last attempt ended.
        failure: Failure,
        /// Whether this side has keys.
        with_keys: bool,
    },
    /// When libzmq fails.
    #[error("libzmq: {0}")]
    Zmq(#[from] zmq::Error),
}

/// The socket, and what is known of who is at its other end.
pub struct Connector {
    call: ConnectOptions,
    context: Context,
    socket: MonitoredSocket,
    /// When the socket was last connected.
    dialed: Instant,
    /// Since when nobody has been there; `None`: somebody is.
    alone: Option<Instant>,
    /// Whether anybody has ever been.
    ever_answered: bool,
    attempts: Attempts,
    failure: Option<Failure>,
    /// That one side has keys and the other none, if it has looked so.
    mismatch: Option<Failure>,
}

impl Connector {
    /// Begins to connect.
    pub fn new(context: &Context, mut call: ConnectOptions, now: Instant) -> Result<Self, Error> {
        match Endpoint::to_connect(&call.endpoint) {
            Ok(endpoint) => call.endpoint = endpoint.to_string(),
            Err(source) => return Err(Error::Endpoint { endpoint: call.endpoint, source }),
        }
        let connector = Self {
            socket: make(context, &call)?,
            call,
            context: context.clone(),
            dialed: now,
            alone: Some(now),
            ever_answered: false,
            attempts: Attempts::default(),
            failure: None,
            mismatch: None,
        };
        connector.connect()?;
        Ok(connector)
    }

    /// The broker has welcomed this side.
    pub fn answered(&mut self) {
        self.alone = None;
        self.ever_answered = true;
        self.attempts.succeeded();
        (self.failure, self.mismatch) = (None, None);
        self.socket.stop_monitor();
    }

    /// The connection broke, or the broker is to welcome this side anew.
    pub fn lost(&mut self, now: Instant) {
        self.alone.get_or_insert(now);
        self.socket.look(&self.context);
    }

    /// Sees what has become of the connection, and connects again where libzmq does not. The
    /// handshake that failed last, if one has since this was last called. An error if one
    /// failed for good with a broker that has never been there; one that has been may be changing
    /// its keys.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Failure>, Error> {
        let mut last = None;
        while let Some(failure) = self.socket.next_failure()? {
            last = Some(failure);
            self.failure = last;
            // Once it may have been something else that listened there. Who finds out first hangs up, so that
            // the next failure may look otherwise.
            let hopeless = if failure.is_no() { last } else { self.mismatch };
            self.mismatch = self.mismatch.or(last.filter(|failure| failure.is_mismatch()));
            if let Some(failure) = hopeless.filter(|_| !self.ever_answered) {
                return Err(self.handshake_failed(failure));
            }
            if self.attempts.failed(failure, now) {
                // Nothing of the old one is heard later.
                self.socket = make(&self.context, &self.call)?;
                self.dialed = now;
            }
        }
        if self.attempts.is_due(now) {
            self.connect()?;
            self.dialed = now;
        }
        if self.anew_at().is_some_and(|at| at <= now) {
            self.socket = make(&self.context, &self.call)?;
            self.connect()?;
            self.dialed = now;
        }
        Ok(last)
    }

    /// When [`Self::poll`] is to be called though nothing has come.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.attempts.resume, self.anew_at()].into_iter().flatten().min()
    }

    /// Why nobody is there: how the last handshake failed, if it did.
    pub fn error(&self) -> Option<Error> {
        self.failure.map(|failure| self.handshake_failed(failure))
    }

    /// The same in a few words, and what to look at.
    pub fn explain(&self, failure: Failure) -> String {
        format!("{failure}{}", failure.advice(self.call.credentials.is_some()))
    }

    /// What there is to wait for.
    pub fn sockets(&self) -> Vec<&Socket> {
        [Some(&*self.socket), self.socket.monitor()].into_iter().flatten().collect()
    }

    fn anew_at(&self) -> Option<Instant> {
        // While it rests it is not connected at all.
        let alone = self.alone.filter(|_| self.attempts.resume.is_none())?;
        Some(alone.max(self.dialed) + GIVEN_UP)
    }

    fn connect(&self) -> Result<(), Error> {
        let failed = |source| Error::Connect { endpoint: self.call.endpoint.clone(), source };
        self.socket.connect(&self.call.endpoint).map_err(failed)
    }

    fn handshake_failed(&self, failure: Failure) -> Error {
        let (endpoint, with_keys) = (self.call.endpoint.clone(), self.call.credentials.is_some());
        Error::Handshake { endpoint, failure, with_keys }
    }
}

/// One that is not connected yet.
fn make(context: &Context, call: &ConnectOptions) -> zmq::Result<MonitoredSocket> {
    let ConnectOptions { hello, hiccup, linger, credentials, .. } = call;
    MonitoredSocket::new(context, socket::dealer(context, hello, hiccup, *linger, credentials.as_ref())?)
}

impl Deref for Connector {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for Connector {
    fn deref_mut(&mut self) -> &mut Socket {
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
            // What comes in late changes nothing.
            assert!(!attempts.failed(broken, now) && !attempts.is_due(now));
            assert_eq!(attempts.resume, Some(now + PAUSE));
            now += PAUSE;
            assert!(attempts.is_due(now) && !attempts.is_due(now));
            assert!(attempts.failed(broken, now));
        }
        attempts.succeeded();
        assert!(!attempts.failed(broken, now) && attempts.resume.is_none());
        // After this libzmq does not try again by itself.
        assert!(attempts.failed(Failure::Refused(400), now));
    }

    #[test]
    fn an_endpoint_that_is_none_is_said_at_once() {
        let call = |endpoint: &str| ConnectOptions {
            endpoint: endpoint.into(),
            hello: Bytes::new(),
            hiccup: Bytes::new(),
            linger: Duration::ZERO,
            credentials: None,
        };
        let dial = |endpoint: &str| Connector::new(&Context::new(), call(endpoint), Instant::now()).map(drop);
        for (bad, complaint) in [("nonsense", "the port is missing"), ("tcp://127.0.0.1:99999", "'99999' is no port")] {
            let error = dial(bad).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
        assert!(dial("tcp://127.0.0.1:1").is_ok(), "somebody may listen there later");
    }
}
