//! The threads: those that compute, and the watchman. Each looks at the board, does what it says,
//! and looks again.
//!
//! What that is, and why nobody sleeps for ever, is [`crate::board`]'s; what is said at the desk,
//! [`crate::session`]'s.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{io, thread};

use giostra_protocol::{Bytes, Failure, Outcome, Progress, Ticket, code};
use giostra_transport::wake::Waker;

use crate::board::{Board, Calls, Duty, Load, Step, TICK, Visit, Watch};
use crate::hand::{Hands, Request};
use crate::session::{Error, Next, Session};
use crate::{Job, Service};

/// All threads of a worker. Those that compute end with it, each after what it is computing; nobody
/// waits for them.
pub struct Crew {
    board: Mutex<Board<Box<Session>>>,
    hands: Hands,
    /// Where idle threads sleep.
    work: Condvar,
    /// Where the watchman sleeps.
    rest: Condvar,
    /// Wakes whoever sleeps at the desk.
    waker: Waker,
    /// Why all is over, if it is.
    end: Mutex<Option<End>>,
}

/// Why all is over; the outer error is a panic of ours.
type End = thread::Result<Result<(), Error>>;

/// The board, under its lock.
type Seen<'a> = MutexGuard<'a, Board<Box<Session>>>;

/// Works on `threads` threads until the session ends. The caller is the watchman.
pub fn work<S: Service>(session: Session, threads: usize, service: &Arc<S>, waker: Waker) -> Result<(), Error> {
    let crew = Arc::new(Crew {
        board: Mutex::new(Board::new(Box::new(session), threads)),
        hands: Hands::new(threads),
        work: Condvar::new(),
        rest: Condvar::new(),
        waker,
        end: Mutex::new(None),
    });
    let started = (0..threads).try_for_each(|number| Crew::start(&crew, number, service));
    if let Err(error) = started {
        crew.close(&mut crew.lock(), Ok(Err(error.into())));
    }
    crew.closing_at_a_panic(Crew::watch);
    let desk = crew.lock().close();
    drop(desk);
    let end = lock(&crew.end).take();
    end.expect("the board is closed with a reason").unwrap_or_else(|panic| resume_unwind(panic))
}

impl Crew {
    /// Adds requests to the queue. For the session.
    pub fn assign(&self, requests: Vec<Request>) {
        let calls = self.lock().assign(requests);
        self.make(calls);
    }

    /// Forgets all requests and results. For the session.
    pub fn discard(&self) {
        self.lock().discard(&self.hands);
    }

    /// Nobody waits any more for the results of these tickets. For the session.
    pub fn cancel(&self, tickets: &[Ticket]) {
        self.lock().cancel(tickets, &self.hands, Instant::now());
    }

    /// Whether nobody waits any more for what this thread is computing.
    pub fn is_unwanted(&self, thread: usize) -> bool {
        self.hands.lock(thread).is_unwanted()
    }

    /// How far this thread is with what it is computing.
    pub fn report(&self, thread: usize, progress: Progress) {
        let ticket = self.hands.lock(thread).has_news(Instant::now());
        if let Some(ticket) = ticket {
            let calls = self.lock().report((ticket, progress));
            self.make(calls);
        }
    }

    /// What the threads are doing.
    pub fn load(&self) -> Load {
        self.lock().load(&self.hands, Instant::now())
    }

    fn start<S: Service>(crew: &Arc<Self>, number: usize, service: &Arc<S>) -> io::Result<()> {
        let (crew, service) = (Arc::clone(crew), Arc::clone(service));
        let work = move || crew.closing_at_a_panic(|crew| crew.compute(number, &*service));
        thread::Builder::new().name(format!("compute-{number}")).spawn(work).map(drop)
    }

