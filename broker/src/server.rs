//! The server: sockets, clock and log around the core. It decides nothing.
//!
//! One turn of its loop: messages from workers, messages from clients, the time, then everything
//! that the core has decided. All log lines of a turn are written out before anything is sent: the
//! log of a killed broker has everything that it did.

#![allow(clippy::disallowed_methods)] // the one place that reads the clock

mod bound;
mod incoming;
mod outgoing;

use std::os::fd::AsFd as _;
use std::thread;
use std::time::Instant;

use giostra_core::broker::{Broker as Core, Output};
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::{Bytes, MAX_THREADS, RequestId, ToClient};
use giostra_transport::lock::Lock;
use giostra_transport::monitor::MonitoredSocket;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket::{self, Peers};
use giostra_transport::time::deadline;
use zmq::Socket;

use crate::access::{AccessControl, Refusal, Revoked};
use crate::error::Error;
#[cfg(feature = "http")]
use crate::http::Http;
use crate::notify::Notified;
use crate::options::Options;
use crate::outbox::Outbox;

pub use bound::Bound;

/// Messages that may wait for a worker that does not read, besides one for each request of its
/// window.
const MESSAGES_BESIDES_DISPATCH: usize = 100;

/// Turns after which the clock is read even if workers still have messages.
const TURNS_WITHOUT_CLOCK: u32 = 16;

/// Turns after which access control gets its turn. It gets one at once after a sleep, which its
/// sockets may have ended, and when its last turn left work over.
const TURNS_WITHOUT_ACCESS: u32 = 8;

/// Version of the log's format. It changes whenever the audit could misunderstand a line.
const LOG_FORMAT: u32 = 2;

/// The files behind the `log` facade, if the program has any.
pub trait LogFiles {
    /// Sets the time of the following lines.
    fn tick(&self) {}
    /// Writes out all lines.
    fn flush(&self) {}
    /// Returns the number of lines in the files since they were opened.
    fn lines(&self) -> Option<u64> {
        None
    }
    /// Returns the time and the checksum of the last line of an earlier broker, and the folder.
    fn origin(&self) -> [String; 2] {
        ["none", "none"].map(Into::into)
    }
}

/// No files: the lines go to the logger of the process, if it has one.
pub struct NoFiles;

impl LogFiles for NoFiles {}

/// What a broker left undone when it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Requests that workers had not answered when the grace was over.
    pub in_flight: usize,
    /// Clients that had not confirmed by then that they have read all their replies.
    pub unread_clients: usize,
}

impl Bound {
    /// Serves until `shutdown` is requested and then everything in flight is answered and read, or
    /// [`Options::grace`] is over. Each `reload` reads the allowed keys anew.
    ///
    /// # Errors
    /// If libzmq fails.
    pub fn run(self, log: &dyn LogFiles, shutdown: &Shutdown, reload: Notified) -> Result<Stopped, Error> {
        let lines_before = log.lines();
        let mut server = Server::new(self, log, reload);
        let stopped = server.serve(shutdown).map_err(std::io::Error::from)?;
        match (lines_before, log.lines()) {
            (Some(before), Some(lines)) => log::info!("stopped lines={}", lines - before + 1),
            _ => log::info!("stopped"),
        }
        log.flush();
        Ok(stopped)
    }
}

struct Server<'a> {
    options: Options,
    log: &'a dyn LogFiles,
    core: Core,
    clients: Side,
    workers: Side,
    /// The message that libzmq puts in for a peer whose connection has ended.
    disconnected: bound::Disconnected,
    access: AccessControl,
    reload: Notified,
    #[cfg(feature = "http")]
    http: Option<Http>,
    turns_without_access: u32,
    turns_without_clock: u32,
    /// Messages from the core that wait until the log is written.
    sends: Vec<Output>,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
    /// The locks of Unix sockets, held until the sockets are closed.
    _locks: Vec<Lock>,
}

/// One of the two sockets, and what its peers have not taken yet.
struct Side {
    socket: MonitoredSocket,
    outbox: Outbox,
}

impl<'a> Server<'a> {
    fn new(bound: Bound, log: &'a dyn LogFiles, reload: Notified) -> Self {
        bound.log_start(log);
        let options = bound.options;
        let window = options.core.window.max(MAX_THREADS as usize);
        // A worker's window bounds what it is dispatched, and `max_pending_bytes` the bytes of it.
        // A worker to which more than that and some pings is owed is broken.
        let to_workers = Outbox::new(usize::MAX, window.saturating_add(MESSAGES_BESIDES_DISPATCH));
        let to_clients = Outbox::new(options.max_backlog, usize::MAX);
        Self {
            log,
            core: Core::new(options.core.clone(), Instant::now()),
            clients: Side { socket: bound.frontend, outbox: to_clients },
            workers: Side { socket: bound.backend, outbox: to_workers },
            disconnected: bound.disconnected,
            access: bound.access,
            reload,
            #[cfg(feature = "http")]
            http: bound.http,
            turns_without_access: 0,
            turns_without_clock: 0,
            sends: Vec::new(),
            envelope: Vec::new(),
            attachments: Vec::new(),
            _locks: bound.locks,
            options,
        }
    }

