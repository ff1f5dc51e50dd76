//! Evidence against requests: the losses of workers that held them.
//!
//! A worker that is lost without a word may have been ended by one of its requests. One that comes
//! back was not: the same process registers again, under the same *instance*. So a broken
//! connection and a silence count against the requests until the worker is back, and a request that
//! this loss would end waits a moment for that.
//!
//! A process that a supervisor starts anew has another instance: the loss of the one before keeps
//! counting.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Instant;

use giostra_protocol::name::Label;
use giostra_protocol::{Failure, code};

use super::records::{Loss, Losses, State, Worker};
use super::{Broker, Moment};
use crate::event::{DropReason, Event, Evidence, join};
use crate::ids::{RequestKey, WorkerNumber};
use crate::tables::pending::Place;

/// What is known by instance. Ordered maps, because workers choose the numbers, and chosen numbers
/// can't make these slow. Nothing is kept about a worker that is gone and held no request that is
/// still open.
#[derive(Debug, Default)]
pub(super) struct Instances {
    /// The registered workers, by instance.
    present: BTreeSet<(u64, WorkerNumber)>,
    /// The requests against which the loss of an instance counts until it is back. No set is empty.
    provisional: BTreeMap<(u64, WorkerNumber), BTreeSet<RequestKey>>,
    /// The suspended requests, and when each is given up.
    pub(super) suspended: BTreeSet<(Moment, RequestKey)>,
}

impl Instances {
    pub(super) fn join(&mut self, instance: u64, worker: WorkerNumber) {
        if instance > 0 {
            self.present.insert((instance, worker));
        }
    }

    pub(super) fn part(&mut self, instance: u64, worker: WorkerNumber) {
        self.present.remove(&(instance, worker));
    }

    /// Returns the last earlier registration of the instance, as far as it is known.
    pub(super) fn before(&self, instance: u64) -> Option<WorkerNumber> {
        let lost = self.provisional.range(all_of(instance)).next_back().map(|(&(_, worker), _)| worker);
        self.last_present(instance).max(lost).filter(|_| instance > 0)
    }

    fn last_present(&self, instance: u64) -> Option<WorkerNumber> {
        self.present.range(all_of(instance)).next_back().map(|&(_, worker)| worker)
    }

    /// Forgets a request that is no longer open.
    fn forget(&mut self, key: RequestKey, loss: &Loss) {
        let at = (loss.instance, loss.worker);
        if let Some(requests) = self.provisional.get_mut(&at) {
            requests.remove(&key);
            if requests.is_empty() {
                self.provisional.remove(&at);
            }
        }
    }
}

/// All registrations of an instance.
fn all_of(instance: u64) -> RangeInclusive<(u64, WorkerNumber)> {
    (instance, WorkerNumber(0))..=(instance, WorkerNumber(u64::MAX))
}

impl Broker {
    /// Returns whether the loss of a worker counts against the requests that it held.
    pub(super) fn evidence(worker: &Worker, reason: &DropReason) -> Evidence {
        match reason {
            // It had said that it would end.
            _ if worker.leaving => Evidence::No,
            // It lives, or the broker has cut it off.
            DropReason::RegisteredAgain | DropReason::Revoked | DropReason::Overdue => Evidence::No,
            // It lives, but its unreadable message may be its answer to one of them. The next
            // worker's would be the same, and nothing else ends that.
            DropReason::Malformed(_) => Evidence::Yes,
            DropReason::ConnectionBroke | DropReason::Silent(_) | DropReason::Unreachable => match worker.instance {
                0 => Evidence::Yes,
                _ if worker.is_back => Evidence::No,
                _ => Evidence::UnlessBack,
            },
        }
    }

    /// Gives a request of a lost worker back to its pool. Returns true if it is to be given up at
    /// once.
    pub(super) fn give_back(
        &mut self,
        key: RequestKey,
        (number, worker): (WorkerNumber, &Worker),
        evidence: Evidence,
        now: Moment,
    ) -> bool {
        self.end_attempt(key);
        let request = &mut self.requests[key.at()];
        let State::InFlight { order, suspect, .. } = request.state else { unreachable!("it is in flight") };
        let (source, pool) = (request.source, request.pool);
        let counts = evidence != Evidence::No && !suspect;
        if counts {
            let instance = if evidence == Evidence::UnlessBack { worker.instance } else { 0 };
            let losses = &mut request.lost.get_or_insert_default().losses;
            losses.push(Loss { worker: number, name: worker.name.clone(), instance });
            if instance > 0 {
                self.instances.provisional.entry((instance, number)).or_default().insert(key);
            }
        }
        if counts {
            self.jobs.note_losses(source, request.id, request.lost());
        }
        let spent = counts && request.lost() as u64 >= u64::from(self.settings.max_attempts);
        let pending = &mut self.pools[pool.0].pending;
        if spent && evidence == Evidence::UnlessBack {
            let until = now.after(self.settings.await_return);
            request.lost.get_or_insert_default().until = Some(until);
            request.state = State::Pending(Place::Suspended(order));
            self.instances.suspended.insert((until, key));
            pending.suspend(order, key);
        } else {
            request.state = State::Pending(Place::Returned(order));
            pending.give_back(order, key);
        }
        self.add_pending(source);
        spent && evidence == Evidence::Yes
    }