    fn compute<S: Service>(&self, number: usize, service: &S) {
        let mut board = self.lock();
        while !board.closed {
            let (step, calls) = board.next(&mut self.hands.lock(number), Instant::now());
            match step {
                Step::Compute => {
                    drop(board);
                    self.make(calls);
                    self.compute_hand(number, service);
                    board = self.lock();
                }
                Step::Attend(visit) => {
                    drop(board);
                    self.make(calls);
                    board = self.attend(visit);
                }
                Step::Sleep => {
                    self.make(calls);
                    while !board.closed && !board.answer_call() {
                        board = self.work.wait(board).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        }
    }

    fn compute_hand<S: Service>(&self, number: usize, service: &S) {
        let mut hand = self.hands.lock(number);
        while let Some((ticket, body)) = hand.begin() {
            drop(hand);
            let outcome = outcome(service, &body, &Job::of(self, number));
            drop(body);
            match outcome {
                Outcome::Error(failure) if failure.code == code::UNABLE => {
                    self.give_up(number, ticket, failure.message);
                    hand = self.hands.lock(number);
                }
                outcome => {
                    hand = self.hands.lock(number);
                    hand.finish(ticket, outcome);
                }
            }
        }
    }

    /// The operation can compute nothing for now.
    fn give_up(&self, number: usize, ticket: Ticket, reason: String) {
        let ticket = self.hands.lock(number).put_back(ticket).then_some(ticket);
        let calls = self.lock().give_up(reason, ticket, &self.hands);
        self.make(calls);
    }

    fn watch(&self) {
        let mut watch = Watch::begin(Instant::now());
        let mut board = self.tick(self.lock());
        while !board.closed {
            let (duty, calls) = board.patrol(&self.hands, &mut watch, Instant::now());
            match duty {
                Duty::Attend(visit) => {
                    drop(board);
                    self.make(calls);
                    board = self.attend(visit);
                }
                Duty::Tick => {
                    self.make(calls);
                    board = self.tick(board);
                }
                Duty::Rest => {
                    let resting = |board: &mut Board<_>| !board.closed && !board.ticking();
                    board = self.rest.wait_while(board, resting).unwrap_or_else(PoisonError::into_inner);
                    board = self.tick(board);
                }
            }
        }
    }

    /// Sleeps for as long as it takes until it's worth looking again.
    fn tick<'a>(&self, board: Seen<'a>) -> Seen<'a> {
        let waited = self.rest.wait_timeout_while(board, TICK, |board| !board.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Does what is to be done at the desk, and puts it back.
    fn attend(&self, Visit { mut desk, done, news, trouble, stay }: Visit<Box<Session>>) -> Seen<'_> {
        let next = desk.turn(self, done, news, trouble, stay);
        let mut board = self.lock();
        board.leave(desk);
        match next {
            Ok(Next::GoOn) => {}
            Ok(Next::Exit) => self.close(&mut board, Ok(Ok(()))),
            Err(error) => self.close(&mut board, Ok(Err(error))),
        }
        board
    }

    /// Whoever panics may have the desk with him, and then nothing would ever come of the others'
    /// work.
    fn closing_at_a_panic(&self, work: impl FnOnce(&Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            self.close(&mut self.lock(), Err(panic));
        }
    }

    /// Ends everybody. The watchman takes what is on the board.
    fn close(&self, board: &mut Seen<'_>, end: End) {
        lock(&self.end).get_or_insert(end);
        board.closed = true;
        self.work.notify_all();
        self.rest.notify_all();
        self.waker.wake();
    }

    fn lock(&self) -> Seen<'_> {
        lock(&self.board)
    }

    fn make(&self, calls: Calls) {
        if calls.thread {
            self.work.notify_one();
        }
        if calls.watchman {
            self.rest.notify_one();
        }
        if calls.alarm {
            self.waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of ours panics while it holds a lock; operations run outside.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn outcome<S: Service>(service: &S, body: &Bytes, job: &Job<'_>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| service.compute(body, job))) {
        Ok(Ok(result)) => Outcome::Ok(result),
        // Of what nobody waits for, it may say that it was cancelled.
        Ok(Err(failure)) if job.is_cancelled() => Outcome::Error(failure.shortened()),
        Ok(Err(failure)) => Outcome::Error(failure.of_worker()),
        Err(panic) => {
            let failure = Failure::from(format!("the operation panicked: {}", message(&*panic)));
            Outcome::Error(failure.shortened())
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
