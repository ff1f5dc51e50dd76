//! Messages that could not be sent yet: for a peer that does not read, libzmq holds a bounded
//! number and takes no more.
//!
//! They wait here, in order, and are tried again. A peer for which too many wait is cut off: its
//! messages are dropped, and so are all later ones, until it has taken a last message that tells it
//! so.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use giostra_protocol::Identity;
use giostra_protocol::codec::Frames;
use giostra_transport::socket::Sent;

/// Time between two attempts to send.
const RETRY: Duration = Duration::from_millis(5);

/// Time between two attempts to send the last message to peers that are cut off.
const RETRY_CUT_OFF: Duration = Duration::from_millis(100);

/// The maximum number of peers that are tried in one turn of the loop.
const PEERS_AT_ONCE: usize = 128;

/// The waiting messages of one socket.
#[derive(Debug)]
pub struct Outbox {
    max_bytes: usize,
    max_messages: usize,
    peers: BTreeMap<Identity, Backlog>,
    /// The peer that was tried last: the next turn begins after it.
    tried_last: Option<Identity>,
}

#[derive(Debug, Default)]
struct Backlog {
    messages: VecDeque<Frames>,
    bytes: usize,
    /// Whether further messages are dropped.
    cut_off: bool,
}

/// What became of a message for a peer that does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// When it waits.
    Waiting,
    /// When it was above a limit: the peer has just been cut off.
    CutOff,
    /// When the peer was cut off before.
    Dropped,
}

impl Outbox {
    /// Returns an empty outbox. It cuts a peer off when more than `max_bytes` or `max_messages`
    /// wait for it.
    pub fn new(max_bytes: usize, max_messages: usize) -> Self {
        Self { max_bytes, max_messages, peers: BTreeMap::new(), tried_last: None }
    }

    /// Whether messages to this peer wait here, so that the next has to, too.
    pub fn holds_up(&self, peer: &Identity) -> bool {
        !self.peers.is_empty() && self.peers.contains_key(peer)
    }

    /// Returns the time until the next attempt, if a message waits.
    pub fn retry_after(&self) -> Option<Duration> {
        let all_cut_off = self.peers.values().all(|backlog| backlog.cut_off);
        (!self.peers.is_empty()).then_some(if all_cut_off { RETRY_CUT_OFF } else { RETRY })
    }

    /// Keeps a message for later.
    pub fn keep(&mut self, peer: &Identity, message: Frames) -> Kept {
        let backlog = self.peers.entry(peer.clone()).or_default();
        if backlog.cut_off {
            return Kept::Dropped;
        }
        backlog.bytes += message.bytes();
        if backlog.bytes > self.max_bytes || backlog.messages.len() == self.max_messages {
            *backlog = Backlog { cut_off: true, ..Backlog::default() };
            return Kept::CutOff;
        }
        backlog.messages.push_back(message);
        Kept::Waiting
    }

    /// Returns the messages that wait for a peer, in order.
    pub fn waiting(&self, peer: &Identity) -> impl Iterator<Item = &Frames> {
        self.peers.get(peer).into_iter().flat_map(|backlog| &backlog.messages)
    }

    /// Keeps this message alone, and drops others until it is sent.
    pub fn keep_only(&mut self, peer: &Identity, message: Frames) {
        let bytes = message.bytes();
        self.peers.insert(peer.clone(), Backlog { messages: [message].into(), bytes, cut_off: true });
    }

    /// Forgets a peer whose connection has ended.
    pub fn forget(&mut self, peer: &Identity) {
        if !self.peers.is_empty() {
            self.peers.remove(peer);
        }
    }

    /// Tries to send the messages of some peers, in turn, so that it does not take long. Returns
    /// the peers that are gone.
    pub fn retry(&mut self, mut send: impl FnMut(&Identity, &Frames) -> Sent) -> Vec<Identity> {
        let mut gone = Vec::new();
        let begin = self.tried_last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.peers.range::<Identity, _>((begin, Bound::Unbounded));
        let turn: Vec<_> =
            later.chain(&self.peers).take(PEERS_AT_ONCE.min(self.peers.len())).map(|(peer, _)| peer.clone()).collect();
        for peer in &turn {
            let Some(backlog) = self.peers.get_mut(peer) else { continue };
            match backlog.send(|message| send(peer, message)) {
                Sent::Full => continue,
                Sent::Taken => {}
                Sent::Gone => gone.push(peer.clone()),
            }
            self.peers.remove(peer);
        }
        self.tried_last = turn.into_iter().next_back();
        gone
    }
}

