//! The ZAP handler: answers libzmq's questions about keys, and knows the rights of each peer that
//! it has let in.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use giostra_core::config::Rights;
use giostra_core::peer_info::Key;
use giostra_protocol::Identity;
use giostra_transport::keys::PublicKey;
use giostra_transport::socket::{self, MessageMetadata, Peers, QuietSocket, ZAP_ENDPOINT};
use zmq::{Context, SocketType};

use super::allow_list::AllowList;
use super::watch::Watch;
use super::{MAX_EVENTS, Refusal, Reloaded, Revoked, SIDES, address};
use crate::error::Error;

pub(super) struct ZapHandler {
    folder: PathBuf,
    pub(super) allowed: AllowList,
    pub(super) watch: Watch,
    /// Why the folder could not be read when it was last; `None` if it could.
    unreadable: Option<String>,
    socket: QuietSocket,
    /// By side, since libzmq's routing ids are unique per socket, not per context.
    peers: HashMap<(Peers, Identity), Peer>,
}

/// A peer that has been let in.
struct Peer {
    key: PublicKey,
    rights: Rights,
    descriptor: Option<RawFd>,
    /// Whether its key is no longer allowed: its messages are ignored until its connection ends.
    revoked: bool,
}

impl ZapHandler {
    /// Reads the allowed keys, and listens for libzmq's questions.
    pub(super) fn new(context: &Context, folder: PathBuf) -> Result<Self, Error> {
        let watch = Watch::start(folder.clone())?;
        let allowed = AllowList::read(&folder)?;
        let listen = || {
            let socket = QuietSocket::new(context.socket(SocketType::REP)?);
            socket.set_linger(0)?;
            socket.bind(ZAP_ENDPOINT)?;
            Ok::<_, zmq::Error>(socket)
        };
        let socket = listen().map_err(io::Error::from)?;
        Ok(Self { folder, allowed, watch, unreadable: None, socket, peers: HashMap::new() })
    }

    pub(super) fn socket(&self) -> &QuietSocket {
        &self.socket
    }

    /// Answers requests; returns how many, at most [`MAX_EVENTS`].
    pub(super) fn answer(&mut self, refusals: &mut Vec<Refusal>) -> zmq::Result<usize> {
        for answered in 0..MAX_EVENTS {
            let Some(request) = socket::receive_frames(&self.socket)? else { return Ok(answered) };
            let (status, text, user) = match self.decide(&request) {
                Ok(key) => ("200", "OK", key.to_string()),
                Err(refusal) => {
                    refusals.push(refusal);
                    ("400", "this key is not allowed", String::new())
                }
            };
            let id = request.get(1).cloned().unwrap_or_default();
            let reply: [&[u8]; 6] = [b"1.0", &id, status.as_bytes(), text.as_bytes(), user.as_bytes(), b""];
            socket::send_frames(&self.socket, &reply)?;
        }
        Ok(MAX_EVENTS)
    }

    fn decide(&self, request: &[Vec<u8>]) -> Result<PublicKey, Refusal> {
        // Version, id, domain, address, routing id, mechanism, credentials. Only libzmq sends it.
        let [_, _, domain, address, _, mechanism, credentials @ ..] = request else {
            return Err(Refusal { from: "?".into(), reason: "a question that is not ZAP's".into() });
        };
        let address = String::from_utf8_lossy(address);
        let side = SIDES.into_iter().find(|side| side.domain().as_bytes() == domain);
        let key = match credentials {
            [key] if mechanism == b"CURVE" => PublicKey::from_bytes(key),
            _ => None,
        };
        let (Some(side), Some(key)) = (side, key) else {
            return Err(Refusal { from: address.into_owned(), reason: "it has no key".into() });
        };
        if self.allowed.rights(side, &key).is_some() {
            return Ok(key);
        }
        let reason = match self.allowed.name(&key) {
            Some(_) => format!("this key may not come among the {}", side.domain()),
            None => "this key is not allowed".into(),
        };
        Err(Refusal { from: format!("{} {}", address::describe(&address, side), self.named(key)), reason })
    }

    fn named(&self, public: PublicKey) -> Key {
        Key { public: (&*public.to_string()).into(), name: self.allowed.name(&public).unwrap_or_default().into() }
    }

    /// Returns the key of a peer that has been let in.
    pub(super) fn key(&self, side: Peers, peer: &Identity) -> Option<Key> {
        self.peers.get(&(side, peer.clone())).map(|peer| self.named(peer.key))
    }

    /// Returns the rights of a message's sender; `None` if they have been revoked.
    pub(super) fn rights(&mut self, side: Peers, id: &Identity, metadata: &mut MessageMetadata) -> Option<Rights> {
        let place = (side, id.clone());
        if let Some(peer) = self.peers.get(&place) {
            return (!peer.revoked).then_some(peer.rights);
        }
        let key: PublicKey = metadata.user()?.parse().ok()?;
        // The key may have been revoked since the handshake.
        let rights = self.allowed.rights(side, &key);
        let descriptor = metadata.descriptor();
        if let (None, Some(descriptor)) = (rights, descriptor) {
            address::close(descriptor, None);
        }
        let peer = Peer { key, rights: rights.unwrap_or(Rights::NONE), descriptor, revoked: rights.is_none() };
        self.peers.insert(place, peer);
        rights
    }

    pub(super) fn forget(&mut self, side: Peers, peer: &Identity) {
        self.peers.remove(&(side, peer.clone()));
    }

    /// See [`AccessControl::reload`](super::AccessControl::reload).
    pub(super) fn reload(&mut self) -> Reloaded {
        self.watch.restart();
        match AllowList::read(&self.folder) {
            Ok(list) => Ok(self.exchange(list)),
            Err(error) => {
                self.unreadable = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// See [`AccessControl::poll_change`](super::AccessControl::poll_change).
    pub(super) fn poll_change(&mut self) -> Option<Reloaded> {
        match self.watch.take()? {
            // A file was touched, or SIGHUP was faster.
            Ok(list) if list == self.allowed && self.unreadable.is_none() => None,
            Ok(list) => Some(Ok(self.exchange(list))),
            Err(error) => {
                let text = Some(error.to_string());
                let is_known = self.unreadable == text;
                self.unreadable = text;
                (!is_known).then_some(Err(error))
            }
        }
    }

    /// Puts a list into the place of the present one. Returns the number of its keys, and the peers
    /// whose rights have changed.
    fn exchange(&mut self, list: AllowList) -> (usize, Vec<Revoked>) {
        (self.allowed, self.unreadable) = (list, None);
        let mut revoked = Vec::new();
        for ((side, id), peer) in &mut self.peers {
            if self.allowed.rights(*side, &peer.key) != Some(peer.rights) && !peer.revoked {
                peer.revoked = true;
                if let Some(descriptor) = peer.descriptor {
                    address::close(descriptor, None);
                }
                revoked.push(Revoked { side: *side, peer: id.clone() });
            }
        }
        revoked.sort_unstable_by(|a, b| a.peer.cmp(&b.peer));
        (self.allowed.len(), revoked)
    }
}
