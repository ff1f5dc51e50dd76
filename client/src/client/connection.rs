//! The socket and the clock of a client: sending, receiving, sleeping.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use giostra_protocol::codec::Message;
use giostra_protocol::{FromClient, ToClient};
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket::{self, QuietSocket};

use crate::session::{Link, Session};
use crate::{Client, Error};

/// How often a client that waits for replies wakes, to notice that it was stopped.
const PULSE: Duration = Duration::from_secs(1);

/// The largest number of messages received before the client does anything else.
const MESSAGES_PER_TURN: usize = 256;

/// Waits until one of these clients has news ([`Client::has_news`]), one of the descriptors is
/// readable, or until this instant. A signal may end it early.
///
/// For one thread with many clients, which costs less than polling their descriptors. The clients
/// have to be of one [`Context`](crate::Context), and to have taken a [`Client::turn`] since they
/// were last used otherwise.
pub fn wait_any(clients: &[&Client], descriptors: &[BorrowedFd<'_>], until: Option<Instant>) -> Result<(), Error> {
    let Some(first) = clients.first() else { return Ok(()) };
    let sockets: Vec<_> = clients.iter().flat_map(|client| client.broker.sockets()).collect();
    let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
    socket::sleep_for_news(first.broker.io(), first.broker.sleeper(), &sockets, descriptors, timeout)
        .map_err(Error::of_libzmq)
}

impl Client {
    /// Sends and receives everything that it can without waiting, for an event loop of one's own.
    /// Replies are then available from [`Self::take_reply`].
    ///
    /// Call it after submitting, when [`Self::fd`] is readable, and at the instant that it returns.
    pub fn turn(&mut self) -> Result<Option<Instant>, Error> {
        self.broker.disarm();
        loop {
            let wake = self.exchange()?;
            if self.follower.is_none() || self.broker.arm() {
                return Ok(wake);
            }
        }
    }

    /// Whether [`Self::turn`] has something to receive. Costs no system call.
    pub fn has_news(&self) -> bool {
        self.broker.sockets().any(QuietSocket::has_news)
    }

    /// Sends and receives everything that it can without waiting.
    fn exchange(&mut self) -> Result<Option<Instant>, Error> {
        let now = Instant::now();
        self.send(now)?;
        loop {
            let is_empty = self.receive(now)?;
            self.session.handle_timeout(now);
            // The descriptor signals what arrived since the socket was last found empty, and sending
            // consumes that signal: so receive again after each send.
            if !self.send(now)? && is_empty {
                break;
            }
        }
        self.check()?;
        self.wake_at(now)
    }

    /// As [`Self::turn`]; then, if no reply is available, waits until a message arrives, one of these
    /// descriptors is readable, or `until`.
    pub fn wait(&mut self, descriptors: &[BorrowedFd<'_>], until: Option<Instant>) -> Result<(), Error> {
        self.wait_unless(descriptors, until, Session::has_replies)
    }

    /// As [`Self::wait`], also for answers about jobs or the broker's status, and until the session is another than this one.
    pub(crate) fn wait_for_any(
        &mut self,
        descriptors: &[BorrowedFd<'_>],
        until: Option<Instant>,
        known: Option<u64>,
    ) -> Result<(), Error> {
        let is_new = |session: &Session| (session.link() == Link::Up).then(|| session.number()) != known;
        self.wait_unless(descriptors, until, |here| here.has_replies() || here.has_answers() || is_new(here))
    }

    fn wait_unless(
        &mut self,
        descriptors: &[BorrowedFd<'_>],
        until: Option<Instant>,
        is_ready: impl Fn(&Session) -> bool,
    ) -> Result<(), Error> {
        let wake = self.exchange()?;
        if is_ready(&self.session) {
            return Ok(());
        }
        self.sleep(descriptors, [until, wake])?;
        self.exchange().map(drop)
    }

    /// A descriptor that becomes readable when [`Self::turn`] has something to receive. It may be
    /// another one after each turn, so that it can't be kept beyond one. Ask for it before the turn
    /// after which it is polled.
    pub fn fd(&mut self) -> Result<BorrowedFd<'_>, Error> {
        self.follower.get_or_insert_with(|| self.broker.io().follow());
        socket::descriptor(&self.broker).map_err(Error::of_libzmq)
    }

    /// Sends and receives until `take` finds something, or until this instant.
    pub(super) fn wait_for<T>(
        &mut self,
        until: Option<Instant>,
        mut take: impl FnMut(&mut Session) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        loop {
            let now = Instant::now();
            self.receive(now)?;
            self.session.handle_timeout(now);
            self.send(now)?;
            if let Some(found) = take(&mut self.session) {
                return Ok(Some(found));
            }
            self.check()?;
            if until.is_some_and(|until| until <= now) {
                return Ok(None);
            }
            let wake = self.wake_at(now)?;
            self.sleep(&[], [until, wake])?;
        }
    }

    /// Sleeps until a message may have arrived, one of the descriptors is readable, or the first of
    /// these instants. Notices if the process was stopped meanwhile.
    fn sleep(&mut self, descriptors: &[BorrowedFd<'_>], wake: [Option<Instant>; 2]) -> Result<(), Error> {
        let now = Instant::now();
        let pulse = (self.session.unanswered() > 0).then(|| now + PULSE);
        let wake = wake.into_iter().chain([pulse]).flatten().min();
        let shutdown = self.options.shutdown.as_ref().map(Shutdown::as_fd);
        let descriptors: Vec<_> = descriptors.iter().copied().chain(shutdown).collect();
        let timeout = wake.map(|wake| wake.saturating_duration_since(now));
        self.broker.sleep(&descriptors, timeout).map_err(Error::of_libzmq)?;
        if let Some(wake) = wake {
            self.reports.woke(wake);
        }
        Ok(())
    }

    /// Fails if the broker has refused a message, or a shutdown was requested.
    fn check(&mut self) -> Result<(), Error> {
        if let Some(reason) = self.session.take_refused() {
            return Err(Error::Refused(reason));
        }
        match &self.options.shutdown {
            Some(shutdown) if shutdown.requested() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// Maintains the connection. Returns when there will be something to do without a message.
    fn wake_at(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        if let Some(trouble) = self.broker.poll(now).map_err(|error| Error::of_connector(&error))? {
            self.session.connecting_failed(&trouble.to_string());
        }
        let better = self.go_back_at(now)?;
        let absent = self.without_broker_since();
        let report = self.reports.absence(absent, now, &self.options.broker, self.options.broker_timeout);
        Ok([report, better, self.broker.poll_timeout(), self.session.poll_timeout()].into_iter().flatten().min())
    }

    /// Goes back to a better broker, if that is wanted, it is there, and nothing is under way. Returns
    /// when to look for one.
    fn go_back_at(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        let is_idle = self.session.under_way() == 0 && !self.is_asking && self.session.link() == Link::Up;
        if !self.options.return_to_first || !is_idle {
            return Ok(None);
        }
        if self.broker.has_better(now) {
            self.broker.push();
            self.session.handle(ToClient::Hiccup, now);
            self.broker.go_back(now).map_err(|error| Error::of_connector(&error))?;
        }
        Ok(self.broker.better_timeout())
    }

    /// Receives messages. Returns whether the socket is empty now.
    pub(super) fn receive(&mut self, now: Instant) -> Result<bool, Error> {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(frames) = socket::receive(&self.broker).map_err(Error::of_libzmq)? else { return Ok(true) };
            match ToClient::decode(&frames) {
                Ok(message) => self.handle(message, now)?,
                Err(error) => {
                    self.reports.stranger(&self.broker.broker(), &error);
                    self.session.answer_was_unreadable(&error.to_string());
                    self.unreadable = Some(error.to_string());
                    // The message may have held replies: over another connection they come again.
                    self.session.handle(ToClient::Hiccup, now);
                    self.broke(now)?;
                }
            }
        }
        Ok(false)
    }

    fn handle(&mut self, message: ToClient, now: Instant) -> Result<(), Error> {
        match message {
            ToClient::Welcome { .. } => {
                let broke = self.without_broker_since();
                self.unreadable = None;
                self.reports.welcomed();
                self.broker.answered();
                self.session.handle(message, now);
                self.session.record.connected(|| self.broker.broker());
                self.reports.resent(self.session.take_to_resend(), broke);
            }
            ToClient::Goodbye => {
                self.session.handle(message, now);
                // The broker waits to hear that everything before has been read.
                self.send_message(FromClient::Goodbye)?;
                self.leave_closing(now)?;
            }
            ToClient::Hiccup => {
                self.broke(now)?;
                self.session.handle(message, now);
            }
            ToClient::HelloAgain => {
                self.broker.lost(now);
                self.session.handle(message, now);
                log::warn!("cut off by the broker, as happens when replies are not read in time; going on");
                self.send_message(super::hello(&self.options))?;
            }
            ToClient::Closing => {
                self.session.handle(message, now);
                if self.session.under_way() == 0 {
                    self.leave_closing(now)?;
                }
            }
            message => self.session.handle(message, now),
        }
        Ok(())
    }

    /// Leaves a broker that is closing if there is another one.
    fn leave_closing(&mut self, now: Instant) -> Result<(), Error> {
        if self.broker.has_others() {
            self.broker.push();
            self.session.handle(ToClient::Hiccup, now);
            self.broker.leave(now).map_err(|error| Error::of_connector(&error))?;
        }
        Ok(())
    }

    fn broke(&mut self, now: Instant) -> Result<(), Error> {
        self.broker.broke(now).map_err(|error| Error::of_connector(&error))
    }

    /// Sends the requests that are due. Returns whether there were any.
    pub(super) fn send(&mut self, now: Instant) -> Result<bool, Error> {
        let mut sent = false;
        while let Some(message) = self.session.poll_send(now) {
            self.send_message(message)?;
            sent = true;
        }
        if sent {
            self.broker.push();
        }
        Ok(sent)
    }

    pub(super) fn send_message(&mut self, message: FromClient) -> Result<(), Error> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        // The socket accepts everything; what is lost with a connection is sent again after the hiccup.
        socket::send(&mut self.broker, &self.envelope, &self.attachments).map_err(Error::of_libzmq)?;
        Ok(())
    }

    /// Sends a message at once, without waiting for the next turn.
    pub(super) fn send_now(&mut self, message: FromClient) -> Result<(), Error> {
        self.send_message(message)?;
        self.broker.push();
        Ok(())
    }
}
