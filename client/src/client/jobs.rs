//! Durable jobs: requests that outlive this client.

mod home;
mod job;

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, FromClient, JobId, JobStatus, JobsReply, JobsRequest, MAX_MESSAGE_BYTES};
use giostra_transport::time::deadline;

use crate::inquiry::Inquiry;
use crate::session::{Link, Session};
use crate::submission::Submission;
use crate::{Client, Error, JobOptions};

pub use home::Homes;
pub use job::{Job, JobResult, Results, ResultsWithFailed};
pub(crate) use job::{only, results};

/// For how long to wait for a job's end at a time, if there are several brokers.
const PART: Duration = Duration::from_secs(1);

/// What the broker says about jobs.
enum Heard {
    /// When it has answered.
    Answer(Box<JobsReply>),
    /// When the connection was lost, and the question with it.
    Lost,
    /// When there is no answer until the time.
    Nothing,
}

impl Client {
    /// Submits a job: requests that are computed and whose results are kept whether or not this
    /// client, or even the broker, lives on. Returns when all requests are safe on the broker's disk.
    ///
    /// Of several brokers it is the one that this client uses, or for a job with a key the one that the
    /// key stands for: so the same key means the same job, as long as the brokers are the same. Every
    /// client with that broker in its list finds the job.
    ///
    /// The requests go to the pool of the client's [`Options`](crate::Options). The iterator is asked
    /// for more as the broker takes them; one that is interrupted leaves a job that is open, and is
    /// gone on with by the same [key](JobOptions::key).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, JobOptions, Options, body, result};
    /// let mut client = Client::connect(Options::default())?;
    /// let bodies: Result<Vec<_>, _> = (1..=1000).map(|n| body("is_prime", &[n])).collect();
    /// let id = client.submit_job(JobOptions::default().retries(2), bodies?)?;
    /// // Possibly days later, and in another process:
    /// let mut job = client.job(id);
    /// job.wait(None)?;
    /// for item in job.results(0) {
    ///     let (number, outcome) = item?;
    ///     println!("{number}: {}", result::<bool>(outcome)?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] if the broker keeps no jobs or its store is out of order,
    /// [`Error::TooLarge`] for a body of more than 64 MiB, [`Error::NoBroker`] if there is none for
    /// too long.
    pub fn submit_job(
        &mut self,
        options: JobOptions,
        requests: impl IntoIterator<Item = Bytes>,
    ) -> Result<JobId, Error> {
        self.try_submit_job(options, requests.into_iter().map(Ok))
    }

    /// As [`Self::submit_job`], of requests that are made on the way. The first that can't be made ends
    /// the submission, and cancels the job unless it has a key of yours: then the same submission goes on
    /// with it.
    ///
    /// # Errors
    /// As of [`Self::submit_job`], or the first error among the requests.
    pub fn try_submit_job(
        &mut self,
        options: JobOptions,
        requests: impl IntoIterator<Item = Result<Bytes, Error>>,
    ) -> Result<JobId, Error> {
        let home = self.home_for(options.key.as_deref())?;
        let mut submission = Submission::new(options, &home.options.pool, requests.into_iter());
        let ended = home.submit_parts(&mut submission);
        if ended.is_err()
            && let Some(request) = submission.give_up()
        {
            // If this can't be sent, the job stays open.
            let _ = home.send_about_jobs(0, request);
        }
        ended
    }

    /// Submits until everything is safe.
    fn submit_parts<I>(&mut self, submission: &mut Submission<I>) -> Result<JobId, Error>
    where
        I: Iterator<Item = Result<Bytes, Error>>,
    {
        self.jobs_asked += 1;
        let tag = self.jobs_asked;
        loop {
            self.await_broker()?;
            let session = self.session.number();
            submission.restart();
            loop {
                while let Some(request) = submission.poll_send(self.session.limits(), Instant::now())? {
                    self.send_message(FromClient::Jobs { tag, request })?;
                }
                match self.hear_about_jobs(tag, session, submission.poll_timeout())? {
                    Heard::Answer(answer) => {
                        if let Some(id) = submission.handle(*answer, Instant::now())? {
                            return Ok(id);
                        }
                    }
                    Heard::Lost => break,
                    Heard::Nothing => {}
                }
            }
        }
    }

    /// Checks that the broker that a job would be submitted to keeps jobs, and that its store is in
    /// order.
    ///
    /// # Errors
    /// As of [`Self::submit_job`].
    pub fn check_store(&mut self) -> Result<(), Error> {
        self.home_for(None)?.ask_about_jobs(JobsRequest::List { before: 0 }).map(drop)
    }