    fn serve(&mut self, shutdown: &Shutdown) -> zmq::Result<Stopped> {
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
                    return Ok(Stopped::default());
                }
                if now >= by {
                    return self.abandon(now);
                }
            }
            if now.saturating_duration_since(active) >= self.options.spin {
                self.core.flush();
                self.act(now)?;
                self.sleep(shutdown, close_by)?;
                self.turns_without_access = TURNS_WITHOUT_ACCESS;
                active = Instant::now();
            } else if now > active {
                // Lets other threads use this core: they may have messages afterwards.
                thread::yield_now();
            }
        }
    }

    /// Logs, when the grace is over, the requests that were not answered and the clients whose
    /// replies may not have arrived.
    fn abandon(&mut self, now: Instant) -> zmq::Result<Stopped> {
        let in_flight = self.core.in_flight();
        if in_flight > 0 {
            self.log.tick();
            log::warn!("{in_flight} requests were not answered within {:?}", self.options.grace);
        }
        let unheard = self.core.unheard_clients();
        for client in &unheard {
            let unsent: Vec<_> = self.clients.outbox.waiting(client).flat_map(answered).collect();
            self.core.handle_unheard_client(client, &unsent);
        }
        self.act(now)?;
        Ok(Stopped { in_flight, unread_clients: unheard.len() })
    }

    /// Takes one turn; returns whether there was something to do.
    fn turn(&mut self, now: Instant) -> zmq::Result<bool> {
        let from_workers = self.receive_from(Peers::Workers, now)?;
        let from_clients = self.receive_from(Peers::Clients, now)?;
        // A pong may be among what has not been read yet.
        if from_workers.all || self.turns_without_clock >= TURNS_WITHOUT_CLOCK {
            self.turns_without_clock = 0;
            self.core.handle_timeout(now);
        } else {
            self.turns_without_clock += 1;
        }
        let mut some = from_workers.some || from_clients.some;
        self.turns_without_access += 1;
        if self.turns_without_access >= TURNS_WITHOUT_ACCESS || self.access.is_behind() {
            self.turns_without_access = 0;
            some |= self.control_access(now)?;
        }
        self.retry(now)?;
        self.act(now)?;
        // After acting: what has just come in would otherwise look as if it waited.
        #[cfg(feature = "http")]
        if self.turns_without_access == 0
            && let Some(http) = &mut self.http
            && http.publisher.is_asked()
        {
            http.publisher.publish(self.core.status(now), now);
        }
        Ok(some)
    }

    /// Handles handshakes and connections that have begun or ended; returns whether there were any.
    fn control_access(&mut self, now: Instant) -> zmq::Result<bool> {
        // Before new peers are judged: a key that was allowed before its owner connects is let in.
        if self.reload.take() {
            self.reload_keys(now);
            self.log.flush();
        }
        let (some, refusals) = self.access.turn([&self.clients.socket, &self.workers.socket])?;
        for Refusal { from, reason } in refusals {
            self.core.handle_refused(&from, &reason, now);
        }
        Ok(some)
    }

    fn reload_keys(&mut self, now: Instant) {
        self.log.tick();
        let revoked = match self.access.reload() {
            Ok(None) => return log::info!("hangup: there are no keys to read anew"),
            Ok(Some((keys, revoked))) => {
                log::info!("allowed keys={keys} revoked={}", revoked.len());
                self.access.warnings().iter().for_each(|warning| log::warn!("{warning}"));
                revoked
            }
            Err(error) => return log::error!("hangup: those with keys stay as they are: {error}"),
        };
        for Revoked { side, peer } in revoked {
            self.side(side).outbox.forget(&peer);
            match side {
                Peers::Clients => self.core.handle_revoked_client(&peer),
                Peers::Workers => self.core.handle_revoked_worker(&peer, now),
            }
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&self, shutdown: &Shutdown, close_by: Option<Instant>) -> zmq::Result<()> {
        let mut descriptors = vec![self.reload.as_fd()];
        descriptors.extend(close_by.is_none().then(|| shutdown.as_fd()));
        #[cfg(feature = "http")]
        descriptors.extend(self.http.as_ref().map(|http| http.publisher.as_fd()));
        let now = Instant::now();
        let [clients, workers] = [&self.clients, &self.workers];
        let retry = [clients, workers].into_iter().filter_map(|side| side.outbox.retry_after()).min();
        let wake = [self.core.poll_timeout(), close_by, retry.map(|after| now + after)].into_iter().flatten().min();
        let timeout = wake.map(|wake| wake.saturating_duration_since(now));
        let others = [clients.socket.monitor(), workers.socket.monitor(), self.access.socket()];
        let sockets: Vec<&Socket> =
            [&*workers.socket, &*clients.socket].into_iter().chain(others.into_iter().flatten()).collect();
        socket::sleep(&sockets, &descriptors, timeout)
    }

    fn side(&mut self, peers: Peers) -> &mut Side {
        match peers {
            Peers::Clients => &mut self.clients,
            Peers::Workers => &mut self.workers,
        }
    }
}

/// Returns the requests that a message to a client answers.
fn answered(message: &Frames) -> Vec<RequestId> {
    match ToClient::decode(message) {
        Ok(ToClient::Replies(replies)) => replies.into_iter().map(|reply| reply.id).collect(),
        _ => Vec::new(),
    }
}
