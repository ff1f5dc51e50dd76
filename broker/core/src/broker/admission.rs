//! Admission: which requests are accepted, which are rejected, and which client gets credit next.
//!
//! The broker never stops reading its clients: it must hear cancellations, farewells and questions,
//! and a socket that is not read soon looks dead to the other side. So requests that it has no room
//! for are rejected by name. Their client keeps them and sends nothing more until it gets credit,
//! in turn with the other clients that wait.
//!
//! One client may hold [`SHARE`] times as much as is still free. However many clients flood the
//! broker, something stays free for one that asks now and then: with n of them, 1/(4n + 1) of
//! everything. That is the dynamic threshold of Choudhury and Hahne, "Dynamic queue length
//! thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6 (1998).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use giostra_protocol::{RequestId, ToClient};

use super::{Broker, Output};
use crate::config::Settings;
use crate::event::Event;
use crate::ids::ClientNumber;

/// A client's share, as a multiple of what is still free.
const SHARE: usize = 4;

/// The most credit that one client gets at a time, so that the others have their turns.
const MOST: usize = 1024;

/// How long clients may take to use their credit before others are given the same room.
const ROUND: Duration = Duration::from_millis(10);

/// Clients that were rejected and have no credit.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    clients: VecDeque<ClientNumber>,
    /// The credit that is not used yet, and until when it is reserved.
    given: u64,
    until: Option<Instant>,
}

impl Waiting {
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.clients.is_empty() { None } else { self.until }
    }

    fn used(&mut self, room: u64) {
        self.given = self.given.saturating_sub(room);
        if self.given == 0 {
            self.until = None;
        }
    }
}

/// Usage of a limit: pending requests, or the bytes of their bodies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub most: usize,
    pub by_all: usize,
    pub by_client: usize,
}

impl Taken {
    /// Returns how much more the client may take. Each request that it takes also lessens what is
    /// free.
    pub fn room(self) -> usize {
        self.below_share().div_ceil(SHARE + 1)
    }

    /// Whether [`Self::room`] is more than 0, without a division.
    pub fn has_room(self) -> bool {
        self.below_share() > 0
    }

    /// Returns how far the client is below its share of what is free now.
    fn below_share(self) -> usize {
        SHARE.saturating_mul(self.most.saturating_sub(self.by_all)).saturating_sub(self.by_client)
    }
}

impl Broker {
    /// Counts what a client has submitted against its credit, if it has to be counted.
    pub(super) fn uses_room(&mut self, number: ClientNumber, requests: usize) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let Some(room) = &mut client.room else { return };
        let used = (*room).min(requests as u64);
        *room -= used;
        if used > 0 && *room == 0 {
            self.waiting.clients.push_back(number);
        }
        self.waiting.used(used);
    }

    /// Rejects a client's requests, whose bodies have `size` bytes on average.
    pub(super) fn turn_away(&mut self, number: ClientNumber, requests: Vec<RequestId>, size: usize) {
        let count = requests.len() as u64;
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.wanted_size = size.max(1);
        let (identity, before) = (client.identity.clone(), client.room.replace(0));
        match before {
            Some(0) => {}
            Some(left) => {
                self.waiting.used(left);
                self.waiting.clients.push_back(number);
            }
            None => {
                self.waiting.clients.push_back(number);
                self.log(Event::Rejected(number, count));
            }
        }
        self.stats.rejected += count;
        self.outputs.push_back(Output::ToClient(identity, ToClient::Rejected(requests)));
    }

    /// Forgets a client that is gone.
    pub(super) fn gives_room_back(&mut self, number: ClientNumber, room: Option<u64>) {
        match room {
            Some(0) => self.waiting.clients.retain(|&other| other != number),
            Some(left) => self.waiting.used(left),
            None => {}
        }
    }

    /// Gives credit to the clients that wait, each in turn. A client that has its share keeps
    /// waiting.
    pub(super) fn give_credit(&mut self, now: Instant) {
        if self.waiting.clients.is_empty() || self.closing || self.waiting.until.is_some_and(|until| now < until) {
            return;
        }
        (self.waiting.given, self.waiting.until) = (0, None);
        let Settings { max_pending, max_pending_bytes, max_client_pending, .. } = self.settings;
        let (mut pending, mut bytes) = (self.pending + self.leftovers.len(), self.bytes);
        let mut still_waiting = VecDeque::new();
        while let Some(number) = self.waiting.clients.pop_front() {
            let Some(client) = self.clients.get_mut(&number) else { continue };
            let size = client.wanted_size;
            let enough =
                MOST.min(max_pending / 16).min(max_client_pending / 16).min(max_pending_bytes / size / 16).max(1);
            let requests = Taken { most: max_pending, by_all: pending, by_client: client.pending }.room();
            let in_bytes = Taken { most: max_pending_bytes, by_all: bytes, by_client: client.bytes }.room();
            let own = max_client_pending.saturating_sub(client.pending);
            let room = requests.min(in_bytes.div_ceil(size)).min(own).min(MOST);
            // Little credit at a time would be many messages for few requests, but a client that
            // holds nothing is not kept waiting for more.
            if room < if client.pending == 0 { 1 } else { enough } {
                still_waiting.push_back(number);
                continue;
            }
            client.room = Some(room as u64);
            pending += room;
            bytes = bytes.saturating_add(room.saturating_mul(size));
            self.waiting.given += room as u64;
            self.waiting.until = Some(now + ROUND);
            let room = ToClient::Credit { requests: room as u64 };
            self.outputs.push_back(Output::ToClient(client.identity.clone(), room));
        }
        self.waiting.clients = still_waiting;
    }

    /// For [`Self::check`]: exactly the clients without credit wait for it.
    pub(super) fn check_waiting(&self) {
        let mut waiting: Vec<_> = self.waiting.clients.iter().copied().collect();
        waiting.sort_unstable();
        let without: Vec<_> =
            self.clients.iter().filter(|(_, client)| client.room == Some(0)).map(|(number, _)| number).collect();
        assert!(self.closing || waiting == without, "{waiting:?} wait for room, {without:?} have none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_takes_four_fifths_and_many_leave_something_free() {
        for (clients, left) in [(1, 200), (2, 111), (10, 24), (100, 2)] {
            let (most, mut held) = (1000, vec![0; clients]);
            loop {
                let before = held.clone();
                for client in 0..clients {
                    let taken = Taken { most, by_all: held.iter().sum(), by_client: held[client] };
                    held[client] += taken.room().min(1);
                }
                if held == before {
                    break;
                }
            }
            assert_eq!(most - held.iter().sum::<usize>(), left, "{clients} clients");
        }
    }

    #[test]
    fn room_is_what_can_be_taken_one_by_one() {
        for (by_all, by_client) in [(0, 0), (500, 0), (500, 500), (799, 799), (800, 800), (1000, 10), (1200, 0)] {
            let mut taken = Taken { most: 1000, by_all, by_client };
            let room = taken.room();
            assert_eq!(taken.has_room(), room > 0, "{by_all} {by_client}");
            let mut one_by_one = 0;
            while taken.by_all < taken.most && taken.by_client < SHARE * (taken.most - taken.by_all) {
                taken.by_all += 1;
                taken.by_client += 1;
                one_by_one += 1;
            }
            assert_eq!(room, one_by_one, "{by_all} {by_client}");
        }
    }
}