    /// The size of the largest request that the broker takes, in bytes. It is known once a broker has
    /// welcomed this client: see [`Self::await_broker`].
    pub fn max_request_bytes(&self) -> u64 {
        self.session.limits().0.min(MAX_MESSAGE_BYTES as u64)
    }

    /// The jobs that this client may see, the newest first; of several brokers those of all of them.
    ///
    /// # Errors
    /// As of [`Self::submit_job`]; also if one of several brokers can't be reached.
    pub fn jobs(&mut self) -> Result<Vec<JobStatus>, Error> {
        let mut jobs = Vec::new();
        if self.has_several() {
            for home in self.homes_with_jobs()? {
                jobs.extend(home.jobs()?);
            }
            jobs.sort_by_key(|job| Reverse(job.submitted_ms));
            return Ok(jobs);
        }
        let mut before = u64::MAX;
        loop {
            let JobsReply::Jobs(more) = self.ask_about_jobs(JobsRequest::List { before })? else {
                return Err(Error::not_an_answer());
            };
            let Some(last) = more.last() else { return Ok(jobs) };
            before = last.id.number;
            jobs.extend(more);
        }
    }

    /// A job, which the broker is not asked for yet.
    pub fn job(&mut self, id: JobId) -> Job<'_> {
        Job::new(self, id)
    }

    /// Asks, and waits for the answer of a broker that is there without a limit.
    fn ask_about_jobs(&mut self, question: JobsRequest) -> Result<JobsReply, Error> {
        let answer = self.ask_until(question, None)?;
        Ok(answer.expect("without a limit there is an answer"))
    }

    /// Asks, and asks again over each new connection. `None` if there is no answer until then.
    fn ask_until(&mut self, question: JobsRequest, until: Option<Instant>) -> Result<Option<JobsReply>, Error> {
        if let Some(job) = question.job()
            && self.has_several()
        {
            return self.ask_at_home(job, question, until);
        }
        let mut inquiry = Inquiry::new(question);
        loop {
            self.await_broker()?;
            self.jobs_asked += 1;
            let (tag, session) = (self.jobs_asked, self.session.number());
            self.send_message(FromClient::Jobs { tag, request: inquiry.ask() })?;
            match self.hear_about_jobs(tag, session, until)? {
                Heard::Answer(answer) => {
                    if let Some(answer) = inquiry.handle(*answer)? {
                        return Ok(Some(answer));
                    }
                }
                Heard::Lost => {}
                Heard::Nothing => return Ok(None),
            }
        }
    }

    /// Asks a job's home, for an end of it that may be far in parts, between which this connection is seen
    /// to.
    fn ask_at_home(
        &mut self,
        job: JobId,
        question: JobsRequest,
        until: Option<Instant>,
    ) -> Result<Option<JobsReply>, Error> {
        if !matches!(question, JobsRequest::Look { wait: true, .. }) {
            return self.at_home(job)?.ask_until(question, until);
        }
        loop {
            let part = deadline(Instant::now(), PART);
            let part = until.map_or(part, |until| until.min(part));
            let answer = self.at_home(job)?.ask_until(question.clone(), Some(part))?;
            if answer.is_some() || until.is_some_and(|until| until <= Instant::now()) {
                return Ok(answer);
            }
            self.turn()?;
        }
    }

    /// Waits for the next answer to this question, which was asked in this session.
    fn hear_about_jobs(&mut self, asked: u64, session: u64, until: Option<Instant>) -> Result<Heard, Error> {
        let heard = self.wait_for(until, |here: &mut Session| {
            while let Some((tag, answer)) = here.take_jobs_reply() {
                if tag == asked {
                    return Some(Heard::Answer(answer.into()));
                }
            }
            (here.link() != Link::Up || here.number() != session).then_some(Heard::Lost)
        })?;
        Ok(heard.unwrap_or(Heard::Nothing))
    }

    /// Says something about jobs at once.
    pub(crate) fn send_about_jobs(&mut self, tag: u64, request: JobsRequest) -> Result<(), Error> {
        self.send_now(FromClient::Jobs { tag, request })
    }

    /// Takes the next answer about jobs, and the number of its question.
    pub(crate) fn take_jobs_reply(&mut self) -> Option<(u64, JobsReply)> {
        self.session.take_jobs_reply()
    }

    /// The number of this connection's session, if a broker is there.
    pub(crate) fn session(&self) -> Option<u64> {
        (self.session.link() == Link::Up).then(|| self.session.number())
    }

    /// The bytes that the broker takes in one request, and the requests in one message.
    pub(crate) fn limits(&self) -> (u64, usize) {
        self.session.limits()
    }
}
