//! The connection to the broker: the socket loop around the sans-IO [`Session`].
//!
//! The thread with I/O leadership drives it, one [`Connection::turn`] at a time.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use giostra_protocol::codec::Message as _;
use giostra_protocol::{Bytes, FromWorker, ToWorker};
use giostra_transport::connector::{self, ConnectOptions, Connector};
use giostra_transport::keys::Credentials;
use giostra_transport::service::{self, Watchdog};
use giostra_transport::shutdown::Shutdown;
use giostra_transport::wake::Alarm;
use giostra_transport::{descriptors, socket};
use thiserror::Error;
use zmq::Context;

use crate::Options;
use crate::scheduler::{Outgoing, Turn};
use crate::session::{Action, Session};
use crate::shared::Shared;

/// The most messages that are received in one turn, before anything else is looked after.
const MESSAGES_PER_TURN: usize = 256;

/// Why a worker ended without being asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint makes no sense, or no handshake succeeds with what is there.
    #[error(transparent)]
    Connect(#[from] connector::Error),
    /// The broker refused to register this worker.
    #[error("the broker refused to register this worker: {0}")]
    Refused(String),
    /// The process may not open as many files as libzmq needs, which would end the process.
    #[error(transparent)]
    TooFewFiles(#[from] descriptors::TooFew),
    /// libzmq failed.
    #[error("libzmq: {0}")]
    Zmq(String),
    /// The system gave no pipe or no thread.
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
}

impl From<zmq::Error> for Error {
    fn from(error: zmq::Error) -> Self {
        Self::Zmq(error.to_string())
    }
}

/// The connections to the brokers, and the conversations over them.
pub struct Connection {
    session: Session,
    /// A connector for each broker, all of one context. Never empty.
    connectors: Vec<Connector>,
    shutdown: Shutdown,
    /// Rings when the leader is to end its turn.
    alarm: Alarm,
    /// Buffers of the messages that are sent.
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
    watchdog: Watchdog,
}

impl Connection {
    /// Begins to connect.
    pub fn open(
        options: &Options,
        brokers: &[String],
        session: Session,
        shutdown: &Shutdown,
        alarm: Alarm,
    ) -> Result<Self, Error> {
        let context = Context::new();
        let connect = |(link, broker): (usize, &String)| {
            let credentials = options.credentials.as_ref();
            let options = ConnectOptions {
                brokers: broker.clone(),
                hello: session.register(link).clone().encode().envelope,
                hiccup: ToWorker::<Bytes>::Hiccup.encode().envelope,
                linger: socket::LINGER,
                credentials: credentials.map(|keys| Credentials::new(keys.own.clone(), *keys.broker(link))),
                looks: Duration::ZERO,
                gives_up: brokers.len() == 1,
            };
            Connector::new(&context, options, Instant::now())
        };
        let connectors = brokers.iter().enumerate().map(connect).collect::<Result<_, _>>()?;
        Ok(Self {
            session,
            connectors,
            shutdown: shutdown.clone(),
            alarm,
            envelope: Vec::new(),
            attachments: Vec::new(),
            watchdog: Watchdog::new(Instant::now()),
        })
    }

    /// Sends, sleeps, receives, and does what is due. Breaks when the conversation has ended.
    pub fn turn(
        &mut self,
        Turn { outgoing: Outgoing { reports, replies, unable }, wait }: Turn,
        shared: &Shared,
        is_able: impl Fn() -> Result<(), String>,
    ) -> Result<ControlFlow<()>, Error> {
        self.session.handle_replies(reports, replies, Instant::now());
        if let Some(unable) = unable {
            self.session.handle_unable(unable, Instant::now());
        }
        if self.perform(shared, &is_able)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if wait == Some(Duration::ZERO) {
            self.connectors[0].run_io();
        } else {
            self.sleep(wait)?;
        }
        let now = Instant::now();
        for link in 0..self.connectors.len() {
            if self.receive(link, now, shared, &is_able)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.shutdown.requested() && !self.session.is_leaving() {
            self.session.handle_shutdown(shared.load(None), now);
        }
        for (link, connector) in self.connectors.iter_mut().enumerate() {
            if let Some(trouble) = connector.poll(now)? {
                self.session.handle_trouble(link, trouble.to_string());
            }
        }
        self.watchdog.handle_timeout(now);
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(shared.load(None), now);
        }
        let flow = self.perform(shared, &is_able)?;
        self.connectors[0].push();
        Ok(flow)
    }

    /// Receives what has arrived over a link, and does what follows.
    fn receive(
        &mut self,
        link: usize,
        now: Instant,
        shared: &Shared,
        is_able: &impl Fn() -> Result<(), String>,
    ) -> Result<ControlFlow<()>, Error> {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(frames) = socket::receive(&self.connectors[link])? else { break };
            match ToWorker::decode(&frames) {
                Ok(message) => self.session.handle(link, message, now),
                Err(error) => self.session.handle_unreadable(link, &error, now),
            }
            if self.perform(shared, is_able)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Sleeps until a message arrives, the alarm rings, the process is asked to shut down, or
    /// something is due. The scheduler has to be asked after the alarm, not before.
    fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        let both = [self.alarm.as_fd(), self.shutdown.as_fd()];
        let descriptors = if self.session.is_leaving() { &both[..1] } else { &both[..] };
        let of_links = self.connectors.iter().map(Connector::poll_timeout);
        let due = of_links.chain([self.session.poll_timeout(), self.watchdog.poll_timeout()]).flatten().min();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        let sockets: Vec<_> = self.connectors.iter().flat_map(Connector::sockets).collect();
        let (first, timeout) = (&self.connectors[0], [due, limit].into_iter().flatten().min());
        socket::sleep(first.io(), first.sleeper(), &sockets, descriptors, timeout)?;
        self.alarm.clear();
        Ok(())
    }

    /// Performs the session's actions in their order.
    fn perform(
        &mut self,
        shared: &Shared,
        is_able: &impl Fn() -> Result<(), String>,
    ) -> Result<ControlFlow<()>, Error> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(link, message) => self.send(link, message)?,
                Action::Pong { link, sequence } => {
                    let load = shared.load(Some(link));
                    let pong = FromWorker::Pong {
                        sequence,
                        computing: load.computing,
                        waiting: load.waiting,
                        oldest_ms: load.oldest.as_millis().try_into().unwrap_or(u64::MAX),
                    };
                    self.send(link, pong)?;
                }
                Action::Assign(link, priority, requests) => shared.assign(link, priority, requests),
                Action::Cancel(link, tickets) => shared.cancel(link, &tickets),
                Action::Discard(link) => shared.discard(link),
                Action::CheckAbility => self.session.handle_ability(is_able(), Instant::now()),
                Action::Answered(link) => self.connectors[link].answered(),
                Action::Lost(link) => self.connectors[link].lost(Instant::now()),
                Action::Broke(link) => self.connectors[link].broke(Instant::now())?,
                Action::Log(level, line) => log::log!(level, "{line}"),
                Action::Ready(status) => service::ready(&status),
                Action::Status(status) => service::status(&status),
                Action::Stopping(grace) => service::stopping(grace, "leaving"),
                Action::End => return Ok(ControlFlow::Break(())),
                Action::Refused(reason) => return Err(Error::Refused(reason)),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn send(&mut self, link: usize, message: FromWorker) -> Result<(), Error> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        // The socket has no high-water mark, so it takes everything. A message that is lost with the
        // connection needs no resending: the broker hands its requests out again.
        socket::send(&mut self.connectors[link], &self.envelope, &self.attachments)?;
        Ok(())
    }
}
