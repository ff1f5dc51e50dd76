//! The store's thread: takes what the core asks for, commits it in groups, and answers in order.
//!
//! A group is what has come while the last one was committed: there is no timer. A question is
//! answered when all writes before it are committed.

use std::cell::Cell;
use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use giostra_core::store::{Done, Op, Write};
use giostra_protocol::{Bytes, Outcome, StoreStatus};

use crate::figures::{Figures, Recorder};
use crate::{Store, StoreError};

/// A group with this many writes takes no more.
pub const MAX_GROUP_WRITES: usize = 1024;

/// A group with this many bytes of requests and results takes no more.
pub const MAX_GROUP_BYTES: usize = 1 << 20;

/// How long to wait before removing something is tried again on a full disk.
const PAUSE: Duration = Duration::from_secs(1);

/// What the attempts at a request count, in bytes: about what a row of them needs.
const ATTEMPT_BYTES: usize = 16;

/// A thread with a store.
///
/// Dropping it commits what was submitted, and waits for the thread's end.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use giostra_core::ids::JobNumber;
/// use giostra_core::store::{Done, Op, Write};
/// use giostra_protocol::JobSpec;
/// use giostra_store::{Sqlite, StoreThread};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let (store, restored) = Sqlite::open(folder.path())?;
/// let (wake, woken) = mpsc::channel();
/// let thread = StoreThread::start(store, move || wake.send(()).unwrap_or(()))?;
///
/// let job = JobNumber(restored.last_job + 1);
/// let spec = JobSpec { pool: "compute".into(), key: "nightly".into(), ..JobSpec::default() };
/// thread.submit(Op::Write(Write::Create { job, owner: "".into(), spec: Arc::new(spec) }));
/// woken.recv()?;
/// assert!(matches!(thread.completed().next(), Some(Done::Created(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StoreThread {
    /// `None` when it is dropped.
    ops: Option<Sender<Op>>,
    done: Receiver<Done>,
    unanswered: Cell<usize>,
    thread: Option<JoinHandle<()>>,
    figures: Figures,
}

impl StoreThread {
    /// Starts a thread with a store. It calls `wake` when there is something in
    /// [`StoreThread::completed`]: once for each group and each question, and once when it ends.
    ///
    /// # Errors
    /// If the system has no thread.
    pub fn start(store: impl Store + 'static, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (ops, submitted) = mpsc::channel();
        let (answers, done) = mpsc::channel();
        let figures = Figures::default();
        let mut recorder = Recorder::new(figures.clone());
        recorder.look(&store, now());
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            // Dropped last, also after a panic: the other side learns that there are no answers.
            let wake = WakeAtEnd(wake);
            let turns = Turns {
                store,
                ops: submitted,
                answers,
                wake: &wake.0,
                held: None,
                next_sweep: Some(now()),
                failed: None,
                recorder,
            };
            turns.run();
        })?;
        Ok(Self { ops: Some(ops), done, unanswered: Cell::new(0), thread: Some(thread), figures })
    }

    /// Submits something to do, without waiting. What is under way is kept in memory: the caller
    /// bounds it.
    pub fn submit(&self, op: Op) {
        self.unanswered.set(self.unanswered.get() + 1);
        if let Some(ops) = &self.ops {
            // If the thread has ended, `completed` says so.
            let _ = ops.send(op);
        }
    }

    /// Returns the store's figures, without waiting: `bytes` may be a second old after a commit, and
    /// `failed` is not said (see [`Done::Failed`]).
    pub fn figures(&self) -> StoreStatus {
        self.figures.at(now())
    }

    /// Takes the answers that are there, in the order of what was submitted: one for each.
    pub fn completed(&self) -> impl Iterator<Item = Done> {
        iter::from_fn(|| {
            let done = match self.done.try_recv() {
                Ok(done) => done,
                Err(TryRecvError::Disconnected) if self.unanswered.get() > 0 => {
                    Done::Failed("the store's thread has ended, by an error in the broker: please report it".into())
                }
                Err(_) => return None,
            };
            self.unanswered.set(self.unanswered.get().saturating_sub(1));
            Some(done)
        })
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.ops = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct WakeAtEnd<W: Fn()>(W);

impl<W: Fn()> Drop for WakeAtEnd<W> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What the thread does, turn by turn.
struct Turns<'a, S, W> {
    store: S,
    ops: Receiver<Op>,
    answers: Sender<Done>,
    wake: &'a W,
    /// A question that came after the writes of a group.
    held: Option<Op>,
    /// When to sweep next, if there may be something to sweep, or the store is full.
    next_sweep: Option<Instant>,
    /// Why the store is out of service.
    failed: Option<Arc<str>>,
    recorder: Recorder,
}

