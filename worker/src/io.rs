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

/// A connection to the broker, and the conversation over it.
pub struct Connection {
    session: Session,
    connector: Connector,
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
    pub fn open(options: &Options, session: Session, shutdown: &Shutdown, alarm: Alarm) -> Result<Self, Error> {
        let options = ConnectOptions {
            endpoint: options.broker.clone(),
            hello: session.register().clone().encode().envelope,
            hiccup: ToWorker::<Bytes>::Hiccup.encode().envelope,
            linger: socket::LINGER,
            credentials: options.credentials.clone(),
            looks: Duration::ZERO,
        };
        Ok(Self {
            session,
            connector: Connector::new(&Context::new(), options, Instant::now())?,
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
            self.connector.run_io();
        } else {
            self.sleep(wait)?;
        }
        let now = Instant::now();
        for _ in 0..MESSAGES_PER_TURN {
            let Some(frames) = socket::receive(&self.connector)? else { break };
            match ToWorker::decode(&frames) {
                Ok(message) => self.session.handle(message, now),
                Err(error) => self.session.handle_unreadable(&error, now),
            }
            if self.perform(shared, &is_able)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.shutdown.requested() && !self.session.is_leaving() {
            self.session.handle_shutdown(shared.load(), now);
        }
        if let Some(failure) = self.connector.poll(now)? {
            self.session.handle_failed_handshake(self.connector.explain(failure));
        }
        self.watchdog.handle_timeout(now);
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(shared.load(), now);
        }
        let flow = self.perform(shared, &is_able)?;
        self.connector.push();
        Ok(flow)
    }

    /// Sleeps until a message arrives, the alarm rings, the process is asked to shut down, or
    /// something is due. The scheduler has to be asked after the alarm, not before.
    fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        let both = [self.alarm.as_fd(), self.shutdown.as_fd()];
        let descriptors = if self.session.is_leaving() { &both[..1] } else { &both[..] };
        let due = [self.session.poll_timeout(), self.connector.poll_timeout(), self.watchdog.poll_timeout()];
        let due = due.into_iter().flatten().min();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        self.connector.sleep(descriptors, [due, limit].into_iter().flatten().min())?;
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
                Action::Send(message) => self.send(message)?,
                Action::Pong { sequence } => {
                    let load = shared.load();
                    self.send(FromWorker::Pong {
                        sequence,
                        computing: load.computing,
                        waiting: load.waiting,
                        oldest_ms: load.oldest.as_millis().try_into().unwrap_or(u64::MAX),
                    })?;
                }
                Action::Assign(priority, requests) => shared.assign(priority, requests),
                Action::Cancel(tickets) => shared.cancel(&tickets),
                Action::Discard => shared.discard(),
                Action::CheckAbility => self.session.handle_ability(is_able(), Instant::now()),
                Action::Answered => self.connector.answered(),
                Action::Lost => self.connector.lost(Instant::now()),
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

    fn send(&mut self, message: FromWorker) -> Result<(), Error> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        // The socket has no high-water mark, so it takes everything. A message that is lost with the
        // connection needs no resending: the broker hands its requests out again.
        socket::send(&mut self.connector, &self.envelope, &self.attachments)?;
        Ok(())
    }
}
