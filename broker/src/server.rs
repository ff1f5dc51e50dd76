//! The server: sockets, clock and log around the core. It decides nothing.
//!
//! One turn of its loop: messages from workers, messages from clients, the time, then everything
//! that the core has decided. All log lines of a turn are written out before anything is sent: the
//! log of a killed broker has everything that it did.

#![allow(clippy::disallowed_methods)] // the one place that reads the clock

mod bound;
mod crowd;
mod incoming;
mod outgoing;
mod service;
#[cfg(feature = "store")]
mod store;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use giostra_core::broker::{Broker as Core, Output};
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::{Bytes, RequestId, ToClient};
use giostra_transport::monitor::MonitoredSocket;
use giostra_transport::service as manager;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket::{self, Peers, QuietSocket, Sleeper};
use giostra_transport::time::deadline;
use giostra_transport::wake::Alarm;

use crate::access::{Refusal, Reloaded, Revoked};
use crate::error::Error;
use crate::outbox::Outbox;

use crowd::Crowd;
use service::Service;

pub use bound::Bound;

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
    /// Returns a descriptor that is readable when [`Self::reopen`] is to be called.
    fn reopen_request(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Continues in new files where the present ones were moved away, if that was asked for.
    fn reopen(&self) {}
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
    /// [`Options::grace`](crate::Options::grace) is over. Each `reload` reads the allowed keys
    /// again; a change of their folder does so by itself, a second or two later.
    ///
    /// # Errors
    /// If libzmq fails.
    pub fn run(self, log: &dyn LogFiles, shutdown: &Shutdown, reload: Alarm) -> Result<Stopped, Error> {
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
    bound: Bound,
    log: &'a dyn LogFiles,
    core: Core,
    reload: Alarm,
    turns_without_access: u32,
    turns_without_clock: u32,
    /// Messages from the core that wait until the log is written.
    sends: Vec<Output>,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
    crowd: Crowd,
    service: Service,
}

/// One of the two sockets, and what its peers have not taken yet.
struct Side {
    socket: MonitoredSocket,
    outbox: Outbox,
}

impl<'a> Server<'a> {
    fn new(mut bound: Bound, log: &'a dyn LogFiles, reload: Alarm) -> Self {
        bound.log_start(log);
        let core = Core::new(bound.options.core.clone(), Instant::now());
        Self {
            #[cfg(feature = "store")]
            core: bound.restored.take().into_iter().fold(core, Core::with_store),
            #[cfg(not(feature = "store"))]
            core,
            bound,
            log,
            reload,
            turns_without_access: 0,
            turns_without_clock: 0,
            sends: Vec::new(),
            envelope: Vec::new(),
            attachments: Vec::new(),
            crowd: Crowd::default(),
            service: Service::new(Instant::now()),
        }
    }

    fn serve(&mut self, shutdown: &Shutdown) -> zmq::Result<Stopped> {
        let mut close_by = None;
        let mut active = Instant::now();
        self.service.handle_ready(self.core.workload());
        loop {
            if self.crowd.begin_turn(&self.bound.io, Instant::now()) {
                socket::run_io(&self.bound.io);
            }
            let now = Instant::now();
            if self.turn(now)? {
                active = now;
            }
            if self.service.poll_timeout().is_some_and(|due| due <= now) {
                self.service.handle_timeout(self.core.workload(), now);
            }
            if shutdown.requested() && close_by.is_none() {
                self.core.close();
                self.act(now)?;
                close_by = Some(deadline(now, self.bound.options.grace));
                self.service.handle_closing(self.core.workload(), self.bound.options.grace);
            }
            if let Some(by) = close_by {
                if self.core.has_finished() {
                    return Ok(Stopped::default());
                }
                if now >= by {
                    return self.abandon(now);
                }
            }
            if now.saturating_duration_since(active) >= self.bound.options.spin {
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
            log::warn!("{in_flight} requests were not answered within {:?}", self.bound.options.grace);
        }
        let unheard = self.core.unheard_clients();
        for client in &unheard {
            let unsent: Vec<_> = self.bound.clients.outbox.waiting(client).flat_map(answered).collect();
            self.core.handle_unheard_client(client, &unsent);
        }
        self.act(now)?;
        Ok(Stopped { in_flight, unread_clients: unheard.len() })
    }

    /// Takes one turn; returns whether there was something to do.
    fn turn(&mut self, now: Instant) -> zmq::Result<bool> {
        let from_workers = self.receive_from(Peers::Workers, now)?;
        let from_clients = self.receive_from(Peers::Clients, now)?;
        let from_store = self.hear_from_store(now);
        // A pong may be among what has not been read yet.
        if from_workers.all || self.turns_without_clock >= TURNS_WITHOUT_CLOCK {
            self.turns_without_clock = 0;
            self.core.handle_timeout(now);
        } else {
            self.turns_without_clock += 1;
        }
        let mut some = from_workers.some || from_clients.some || from_store;
        self.turns_without_access += 1;
        if self.turns_without_access >= TURNS_WITHOUT_ACCESS || self.bound.access.is_behind() {
            self.turns_without_access = 0;
            some |= self.control_access(now)?;
        }
        self.retry(now)?;
        self.act(now)?;
        // After acting: what has just come in would otherwise look as if it waited.
        #[cfg(feature = "http")]
        if self.turns_without_access == 0 && self.bound.http.as_mut().is_some_and(|http| http.publisher.is_asked()) {
            let mut status = self.core.status(now);
            self.add_store(&mut status);
            if let Some(http) = &mut self.bound.http {
                http.publisher.publish(status, now);
            }
        }
        Ok(some)
    }

    /// Passes on what the store has done; returns whether it has done anything.
    fn hear_from_store(&mut self, now: Instant) -> bool {
        #[cfg(feature = "store")]
        if let Some(store) = &mut self.bound.store {
            let completed = store.completed();
            let some = !completed.is_empty();
            completed.into_iter().for_each(|done| self.core.handle_stored(done, now));
            return some;
        }
        let _ = now;
        false
    }

    /// Handles handshakes and connections that have begun or ended; returns whether there were any.
    fn control_access(&mut self, now: Instant) -> zmq::Result<bool> {
        // Before new peers are judged: a key that was allowed before its owner connects is let in.
        if self.reload.clear() {
            manager::reloading();
            self.reload_keys(now);
            self.log.flush();
            self.service.handle_ready(self.core.workload());
        }
        if let Some(reloaded) = self.bound.access.poll_change() {
            self.log.tick();
            self.handle_reloaded("allow", reloaded, now);
            self.log.flush();
        }
        self.log.reopen();
        let (some, refusals) = self.bound.access.turn([&self.bound.clients.socket, &self.bound.workers.socket])?;
        for Refusal { from, reason } in refusals {
            self.core.handle_refused(&from, &reason, now);
        }
        Ok(some)
    }

    fn reload_keys(&mut self, now: Instant) {
        self.log.tick();
        match self.bound.access.reload() {
            None => log::info!("hangup: there are no keys to read anew"),
            Some(reloaded) => self.handle_reloaded("hangup", reloaded, now),
        }
    }

    /// Logs that the allowed keys were read again, and drops the peers that were revoked. `occasion`
    /// begins the line if they could not be read.
    fn handle_reloaded(&mut self, occasion: &str, reloaded: Reloaded, now: Instant) {
        let revoked = match reloaded {
            Ok((keys, revoked)) => {
                log::info!("allowed keys={keys} revoked={}", revoked.len());
                self.bound.access.warnings().iter().for_each(|warning| log::warn!("{warning}"));
                revoked
            }
            Err(error) => return log::error!("{occasion}: those with keys stay as they are: {error}"),
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
        descriptors.extend(self.log.reopen_request());
        descriptors.extend(self.bound.access.change());
        descriptors.extend(close_by.is_none().then(|| shutdown.as_fd()));
        #[cfg(feature = "http")]
        descriptors.extend(self.bound.http.as_ref().map(|http| http.publisher.as_fd()));
        #[cfg(feature = "store")]
        descriptors.extend(self.bound.store.as_ref().map(|store| store.as_fd()));
        let now = Instant::now();
        let [clients, workers] = [&self.bound.clients, &self.bound.workers];
        let retry = [clients, workers].into_iter().filter_map(|side| side.outbox.retry_after()).min();
        let due = [self.core.poll_timeout(), self.service.poll_timeout(), close_by, retry.map(|after| now + after)];
        let timeout = due.into_iter().flatten().min().map(|wake| wake.saturating_duration_since(now));
        let others = [clients.socket.monitor(), workers.socket.monitor(), self.bound.access.socket()];
        let sockets: Vec<&QuietSocket> =
            [&*workers.socket, &*clients.socket].into_iter().chain(others.into_iter().flatten()).collect();
        let sleeper = match self.crowd.is_there() {
            true => Sleeper::Follows,
            // The loop has looked for long enough.
            false => Sleeper::RunsLoop { looks: Duration::ZERO },
        };
        socket::sleep(&self.bound.io, sleeper, &sockets, &descriptors, timeout)
    }

    fn side(&mut self, peers: Peers) -> &mut Side {
        match peers {
            Peers::Clients => &mut self.bound.clients,
            Peers::Workers => &mut self.bound.workers,
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
