//! The shell: sockets, clock and log around the core. It decides nothing.
//!
//! A turn of its loop: what workers say, what clients say, what time it is, then everything the
//! core has decided. All of a turn's log lines are written out before anything is sent: whatever a
//! killed broker did is in its log.

#![allow(clippy::disallowed_methods)] // the one place that reads the clock

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use giostra_common::lock::Lock;
use giostra_common::log::Log;
use giostra_common::signals::Hangups;
use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::escape::word;
use giostra_protocol::{Bytes, FromClient, FromWorker, Identity, MAX_THREADS, RequestId, Status, ToClient, ToWorker};
use giostra_transport::endpoint::Endpoint;
use giostra_transport::monitor::MonitoredSocket;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket::{self, Entry, Peers, Sent};
use giostra_transport::time::deadline;
use zmq::{Context, Socket};

use crate::access::{self, AccessControl, Refusal, Revoked};
use crate::http::{self, Http};
use crate::outbox::{Kept, Outbox};

/// The most messages taken from one side in one turn, so that neither the other side nor the clock
/// waits for long.
const MESSAGES_A_TURN: usize = 256;

/// The same in bytes: what is large is sent on while it is still in the processor's cache.
const BYTES_A_TURN: usize = 256 << 10;

/// The same in requests that are cancelled or given back: a message may name many, and a lost
/// connection all that it had.
const WORK_A_TURN: usize = 4096;

/// Messages that may wait for a worker that does not read, besides one for each request of its
/// window.
const MESSAGES_BESIDES_DISPATCH: usize = 100;

/// Turns after which the clock is looked at although workers still have something to say.
const TURNS_WITHOUT_CLOCK: u32 = 16;

/// Turns after which the access are looked after, also while there is nothing to do inside but to
/// look for more. After a sleep it is done at once: it may have been what ended it; so it is where
/// a turn was not enough for all who came.
const TURNS_WITHOUT_DOORS: u32 = 8;

/// What the server is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients connect.
    pub frontend: Endpoint,
    /// Where workers connect.
    pub backend: Endpoint,
    /// Where the log is, to say so.
    pub log_dir: PathBuf,
    /// How long what is in flight, and its replies on their way to the clients, may take after the
    /// request to finish.
    pub grace: Duration,
    /// How long to look for work before sleeping.
    pub spin: Duration,
    /// Bytes that may wait for a client that does not read.
    pub max_backlog: usize,
    /// What is demanded of whoever connects.
    pub entry: Entry,
    /// Whether other hosts can reach it although nothing is demanded.
    pub insecure: bool,
    /// Whom to let in.
    pub access: access::Settings,
    /// Where to be watched, if anywhere.
    pub http: Option<http::Settings>,
    /// What the core goes by.
    pub settings: Settings,
}

/// What libzmq puts in for a peer whose connection has ended. Random in each process: no peer can
/// say it in its place.
type Notice = [u8; 32];

/// Why a peer is refused that says what only the broker's own libzmq says.
const NOT_ITS_WORD: &str = "'Disconnected' is not for peers to say: close the connection instead";

/// The number of the log's format. It changes with what the audit could misunderstand.
const LOG_FORMAT: u32 = 2;

/// The sockets of a broker that has not begun to serve. Nobody is answered yet, and nothing is
/// logged: a broker that can't have its endpoints leaves the log's folder as it was.
pub struct Bound {
    frontend: MonitoredSocket,
    backend: MonitoredSocket,
    notice: Notice,
    access: AccessControl,
    http: Option<Http>,
    /// Of the Unix sockets among them.
    locks: Vec<Lock>,
}

impl Bound {
    /// Binds the endpoints.
    ///
    /// # Errors
    /// If one of them is taken, or the certificates can't be read.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let context = Context::new();
        let notice: Notice = rand::random();
        let watched = |peers| MonitoredSocket::new(&context, socket::router(&context, &notice, peers, &options.entry)?);
        let frontend = watched(Peers::Clients)?;
        let backend = watched(Peers::Workers)?;
        let access = AccessControl::new(&context, &options.access)?;
        let mut locks = Vec::new();
        for (socket, endpoint, flag) in
            [(&frontend, &options.frontend, "--frontend"), (&backend, &options.backend, "--backend")]
        {
            let taken = |error: &dyn std::fmt::Display| {
                anyhow::anyhow!("can't bind {endpoint}: {error}; {flag} takes another endpoint")
            };
            if let Some(path) = endpoint.path() {
                locks.push(Lock::of_unix_socket(path).map_err(|error| taken(&error))?);
            }
            socket::bind(socket, &endpoint.to_string()).map_err(|error| match error {
                zmq::Error::EADDRINUSE => taken(&"it is in use; is a broker running there already?"),
                error => taken(&error),
            })?;
        }
        let http = options.http.as_ref().map(Http::start).transpose()?;
        Ok(Self { frontend, backend, notice, access, http, locks })
    }
}

