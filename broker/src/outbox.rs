//! What could not be sent yet: libzmq holds a bounded number of messages for a peer that does not read, then says so.
//!
//! Messages to such a peer wait here, in order, and are tried again. Whoever lets too many bytes wait is cut off: what
//! waits is thrown away, and so is all that would follow, until its connection ends.

use std::collections::{BTreeMap, VecDeque};

use giostra_common::Bytes;
use giostra_common::socket::{Identity, Sent};
use giostra_common::wire::Frames;

/// The waiting messages of one socket.
#[derive(Debug)]
pub struct Outbox {
    max_bytes: usize,
    peers: BTreeMap<Identity, Backlog>,
}

#[derive(Debug)]
enum Backlog {
    Waiting { messages: VecDeque<Frames>, bytes: usize },
    CutOff,
}

/// What became of a message that was put here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// When it waits.
    Waiting,
    /// When it was one too many: the peer has just been cut off.
    CutOff,
    /// When the peer was cut off before.
    Dropped,
}

impl Outbox {
    /// One that cuts a peer off when more than `max_bytes` wait for it.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, peers: BTreeMap::new() }
    }

    /// Whether a message to this peer has to wait its turn here.
    pub fn holds_up(&self, peer: &Identity) -> bool {
        !self.peers.is_empty() && self.peers.contains_key(peer)
    }

    /// Whether anything waits.
    pub fn is_waiting(&self) -> bool {
        self.peers.values().any(|backlog| matches!(backlog, Backlog::Waiting { .. }))
    }

    /// Keeps a message for later.
    pub fn keep(&mut self, peer: &Identity, message: Frames) -> Kept {
        let empty = || Backlog::Waiting { messages: VecDeque::new(), bytes: 0 };
        let backlog = self.peers.entry(peer.clone()).or_insert_with(empty);
        let Backlog::Waiting { messages, bytes } = backlog else { return Kept::Dropped };
        *bytes += size(&message);
        if *bytes > self.max_bytes {
            *backlog = Backlog::CutOff;
            return Kept::CutOff;
        }
        messages.push_back(message);
        Kept::Waiting
    }

    /// Lets go of all that concerns a peer that is gone.
    pub fn forget(&mut self, peer: &Identity) {
        if !self.peers.is_empty() {
            self.peers.remove(peer);
        }
    }

    /// Tries to send what waits. Returns the peers that are gone.
    pub fn retry(&mut self, mut send: impl FnMut(&Identity, &Frames) -> Sent) -> Vec<Identity> {
        let mut gone = Vec::new();
        self.peers.retain(|peer, backlog| {
            let Backlog::Waiting { messages, bytes } = backlog else { return true };
            while let Some(message) = messages.front() {
                match send(peer, message) {
                    Sent::Taken => *bytes -= size(message),
                    Sent::Full => return true,
                    Sent::Gone => {
                        gone.push(peer.clone());
                        return false;
                    }
                }
                messages.pop_front();
            }
            false
        });
        gone
    }
}

fn size(message: &Frames) -> usize {
    message.envelope.len() + message.attachments.iter().map(Bytes::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &'static str) -> Identity {
        Identity(Bytes::from_static(name.as_bytes()))
    }

    fn message(bytes: usize) -> Frames {
        Frames { envelope: Bytes::from(vec![bytes as u8; bytes]), attachments: vec![] }
    }

    #[test]
    fn what_waits_is_sent_in_order_and_only_once() {
        let (mut outbox, a) = (Outbox::new(100), peer("a"));
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
        assert!(outbox.holds_up(&a) && outbox.is_waiting());
        retry(&mut outbox, 9);
        assert!(!outbox.holds_up(&a) && !outbox.is_waiting());
        assert_eq!(sent, [1, 2, 3]);
    }

    #[test]
    fn who_never_reads_is_cut_off_and_holds_nobody_else_up() {
        let (mut outbox, a, b) = (Outbox::new(100), peer("a"), peer("b"));
        assert_eq!(outbox.keep(&a, message(60)), Kept::Waiting);
        assert_eq!(outbox.keep(&b, message(60)), Kept::Waiting);
        assert_eq!(outbox.keep(&a, message(60)), Kept::CutOff);
        assert_eq!(outbox.keep(&a, message(1)), Kept::Dropped);
        assert_eq!(outbox.retry(|_, _| Sent::Gone), [b]);
        assert!(outbox.holds_up(&a) && !outbox.is_waiting());
        outbox.forget(&a);
        assert!(!outbox.holds_up(&a));
    }
}
