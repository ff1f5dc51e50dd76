//! What is dealt, and that nothing is left undone when the core says that it has nothing more to
//! do.

use std::collections::BTreeMap;

use giostra_core::policy::rotation::Rotation;
use giostra_protocol::{Bytes, Priority, Status, Ticket};

use super::{Deal, Pool, Witness, Worker};
use crate::counts::Counts;
use crate::queues::Key;

impl Witness {
    pub(super) fn dispatched(&mut self, worker: u64, again: bool, suspect: bool, tickets: &[u64], keys: &[Key]) {
        assert!(!self.closing, "requests are dispatched while closing");
        assert_eq!(tickets.len(), keys.len(), "an event of dispatch has as many tickets as requests");
        let known = self.workers.get(&worker).unwrap_or_else(|| panic!("dispatch to w{worker}, which is gone"));
        assert_eq!(suspect, known.pings_out > 1, "whether w{worker} is suspect");
        let pool = self.pools.get_mut(&known.pool).expect("it joined there");
        pool.lines.push(worker);
        for (&ticket, &key) in tickets.iter().zip(keys) {
            pool.deals.push(Deal { ticket, worker, key, again, suspect });
        }
    }

    /// All outputs have been seen. `now` is the time of what was just handed in.
    pub fn settles(&mut self, now: u64, counts: &mut Counts) {
        let mut batches = BTreeMap::new();
        let mut tickets = Vec::new();
        let names: Vec<_> = self.pools.keys().cloned().collect();
        for name in names {
            let mut pool = self.pools.remove(&name).expect("it was just seen");
            self.deal(&name, &mut pool, &mut tickets, &mut batches);
            self.nothing_is_left(&name, &pool, counts);
            self.pools.insert(name, pool);
        }
        self.tickets_count_up(tickets);
        self.messages_are_what_was_dealt(&batches);
        self.replies_are_sent(now, counts);
        self.all_were_told();
        if let Some(time) = self.timeout_handled.take() {
            assert_eq!(time, now);
            self.left_behind -= self.left_before.min(self.settings.freed_at_once);
            if self.left_behind == 0 {
                self.left_behind_bytes = 0;
            }
            assert!(self.next_due().is_none_or(|due| due > now), "something was due, and was not done");
        }
        self.room_is_there();
        self.nothing_submitted_is_ignored();
        self.replies.clear();
        self.what_was_handed_back_is_taken_back();
    }

    fn what_was_handed_back_is_taken_back(&mut self) {
        for (conn, sent) in std::mem::take(&mut self.handed) {
            let Some(number) = self.worker_of.get(&conn) else { continue };
            let ticket = sent.wrapping_sub(self.settings.first_ticket);
            let holds = self.workers[number].in_flight.contains_key(&ticket);
            assert!(!holds, "w{number} handed t{ticket} back, and holds it");
        }
    }

    /// What each pool has in hand, and whom a turn waits for while others have room, once all is
    /// settled.
    pub fn compare_pools(&self, status: &Status) {
        for listed in &status.pools {
            let its = self.workers.values().filter(|worker| worker.pool == listed.name);
            let in_flight = its.map(|worker| worker.in_flight.len() as u64).sum::<u64>();
            let told = (listed.in_flight, listed.unanswered);
            assert_eq!(told, (in_flight, in_flight + listed.pending), "in flight in pool {}", listed.name);
        }
        for listed in status.pools.iter().filter(|_| !self.closing) {
            let pool = &self.pools[&listed.name];
            let upcoming = pool.seats.upcoming();
            let stands = pool.queues.len() > 0 && self.turn(pool).is_none();
            let others = upcoming.iter().any(|&seat| self.seat_has_room(pool, seat));
            let waits = stands && others && self.settings.rotation == Rotation::Strict;
            assert_eq!(listed.waits_for, upcoming.first().copied().filter(|_| waits), "{}", listed.name);
        }
    }