impl Backlog {
    /// Sends messages in order, until one is not taken; returns what became of the last one.
    fn send(&mut self, mut send: impl FnMut(&Frames) -> Sent) -> Sent {
        while let Some(message) = self.messages.front() {
            match send(message) {
                Sent::Taken => self.bytes -= message.bytes(),
                other => return other,
            }
            self.messages.pop_front();
        }
        Sent::Taken
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::Bytes;

    use super::*;

    fn peer(name: &'static str) -> Identity {
        Identity(Bytes::from_static(name.as_bytes()))
    }

    fn message(bytes: usize) -> Frames {
        Frames { envelope: Bytes::from(vec![bytes as u8; bytes]), attachments: vec![] }
    }

    #[test]
    fn waiting_messages_are_sent_in_order_and_only_once() {
        let (mut outbox, a) = (Outbox::new(100, 3), peer("a"));
        (1..=3).for_each(|bytes| assert_eq!(outbox.keep(&a, message(bytes)), Kept::Waiting));
        let mut sent = Vec::new();
        let mut retry = |outbox: &mut Outbox, mut room: u32| {
            let gone = outbox.retry(|_, message| {
                if room == 0 {
                    return Sent::Full;
                }
                room -= 1;
                sent.push(message.envelope.len());
                Sent::Taken
            });
            assert!(gone.is_empty());
        };
        retry(&mut outbox, 2);
        assert!(outbox.holds_up(&a) && outbox.retry_after() == Some(RETRY));
        retry(&mut outbox, 9);
        assert!(!outbox.holds_up(&a) && outbox.retry_after().is_none());
        assert_eq!(sent, [1, 2, 3]);
    }

    #[test]
    fn many_blocked_peers_are_tried_some_at_a_time_in_turn() {
        let mut outbox = Outbox::new(100, 3);
        let names: Vec<_> = (0..3 * PEERS_AT_ONCE - 1).map(|number| format!("{number:05}")).collect();
        let peers: Vec<_> = names.iter().map(|name| Identity(Bytes::copy_from_slice(name.as_bytes()))).collect();
        peers.iter().for_each(|peer| assert_eq!(outbox.keep(peer, message(1)), Kept::Waiting));
        let mut tried = Vec::new();
        for turn in 1..=3 {
            outbox.retry(|peer, _| {
                tried.push(peer.clone());
                Sent::Full
            });
            assert_eq!(tried.len(), turn * PEERS_AT_ONCE);
        }
        assert_eq!((tried[..peers.len()].to_vec(), &tried[peers.len()]), (peers.clone(), &peers[0]));
        // A peer that is the only one is tried once a turn.
        peers[1..].iter().for_each(|peer| outbox.forget(peer));
        tried.clear();
        outbox.retry(|peer, _| {
            tried.push(peer.clone());
            Sent::Taken
        });
        assert!(tried == [peers[0].clone()] && outbox.retry_after().is_none());
    }

    #[test]
    fn a_peer_that_never_reads_is_cut_off_and_delays_no_other() {
        let (mut outbox, a, b) = (Outbox::new(100, 3), peer("a"), peer("b"));
        assert_eq!(outbox.keep(&a, message(60)), Kept::Waiting);
        assert_eq!(outbox.keep(&b, message(60)), Kept::Waiting);
        assert_eq!(outbox.keep(&a, message(60)), Kept::CutOff);
        outbox.keep_only(&a, message(2));
        assert_eq!(outbox.keep(&a, message(1)), Kept::Dropped);
        assert_eq!(outbox.retry(|peer, _| if *peer == a { Sent::Full } else { Sent::Gone }), std::slice::from_ref(&b));
        assert!(outbox.holds_up(&a) && outbox.retry_after() == Some(RETRY_CUT_OFF));
        (0..3).for_each(|_| assert_eq!(outbox.keep(&b, message(1)), Kept::Waiting));
        assert_eq!(outbox.keep(&b, message(1)), Kept::CutOff);
        // It reads again, and gets the last message alone.
        let mut sent = Vec::new();
        outbox.retry(|_, message| {
            sent.push(message.envelope.len());
            Sent::Taken
        });
        assert_eq!(sent, [2], "b has no last word to take");
        assert_eq!(outbox.keep(&a, message(1)), Kept::Waiting);
        outbox.forget(&a);
        assert!(!outbox.holds_up(&a));
    }
}
