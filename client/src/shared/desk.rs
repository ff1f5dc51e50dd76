//! Between those who ask and the thread that serves them: what was asked and not taken yet, and a
//! slot for each answer.

use std::mem::take;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Progress, Reply, RequestId};
use giostra_transport::time::deadline;
use giostra_transport::wake::{self, Alarm};
use rustc_hash::FxHashMap;

use crate::{Client, Error};

/// Where requests are handed in.
pub struct Desk {
    waiting: Mutex<Waiting>,
    bell: wake::Waker,
}

/// What the thread has not seen yet.
struct Waiting {
    /// By number.
    calls: SparseQueue<Call>,
    /// The numbers of calls that the thread has, and nobody waits for any more.
    given_up: Vec<u64>,
    last: u64,
    closed: bool,
    /// Why nothing is served any more.
    ended: Option<Arc<Error>>,
}

struct Call {
    body: Bytes,
    deadline: Option<Instant>,
    slot: Arc<Slot>,
}

/// Where one answer is put.
pub struct Slot {
    /// Of the call; 0 if it was not taken.
    number: u64,
    state: Mutex<State>,
    filled: Condvar,
}

enum State {
    /// When there is no answer yet: whom to wake, and how far it is.
    Empty(Option<Waker>, Option<Progress>),
    /// When it is here.
    Filled(Result<Reply, Error>),
    /// When it was taken, or nobody wants it any more.
    Done,
}

/// The thread's side.
pub struct Service {
    client: Client,
    desk: Arc<Desk>,
    alarm: Alarm,
    /// What was taken from the desk, and is about to be submitted.
    taken: SparseQueue<Call>,
    /// What is under way.
    calls: FxHashMap<RequestId, Arc<Slot>>,
    /// Its ids by the numbers of the calls.
    ids: FxHashMap<u64, RequestId>,
    /// Why it can't go on.
    error: Option<Arc<Error>>,
}

/// A desk, and who serves it.
pub fn open(client: Client) -> Result<(Arc<Desk>, Service), Error> {
    let (bell, alarm) = wake::alarm().map_err(|error| no_thread(&error))?;
    let waiting = Waiting { calls: SparseQueue::default(), given_up: Vec::new(), last: 0, closed: false, ended: None };
    let desk = Arc::new(Desk { waiting: Mutex::new(waiting), bell });
    let taken = SparseQueue::default();
    let (calls, ids) = (FxHashMap::default(), FxHashMap::default());
    Ok((Arc::clone(&desk), Service { client, desk, alarm, taken, calls, ids, error: None }))
}

/// The system gives no thread, or no pipe: it has a number for that, as libzmq's errors have.
pub fn no_thread(error: &std::io::Error) -> Error {
    zmq::Error::from_raw(error.raw_os_error().unwrap_or_default()).into()
}

impl Desk {
    /// Takes a request.
    pub fn submit(&self, body: Bytes, timeout: Option<Duration>) -> Arc<Slot> {
        let deadline = timeout.map(|timeout| deadline(Instant::now(), timeout));
        let mut waiting = self.waiting();
        if let Some(error) = &waiting.ended {
            return Slot::filled(Error::Ended(Arc::clone(error)));
        }
        waiting.last += 1;
        let number = waiting.last;
        let slot = Arc::new(Slot::new(number, State::Empty(None, None)));
        waiting.calls.push(number, Call { body, deadline, slot: Arc::clone(&slot) });
        drop(waiting);
        self.bell.wake();
        slot
    }

