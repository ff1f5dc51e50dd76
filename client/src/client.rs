//! A client for one thread: its requests, their replies, and questions about the broker.

pub(crate) mod admin;
mod connection;
mod jobs;
mod reports;

use std::time::{Duration, Instant};

use giostra_protocol::codec::Message;
use giostra_protocol::{Bytes, FromClient, MAX_MESSAGE_BYTES, Priority, Progress, Reply, RequestId, ToClient, VERSION};
use giostra_transport::connector::{ConnectOptions, Connector};
use giostra_transport::descriptors;
use giostra_transport::io_loop::Follower;
use giostra_transport::time::deadline;

use crate::session::{BATCH, Link, Record, Session};
use crate::{Error, Options};
use jobs::Homes;
use reports::Reports;

pub use connection::wait_any;
pub use jobs::{Job, JobResult, Results, ResultsWithFailed};
pub(crate) use jobs::{only, results};

/// For how long a client looks for replies before it sleeps. A processor that has not gone to sleep
/// is faster at what comes next. Measured: W=1 1.07, W=4096 1.12, 64 clients 1.12 times the rate. A
/// longer time brings no more. If workers look, too, W=64 loses a tenth where thirty of them share two
/// cores.
const LOOKS: Duration = Duration::from_micros(10);

/// A connection to a broker, and the requests that it has not answered.
///
/// A client is for one thread; [`SharedClient`](crate::SharedClient) is for many threads or tasks.
/// Dropped, it cancels its requests.
pub struct Client {
    options: Options,
    broker: Connector,
    session: Session,
    reports: Reports,
    /// For as long as somebody polls the descriptor.
    follower: Option<Follower>,
    /// Why the last message can't be read; `None` since the last welcome.
    unreadable: Option<String>,
    /// Where jobs live, if there are several brokers.
    homes: Homes,
    /// Whether an answer about the broker is waited for.
    is_asking: bool,
    /// The number of questions about jobs.
    jobs_asked: u64,
    /// Buffers of outgoing messages.
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
}

/// A context of libzmq: the I/O thread that clients share, and its limit of sockets. It has room
/// for about a thousand clients. Clones are the same context.
///
/// ```no_run
/// # fn main() -> Result<(), giostra_client::Error> {
/// use giostra_client::{Client, Context, Options};
///
/// let context = Context::default();
/// let text = Client::connect_in(&context, Options::default().pool("text"))?;
/// let images = Client::connect_in(&context, Options::default().pool("images"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Context(zmq::Context);

