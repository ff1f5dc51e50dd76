//! What becomes of requests: accepted, then exactly one of replied, expired, poisoned and
//! cancelled.

use giostra_protocol::{Outcome, Priority, Reply, RequestId, code};

use super::{Owed, Request, Submit, Why, Witness};
use crate::network::Conn;
use crate::plan::MS;
use crate::queues::Key;

/// What is taken up, of all room and by one client.
#[derive(Default)]
struct Taken {
    pending: usize,
    bytes: usize,
    client_pending: usize,
    client_bytes: usize,
}

impl Taken {
    fn add(&mut self, by_client: bool, pending: bool, bytes: usize) {
        self.pending += usize::from(pending);
        self.bytes += bytes;
        if by_client {
            self.client_pending += usize::from(pending);
            self.client_bytes += bytes;
        }
    }
}

impl Witness {
    pub(super) fn accepted(&mut self, keys: &[Key], pool: &str, priority: Priority, now: u64) {
        assert!(!self.closing, "requests are accepted while closing");
        let client = keys[0].0;
        let session = self.clients[&client].session;
        let conn = self.clients[&client].conn.expect("it was welcomed");
        let ids: Vec<_> = keys.iter().map(|&(_, id)| id).collect();
        let submit = self.submit_of(conn, session, &ids);
        self.taken.insert(conn, submit.bodies.keys().copied().collect());
        assert_eq!((&*submit.pool, submit.priority), (pool, priority));
        assert!(submit.wait || self.has_workers(pool), "{keys:?} wait for a worker");
        self.totals.accepted += keys.len() as u64;
        let mut taken = self.taken_room(client);
        for &key in keys {
            assert!(self.has_room(&taken), "{key:?} is accepted although there is no room");
            taken.add(true, true, submit.bodies[&key.1].len());
            self.taken_up.insert(key);
            let request = Request {
                pool: pool.into(),
                priority,
                body: submit.bodies[&key.1].clone(),
                accepted: now,
                deadline: (submit.timeout_ms > 0).then_some(now + submit.timeout_ms * MS),
                attempts: 0,
                lost: Vec::new(),
                suspended_until: None,
                order: None,
                held_by: None,
                suspect: false,
            };
            assert!(self.requests.insert(key, request).is_none(), "{key:?} is accepted although it is held");
            self.pools.entry(pool.into()).or_default().queues.accept(key, priority);
        }
    }

    /// The next submit with these ids. Those before it asked only for what was held already, or
    /// over an earlier connection.
    fn submit_of(&mut self, conn: Conn, session: u64, ids: &[u64]) -> Submit {
        let submits = self.submits.get_mut(&conn).unwrap_or_else(|| panic!("{conn} submitted nothing"));
        loop {
            let submit = submits.pop_front().unwrap_or_else(|| panic!("{conn} did not submit {ids:?}"));
            if submit.session == session && ids.iter().all(|id| submit.bodies.contains_key(id)) {
                return submit;
            }
        }
    }

    /// What is taken up of the room that there is.
    fn taken_room(&self, client: u64) -> Taken {
        let mut taken = Taken::default();
        for (&(of, _), request) in &self.requests {
            taken.add(of == client, request.held_by.is_none(), request.body.len());
        }
        taken
    }

    /// The same with all that nobody waits for any more: what of it its workers have read takes no
    /// room, nor what clients have left behind and is out of the tables by now.
    fn taken_room_at_most(&self, client: u64) -> Taken {
        let mut taken = self.taken_room(client);
        taken.pending += self.left_behind;
        taken.bytes += self.left_behind_bytes;
        for (&(worker, ticket), &(of, bytes)) in &self.unwanted {
            let is_held = self.workers.get(&worker).is_some_and(|known| known.in_flight.contains_key(&ticket));
            if is_held {
                taken.add(of == client, false, bytes);
            }
        }
        taken
    }

    /// Whether one more request of this client is to be accepted: it may hold four times what is
    /// free, and no more than that.
    fn has_room(&self, taken: &Taken) -> bool {
        let may = |most: usize, all: usize, client: usize| all < most && client < 4 * (most - all);
        may(self.settings.max_pending, taken.pending, taken.client_pending)
            && may(self.settings.max_pending_bytes, taken.bytes, taken.client_bytes)
            && taken.client_pending < self.settings.max_client_pending
    }

