//! Who comes in: keys and roles ([`roles`]), connections ([`connections`]), and the sockets by
//! which libzmq asks and tells of them.
//!
//! With keys, libzmq lets nobody speak whom this does not let in: it asks for each handshake, and
//! goes on with others meanwhile. That is answered between two turns of the server's loop, like
//! everything else here, so that all of it is in one order with what the broker does.

mod connections;
mod permissions;
mod roles;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use anyhow::Context as _;
use giostra_protocol::Identity;
use giostra_transport::keys::PublicKey;
use giostra_transport::monitor::{Failure, MonitorEvent, MonitoredSocket};
use giostra_transport::socket::{self, MessageMetadata, Peers, ZAP_ENDPOINT};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket as system;
use zmq::{Context, Socket, SocketType};

use connections::Connections;
use giostra_core::config::Rights;
use giostra_core::peer_info::{Key, PeerInfo};
use roles::AllowList;

/// The most questions and events taken in at once, so that whoever knocks without end does not keep
/// those inside waiting.
const AT_ONCE: usize = 64;

/// Files that are open besides connections, or are to be opened: libzmq's own, the log's next one,
/// those with keys, the 64 connections of `--http`, and connections that libzmq has taken and that
/// are not counted yet. If a connection can't be had for want of one, libzmq tries without a pause.
const RESERVED: u64 = 160;

/// The least files that a broker must be able to open: its own, and some connections.
pub const MIN_FILES: u64 = RESERVED + 32;

/// Both sockets' access.
pub struct AccessControl {
    /// Whom to let in, and where that is read; `None`: whoever comes.
    guard: Option<Guard>,
    connections: [Connections; 2],
    /// Who has connected, and of whose handshake nothing has been said yet.
    undecided: HashSet<String>,
    refusals: Vec<Refusal>,
    /// The workers' connections, and who is at their other end.
    workers: HashMap<Identity, (RawFd, Option<SocketAddr>)>,
    /// Whether there may be more to see than was seen in the last turn.
    behind: bool,
}

struct Guard {
    folder: PathBuf,
    allowed: AllowList,
    /// Where libzmq asks.
    zap: Socket,
    peers: HashMap<(Peers, Identity), Peer>,
}

/// A peer that has been let in.
struct Peer {
    key: PublicKey,
    rights: Rights,
    descriptor: Option<RawFd>,
    /// Whether it is no longer welcome: what it says until its connection has ended is not heard.
    revoked: bool,
}

/// Somebody who was not let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The address, and the key if there is one.
    pub from: String,
    /// Why.
    pub reason: String,
}

/// A peer that is no longer welcome.
pub struct Revoked {
    /// At which door.
    pub door: Peers,
    /// Who.
    pub peer: Identity,
}

/// How the access are to be kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the certificates that are let in; `None`: whoever comes.
    pub allow: Option<PathBuf>,
    /// The most connections from one address at each door.
    pub connections: usize,
}

impl AccessControl {
    /// Before the sockets are bound.
    pub fn new(context: &Context, settings: &Settings) -> anyhow::Result<Self> {
        let guard = settings.allow.clone().map(|folder| Guard::new(context, folder)).transpose()?;
        Ok(Self {
            guard,
            connections: [Connections::new(settings.connections), Connections::new(settings.connections)],
            undecided: HashSet::new(),
            refusals: Vec::new(),
            workers: HashMap::new(),
            behind: false,
        })
    }

    /// What was ignored when the list of those who are let in was read, in sentences for the log.
    pub fn warnings(&self) -> &[String] {
        self.guard.as_ref().map_or(&[], |guard| guard.allowed.warnings())
    }

    /// Whether the last turn has left something for the next, which is to come soon.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// What else there is to wait for.
    pub fn socket(&self) -> Option<&Socket> {
        self.guard.as_ref().map(|guard| &guard.zap)
    }

    /// Answers who asks, and sees who has come and gone at the clients' and at the workers' socket.
    /// Whether there was anything, and who was not let in.
    pub fn turn(&mut self, sockets: [&MonitoredSocket; 2]) -> anyhow::Result<(bool, Vec<Refusal>)> {
        let (mut some, mut behind) = (false, false);
        for (number, (socket, door)) in sockets.into_iter().zip(DOORS).enumerate() {
            for seen in 1..=AT_ONCE {
                let Some((sight, from)) = socket.see()? else { break };
                some = true;
                behind |= seen == AT_ONCE;
                let Some(reason) = self.judge(number, &sight, &from) else { continue };
                self.refusals.push(Refusal { from: named(&from, door), reason });
            }
        }
        // After those who have come are counted: who is one too many is not even asked for its key.
        if let Some(guard) = &mut self.guard {
            let answered = guard.answer(&mut self.refusals)?;
            some |= answered > 0;
            behind |= answered == AT_ONCE;
        }
        self.behind = behind;
        Ok((some, std::mem::take(&mut self.refusals)))
    }

