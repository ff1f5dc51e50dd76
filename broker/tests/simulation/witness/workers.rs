//! What becomes of workers: they join at the tail, are pinged, and leave or are lost with all that they held.

use giostra_broker::event::{Dropped, Event, WorkerLabel};

use super::{Witness, Worker, keys, tickets};
use crate::network::Conn;
use crate::queues::Key;
use crate::tally::Tally;

impl Witness {
    pub(super) fn sees_event_of_a_worker(&mut self, event: &Event, now: u64, tally: &mut Tally) {
        match event {
            Event::WorkerJoined { worker, pool, threads, window, seats, .. } => {
                tally.count("worker-joined");
                self.joined(worker, pool, (*threads as usize, *window), *seats, now);
            }
            Event::Window { worker, size } => {
                tally.count("window-told");
                let known = self.workers.get_mut(&worker.number.0).expect("it is registered");
                assert_ne!(known.window_told, *size, "{worker}'s window is told again");
                known.window_told = *size;
            }
            Event::WorkerLeaving { worker, in_flight, .. } => {
                tally.count("worker-leaving");
                self.leaving(worker.number.0, *in_flight);
            }
            Event::WorkerLeft(worker) => {
                tally.count("worker-left");
                let left = self.removed(worker.number.0);
                assert!(left.leaving && left.in_flight.is_empty(), "{worker} left, but owes something");
                self.goodbyes.push(left.conn.expect("it was welcomed"));
            }
            Event::WorkerDropped { worker, reason, returned } => {
                tally.count(match reason {
                    Dropped::ConnectionBroke => "dropped-broken",
                    Dropped::Silent(_) => "dropped-silent",
                    Dropped::Unreachable => "dropped-unreachable",
                    Dropped::RegisteredAgain => "dropped-registered-again",
                    Dropped::Malformed(_) => "dropped-malformed",
                    Dropped::Barred => "dropped-barred",
                });
                self.dropped(worker.number.0, reason, &keys(returned));
            }
            Event::Dispatched { worker, again, silent, tickets: dealt, requests } => {
                let (dealt, keys) = (tickets(dealt), keys(requests));
                tally.add(if *again { "redispatched" } else { "dispatched" }, dealt.len() as u64);
                tally.add("dispatched-to-silent", if *silent { dealt.len() as u64 } else { 0 });
                self.dispatched(worker.number.0, *again, *silent, &dealt, &keys);
            }
            other => panic!("an event that nobody knows: {other}"),
        }
    }

    fn joined(&mut self, label: &WorkerLabel, pool: &str, (threads, window): (usize, usize), seats: usize, now: u64) {
        let number = label.number.0;
        let ring = &mut self.pools.entry(pool.into()).or_default().seats;
        ring.join(number);
        assert_eq!(ring.len(), seats, "seats after {label} joined");
        assert!(window <= self.settings.window.max(threads), "{label} has a window of {window}");
        let worker = Worker {
            conn: None,
            name: label.name.to_string(),
            pool: pool.into(),
            window,
            threads,
            window_now: window,
            window_told: window,
            leaving: false,
            alone: false,
            in_flight: Default::default(),
            pings_out: 0,
            sequence: 0,
            pinged: now,
        };
        assert!(self.workers.insert(number, worker).is_none(), "{label} joined twice");
    }

    fn leaving(&mut self, number: u64, in_flight: usize) {
        let worker = self.workers.get_mut(&number).expect("it is registered");
        assert!(!worker.leaving, "w{number} leaves twice");
        assert_eq!(worker.in_flight.len(), in_flight, "in flight to w{number} that leaves");
        worker.leaving = true;
        self.pools.get_mut(&worker.pool).expect("it has a seat there").seats.leave(number);
    }

    fn removed(&mut self, number: u64) -> Worker {
        let worker = self.workers.remove(&number).unwrap_or_else(|| panic!("w{number} goes, but was not here"));
        self.worker_of.remove(&worker.conn.expect("it was welcomed"));
        self.cancels.retain(|&(of, _)| of != number);
        if !worker.leaving {
            self.pools.get_mut(&worker.pool).expect("it has a seat there").seats.leave(number);
        }
        worker
    }

    fn dropped(&mut self, number: u64, reason: &Dropped, returned: &[Key]) {
        let worker = self.removed(number);
        let held: Vec<_> = worker.in_flight.values().filter(|&&(_, wanted)| wanted).map(|&(key, _)| key).collect();
        assert_eq!(held, returned, "w{number} is lost, and what it held is not what is returned");
        for key in held {
            let request = self.requests.get_mut(&key).expect("what is in flight is held");
            if !request.silent {
                request.lost.push(worker.name.clone());
            }
            let given_up =
                !request.silent && request.lost.len() > 1 && request.lost.len() == self.settings.max_attempts as usize;
            assert!(!given_up || worker.in_flight.len() == 1, "{key:?} is given up, and was not alone with w{number}");
            request.held_by = None;
            let order = request.order.expect("it was dispatched");
            self.pools.get_mut(&request.pool).expect("it is known").queues.give_back(order, key);
        }
        match reason {
            Dropped::Silent(pings) => {
                assert_eq!(*pings, self.settings.ping_max_out, "pings that w{number} was dropped for");
                assert_eq!(worker.pings_out, self.settings.ping_max_out, "pings that w{number} left unanswered");
                self.silent.extend(worker.conn);
            }
            Dropped::Malformed(_) => self.totals.refused += 1,
            _ => {}
        }
    }

    pub(super) fn sees_ping(&mut self, conn: Conn, sequence: u64, now: u64) {
        let number = self.worker_of.get(&conn).expect("only registered workers are pinged");
        let worker = self.workers.get_mut(number).expect("it is registered");
        assert_eq!(sequence, worker.sequence + 1, "w{number}'s ping");
        assert!(now >= worker.pinged + self.interval, "w{number} is pinged too early");
        worker.sequence = sequence;
        worker.pinged = now;
        worker.pings_out += 1;
        assert!(worker.pings_out <= self.settings.ping_max_out, "w{number} is dead and yet pinged");
    }
}
