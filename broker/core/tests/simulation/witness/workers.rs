//! What becomes of workers: they join at the tail, are pinged, and leave or are lost with all that
//! they held.

use giostra_core::event::{DropReason, Event, Evidence, WorkerLabel};

use super::{Lost, Witness, Worker, keys, tickets};
use crate::counts::Counts;
use crate::network::Conn;
use crate::queues::Key;

impl Witness {
    pub(super) fn observe_worker_event(&mut self, event: &Event, now: u64, counts: &mut Counts) {
        match event {
            Event::WorkerJoined { worker, pool, threads, window, seats, workers, back, .. } => {
                counts.count("worker-joined");
                let process = self.registering.pop_front().expect("somebody registers");
                assert_eq!(back.map(|back| back.0), self.before(process), "who {worker} was before");
                self.comes_back(process, counts);
                self.joined(worker, pool, (*threads as usize, *window), *seats, process, now);
                assert_eq!(*workers, self.workers.len(), "workers after {worker} joined");
            }
            Event::Window { worker, size } => {
                counts.count("window-logged");
                let known = self.workers.get_mut(&worker.number.0).expect("it is registered");
                assert_ne!(known.window_logged, *size, "{worker}'s window is logged again");
                known.window_logged = *size;
            }
            Event::WorkerLeaving { worker, in_flight, .. } => {
                counts.count("worker-leaving");
                self.leaving(worker.number.0, *in_flight);
            }
            Event::WorkerUnable { worker, returned, .. } => {
                counts.add("handed-back", returned.len());
                self.unable(worker.number.0, &keys(returned));
            }
            Event::WorkerAble { worker, seats } => {
                counts.count("worker-able");
                self.able(worker.number.0, *seats);
            }
            Event::WorkerLeft { worker, discarded, workers } => {
                counts.count("worker-left");
                let left = self.removed(worker.number.0);
                assert!(left.leaving && left.in_flight.is_empty(), "{worker} left, but owes something");
                assert_eq!((*discarded, *workers), (left.discarded, self.workers.len()), "after {worker} left");
                self.goodbyes.push(left.conn.expect("it was welcomed"));
            }
            Event::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence } => {
                counts.count(match reason {
                    DropReason::ConnectionBroke => "dropped-broken",
                    DropReason::Silent(_) => "dropped-suspect",
                    DropReason::Unreachable => "dropped-unreachable",
                    DropReason::RegisteredAgain => "dropped-registered-again",
                    DropReason::Malformed(_) => "dropped-malformed",
                    DropReason::Revoked => "dropped-revoked",
                    DropReason::Overdue => "dropped-overdue",
                });
                let known = &self.workers[&worker.number.0];
                let held = known.in_flight.values().filter(|(_, wanted)| !wanted).count() as u64;
                assert_eq!((*unwanted, *discarded), (held, known.discarded), "what {worker} was not to send");
                assert_eq!(*workers, self.workers.len() - 1, "workers after {worker} was lost");
                self.dropped(worker.number.0, reason, &keys(returned), *evidence, now, counts);
            }
            Event::Dispatched { worker, again, suspect, tickets: dealt, requests } => {
                let (dealt, keys) = (tickets(dealt), keys(requests));
                counts.add(if *again { "redispatched" } else { "dispatched" }, dealt.len() as u64);
                counts.add("dispatched-to-suspect", if *suspect { dealt.len() as u64 } else { 0 });
                self.dispatched(worker.number.0, *again, *suspect, &dealt, &keys);
            }
            other => panic!("an event that nobody knows: {other}"),
        }
    }

    /// The last registration of this process, of those that are there or held against some request.
    fn before(&self, process: u64) -> Option<u64> {
        let present = self.workers.iter().filter(|(_, known)| known.process == process).map(|(&number, _)| number);
        let lost = self.requests.values().flat_map(|request| &request.lost);
        let lost = lost.filter(|lost| lost.process == process).map(|lost| lost.number);
        present.chain(lost).max().filter(|_| process > 0)
    }

    /// This process lives: no request has ended it.
    fn comes_back(&mut self, process: u64, counts: &mut Counts) {
        let others = self.workers.values_mut().filter(|worker| process > 0 && worker.process == process);
        others.for_each(|worker| worker.superseded = true);
        for (&key, request) in self.requests.iter_mut().filter(|_| process > 0) {
            let before = request.lost.len();
            request.lost.retain(|lost| lost.process != process);
            if request.lost.len() == before {
                continue;
            }
            counts.count("evidence-withdrawn");
            if request.suspended_until.take().is_some() {
                let order = request.order.expect("it was dispatched");
                self.pools.get_mut(&request.pool).expect("it is known").queues.give_back(order, key);
            }
        }
    }

    fn joined(
        &mut self,
        label: &WorkerLabel,
        pool: &str,
        (threads, window): (usize, usize),
        seats: usize,
        process: u64,
        now: u64,
    ) {
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
            process,
            superseded: false,
            window_now: window,
            window_logged: window,
            leaving: false,
            discarded: 0,
            unable: false,
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
        if !worker.unable {
            self.pools.get_mut(&worker.pool).expect("it has a seat there").seats.leave(number);
        }
    }

    fn unable(&mut self, number: u64, returned: &[Key]) {
        let worker = self.workers.get_mut(&number).expect("it is registered");
        let conn = worker.conn.expect("it was welcomed");
        if !std::mem::replace(&mut worker.unable, true) && !worker.leaving {
            self.pools.get_mut(&worker.pool).expect("it has a seat there").seats.leave(number);
        }
        for key in returned {
            let request = self.requests.get_mut(key).expect("what is in flight is held");
            let held_by = request.held_by.take();
            let Some((_, ticket)) = held_by.filter(|&(holder, _)| holder == number) else {
                panic!("w{number} hands {key:?} back, which is held by {held_by:?}");
            };
            let sent = self.settings.first_ticket.wrapping_add(ticket);
            assert!(self.handed.contains(&(conn, sent)), "w{number} did not hand {key:?} back");
            let worker = self.workers.get_mut(&number).expect("it is registered");
            worker.in_flight.remove(&ticket);
            let order = request.order.expect("it was dispatched");
            self.pools.get_mut(&request.pool).expect("it is known").queues.give_back(order, *key);
        }
        self.handed_back += returned.len() as u64;
    }

    fn able(&mut self, number: u64, seats: usize) {
        let worker = self.workers.get_mut(&number).expect("it is registered");
        assert!(std::mem::replace(&mut worker.unable, false), "w{number} was able");
        assert!(!worker.leaving, "w{number} leaves, and gets a seat");
        let ring = &mut self.pools.get_mut(&worker.pool).expect("it joined there").seats;
        ring.join(number);
        assert_eq!(ring.len(), seats, "seats after w{number} is able again");
    }

    /// Whether the pool has a worker that takes requests, or will again.
    pub(super) fn has_workers(&self, pool: &str) -> bool {
        let mut of_pool = self.workers.values().filter(|worker| worker.pool == pool);
        of_pool.any(|worker| !worker.leaving)
    }

    fn removed(&mut self, number: u64) -> Worker {
        let worker = self.workers.remove(&number).unwrap_or_else(|| panic!("w{number} goes, but was not here"));
        self.worker_of.remove(&worker.conn.expect("it was welcomed"));
        self.cancels.retain(|&(of, _)| of != number);
        if !worker.leaving && !worker.unable {
            self.pools.get_mut(&worker.pool).expect("it has a seat there").seats.leave(number);
        }
        worker
    }

    /// Whether a loss is held against the requests: as long as the worker is not back, or for good.
    fn is_held_against(worker: &Worker, reason: &DropReason) -> Evidence {
        let without_a_word =
            matches!(reason, DropReason::ConnectionBroke | DropReason::Silent(_) | DropReason::Unreachable)
                && !worker.leaving;
        match reason {
            DropReason::Malformed(_) if !worker.leaving => Evidence::Yes,
            _ if !without_a_word => Evidence::No,
            _ if worker.process == 0 => Evidence::Yes,
            _ if worker.superseded => Evidence::No,
            _ => Evidence::UnlessBack,
        }
    }

    fn dropped(
        &mut self,
        number: u64,
        reason: &DropReason,
        returned: &[Key],
        evidence: Evidence,
        now: u64,
        counts: &mut Counts,
    ) {
        let worker = self.removed(number);
        assert_eq!(evidence, Self::is_held_against(&worker, reason), "w{number} is lost: {reason}");
        counts.add("held-against-nothing", if evidence == Evidence::No { returned.len() as u64 } else { 0 });
        let held: Vec<_> = worker.in_flight.values().filter(|&&(_, wanted)| wanted).map(|&(key, _)| key).collect();
        assert_eq!(held, returned, "w{number} is lost, and what it held is not what is returned");
        for key in held {
            let request = self.requests.get_mut(&key).expect("what is in flight is held");
            let is_evidence = !request.suspect && evidence != Evidence::No;
            if is_evidence {
                let process = if evidence == Evidence::UnlessBack { worker.process } else { 0 };
                request.lost.push(Lost { name: worker.name.clone(), number, process });
            }
            let spent = is_evidence && request.lost.len() == self.settings.max_attempts as usize;
            let alone = worker.in_flight.len() == 1 || request.lost.len() == 1;
            assert!(!spent || alone, "{key:?} is given up, and was not alone with w{number}");
            request.held_by = None;
            if spent && evidence == Evidence::UnlessBack {
                counts.count("suspended");
                request.suspended_until = Some(now + self.settings.await_return.as_micros() as u64);
                continue;
            }
            let order = request.order.expect("it was dispatched");
            self.pools.get_mut(&request.pool).expect("it is known").queues.give_back(order, key);
        }
        match reason {
            DropReason::Silent(pings) => {
                assert_eq!(*pings, self.settings.ping_max_out, "pings that w{number} was dropped for");
                assert_eq!(worker.pings_out, self.settings.ping_max_out, "pings that w{number} left unanswered");
                self.suspect.extend(worker.conn);
            }
            DropReason::Malformed(_) => self.totals.refused += 1,
            _ => {}
        }
    }

    pub(super) fn observe_ping(&mut self, conn: Conn, sequence: u64, now: u64) {
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
