//! How requests end: answered, expired, failed or cancelled, and removed from every table.

use giostra_protocol::codec::ATTACH_FROM;
use giostra_protocol::name::Label;
use giostra_protocol::{Failure, Outcome, Reply, Ticket, Trace, code};

use super::jobs::Jobs;
use super::records::{Account, Client, Flight, Request, State};
use super::{Broker, Moment, Peers};
use crate::id_ranges::IdRanges;
use crate::ids::{ClientNumber, RequestKey, Source};

impl Broker {
    pub(super) fn expire(&mut self, key: RequestKey, expired: &mut IdRanges, now: Moment) {
        let request = &self.requests[key.at()];
        let (worker, what) = match request.state {
            State::InFlight { worker, .. } => {
                let name = self.workers[&worker].name.clone();
                let what = format!("{name} was computing it");
                (name, what)
            }
            State::Pending(_) => {
                let pool = &self.pools[request.pool.0];
                let workers = match pool.ring.seats().len() {
                    0 if pool.unable > 0 => "whose workers can compute nothing for now (the status says why)",
                    0 => "which has no worker",
                    _ => "whose workers were busy",
                };
                (Label::default(), format!("it waited for a worker of pool '{}', {workers}", pool.name))
            }
        };
        let failure = Failure::new(code::EXPIRED, format!("its time limit passed while {what}"));
        let trace = request.trace(worker, now);
        expired.request(request.source, request.id);
        self.pools[request.pool.0].counters.expired += 1;
        self.fail(key, failure, trace);
    }

    /// Answers a request with an error of the broker's own.
    pub(super) fn fail(&mut self, key: RequestKey, failure: Failure, trace: Trace) {
        self.detach(key);
        self.close_request(key, Some((Outcome::Error(failure), trace)));
    }

    /// Cancels a request: removes it from every table, without a reply.
    pub(super) fn forget(&mut self, key: RequestKey) {
        self.work += 1;
        self.detach(key);
        self.pools[self.requests[key.at()].pool.0].counters.cancelled += 1;
        self.close_request(key, None);
    }

    /// Removes a request from its pool's queue, or marks it as unwanted at its worker.
    fn detach(&mut self, key: RequestKey) {
        let Request { source, id, pool, state, .. } = self.requests[key.at()];
        match state {
            State::Pending(place) => {
                self.end_suspension(key);
                self.pools[pool.0].pending.remove(place, source);
                self.remove_pending(source);
                self.touch_pool(pool);
            }
            State::InFlight { worker, ticket, .. } => {
                let Some(holder) = self.workers.get_mut(&worker) else { return };
                if let Some(flight) = holder.in_flight.get_mut(ticket) {
                    // A body is no larger than a frame.
                    let bytes = if ticket <= holder.read { 0 } else { self.requests[key.at()].body.len() as u32 };
                    *flight = Flight::Unwanted(source, id, bytes);
                    holder.unwanted_bytes += bytes as usize;
                    self.bytes += bytes as usize;
                    if holder.cancelled.is_empty() {
                        self.touched_workers.push(worker);
                    }
                    holder.cancelled.push(Ticket(self.settings.first_ticket.wrapping_add(ticket)));
                    if let Some(account) = self.account(source) {
                        account.bytes += bytes as usize;
                    }
                }
            }
        }
    }

    /// Removes a request from the tables that hold it in any state, and adds the reply to its
    /// client's next message.
    pub(super) fn close_request(&mut self, key: RequestKey, reply: Option<(Outcome, Trace)>) {
        let request = self.requests.remove(key.at());
        if let Some(deadline) = request.deadline() {
            self.deadlines.remove(&(deadline, key));
        }
        self.bytes -= request.body.len();
        self.clear_losses(key, request.lost.as_deref());
        let client = match request.source.client() {
            Some(number) => self.clients.get_mut(&number).map(|client| (number, client)),
            None => return self.jobs.close_request(&request, reply),
        };
        let Some((number, client)) = client else { return };
        client.account.unanswered.remove(request.id);
        client.account.bytes -= request.body.len();
        if let Some((outcome, trace)) = reply {
            if client.account.replies.is_empty() {
                self.touched_clients.push(number);
            }
            client.large |= matches!(&outcome, Outcome::Ok(body) if body.len() >= ATTACH_FROM);
            client.account.replies.push(Reply { id: request.id, outcome, trace });
            client.answered += 1;
        }
    }

    /// Removes the deadline of an attempt that ends without a reply.
    pub(super) fn end_attempt(&mut self, key: RequestKey) {
        let request = &self.requests[key.at()];
        if request.source.job().is_some()
            && let Some(deadline) = request.deadline()
        {
            self.deadlines.remove(&(deadline, key));
        }
    }

    /// Releases the bytes of an unwanted body that its worker has read.
    pub(super) fn release(&mut self, source: Source, bytes: u32) {
        self.bytes -= bytes as usize;
        if let Some(account) = self.account(source) {
            account.bytes -= bytes as usize;
        }
    }

    /// Returns the bytes of the unwanted bodies of a client or a job that workers have not read.
    pub(super) fn unread_bytes(&self, of: Source) -> usize {
        let flights = self.workers.values().flat_map(|worker| worker.in_flight.iter());
        let its = flights.filter_map(|flight| match *flight {
            Flight::Unwanted(source, _, bytes) if source == of => Some(bytes as usize),
            _ => None,
        });
        its.sum()
    }

    pub(super) fn add_pending(&mut self, of: Source) {
        self.pending += 1;
        if let Some(account) = self.account(of) {
            account.pending += 1;
        }
    }

    pub(super) fn remove_pending(&mut self, of: Source) {
        self.pending -= 1;
        if let Some(account) = self.account(of) {
            account.pending -= 1;
        }
    }

    /// Returns the account of a client or a job, unless it is gone.
    pub(super) fn account(&mut self, of: Source) -> Option<&mut Account> {
        account(&mut self.clients, &mut self.jobs, of)
    }
}

/// As [`Broker::account`], while other tables are borrowed.
pub(super) fn account<'a>(
    clients: &'a mut Peers<ClientNumber, Client>,
    jobs: &'a mut Jobs,
    of: Source,
) -> Option<&'a mut Account> {
    match of.client() {
        Some(number) => clients.get_mut(&number).map(|client| &mut client.account),
        None => jobs.account(of),
    }
}
