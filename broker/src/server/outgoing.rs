//! What the core has decided: log lines first, then messages to peers.

use std::time::Instant;

use giostra_core::broker::Output;
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::{Bytes, Identity, Status, ToClient, ToWorker};
use giostra_transport::socket::{self, Peers, Sent};

use super::{Server, Side};
use crate::outbox::Kept;

impl Server<'_> {
    /// Carries out the core's decisions until there are no more.
    pub(super) fn act(&mut self, now: Instant) -> zmq::Result<()> {
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
                self.service.handle_work();
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

    fn send(&mut self, send: Output, now: Instant) -> zmq::Result<()> {
        let mut is_progress = false;
        let (peers, to, is_last) = match send {
            Output::ToClient(to, message) => {
                is_progress = matches!(message, ToClient::Progress(_));
                let is_last = message == ToClient::HelloAgain;
                message.encode_into(&mut self.envelope, &mut self.attachments);
                (Peers::Clients, to, is_last)
            }
            Output::ToWorker(to, message) => {
                let is_last = message == ToWorker::RegisterAgain;
                if matches!(message, ToWorker::Dispatch { .. }) {
                    self.crowd.dispatched();
                }
                message.encode_into(&mut self.envelope, &mut self.attachments);
                (Peers::Workers, to, is_last)
            }
            Output::Status(to, status) => return self.send_status(&to, status, now),
            Output::Close(peer) => {
                self.bound.workers.outbox.forget(&peer);
                self.bound.access.end_worker(&peer);
                return Ok(());
            }
            #[cfg(feature = "store")]
            Output::Store(op) => {
                if let Some(store) = &self.bound.store {
                    store.submit(op);
                }
                return Ok(());
            }
            #[cfg(not(feature = "store"))]
            Output::Store(_) => return Ok(()),
            Output::Log(_) => return Ok(()),
        };
        let side = if peers == Peers::Clients { &mut self.bound.clients } else { &mut self.bound.workers };
        match side.send(&to, &self.envelope, &self.attachments)? {
            Sent::Taken => {}
            // Progress is out of date by the time a slow client reads it: not worth cutting it off.
            Sent::Full if is_progress => {}
            Sent::Full => {
                let envelope = Bytes::copy_from_slice(&self.envelope);
                let message = Frames { envelope, attachments: std::mem::take(&mut self.attachments) };
                if is_last {
                    side.outbox.keep_only(&to, message);
                } else {
                    self.keep(peers, &to, message, now);
                }
            }
            Sent::Gone => self.unreachable(peers, &to, now),
        }
        Ok(())
    }

    /// Encodes the status once for all receivers, which share its bytes.
    fn send_status(&mut self, to: &[Identity], mut status: Box<Status>, now: Instant) -> zmq::Result<()> {
        self.add_store(&mut status);
        let message = ToClient::<Bytes>::Status(status).encode();
        for to in to {
            let sent = match self.bound.clients.outbox.holds_up(to) {
                true => Sent::Full,
                false => socket::send_shared_to(&mut self.bound.clients.socket, to, &message.envelope)?,
            };
            match sent {
                Sent::Taken => {}
                Sent::Full => self.keep(Peers::Clients, to, message.clone(), now),
                Sent::Gone => self.unreachable(Peers::Clients, to, now),
            }
        }
        Ok(())
    }

    /// Adds the figures of the store to a status.
    pub(super) fn add_store(&self, status: &mut Status) {
        #[cfg(feature = "store")]
        if let (Some(jobs), Some(store)) = (&mut status.jobs, &self.bound.store) {
            let failed = std::mem::take(&mut jobs.store.failed);
            jobs.store = giostra_protocol::StoreStatus { failed, ..store.figures() };
        }
        #[cfg(not(feature = "store"))]
        let _ = status;
    }

    /// Keeps a message for a peer that does not read, or cuts the peer off.
    fn keep(&mut self, peers: Peers, to: &Identity, message: Frames, now: Instant) {
        if self.side(peers).outbox.keep(to, message) == Kept::CutOff {
            match peers {
                Peers::Clients => self.core.handle_overdue_client(to),
                Peers::Workers => self.core.handle_overdue_worker(to, now),
            }
        }
    }

    /// Tries again to send the messages that peers had no room for.
    pub(super) fn retry(&mut self, now: Instant) -> zmq::Result<()> {
        for peers in [Peers::Clients, Peers::Workers] {
            for gone in self.side(peers).retry()? {
                self.unreachable(peers, &gone, now);
            }
        }
        Ok(())
    }

    fn unreachable(&mut self, peers: Peers, peer: &Identity, now: Instant) {
        match peers {
            Peers::Clients => self.core.handle_unreachable_client(peer),
            Peers::Workers => self.core.handle_unreachable_worker(peer, now),
        }
    }
}

impl Side {
    /// Sends a message, unless earlier ones to the same peer still wait.
    fn send(&mut self, to: &Identity, envelope: &[u8], attachments: &[Bytes]) -> zmq::Result<Sent> {
        match self.outbox.holds_up(to) {
            true => Ok(Sent::Full),
            false => socket::send_to(&mut self.socket, to, envelope, attachments),
        }
    }

    /// Returns the peers that are gone.
    fn retry(&mut self) -> zmq::Result<Vec<Identity>> {
        if self.outbox.retry_after().is_none() {
            return Ok(Vec::new());
        }
        let mut result = Ok(());
        let gone = self.outbox.retry(|to, Frames { envelope, attachments }| {
            socket::send_to(&mut self.socket, to, envelope, attachments).unwrap_or_else(|error| {
                result = Err(error);
                Sent::Full
            })
        });
        result.map(|()| gone)
    }
}
