//! The thread that drives the connection of a shared client, and the inbox through which it receives
//! calls.

use std::mem::take;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Priority, Reply, RequestId};
use giostra_transport::time::deadline;
use giostra_transport::wake::{self, Alarm, Waker};
use rustc_hash::FxHashMap;

use super::homes::Homes;
use super::questions::{Question, Questions, Response};
use super::slot::Slot;
use crate::{Client, Error};

/// Where calls are submitted.
pub struct Inbox {
    /// The pool that everything goes to.
    pub pool: String,
    contents: Mutex<Contents>,
    waker: Waker,
}

/// What the driver has not seen yet.
struct Contents {
    /// New calls by number.
    calls: SparseQueue<Call>,
    /// The numbers of calls that the driver has, and whose answers are not wanted any more.
    abandoned: Vec<u64>,
    last_number: u64,
    /// New questions about the broker and its jobs.
    questions: Vec<(Question, Arc<Slot<Response>>)>,
    /// Whether the answer to a question is not wanted any more.
    has_unwanted: bool,
    is_closed: bool,
    /// Why the driver has ended.
    ended: Option<Arc<Error>>,
}

struct Call {
    body: Bytes,
    priority: Priority,
    deadline: Option<Instant>,
    slot: Arc<Slot<Reply>>,
}

/// The thread's state.
pub struct Driver {
    client: Client,
    inbox: Arc<Inbox>,
    alarm: Alarm,
    /// Calls that were taken from the inbox, and are about to be submitted.
    taken: SparseQueue<Call>,
    /// The slots of submitted calls.
    slots: FxHashMap<RequestId, Arc<Slot<Reply>>>,
    /// The request ids of submitted calls by their numbers.
    ids: FxHashMap<u64, RequestId>,
    questions: Questions,
    /// Where questions about jobs go, if there are several brokers.
    homes: Option<Homes>,
    /// Why it can't go on.
    error: Option<Arc<Error>>,
}

impl Inbox {
    /// Submits a request. Returns the slot of its answer.
    pub fn submit(&self, body: Bytes, priority: Priority, timeout: Option<Duration>) -> Arc<Slot<Reply>> {
        let deadline = timeout.map(|timeout| deadline(Instant::now(), timeout));
        let mut contents = self.contents();
        if let Some(error) = &contents.ended {
            return Slot::failed(Error::Ended(Arc::clone(error)));
        }
        contents.last_number += 1;
        let number = contents.last_number;
        let slot = Slot::new(number);
        contents.calls.push(number, Call { body, priority, deadline, slot: Arc::clone(&slot) });
        drop(contents);
        self.waker.wake();
        slot
    }

    /// Asks something about the broker or its jobs. Returns the slot of the answer.
    pub fn ask(&self, question: Question) -> Arc<Slot<Response>> {
        let slot = Slot::new(0);
        self.ask_for(question, Arc::clone(&slot));
        slot
    }

    /// As [`Self::ask`], with the slot for the answer.
    pub fn ask_for(&self, question: Question, slot: Arc<Slot<Response>>) {
        let mut contents = self.contents();
        if let Some(error) = &contents.ended {
            return slot.fill(Err(Error::Ended(Arc::clone(error))));
        }
        contents.questions.push((question, slot));
        drop(contents);
        self.waker.wake();
    }

    /// The answer to a question is not wanted any more: nobody but the driver has its slot.
    pub fn abandon_question(&self) {
        self.contents().has_unwanted = true;
        self.waker.wake();
    }

    /// Wakes the driver.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Cancels the call of this slot, unless it was answered.
    pub fn abandon(&self, slot: &Slot<Reply>) {
        if !slot.abandon() {
            return;
        }
        let mut contents = self.contents();
        if contents.calls.take(slot.number).is_none() {
            contents.abandoned.push(slot.number);
            drop(contents);
            self.waker.wake();
        }
    }