    /// But for those that wait for company, for a while.
    fn replies_are_sent(&mut self, now: u64, counts: &mut Counts) {
        let hold = self.settings.coalesce.as_micros() as u64;
        for (number, client) in &mut self.clients {
            if client.owed.is_empty() {
                client.hold_until = None;
                continue;
            }
            let of_client = self.requests.iter().filter(|((of, _), _)| of == number);
            let in_flight = of_client.filter(|(_, request)| request.held_by.is_some()).count();
            let until = *client.hold_until.get_or_insert(now + hold);
            let few = client.owed.len() < 8 * in_flight;
            assert!(few && now < until && !self.closing, "c{number} was not sent its replies");
            counts.count("replies-held-back");
        }
    }

    fn all_were_told(&mut self) {
        assert!(self.goodbyes.is_empty(), "a worker has left and was not told");
        assert!(self.cancels.is_empty(), "workers were not told of what is not wanted: {:?}", self.cancels);
        assert!(self.welcomes.is_empty(), "not welcomed: {:?}", self.welcomes);
        assert!(self.closings.is_empty(), "not told of the closing: {:?}", self.closings);
        let untold = self.parting.keys().find(|conn| !self.told_goodbye.contains(conn));
        assert!(untold.is_none(), "{untold:?} has left and was not said goodbye to");
        for conn in std::mem::take(&mut self.spoke) {
            let known = self.worker_of.contains_key(&conn) || self.asked_to_register.contains(&conn);
            assert!(known || self.gone.contains(&conn), "{conn} was not asked to register");
        }
        for conn in std::mem::take(&mut self.spoke_as_client) {
            let known = [self.client_of.contains_key(&conn), self.told_goodbye.contains(&conn)].contains(&true)
                || self.asked_to_hello.contains(&conn);
            assert!(known || self.gone.contains(&conn), "{conn} was not asked to say hello");
        }
        for conn in self.gone.drain(..) {
            let stays = self.worker_of.contains_key(&conn) || self.client_of.contains_key(&conn);
            assert!(!stays, "{conn} is gone, and the broker was told");
        }
    }

    /// Deals a second time what the events say was dealt.
    fn deal(
        &mut self,
        name: &str,
        pool: &mut Pool,
        all_tickets: &mut Vec<u64>,
        batches: &mut BTreeMap<u64, Vec<(Priority, Ticket, Bytes)>>,
    ) {
        let upcoming = pool.seats.upcoming();
        let mut deals = std::mem::take(&mut pool.deals);
        deals.sort_unstable_by_key(|deal| deal.ticket);
        let lines = std::mem::take(&mut pool.lines);
        if self.settings.rotation == Rotation::Strict {
            let expected = upcoming.iter().cycle();
            assert!(lines.iter().zip(expected).all(|(a, b)| a == b), "{name}: {lines:?} do not go round {upcoming:?}");
        }
        for Deal { ticket, worker, key, again, suspect } in deals {
            let turn = self.turn(pool);
            assert_eq!(turn, Some(worker), "{name}: t{ticket} goes to w{worker} out of turn");
            let next = pool.queues.next();
            assert_eq!(next, Some((key, again)), "{name}: the request dispatched as t{ticket} is not the next");
            self.windows_were_told(pool, worker);
            pool.seats.turn(worker);

            let request = self.requests.get_mut(&key).expect("what is pending is held");
            assert!(request.lost.len() < self.settings.max_attempts as usize, "{key:?} ought to have been given up");
            let alone = !request.lost.is_empty() && request.lost.len() + 1 == self.settings.max_attempts as usize;
            request.attempts += 1;
            request.order.get_or_insert(ticket);
            (request.held_by, request.suspect) = (Some((worker, ticket)), suspect);
            let sent = Ticket(self.settings.first_ticket.wrapping_add(ticket));
            batches.entry(worker).or_default().push((request.priority, sent, request.body.clone()));
            let holder = self.workers.get_mut(&worker).expect("its turn was next");
            holder.in_flight.insert(ticket, (key, true));
            holder.alone = alone;
            let (held, logged) = (holder.in_flight.len(), holder.window_logged);
            assert!(held <= logged, "w{worker} holds {held}, and the log says that its window is {logged}");
            all_tickets.push(ticket);
            self.totals.dispatched += 1;
            self.totals.redispatched += u64::from(again);
        }
    }

