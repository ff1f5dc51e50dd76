//! The peers of one side: its clients, or its workers.
//!
//! Numbers count up and are never used again, so that a lookup by number is mostly a subtraction,
//! and iteration is in the order of arrival.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::ops::Index;

use giostra_protocol::Identity;
use giostra_protocol::sparse_queue::SparseQueue;

use crate::peer_info::{Key, PeerInfo};

/// The number of a client or a worker.
pub trait Number: Copy {
    /// Returns the number.
    fn number(self) -> u64;
    /// Returns the client or worker with this number.
    fn of(number: u64) -> Self;
}

/// The connected and the registered peers of one side.
pub struct Peers<N, T> {
    registered: SparseQueue<Box<T>>,
    numbers: HashMap<Identity, u64>,
    last: u64,
    /// The peers that have connected, registered or not.
    info: HashMap<Identity, PeerInfo>,
    /// Peers that are not registered and have been asked to introduce themselves.
    asked: HashSet<Identity>,
    kind: PhantomData<N>,
}

impl<N, T> Default for Peers<N, T> {
    fn default() -> Self {
        Self {
            registered: SparseQueue::default(),
            numbers: HashMap::default(),
            last: 0,
            info: HashMap::default(),
            asked: HashSet::default(),
            kind: PhantomData,
        }
    }
}

impl<N: Number, T> Peers<N, T> {
    /// Returns the number of registered peers.
    pub fn len(&self) -> usize {
        self.registered.len()
    }

    /// Adds a registered peer, and returns its number.
    pub fn insert(&mut self, identity: &Identity, peer: T) -> N {
        self.last += 1;
        self.registered.push(self.last, Box::new(peer));
        self.numbers.insert(identity.clone(), self.last);
        self.asked.remove(identity);
        N::of(self.last)
    }

    /// Removes a registered peer.
    pub fn remove(&mut self, number: N, identity: impl FnOnce(&T) -> &Identity) -> T {
        let peer = self.registered.take(number.number()).expect("a registered peer is removed once");
        self.numbers.remove(identity(&peer));
        *peer
    }

    /// Returns the number of a registered peer.
    pub fn find(&self, identity: &Identity) -> Option<N> {
        self.numbers.get(identity).copied().map(N::of)
    }

    /// Returns a registered peer.
    #[inline]
    pub fn get(&self, number: &N) -> Option<&T> {
        self.registered.get(number.number()).map(|peer| &**peer)
    }

    /// Returns a registered peer for change.
    #[inline]
    pub fn get_mut(&mut self, number: &N) -> Option<&mut T> {
        self.registered.get_mut(number.number()).map(|peer| &mut **peer)
    }

    /// Iterates over the registered peers and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (N, &T)> {
        self.registered.numbers().map(N::of).zip(self.values())
    }

    /// Iterates over the registered peers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.registered.iter().map(|peer| &**peer)
    }

    /// Iterates over the registered peers for change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.registered.iter_mut().map(|peer| &mut **peer)
    }

    /// Records what is known of a peer that has connected.
    pub fn connected(&mut self, identity: &Identity, info: PeerInfo) {
        self.info.insert(identity.clone(), info);
    }

    /// Returns what is known of a peer that has connected.
    pub fn info(&self, identity: &Identity) -> Option<&PeerInfo> {
        self.info.get(identity)
    }

    /// Returns the key of a peer.
    pub fn key(&self, identity: &Identity) -> Option<Key> {
        self.info(identity)?.key.clone()
    }

    /// Returns the address of a peer; empty if it is unknown.
    pub fn address(&self, identity: &Identity) -> String {
        self.info(identity).map(|info| info.address.to_string()).unwrap_or_default()
    }

    /// Whether a peer that is not registered is to be asked to introduce itself: once for each
    /// connection, because a peer that was stopped may have sent much in between.
    pub fn ask(&mut self, identity: &Identity) -> bool {
        self.asked.insert(identity.clone())
    }

    /// Forgets that a peer was asked.
    pub fn may_be_asked(&mut self, identity: &Identity) {
        self.asked.remove(identity);
    }

    /// Forgets a peer whose connection has ended.
    pub fn disconnected(&mut self, identity: &Identity) {
        self.asked.remove(identity);
        self.info.remove(identity);
    }
}

impl<N: Number, T> Index<&N> for Peers<N, T> {
    type Output = T;

    #[inline]
    fn index(&self, number: &N) -> &T {
        self.get(number).expect("a number is in the other tables as long as its peer is registered")
    }
}