    /// Ends the driver: nobody is left to ask, nor to be answered.
    pub fn close(&self) {
        self.contents().is_closed = true;
        self.waker.wake();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    /// Creates the driver of this client, and its inbox.
    pub fn new(client: Client) -> Result<(Arc<Inbox>, Self), Error> {
        let (waker, alarm) = wake::alarm().map_err(Error::Thread)?;
        let contents = Contents {
            calls: SparseQueue::default(),
            abandoned: Vec::new(),
            last_number: 0,
            questions: Vec::new(),
            has_unwanted: false,
            is_closed: false,
            ended: None,
        };
        let inbox = Arc::new(Inbox { pool: client.pool().into(), contents: Mutex::new(contents), waker });
        let homes = client.has_several().then(|| Homes::new(client.options(), Arc::clone(&inbox)));
        let driver = Self {
            client,
            inbox: Arc::clone(&inbox),
            alarm,
            taken: SparseQueue::default(),
            slots: FxHashMap::default(),
            ids: FxHashMap::default(),
            questions: Questions::default(),
            homes,
            error: None,
        };
        Ok((inbox, driver))
    }

    /// Drives the connection until the inbox is closed, or the client can't go on.
    pub fn run(mut self) {
        self.error = self.serve().err();
    }

    fn serve(&mut self) -> Result<(), Arc<Error>> {
        loop {
            self.alarm.clear();
            let mut contents = self.inbox.contents();
            if contents.is_closed {
                return Ok(());
            }
            self.taken = take(&mut contents.calls);
            let (abandoned, questions) = (take(&mut contents.abandoned), take(&mut contents.questions));
            let has_unwanted = take(&mut contents.has_unwanted);
            drop(contents);
            for (question, slot) in questions {
                match &mut self.homes {
                    Some(homes) if question.is_about_jobs() => homes.add(question, slot),
                    _ => self.questions.add(question, slot),
                }
            }
            while let Some(call) = self.taken.pop() {
                self.submit(call)?;
            }
            self.cancel(&abandoned)?;
            if let Some(homes) = &mut self.homes {
                homes.turn(&self.client, has_unwanted);
            }
            let until = self.questions.turn(&mut self.client, Instant::now())?;
            self.client.wait_for_any(&[self.alarm.as_fd()], until, self.questions.session())?;
            if self.client.progress_has_changed() {
                self.report_progress();
            }
            while let Some(reply) = self.client.take_reply() {
                self.answer(reply);
            }
        }
    }

    fn report_progress(&self) {
        for (id, progress) in self.client.progress() {
            if let Some(slot) = self.slots.get(&id) {
                slot.set_progress(progress);
            }
        }
    }

    fn submit(&mut self, call: Call) -> Result<(), Arc<Error>> {
        let Call { body, priority, deadline, slot } = call;
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match self.client.submit_as(body, timeout, priority) {
            Ok(id) => {
                self.ids.insert(slot.number, id);
                self.slots.insert(id, slot);
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
        let Some(slot) = self.slots.remove(&reply.id) else { return };
        self.ids.remove(&slot.number);
        slot.fill(Ok(reply));
    }

    /// Cancels those of these calls that have not been answered meanwhile.
    fn cancel(&mut self, numbers: &[u64]) -> Result<(), Error> {
        let ids: Vec<_> = numbers.iter().filter_map(|number| self.ids.remove(number)).collect();
        for id in &ids {
            self.slots.remove(id);
        }
        self.client.cancel(ids)
    }
}

/// For the answers of other clients.
impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.waker.wake();
    }
}

/// Everybody who waits learns that the driver has ended, also if it panicked.
impl Drop for Driver {
    fn drop(&mut self) {
        let error = self.error.take().unwrap_or_else(|| Arc::new(Error::Interrupted));
        let mut contents = self.inbox.contents();
        contents.ended = Some(Arc::clone(&error));
        let (new, questions) = (take(&mut contents.calls), take(&mut contents.questions));
        drop(contents);
        self.questions.end(&error);
        if let Some(homes) = &mut self.homes {
            homes.end(&error);
        }
        for (_, slot) in questions {
            slot.fill(Err(Error::Ended(Arc::clone(&error))));
        }
        let unsubmitted = self.taken.iter().chain(new.iter()).map(|call| &call.slot);
        for slot in unsubmitted.chain(self.slots.values()) {
            slot.fill(Err(Error::Ended(Arc::clone(&error))));
        }
    }
}