/// Serves until `shutdown` is requested, what is in flight is answered and the answers are read, or
/// its time is over. At a hangup it reads anew whom to let in. `warnings` are logged at the start.
///
/// # Errors
/// If libzmq fails.
pub fn run(
    bound: Bound,
    options: &Options,
    log: &Log,
    shutdown: &Shutdown,
    hangups: Hangups,
    warnings: &[String],
) -> anyhow::Result<()> {
    let mut server = Server::start(bound, options, log, hangups, warnings)?;
    server.serve(shutdown)?;
    log::info!("stopped lines={}", log.lines() - server.lines_before + 1);
    log.flush();
    Ok(())
}

struct Server<'a> {
    options: &'a Options,
    log: &'a Log,
    core: Broker,
    frontend: MonitoredSocket,
    backend: MonitoredSocket,
    notice: Notice,
    access: AccessControl,
    hangups: Hangups,
    http: Option<Http>,
    turns_without_doors: u32,
    to_clients: Outbox,
    to_workers: Outbox,
    turns_without_clock: u32,
    /// What the core wants sent, until the log is written.
    sends: Vec<Output>,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
    /// Lines of the log before the first of this life.
    lines_before: u64,
    /// Held until the sockets are closed.
    _locks: Vec<Lock>,
}

impl<'a> Server<'a> {
    fn start(
        bound: Bound,
        options: &'a Options,
        log: &'a Log,
        hangups: Hangups,
        warnings: &[String],
    ) -> anyhow::Result<Self> {
        let Bound { frontend, backend, notice, access, http, locks } = bound;
        let lines_before = log.lines();
        log::info!(
            "listening format={LOG_FORMAT} frontend={} backend={} keys={} rotation={} max-attempts={} level={} after={} log={} pid={}",
            // What a file's name has in it is not to be taken for another field.
            word(&socket::bound_endpoint(&frontend)?),
            word(&socket::bound_endpoint(&backend)?),
            options.entry.keys.as_ref().map_or_else(|| "none".into(), |keys| keys.public.to_string()),
            options.settings.rotation,
            options.settings.max_attempts,
            log::max_level().as_str().to_ascii_lowercase(),
            log.predecessor().unwrap_or("none"),
            options.log_dir.display(),
            std::process::id()
        );
        if options.insecure {
            log::warn!("insecure: whoever reaches these endpoints is served without a key, in clear text (--insecure)");
        }
        if let Some(http) = &http {
            log::info!("watch http://{}/", http.address);
        }
        for warning in warnings.iter().chain(access.warnings()) {
            log::warn!("{warning}");
        }
        log.flush();
        let window = options.settings.window.max(MAX_THREADS as usize);
        Ok(Self {
            options,
            log,
            core: Broker::new(options.settings.clone(), Instant::now()),
            frontend,
            backend,
            notice,
            access,
            hangups,
            http,
            turns_without_doors: 0,
            to_clients: Outbox::new(options.max_backlog, usize::MAX),
            // A worker's window bounds what it is dispatched, and --max-pending-bytes the bytes of it; who is sent more
            // than that and some pings is no worker.
            to_workers: Outbox::new(usize::MAX, window.saturating_add(MESSAGES_BESIDES_DISPATCH)),
            turns_without_clock: 0,
            sends: Vec::new(),
            envelope: Vec::new(),
            attachments: Vec::new(),
            lines_before,
            _locks: locks,
        })
    }

