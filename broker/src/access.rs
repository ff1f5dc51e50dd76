//! Access control: keys and roles ([`zap`], [`allow_list`]), and limits on connections
//! ([`connections`]).
//!
//! With keys, libzmq asks about each handshake by ZAP and lets no peer speak before the answer; it
//! serves others meanwhile. The answers, and everything else here, come between two turns of the
//! server's loop, so that they are in one order with what the broker does.

mod address;
mod allow_list;
mod connections;
mod permissions;
mod watch;
mod zap;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::path::PathBuf;

use giostra_core::config::Rights;
use giostra_core::peer_info::PeerInfo;
use giostra_protocol::Identity;
use giostra_transport::monitor::{Failure, MonitorEvent, MonitoredSocket};
use giostra_transport::socket::{MessageMetadata, Peers, QuietSocket};
use nix::sys::resource::{Resource, getrlimit};
use zmq::Context;

use crate::error::{AllowError, Error};
use connections::Connections;
use zap::ZapHandler;

/// The maximum number of ZAP requests, and of monitor events per socket, in one turn: a flood of
/// connections does not keep connected peers waiting.
const MAX_EVENTS: usize = 64;

/// Files needed besides counted connections: libzmq's own, the log's next one, those with keys, the
/// 64 connections of HTTP, and connections that libzmq has accepted and that are not counted yet.
/// If libzmq can't accept a connection for want of a file, it tries again without a pause.
const RESERVED: u64 = 160;

/// The minimum number of files that a broker must be able to open: its own, and some connections.
#[cfg(feature = "program")]
pub(crate) const MIN_FILES: u64 = RESERVED + 32;

/// Reads a folder of allowed keys, to see whether it can be read. Returns what would be ignored, in
/// sentences.
#[cfg(feature = "program")]
pub(crate) fn check_allowed(folder: &std::path::Path) -> Result<Vec<String>, AllowError> {
    allow_list::AllowList::read(folder).map(|list| list.warnings().to_vec())
}

/// The number of allowed keys, and the peers that were revoked.
pub(crate) type Reloaded = Result<(usize, Vec<Revoked>), AllowError>;

const SIDES: [Peers; 2] = [Peers::Clients, Peers::Workers];

/// Access control of both sockets.
pub(crate) struct AccessControl {
    /// `None` without keys: every peer may do everything.
    zap: Option<ZapHandler>,
    connections: [Connections; 2],
    /// Endpoints of peers that have connected and whose handshake has not ended.
    undecided: HashSet<String>,
    refusals: Vec<Refusal>,
    /// The connection of each worker, and the address at its other end.
    workers: HashMap<Identity, (RawFd, Option<SocketAddr>)>,
    /// Whether the last turn may have left events for the next.
    behind: bool,
}

/// A peer that was not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its address, and its key if it has one.
    pub(crate) from: String,
    pub(crate) reason: String,
}

/// A peer whose key is no longer allowed.
pub(crate) struct Revoked {
    pub(crate) side: Peers,
    pub(crate) peer: Identity,
}

impl AccessControl {
    /// Prepares access control, which has to be there before the sockets are bound. With `allow`,
    /// the folder of the allowed certificates, only their owners are let in.
    /// `max_connections` are those from one address to each socket.
    pub(crate) fn new(context: &Context, allow: Option<PathBuf>, max_connections: usize) -> Result<Self, Error> {
        Ok(Self {
            zap: allow.map(|folder| ZapHandler::new(context, folder)).transpose()?,
            connections: [Connections::new(max_connections), Connections::new(max_connections)],
            undecided: HashSet::new(),
            refusals: Vec::new(),
            workers: HashMap::new(),
            behind: false,
        })
    }

    /// Returns what was ignored when the allowed keys were last read, in sentences for the log.
    pub(crate) fn warnings(&self) -> &[String] {
        self.zap.as_ref().map_or(&[], |zap| zap.allowed.warnings())
    }

    /// Whether the last turn has left events, so that the next turn should come soon.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Returns the socket on which libzmq asks about keys, to be polled.
    pub(crate) fn socket(&self) -> Option<&QuietSocket> {
        self.zap.as_ref().map(ZapHandler::socket)
    }