    /// Nobody waits for this answer any more.
    pub fn give_up(&self, slot: &Slot) {
        if !matches!(std::mem::replace(&mut *slot.state(), State::Done), State::Empty(..)) {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.calls.take(slot.number).is_none() {
            waiting.given_up.push(slot.number);
            drop(waiting);
            self.bell.wake();
        }
    }

    /// Nobody is left to ask, nor to be answered.
    pub fn close(&self) {
        self.waiting().closed = true;
        self.bell.wake();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new(number: u64, state: State) -> Self {
        Self { number, state: Mutex::new(state), filled: Condvar::new() }
    }

    fn filled(error: Error) -> Arc<Self> {
        Arc::new(Self::new(0, State::Filled(Err(error))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, answer: Result<Reply, Error>) {
        let mut state = self.state();
        if let State::Empty(waker, _) = &mut *state {
            let waker = waker.take();
            *state = State::Filled(answer);
            drop(state);
            self.filled.notify_one();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Waits for the answer, and takes it.
    pub fn wait(&self) -> Result<Reply, Error> {
        let empty = |state: &mut State| matches!(state, State::Empty(..));
        let mut state = self.filled.wait_while(self.state(), empty).unwrap_or_else(PoisonError::into_inner);
        state.take()
    }

    /// Takes the answer if it is here, or has this one woken when it is.
    pub fn poll(&self, waker: &Waker) -> Poll<Result<Reply, Error>> {
        let mut state = self.state();
        if let State::Empty(waiting, _) = &mut *state {
            match waiting {
                Some(waiting) => waiting.clone_from(waker),
                None => *waiting = Some(waker.clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(state.take())
    }

    /// How far it is, if there is no answer yet and something was heard.
    pub fn progress(&self) -> Option<Progress> {
        match *self.state() {
            State::Empty(_, progress) => progress,
            _ => None,
        }
    }

    fn tell(&self, news: Progress) {
        if let State::Empty(_, progress) = &mut *self.state() {
            *progress = Some(news);
        }
    }
}

impl State {
    fn take(&mut self) -> Result<Reply, Error> {
        match std::mem::replace(self, Self::Done) {
            Self::Filled(answer) => answer,
            Self::Empty(..) | Self::Done => panic!("an answer is given once"),
        }
    }
}

impl Service {
    /// Serves the desk until it is closed, or the client can't go on.
    pub fn run(mut self) {
        self.error = self.serve().err();
    }

    fn serve(&mut self) -> Result<(), Arc<Error>> {
        loop {
            self.alarm.clear();
            let mut waiting = self.desk.waiting();
            if waiting.closed {
                return Ok(());
            }
            self.taken = take(&mut waiting.calls);
            let given_up = take(&mut waiting.given_up);
            drop(waiting);
            while let Some(call) = self.taken.pop() {
                self.submit(call)?;
            }
            self.cancel(&given_up)?;
            self.client.wait(&[self.alarm.as_fd()], None)?;
            if self.client.progress_has_changed() {
                self.tell();
            }
            while let Some(reply) = self.client.take_reply() {
                self.answer(reply);
            }
        }
    }

    /// Tells those who wait how far it is.
    fn tell(&self) {
        for (id, progress) in self.client.progress() {
            if let Some(slot) = self.calls.get(&id) {
                slot.tell(progress);
            }
        }
    }

    fn submit(&mut self, call: Call) -> Result<(), Arc<Error>> {
        let Call { body, deadline, slot } = call;
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match self.client.submit_within(body, timeout) {
            Ok(id) => {
                self.ids.insert(slot.number, id);
                self.calls.insert(id, slot);
            }
            Err(error @ Error::TooLarge(_)) => slot.fill(Err(error)),
            Err(error) => {
                let error = Arc::new(error);
                slot.fill(Err(Error::Ended(Arc::clone(&error))));
                return Err(error);
            }
        }
        Ok(())
    }

    fn answer(&mut self, reply: Reply) {
        let Some(slot) = self.calls.remove(&reply.id) else { return };
        self.ids.remove(&slot.number);
        slot.fill(Ok(reply));
    }

    /// Cancels what is under way of these, and has not been answered meanwhile.
    fn cancel(&mut self, numbers: &[u64]) -> Result<(), Error> {
        let ids: Vec<_> = numbers.iter().filter_map(|number| self.ids.remove(number)).collect();
        for id in &ids {
            self.calls.remove(id);
        }
        self.client.cancel(ids)
    }
}

/// Whoever waits is told, also if this thread panics.
impl Drop for Service {
    fn drop(&mut self) {
        let error = self.error.take().unwrap_or_else(|| Arc::new(Error::Interrupted));
        let mut waiting = self.desk.waiting();
        waiting.ended = Some(Arc::clone(&error));
        let new = take(&mut waiting.calls);
        drop(waiting);
        let waiting = self.taken.iter().chain(new.iter()).map(|call| &call.slot);
        for slot in waiting.chain(self.calls.values()) {
            slot.fill(Err(Error::Ended(Arc::clone(&error))));
        }
    }
}
