//! A worker's side of the conversation with the broker.
//!
//! It is led by whoever has nothing to compute at the moment, and by somebody who never computes if
//! all do, so that pings are always answered: [`crate::board`] says who. Here is what is said, and
//! the socket.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::codec::{Malformed, Message, portions};
use giostra_protocol::{
    Bytes, DEFAULT_POOL, Failure, FromWorker, MAX_BATCH, MAX_INSTANCE, MAX_MESSAGE_BYTES, Outcome, Ticket, ToWorker,
    VERSION,
};
use giostra_transport::connector::{ConnectOptions, Connector};
use giostra_transport::keys::Credentials;
use giostra_transport::monitor::Failure as HandshakeFailure;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::time::deadline;
use giostra_transport::wake::Alarm;
use giostra_transport::{connector, descriptors, socket, wake};
use thiserror::Error;
use zmq::Context;

use crate::Service;
use crate::board::{Stay, Trouble};
use crate::crew::{self, Crew};
use crate::hand::{News, Reply};

/// After how long without a broker that is said.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most messages taken in before anything else is looked after.
const MESSAGES_A_TURN: usize = 256;

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's backend.
    pub broker: String,
    /// A label, one word. The broker's log and status name the worker by it.
    pub name: String,
    /// The pool to register in.
    pub pool: String,
    /// How many requests to compute at once. 0 is taken as 1.
    pub threads: usize,
    /// The most requests to hold; 0: as many as the broker gives.
    pub window: u32,
    /// How long to go on with what is left after the request to finish.
    pub grace: Duration,
    /// Its keys and the broker's, if the broker demands keys.
    pub credentials: Option<Credentials>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: "tcp://127.0.0.1:5556".into(),
            name: giostra_protocol::name::of_process(""),
            pool: DEFAULT_POOL.into(),
            threads: 1,
            window: 0,
            grace: Duration::from_secs(30),
            credentials: None,
        }
    }
}