    /// Takes in the monitor events of the clients' and the workers' socket, and answers ZAP
    /// requests. Returns whether there were any, and the peers that were not let in.
    pub(crate) fn turn(&mut self, sockets: [&MonitoredSocket; 2]) -> zmq::Result<(bool, Vec<Refusal>)> {
        let (mut some, mut behind) = (false, false);
        for (number, (socket, side)) in sockets.into_iter().zip(SIDES).enumerate() {
            for seen in 1..=MAX_EVENTS {
                let Some((event, from)) = socket.next_event()? else { break };
                some = true;
                behind |= seen == MAX_EVENTS;
                let Some(reason) = self.judge(number, &event, &from) else { continue };
                self.refusals.push(Refusal { from: address::describe(&from, side), reason });
            }
        }
        // After counting connections: the key of a peer above the limit is not looked at.
        if let Some(zap) = &mut self.zap {
            let answered = zap.answer(&mut self.refusals)?;
            some |= answered > 0;
            behind |= answered == MAX_EVENTS;
        }
        self.behind = behind;
        Ok((some, std::mem::take(&mut self.refusals)))
    }

    /// Counts an event at the socket with this number; returns why its peer was not let in, if so.
    fn judge(&mut self, number: usize, event: &MonitorEvent, from: &str) -> Option<String> {
        let all: usize = self.connections.iter().map(Connections::len).sum();
        let connections = &mut self.connections[number];
        match *event {
            MonitorEvent::Accepted(descriptor) => {
                let left = max_connections().saturating_sub(all);
                let refused = connections.accepted(descriptor, from, left).err();
                match refused {
                    Some(_) => address::close(descriptor, Some(from)),
                    None => drop(self.undecided.insert(from.into())),
                }
                refused
            }
            MonitorEvent::Succeeded => {
                self.undecided.remove(from);
                None
            }
            MonitorEvent::Failed(failure) => {
                let undecided = self.undecided.remove(from);
                match failure {
                    // The ZAP handler has refused it, and has reported it.
                    Failure::Refused(_) => None,
                    Failure::Broken(_) if !undecided => None,
                    failure => Some(format!("handshake: {failure}")),
                }
            }
            MonitorEvent::Unreachable => None,
            MonitorEvent::Ended(descriptor) => {
                connections.ended(descriptor);
                // If a peer's protocol is too old for keys, libzmq reports no failure, only this.
                self.undecided.remove(from).then(|| "handshake: no ZMTP 3".into())
            }
        }
    }

    /// Returns what the sender of a message may do; `None`: its messages are to be ignored.
    pub(crate) fn rights(&mut self, side: Peers, peer: &Identity, metadata: &mut MessageMetadata) -> Option<Rights> {
        match &mut self.zap {
            None => Some(Rights::ALL),
            Some(zap) => zap.rights(side, peer, metadata),
        }
    }

    /// Returns the address and the key of a message's sender, after [`Self::rights`]. To be called
    /// once per connection.
    pub(crate) fn peer_info(&mut self, side: Peers, peer: &Identity, metadata: &mut MessageMetadata) -> PeerInfo {
        let descriptor = metadata.descriptor();
        let at = descriptor.and_then(address::peer_of);
        if let (Peers::Workers, Some(descriptor)) = (side, descriptor) {
            self.workers.insert(peer.clone(), (descriptor, at));
        }
        PeerInfo {
            address: at.map_or_else(String::new, |at| address::canonical(at).to_string()).as_str().into(),
            key: self.zap.as_ref().and_then(|zap| zap.key(side, peer)),
        }
    }

    /// Ends a worker's connection. The worker may connect again.
    pub(crate) fn end_worker(&mut self, peer: &Identity) {
        if let Some((descriptor, at)) = self.workers.remove(peer)
            && at == address::peer_of(descriptor)
        {
            address::close(descriptor, None);
        }
    }

    /// Forgets a peer whose connection has ended.
    pub(crate) fn forget(&mut self, side: Peers, peer: &Identity) {
        if side == Peers::Workers {
            self.workers.remove(peer);
        }
        if let Some(zap) = &mut self.zap {
            zap.forget(side, peer);
        }
    }

    /// Reads the allowed keys again, and closes the connections of peers whose rights have changed:
    /// they may come back with those they have now. `None` without keys. With an error everything
    /// stays as it is.
    pub(crate) fn reload(&mut self) -> Option<Reloaded> {
        self.zap.as_mut().map(ZapHandler::reload)
    }

    /// Does what [`Self::reload`] does if the folder of allowed keys has changed. `None` if nothing
    /// is different, or the error is still the same.
    pub(crate) fn poll_change(&mut self) -> Option<Reloaded> {
        self.zap.as_mut()?.poll_change()
    }

    /// Returns a descriptor that is readable when [`Self::poll_change`] is to be called.
    pub(crate) fn change(&self) -> Option<BorrowedFd<'_>> {
        self.zap.as_ref().map(|zap| zap.watch.alarm().as_fd())
    }
}

/// Returns the maximum number of connections to both sockets together, from the number of files
/// that this process may open. The limit can change while it runs.
fn max_connections() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(limit - RESERVED.min(limit / 2)).unwrap_or(usize::MAX)
}
