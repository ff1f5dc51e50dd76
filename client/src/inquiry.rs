//! A question or an order about jobs, without a socket: it is asked again over each new connection. An
//! order whose answer was lost may have been carried out; refused then, it is not taken for one that
//! was not.

use giostra_protocol::{JobState, JobsReply, JobsRequest};

use crate::Error;

/// A question or an order about jobs that has no answer yet.
#[derive(Debug)]
pub struct Inquiry {
    request: JobsRequest,
    /// How often it was asked.
    asked: u32,
    /// Why it was refused when it was asked again. What became of the job is asked next.
    refused: Option<String>,
}

impl Inquiry {
    /// One that was not asked yet.
    pub fn new(request: JobsRequest) -> Self {
        Self { request, asked: 0, refused: None }
    }

    /// What is asked for.
    pub fn request(&self) -> &JobsRequest {
        &self.request
    }

    /// Returns what to ask: at first, over each new connection, and whenever [`Self::handle`] returns
    /// `None`.
    pub fn ask(&mut self) -> JobsRequest {
        match (&self.request, &self.refused) {
            (&JobsRequest::Retry(id), Some(_)) => JobsRequest::Look { id, wait: false },
            // A list does not name a job that is not there. A refusal has several reasons.
            (JobsRequest::Delete(id), Some(_)) => JobsRequest::List { before: id.number.saturating_add(1) },
            _ => {
                self.asked += 1;
                self.request.clone()
            }
        }
    }

    /// Handles an answer. Returns it, or `None` if more is to be asked.
    ///
    /// # Errors
    /// [`Error::Refused`] if the broker refuses, unless it has carried the order out before.
    pub fn handle(&mut self, answer: JobsReply) -> Result<Option<JobsReply>, Error> {
        let is_order = matches!(self.request, JobsRequest::Retry(_) | JobsRequest::Delete(_));
        match (self.refused.take(), answer) {
            (None, JobsReply::Refused { reason }) if is_order && self.asked > 1 => {
                self.refused = Some(reason);
                Ok(None)
            }
            (_, JobsReply::Refused { reason }) => Err(Error::Refused(reason)),
            (Some(reason), answer) if !self.was_carried_out(&answer) => Err(Error::Refused(reason)),
            (_, answer) => Ok(Some(answer)),
        }
    }

    /// Whether the order was carried out, by what the broker says of the job.
    fn was_carried_out(&self, answer: &JobsReply) -> bool {
        let JobsReply::Jobs(jobs) = answer else { return false };
        match &self.request {
            JobsRequest::Retry(_) => jobs.first().is_some_and(|job| job.state == JobState::Running),
            JobsRequest::Delete(id) => {
                jobs.first().is_none_or(|job| job.id.home == id.home && job.id.number < id.number)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{JobId, JobStatus};

    use super::*;

    const ID: JobId = JobId { home: 7, number: 12 };

    /// An order that was given twice, and whose first answer was lost.
    fn given_again(request: JobsRequest) -> Inquiry {
        let mut inquiry = Inquiry::new(request.clone());
        assert_eq!([inquiry.ask(), inquiry.ask()], [request.clone(), request]);
        inquiry
    }

    fn refused(reason: &str) -> JobsReply {
        JobsReply::Refused { reason: reason.into() }
    }

    fn job(number: u64, state: JobState) -> JobStatus {
        JobStatus { id: JobId { number, ..ID }, state, ..JobStatus::default() }
    }

    /// What becomes of it when it is refused, and this is what the broker says then.
    fn after_refusal(mut inquiry: Inquiry, asked: &JobsRequest, jobs: Vec<JobStatus>) -> Result<bool, String> {
        assert_eq!(inquiry.handle(refused("first")).unwrap(), None);
        // Over one more connection it is the same.
        assert_eq!([&inquiry.ask(), &inquiry.ask()], [asked, asked]);
        inquiry.handle(JobsReply::Jobs(jobs)).map(|answer| answer.is_some()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_job_that_runs_after_the_answer_was_lost_is_being_retried() {
        let look = JobsRequest::Look { id: ID, wait: false };
        let ended = |state| after_refusal(given_again(JobsRequest::Retry(ID)), &look, vec![job(ID.number, state)]);
        assert_eq!(ended(JobState::Running), Ok(true));
        assert!(ended(JobState::Cancelled).unwrap_err().contains("first"));
    }

    #[test]
    fn a_job_that_is_gone_after_the_answer_was_lost_is_deleted() {
        let list = JobsRequest::List { before: ID.number + 1 };
        let ended = |jobs| after_refusal(given_again(JobsRequest::Delete(ID)), &list, jobs);
        assert_eq!(ended(vec![]), Ok(true));
        assert_eq!(ended(vec![job(ID.number - 1, JobState::Finished)]), Ok(true));
        assert!(ended(vec![job(ID.number, JobState::Running)]).unwrap_err().contains("first"));
        let elsewhere = JobStatus { id: JobId { home: 8, number: 1 }, ..JobStatus::default() };
        assert!(ended(vec![elsewhere]).unwrap_err().contains("first"), "of another store nothing is known");
    }

    #[test]
    fn what_is_refused_at_once_or_again_or_was_only_asked_for_is_refused() {
        for request in [JobsRequest::Retry(ID), JobsRequest::Delete(ID)] {
            let mut inquiry = Inquiry::new(request.clone());
            inquiry.ask();
            assert!(inquiry.handle(refused("no")).is_err());
            let mut inquiry = given_again(request);
            assert_eq!(inquiry.handle(refused("first")).unwrap(), None);
            let error = inquiry.handle(refused("the store is out of order")).unwrap_err().to_string();
            assert!(error.contains("out of order"), "{error}");
        }
        let mut look = given_again(JobsRequest::Look { id: ID, wait: false });
        assert!(look.handle(refused("no")).is_err());
        let answer = JobsReply::Jobs(vec![job(1, JobState::Finished)]);
        assert_eq!(given_again(JobsRequest::Cancel(ID)).handle(answer.clone()).unwrap(), Some(answer));
    }
}
