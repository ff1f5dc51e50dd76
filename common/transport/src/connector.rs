//! A DEALER socket to one of several brokers, replaced when libzmq has given up or retries too often.
//!
//! libzmq reconnects by itself after most failures, but not after what it takes for a protocol
//! violation: another program listened on the broker's port, a message exceeded the limit, or the
//! broker refused the key (`session_base_t::engine_error` in libzmq 4.3.5). And after a handshake
//! that failed for another reason, it reconnects at once, some ninety times a second.
//!
//! Where a broker has several addresses, or there are several brokers, a connection that breaks is
//! replaced by one to the next of them ([`route`]). libzmq gets addresses alone: names are looked up
//! beside it ([`names`]).

mod attempts;
mod better;
mod error;
mod names;
mod route;

use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use giostra_protocol::Bytes;
use zmq::Context;

use self::attempts::{Attempts, PAUSE};
use self::better::Better;
use self::names::Names;
use self::route::{Route, Step};
use crate::endpoint::{Endpoint, written};
use crate::greeting;
use crate::io_loop::IoLoop;
use crate::keys::Credentials;
use crate::monitor::{FailedAttempt, Failure, MonitoredSocket};
use crate::socket::{self, QuietSocket, Sleeper};

pub use self::error::{Error, Trouble};

/// How long one of several brokers may answer nothing before the next one is used, as long as a broker
/// waits for its workers by default. With a lone broker there is nothing to gain by impatience.
const TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(4);

/// How long the name of the first of several brokers may take to be looked up before the others are
/// tried.
const HOLD: Duration = Duration::from_millis(500);

/// How to connect to a broker.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The endpoints of the brokers, with commas between them. The first that answers is used until its
    /// connection breaks.
    pub brokers: String,
    /// The first message over each connection.
    pub hello: Bytes,
    /// The message that libzmq inserts when a connection broke.
    pub hiccup: Bytes,
    /// How long a closed socket continues to send.
    pub linger: Duration,
    /// The keys, if the brokers require them.
    pub credentials: Option<Credentials>,
    /// For how long to look for messages before each sleep.
    pub looks: Duration,
    /// Whether keys that do not fit the only broker are an [error](Connector::poll), and not a reason to
    /// try again later.
    pub gives_up: bool,
}

/// Parses a list of brokers' endpoints, with commas between them.
///
/// # Errors
/// If one is malformed, or there are other keys than brokers.
pub fn brokers(list: &str, credentials: Option<&Credentials>) -> Result<Vec<Endpoint>, Error> {
    let brokers =
        Endpoint::list_to_connect(list).map_err(|source| Error::Endpoint { endpoint: list.into(), source })?;
    match credentials {
        Some(Credentials { brokers: keys, .. }) if keys.len() != 1 && keys.len() != brokers.len() => {
            Err(Error::Keys { brokers: brokers.len(), keys: keys.len() })
        }
        _ => Ok(brokers),
    }
}

/// A monitored DEALER socket, and the state of its connection.
pub struct Connector {
    brokers: Vec<Endpoint>,
    options: ConnectOptions,
    context: Context,
    /// Dropped before the socket, whose closing needs libzmq's thread.
    io: IoLoop,
    socket: MonitoredSocket,
    route: Route,
    names: Names,
    /// When the socket was last connected.
    connected: Instant,
    /// Since when the broker has not answered; `None` while the connection is up.
    unanswered_since: Option<Instant>,
    /// Whether a broker has ever answered.
    ever_answered: bool,
    attempts: Attempts,
    failure: Option<Failure>,
    /// The last failure that looked as if only one side used keys.
    mismatch: Option<Failure>,
    /// The broker whose name could not be looked up, and why.
    unknown: Option<(usize, String)>,
    /// Until when the addresses of the first broker are waited for before any other is tried.
    hold: Option<Instant>,
    /// Whether the broker has asked for a new introduction over a connection that works.
    is_asked_again: bool,
    better: Better,
}

impl Connector {
    /// Starts to connect.
    ///
    /// # Errors
    /// If an endpoint is malformed, the keys are not as many as the brokers, or libzmq fails.
    pub fn new(context: &Context, options: ConnectOptions, now: Instant) -> Result<Self, Error> {
        let brokers = brokers(&options.brokers, options.credentials.as_ref())?;
        let known = |endpoint: &Endpoint| if endpoint.is_name() { vec![] } else { vec![endpoint.to_string()] };
        let mut socket = make(context, &options, 0)?;
        let mut connector = Self {
            io: IoLoop::of(context, &mut socket),
            socket,
            route: Route::new(brokers.iter().map(known).collect()),
            names: Names::new(&brokers),
            brokers,
            options,
            context: context.clone(),
            connected: now,
            unanswered_since: Some(now),
            ever_answered: false,
            attempts: Attempts::default(),
            failure: None,
            mismatch: None,
            unknown: None,
            hold: None,
            is_asked_again: false,
            better: Better::default(),
        };
        if connector.brokers.len() > 1 && connector.brokers[0].is_name() {
            connector.hold = Some(now + HOLD);
            connector.names.ask(now);
        } else {
            connector.move_on(now)?;
        }
        Ok(connector)
    }

