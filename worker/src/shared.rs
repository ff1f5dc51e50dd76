//! What all threads of a worker share: the scheduler under its lock, the run queues, and the ways
//! to wake each sleeper.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use giostra_protocol::{Bytes, Priority, Progress, Ticket};
use giostra_transport::wake::Waker;

use crate::run_queue::{RunQueue, RunQueues};
use crate::scheduler::{Load, Monitor, MonitorStep, Scheduler, Step, TICK, Wakeups};

/// The shared state.
pub struct Shared {
    scheduler: Mutex<Scheduler>,
    run_queues: RunQueues,
    /// Where idle threads sleep.
    idle: Condvar,
    /// Where the monitor sleeps while it does not lead.
    monitor: Condvar,
    /// Wakes the leader from its poll.
    leader: Waker,
}

/// The scheduler under its lock.
pub type Locked<'a> = MutexGuard<'a, Scheduler>;

impl Shared {
    /// Creates the state of a worker with this number of computing threads.
    pub fn new(threads: usize, leader: Waker) -> Self {
        Self {
            scheduler: Mutex::new(Scheduler::new(threads)),
            run_queues: RunQueues::new(threads),
            idle: Condvar::new(),
            monitor: Condvar::new(),
            leader,
        }
    }

    /// Locks the scheduler.
    pub fn lock(&self) -> Locked<'_> {
        // No code of ours panics while it holds the lock; operations run without it.
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the run queue of a thread.
    pub fn run_queue(&self, thread: usize) -> MutexGuard<'_, RunQueue> {
        self.run_queues.lock(thread)
    }

    /// Decides what a computing thread does next.
    pub fn next(&self, scheduler: &mut Scheduler, thread: usize) -> (Step, Wakeups) {
        scheduler.next(&mut self.run_queue(thread), Instant::now())
    }

    /// Decides what the monitor does next.
    pub fn monitor(&self, scheduler: &mut Scheduler, monitor: &mut Monitor) -> (MonitorStep, Wakeups) {
        scheduler.monitor(&self.run_queues, monitor, Instant::now())
    }

    /// Sleeps as an idle thread until it is woken or the worker has ended.
    pub fn sleep_idle<'a>(&self, mut scheduler: Locked<'a>) -> Locked<'a> {
        while !scheduler.closed && !scheduler.wakes_up() {
            scheduler = self.idle.wait(scheduler).unwrap_or_else(PoisonError::into_inner);
        }
        scheduler
    }

    /// Sleeps as the monitor for a [`TICK`].
    pub fn tick<'a>(&self, scheduler: Locked<'a>) -> Locked<'a> {
        let waited = self.monitor.wait_timeout_while(scheduler, TICK, |scheduler| !scheduler.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Sleeps as the monitor until it is woken, and then for a [`TICK`].
    pub fn rest<'a>(&self, scheduler: Locked<'a>) -> Locked<'a> {
        let rests = |scheduler: &mut Scheduler| !scheduler.closed && !scheduler.ticking();
        let woken = self.monitor.wait_while(scheduler, rests);
        self.tick(woken.unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes those that the scheduler has named.
    pub fn wake(&self, wakeups: Wakeups) {
        if wakeups.thread {
            self.idle.notify_one();
        }
        if wakeups.monitor {
            self.monitor.notify_one();
        }
        if wakeups.leader {
            self.leader.wake();
        }
    }

    /// Ends all threads, each after what it is computing.
    pub fn close(&self, scheduler: &mut Scheduler) {
        scheduler.closed = true;
        self.idle.notify_all();
        self.monitor.notify_all();
        self.leader.wake();
    }

    /// Adds requests of a link to the shared queue. For the leader.
    pub fn assign(&self, link: usize, priority: Priority, requests: Vec<(Ticket, Bytes)>) {
        let wakeups = self.lock().assign(link, priority, requests);
        self.wake(wakeups);
    }

    /// Cancels these requests of a link. For the leader.
    pub fn cancel(&self, link: usize, tickets: &[Ticket]) {
        self.lock().cancel(link, tickets, &self.run_queues, Instant::now());
    }

    /// Forgets all requests and replies of a link. For the leader.
    pub fn discard(&self, link: usize) {
        self.lock().discard(link, &self.run_queues);
    }

    /// Returns the load of all threads by requests of this link, or of all.
    pub fn load(&self, link: Option<usize>) -> Load {
        self.lock().load(link, &self.run_queues, Instant::now())
    }

    /// Whether the outcome of a thread's current request is no longer wanted.
    pub fn is_cancelled(&self, thread: usize) -> bool {
        self.run_queue(thread).is_cancelled()
    }

    /// Reports the progress of a thread's current request, unless one was reported just before.
    pub fn report(&self, thread: usize, progress: Progress) {
        let claim = self.run_queue(thread).begin_report(Instant::now());
        if let Some(claim) = claim {
            let wakeups = self.lock().report((claim, progress));
            self.wake(wakeups);
        }
    }

    /// Puts a thread's current request back, since its operation can compute nothing for now, and
    /// hands it and all that wait back to their brokers.
    pub fn hand_back(&self, thread: usize, reason: String) {
        let claim = self.run_queue(thread).put_back();
        let wakeups = self.lock().hand_back(reason, claim, &self.run_queues);
        self.wake(wakeups);
    }
}
