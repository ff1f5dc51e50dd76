//! Durable jobs: requests that outlive this client.

mod submission;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, FromClient, JobId, JobSpec, JobStatus, JobsReply, JobsRequest, Outcome};
use giostra_transport::time::deadline;

use crate::session::{Link, Session};
use crate::{Client, Error};
use submission::Submission;

/// What a job is called, and how its submission is recognised.
#[derive(Clone, Debug, Default)]
pub struct JobOptions {
    /// Makes the submission idempotent: the same key to the same pool gives the same job, however
    /// often it is submitted. One word of at most 64 characters; drawn at random without it.
    pub key: Option<String>,
    /// A name for people: one word, or empty.
    pub name: String,
}

/// A job at the broker, asked for by [`Client::job`].
pub struct Job<'a> {
    client: &'a mut Client,
    id: JobId,
}

impl Client {
    /// Submits a job: requests that are computed and whose results are kept whether or not this
    /// client, or even the broker, lives on. Returns when all requests are safe on the broker's disk.
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
    /// let id = client.submit_job(JobOptions::default(), bodies?)?;
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
    /// the submission, and cancels the job.
    ///
    /// # Errors
    /// As of [`Self::submit_job`], or the first error among the requests.
    pub fn try_submit_job(
        &mut self,
        options: JobOptions,
        requests: impl IntoIterator<Item = Result<Bytes, Error>>,
    ) -> Result<JobId, Error> {
        let key = options.key.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let spec = JobSpec { pool: self.options.pool.clone(), key, name: options.name, ..JobSpec::default() };
        Submission::new(spec, requests.into_iter()).run(self)
    }

    /// The jobs that this client may see, the newest first.
    ///
    /// # Errors
    /// As of [`Self::submit_job`].
    pub fn jobs(&mut self) -> Result<Vec<JobStatus>, Error> {
        let mut jobs = Vec::new();
        let mut before = u64::MAX;
        loop {
            let JobsReply::Jobs(more) = self.ask_about_jobs(&JobsRequest::List { before })? else {
                return Err(not_an_answer());
            };
            let Some(last) = more.last() else { return Ok(jobs) };
            before = last.id.number;
            jobs.extend(more);
        }
    }

    /// A job, which the broker is not asked for yet.
    pub fn job(&mut self, id: JobId) -> Job<'_> {
        Job { client: self, id }
    }

    /// Asks, and waits for the answer of a broker that is there without a limit.
    fn ask_about_jobs(&mut self, question: &JobsRequest) -> Result<JobsReply, Error> {
        let answer = self.ask_until(question, None)?;
        Ok(answer.expect("without a limit there is an answer"))
    }

    /// Asks, and asks again over each new connection. `None` if there is no answer until then.
    fn ask_until(&mut self, question: &JobsRequest, until: Option<Instant>) -> Result<Option<JobsReply>, Error> {
        loop {
            self.await_broker()?;
            self.jobs_asked += 1;
            let (asked, session) = (self.jobs_asked, self.session.number());
            self.send_message(FromClient::Jobs { tag: asked, request: question.clone() })?;
            let answer = self.wait_for(until, |here: &mut Session| {
                while let Some((tag, reply)) = here.take_jobs_reply() {
                    if tag == asked {
                        return Some(Some(reply));
                    }
                }
                // The question was lost with the connection.
                (here.link() != Link::Up || here.number() != session).then_some(None)
            })?;
            match answer {
                Some(Some(JobsReply::Refused { reason })) => return Err(Error::Refused(reason)),
                Some(Some(reply)) => return Ok(Some(reply)),
                Some(None) => {}
                None => return Ok(None),
            }
        }
    }
}

impl<'a> Job<'a> {
    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such job, or it is another client's.
    pub fn status(&mut self) -> Result<JobStatus, Error> {
        one(self.client.ask_about_jobs(&JobsRequest::Look { id: self.id, wait: false })?)
    }

    /// Waits until it has ended, or for this time. Returns how far it is.
    ///
    /// # Errors
    /// As of [`Self::status`].
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<JobStatus, Error> {
        let until = limit.map(|limit| deadline(Instant::now(), limit));
        let question = JobsRequest::Look { id: self.id, wait: true };
        match self.client.ask_until(&question, until)? {
            Some(reply) => one(reply),
            None => self.status(),
        }
    }

    /// Its results in the order of the requests, from this number on, as far as there are any: the
    /// first request has number 0. They are read as the iterator is asked for them, about a megabyte
    /// at a time. Requests that have no result yet are left out.
    pub fn results(self, from: u32) -> Results<'a> {
        Results { job: self, read: VecDeque::new(), next: Some(from) }
    }

    /// Ends it: what has no result yet is not computed. Results that there are can be collected.
    /// Does nothing if it has ended.
    ///
    /// # Errors
    /// As of [`Self::status`].
    pub fn cancel(&mut self) -> Result<JobStatus, Error> {
        one(self.client.ask_about_jobs(&JobsRequest::Cancel(self.id))?)
    }

    /// Deletes it with its results. It must have ended.
    ///
    /// # Errors
    /// As of [`Self::status`], and if it has not ended.
    pub fn delete(&mut self) -> Result<(), Error> {
        self.client.ask_about_jobs(&JobsRequest::Delete(self.id)).map(drop)
    }
}

/// The results of a job: numbers of requests and how they ended.
pub struct Results<'a> {
    job: Job<'a>,
    read: VecDeque<(u32, Outcome)>,
    /// From where on to ask for more; `None` at the end.
    next: Option<u32>,
}

impl Iterator for Results<'_> {
    type Item = Result<(u32, Outcome), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty() {
            let from = self.next?;
            let question = JobsRequest::Collect { id: self.job.id, from, with_failed: false };
            self.read = match self.job.client.ask_about_jobs(&question) {
                Ok(JobsReply::Results { results, .. }) => results.into(),
                Ok(_) => return self.fail(not_an_answer()),
                Err(error) => return self.fail(error),
            };
            self.next = self.read.back().map(|&(number, _)| number + 1);
        }
        self.read.pop_front().map(Ok)
    }
}

impl Results<'_> {
    fn fail(&mut self, error: Error) -> Option<Result<(u32, Outcome), Error>> {
        self.next = None;
        Some(Err(error))
    }
}

/// Returns the only job of an answer.
fn one(reply: JobsReply) -> Result<JobStatus, Error> {
    match reply {
        JobsReply::Jobs(jobs) => jobs.into_iter().next().ok_or_else(not_an_answer),
        _ => Err(not_an_answer()),
    }
}

fn not_an_answer() -> Error {
    Error::Refused("its answer is none to what was asked".into())
}
