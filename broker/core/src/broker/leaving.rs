//! Clients that leave, and the requests that they leave behind.
//!
//! A client is gone at once: its requests are no longer dispatched, count as cancelled, and have
//! one line in the log. Removing a million of them from the tables takes longer than other peers
//! should wait. There may be that many requests that were never dispatched. So these are cut off
//! from their pools' queues as a whole, and then removed some at a time in
//! [`Broker::handle_timeout`]. Requests in flight are bounded by the workers' windows, and are
//! removed at once.

use std::collections::VecDeque;

use super::records::{Account, Flight, State, Unlogged};
use super::{Broker, PoolKey};
use crate::event::Event;
use crate::ids::{ClientNumber, RequestKey, Source};
use crate::tables::unanswered::Unanswered;

/// A client with more than this part of
/// [`Settings::freed_at_once`](crate::config::Settings::freed_at_once) leaves in parts. For fewer
/// requests, removing them one by one costs less than looking into every pool.
const FEW: usize = 16;

/// The requests that clients have left behind, which are in no queue and at no worker.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// By client; none is empty.
    clients: VecDeque<Unanswered>,
    requests: usize,
}

impl Leftovers {
    /// Returns the number of requests.
    pub(super) fn len(&self) -> usize {
        self.requests
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    fn add(&mut self, unanswered: Unanswered) {
        if unanswered.len() > 0 {
            self.requests += unanswered.len();
            self.clients.push_back(unanswered);
        }
    }

    fn pop(&mut self) -> Option<RequestKey> {
        let unanswered = self.clients.front_mut()?;
        let key = unanswered.pop()?;
        if unanswered.len() == 0 {
            self.clients.pop_front();
        }
        self.requests -= 1;
        Some(key)
    }

    /// Iterates over the requests' keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = RequestKey> {
        self.clients.iter().flat_map(Unanswered::keys)
    }
}

impl Broker {
    pub(super) fn client_leaves(&mut self, number: ClientNumber, reason: &'static str) {
        let account = &self.clients[&number].account;
        let (cancelled, unwanted) = (account.pending as u64, (account.unanswered.len() - account.pending) as u64);
        self.forget_all(number.into());
        let client = self.clients.remove(number, |client| &client.identity);
        self.leave_behind(client.account.unanswered);
        self.return_credit(number, client.credit);
        let Unlogged { stale, no_worker } = client.unlogged;
        for (count, event) in [(stale, Event::Stale(number, stale)), (no_worker, Event::NoWorker(number, no_worker))] {
            if count > 0 {
                self.log(event);
            }
        }
        let clients = self.clients.len();
        self.log(Event::ClientLeft { client: number, reason, cancelled, unwanted, clients });
    }

    /// Cancels all requests of a client or a job. Those that are left in its account are in no queue
    /// and at no worker; pass them to [`Self::leave_behind`].
    pub(super) fn forget_all(&mut self, source: Source) {
        let few = self.settings.freed_at_once / FEW;
        let Some(Account { unanswered, .. }) = self.account(source) else { return };
        let few = unanswered.len() <= few;
        // In the order of their numbers, so that nothing depends on a hash map's order.
        let keys: Vec<_> = if few { unanswered.keys().collect() } else { self.cut_off(source) };
        for key in keys {
            self.forget(key);
        }
    }

    /// Has requests removed from the tables later, some at a time.
    pub(super) fn leave_behind(&mut self, unanswered: Unanswered) {
        self.leftovers.add(unanswered);
    }

    /// Removes the requests of a client or a job that were never dispatched from their pools'
    /// queues. Returns the others.
    fn cut_off(&mut self, source: Source) -> Vec<RequestKey> {
        let (mut touched, mut count) = (Vec::new(), 0);
        for (place, pool) in &mut self.pools {
            let fresh = pool.pending.cut_off(source);
            if fresh > 0 {
                pool.counters.cancelled += fresh as u64;
                touched.push(PoolKey(place));
                count += fresh;
            }
        }
        self.work += self.pools.len() / FEW;
        for pool in touched {
            self.touch_pool(pool);
        }
        self.pending -= count;
        let account = self.account(source).expect("it was just looked at");
        account.pending -= count;
        let (returned, in_flight) = (account.pending, account.unanswered.len() - count - account.pending);
        let is_its = |key: &RequestKey| self.requests[key.at()].source == source;
        let mut others = Vec::with_capacity(returned + in_flight);
        if returned > 0 {
            others.extend(self.pools.iter().flat_map(|(_, pool)| pool.pending.given_back()).filter(is_its));
        }
        if in_flight > 0 {
            let flights = self.workers.values().flat_map(|worker| worker.in_flight.iter());
            let wanted = flights.filter_map(|flight| match *flight {
                Flight::Wanted(key) => Some(key),
                Flight::Unwanted(..) => None,
            });
            others.extend(wanted.filter(is_its));
        }
        debug_assert_eq!(others.len(), returned + in_flight);
        others
    }

    /// Removes some of the leftovers from the tables.
    pub(super) fn free_leftovers(&mut self) {
        for _ in 0..self.settings.freed_at_once {
            let Some(key) = self.leftovers.pop() else { break };
            let request = self.requests.remove(key.at());
            debug_assert!(matches!(request.state, State::Pending(_)) && request.lost.is_none());
            if let Some(deadline) = request.deadline() {
                self.deadlines.remove(&(deadline, key));
            }
            self.bytes -= request.body.len();
        }
    }
}
