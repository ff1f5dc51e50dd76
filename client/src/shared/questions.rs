//! The questions about the broker and its jobs that a shared client has not had answered: asked again
//! over each new connection, and given up when there is no broker for too long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::{Bytes, JobId, JobStatus, JobsReply, JobsRequest, Status};

use super::slot::Slot;
use crate::client::admin::seats_of;
use crate::inquiry::Inquiry;
use crate::submission::Submission;
use crate::{Client, Error, JobOptions};

/// The number of questions that are asked at a time: the broker refuses more than 64.
const AT_ONCE: usize = 32;

/// What is asked.
pub enum Question {
    /// A question with one answer.
    Plain(Inquiry),
    /// Which jobs there are: asked again and again, until there are no more.
    List(Vec<JobStatus>),
    /// Whether a job is safe. The requests are on their way meanwhile.
    Submission(Box<Submission<Requests>>),
    /// What the broker's status is.
    Status,
    /// How many workers take requests of the pool of this name.
    Seats(String),
    /// Which store the broker has.
    Home,
}

/// The answer to a question.
pub enum Response {
    /// When it was about jobs.
    Jobs(Box<JobsReply>),
    /// When it was for the broker's status.
    Status(Box<Status>),
    /// When it was for the workers of a pool.
    Seats(u64),
    /// When it was for the store's number; `None` if the broker keeps no jobs.
    Home(Option<u32>),
}

/// The requests of a job.
pub type Requests = std::iter::Map<std::vec::IntoIter<Bytes>, fn(Bytes) -> Result<Bytes, Error>>;

impl Question {
    /// Returns a question with one answer.
    pub fn plain(request: JobsRequest) -> Self {
        Self::Plain(Inquiry::new(request))
    }

    /// Returns the question whether a job with these requests is safe.
    pub fn of_submission(options: JobOptions, pool: &str, requests: Vec<Bytes>) -> Self {
        let requests = requests.into_iter().map(Ok as fn(Bytes) -> Result<Bytes, Error>);
        Self::Submission(Submission::new(options, pool, requests).into())
    }

    /// Whether it is about jobs, which live at one broker.
    pub fn is_about_jobs(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::List(_) | Self::Submission(_))
    }

    /// Whether the broker's status has the answer.
    fn is_of_status(&self) -> bool {
        matches!(self, Self::Status | Self::Seats(_))
    }

    /// Begins again, over a new connection.
    fn restart(&mut self) {
        if let Self::Submission(submission) = self {
            submission.restart();
        }
    }

    /// Returns what to ask about jobs first; `None` for a submission and for the status.
    fn first(&mut self) -> Option<JobsRequest> {
        match self {
            Self::Plain(inquiry) => Some(inquiry.ask()),
            Self::List(jobs) => Some(next_page(jobs)),
            Self::Submission(_) | Self::Status | Self::Seats(_) | Self::Home => None,
        }
    }

    /// Whether it is answered soon.
    fn is_brief(&self) -> bool {
        match self {
            Self::Plain(inquiry) => !matches!(inquiry.request(), JobsRequest::Look { wait: true, .. }),
            Self::List(_) => true,
            Self::Submission(_) | Self::Status | Self::Seats(_) | Self::Home => false,
        }
    }

    /// Handles an answer.
    fn handle(&mut self, answer: JobsReply, now: Instant) -> Result<Next, Error> {
        match (self, answer) {
            (Self::Submission(submission), answer) => {
                let id = submission.handle(answer, now)?;
                Ok(id.map_or(Next::Wait, |id| Next::End(accepted(id))))
            }
            (Self::Plain(inquiry), answer) => Ok(match inquiry.handle(answer)? {
                Some(answer) => Next::End(answer),
                None => Next::Ask(inquiry.ask()),
            }),
            (_, JobsReply::Refused { reason }) => Err(Error::Refused(reason)),
            (Self::List(jobs), JobsReply::Jobs(more)) if more.is_empty() => {
                Ok(Next::End(JobsReply::Jobs(std::mem::take(jobs))))
            }
            (Self::List(jobs), JobsReply::Jobs(more)) => {
                jobs.extend(more);
                Ok(Next::Ask(next_page(jobs)))
            }
            (Self::List(_) | Self::Status | Self::Seats(_) | Self::Home, _) => Err(Error::not_an_answer()),
        }
    }
}

/// What follows from an answer.
enum Next {
    /// When there is nothing to do.
    Wait,
    /// When there is more to ask.
    Ask(JobsRequest),
    /// When this is the whole answer.
    End(JobsReply),
}

/// Returns the question for the jobs after these.
fn next_page(jobs: &[JobStatus]) -> JobsRequest {
    JobsRequest::List { before: jobs.last().map_or(u64::MAX, |last| last.id.number) }
}

fn accepted(id: JobId) -> JobsReply {
    JobsReply::Accepted { id, requests: 0, closed: true }
}

/// The open questions, by their tags.
#[derive(Default)]
pub struct Questions {
    open: BTreeMap<u64, Open>,
    last: u64,
    /// The session in which they were asked; `None` while there is no broker.
    session: Option<u64>,
    /// Whether the broker was asked for its status and has not answered.
    is_inspecting: bool,
}

/// A question without an answer.
struct Open {
    question: Question,
    slot: Arc<Slot<Response>>,
    /// Whether it was asked over this connection.
    is_asked: bool,
}

impl Questions {
    /// Adds a question, whose answer is wanted in this slot.
    pub fn add(&mut self, question: Question, slot: Arc<Slot<Response>>) {
        self.last += 1;
        self.open.insert(self.last, Open { question, slot, is_asked: false });
    }