    /// Clears the losses of a worker that registers again; the loss of an old connection that broke
    /// without notice will not count, either. Returns its last earlier registration, as far as it
    /// is known.
    pub(super) fn comes_back(&mut self, instance: u64) -> Option<WorkerNumber> {
        let before = self.instances.before(instance)?;
        // Earlier ones were marked when the last one registered.
        if let Some(worker) = self.instances.last_present(instance).and_then(|last| self.workers.get_mut(&last)) {
            worker.is_back = true;
        }
        self.withdraw(instance);
        Some(before)
    }

    fn withdraw(&mut self, instance: u64) {
        while let Some((&at, _)) = self.instances.provisional.range(all_of(instance)).next() {
            for key in self.instances.provisional.remove(&at).unwrap_or_default() {
                self.withdraw_from(key, at.1);
            }
        }
    }

    fn withdraw_from(&mut self, key: RequestKey, worker: WorkerNumber) {
        let request = &mut self.requests[key.at()];
        let Some(lost) = &mut request.lost else { return };
        lost.losses.retain(|loss| loss.worker != worker);
        self.jobs.note_losses(request.source, request.id, lost.losses.len());
        if let State::Pending(Place::Suspended(order)) = request.state {
            if let Some(until) = lost.until.take() {
                self.instances.suspended.remove(&(until, key));
            }
            request.state = State::Pending(Place::Returned(order));
            self.pools[request.pool.0].pending.resume(order);
        }
        if lost.losses.is_empty() {
            request.lost = None;
        }
        if let State::Pending(_) = request.state {
            let pool = request.pool;
            self.touch_pool(pool);
        }
    }

    /// Ends a request's suspension when it is taken out of its pool.
    pub(super) fn end_suspension(&mut self, key: RequestKey) {
        if let Some(until) = self.requests[key.at()].lost.as_mut().and_then(|lost| lost.until.take()) {
            self.instances.suspended.remove(&(until, key));
        }
    }

    /// Forgets the losses that count against a request that has ended.
    pub(super) fn clear_losses(&mut self, key: RequestKey, lost: Option<&Losses>) {
        for loss in lost.into_iter().flat_map(|lost| &lost.losses) {
            self.instances.forget(key, loss);
        }
    }

    /// Gives up the suspended requests that have waited long enough.
    pub(super) fn fail_suspended(&mut self, now: Instant) {
        let moment = self.moment(now);
        while let Some(&(until, key)) = self.instances.suspended.first()
            && until <= moment
        {
            self.poison(key, now);
        }
    }

    pub(super) fn poison(&mut self, key: RequestKey, now: Instant) {
        let request = &self.requests[key.at()];
        let losses = request.lost.iter().flat_map(|lost| &lost.losses);
        let workers: Vec<_> = losses.map(|loss| loss.name.clone()).collect();
        let names = join(&workers, ", ");
        let message = match workers.len() {
            1 => format!(
                "given up: a worker was lost while it held the request ({names}), and has not come back; it is not \
                 tried again (--max-attempts {})",
                self.settings.max_attempts
            ),
            count => format!(
                "given up: {count} workers were lost while they held it ({names}), and have not come back; it may be \
                 what ends them"
            ),
        };
        let pool = request.pool;
        let trace = request.trace(Label::default(), self.moment(now));
        let event = Event::Poisoned { request: [(request.source, request.id)].into_iter().collect(), workers };
        self.pools[pool.0].counters.poisoned += 1;
        self.log(event);
        self.fail(key, Failure::new(code::POISON, message), trace);
    }

    /// Panics if this module's tables and the requests contradict each other.
    pub(super) fn check_evidence(&self) {
        let workers = self.workers.iter().filter(|(_, worker)| worker.instance > 0);
        let present: BTreeSet<_> = workers.map(|(number, worker)| (worker.instance, number)).collect();
        assert_eq!(self.instances.present, present);
        let mut provisional: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut suspended = BTreeSet::new();
        for (place, request) in &self.requests {
            let key = RequestKey(place.try_into().expect("it has a key"));
            let Some(lost) = &request.lost else { continue };
            assert!(!lost.losses.is_empty());
            for loss in lost.losses.iter().filter(|loss| loss.instance > 0) {
                provisional.entry((loss.instance, loss.worker)).or_default().insert(key);
            }
            suspended.extend(lost.until.map(|until| (until, key)));
            let is_suspended = matches!(request.state, State::Pending(Place::Suspended(_)));
            assert_eq!(is_suspended, lost.until.is_some());
            assert_eq!(is_suspended, lost.losses.len() >= self.settings.max_attempts as usize, "one too many was lost");
        }
        assert_eq!(self.instances.provisional, provisional);
        assert_eq!(self.instances.suspended, suspended);
    }
}