    /// Counts what was seen at a door. Why a peer was not let in, if it was not.
    fn judge(&mut self, door: usize, sight: &MonitorEvent, from: &str) -> Option<String> {
        let all: usize = self.connections.iter().map(Connections::len).sum();
        let connections = &mut self.connections[door];
        match *sight {
            MonitorEvent::Accepted(descriptor) => {
                let refused = connections.accepted(descriptor, from, room_for_connections().saturating_sub(all)).err();
                match refused {
                    Some(_) => close(descriptor, Some(from)),
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
                    // That was this broker's own doing, and has been said.
                    Failure::Refused(_) => None,
                    Failure::Broken(_) if !undecided => None,
                    failure => Some(format!("handshake: {failure}")),
                }
            }
            MonitorEvent::Ended(descriptor) => {
                connections.ended(descriptor);
                // Of a peer whose protocol is too old for keys libzmq says nothing else.
                self.undecided.remove(from).then(|| "handshake: no ZMTP 3".into())
            }
        }
    }

    /// What the sender of a message may do; `None`: it is not to be heard.
    pub fn meet(&mut self, door: Peers, peer: &Identity, origin: &mut MessageMetadata) -> Option<Rights> {
        let Some(guard) = &mut self.guard else { return Some(Rights::ALL) };
        guard.meet(door, peer, origin)
    }

    /// Who the sender of a message is, who has been met. To be asked once a connection.
    pub fn peer_info(&mut self, door: Peers, peer: &Identity, origin: &mut MessageMetadata) -> PeerInfo {
        if let (Peers::Workers, Some(descriptor)) = (door, origin.descriptor()) {
            self.workers.insert(peer.clone(), (descriptor, peer_of(descriptor)));
        }
        PeerInfo {
            address: address_of(origin).as_str().into(),
            key: self.guard.as_ref().and_then(|guard| guard.key(door, peer)),
        }
    }

    /// Ends a worker's connection: it may come back.
    pub fn end_worker(&mut self, peer: &Identity) {
        if let Some((descriptor, from)) = self.workers.remove(peer)
            && from == peer_of(descriptor)
        {
            close(descriptor, None);
        }
    }

    /// A peer's connection has ended.
    pub fn forget(&mut self, door: Peers, peer: &Identity) {
        if door == Peers::Workers {
            self.workers.remove(peer);
        }
        if let Some(guard) = &mut self.guard {
            guard.peers.remove(&(door, peer.clone()));
        }
    }

    /// Reads anew whom to let in, and closes the connections of those who are no longer, or whose
    /// rights have changed: they may come back with those they have now. How many keys there
    /// are, and who they were; `None` without keys. With an error everything stays as it is.
    pub fn reload(&mut self) -> anyhow::Result<Option<(usize, Vec<Revoked>)>> {
        let Some(guard) = &mut self.guard else { return Ok(None) };
        guard.allowed = AllowList::read(&guard.folder)?;
        let mut revoked = Vec::new();
        for ((door, peer), guest) in &mut guard.peers {
            if guard.allowed.rights(*door, &guest.key) != Some(guest.rights) && !guest.revoked {
                guest.revoked = true;
                if let Some(descriptor) = guest.descriptor {
                    close(descriptor, None);
                }
                revoked.push(Revoked { door: *door, peer: peer.clone() });
            }
        }
        revoked.sort_unstable_by(|a, b| a.peer.cmp(&b.peer));
        Ok(Some((guard.allowed.len(), revoked)))
    }
}

const DOORS: [Peers; 2] = [Peers::Clients, Peers::Workers];

impl Guard {
    fn new(context: &Context, folder: PathBuf) -> anyhow::Result<Self> {
        let allowed = AllowList::read(&folder)?;
        let zap = context.socket(SocketType::REP)?;
        zap.set_linger(0)?;
        zap.bind(ZAP_ENDPOINT).context("can't answer for the authentication")?;
        Ok(Self { folder, allowed, zap, peers: HashMap::new() })
    }

