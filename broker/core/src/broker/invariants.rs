//! The self-check of the broker's tables.

use std::collections::BTreeMap;

use super::Broker;
use super::records::{Flight, State};
use crate::ids::ClientNumber;
use crate::tables::pending::Place;

impl Broker {
    /// Panics if the tables contradict each other. Walks through all of them, for tests after each
    /// step.
    ///
    /// Valid when [`Self::poll_output`] has nothing more.
    pub fn check(&self) {
        let mut in_flight = 0;
        let mut unread: BTreeMap<ClientNumber, usize> = BTreeMap::new();
        for (number, worker) in self.workers.iter() {
            assert_eq!(self.workers.find(&worker.identity), Some(number));
            assert!(self.pings.contains(&(worker.liveness.due(), number)), "{number} is never pinged");
            assert!(worker.in_flight.len() <= worker.window.most(), "{number} has more than its window");
            assert!(
                !worker.in_quarantine || worker.in_flight.len() == 1,
                "{number} has {} alone",
                worker.in_flight.len()
            );
            assert!(worker.batch.is_empty(), "{number} was not sent what it was dealt");
            let seated = self.pools[worker.pool.0].ring.seats().iter().filter(|&&seat| seat == number).count();
            assert_eq!(seated, usize::from(worker.is_seated()), "{number} has {seated} seats");
            let mut unwanted = 0;
            for flight in worker.in_flight.iter() {
                let key = match *flight {
                    Flight::Wanted(key) => key,
                    Flight::Unwanted(client, _, bytes) => {
                        unwanted += bytes as usize;
                        *unread.entry(client).or_default() += bytes as usize;
                        continue;
                    }
                };
                let state = self.requests[key.at()].state;
                assert!(matches!(state, State::InFlight { worker, .. } if worker == number), "{state:?}");
                in_flight += 1;
            }
            assert_eq!(worker.unwanted_bytes, unwanted, "{number} holds more or less for nobody");
        }
        assert_eq!(self.pings.len(), self.workers.len());
        let open = self.requests.len() - self.leftovers.len();
        assert_eq!(open, self.pending + in_flight, "a request is neither pending nor in flight");

        let totals = self.totals();
        let ended = totals.answered + totals.expired + totals.poisoned + totals.cancelled;
        assert_eq!(totals.accepted, ended + open as u64, "requests were accepted that neither ended nor are open");

        let mut held = 0;
        for (number, client) in self.clients.iter() {
            assert_eq!(self.clients.find(&client.identity), Some(number));
            let held_back = client.held_back_until.is_some() && self.touched_clients.contains(&number);
            assert!(client.replies.is_empty() || held_back, "{number} was not sent its replies");
            let (mut pending, mut bytes) = (0, 0);
            for key in client.unanswered.keys() {
                let request = &self.requests[key.at()];
                assert_eq!((request.client, client.unanswered.get(request.id)), (number, Some(key)));
                held += 1;
                pending += usize::from(matches!(request.state, State::Pending(_)));
                bytes += request.body.len();
            }
            let bytes = bytes + unread.remove(&number).unwrap_or(0);
            assert_eq!((client.pending, client.bytes), (pending, bytes), "{number} holds more or less than that");
            let made = self.pools.iter().filter(|(_, pool)| pool.maker == Some(number)).count();
            assert_eq!(client.pools, made, "{number} has made more or fewer pools");
        }
        // The leftovers belong to clients that are gone.
        let leftovers = self.leftovers.keys().map(|key| self.requests[key.at()].body.len());
        let bytes = self.clients.values().map(|client| client.bytes).chain(unread.into_values()).chain(leftovers);
        assert_eq!(self.bytes, bytes.sum::<usize>());
        assert_eq!(self.leftovers.keys().count(), self.leftovers.len());
        self.check_credit_queue();
        assert_eq!(held, open, "a request belongs to no client");

        let limited = self.requests.iter().filter(|(_, request)| request.deadline().is_some()).count();
        assert_eq!(self.deadlines.len(), limited);
        assert_eq!(self.pools.iter().map(|(_, pool)| pool.pending.len()).sum::<usize>(), self.pending);
        assert_eq!(self.pools.len(), self.pool_of.len());
        for (key, pool) in &self.pools {
            assert!(pool.workers > 0 || !pool.pending.is_empty(), "pool {} is empty", pool.name);
            let workers = || self.workers.values().filter(|worker| worker.pool.0 == key);
            let unable = workers().filter(|worker| worker.unable.is_some() && !worker.leaving).count();
            assert_eq!((pool.workers, pool.unable), (workers().count(), unable), "workers of pool {}", pool.name);
            let first = pool.pending.first_returned();
            let quarantine =
                first.is_some_and(|key| self.requests[key.at()].needs_quarantine(self.settings.max_attempts));
            let room = pool.ring.seats().iter().all(|seat| self.workers[seat].has_room(quarantine));
            let idle = !pool.ring.seats().is_empty() && room && !self.closing;
            assert!(
                !idle || !pool.pending.has_next(),
                "requests wait in pool {} though all its workers have room",
                pool.name
            );
        }
        let returned = self.requests.iter().filter(|(_, request)| request.lost() > 0);
        for (_, request) in returned {
            assert!(!matches!(request.state, State::Pending(Place::Fresh(_))), "a returned request lost its place");
        }
        self.check_evidence();
    }
}