    pub(super) fn nobody(&mut self, conn: Conn, pool: &str, pools: &[String], ids: &[RequestId]) {
        let number = self.client_of[&conn];
        assert!(!self.closing && !ids.is_empty());
        let names: Vec<_> = self.pools.keys().filter(|name| self.has_workers(name)).collect();
        assert_eq!(pools.iter().collect::<Vec<_>>(), names, "the pools that have workers");
        assert!(!pools.iter().any(|name| name == pool), "{pool} has workers");
        let numbers: Vec<_> = ids.iter().map(|id| id.0).collect();
        let submit = self.submit_of(conn, self.clients[&number].session, &numbers);
        assert!(!submit.wait && submit.pool == pool, "{ids:?} were to wait, or for others");
        for id in numbers {
            assert!(!self.requests.contains_key(&(number, id)), "{id} is turned away and held");
            self.taken_up.insert((number, id));
        }
    }

    /// The progress of requests goes to their clients while a worker holds them.
    pub(super) fn progress(&self, conn: Conn, ids: impl Iterator<Item = RequestId>) {
        for id in ids {
            let request = self.requests.get(&(self.client_of[&conn], id.0));
            assert!(request.is_some_and(|request| request.held_by.is_some()), "progress of {id:?}, which is not held");
        }
    }

    pub(super) fn rejected(&mut self, conn: Conn, ids: &[RequestId]) {
        let number = self.client_of[&conn];
        assert!(
            !ids.is_empty() && !self.has_room(&self.taken_room_at_most(number)),
            "c{number} is turned away although there is room"
        );
        self.clients.get_mut(&number).expect("it is known").rejected = true;
        self.totals.rejected += ids.len() as u64;
        // The rest of one of which some were accepted, or all of the next.
        let numbers: Vec<_> = ids.iter().map(|id| id.0).collect();
        let taken = self.taken.remove(&conn).unwrap_or_default();
        if !numbers.iter().all(|id| taken.contains(id)) {
            let session = self.clients[&number].session;
            self.submit_of(conn, session, &numbers);
        }
        for id in ids {
            let key = (number, id.0);
            assert!(!self.requests.contains_key(&key), "{key:?} is turned away and held");
            self.taken_up.insert(key);
        }
    }

    /// Room was given where there is some, after all that could be dispatched was dispatched.
    pub(super) fn room_is_there(&mut self) {
        let mut given = 0;
        for (number, requests) in std::mem::take(&mut self.credits) {
            assert!(self.clients[&number].rejected, "c{number} is given room, but was never turned away");
            assert!(
                requests > 0 && self.has_room(&self.taken_room(number)),
                "c{number} is given room where there is none"
            );
            let pending = self.taken_room(number).client_pending;
            assert!(
                requests as usize <= self.settings.max_client_pending - pending,
                "c{number} has {pending} pending and is given room for {requests}"
            );
            given += requests as usize;
        }
        let free = self.settings.max_pending.saturating_sub(self.pending());
        assert!(given <= free, "room for {given} requests is given, and there is room for {free}");
    }

    /// Whatever a known client submitted is held, or was rejected by name.
    pub(super) fn nothing_submitted_is_ignored(&mut self) {
        for (conn, session, id) in std::mem::take(&mut self.submitted) {
            let Some(number) = self.client_of.get(&conn).filter(|_| !self.closing) else { continue };
            let key = (*number, id);
            let known = [&self.taken_up, &self.ended].iter().any(|keys| keys.contains(&key));
            let known = known || self.requests.contains_key(&key);
            assert!(known || self.clients[number].session != session, "{key:?} was submitted and ignored");
        }
        self.submits.clear();
        self.taken.clear();
        self.taken_up.clear();
        self.ended.clear();
    }