    /// How many have asked.
    fn answer(&mut self, refusals: &mut Vec<Refusal>) -> zmq::Result<usize> {
        for answered in 0..AT_ONCE {
            let Some(question) = socket::receive_frames(&self.zap)? else { return Ok(answered) };
            let (status, text, user) = match self.decide(&question) {
                Ok(key) => ("200", "OK", key.to_string()),
                Err(refusal) => {
                    refusals.push(refusal);
                    ("400", "this key is not allowed", String::new())
                }
            };
            let request = question.get(1).cloned().unwrap_or_default();
            let answer: [&[u8]; 6] = [b"1.0", &request, status.as_bytes(), text.as_bytes(), user.as_bytes(), b""];
            socket::send_frames(&self.zap, &answer)?;
        }
        Ok(AT_ONCE)
    }

    fn decide(&self, question: &[Vec<u8>]) -> Result<PublicKey, Refusal> {
        // Version, request, domain, address, routing id, mechanism, credentials: libzmq asks, and nobody
        // else can.
        let [_, _, domain, address, _, mechanism, credentials @ ..] = question else {
            return Err(Refusal { from: "?".into(), reason: "a question that is not ZAP's".into() });
        };
        let address = String::from_utf8_lossy(address);
        let door = DOORS.into_iter().find(|door| door.domain().as_bytes() == domain);
        let key = match credentials {
            [key] if mechanism == b"CURVE" => PublicKey::from_bytes(key),
            _ => None,
        };
        let (Some(door), Some(key)) = (door, key) else {
            return Err(Refusal { from: address.into_owned(), reason: "it has no key".into() });
        };
        if self.allowed.rights(door, &key).is_some() {
            return Ok(key);
        }
        let reason = match self.allowed.name(&key) {
            Some(_) => format!("this key may not come among the {}", door.domain()),
            None => "this key is not allowed".into(),
        };
        Err(Refusal { from: format!("{} {}", named(&address, door), self.named_key(key)), reason })
    }

    fn named_key(&self, public: PublicKey) -> Key {
        Key { public: (&*public.to_string()).into(), name: self.allowed.name(&public).unwrap_or_default().into() }
    }

    /// The key of a peer that has been met.
    fn key(&self, door: Peers, peer: &Identity) -> Option<Key> {
        self.peers.get(&(door, peer.clone())).map(|guest| self.named_key(guest.key))
    }

    fn meet(&mut self, door: Peers, peer: &Identity, origin: &mut MessageMetadata) -> Option<Rights> {
        // libzmq's routing ids are unique a socket, not a context.
        let place = (door, peer.clone());
        if let Some(guest) = self.peers.get(&place) {
            return (!guest.revoked).then_some(guest.rights);
        }
        let key: PublicKey = origin.user()?.parse().ok()?;
        // It may have been taken out since the handshake.
        let rights = self.allowed.rights(door, &key);
        let descriptor = origin.descriptor();
        if let (None, Some(descriptor)) = (rights, descriptor) {
            close(descriptor, None);
        }
        let guest = Peer { key, rights: rights.unwrap_or(Rights::NONE), descriptor, revoked: rights.is_none() };
        self.peers.insert(place, guest);
        rights
    }
}

/// Where a message comes from, as people write it; nothing if it is not known.
fn address_of(origin: &mut MessageMetadata) -> String {
    let address = origin.descriptor().and_then(peer_of);
    address.map_or_else(String::new, |address| SocketAddr::new(address.ip().to_canonical(), address.port()).to_string())
}

fn named(from: &str, door: Peers) -> String {
    let address = from.strip_prefix("tcp://").unwrap_or(from);
    let one = match door {
        Peers::Clients => "client",
        Peers::Workers => "worker",
    };
    if address.is_empty() { format!("a {one}") } else { format!("a {one} at {address}") }
}

/// Who is at the other end of a connection, if that is one.
fn peer_of(descriptor: RawFd) -> Option<SocketAddr> {
    let peer: system::SockaddrStorage = system::getpeername(descriptor).ok()?;
    let v4 = peer.as_sockaddr_in().map(|peer| SocketAddr::from((peer.ip(), peer.port())));
    v4.or_else(|| peer.as_sockaddr_in6().map(|peer| SocketAddr::from((peer.ip(), peer.port()))))
}

/// The most connections that there is room for, at both access, of the files that this process may
/// have open. It may be told otherwise while it runs.
fn room_for_connections() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(limit - RESERVED.min(limit / 2)).unwrap_or(usize::MAX)
}

/// Ends a connection of libzmq's, which notices and tells everybody as if the peer had done it.
///
/// libzmq has no call for that. In the rare case that it has closed the descriptor by itself in
/// this moment, and it is another connection's now, that peer connects again; `from` makes that
/// rarer still.
fn close(descriptor: RawFd, from: Option<&str>) {
    if from.is_none_or(|from| connections::address(from) == peer_of(descriptor)) {
        // What is no connection any more needs no end.
        let _ = system::shutdown(descriptor, system::Shutdown::Both);
    }
}
