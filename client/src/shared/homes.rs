//! Questions about jobs where there are several brokers: each goes to the job's home, over a connection
//! of its own, made when the first job is asked about.

use std::cmp::Reverse;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use giostra_protocol::{JobStatus, JobsReply};

use super::driver::Inbox;
use super::questions::{Question, Response};
use super::slot::Slot;
use super::{Asked, SharedClient};
use crate::homes::{Known, all_of, home_for_new, home_of};
use crate::{Client, Error, Options, Shutdown};

type Answer = Arc<Slot<Response>>;

/// A client of each broker of a list by itself, and what is to be asked.
pub struct Homes {
    options: Options,
    each: Vec<Options>,
    brokers: Vec<Broker>,
    known: Vec<Known>,
    /// Questions whose broker is not known yet.
    waiting: Vec<(Question, Answer)>,
    /// All jobs of all brokers.
    lists: Vec<(Vec<Asking<Vec<JobStatus>>>, Answer)>,
    /// Has [`Self::turn`] called.
    waker: Waker,
}

#[derive(Default)]
struct Broker {
    /// One that can't go on is made anew.
    client: Option<SharedClient>,
    /// The question which store it has.
    asked: Option<Asked<Option<u32>>>,
}

/// A question, and its answer once it is there.
enum Asking<T> {
    Asked(Asked<T>),
    Answered(Result<T, Error>),
}

impl Homes {
    /// Nothing is connected yet.
    pub fn new(options: &Options, inbox: Arc<Inbox>) -> Self {
        let each = options.each();
        let brokers = each.iter().map(|_| Broker::default()).collect();
        let known = each.iter().map(|_| Known::Nothing).collect();
        let (waiting, lists, waker) = (Vec::new(), Vec::new(), inbox.into());
        Self { options: options.clone(), each, brokers, known, waiting, lists, waker }
    }

    /// Adds a question about jobs.
    pub fn add(&mut self, question: Question, slot: Answer) {
        self.waiting.push((question, slot));
        for ((broker, known), options) in self.brokers.iter_mut().zip(&mut self.known).zip(&self.each) {
            broker.ask(options, known);
        }
    }

    /// Ends all that is waiting with this error. What was handed on has its answer from there.
    pub fn end(&mut self, error: &Arc<Error>) {
        let waiting = self.waiting.drain(..).map(|(_, slot)| slot);
        for slot in waiting.chain(self.lists.drain(..).map(|(_, slot)| slot)) {
            slot.fill(Err(Error::Ended(Arc::clone(error))));
        }
    }

    /// Hands on what there is to hand on. `client` is the one of all brokers. `has_unwanted`: the answer
    /// to a question is not wanted any more.
    pub fn turn(&mut self, client: &Client, has_unwanted: bool) {
        if self.options.shutdown.as_ref().is_some_and(Shutdown::requested) {
            // All end now, and with the same error.
            return;
        }
        if has_unwanted {
            self.waiting.retain(|(_, slot)| Arc::strong_count(slot) > 1);
            self.lists.retain(|(_, slot)| Arc::strong_count(slot) > 1);
            self.brokers.iter().filter_map(|broker| broker.client.as_ref()).for_each(SharedClient::wake);
        }
        let context = &mut Context::from_waker(&self.waker);
        self.brokers.iter_mut().zip(&mut self.known).for_each(|(broker, known)| broker.poll(known, context));
        for (question, slot) in take(&mut self.waiting) {
            match self.place_of(&question, client) {
                // A broker may have another store by now.
                Err(_) if self.brokers.iter().any(|broker| broker.asked.is_some()) => {
                    self.waiting.push((question, slot));
                }
                Ok(None) => self.waiting.push((question, slot)),
                Ok(Some(_)) if matches!(question, Question::List(_)) => self.ask_all(slot),
                Ok(Some(place)) => self.brokers[place].forward(&self.each[place], question, slot),
                Err(error) => slot.fill(Err(error)),
            }
        }
        let context = &mut Context::from_waker(&self.waker);
        for (mut asking, slot) in take(&mut self.lists) {
            asking.iter_mut().for_each(|one| one.poll(context));
            match asking.iter().all(|one| matches!(one, Asking::Answered(_))) {
                true => slot.fill(merged(asking)),
                false => self.lists.push((asking, slot)),
            }
        }
    }

    fn place_of(&self, question: &Question, client: &Client) -> Result<Option<usize>, Error> {
        let (each, known) = (&self.each, &self.known);
        match question {
            Question::Submission(submission) => match submission.key() {
                Some(key) => Ok(Some(self.options.place_of(key))),
                None => home_for_new(client.current(), each, known),
            },
            Question::Plain(inquiry) => match inquiry.request().job() {
                Some(job) => home_of(job, each, known),
                None => Ok(Some(0)),
            },
            _ => all_of(each, known),
        }
    }

    fn ask_all(&mut self, slot: Answer) {
        let with_jobs = self.brokers.iter().zip(&self.known).filter(|(_, known)| matches!(known, Known::Home(Some(_))));
        let clients = with_jobs.filter_map(|(broker, _)| broker.client.as_ref());
        let asking = clients.map(|client| Asking::Asked(client.jobs()));
        self.lists.push((asking.collect(), slot));
    }
}

impl Broker {
    /// Asks which store it has.
    fn ask(&mut self, options: &Options, known: &mut Known) {
        if matches!(known, Known::Gone(_)) {
            *known = Known::Nothing;
        }
        if self.asked.is_none() {
            match self.client(options).map(SharedClient::home) {
                Ok(asked) => self.asked = Some(asked),
                Err(error) => *known = Known::Gone(error),
            }
        }
    }

    fn poll(&mut self, known: &mut Known, context: &mut Context<'_>) {
        let Some(asked) = &mut self.asked else { return };
        let Poll::Ready(answer) = Pin::new(asked).poll(context) else { return };
        self.asked = None;
        *known = match answer {
            Ok(home) => Known::Home(home),
            Err(error) => {
                if matches!(error, Error::Ended(_)) {
                    self.client = None;
                }
                Known::Gone(error)
            }
        };
    }

    fn forward(&mut self, options: &Options, question: Question, slot: Answer) {
        match self.client(options) {
            Ok(client) => client.ask_for(question, slot),
            Err(error) => slot.fill(Err(error)),
        }
    }

    fn client(&mut self, options: &Options) -> Result<&SharedClient, Error> {
        match &mut self.client {
            Some(client) => Ok(client),
            client => Ok(client.insert(SharedClient::connect(options.clone())?)),
        }
    }
}

impl<T> Asking<T> {
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Self::Asked(asked) = self
            && let Poll::Ready(answer) = Pin::new(asked).poll(context)
        {
            *self = Self::Answered(answer);
        }
    }
}

/// Returns all jobs of several brokers, the newest first.
fn merged(answers: Vec<Asking<Vec<JobStatus>>>) -> Result<Response, Error> {
    let mut all = Vec::new();
    for answer in answers {
        if let Asking::Answered(jobs) = answer {
            all.extend(jobs?);
        }
    }
    all.sort_by_key(|job| Reverse(job.submitted_ms));
    Ok(Response::Jobs(JobsReply::Jobs(all).into()))
}