    fn serve(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut close_by = None;
        let mut active = Instant::now();
        loop {
            let now = Instant::now();
            if self.turn(now)? {
                active = now;
            }
            if shutdown.requested() && close_by.is_none() {
                self.core.close();
                self.act(now)?;
                close_by = Some(deadline(now, self.options.grace));
            }
            if let Some(by) = close_by {
                if self.core.has_finished() {
                    return Ok(());
                }
                if now >= by {
                    return self.give_up(now);
                }
            }
            if now.saturating_duration_since(active) >= self.options.spin {
                self.core.flush();
                self.act(now)?;
                self.sleep(shutdown, close_by)?;
                self.turns_without_doors = TURNS_WITHOUT_DOORS;
                active = Instant::now();
            } else if now > active {
                // Whoever else has work on this core does it now; there will be the more to hear of afterwards.
                thread::yield_now();
            }
        }
    }

    /// The grace is over: logs what was not answered, and whose replies may not have arrived.
    fn give_up(&mut self, now: Instant) -> anyhow::Result<()> {
        let in_flight = self.core.in_flight();
        if in_flight > 0 {
            self.log.tick();
            log::warn!("{in_flight} requests were not answered within {:?}", self.options.grace);
        }
        for client in self.core.unheard_clients() {
            let unsent: Vec<_> = self.to_clients.waiting(&client).flat_map(answered).collect();
            self.core.handle_unheard_client(&client, &unsent);
        }
        self.act(now)
    }

    /// Whether there was something to do.
    fn turn(&mut self, now: Instant) -> anyhow::Result<bool> {
        let from_workers = self.hear_workers(now)?;
        let from_clients = self.hear_clients()?;
        // A pong may be among what has not been read yet.
        if from_workers.all || self.turns_without_clock >= TURNS_WITHOUT_CLOCK {
            self.turns_without_clock = 0;
            self.core.handle_timeout(now);
        } else {
            self.turns_without_clock += 1;
        }
        let mut some = from_workers.some || from_clients.some;
        self.turns_without_doors += 1;
        if self.turns_without_doors >= TURNS_WITHOUT_DOORS || self.access.is_behind() {
            self.turns_without_doors = 0;
            some |= self.look_after_the_doors(now)?;
        }
        self.retry(now)?;
        self.act(now)?;
        // Not before: what has just been heard would look as if it waited.
        if self.turns_without_doors == 0 {
            self.show(now);
        }
        Ok(some)
    }

    /// Whether anybody came or went.
    fn look_after_the_doors(&mut self, now: Instant) -> anyhow::Result<bool> {
        let (some, refusals) = self.access.turn([&self.frontend, &self.backend])?;
        for Refusal { from, reason } in refusals {
            self.core.handle_refused(&from, &reason, now);
        }
        if self.hangups.take() {
            self.reload(now);
            self.log.flush();
        }
        Ok(some)
    }

    /// Hands a snapshot to those who watch, if they want one.
    fn show(&mut self, now: Instant) {
        if let Some(http) = &mut self.http
            && http.publisher.is_asked()
        {
            http.publisher.publish(self.core.status(now), now);
        }
    }

    fn reload(&mut self, now: Instant) {
        self.log.tick();
        let revoked = match self.access.reload() {
            Ok(None) => return log::info!("hangup: there are no keys to read anew"),
            Ok(Some((keys, revoked))) => {
                log::info!("allowed keys={keys} revoked={}", revoked.len());
                self.access.warnings().iter().for_each(|warning| log::warn!("{warning}"));
                revoked
            }
            Err(error) => return log::error!("hangup: those with keys stay as they are: {error:#}"),
        };
        for Revoked { door, peer } in revoked {
            match door {
                Peers::Clients => {
                    self.to_clients.forget(&peer);
                    self.core.handle_revoked_client(&peer);
                }
                Peers::Workers => {
                    self.to_workers.forget(&peer);
                    self.core.handle_revoked_worker(&peer, now);
                }
            }
        }
    }

    fn hear_workers(&mut self, now: Instant) -> anyhow::Result<Heard> {
        let mut share = Share::new(&self.core);
        while !share.is_used_up(&self.core) {
            let (core, access) = (&self.core, &mut self.access);
            let heard = socket::receive_with_metadata(&self.backend, |peer, origin| {
                let rights = access.meet(Peers::Workers, peer, origin);
                (rights, (!core.knows_worker_info(peer)).then(|| access.peer_info(Peers::Workers, peer, origin)))
            })?;
            let Some((from, frames, (rights, peer_info))) = heard else { return Ok(share.heard(true)) };
            share.take(&frames);
            if let Some(peer_info) = peer_info {
                self.core.handle_worker_info(&from, peer_info);
            }
            if *frames.envelope == self.notice {
                self.to_workers.forget(&from);
                self.access.forget(Peers::Workers, &from);
                self.core.handle_worker(&from, FromWorker::Disconnected, now);
                continue;
            }
            match FromWorker::decode(&frames) {
                _ if rights.is_none() => {}
                Ok(FromWorker::Disconnected) => self.core.handle_malformed_worker(&from, NOT_ITS_WORD, now),
                Ok(message) => {
                    self.core.handle_worker(&from, message, now);
                }
                Err(error) => self.core.handle_malformed_worker(&from, &error.to_string(), now),
            }
        }
        Ok(share.heard(false))
    }

