//! Messages from workers and clients to the core, a bounded share of each turn.

use std::time::Instant;

use giostra_core::broker::Broker as Core;
use giostra_core::config::Rights;
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::{FromClient, FromWorker, Identity};
use giostra_transport::socket::{self, Peers};

use super::Server;

/// The maximum number of messages from one side in one turn, so that neither the other side nor the
/// clock waits for long.
const MESSAGES_A_TURN: usize = 256;

/// The maximum number of bytes from one side in one turn: large bodies are sent on while they are
/// still in the processor's cache.
const BYTES_A_TURN: usize = 256 << 10;

/// The maximum number of requests cancelled or given back in one turn: one message may name many,
/// and a lost connection gives back all that it had.
const WORK_A_TURN: usize = 4096;

/// The reason for refusing a message that only the broker's own libzmq may send.
const NOT_FOR_PEERS: &str = "'Disconnected' is not for peers to say: close the connection instead";

/// A message from a peer.
struct Received {
    from: Identity,
    frames: Frames,
    /// What the sender may do; `None`: its messages are ignored.
    rights: Option<Rights>,
    /// Whether the message is libzmq's notice that the peer's connection has ended.
    ended: bool,
}

impl Server<'_> {
    /// Handles the messages that have arrived from one side, or its share of them.
    pub(super) fn receive_from(&mut self, peers: Peers, now: Instant) -> zmq::Result<Arrived> {
        let mut share = Share::new(&self.core);
        while !share.is_used_up(&self.core) {
            let Some(message) = self.receive(peers)? else { return Ok(share.arrived(true)) };
            share.take(&message.frames);
            match peers {
                // Time limits begin now, not with the turn: the process may have been stopped
                // since.
                Peers::Clients => self.handle_client(message, Instant::now()),
                Peers::Workers => self.handle_worker(message, now),
            }
        }
        Ok(share.arrived(false))
    }

    fn handle_client(&mut self, message: Received, now: Instant) {
        let Received { from, frames, rights, ended } = message;
        match (FromClient::decode(&frames), rights) {
            _ if ended => self.core.handle_client(&from, Rights::NONE, FromClient::Disconnected, now),
            (_, None) => {}
            (Ok(FromClient::Disconnected), _) => self.core.handle_malformed_client(&from, NOT_FOR_PEERS, now),
            (Ok(message), Some(rights)) => self.core.handle_client(&from, rights, message, now),
            (Err(error), _) => self.core.handle_malformed_client(&from, &error.to_string(), now),
        }
    }

    fn handle_worker(&mut self, message: Received, now: Instant) {
        let Received { from, frames, rights, ended } = message;
        match FromWorker::decode(&frames) {
            _ if ended => self.core.handle_worker(&from, FromWorker::Disconnected, now),
            _ if rights.is_none() => {}
            Ok(FromWorker::Disconnected) => self.core.handle_malformed_worker(&from, NOT_FOR_PEERS, now),
            Ok(message) => self.core.handle_worker(&from, message, now),
            Err(error) => self.core.handle_malformed_worker(&from, &error.to_string(), now),
        }
    }

    /// Receives a message, and introduces its sender to the core if it is new.
    fn receive(&mut self, peers: Peers) -> zmq::Result<Option<Received>> {
        let (core, access) = (&self.core, &mut self.bound.access);
        let (side, knows_info): (_, fn(&Core, &Identity) -> bool) = match peers {
            Peers::Clients => (&mut self.bound.clients, Core::knows_client_info),
            Peers::Workers => (&mut self.bound.workers, Core::knows_worker_info),
        };
        let received = socket::receive_with_metadata(&side.socket, |from, metadata| {
            let rights = access.rights(peers, from, metadata);
            (rights, (!knows_info(core, from)).then(|| access.peer_info(peers, from, metadata)))
        })?;
        let Some((from, frames, (rights, info))) = received else { return Ok(None) };
        let ended = *frames.envelope == self.bound.disconnected;
        if ended {
            side.outbox.forget(&from);
            access.forget(peers, &from);
        }
        if let Some(info) = info {
            match peers {
                Peers::Clients => self.core.handle_client_info(&from, info),
                Peers::Workers => self.core.handle_worker_info(&from, info),
            }
        }
        Ok(Some(Received { from, frames, rights, ended }))
    }
}

/// One side's share of a turn, and how much of it is used.
struct Share {
    messages: usize,
    bytes: usize,
    /// The core's count of work before the turn.
    work: usize,
}

/// Whether messages have arrived from one side in a turn.
pub(super) struct Arrived {
    /// Whether there was any.
    pub(super) some: bool,
    /// Whether nothing more waits.
    pub(super) all: bool,
}

impl Share {
    fn new(core: &Core) -> Self {
        Self { messages: 0, bytes: 0, work: core.work() }
    }

    fn take(&mut self, frames: &Frames) {
        self.messages += 1;
        self.bytes += frames.bytes();
    }

    fn is_used_up(&self, core: &Core) -> bool {
        self.messages >= MESSAGES_A_TURN
            || self.bytes >= BYTES_A_TURN
            || core.work().wrapping_sub(self.work) >= WORK_A_TURN
    }

    fn arrived(&self, all: bool) -> Arrived {
        Arrived { some: self.messages > 0, all }
    }
}