    /// Records that the broker sent its `Welcome`.
    pub fn answered(&mut self) {
        self.unanswered_since = None;
        (self.ever_answered, self.is_asked_again) = (true, false);
        self.attempts.succeeded();
        self.route.answered();
        (self.failure, self.mismatch, self.unknown) = (None, None, None);
        self.names.rest();
        self.socket.stop_monitor();
    }

    /// Records that the broker asked for a new `Hello` or `Register` over this connection.
    pub fn lost(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
        self.is_asked_again = true;
        self.socket.start_monitor(&self.context);
    }

    /// Records that the connection broke, or is of no use. If there is another address or broker, the
    /// next one is connected to. Otherwise libzmq connects again, unless the address changes.
    pub fn broke(&mut self, now: Instant) -> Result<(), Error> {
        self.lost(now);
        if self.route.has_others() {
            return self.move_on(now);
        }
        self.names.ask(now);
        Ok(())
    }

    /// Whether there is another address or broker to go to.
    pub fn has_others(&self) -> bool {
        self.route.has_others()
    }

    /// Leaves a broker that is closing for the next one. What was sent to it still goes out.
    pub fn leave(&mut self, now: Instant) -> Result<(), Error> {
        self.lost(now);
        self.replace(now, socket::LINGER)
    }

