//! The socket and the clock of a client: see the crate's page.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use giostra_protocol::codec::Message;
use giostra_protocol::{Bytes, FromClient, MAX_MESSAGE_BYTES, Progress, Reply, RequestId, Status, ToClient, VERSION};
use giostra_transport::connector::{ConnectOptions, Connector};
use giostra_transport::descriptors;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket;
use giostra_transport::time::deadline;
use zmq::Context;

use crate::options::{Error, Options};
use crate::session::{BATCH, Link, Session};

/// After how long without a broker that is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a client that waits for replies wakes: one that wakes much later has been stopped.
const PULSE: Duration = Duration::from_secs(1);

/// How much later that is. A busy machine makes everybody late by less.
const STOPPED: Duration = Duration::from_secs(2);

/// How soon after a stop a connection breaks because of it.
const AFTER_A_STOP: Duration = Duration::from_secs(5);

/// The most messages taken in before anything else is looked after.
const MESSAGES_A_TURN: usize = 256;

/// A connection to a broker, and the requests that it has not answered.
pub struct Client {
    options: Options,
    broker: Connector,
    session: Session,
    /// Whether it has been said that there is no broker.
    said: bool,
    /// When the process last went on after it had been stopped, and how long it had been.
    stopped: Option<(Instant, Duration)>,
    /// Whether it has been said that what is there does not speak the protocol.
    puzzled: bool,
    /// Why what came last can't be read, since the last welcome.
    unreadable: Option<String>,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl Client {
    /// Begins to connect. Does not wait: requests may be submitted at once, and are sent when the
    /// broker is there.
    pub fn connect(options: Options) -> Result<Self, Error> {
        descriptors::check_connection()?;
        Self::connect_in(&Context::new(), options)
    }

    /// The same in a context that several clients share, and with it libzmq's thread. It has room
    /// for about a thousand.
    pub fn connect_in(context: &Context, options: Options) -> Result<Self, Error> {
        descriptors::check_connection()?;
        let now = Instant::now();
        let call = ConnectOptions {
            endpoint: options.broker.clone(),
            hello: hello(&options).encode().envelope,
            hiccup: ToClient::<Bytes>::Hiccup.encode().envelope,
            linger: Duration::ZERO,
            credentials: options.credentials.clone(),
        };
        let broker = Connector::new(context, call, now)?;
        let session = Session::new(&options.pool, options.wait, options.broker_timeout, now);
        let (envelope, attachments) = (Vec::new(), Vec::new());
        Ok(Self {
            options,
            broker,
            session,
            said: false,
            stopped: None,
            puzzled: false,
            unreadable: None,
            envelope,
            attachments,
        })
    }

    /// Submits a request without a time limit.
    pub fn submit(&mut self, body: Bytes) -> Result<RequestId, Error> {
        self.submit_within(body, None)
    }

    /// Submits a request; after `timeout` its reply is the error `expired` (or `no-broker`).
    ///
    /// It may wait to be sent with others until [`Self::next_reply`] is called.
    pub fn submit_within(&mut self, body: Bytes, timeout: Option<Duration>) -> Result<RequestId, Error> {
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(Error::TooLarge(body.len()));
        }
        let deadline = timeout.map(|timeout| deadline(Instant::now(), timeout));
        let id = self.session.submit(body, deadline);
        if self.session.unsent() >= BATCH {
            self.send(Instant::now())?;
        }
        Ok(id)
    }

    /// Waits for the next reply, in no particular order; `None` if there is none after `wait`
    /// (which may be zero), or at once if there is no limit and nothing is unanswered.
    pub fn next_reply(&mut self, wait: Option<Duration>) -> Result<Option<Reply>, Error> {
        if let Some(reply) = self.session.take_reply() {
            return Ok(Some(reply));
        }
        if wait.is_none() && self.session.unanswered() == 0 {
            return Ok(None);
        }
        let until = wait.map(|wait| deadline(Instant::now(), wait));
        self.wait_for(until, Session::take_reply)
    }