    fn hear_clients(&mut self) -> anyhow::Result<Heard> {
        let mut share = Share::new(&self.core);
        while !share.is_used_up(&self.core) {
            let (core, access) = (&self.core, &mut self.access);
            let heard = socket::receive_with_metadata(&self.frontend, |peer, origin| {
                let rights = access.meet(Peers::Clients, peer, origin);
                (rights, (!core.knows_client_info(peer)).then(|| access.peer_info(Peers::Clients, peer, origin)))
            })?;
            let Some((from, frames, (rights, peer_info))) = heard else { return Ok(share.heard(true)) };
            share.take(&frames);
            if let Some(peer_info) = peer_info {
                self.core.handle_client_info(&from, peer_info);
            }
            // Time limits begin now: a process that is stopped in the middle of a turn must not count that
            // against them.
            let now = Instant::now();
            if *frames.envelope == self.notice {
                self.to_clients.forget(&from);
                self.access.forget(Peers::Clients, &from);
                self.core.handle_client(&from, Rights::NONE, FromClient::Disconnected, now);
                continue;
            }
            match (FromClient::decode(&frames), rights) {
                (_, None) => {}
                (Ok(FromClient::Disconnected), _) => self.core.handle_malformed_client(&from, NOT_ITS_WORD, now),
                (Ok(message), Some(rights)) => self.core.handle_client(&from, rights, message, now),
                (Err(error), _) => self.core.handle_malformed_client(&from, &error.to_string(), now),
            }
        }
        Ok(share.heard(false))
    }

    /// Does what the core has decided, until it decides nothing more.
    fn act(&mut self, now: Instant) -> anyhow::Result<()> {
        loop {
            let mut logged = false;
            while let Some(output) = self.core.poll_output(now) {
                let Output::Log(event) = output else {
                    self.sends.push(output);
                    continue;
                };
                if !logged {
                    self.log.tick();
                    logged = true;
                }
                log::log!(event.level(), "{event}");
            }
            if logged {
                self.log.flush();
            }
            if self.sends.is_empty() {
                return Ok(());
            }
            let mut sends = std::mem::take(&mut self.sends);
            for send in sends.drain(..) {
                self.send(send, now)?;
            }
            self.sends = sends;
        }
    }

    fn send(&mut self, send: Output, now: Instant) -> anyhow::Result<()> {
        let (mut to_client, mut news) = (false, false);
        let last_word;
        let to = match send {
            Output::ToClient(to, message) => {
                (to_client, last_word) = (true, message == ToClient::HelloAgain);
                news = matches!(message, ToClient::Progress(_));
                message.encode_into(&mut self.envelope, &mut self.attachments);
                to
            }
            Output::ToWorker(to, message) => {
                last_word = message == ToWorker::RegisterAgain;
                message.encode_into(&mut self.envelope, &mut self.attachments);
                to
            }
            Output::Status(to, status) => return self.send_status(&to, status),
            Output::Close(peer) => {
                self.to_workers.forget(&peer);
                self.access.end_worker(&peer);
                return Ok(());
            }
            Output::Log(_) => return Ok(()),
        };
        let (socket, outbox) = match to_client {
            true => (&mut self.frontend, &mut self.to_clients),
            false => (&mut self.backend, &mut self.to_workers),
        };
        let sent = match outbox.holds_up(&to) {
            true => Sent::Full,
            false => socket::send_to(socket, &to, &self.envelope, &self.attachments)?,
        };
        match sent {
            Sent::Taken => {}
            // Nobody is cut off for the sake of news that will be old when he reads it.
            Sent::Full if news => {}
            Sent::Full => {
                let envelope = Bytes::copy_from_slice(&self.envelope);
                let message = Frames { envelope, attachments: std::mem::take(&mut self.attachments) };
                if last_word {
                    outbox.keep_only(&to, message);
                } else if outbox.keep(&to, message) == Kept::CutOff {
                    match to_client {
                        true => self.core.handle_overdue_client(&to),
                        false => self.core.handle_overdue_worker(&to, now),
                    }
                }
            }
            Sent::Gone if to_client => self.core.handle_unreachable_client(&to),
            Sent::Gone => self.core.handle_unreachable_worker(&to, now),
        }
        Ok(())
    }