    /// Checks the connection, and reconnects where libzmq does not. Returns why the last attempt failed
    /// since the previous call, if one did.
    ///
    /// # Errors
    /// If retrying is hopeless, because the keys do not fit, and the only broker has never answered. One
    /// that has answered before may just be changing its keys.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Trouble>, Error> {
        let mut trouble = self.poll_names(now)?;
        while let Some(attempt) = self.socket.next_failed()? {
            let replace = match attempt {
                FailedAttempt::Unreachable => {
                    // It may be somewhere else by now.
                    self.names.ask(now);
                    self.route.has_others()
                }
                FailedAttempt::Handshake(failure) => {
                    let failure = self.look_closer(failure);
                    self.note(failure)?;
                    trouble = self.error().map(Trouble::from);
                    // Of several places the next one is tried at once; after all of them there is a pause.
                    self.route.has_others() || self.attempts.failed(failure, now)
                }
            };
            if replace {
                self.move_on(now)?;
            }
        }
        if self.hold.take_if(|hold| *hold <= now).is_some() {
            self.move_on(now)?;
        }
        if self.attempts.is_due(now) {
            self.connect()?;
            self.connected = now;
        }
        if self.replace_at().is_some_and(|at| at <= now) {
            self.move_on(now)?;
        }
        Ok(trouble)
    }

    /// Takes the addresses that were looked up.
    fn poll_names(&mut self, now: Instant) -> Result<Option<Trouble>, Error> {
        let mut trouble = None;
        while let Some((broker, answer)) = self.names.poll(now) {
            match answer {
                Ok(addresses) => {
                    self.unknown.take_if(|(unknown, _)| *unknown == broker);
                    let is_new = self.route.set(broker, addresses);
                    // A connection that is up stays where it is.
                    if is_new && !self.is_up() && (self.hold.is_none() || broker == 0) {
                        self.move_on(now)?;
                    }
                }
                Err(_) if self.is_up() => self.names.rest(),
                Err(error) => {
                    let error = self.unknown.insert((broker, error.to_string())).1.clone();
                    let endpoint = self.brokers[broker].to_string();
                    trouble = Some(Error::Name { endpoint, reason: error }.into());
                }
            }
        }
        Ok(trouble)
    }

    /// Notes a failed handshake.
    ///
    /// # Errors
    /// If retrying is hopeless.
    fn note(&mut self, failure: Failure) -> Result<(), Error> {
        self.failure = Some(failure);
        // One mismatch is not enough, since another program may have listened there. Two need not be in a
        // row: the side that detects the mismatch closes, so the next failure may look different.
        let hopeless = if failure.is_key_refused() { self.failure } else { self.mismatch };
        self.mismatch = self.mismatch.or(self.failure.filter(|failure| failure.is_mismatch()));
        match hopeless {
            Some(failure) if !self.ever_answered && self.gives_up() => Err(self.handshake_failed(failure)),
            _ => Ok(()),
        }
    }

    /// Replaces the socket by one to the next address. None of the old one's events arrive later.
    fn move_on(&mut self, now: Instant) -> Result<(), Error> {
        self.replace(now, Duration::ZERO)
    }

    /// As [`Self::move_on`]; what the old socket has taken is sent for as long as `linger`.
    fn replace(&mut self, now: Instant, linger: Duration) -> Result<(), Error> {
        let step = self.route.advance();
        self.names.ask(now);
        (self.hold, self.is_asked_again) = (None, false);
        // A socket that lingers without a connection would connect once more, and introduce itself.
        self.socket.set_linger(linger.as_millis().try_into().unwrap_or(i32::MAX))?;
        self.socket = make(&self.context, &self.options, self.route.current().map_or(0, |(broker, _)| broker))?;
        self.connected = now;
        match step {
            // A pause after failed handshakes goes on.
            Step::Now if self.attempts.resume.is_none() => self.connect()?,
            Step::Now | Step::Unknown => {}
            Step::After(pause) => {
                let pause = if self.route.has_others() && self.failure.is_some() { PAUSE } else { pause };
                self.attempts.resume = self.attempts.resume.max(Some(now + pause));
            }
        }
        Ok(())
    }

    /// Returns when to call [`Self::poll`] even if no socket is readable.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.attempts.resume, self.replace_at(), self.names.poll_timeout(), self.hold].into_iter().flatten().min()
    }

    /// Returns why no broker answers, as far as it is known.
    pub fn error(&self) -> Option<Error> {
        let unknown = |(broker, reason): &(usize, String)| Error::Name {
            endpoint: self.brokers[*broker].to_string(),
            reason: reason.clone(),
        };
        self.failure.map(|failure| self.handshake_failed(failure)).or_else(|| self.unknown.as_ref().map(unknown))
    }

    /// The endpoint of the broker that it is connected to or tries, as it was listed; all of them, with
    /// commas, before the first attempt.
    pub fn broker(&self) -> String {
        match self.route.current() {
            Some((broker, _)) => self.brokers[broker].to_string(),
            None => written(&self.brokers),
        }
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
        socket::push(&self.io);
    }

    /// Sends, and receives what has arrived, without waiting.
    pub fn run_io(&self) {
        socket::run_io(&self.io);
    }

    /// The I/O loop of the socket's context.
    pub fn io(&self) -> &IoLoop {
        &self.io
    }

    /// How to sleep.
    pub fn sleeper(&self) -> Sleeper {
        Sleeper::RunsLoop { looks: self.options.looks }
    }

    /// Whether the connection is up.
    pub fn is_up(&self) -> bool {
        self.unanswered_since.is_none()
    }

    /// Returns [`Failure::MISMATCH`] for a connection that broke because only one side has keys: see
    /// [`greeting`]. A broker that has answered before is not asked, nor is one of several.
    fn look_closer(&self, failure: Failure) -> Failure {
        if !failure.is_retried() || self.ever_answered || !self.gives_up() {
            return failure;
        }
        let Some((_, address)) = self.route.current() else { return failure };
        let endpoint = Endpoint::to_connect(address).expect("an address is an endpoint");
        match greeting::uses_keys(&endpoint, greeting::TIMEOUT) {
            Ok(with_keys) if with_keys != self.options.credentials.is_some() => Failure::MISMATCH,
            _ => failure,
        }
    }

    fn gives_up(&self) -> bool {
        self.options.gives_up && self.brokers.len() == 1
    }

    fn replace_at(&self) -> Option<Instant> {
        // During a pause there is no connection to wait for, nor without an address.
        let since = self.unanswered_since.filter(|_| self.attempts.resume.is_none())?;
        self.route.current()?;
        let patience = if self.is_asked_again { route::PATIENCE[1] } else { self.route.patience() };
        Some(since.max(self.connected) + patience)
    }

    fn connect(&self) -> Result<(), Error> {
        let Some((_, address)) = self.route.current() else { return Ok(()) };
        let failed = |error: zmq::Error| Error::Connect { endpoint: address.into(), source: error.into() };
        self.socket.connect(address).map_err(failed)
    }

    fn handshake_failed(&self, failure: Failure) -> Error {
        let (endpoint, with_keys) = (self.broker(), self.options.credentials.is_some());
        Error::Handshake { endpoint, failure, with_keys }
    }
}

/// Creates a socket for this broker that is not connected yet.
fn make(context: &Context, options: &ConnectOptions, broker: usize) -> zmq::Result<MonitoredSocket> {
    let ConnectOptions { hello, hiccup, linger, credentials, .. } = options;
    let keys = credentials.as_ref().map(|it| (&it.own, it.broker(broker)));
    let timeout = if options.brokers.contains(',') { TIMEOUT_OF_SEVERAL } else { socket::PEER_TIMEOUT };
    MonitoredSocket::new(context, socket::dealer(context, hello, hiccup, *linger, timeout, keys)?)
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
    use super::*;

    #[test]
    fn a_malformed_endpoint_is_an_error_at_once() {
        let options = |endpoint: &str| ConnectOptions {
            brokers: endpoint.into(),
            hello: Bytes::new(),
            hiccup: Bytes::new(),
            linger: Duration::ZERO,
            credentials: None,
            looks: Duration::ZERO,
            gives_up: true,
        };
        let connect = |endpoint: &str| Connector::new(&Context::new(), options(endpoint), Instant::now()).map(drop);
        for (bad, reason) in [("nonsense", "the port is missing"), ("tcp://127.0.0.1:99999", "'99999' is no port")] {
            let error = connect(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(connect("tcp://127.0.0.1:1").is_ok(), "somebody may listen there later");
    }
}