impl<S: Store, W: Fn()> Turns<'_, S, W> {
    fn run(mut self) {
        while let Some(op) = self.next() {
            let answers = match op {
                Op::Write(write) => {
                    let group = self.gather(write);
                    self.commit(&group)
                }
                Op::Read(question) => {
                    let answer = self.guarded(|store| store.scan(&question));
                    vec![answer.unwrap_or_else(Done::Failed)]
                }
            };
            for done in answers {
                let _ = self.answers.send(done);
            }
            (self.wake)();
        }
    }

    /// Waits for the next thing to do, and sweeps meanwhile. `None` when there will be none.
    fn next(&mut self) -> Option<Op> {
        if let Some(op) = self.held.take() {
            return Some(op);
        }
        // A full store sweeps also while there is something to do: with the groups it does not.
        if self.next_sweep.is_some_and(|next| next <= now()) && self.store.full().is_some() {
            self.sweep();
        }
        while let Some(next) = self.next_sweep.filter(|_| self.failed.is_none()) {
            match self.ops.recv_timeout(next.saturating_duration_since(now())) {
                Ok(op) => return Some(op),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.sweep(),
            }
        }
        self.ops.recv().ok()
    }

    fn sweep(&mut self) {
        let swept = self.guarded(|store| match store.sweep() {
            // To remove something needs space first. What is there can be read meanwhile.
            Err(StoreError::Full(_)) => Ok(None),
            swept => swept.map(Some),
        });
        self.next_sweep = match swept {
            Ok(Some(true)) => Some(now()),
            // Also if nothing is to be removed, a full store looks for room.
            Ok(None | Some(false)) if swept == Ok(None) || self.store.full().is_some() => Some(now() + PAUSE),
            _ => None,
        };
        self.recorder.look(&self.store, now());
    }

    /// Takes the writes that have come, up to a question.
    fn gather(&mut self, first: Write) -> Vec<Write> {
        let mut bytes = size(&first);
        let mut group = vec![first];
        while group.len() < MAX_GROUP_WRITES && bytes < MAX_GROUP_BYTES {
            match self.ops.try_recv() {
                Ok(Op::Write(write)) => {
                    bytes += size(&write);
                    group.push(write);
                }
                Ok(question) => {
                    self.held = Some(question);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    fn commit(&mut self, group: &[Write]) -> Vec<Done> {
        let began = now();
        let done = self.guarded(|store| store.commit(group));
        let ended = now();
        if done.is_ok() {
            self.recorder.committed(began, ended);
        }
        self.recorder.look(&self.store, ended);
        // What found no space waits for its time.
        self.next_sweep.get_or_insert(ended);
        match done {
            Ok(done) => {
                debug_assert_eq!(done.len(), group.len(), "an answer for each write");
                done
            }
            Err(reason) => vec![Done::Failed(reason); group.len()],
        }
    }

    /// Uses the store, unless it is out of service; the first error puts it there.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut S) -> Result<T, StoreError>) -> Result<T, Arc<str>> {
        if let Some(reason) = &self.failed {
            return Err(reason.clone());
        }
        f(&mut self.store).map_err(|error| {
            log::error!("{error}");
            self.failed.insert(error.to_string().into()).clone()
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the store's thread measures commits, and pauses on a full disk")]
fn now() -> Instant {
    Instant::now()
}

/// Returns the bytes of requests or results in a write.
fn size(write: &Write) -> usize {
    let outcome = |(_, outcome): &(u32, Outcome)| match outcome {
        Outcome::Ok(body) => body.len(),
        Outcome::Error(failure) => failure.code.len() + failure.message.len(),
    };
    match write {
        Write::Append { bodies, .. } => bodies.iter().map(Bytes::len).sum(),
        Write::Results { outcomes, .. } => outcomes.iter().map(outcome).sum(),
        Write::Attempts { attempts, .. } => attempts.len() * ATTEMPT_BYTES,
        Write::Create { .. } | Write::Cancel(_) | Write::Retry(_) | Write::Delete(_) => 0,
    }
}
