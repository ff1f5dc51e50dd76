//! The self-check of the broker's tables.

use std::collections::BTreeMap;

use super::Broker;
use super::records::{Account, Flight, State};
use crate::ids::Source;
use crate::tables::pending::Place;

impl Broker {
    /// Panics if the tables contradict each other. Walks through all of them, for tests after each
    /// step.
    ///
    /// Valid when [`Self::poll_output`] has nothing more.
    pub fn check(&self) {
        let mut unread = BTreeMap::new();
        let in_flight = self.check_workers(&mut unread);
        let open = self.requests.len() - self.leftovers.len();
        assert_eq!(open, self.pending + in_flight, "a request is neither pending nor in flight");
        let totals = self.totals();
        let ended = totals.answered + totals.expired + totals.poisoned + totals.cancelled;
        assert_eq!(totals.accepted, ended + open as u64, "requests were accepted that neither ended nor are open");

        assert_eq!(self.check_clients(&mut unread), open, "a request belongs to no client");
        // The leftovers belong to clients that are gone.
        let leftovers = self.leftovers.keys().map(|key| self.requests[key.at()].body.len());
        let accounts = self.clients.values().map(|client| &client.account);
        let accounts = accounts.chain(self.jobs.accounts().map(|(_, account)| account));
        let bytes = accounts.map(|account| account.bytes).chain(unread.into_values()).chain(leftovers);
        assert_eq!(self.bytes, bytes.sum::<usize>());
        assert_eq!(self.leftovers.keys().count(), self.leftovers.len());
        self.check_credit_queue();

        let limited = self.requests.iter().filter(|(_, request)| request.deadline().is_some()).count();
        assert_eq!(self.deadlines.len(), limited);
        self.check_pools();
        for (_, request) in self.requests.iter().filter(|(_, request)| request.lost() > 0) {
            assert!(!matches!(request.state, State::Pending(Place::Fresh(..))), "a returned request lost its place");
        }
        self.check_evidence();
    }

    /// Returns the number of wanted requests in flight. Adds the bytes of unwanted bodies that
    /// workers have not read, by client.
    fn check_workers(&self, unread: &mut BTreeMap<Source, usize>) -> usize {
        let mut in_flight = 0;
        for (number, worker) in self.workers.iter() {
            assert_eq!(self.workers.find(&worker.identity), Some(number));
            assert!(self.pings.contains(&(worker.liveness.due(), number)), "{number} is never pinged");
            let held = worker.in_flight.len();
            assert!(held <= worker.window.max(), "{number} has more than its window");
            assert!(!worker.in_quarantine || held == 1, "{number} has {held} requests in quarantine");
            assert!(worker.batch.is_empty(), "{number} was not sent what it was dealt");
            let seats = self.pools[worker.pool.0].ring.seats().iter().filter(|&&seat| seat == number).count();
            assert_eq!(seats, usize::from(worker.is_seated()), "{number} has {seats} seats");
            let mut unwanted = 0;
            for flight in worker.in_flight.iter() {
                match *flight {
                    Flight::Wanted(key) => {
                        let state = self.requests[key.at()].state;
                        let is_here = matches!(state, State::InFlight { worker, .. } if worker == number);
                        assert!(is_here, "{number} holds a request in state {state:?}");
                        in_flight += 1;
                    }
                    Flight::Unwanted(client, _, bytes) => {
                        unwanted += bytes as usize;
                        *unread.entry(client).or_default() += bytes as usize;
                    }
                }
            }
            assert_eq!(worker.unwanted_bytes, unwanted, "bytes of unwanted bodies at {number}");
        }
        assert_eq!(self.pings.len(), self.workers.len());
        in_flight
    }

    /// Returns the number of unanswered requests. Removes the clients that are still there, and the
    /// jobs, from `unread`.
    fn check_clients(&self, unread: &mut BTreeMap<Source, usize>) -> usize {
        let mut unanswered = 0;
        for (number, client) in self.clients.iter() {
            assert_eq!(self.clients.find(&client.identity), Some(number));
            let held_back = client.held_back_until.is_some() && self.touched_clients.contains(&number);
            assert!(client.account.replies.is_empty() || held_back, "{number} was not sent its replies");
            unanswered += self.check_account(number.into(), &client.account, unread);
            let made = self.pools.iter().filter(|(_, pool)| pool.maker == Some(number)).count();
            assert_eq!(client.pools, made, "pools that {number} has made");
        }
        for (source, account) in self.jobs.accounts() {
            assert!(account.replies.is_empty(), "results of {source} were not stored");
            unanswered += self.check_account(source, account, unread);
        }
        self.jobs.check();
        unanswered
    }

    fn check_account(&self, source: Source, account: &Account, unread: &mut BTreeMap<Source, usize>) -> usize {
        let (mut pending, mut bytes) = (0, unread.remove(&source).unwrap_or(0));
        for key in account.unanswered.keys() {
            let request = &self.requests[key.at()];
            assert_eq!((request.source, account.unanswered.get(request.id)), (source, Some(key)));
            pending += usize::from(matches!(request.state, State::Pending(_)));
            bytes += request.body.len();
        }
        assert_eq!((account.pending, account.bytes), (pending, bytes), "pending requests and bytes of {source}");
        account.unanswered.len()
    }

    fn check_pools(&self) {
        assert_eq!(self.pools.iter().map(|(_, pool)| pool.pending.len()).sum::<usize>(), self.pending);
        assert_eq!(self.pools.len(), self.pool_of.len());
        for (key, pool) in &self.pools {
            let name = &pool.name;
            assert!(pool.workers > 0 || !pool.pending.is_empty(), "pool {name} is empty");
            let workers = || self.workers.values().filter(|worker| worker.pool.0 == key);
            let unable = workers().filter(|worker| worker.unable.is_some() && !worker.leaving).count();
            assert_eq!((pool.workers, pool.unable), (workers().count(), unable), "workers of pool {name}");
            let next = pool.next(&self.requests, &self.settings);
            let seats = pool.ring.seats();
            let has_room = !seats.is_empty() && seats.iter().all(|seat| self.workers[seat].has_room(next));
            let is_waiting = pool.pending.has_next() && !self.closing;
            assert!(!has_room || !is_waiting, "requests wait in pool {name} though all its workers have room");
        }
    }
}
