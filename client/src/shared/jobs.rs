//! Durable jobs of a shared client: each question is a future.

use giostra_protocol::{Bytes, JobId, JobStatus, JobsReply, JobsRequest};

use super::questions::Question;
use super::{Asked, SharedClient};
use crate::client::{JobResult, only, results};
use crate::{Error, JobOptions};

impl SharedClient {
    /// Submits a job: see [`Client::submit_job`](crate::Client::submit_job). The answer is its id, once
    /// all requests are safe on the broker's disk. They are kept in memory until then. Dropped before,
    /// the answer cancels the job.
    ///
    /// ```no_run
    /// # use giostra_client::{CallError, JobOptions, SharedClient, body};
    /// async fn submit(client: &SharedClient) -> Result<(), CallError> {
    ///     let bodies: Result<Vec<_>, _> = (1..=1000).map(|n| body("is_prime", &[n])).collect();
    ///     let id = client.submit_job(JobOptions::default().name("night"), bodies?).await?;
    ///     let status = client.job(id).wait_for_end().await?;
    ///     println!("{} of {} succeeded", status.succeeded, status.requests);
    ///     Ok(())
    /// }
    /// ```
    pub fn submit_job(&self, options: JobOptions, requests: impl IntoIterator<Item = Bytes>) -> Asked<JobId> {
        let requests = requests.into_iter().collect();
        let question = Question::of_submission(options, &self.handle.0.pool, requests);
        self.ask(question, |response| match response.about_jobs()? {
            JobsReply::Accepted { id, .. } => Ok(id),
            _ => Err(Error::not_an_answer()),
        })
    }

    /// The jobs that this client may see, the newest first.
    pub fn jobs(&self) -> Asked<Vec<JobStatus>> {
        self.ask(Question::List(Vec::new()), |response| match response.about_jobs()? {
            JobsReply::Jobs(jobs) => Ok(jobs),
            _ => Err(Error::not_an_answer()),
        })
    }

    /// A job, which the broker is not asked for yet.
    pub fn job(&self, id: JobId) -> SharedJob {
        SharedJob { client: self.clone(), id }
    }
}

/// A job at the broker, asked for by [`SharedClient::job`]: as [`Job`](crate::Job), but each call
/// returns at once, and what it returns can be waited for or awaited.
#[derive(Clone, Debug)]
pub struct SharedJob {
    client: SharedClient,
    id: JobId,
}

impl SharedJob {
    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// How far it is. [`Error::Refused`] if there is no such job, or it is another client's.
    pub fn status(&self) -> Asked<JobStatus> {
        self.ask(JobsRequest::Look { id: self.id, wait: false })
    }

    /// How far it is when it has ended. Of more than 64 that wait for the same job over one connection, only
    /// the last 64 are answered.
    pub fn wait_for_end(&self) -> Asked<JobStatus> {
        self.ask(JobsRequest::Look { id: self.id, wait: true })
    }

    /// Its next results in the order of the requests, about a megabyte, from this number on: see
    /// [`Job::results`](crate::Job::results). Ask on from the last one's number plus one, until there
    /// are none.
    ///
    /// ```no_run
    /// # use giostra_client::{Error, SharedJob};
    /// async fn print(job: SharedJob) -> Result<(), Error> {
    ///     let mut from = 0;
    ///     loop {
    ///         let results = job.results(from).await?;
    ///         let Some(last) = results.last() else { return Ok(()) };
    ///         from = last.number + 1;
    ///         results.iter().for_each(|result| println!("{}: {:?}", result.number, result.outcome));
    ///     }
    /// }
    /// ```
    pub fn results(&self, from: u32) -> Asked<Vec<JobResult>> {
        let question = JobsRequest::Collect { id: self.id, from, with_failed: false };
        self.client.ask(Question::plain(question), |response| results(response.about_jobs()?))
    }

    /// As [`Self::results`], with the bodies of the requests that failed.
    pub fn results_with_failed(&self, from: u32) -> Asked<Vec<JobResult>> {
        let question = JobsRequest::Collect { id: self.id, from, with_failed: true };
        self.client.ask(Question::plain(question), |response| results(response.about_jobs()?))
    }

    /// Ends it: see [`Job::cancel`](crate::Job::cancel).
    pub fn cancel(&self) -> Asked<JobStatus> {
        self.ask(JobsRequest::Cancel(self.id))
    }

    /// Has the requests that failed computed again: see [`Job::retry`](crate::Job::retry).
    pub fn retry(&self) -> Asked<JobStatus> {
        self.ask(JobsRequest::Retry(self.id))
    }

    /// Deletes it with its results. It must have ended.
    pub fn delete(&self) -> Asked<()> {
        self.client.ask(Question::plain(JobsRequest::Delete(self.id)), |_| Ok(()))
    }

    fn ask(&self, question: JobsRequest) -> Asked<JobStatus> {
        self.client.ask(Question::plain(question), |response| only(response.about_jobs()?))
    }
}
