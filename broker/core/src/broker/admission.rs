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

/// The maximum credit that one client gets at a time, so that the others have their turns.
const MAX_CREDIT: usize = 1024;

/// How long clients may take to use their credit before others are given the same room.
const ROUND: Duration = Duration::from_millis(10);

/// The clients that were rejected and wait for credit.
#[derive(Debug, Default)]
pub(super) struct CreditQueue {
    clients: VecDeque<ClientNumber>,
    /// The credit that is not used yet, and until when it is reserved.
    given: u64,
    until: Option<Instant>,
}

impl CreditQueue {
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.clients.is_empty() { None } else { self.until }
    }

    fn used(&mut self, credit: u64) {
        self.given = self.given.saturating_sub(credit);
        if self.given == 0 {
            self.until = None;
        }
    }
}

/// Usage of a limit: pending requests, or the bytes of their bodies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub max: usize,
    pub by_all: usize,
    pub by_client: usize,
}

impl Usage {
    /// Returns how much more the client may take: each request that it takes also reduces what is
    /// free for all.
    pub fn free(self) -> usize {
        self.below_share().div_ceil(SHARE + 1)
    }

    /// Whether [`Self::free`] is more than 0, without a division.
    pub fn is_below_share(self) -> bool {
        self.below_share() > 0
    }

    /// Returns how far the client is below its share of what is free now.
    fn below_share(self) -> usize {
        SHARE.saturating_mul(self.max.saturating_sub(self.by_all)).saturating_sub(self.by_client)
    }
}

impl Broker {
    /// Subtracts what a client has submitted from its credit, if it has any.
    pub(super) fn use_credit(&mut self, number: ClientNumber, requests: usize) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let Some(credit) = &mut client.credit else { return };
        let used = (*credit).min(requests as u64);
        *credit -= used;
        if used > 0 && *credit == 0 {
            self.credit_queue.clients.push_back(number);
        }
        self.credit_queue.used(used);
    }

    /// Rejects a client's requests, whose bodies have `size` bytes on average.
    pub(super) fn reject(&mut self, number: ClientNumber, requests: Vec<RequestId>, size: usize) {
        let count = requests.len() as u64;
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.rejected_size = size;
        let (identity, before) = (client.identity.clone(), client.credit.replace(0));
        if before != Some(0) {
            self.credit_queue.used(before.unwrap_or(0));
            self.credit_queue.clients.push_back(number);
        }
        if before.is_none() {
            self.log(Event::Rejected(number, count));
        }
        self.stats.rejected += count;
        self.outputs.push_back(Output::ToClient(identity, ToClient::Rejected(requests)));
    }

    /// Takes the credit of a client back that is gone.
    pub(super) fn return_credit(&mut self, number: ClientNumber, credit: Option<u64>) {
        match credit {
            Some(0) => self.credit_queue.clients.retain(|&other| other != number),
            Some(left) => self.credit_queue.used(left),
            None => {}
        }
    }

    /// Gives credit to the clients that wait, each in turn. A client that has its share keeps
    /// waiting.
    pub(super) fn give_credit(&mut self, now: Instant) {
        if self.credit_queue.clients.is_empty()
            || self.closing
            || self.credit_queue.until.is_some_and(|until| now < until)
        {
            return;
        }
        (self.credit_queue.given, self.credit_queue.until) = (0, None);
        let Settings { max_pending, max_pending_bytes, max_client_pending, .. } = self.settings;
        let (mut pending, mut bytes) = (self.pending + self.leftovers.len(), self.bytes);
        let mut still_waiting = VecDeque::new();
        while let Some(number) = self.credit_queue.clients.pop_front() {
            let Some(client) = self.clients.get_mut(&number) else { continue };
            let size = client.rejected_size.max(1);
            let enough =
                MAX_CREDIT.min(max_pending / 16).min(max_client_pending / 16).min(max_pending_bytes / size / 16).max(1);
            let requests = Usage { max: max_pending, by_all: pending, by_client: client.account.pending }.free();
            let in_bytes = Usage { max: max_pending_bytes, by_all: bytes, by_client: client.account.bytes }.free();
            let own = max_client_pending.saturating_sub(client.account.pending);
            let credit = requests.min(in_bytes.div_ceil(size)).min(own).min(MAX_CREDIT);
            // Little credit at a time would be many messages for few requests, but a client that
            // holds nothing is not kept waiting for more.
            if credit < if client.account.pending == 0 { 1 } else { enough } {
                still_waiting.push_back(number);
                continue;
            }
            client.credit = Some(credit as u64);
            pending += credit;
            bytes = bytes.saturating_add(credit.saturating_mul(size));
            self.credit_queue.given += credit as u64;
            self.credit_queue.until = Some(now + ROUND);
            let message = ToClient::Credit { requests: credit as u64 };
            self.outputs.push_back(Output::ToClient(client.identity.clone(), message));
        }
        self.credit_queue.clients = still_waiting;
    }

    /// For [`Self::check`]: exactly the clients without credit wait for it.
    pub(super) fn check_credit_queue(&self) {
        let mut waiting: Vec<_> = self.credit_queue.clients.iter().copied().collect();
        waiting.sort_unstable();
        let without = self.clients.iter().filter(|(_, client)| client.credit == Some(0));
        let without: Vec<_> = without.map(|(number, _)| number).collect();
        assert!(self.closing || waiting == without, "{waiting:?} wait for credit, {without:?} have none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_takes_four_fifths_and_many_leave_something_free() {
        for (clients, left) in [(1, 200), (2, 111), (10, 24), (100, 2)] {
            let (max, mut held) = (1000, vec![0; clients]);
            loop {
                let before = held.clone();
                for client in 0..clients {
                    let usage = Usage { max, by_all: held.iter().sum(), by_client: held[client] };
                    held[client] += usage.free().min(1);
                }
                if held == before {
                    break;
                }
            }
            assert_eq!(max - held.iter().sum::<usize>(), left, "{clients} clients");
        }
    }

    #[test]
    fn free_is_what_can_be_taken_one_by_one() {
        for (by_all, by_client) in [(0, 0), (500, 0), (500, 500), (799, 799), (800, 800), (1000, 10), (1200, 0)] {
            let mut usage = Usage { max: 1000, by_all, by_client };
            let free = usage.free();
            assert_eq!(usage.is_below_share(), free > 0, "{by_all} {by_client}");
            let mut one_by_one = 0;
            while usage.by_all < usage.max && usage.by_client < SHARE * (usage.max - usage.by_all) {
                usage.by_all += 1;
                usage.by_client += 1;
                one_by_one += 1;
            }
            assert_eq!(free, one_by_one, "{by_all} {by_client}");
        }
    }
}