/// Why a worker ended without being asked to.
#[derive(Debug, Error)]
pub enum Error {
    /// When the endpoint makes no sense, or no handshake succeeds with what is there.
    #[error(transparent)]
    Dial(#[from] connector::Error),
    /// When the broker does not take this worker.
    #[error("the broker refused to register this worker: {0}")]
    Refused(String),
    /// When libzmq would not get the descriptors that it needs, and end the process.
    #[error(transparent)]
    TooFewFiles(#[from] descriptors::TooFew),
    /// When libzmq fails.
    #[error("libzmq: {0}")]
    Zmq(#[from] zmq::Error),
    /// When the system gives no pipe or no thread.
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
}

/// Registers and computes until `shutdown` is requested (then finishes what it has, and leaves) or
/// the broker drains it.
pub fn serve<S: Service>(options: &Options, service: S, shutdown: &Shutdown) -> Result<(), Error> {
    let threads = options.threads.max(1);
    let register: FromWorker = FromWorker::Register {
        version: VERSION,
        name: options.name.clone(),
        pool: options.pool.clone(),
        operations: service.operations(),
        threads: threads.try_into().unwrap_or(u32::MAX),
        window: options.window,
        instance: instance(),
    };
    let service = Arc::new(service);
    let asked = Arc::clone(&service);
    descriptors::check_connection()?;
    let context = Context::new();
    let (waker, alarm) = wake::alarm()?;
    let call = ConnectOptions {
        endpoint: options.broker.clone(),
        hello: register.clone().encode().envelope,
        hiccup: ToWorker::<Bytes>::Hiccup.encode().envelope,
        linger: socket::LINGER,
        credentials: options.credentials.clone(),
    };
    let broker = Connector::new(&context, call, Instant::now())?;
    let session = Session {
        broker,
        options: options.clone(),
        shutdown: shutdown.clone(),
        alarm,
        register,
        registered: false,
        said: None,
        max_message_bytes: MAX_MESSAGE_BYTES,
        unregistered_since: Instant::now(),
        complained: false,
        puzzled: false,
        leave_by: None,
        is_able: Box::new(move || asked.is_able()),
        unable: None,
        was_unable: false,
        pause: PAUSES[0],
        envelope: Vec::new(),
        attachments: Vec::new(),
    };
    log::info!("connecting to {} as {}", options.broker, options.name);
    let end = crew::work(session, threads, &service, waker);
    // Its last lines may be on their way yet.
    log::logger().flush();
    end
}

/// The shortest and the longest time for which a worker whose operation can't compute takes no
/// requests. Doubled each time, until it has computed something again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Why nothing can be computed, and when to try again.
struct Unable {
    reason: String,
    again: Instant,
}

/// A random number below [`MAX_INSTANCE`], not 0, by which the broker knows this worker when it
/// comes back.
fn instance() -> u64 {
    // The keys of a hasher are the standard library's own randomness, and other ones each time.
    RandomState::new().hash_one(std::process::id()) % (MAX_INSTANCE - 1) + 1
}

/// Whether the conversation goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When it does.
    GoOn,
    /// When the worker is to end.
    Exit,
}

/// The conversation, and all it needs. One thread at a time has it.
pub struct Session {
    options: Options,
    broker: Connector,
    shutdown: Shutdown,
    /// Rings when somebody wants whoever sleeps here to look around.
    alarm: Alarm,
    register: FromWorker,
    registered: bool,
    /// What has been said of handshakes that failed.
    said: Option<HandshakeFailure>,
    /// What the broker takes.
    max_message_bytes: usize,
    unregistered_since: Instant,
    /// Whether it has been said that there is no broker.
    complained: bool,
    /// Whether it has been said, since the last registration, that something could not be read.
    puzzled: bool,
    /// Set once the worker wants to leave.
    leave_by: Option<Instant>,
    /// Asks the service whether it can compute again.
    is_able: Box<dyn Fn() -> Result<(), String> + Send>,
    /// Set while nothing can be computed.
    unable: Option<Unable>,
    /// Whether it was so since the last registration without that.
    was_unable: bool,
    /// How long the next trouble lasts at least.
    pause: Duration,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl Session {
    /// Sends results, sleeps, hears what has come, and sees to what it is time for. What is to be
    /// computed goes to the crew.
    pub fn turn(
        &mut self,
        crew: &Crew,
        done: Vec<Reply>,
        news: Vec<News>,
        trouble: Option<Trouble>,
        stay: Stay,
    ) -> Result<Next, Error> {
        if !news.is_empty() {
            self.send(FromWorker::Progress(news))?;
        }
        if self.pause > PAUSES[0] && self.unable.is_none() && done.iter().any(|(_, it)| matches!(it, Outcome::Ok(_))) {
            self.pause = PAUSES[0];
        }
        let most = self.max_message_bytes;
        let done = done.into_iter().map(|(ticket, outcome)| (ticket, sendable(outcome, most))).collect();
        portions(done, most, |(_, outcome)| outcome.packed_len())
            .try_for_each(|replies| self.send(FromWorker::Replies(replies)))?;
        if let Some(Trouble { reason, tickets }) = trouble {
            self.becomes_unable(reason, tickets)?;
        }
        match stay {
            Stay::Glance => {}
            Stay::AtMost(limit) => self.sleep(Some(limit))?,
            Stay::UntilCalled => self.sleep(None)?,
        }
        for _ in 0..MESSAGES_A_TURN {
            let Some(frames) = socket::receive(&self.broker)? else { break };
            let next = match ToWorker::decode(&frames) {
                Ok(message) => self.hear(crew, message)?,
                Err(error) => self.hear_nonsense(crew, &error)?,
            };
            if next == Next::Exit {
                return Ok(Next::Exit);
            }
        }
        if self.shutdown.requested() && self.leave_by.is_none() && self.leave(crew)? == Next::Exit {
            return Ok(Next::Exit);
        }
        self.look_at_the_clock(crew)
    }

    /// Until a message is there, the alarm rings, the process is to finish, or something is due.
    /// After the alarm, the crew's board is to be looked at.
    fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        let both = [self.alarm.fd(), self.shutdown.fd()];
        let descriptors = if self.leave_by.is_none() { &both[..] } else { &both[..1] };
        let due = [self.leave_by, self.complain_at(), self.try_again_at(), self.broker.poll_timeout()];
        let due = due.into_iter().flatten().min();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        socket::sleep(&self.broker.sockets(), descriptors, [due, limit].into_iter().flatten().min())?;
        self.alarm.clear();
        Ok(())
    }

    fn look_at_the_clock(&mut self, crew: &Crew) -> Result<Next, Error> {
        let due = |at: Option<Instant>| at.is_some_and(|at| Instant::now() >= at);
        if due(self.leave_by) {
            let load = crew.load();
            log::warn!(
                "leaving {} requests unfinished after {:?}; the broker hands them to others",
                load.computing + load.waiting,
                self.options.grace
            );
            return Ok(Next::Exit);
        }
        if let Some(failure) = self.broker.poll(Instant::now())?
            && self.said.replace(failure) != Some(failure)
        {
            log::error!("the handshake with {} failed: {}", self.options.broker, self.broker.explain(failure));
        }
        if due(self.try_again_at()) {
            self.try_again()?;
        }
        if due(self.complain_at()) {
            log::warn!("no broker at {}; still trying", self.options.broker);
            self.complained = true;
        }
        Ok(Next::GoOn)
    }

    fn hear(&mut self, crew: &Crew, message: ToWorker) -> Result<Next, Error> {
        match message {
            ToWorker::Welcome { worker, ping_interval_ms, ping_max_out, max_message_bytes, .. } => {
                self.registered = true;
                self.said = None;
                self.broker.answered();
                self.max_message_bytes =
                    usize::try_from(max_message_bytes).unwrap_or(usize::MAX).min(MAX_MESSAGE_BYTES);
                self.puzzled = false;
                let limit = Duration::from_millis(ping_interval_ms.saturating_mul(u64::from(ping_max_out)));
                log::info!("registered as w{worker} in pool {}; dropped after {limit:?} of silence", self.options.pool);
                // What was said over an earlier connection may have come behind this registration.
                if self.unable.is_some() {
                    self.hand_back(Vec::new())?;
                } else if std::mem::take(&mut self.was_unable) {
                    self.send(FromWorker::Able)?;
                }
            }
            // Sent before the broker heard that nothing can be computed.
            ToWorker::Dispatch(requests) if self.unable.is_some() => {
                self.hand_back(requests.into_iter().map(|(ticket, _)| ticket).collect())?;
            }
            ToWorker::Dispatch(requests) => crew.assign(requests),
            ToWorker::Cancel(tickets) => crew.cancel(&tickets),
            ToWorker::Ping { sequence } => {
                let load = crew.load();
                self.send(FromWorker::Pong {
                    sequence,
                    computing: load.computing,
                    waiting: load.waiting,
                    oldest_ms: load.oldest.as_millis().try_into().unwrap_or(u64::MAX),
                })?;
            }
            ToWorker::RegisterAgain => {
                log::warn!("the broker has dropped this worker; registering again");
                return self.start_over(crew, true);
            }
            ToWorker::Hiccup => {
                log::warn!("the connection to the broker broke; reconnecting");
                // libzmq registers at the next connection, before anything else.
                return self.start_over(crew, false);
            }
            ToWorker::Goodbye => {
                log::info!("left");
                return Ok(Next::Exit);
            }
            ToWorker::Closing => log::info!("the broker is closing; waiting for the next one"),
            ToWorker::Refused { reason } if !self.registered => return Err(Error::Refused(reason)),
            ToWorker::Refused { reason } => log::error!("the broker refused a message: {reason}"),
        }
        Ok(Next::GoOn)
    }

    /// Nothing can be computed for now, and what is held goes back to the broker.
    fn becomes_unable(&mut self, reason: String, tickets: Vec<Ticket>) -> Result<(), Error> {
        if self.unable.is_none() {
            log::error!("{reason}; taking no requests for {:?} at least", self.pause);
            self.was_unable = true;
            self.unable = Some(Unable { reason, again: Instant::now() + self.pause });
            self.pause = (2 * self.pause).min(PAUSES[1]);
        }
        if self.registered { self.hand_back(tickets) } else { Ok(()) }
    }

    fn hand_back(&mut self, mut tickets: Vec<Ticket>) -> Result<(), Error> {
        loop {
            let rest = tickets.split_off(tickets.len().min(MAX_BATCH));
            let reason = self.unable.as_ref().map(|unable| unable.reason.clone()).unwrap_or_default();
            self.send(FromWorker::Unable { reason, tickets })?;
            if rest.is_empty() {
                return Ok(());
            }
            tickets = rest;
        }
    }

    /// When to see whether something can be computed again.
    fn try_again_at(&self) -> Option<Instant> {
        self.unable.as_ref().filter(|_| self.leave_by.is_none()).map(|unable| unable.again)
    }

    fn try_again(&mut self) -> Result<(), Error> {
        let Some(unable) = &mut self.unable else { return Ok(()) };
        match (self.is_able)() {
            Ok(()) => {
                self.unable = None;
                log::info!("taking requests again");
                if self.registered { self.send(FromWorker::Able) } else { Ok(()) }
            }
            // To look costs nothing, and no request: soon again.
            Err(reason) => {
                unable.again = Instant::now() + PAUSES[0];
                let is_news = unable.reason != reason;
                unable.reason = reason;
                if is_news && self.registered { self.hand_back(Vec::new()) } else { Ok(()) }
            }
        }
    }

    /// When it is time to say that there is no broker, if there is none and that has not been said.
    fn complain_at(&self) -> Option<Instant> {
        (!self.registered && !self.complained).then(|| self.unregistered_since + PATIENCE)
    }

    /// It may have been requests. A broker that is told to register the worker again hands out anew
    /// what it has lost.
    fn hear_nonsense(&mut self, crew: &Crew, error: &Malformed) -> Result<Next, Error> {
        if !std::mem::replace(&mut self.puzzled, true) {
            log::error!("what speaks at {} is not Giostra's backend: {error}", self.options.broker);
        }
        if self.registered { self.start_over(crew, true) } else { Ok(Next::GoOn) }
    }

    /// What was handed out under the last registration is no longer wanted.
    fn start_over(&mut self, crew: &Crew, register: bool) -> Result<Next, Error> {
        crew.discard();
        self.registered = false;
        self.broker.lost(Instant::now());
        self.unregistered_since = Instant::now();
        self.complained = false;
        if self.leave_by.is_some() {
            return self.leave_unregistered();
        }
        if register {
            self.send(self.register.clone())?;
        }
        Ok(Next::GoOn)
    }

    fn leave(&mut self, crew: &Crew) -> Result<Next, Error> {
        if !self.registered {
            return self.leave_unregistered();
        }
        let load = crew.load();
        log::info!("leaving; {} requests to finish first", load.computing + load.waiting);
        self.leave_by = Some(deadline(Instant::now(), self.options.grace));
        self.send(FromWorker::Leave)?;
        Ok(Next::GoOn)
    }

    /// The broker may have registered this worker all the same, and its welcome be on the way. It
    /// is not waited for: what the broker has handed out by then, it hands to others, and holds
    /// the loss against nothing. Without a connection this is all that the end has to wait for,
    /// [`socket::LINGER`] at most.
    fn leave_unregistered(&mut self) -> Result<Next, Error> {
        self.send(FromWorker::Leave)?;
        Ok(Next::Exit)
    }

    fn send(&mut self, message: FromWorker) -> Result<(), Error> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        // Without a limit of its own the socket takes everything; what matters is told again by the
        // broker's asking.
        socket::send(&mut self.broker, &self.envelope, &self.attachments)?;
        Ok(())
    }
}

/// The outcome, unless no message can hold it: sending it would cost the connection, and then the
/// next worker's.
fn sendable(outcome: Outcome, most: usize) -> Outcome {
    match outcome {
        Outcome::Ok(result) if result.len() > most => Outcome::Error(Failure::from(format!(
            "the result has {} bytes, and {most} is the most that can be sent",
            result.len()
        ))),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_workers_of_a_process_are_the_same_one() {
        let drawn: Vec<_> = (0..100).map(|_| instance()).collect();
        assert!(drawn.iter().all(|one| (1..MAX_INSTANCE).contains(one)), "{drawn:?}");
        assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn what_no_message_can_hold_is_not_sent() {
        let outcome = |bytes, most| sendable(Outcome::Ok(Bytes::from(vec![0; bytes])), most);
        assert!(matches!(outcome(MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES), Outcome::Ok(_)));
        assert!(
            matches!(outcome(1001, 1000), Outcome::Error(Failure { message, .. }) if message.contains("1001") && message.contains("1000 is the most"))
        );
    }
}
