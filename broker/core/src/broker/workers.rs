//! Messages from workers, and their silence.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use giostra_protocol::{
    FromWorker, Identity, LostStatus, MAX_BATCH, Outcome, Progress, RequestId, Ticket, ToClient, ToWorker, code, name,
};

use super::records::{Flight, Load, Request, Worker};
use super::registration::check_registration;
use super::snapshot::address;
use super::{Broker, Moment, Output, PoolKey};
use crate::event::{DropReason, Event};
use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, WorkerNumber};
use crate::policy::liveness::Due;
use crate::rate_limiter::TokenBucket;
use crate::stats::pool_counters::count_times;
use crate::stats::rates::Durations;

impl Broker {
    /// Handles a message from a worker.
    pub fn handle_worker(&mut self, from: &Identity, message: FromWorker, now: Instant) {
        let known = self.worker_of.get(from).copied();
        if let Some(number) = known {
            self.worker(number).liveness.heard();
        }
        match (message, known) {
            (FromWorker::Register { version, name, pool, operations, threads, window, instance }, _) => {
                if let Some(number) = known {
                    self.drop_worker(number, DropReason::RegisteredAgain, now);
                }
                let allowance =
                    self.registrations.entry(from.clone()).or_insert_with(|| TokenBucket::new(REGISTRATIONS, now));
                let checked = match allowance.take(now) {
                    true => check_registration(version, &name, &pool, &operations, threads),
                    false => Err(TOO_OFTEN.into()),
                };
                match checked {
                    Ok(()) => self.register(from, &name, &pool, operations, threads, window, instance, now),
                    Err(reason) => self.refuse_worker(from, &reason, now),
                }
            }
            (FromWorker::Disconnected, known) => {
                if let Some(number) = known {
                    self.drop_worker(number, DropReason::ConnectionBroke, now);
                }
                self.asked_to_register.remove(from);
                self.worker_info.remove(from);
                self.registrations.remove(from);
            }
            (FromWorker::Replies(replies), Some(number)) => self.replies(number, replies, now),
            (FromWorker::Replies(replies), None) => {
                let late = replies.len() as u64;
                self.stats.discarded += late;
                if let Some(late) = self.stray_replies.record(late, now) {
                    self.log(Event::Discarded { worker: None, requests: IdRanges::default(), late });
                }
                self.ask_to_register(from);
            }
            (FromWorker::Progress(progress), Some(number)) => self.progress(number, progress),
            // The worker is asked to register when it sends something else.
            (FromWorker::Progress(_), None) => {}
            (FromWorker::Pong { sequence, computing, waiting, oldest_ms }, Some(number)) => {
                let worker = self.worker(number);
                worker.load = Load { computing, waiting, oldest_ms };
                if worker.liveness.on_pong(sequence, now) {
                    // It reads in order, so it has also read everything before the ping.
                    worker.read = worker.read.max(worker.pinged_after);
                    self.release_read(number);
                }
            }
            (FromWorker::Unable { reason, tickets }, Some(number)) => self.unable(number, &reason, tickets, now),
            (FromWorker::Able, Some(number)) => self.is_able(number, now),
            (FromWorker::Leave, Some(number)) => self.leave(number, false),
            // A worker that is not registered owes nothing.
            (FromWorker::Leave, None) => self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::Goodbye)),
            (FromWorker::Unable { tickets, .. }, None) => {
                self.stats.discarded += tickets.len() as u64;
                self.ask_to_register(from);
            }
            (FromWorker::Pong { .. } | FromWorker::Able, None) => self.ask_to_register(from),
        }
    }

    /// Handles bytes from a worker that are no message. The message is lost, so the worker is
    /// dropped.
    pub fn handle_malformed_worker(&mut self, from: &Identity, error: &str, now: Instant) {
        match self.worker_of.get(from).copied() {
            Some(number) => {
                self.stats.refused += 1;
                self.drop_worker(number, DropReason::Malformed(error.into()), now);
                let reason = error.into();
                self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::Refused { reason }));
                self.ask_to_register(from);
            }
            None => self.refuse_worker(from, error, now),
        }
    }

    /// Handles the failure of a message to a worker that is gone.
    pub fn handle_unreachable_worker(&mut self, to: &Identity, now: Instant) {
        if let Some(&number) = self.worker_of.get(to) {
            self.drop_worker(number, DropReason::Unreachable, now);
        }
    }

    /// Cuts off a worker that does not read: the shell has thrown away what waited for it. The
    /// worker gets nothing but `RegisterAgain`, which the shell keeps until it is taken.
    pub fn handle_overdue_worker(&mut self, to: &Identity, now: Instant) {
        if let Some(&number) = self.worker_of.get(to) {
            self.drop_worker(number, DropReason::Overdue, now);
        }
        self.asked_to_register.remove(to);
        self.ask_to_register(to);
    }

    /// Drops a worker whose key is no longer allowed.
    pub fn handle_revoked_worker(&mut self, from: &Identity, now: Instant) {
        if let Some(&number) = self.worker_of.get(from) {
            self.drop_worker(number, DropReason::Revoked, now);
        }
        self.asked_to_register.remove(from);
    }

    /// Pings a worker, or drops it.
    pub(super) fn handle_due_ping(&mut self, number: WorkerNumber, now: Instant) {
        let (interval, max_out, last_ticket) =
            (self.settings.ping_interval, self.settings.ping_max_out, self.last_ticket);
        let worker = self.worker(number);
        let due = worker.liveness.due();
        match worker.liveness.on_due(interval, max_out, now) {
            Due::Dead(out) => self.drop_worker(number, DropReason::Silent(out), now),
            Due::Ping(sequence) => {
                worker.pinged_after = last_ticket;
                let (identity, next) = (worker.identity.clone(), worker.liveness.due());
                self.pings.remove(&(due, number));
                self.pings.insert((next, number));
                self.outputs.push_back(Output::ToWorker(identity, ToWorker::Ping { sequence }));
                if self.worker(number).waits_to_be_able {
                    self.able(number);
                }
            }
        }
    }

    /// Begins to drain a worker, or all workers of a name, for the client `from`.
    pub(super) fn drain(&mut self, from: &Identity, name: &str, number: u64, all: bool, now: Instant) {
        if let Err(bad) = name::check(name) {
            return self.refuse_client(from, &format!("worker: {bad}"), now);
        }
        let matching_workers = self.matching_workers(name, number);
        let refused = match &matching_workers[..] {
            [] if number > 0 => Some(format!("there is no worker '{name}' w{number}; status lists the workers")),
            [] => Some(format!("there is no worker '{name}'; status lists the workers")),
            [_, _, ..] if !all => Some(self.ambiguous(name, &matching_workers)),
            _ => None,
        };
        let answer = match refused {
            Some(reason) => ToClient::Refused { reason },
            None => {
                let numbers = matching_workers.iter().take(MAX_BATCH).map(|number| number.0).collect();
                for number in matching_workers {
                    self.leave(number, true);
                }
                ToClient::Draining { worker: name.into(), numbers }
            }
        };
        self.outputs.push_back(Output::ToClient(from.clone(), answer));
    }

    /// Returns the workers of this name, or with a number the one of both. A name that no worker
    /// has may be a number.
    fn matching_workers(&self, name: &str, number: u64) -> Vec<WorkerNumber> {
        let read = |text: &str| text.strip_prefix('w').and_then(|number| number.parse().ok()).map(WorkerNumber);
        let namesakes = self.workers.iter().filter(|(_, worker)| &*worker.name == name).map(|(number, _)| number);
        let mut matching_workers: Vec<_> = namesakes.filter(|it| number == 0 || it.0 == number).collect();
        if matching_workers.is_empty() && number == 0 {
            // Where workers are called w1 and w2, the name of one that has just left is not
            // another's number.
            let other =
                |number: &WorkerNumber| self.workers.get(number).is_some_and(|worker| read(&worker.name).is_none());
            matching_workers.extend(read(name).filter(other));
        }
        matching_workers.sort_unstable();
        matching_workers
    }

    fn ambiguous(&self, name: &str, matching_workers: &[WorkerNumber]) -> String {
        let mut list = String::new();
        for number in matching_workers.iter().take(MAX_NAMESAKES) {
            let address = address(self.worker_info.get(&self.workers[number].identity));
            let at = if address.is_empty() { "" } else { " at " };
            list += &format!("{number}{at}{address}, ");
        }
        let more = if matching_workers.len() > MAX_NAMESAKES { ".., " } else { "" };
        let (count, first) = (matching_workers.len(), matching_workers[0]);
        format!("{count} workers are called '{name}': {list}{more}say which (drain {name} {first}), or --all")
    }

    fn worker(&mut self, number: WorkerNumber) -> &mut Worker {
        self.workers.get_mut(&number).expect("a worker's number is in the other tables as long as the worker is here")
    }

    pub(super) fn refuse_worker(&mut self, from: &Identity, reason: &str, now: Instant) {
        self.refuse(reason, now, |broker| {
            format!("a worker{}", broker.worker_info.get(from).map(ToString::to_string).unwrap_or_default())
        });
        self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::Refused { reason: reason.into() }));
    }

    /// Asks a worker to register, once for each connection: a thawed worker has much to say at
    /// once.
    fn ask_to_register(&mut self, from: &Identity) {
        if self.asked_to_register.insert(from.clone()) {
            self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::RegisterAgain));
        }
    }

    fn replies(&mut self, number: WorkerNumber, replies: Vec<(Ticket, Outcome)>, now: Instant) {
        let (mut results, mut errors, mut unwanted, mut late) =
            (IdRanges::default(), IdRanges::default(), IdRanges::default(), 0);
        // Requests that were skipped because they were cancelled.
        let mut skipped = 0;
        let now_is = now;
        let now = self.moment(now);
        let worker = self.worker(number);
        let (label, pool) = (worker.label(number), worker.pool);
        let (mut read, mut released) = (worker.read, 0);
        // Taken out while its requests are closed.
        let mut in_flight = std::mem::take(&mut worker.in_flight);
        let mut durations = worker.took.take().unwrap_or_default();
        // Requests that were dispatched together and answered together took equally long.
        let mut alike = ((0, 0), 0);
        for (ticket, outcome) in replies {
            let ticket = ticket.0.wrapping_sub(self.settings.first_ticket);
            let key = match in_flight.take(ticket) {
                Some(Flight::Wanted(key)) => key,
                Some(Flight::Unwanted(client, id, bytes)) => {
                    read = read.max(ticket);
                    unwanted.request(client, id);
                    self.release(client, bytes);
                    released += bytes as usize;
                    skipped +=
                        u64::from(matches!(&outcome, Outcome::Error(failure) if failure.code == code::CANCELLED));
                    continue;
                }
                None => {
                    late += 1;
                    continue;
                }
            };
            read = read.max(ticket);
            let Request { client, id, .. } = self.requests[key.at()];
            let outcome = match outcome {
                Outcome::Ok(body) => {
                    results.request(client, id);
                    Outcome::Ok(body)
                }
                Outcome::Error(failure) => {
                    errors.request(client, id);
                    Outcome::Error(failure.of_worker())
                }
            };
            let trace = self.requests[key.at()].trace(label.name.clone(), now);
            let took = (trace.took_us, trace.waited_us + trace.took_us);
            if took != alike.0 {
                self.took(pool, &mut durations, alike, now);
                alike = (took, 0);
            }
            alike.1 += 1;
            self.close_request(key, Some((outcome, trace)));
        }
        self.took(pool, &mut durations, alike, now);
        let answered = results.len() + errors.len();
        let counters = &mut self.pools[pool.0].counters;
        counters.succeeded += results.len();
        counters.failed += errors.len();
        self.stats.discarded += unwanted.len() + late;
        let worker = self.worker(number);
        worker.in_flight = in_flight;
        worker.read = read;
        worker.unwanted_bytes -= released;
        worker.took = Some(durations);
        worker.rate.add(answered, now.second());
        worker.answered += answered;
        let holds_more = !worker.in_flight.is_empty();
        worker.alone &= holds_more;
        let round_trip = worker.liveness.pong().map_or(Duration::ZERO, |(_, took)| took);
        worker.window.replied(answered + unwanted.len() - skipped, holds_more, round_trip, now.0);
        let finished = worker.leaving && !holds_more;
        for (errors, requests) in [(false, results), (true, errors)] {
            if !requests.is_empty() {
                self.log(Event::Replied { worker: label.clone(), errors, requests });
            }
        }
        self.release_read(number);
        self.discards(number, unwanted, late, now_is);
        self.touch_pool(pool);
        if finished {
            self.goodbye(number);
        }
    }

    /// Logs discarded results. Late ones alone are counted, and logged later, while there are too
    /// many such lines.
    pub(super) fn discards(&mut self, number: WorkerNumber, unwanted: IdRanges, late: u64, now: Instant) {
        self.worker(number).late += late;
        if !unwanted.is_empty() || late > 0 && self.idle_lines.allows(now) {
            self.log_discarded(number, unwanted);
        }
    }

    fn log_discarded(&mut self, number: WorkerNumber, requests: IdRanges) {
        let worker = self.worker(number);
        let late = std::mem::take(&mut worker.late);
        worker.discarded += requests.len() + late;
        let worker = Some(worker.label(number));
        self.log(Event::Discarded { worker, requests, late });
    }

    /// Logs the discarded results that were not logged yet, before the worker goes.
    fn log_remaining_discards(&mut self, number: WorkerNumber) {
        if self.worker(number).late > 0 {
            self.log_discarded(number, IdRanges::default());
        }
    }

    /// Releases the unwanted bodies that the worker has read.
    pub(super) fn release_read(&mut self, number: WorkerNumber) {
        let worker = self.worker(number);
        if worker.unwanted_bytes == 0 {
            return;
        }
        let read: Vec<_> = worker.in_flight.numbers().take_while(|&ticket| ticket <= worker.read).collect();
        let mut released = Vec::new();
        for ticket in read {
            if let Some(Flight::Unwanted(client, _, bytes)) = worker.in_flight.get_mut(ticket) {
                worker.unwanted_bytes -= *bytes as usize;
                released.push((*client, std::mem::take(bytes)));
            }
        }
        for (client, bytes) in released {
            self.release(client, bytes);
        }
    }

    /// Passes progress of wanted requests on to their clients.
    fn progress(&mut self, number: WorkerNumber, progress: Vec<(Ticket, Progress)>) {
        let mut by_client: BTreeMap<ClientNumber, Vec<(RequestId, Progress)>> = BTreeMap::new();
        for (ticket, progress) in progress {
            let ticket = ticket.0.wrapping_sub(self.settings.first_ticket);
            if let Some(&mut Flight::Wanted(key)) = self.worker(number).in_flight.get_mut(ticket) {
                let request = &self.requests[key.at()];
                by_client.entry(request.client).or_default().push((request.id, progress));
            }
        }
        for (client, progress) in by_client {
            let to = self.clients[&client].identity.clone();
            self.outputs.push_back(Output::ToClient(to, ToClient::Progress(progress)));
        }
    }

    /// Records how long `count` requests took, from their dispatch and from their acceptance.
    fn took(
        &mut self,
        pool: PoolKey,
        worker: &mut Durations,
        ((dispatch, acceptance), count): ((u64, u64), u32),
        now: Moment,
    ) {
        if count > 0 {
            worker.add(dispatch, count, now.second());
            self.stats.answers.add(acceptance, count, now.second());
            count_times(&mut self.pools[pool.0].counters, acceptance, count);
        }
    }

    /// Takes a worker's seat away; it finishes what it holds.
    fn leave(&mut self, number: WorkerNumber, drained: bool) {
        let worker = self.worker(number);
        if worker.leaving {
            return;
        }
        worker.leaving = true;
        let (label, pool, in_flight) = (worker.label(number), worker.pool, worker.in_flight.len());
        let was_unable = worker.unable.is_some();
        self.pools[pool.0].ring.leave(number);
        self.pools[pool.0].unable -= usize::from(was_unable);
        self.touch_pool(pool);
        self.log(Event::WorkerLeaving { worker: label, drained, in_flight });
        if in_flight == 0 {
            self.goodbye(number);
        }
    }

    /// Removes a leaving worker that owes nothing more.
    pub(super) fn goodbye(&mut self, number: WorkerNumber) {
        self.log_remaining_discards(number);
        let worker = self.remove_worker(number);
        let (label, discarded, workers) = (worker.label(number), worker.discarded, self.workers.len());
        self.log(Event::WorkerLeft { worker: label, discarded, workers });
        self.outputs.push_back(Output::ToWorker(worker.identity, ToWorker::Goodbye));
    }

    /// Removes a lost worker, and gives its requests back to be dispatched before all others.
    fn drop_worker(&mut self, number: WorkerNumber, reason: DropReason, now: Instant) {
        self.log_remaining_discards(number);
        let worker = self.remove_worker(number);
        let evidence = Self::evidence(&worker, &reason);
        let moment = self.moment(now);
        let mut returned = IdRanges::default();
        self.work += worker.in_flight.len();
        let (mut poisoned, mut unread, mut unwanted) = (Vec::new(), worker.unwanted_bytes, 0);
        for (ticket, &flight) in worker.in_flight.numbers().zip(worker.in_flight.iter()) {
            let key = match flight {
                Flight::Wanted(key) => key,
                Flight::Unwanted(client, _, bytes) => {
                    unwanted += 1;
                    self.release(client, bytes);
                    continue;
                }
            };
            let Request { client, id, ref body, .. } = self.requests[key.at()];
            if ticket > worker.read {
                unread += body.len();
            }
            returned.request(client, id);
            if self.give_back(key, (number, &worker), evidence, moment) {
                poisoned.push(key);
            }
        }
        let pool = &mut self.pools[worker.pool.0];
        pool.counters.workers_lost += 1;
        self.stats.names.gave_back(&pool.name, &worker.name, returned.len());
        self.stats.lost.push(LostStatus {
            name: worker.name.to_string(),
            number: number.0,
            pool: self.pools[worker.pool.0].name.to_string(),
            address: address(self.worker_info.get(&worker.identity)),
            at_ms: self.moment(now).millis(),
            reason: reason.to_string(),
            returned: returned.len(),
        });
        if matches!(reason, DropReason::Silent(_)) && unread >= CLOSE_FROM {
            self.outputs.push_back(Output::Close(worker.identity.clone()));
        }
        let (discarded, workers) = (worker.discarded, self.workers.len());
        let worker = worker.label(number);
        self.log(Event::WorkerDropped { worker, reason, returned, unwanted, discarded, workers, evidence });
        for key in poisoned {
            self.poison(key, now);
        }
    }

    fn remove_worker(&mut self, number: WorkerNumber) -> Worker {
        let worker = self.workers.remove(&number).expect("a worker is removed once");
        self.worker_of.remove(&worker.identity);
        self.pings.remove(&(worker.liveness.due(), number));
        self.instances.part(worker.instance, number);
        let PoolKey(pool) = worker.pool;
        self.pools[pool].ring.leave(number);
        self.pools[pool].workers -= 1;
        self.pools[pool].unable -= usize::from(worker.unable.is_some() && !worker.leaving);
        self.stats.names.part(&self.pools[pool].name, &worker.name, worker.answered);
        self.touch_pool(worker.pool);
        worker
    }
}

/// How often a worker may register over one connection at once: more often than faults cause it.
const REGISTRATIONS: u32 = 100;

/// Why a worker is refused that registers too often over one connection.
const TOO_OFTEN: &str = "it registers too often over one connection: wait a second";

/// The most workers of one name that a refusal lists.
const MAX_NAMESAKES: usize = 10;

/// The unread bytes of bodies from which the connection of a suspect worker is closed when it is
/// dropped.
const CLOSE_FROM: usize = 1 << 20;