impl Client {
    /// Begins to connect, and returns at once: requests may be submitted immediately, and are sent
    /// as soon as the broker is there.
    ///
    /// # Errors
    /// [`Error::Endpoint`] if the broker's endpoint is malformed, [`Error::TooFewFiles`] if the
    /// process may not open more files.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), giostra_client::Error> {
    /// use giostra_client::{Client, Options};
    ///
    /// let client = Client::connect(Options::new("tcp://127.0.0.1:5555").pool("text"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(options: Options) -> Result<Self, Error> {
        Self::connect_in(&Context::default(), options)
    }

    /// As [`Self::connect`], in a context that several clients share.
    pub fn connect_in(context: &Context, options: Options) -> Result<Self, Error> {
        descriptors::check_connection()?;
        let now = Instant::now();
        let (brokers, credentials) = options.in_order();
        let connect = ConnectOptions {
            brokers,
            hello: hello(&options).encode().envelope,
            hiccup: ToClient::<Bytes>::Hiccup.encode().envelope,
            linger: Duration::ZERO,
            credentials,
            looks: LOOKS,
            gives_up: true,
        };
        Ok(Self {
            broker: Connector::new(&context.0, connect, now).map_err(|error| Error::of_connector(&error))?,
            session: Session::new(&options.pool, options.wait, options.broker_timeout, now),
            options,
            reports: Reports::default(),
            follower: None,
            unreadable: None,
            homes: Homes::default(),
            is_asking: false,
            jobs_asked: 0,
            envelope: Vec::new(),
            attachments: Vec::new(),
        })
    }

    /// Sets the priority of the requests that are submitted from now on: see
    /// [`Options::priority`](crate::Options::priority).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, Options, Priority};
    /// # let mut client = Client::connect(Options::default())?;
    /// let sum: i64 = client.set_priority(Priority::High).compute("add", &(1, 2))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_priority(&mut self, priority: Priority) -> &mut Self {
        self.options.priority = priority;
        self
    }

    /// The pool that all requests go to.
    pub(crate) fn pool(&self) -> &str {
        &self.options.pool
    }

    /// The priority of the requests that are submitted from now on.
    pub(crate) fn priority(&self) -> Priority {
        self.options.priority
    }

    /// Submits a request without a time limit: it waits for as long as there is a broker. See
    /// [`Self::submit_within`].
    pub fn submit(&mut self, body: Bytes) -> Result<RequestId, Error> {
        self.submit_within(body, None)
    }

    /// Submits a request. After `timeout` its reply is a failure with the code `expired`, or
    /// `no-broker` if none was there. A timeout of more than ten years counts as ten years.
    ///
    /// The request may wait to be sent together with others until [`Self::next_reply`] or
    /// [`Self::turn`] is called.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a body of more than 64 MiB; the client can go on.
    pub fn submit_within(&mut self, body: Bytes, timeout: Option<Duration>) -> Result<RequestId, Error> {
        self.submit_as(body, timeout, self.options.priority)
    }

    /// As [`Self::submit_within`], with this priority.
    pub(crate) fn submit_as(
        &mut self,
        body: Bytes,
        timeout: Option<Duration>,
        priority: Priority,
    ) -> Result<RequestId, Error> {
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(Error::TooLarge(body.len()));
        }
        let deadline = timeout.map(|timeout| deadline(Instant::now(), timeout));
        let id = self.session.submit(body, deadline, priority);
        if self.session.unsent() >= BATCH {
            self.send(Instant::now())?;
        }
        Ok(id)
    }

    /// Waits for the next reply, in no particular order. Returns `None` if there is none after
    /// `wait`, which may be zero, or without a limit if nothing is unanswered.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, Options, body, result};
    /// # let mut client = Client::connect(Options::default())?;
    /// let (first, second) = (client.submit(body("fib", &[80])?)?, client.submit(body("fib", &[90])?)?);
    /// while let Some(reply) = client.next_reply(None)? {
    ///     let which = if reply.id == first { "first" } else { "second" };
    ///     println!("{which}: {}", result::<u64>(reply.outcome)?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Waits until then for the next reply to this request or to a later one. Replies to earlier
    /// requests are kept for later.
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

    /// Takes a reply that has been received already.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.session.take_reply()
    }

    /// Submits a request and waits for its reply. Replies to other requests are kept for later.
    pub fn call(&mut self, body: Bytes, timeout: Option<Duration>) -> Result<Reply, Error> {
        let id = self.submit_within(body, timeout)?;
        let reply = self.wait_for(None, |session| session.take_reply_to(id))?;
        Ok(reply.expect("without a limit there is a reply"))
    }

    /// Cancels all unanswered requests: see [`Self::cancel`].
    pub fn cancel_all(&mut self) -> Result<(), Error> {
        self.session.cancel_all().into_iter().try_for_each(|message| self.send_message(message))
    }

    /// Cancels these requests: they get no reply, and those that no worker has begun are never
    /// computed.
    pub fn cancel(&mut self, ids: impl IntoIterator<Item = RequestId>) -> Result<(), Error> {
        self.session.cancel(ids.into_iter().collect()).into_iter().try_for_each(|message| self.send_message(message))
    }

    /// The progress of the requests that are being computed, if their operations report it.
    pub fn progress(&self) -> impl Iterator<Item = (RequestId, Progress)> {
        self.session.progress().iter().map(|(&id, &progress)| (id, progress))
    }

    pub(crate) fn progress_has_changed(&mut self) -> bool {
        self.session.progress_has_changed()
    }

    /// The number of requests whose reply has not been taken.
    pub fn unanswered(&self) -> usize {
        self.session.unanswered()
    }

    /// The number of replies to requests that had one already. It should be 0.
    pub fn duplicated(&self) -> u64 {
        self.session.duplicated()
    }

    /// The client's name in the broker's log: see [`Options::name`](crate::Options::name).
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Keeps a record of what happens to requests from now on, beginning with the connection that there
    /// is, or keeps it no longer. It takes memory until [`Self::take_record`] is called.
    #[doc(hidden)]
    pub fn keep_record(&mut self, keeps: bool) {
        self.session.record.keep(keeps);
        if self.session.link() == Link::Up {
            self.session.record.connected(|| self.broker.broker());
        }
    }

    /// Takes what was recorded since the last call.
    #[doc(hidden)]
    pub fn take_record(&mut self) -> Vec<Record> {
        self.session.record.take()
    }

    /// Since when there has been no broker; `None` while one is there.
    pub fn without_broker_since(&self) -> Option<Instant> {
        match self.session.link() {
            Link::Up => None,
            Link::Down(since) | Link::Closing(since) => Some(since),
        }
    }
}

fn hello(options: &Options) -> FromClient {
    FromClient::Hello { version: VERSION, name: options.name.clone() }
}