    pub(super) fn replied(&mut self, worker: u64, errors: bool, keys: &[Key], now: u64) {
        self.totals.answered += keys.len() as u64;
        for &key in keys {
            let known = &self.workers[&worker];
            let conn = known.conn.expect("it was welcomed");
            let held_by = self.requests.get(&key).and_then(|request| request.held_by);
            let Some((_, ticket)) = held_by.filter(|&(holder, _)| holder == worker) else {
                panic!("a reply of w{worker} to {key:?} counts, but that is held by {held_by:?}");
            };
            let ticket_sent = self.settings.first_ticket.wrapping_add(ticket);
            let outcome = self.replies.get(&(conn, ticket_sent)).cloned();
            let outcome = outcome.unwrap_or_else(|| panic!("w{worker} did not reply to {key:?}"));
            assert_eq!(errors, matches!(outcome, Outcome::Error(_)), "an error is a result to the log, or vice versa");
            let name = known.name.clone();
            self.workers.get_mut(&worker).expect("it was just seen").in_flight.remove(&ticket);
            self.ends_with(key, Why::Replied(outcome), name, now);
        }
    }

    pub(super) fn discarded(&mut self, worker: Option<u64>, keys: &[Key], late: u64) {
        self.totals.discarded += keys.len() as u64 + late;
        if let Some(worker) = worker {
            self.workers.get_mut(&worker).expect("it is registered").discarded += keys.len() as u64 + late;
        }
        for key in keys {
            let number = worker.expect("only of a worker it is known what it was asked");
            let known = self.workers.get_mut(&number).expect("it is registered");
            let conn = known.conn.expect("it was welcomed");
            // A client may have cancelled it, and have sent it again: which of its tickets, only
            // the reply can tell.
            let mut replied = known.in_flight.iter().filter(|(ticket, flight)| {
                let ticket = self.settings.first_ticket.wrapping_add(**ticket);
                let came_back = self.replies.contains_key(&(conn, ticket)) || self.handed.contains(&(conn, ticket));
                **flight == (*key, false) && came_back
            });
            let ticket = replied.next().map(|(&ticket, _)| ticket);
            let ticket = ticket.unwrap_or_else(|| panic!("w{number} did not reply to an unwanted {key:?}"));
            known.in_flight.remove(&ticket);
        }
    }

    pub(super) fn expired(&mut self, keys: &[Key], now: u64) {
        self.totals.expired += keys.len() as u64;
        for &key in keys {
            let request = &self.requests[&key];
            let deadline = request.deadline.unwrap_or_else(|| panic!("{key:?} has expired without a time limit"));
            assert!(deadline <= now, "{key:?} has expired {} us before its time", deadline - now);
            let holder = request.held_by.map_or_else(String::new, |(worker, _)| self.workers[&worker].name.clone());
            self.unwanted_or_not_pending(key);
            self.ends_with(key, Why::Expired, holder, now);
        }
    }

    pub(super) fn poisoned(&mut self, keys: &[Key], workers: Vec<String>, now: u64) {
        self.totals.poisoned += keys.len() as u64;
        let [key] = *keys else { panic!("one poisoned request an event") };
        let request = &self.requests[&key];
        assert_eq!(request.lost.len(), self.settings.max_attempts as usize, "{key:?} is given up: {workers:?}");
        let lost: Vec<_> = request.lost.iter().map(|lost| lost.name.clone()).collect();
        assert_eq!(lost, workers, "the workers that {key:?} was lost with");
        assert!(!self.orderly, "{key:?} is given up, and nothing was lost but in order");
        let due = request.suspended_until;
        assert!(due.is_none_or(|due| due <= now), "{key:?} is given up before its worker could come back");
        assert_eq!(due.is_none(), request.lost.last().is_some_and(|lost| lost.process == 0), "{key:?} waits, or not");
        self.unwanted_or_not_pending(key);
        self.ends_with(key, Why::Poisoned(workers), String::new(), now);
    }

    pub(super) fn cancelled(&mut self, keys: &[Key]) {
        self.totals.cancelled += keys.len() as u64;
        for key in keys {
            self.unwanted_or_not_pending(*key);
            self.requests.remove(key);
            self.ended.insert(*key);
        }
    }

