//! Messages from workers, and their silence.

use std::collections::BTreeMap;
use std::time::Instant;

use giostra_protocol::{FromWorker, Identity, Progress, Registration, RequestId, Ticket, ToClient, ToWorker};

use super::records::{Flight, Load, Worker};
use super::{Broker, Output};
use crate::event::{DropReason, Event};
use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, WorkerNumber};
use crate::policy::liveness::Due;

impl Broker {
    /// Handles a message from a worker.
    pub fn handle_worker(&mut self, from: &Identity, message: FromWorker, now: Instant) {
        let known = self.workers.find(from);
        if let Some(number) = known {
            self.worker(number).liveness.heard();
        }
        match (message, known) {
            (FromWorker::Register { version, name, pool, operations, threads, window, instance, host }, _) => {
                if let Some(number) = known {
                    self.drop_worker(number, DropReason::RegisteredAgain, now);
                }
                let registration = Registration { version, name, pool, operations, threads, window, instance, host };
                if let Err(reason) = self.register(from, registration, now) {
                    self.refuse_worker(from, &reason, now);
                }
            }
            (FromWorker::Disconnected, known) => {
                if let Some(number) = known {
                    self.drop_worker(number, DropReason::ConnectionBroke, now);
                }
                self.workers.disconnected(from);
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
            (FromWorker::Share { threads, window }, Some(number)) => {
                let max = (window != 0).then_some(window as usize);
                let worker = self.worker(number);
                worker.window.share(threads as usize, max);
                let pool = worker.pool;
                self.touch_pool(pool);
            }
            // It says so again once it is registered.
            (FromWorker::Share { .. }, None) => {}
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
        match self.workers.find(from) {
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
        if let Some(number) = self.workers.find(to) {
            self.drop_worker(number, DropReason::Unreachable, now);
        }
    }

    /// Cuts off a worker that does not read: the shell has thrown away what waited for it. The
    /// worker gets nothing but `RegisterAgain`, which the shell keeps until it is taken.
    pub fn handle_overdue_worker(&mut self, to: &Identity, now: Instant) {
        if let Some(number) = self.workers.find(to) {
            self.drop_worker(number, DropReason::Overdue, now);
        }
        self.workers.may_be_asked(to);
        self.ask_to_register(to);
    }

    /// Drops a worker whose key is no longer allowed.
    pub fn handle_revoked_worker(&mut self, from: &Identity, now: Instant) {
        if let Some(number) = self.workers.find(from) {
            self.drop_worker(number, DropReason::Revoked, now);
        }
        self.workers.may_be_asked(from);
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

    /// Returns a registered worker for change.
    pub(super) fn worker(&mut self, number: WorkerNumber) -> &mut Worker {
        self.workers.get_mut(&number).expect("a worker's number is in the other tables as long as the worker is here")
    }

    pub(super) fn refuse_worker(&mut self, from: &Identity, reason: &str, now: Instant) {
        self.refuse(reason, now, |broker| {
            format!("a worker{}", broker.workers.info(from).map(ToString::to_string).unwrap_or_default())
        });
        self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::Refused { reason: reason.into() }));
    }

    fn ask_to_register(&mut self, from: &Identity) {
        if self.workers.ask(from) {
            self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::RegisterAgain));
        }
    }

    /// Passes progress of wanted requests on to their clients.
    fn progress(&mut self, number: WorkerNumber, progress: Vec<(Ticket, Progress)>) {
        let mut by_client: BTreeMap<ClientNumber, Vec<(RequestId, Progress)>> = BTreeMap::new();
        for (ticket, progress) in progress {
            let ticket = ticket.0.wrapping_sub(self.settings.first_ticket);
            if let Some(&mut Flight::Wanted(key)) = self.worker(number).in_flight.get_mut(ticket) {
                let request = &self.requests[key.at()];
                // Nobody waits at the other end of a job.
                let Some(client) = request.source.client() else { continue };
                by_client.entry(client).or_default().push((request.id, progress));
            }
        }
        for (client, progress) in by_client {
            let to = self.clients[&client].identity.clone();
            self.outputs.push_back(Output::ToClient(to, ToClient::Progress(progress)));
        }
    }
}
