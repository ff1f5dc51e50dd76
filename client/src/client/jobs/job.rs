//! One job: how far it is, and its results.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, JobId, JobStatus, JobsReply, JobsRequest, Outcome};
use giostra_transport::time::deadline;

use crate::{Client, Error};

/// A job at the broker, asked for by [`Client::job`].
pub struct Job<'a> {
    client: &'a mut Client,
    id: JobId,
}

impl<'a> Job<'a> {
    pub(super) fn new(client: &'a mut Client, id: JobId) -> Self {
        Self { client, id }
    }

    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such job, or it is another client's.
    pub fn status(&mut self) -> Result<JobStatus, Error> {
        self.ask(JobsRequest::Look { id: self.id, wait: false })
    }

    /// Waits until it has ended, or for this time. Returns how far it is. A broker that is restarted
    /// meanwhile is asked again.
    ///
    /// # Errors
    /// As of [`Self::status`].
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<JobStatus, Error> {
        let until = limit.map(|limit| deadline(Instant::now(), limit));
        let question = JobsRequest::Look { id: self.id, wait: true };
        match self.client.ask_until(question, until)? {
            Some(answer) => only(answer),
            None => self.status(),
        }
    }

    /// Its results in the order of the requests, from this number on, as far as there are any: the
    /// first request has number 0. They are read as the iterator is asked for them, about a megabyte
    /// at a time. Requests that have no result yet are left out.
    pub fn results(self, from: u32) -> Results<'a> {
        Results(Reader { job: self, with_failed: false, read: VecDeque::new(), next: Some(from) })
    }

    /// Ends it: what has no result yet is not computed. Results that there are can be collected.
    /// Does nothing if it has ended.
    ///
    /// # Errors
    /// As of [`Self::status`].
    pub fn cancel(&mut self) -> Result<JobStatus, Error> {
        self.ask(JobsRequest::Cancel(self.id))
    }

    /// Has the requests that failed computed again, and returns how far the job is then: it is running.
    /// It must be finished.
    ///
    /// # Errors
    /// As of [`Self::status`], and if it is not finished.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, JobId, Options};
    /// # let mut client = Client::connect(Options::default())?;
    /// # let id: JobId = "5f3a9c01-12".parse()?;
    /// let mut job = client.job(id);
    /// while job.wait(None)?.failed > 0 {
    ///     job.retry()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(&mut self) -> Result<JobStatus, Error> {
        self.ask(JobsRequest::Retry(self.id))
    }

    /// Deletes it with its results. It must have ended. If the answer is lost with the connection, the
    /// order is given again; a job that is gone then is deleted.
    ///
    /// # Errors
    /// As of [`Self::status`], and if it has not ended.
    pub fn delete(&mut self) -> Result<(), Error> {
        self.client.ask_about_jobs(JobsRequest::Delete(self.id)).map(drop)
    }

    fn ask(&mut self, question: JobsRequest) -> Result<JobStatus, Error> {
        only(self.client.ask_about_jobs(question)?)
    }
}

/// The result of a request of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobResult {
    /// The number of the request; the first is 0.
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The request's body, if it failed and the broker still has it.
    pub request: Option<Bytes>,
}

/// The results of a job: numbers of requests and how they ended. See [`Job::results`].
pub struct Results<'a>(Reader<'a>);

/// The results of a job, and the requests that failed. See [`Results::with_failed`].
pub struct ResultsWithFailed<'a>(Reader<'a>);

impl<'a> Results<'a> {
    /// Adds the bodies of the requests that failed.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, JobId, Options};
    /// # let mut client = Client::connect(Options::default())?;
    /// # let id: JobId = "5f3a9c01-12".parse()?;
    /// for item in client.job(id).results(0).with_failed() {
    ///     if let Some(body) = item?.request {
    ///         println!("{body:?} failed");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_failed(mut self) -> ResultsWithFailed<'a> {
        self.0.with_failed = true;
        ResultsWithFailed(self.0)
    }
}

impl Iterator for Results<'_> {
    type Item = Result<(u32, Outcome), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|JobResult { number, outcome, .. }| (number, outcome)))
    }
}

impl Iterator for ResultsWithFailed<'_> {
    type Item = Result<JobResult, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Reads results, an answer at a time.
struct Reader<'a> {
    job: Job<'a>,
    with_failed: bool,
    read: VecDeque<JobResult>,
    /// From where on to ask for more; `None` at the end.
    next: Option<u32>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Result<JobResult, Error>> {
        if self.read.is_empty() {
            let question = JobsRequest::Collect { id: self.job.id, from: self.next?, with_failed: self.with_failed };
            let answer = self.job.client.ask_about_jobs(question).and_then(results);
            match answer {
                Ok(results) => self.read = results.into(),
                Err(error) => {
                    self.next = None;
                    return Some(Err(error));
                }
            }
            self.next = self.read.back().and_then(|last| last.number.checked_add(1));
        }
        self.read.pop_front().map(Ok)
    }
}

/// Returns the only job of an answer.
pub(crate) fn only(answer: JobsReply) -> Result<JobStatus, Error> {
    match answer {
        JobsReply::Jobs(jobs) => jobs.into_iter().next().ok_or_else(Error::not_an_answer),
        _ => Err(Error::not_an_answer()),
    }
}

/// Returns the results of an answer, each with its request if that is there.
pub(crate) fn results(answer: JobsReply) -> Result<Vec<JobResult>, Error> {
    let JobsReply::Results { results, failed, .. } = answer else { return Err(Error::not_an_answer()) };
    let mut failed = failed.into_iter().peekable();
    let with_request = |(number, outcome)| {
        while failed.next_if(|&(other, _)| other < number).is_some() {}
        let request = failed.next_if(|&(other, _)| other == number).map(|(_, body)| body);
        JobResult { number, outcome, request }
    };
    Ok(results.into_iter().map(with_request).collect())
}

#[cfg(test)]
mod tests {
    use giostra_protocol::Failure;

    use super::*;

    #[test]
    fn each_request_that_failed_is_with_its_own_result() {
        let body = || Bytes::from_static(b"body");
        let outcomes = [Outcome::Ok(body()), Outcome::Error(Failure::from("why")), Outcome::Error("why".into())];
        let answer = JobsReply::Results {
            job: JobStatus::default(),
            results: [4, 5, 9].into_iter().zip(outcomes).collect(),
            failed: vec![(1, body()), (9, body())],
        };
        let requests: Vec<_> =
            results(answer).unwrap().into_iter().map(|result| (result.number, result.request)).collect();
        assert_eq!(requests, [(4, None), (5, None), (9, Some(body()))]);
        assert!(results(JobsReply::Jobs(vec![])).is_err());
    }
}