    pub(super) fn client_left(&mut self, number: u64, cancelled: u64, unwanted: u64) {
        let client = self.clients.remove(&number).unwrap_or_else(|| panic!("c{number} left, but was not here"));
        self.client_of.remove(&client.conn.expect("it was welcomed"));
        let keys: Vec<_> = self.requests.range((number, 0)..=(number, u64::MAX)).map(|(&key, _)| key).collect();
        let pending = keys.iter().filter(|key| self.requests[key].held_by.is_none()).count() as u64;
        assert_eq!((cancelled, unwanted), (pending, keys.len() as u64 - pending), "requests of c{number} that left");
        self.left_behind += keys.len();
        self.left_behind_bytes += keys.iter().map(|key| self.requests[key].body.len()).sum::<usize>();
        self.cancelled(&keys);
    }

    /// A client leaves because the broker closes: it was answered, and is owed nothing more.
    pub(super) fn parts(&mut self, number: u64, unwanted: u64) {
        let client = &self.clients[&number];
        assert!(self.closing && client.answered > 0 && client.owed.is_empty() && unwanted == 0, "c{number} parts");
        self.parting.insert(client.conn.expect("it was welcomed"), number);
    }

    /// Whom the broker is to wait for, besides the workers: those that were answered, and have not
    /// said that they read it.
    pub fn may_finish(&self) -> bool {
        let answered = self.clients.values().any(|client| client.answered > 0);
        !answered && self.parting.is_empty()
    }

    /// The request is no longer wanted: it is dispatched no more, or its reply will be discarded.
    fn unwanted_or_not_pending(&mut self, key: Key) {
        let request = self.requests.get(&key).unwrap_or_else(|| panic!("{key:?} ends, but is not held"));
        match request.held_by {
            Some((worker, ticket)) => {
                let known = self.workers.get_mut(&worker).expect("a holder is registered");
                known.in_flight.insert(ticket, (key, false));
                self.unwanted.insert((worker, ticket), (key.0, request.body.len()));
                let ticket = self.settings.first_ticket.wrapping_add(ticket);
                self.cancels.insert((worker, ticket));
            }
            None if request.suspended_until.is_some() => {}
            None => self.pools.get_mut(&request.pool).expect("it was accepted").queues.remove(key),
        }
    }

    fn ends_with(&mut self, key: Key, why: Why, worker: String, now: u64) {
        let request = self.requests.remove(&key).unwrap_or_else(|| panic!("{key:?} ends, but is not held"));
        self.ended.insert(key);
        let client = self.clients.get_mut(&key.0).unwrap_or_else(|| panic!("c{} has left, but {key:?} ends", key.0));
        client.answered += 1;
        let (attempts, took) = (request.attempts, now - request.accepted);
        client.owed.push(Owed { id: key.1, why, worker, attempts, took });
    }

    /// A message of replies is what its client is owed, no more and no less.
    pub(super) fn observe_replies(&mut self, conn: Conn, replies: &[Reply]) {
        let number = self.client_of.get(&conn).unwrap_or_else(|| panic!("replies to {conn}, which is no client"));
        let mut owed = std::mem::take(&mut self.clients.get_mut(number).expect("it is here").owed);
        for reply in replies {
            let place = owed.iter().position(|owed| owed.id == reply.id.0 && owed.is(&reply.outcome));
            let place = place.unwrap_or_else(|| panic!("c{number} is not owed {reply:?}"));
            // In order: a client may have used a number again before it had the reply to the first.
            let Owed { worker, attempts, took, .. } = owed.remove(place);
            let trace = &reply.trace;
            let traced = (&*trace.worker, trace.attempts, trace.waited_us + trace.took_us);
            assert_eq!(traced, (&*worker, attempts, took), "the trace of {reply:?}");
        }
        let forgotten: Vec<_> = owed.iter().map(|owed| owed.id).collect();
        assert!(forgotten.is_empty(), "c{number} was not sent {forgotten:?}");
    }
}

impl Owed {
    fn is(&self, outcome: &Outcome) -> bool {
        match (&self.why, outcome) {
            (Why::Replied(owed), outcome) => owed == outcome,
            (Why::Expired, Outcome::Error(failure)) => failure.code == code::EXPIRED,
            (Why::Poisoned(workers), Outcome::Error(failure)) => {
                failure.code == code::POISON && failure.message.contains(&workers.join(", "))
            }
            _ => false,
        }
    }
}