    /// Handles the answers that have arrived, and asks what is to be asked. Returns when there will be
    /// something to do without a message.
    pub fn turn(&mut self, client: &mut Client, now: Instant) -> Result<Option<Instant>, Error> {
        self.forget_unwanted(client)?;
        while let Some((tag, answer)) = client.take_jobs_reply() {
            self.answer(client, tag, answer, now)?;
        }
        if let Some(status) = client.take_status() {
            self.answer_inspection(&status);
        }
        if self.session != client.session() {
            self.session = client.session();
            self.is_inspecting = false;
            for open in self.open.values_mut() {
                open.question.restart();
                open.is_asked = false;
            }
        }
        if self.session.is_none() {
            return Ok(self.give_up_at(client, now));
        }
        self.tell_home(client);
        self.ask(client)?;
        self.inspect(client)?;
        self.submit(client, now)
    }

    /// The session in which everything was asked; `None` while there is no broker.
    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// Ends all of them with this error.
    pub fn end(&mut self, error: &Arc<Error>) {
        for open in std::mem::take(&mut self.open).into_values() {
            open.slot.fill(Err(Error::Ended(Arc::clone(error))));
        }
    }

    fn answer(&mut self, client: &mut Client, tag: u64, answer: JobsReply, now: Instant) -> Result<(), Error> {
        let Some(Open { question, slot, .. }) = self.open.get_mut(&tag) else { return Ok(()) };
        match question.handle(answer, now) {
            Ok(Next::Wait) => return Ok(()),
            Ok(Next::Ask(request)) => return client.send_about_jobs(tag, request),
            Ok(Next::End(answer)) => slot.fill(Ok(Response::Jobs(answer.into()))),
            Err(error) => slot.fill(Err(error)),
        }
        self.open.remove(&tag);
        Ok(())
    }

    /// Asks as much as the broker listens to at a time. The rest follows with the answers.
    fn ask(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut asked = self.open.values().filter(|open| open.is_asked && open.question.is_brief()).count();
        for (&tag, open) in self.open.iter_mut().filter(|(_, open)| !open.is_asked) {
            let is_brief = open.question.is_brief();
            if is_brief && asked >= AT_ONCE {
                continue;
            }
            let Some(request) = open.question.first() else { continue };
            asked += usize::from(is_brief);
            client.send_about_jobs(tag, request)?;
            open.is_asked = true;
        }
        Ok(())
    }

    /// Answers which store the broker has, which its welcome has said.
    fn tell_home(&mut self, client: &Client) {
        let Some(home) = client.home() else { return };
        self.open.retain(|_, open| {
            let is_home = matches!(open.question, Question::Home);
            if is_home {
                open.slot.fill(Ok(Response::Home(home)));
            }
            !is_home
        });
    }

    /// Asks for the status once for all who want it. Those who come meanwhile wait for the next: theirs
    /// is to be no older than their question.
    fn inspect(&mut self, client: &mut Client) -> Result<(), Error> {
        if self.is_inspecting {
            return Ok(());
        }
        for open in self.open.values_mut().filter(|open| open.question.is_of_status()) {
            open.is_asked = true;
            self.is_inspecting = true;
        }
        if self.is_inspecting { client.inspect() } else { Ok(()) }
    }

    fn answer_inspection(&mut self, status: &Status) {
        self.is_inspecting = false;
        self.open.retain(|_, open| {
            let answer = match &open.question {
                Question::Status => Response::Status(status.clone().into()),
                Question::Seats(pool) => Response::Seats(seats_of(status, pool)),
                _ => return true,
            };
            if open.is_asked {
                open.slot.fill(Ok(answer));
            }
            !open.is_asked
        });
    }

    /// Sends the parts of submissions that are due.
    fn submit(&mut self, client: &mut Client, now: Instant) -> Result<Option<Instant>, Error> {
        let (mut failed, mut wake) = (Vec::new(), None);
        for (&tag, Open { question, slot, .. }) in &mut self.open {
            let Question::Submission(submission) = question else { continue };
            loop {
                match submission.poll_send(client.limits(), now) {
                    Ok(Some(request)) => client.send_about_jobs(tag, request)?,
                    Ok(None) => break,
                    Err(error) => {
                        slot.fill(Err(error));
                        failed.push(tag);
                        break;
                    }
                }
            }
            wake = [wake, submission.poll_timeout()].into_iter().flatten().min();
        }
        failed.into_iter().try_for_each(|tag| self.forget(client, tag))?;
        Ok(wake)
    }

    /// Ends all of them if there has been no broker for too long. Returns when that will be so.
    fn give_up_at(&mut self, client: &Client, now: Instant) -> Option<Instant> {
        let at = client.gives_up_at().filter(|_| !self.open.is_empty())?;
        if at > now {
            return Some(at);
        }
        for open in std::mem::take(&mut self.open).into_values() {
            open.slot.fill(Err(client.no_broker()));
        }
        None
    }

    /// Forgets those whose answer is not wanted any more.
    fn forget_unwanted(&mut self, client: &mut Client) -> Result<(), Error> {
        let unwanted = self.open.iter().filter(|(_, open)| Arc::strong_count(&open.slot) == 1);
        let unwanted: Vec<_> = unwanted.map(|(&tag, _)| tag).collect();
        unwanted.into_iter().try_for_each(|tag| self.forget(client, tag))
    }

    /// Forgets a question. A submission is given up.
    fn forget(&mut self, client: &mut Client, tag: u64) -> Result<(), Error> {
        let Some(Open { question: Question::Submission(submission), .. }) = self.open.remove(&tag) else {
            return Ok(());
        };
        match submission.give_up() {
            Some(request) if self.session.is_some() => client.send_about_jobs(0, request),
            _ => Ok(()),
        }
    }
}