    /// Writes the status once for all of them, who share its bytes.
    fn send_status(&mut self, to: &[Identity], status: Box<Status>) -> anyhow::Result<()> {
        let message = ToClient::<Bytes>::Status(status).encode();
        for to in to {
            let sent = match self.to_clients.holds_up(to) {
                true => Sent::Full,
                false => socket::send_shared_to(&mut self.frontend, to, &message.envelope)?,
            };
            match sent {
                Sent::Taken => {}
                Sent::Full => {
                    if self.to_clients.keep(to, message.clone()) == Kept::CutOff {
                        self.core.handle_overdue_client(to);
                    }
                }
                Sent::Gone => self.core.handle_unreachable_client(to),
            }
        }
        Ok(())
    }

    /// Tries again to send what found no room.
    fn retry(&mut self, now: Instant) -> anyhow::Result<()> {
        for to_client in [true, false] {
            let (socket, outbox) = match to_client {
                true => (&mut self.frontend, &mut self.to_clients),
                false => (&mut self.backend, &mut self.to_workers),
            };
            if outbox.retry_after().is_none() {
                continue;
            }
            let mut failed = None;
            let gone = outbox.retry(|to, Frames { envelope, attachments }| {
                socket::send_to(socket, to, envelope, attachments).unwrap_or_else(|error| {
                    failed = Some(error);
                    Sent::Full
                })
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
            for peer in gone {
                match to_client {
                    true => self.core.handle_unreachable_client(&peer),
                    false => self.core.handle_unreachable_worker(&peer, now),
                }
            }
        }
        Ok(())
    }

    /// Sleeps until there is something to do.
    fn sleep(&self, shutdown: &Shutdown, close_by: Option<Instant>) -> anyhow::Result<()> {
        let shutdown = close_by.is_none().then(|| shutdown.as_fd());
        let http = self.http.as_ref().map(|http| http.publisher.fd());
        let descriptors: Vec<_> = [Some(self.hangups.as_fd()), shutdown, http].into_iter().flatten().collect();
        let now = Instant::now();
        let retry = [self.to_clients.retry_after(), self.to_workers.retry_after()].into_iter().flatten().min();
        let wake = [self.core.poll_timeout(), close_by, retry.map(|after| now + after)].into_iter().flatten().min();
        let timeout = wake.map(|wake| wake.saturating_duration_since(now));
        let others = [self.frontend.monitor(), self.backend.monitor(), self.access.socket()];
        let sockets: Vec<&Socket> =
            [&*self.backend, &*self.frontend].into_iter().chain(others.into_iter().flatten()).collect();
        socket::sleep(&sockets, &descriptors, timeout)?;
        Ok(())
    }
}

/// The requests that a message to a client answers.
fn answered(message: &Frames) -> Vec<RequestId> {
    match ToClient::decode(message) {
        Ok(ToClient::Replies(replies)) => replies.into_iter().map(|reply| reply.id).collect(),
        _ => Vec::new(),
    }
}

/// What one side had of a turn.
struct Share {
    messages: usize,
    bytes: usize,
    /// What the core had done before.
    work: usize,
}

/// What came from one side in a turn.
struct Heard {
    /// Whether there was anything.
    some: bool,
    /// Whether that is all there was.
    all: bool,
}

impl Share {
    fn new(core: &Broker) -> Self {
        Self { messages: 0, bytes: 0, work: core.work() }
    }

    fn take(&mut self, frames: &Frames) {
        self.messages += 1;
        self.bytes += frames.bytes();
    }

    fn is_used_up(&self, core: &Broker) -> bool {
        self.messages >= MESSAGES_A_TURN
            || self.bytes >= BYTES_A_TURN
            || core.work().wrapping_sub(self.work) >= WORK_A_TURN
    }

    fn heard(&self, all: bool) -> Heard {
        Heard { some: self.messages > 0, all }
    }
}