    /// Waits for the next reply to this request or to one that was submitted after it, until then.
    /// Replies to those before it are left for later.
    pub(crate) fn next_reply_since(
        &mut self,
        first: RequestId,
        until: Option<Instant>,
    ) -> Result<Option<Reply>, Error> {
        if let Some(reply) = self.session.take_reply_since(first) {
            return Ok(Some(reply));
        }
        self.wait_for(until, |session| session.take_reply_since(first))
    }

    /// A reply that is here already.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.session.take_reply()
    }

    /// Sends and receives all that there is, without waiting: for whoever waits for several clients
    /// at once. The replies are then to be had from [`Self::take_reply`].
    ///
    /// It is to be called after submitting, when [`Self::fd`] is readable, and at the instant that
    /// it returns, if any.
    pub fn turn(&mut self) -> Result<Option<Instant>, Error> {
        let now = Instant::now();
        self.send(now)?;
        loop {
            let all = self.receive(now)?;
            self.session.handle_timeout(now);
            // The descriptor tells of what came since the socket was last found empty, and sending takes that
            // notice away.
            if !self.send(now)? && all {
                break;
            }
        }
        self.check()?;
        self.wake(now)
    }

    /// The same, and if no reply is here, waits: until something came, one of these descriptors is
    /// readable, or it is `until`. For whoever waits for other things besides.
    pub fn wait(&mut self, descriptors: &[BorrowedFd<'_>], until: Option<Instant>) -> Result<(), Error> {
        let wake = self.turn()?;
        if self.session.has_replies() {
            return Ok(());
        }
        self.sleep(descriptors, [until, wake])?;
        self.turn().map(drop)
    }

    /// A descriptor that becomes readable when [`Self::turn`] has something to receive. It may be
    /// another one after each turn.
    pub fn fd(&self) -> Result<BorrowedFd<'_>, Error> {
        Ok(socket::descriptor(&self.broker)?)
    }

    /// Submits a request and waits for its reply, leaving others' replies for later.
    pub fn call(&mut self, body: Bytes, timeout: Option<Duration>) -> Result<Reply, Error> {
        let id = self.submit_within(body, timeout)?;
        let reply = self.wait_for(None, |session| session.take_reply_to(id))?;
        Ok(reply.expect("without a limit there is a reply"))
    }

    /// Asks the broker what it is doing.
    pub fn status(&mut self) -> Result<Status, Error> {
        self.await_broker()?;
        self.say(FromClient::Inspect)?;
        self.await_answer(Session::take_status)
    }

    /// Asks the broker to let the worker of this name finish what it has, and to give it no more.
    /// Returns the number of its registration. A name that no worker has may be such a number,
    /// like `w17`.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such worker, or if there are several: the reason lists
    /// them.
    pub fn drain(&mut self, worker: &str) -> Result<u64, Error> {
        self.ask_to_drain(worker, 0, false).map(|numbers| numbers.first().copied().unwrap_or_default())
    }

    /// The same for the worker of this name and this number.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such worker.
    pub fn drain_number(&mut self, worker: &str, number: u64) -> Result<(), Error> {
        self.ask_to_drain(worker, number, false).map(drop)
    }

    /// The same for all workers of this name. Returns their numbers.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none.
    pub fn drain_all(&mut self, worker: &str) -> Result<Vec<u64>, Error> {
        self.ask_to_drain(worker, 0, true)
    }

    fn ask_to_drain(&mut self, worker: &str, number: u64, all: bool) -> Result<Vec<u64>, Error> {
        self.await_broker()?;
        self.say(FromClient::Drain { worker: worker.into(), number, all })?;
        self.await_answer(Session::take_draining)
    }

    /// Gives up all that is unanswered.
    pub fn cancel_all(&mut self) -> Result<(), Error> {
        self.session.cancel_all().into_iter().try_for_each(|message| self.say(message))
    }

    /// Gives up these requests: no reply to them is to be had any more, and what has not been
    /// computed never will be.
    pub fn cancel(&mut self, ids: impl IntoIterator<Item = RequestId>) -> Result<(), Error> {
        self.session.cancel(ids.into_iter().collect()).into_iter().try_for_each(|message| self.say(message))
    }

    /// How far requests are that are being computed, as far as their workers have said so.
    pub fn progress(&self) -> impl Iterator<Item = (RequestId, Progress)> {
        self.session.progress().iter().map(|(&id, &progress)| (id, progress))
    }

    pub(crate) fn progress_has_changed(&mut self) -> bool {
        self.session.progress_has_changed()
    }

    /// Requests whose reply has not been taken.
    pub fn unanswered(&self) -> usize {
        self.session.unanswered()
    }

    /// Replies that came for requests that had one already. It is to be 0.
    pub fn duplicated(&self) -> u64 {
        self.session.duplicated()
    }

    /// Since when there has been no broker; `None`: one is there.
    pub fn without_broker_since(&self) -> Option<Instant> {
        match self.session.link() {
            Link::Up => None,
            Link::Down(since) | Link::Closing(since) => Some(since),
        }
    }

    /// Waits until a broker has welcomed this client.
    pub fn await_broker(&mut self) -> Result<(), Error> {
        let until = Some(deadline(Instant::now(), self.options.broker_timeout));
        match self.wait_for(until, |session| (session.link() == Link::Up).then_some(()))? {
            Some(()) => Ok(()),
            None => Err(self.no_broker()),
        }
    }

    /// Waits for the answer to something that was just asked.
    fn await_answer<T>(&mut self, mut take: impl FnMut(&mut Session) -> Option<T>) -> Result<T, Error> {
        let until = Some(deadline(Instant::now(), self.options.broker_timeout));
        let answer = self.wait_for(until, |session| match take(session) {
            Some(answer) => Some(Some(answer)),
            // The question went down with the connection.
            None => (session.link() != Link::Up).then_some(None),
        })?;
        answer.flatten().ok_or_else(|| self.no_broker())
    }

    fn no_broker(&self) -> Error {
        match (self.broker.error(), &self.unreadable) {
            (Some(error), _) => error.into(),
            (None, Some(error)) => Error::Unreadable { endpoint: self.options.broker.clone(), error: error.clone() },
            (None, None) => {
                Error::NoBroker { endpoint: self.options.broker.clone(), waited: self.options.broker_timeout }
            }
        }
    }

    /// Sends and receives until `take` finds something, or until the time is over.
    fn wait_for<T>(
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
            let wake = self.wake(now)?;
            self.sleep(&[], [until, wake])?;
        }
    }

    /// Sleeps until something may have come, one of the descriptors is readable, or the first of
    /// these instants. Notices if the process was stopped meanwhile.
    fn sleep(&mut self, descriptors: &[BorrowedFd<'_>], wake: [Option<Instant>; 2]) -> Result<(), Error> {
        let now = Instant::now();
        let pulse = (self.session.unanswered() > 0).then(|| now + PULSE);
        let wake = wake.into_iter().chain([pulse]).flatten().min();
        let shutdown = self.options.shutdown.as_ref().map(Shutdown::as_fd);
        let descriptors: Vec<_> = descriptors.iter().copied().chain(shutdown).collect();
        let timeout = wake.map(|wake| wake.saturating_duration_since(now));
        socket::sleep(&self.broker.sockets(), &descriptors, timeout)?;
        if let Some(wake) = wake {
            let now = Instant::now();
            let late = now.saturating_duration_since(wake);
            if late > STOPPED {
                self.stopped = Some((now, late));
            }
        }
        Ok(())
    }

    /// Says what the connection that broke last has cost, if anything.
    fn tell_what_is_resent(&mut self, broke: Option<Instant>) {
        let requests = match self.session.take_to_resend() {
            0 => return,
            1 => "1 request that was under way is".to_string(),
            n => format!("{n} requests that were under way are"),
        };
        let stopped = self
            .stopped
            .take()
            .filter(|&(ended, _)| broke.is_some_and(|broke| broke.saturating_duration_since(ended) < AFTER_A_STOP));
        match stopped {
            Some((_, time)) => log::warn!(
                "this process was stopped for {:.0} s, and the broker took it for gone: {requests} sent again, to \
                 be computed anew (giostra-broker --client-timeout: how long it waits)",
                time.as_secs_f64()
            ),
            None => log::warn!("the connection to the broker broke: {requests} sent again"),
        }
    }

    /// An error if the broker has refused something, or the process was asked to finish.
    fn check(&mut self) -> Result<(), Error> {
        if let Some(reason) = self.session.take_refused() {
            return Err(Error::Refused(reason));
        }
        match &self.options.shutdown {
            Some(shutdown) if shutdown.requested() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// Looks after the connection. When there will be something to do though nothing has come.
    fn wake(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        if let Some(failure) = self.broker.poll(now)? {
            self.session.handshake_failed(&self.broker.explain(failure));
        }
        let patience = self.patience(now);
        Ok([patience, self.broker.poll_timeout(), self.session.poll_timeout()].into_iter().flatten().min())
    }

    /// Says once that there is no broker if there has been none for a while, or else when that will
    /// be.
    fn patience(&mut self, now: Instant) -> Option<Instant> {
        let Some(since) = self.without_broker_since() else {
            self.said = false;
            return None;
        };
        let due = since + PATIENCE;
        if !self.said && due <= now {
            self.said = true;
            log::warn!("waiting for a broker at {} ({:?} at most)", self.options.broker, self.options.broker_timeout);
        }
        (!self.said).then_some(due)
    }

    /// Whether that was all there is.
    fn receive(&mut self, now: Instant) -> Result<bool, Error> {
        for _ in 0..MESSAGES_A_TURN {
            let Some(frames) = socket::receive(&self.broker)? else { return Ok(true) };
            match ToClient::decode(&frames) {
                Ok(message) => {
                    let (again, goodbye) = (message == ToClient::HelloAgain, message == ToClient::Goodbye);
                    let welcome = matches!(message, ToClient::Welcome { .. });
                    let broke = self.without_broker_since();
                    if welcome {
                        (self.puzzled, self.unreadable) = (false, None);
                        self.broker.answered();
                    } else if again || message == ToClient::Hiccup {
                        self.broker.lost(now);
                    }
                    self.session.handle(message, now);
                    if welcome {
                        self.tell_what_is_resent(broke);
                    }
                    if goodbye {
                        // All that came before has been read: the broker waits to hear that.
                        self.say(FromClient::Goodbye)?;
                    }
                    if again {
                        log::warn!("cut off by the broker, as happens when replies are not read in time; going on");
                        self.say(hello(&self.options))?;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.puzzled, true) {
                        log::error!("what speaks at {} is not Giostra's frontend: {error}", self.options.broker);
                    }
                    self.session.answer_was_unreadable(&error.to_string());
                    self.unreadable = Some(error.to_string());
                    // It may have been replies: over another connection they come again.
                    self.session.handle(ToClient::Hiccup, now);
                    self.broker.lost(now);
                }
            }
        }
        Ok(false)
    }

    /// Whether there was something to send.
    fn send(&mut self, now: Instant) -> Result<bool, Error> {
        let mut sent = false;
        while let Some(message) = self.session.poll_send(now) {
            self.say(message)?;
            sent = true;
        }
        Ok(sent)
    }

    fn say(&mut self, message: FromClient) -> Result<(), Error> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        // The socket takes everything; what goes down with a connection is sent again after the hiccup.
        socket::send(&mut self.broker, &self.envelope, &self.attachments)?;
        Ok(())
    }
}

fn hello(options: &Options) -> FromClient {
    FromClient::Hello { version: VERSION, name: options.name.clone() }
}