    /// Checks that the log has the window of each worker that is passed over, which is full.
    fn windows_were_told(&self, pool: &Pool, worker: u64) {
        for seat in pool.seats.upcoming().into_iter().take_while(|&seat| seat != worker) {
            let passed = &self.workers[&seat];
            let (now, logged) = (passed.window_now, passed.window_logged);
            let full = passed.in_flight.len() >= now;
            assert!(!full || now == logged, "w{seat} is passed over for a window of {now}, and the log says {logged}");
        }
    }

    /// Returns the worker that is to get the next request, if one has room.
    fn turn(&self, pool: &Pool) -> Option<u64> {
        let asked = match self.settings.rotation {
            Rotation::Strict => 1,
            Rotation::Available => usize::MAX,
        };
        pool.seats.upcoming().into_iter().take(asked).find(|&seat| self.seat_has_room(pool, seat))
    }

    /// Whether this seat may be dealt the next request.
    fn seat_has_room(&self, pool: &Pool, seat: u64) -> bool {
        // A request before its last attempt goes to a worker that holds nothing else.
        let lost = pool.queues.first_returned().map_or(0, |key| self.requests[&key].lost.len());
        let alone = lost > 0 && lost + 1 == self.settings.max_attempts as usize;
        let worker = &self.workers[&seat];
        let alone_there = worker.alone && !worker.in_flight.is_empty();
        worker.in_flight.len() < if alone { 1 } else { self.window_for_next(pool, worker) } && !alone_there
    }

    /// How many requests the worker may hold for the next one to be dealt to it: with strict rotation,
    /// a quarter of the window is not for those that can wait.
    fn window_for_next(&self, pool: &Pool, worker: &Worker) -> usize {
        let now = worker.window_now;
        let can_wait = match pool.queues.first_returned() {
            Some(key) => self.requests[&key].priority == Priority::Low,
            None => pool.queues.can_wait(),
        };
        if !can_wait || self.settings.rotation != Rotation::Strict {
            return now;
        }
        now.saturating_sub((now / 4).max(1)).max(self.share_of(worker).0.max(1)).min(now)
    }

    fn nothing_is_left(&self, name: &str, pool: &Pool, counts: &mut Counts) {
        if pool.queues.len() == 0 || self.closing {
            return;
        }
        assert_eq!(self.turn(pool), None, "{name}: requests wait for a worker that has room");
        if pool.seats.len() > 0 {
            counts.count("turn-of-a-full-seat");
        }
    }

    fn tickets_count_up(&mut self, mut tickets: Vec<u64>) {
        tickets.sort_unstable();
        for ticket in tickets {
            self.last_ticket += 1;
            assert_eq!(ticket, self.last_ticket, "tickets count up by one");
        }
    }

    /// Each worker that was dealt to gets all of it, in one message unless the priority changes.
    fn messages_are_what_was_dealt(&mut self, batches: &BTreeMap<u64, Vec<(Priority, Ticket, Bytes)>>) {
        let dispatches = std::mem::take(&mut self.dispatches);
        let mut sent: BTreeMap<u64, Vec<(Priority, Ticket, Bytes)>> = BTreeMap::new();
        for (conn, priority, requests) in dispatches {
            let worker = self.worker_of.get(&conn).unwrap_or_else(|| panic!("dispatch to {conn}, which is gone"));
            let sent = sent.entry(*worker).or_default();
            assert_ne!(sent.last().map(|&(before, ..)| before), Some(priority), "two messages to w{worker} for one");
            sent.extend(requests.into_iter().map(|(ticket, body)| (priority, ticket, body)));
        }
        assert_eq!(&sent, batches, "what workers were sent is not what they were dealt");
    }
}
