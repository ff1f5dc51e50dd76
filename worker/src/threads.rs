//! The threads of a worker: those that compute, and the monitor. Each asks the scheduler what to
//! do, does that, and asks again.
//!
//! [`crate::scheduler`] explains what that is, and why no thread sleeps for ever.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{io, thread};

use giostra_protocol::{Bytes, Failure, Outcome, code};
use giostra_transport::wake::Waker;

use crate::io::{Connection, Error};
use crate::scheduler::{Monitor, MonitorStep, Step, Turn};
use crate::shared::{Locked, Shared};
use crate::{Job, Service};

/// Why a worker has ended; the outer error is a panic of its own code.
type End = thread::Result<Result<(), Error>>;

/// What the threads of a worker work on.
struct Threads<S> {
    service: S,
    shared: Arc<Shared>,
    /// For the leader, which always finds it unlocked. Taken at the end.
    connection: Mutex<Option<Connection>>,
    end: Mutex<Option<End>>,
}

/// Computes on `threads` threads until the conversation over the connection ends. The caller is the
/// monitor. Does not wait for threads that are still computing.
pub fn run<S: Service>(connection: Connection, threads: usize, service: S, waker: Waker) -> Result<(), Error> {
    let worker = Arc::new(Threads {
        service,
        shared: Arc::new(Shared::new(threads, waker)),
        connection: Mutex::new(Some(connection)),
        end: Mutex::new(None),
    });
    if let Err(error) = (0..threads).try_for_each(|thread| Threads::start(&worker, thread)) {
        worker.close(&mut worker.shared.lock(), Ok(Err(error.into())));
    }
    worker.closing_on_panic(Threads::monitor);
    drop(lock(&worker.connection).take());
    let end = lock(&worker.end).take();
    end.expect("the worker was closed with a reason").unwrap_or_else(|panic| resume_unwind(panic))
}

impl<S: Service> Threads<S> {
    fn start(worker: &Arc<Self>, thread: usize) -> io::Result<()> {
        let worker = Arc::clone(worker);
        let work = move || worker.closing_on_panic(|worker| worker.work(thread));
        thread::Builder::new().name(format!("compute-{thread}")).spawn(work).map(drop)
    }

    /// The loop of a computing thread.
    fn work(&self, thread: usize) {
        let mut scheduler = self.shared.lock();
        while !scheduler.closed {
            let (step, wakeups) = self.shared.next(&mut scheduler, thread);
            match step {
                Step::Compute => {
                    drop(scheduler);
                    self.shared.wake(wakeups);
                    self.compute_run_queue(thread);
                    scheduler = self.shared.lock();
                }
                Step::Lead(turn) => {
                    drop(scheduler);
                    self.shared.wake(wakeups);
                    scheduler = self.lead(turn);
                }
                Step::Sleep => {
                    self.shared.wake(wakeups);
                    scheduler = self.shared.sleep_idle(scheduler);
                }
            }
        }
    }

    /// The loop of the monitor.
    fn monitor(&self) {
        let mut monitor = Monitor::new(Instant::now());
        let mut scheduler = self.shared.tick(self.shared.lock());
        while !scheduler.closed {
            let (step, wakeups) = self.shared.monitor(&mut scheduler, &mut monitor);
            match step {
                MonitorStep::Lead(turn) => {
                    drop(scheduler);
                    self.shared.wake(wakeups);
                    scheduler = self.lead(turn);
                }
                MonitorStep::Tick => {
                    self.shared.wake(wakeups);
                    scheduler = self.shared.tick(scheduler);
                }
                MonitorStep::Rest => scheduler = self.shared.rest(scheduler),
            }
        }
    }

    /// Leads for one turn, and gives leadership back.
    fn lead(&self, turn: Turn) -> Locked<'_> {
        let flow = match &mut *lock(&self.connection) {
            Some(connection) => connection.turn(turn, &self.shared, || self.service.is_able()),
            None => Ok(ControlFlow::Break(())),
        };
        let mut scheduler = self.shared.lock();
        scheduler.end_turn();
        match flow {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => self.close(&mut scheduler, Ok(Ok(()))),
            Err(error) => self.close(&mut scheduler, Ok(Err(error))),
        }
        scheduler
    }

    fn compute_run_queue(&self, thread: usize) {
        let mut run_queue = self.shared.run_queue(thread);
        while let Some((_, body)) = run_queue.begin() {
            drop(run_queue);
            let outcome = self.compute(&body, &Job::new(&self.shared, thread));
            drop(body);
            match outcome {
                Outcome::Error(failure) if failure.code == code::UNABLE => {
                    self.shared.hand_back(thread, failure.message);
                    run_queue = self.shared.run_queue(thread);
                }
                outcome => {
                    run_queue = self.shared.run_queue(thread);
                    run_queue.finish(outcome);
                }
            }
        }
    }

    fn compute(&self, body: &Bytes, job: &Job<'_>) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.service.compute(body, job))) {
            Ok(Ok(result)) => Outcome::Ok(result),
            // A cancelled operation may answer with the code `cancelled`, which nobody sees.
            Ok(Err(failure)) if job.is_cancelled() => Outcome::Error(failure.shortened()),
            Ok(Err(failure)) => Outcome::Error(failure.of_worker()),
            Err(panic) => {
                let failure = Failure::from(format!("the operation panicked: {}", message(&*panic)));
                Outcome::Error(failure.shortened())
            }
        }
    }

    /// Runs a thread's loop. A panic ends the worker: the thread may have been the leader, and
    /// nobody would send the others' replies.
    fn closing_on_panic(&self, work: impl FnOnce(&Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            self.close(&mut self.shared.lock(), Err(panic));
        }
    }

    /// Ends the worker. The first reason counts.
    fn close(&self, scheduler: &mut Locked<'_>, end: End) {
        lock(&self.end).get_or_insert(end);
        self.shared.close(scheduler);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
