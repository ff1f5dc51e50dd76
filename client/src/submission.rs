//! The submission of a job, without a socket and a clock: parts of it are on their way, each until the
//! broker says that it is safe.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, JobId, JobSpec, JobsReply, JobsRequest, MAX_MESSAGE_BYTES};

use crate::{Error, JobOptions};

/// The largest number of requests in one part: the store keeps them as one row.
const PART: usize = 1024;

/// About how many bytes of requests are in one part at most.
const PART_BYTES: usize = 256 << 10;

/// The number of parts that may be on their way: what gathers while the broker's disk syncs.
const WINDOW: usize = 16;

/// How long to wait when the broker has no room.
const PAUSE: Duration = Duration::from_millis(20);

/// A submission under way.
pub struct Submission<I: Iterator<Item = Result<Bytes, Error>>> {
    spec: JobSpec,
    /// Whether its user has named it, and can go on with it.
    has_key: bool,
    requests: Peekable<I>,
    /// Parts that are not safe yet, without a gap.
    parts: VecDeque<Part>,
    /// How many of them have been sent over this connection; the rest follows.
    sent: usize,
    /// When to send again what the broker had no room for, and what it therefore ignored.
    resend_at: Option<Instant>,
    /// The number of the next request of the iterator.
    next: u32,
    /// Whether the last part was made.
    is_complete: bool,
}

struct Part {
    first: u32,
    bodies: Vec<Bytes>,
    closes: bool,
}

impl<I: Iterator<Item = Result<Bytes, Error>>> Submission<I> {
    /// Begins with the first request. Nothing is taken from the iterator yet.
    pub fn new(options: JobOptions, pool: &str, requests: I) -> Self {
        let (parts, requests) = (VecDeque::new(), requests.peekable());
        let has_key = options.key.is_some();
        let spec = options.spec(pool);
        Self { spec, has_key, requests, parts, sent: 0, resend_at: None, next: 0, is_complete: false }
    }

    /// The key that its user has given it.
    pub fn key(&self) -> Option<&str> {
        self.has_key.then_some(&self.spec.key)
    }

    /// Sends everything again that is not safe: over a new connection.
    pub fn restart(&mut self) {
        (self.sent, self.resend_at) = (0, None);
    }

    /// Returns the next part to send, if there is one by now. `limits` are the bytes that the broker
    /// takes in one request, and the requests that it takes in one message.
    ///
    /// # Errors
    /// If a request can't be made, or is too large.
    pub fn poll_send(&mut self, limits: (u64, usize), now: Instant) -> Result<Option<JobsRequest>, Error> {
        match self.resend_at {
            Some(at) if at > now => return Ok(None),
            Some(_) => self.restart(),
            None => {}
        }
        if self.sent == self.parts.len() && self.sent < WINDOW && !self.is_complete {
            let part = self.next_part(limits)?;
            self.parts.push_back(part);
        }
        let Some(part) = self.parts.get(self.sent) else { return Ok(None) };
        self.sent += 1;
        let (first, bodies, closes) = (part.first, part.bodies.clone(), part.closes);
        Ok(Some(JobsRequest::Submit { job: self.spec.clone(), first, bodies, closes }))
    }

    /// The instant at which [`Self::poll_send`] has something again without an answer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.resend_at
    }

    /// Handles an answer. Returns the job's id once everything is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] if the broker does not take the job.
    pub fn handle(&mut self, answer: JobsReply, now: Instant) -> Result<Option<JobId>, Error> {
        match answer {
            JobsReply::Accepted { id, closed: true, .. } => return Ok(Some(id)),
            JobsReply::Accepted { requests, .. } if requests < self.safe() => {
                let gone = "the job of this submission is gone: it was deleted, and another one has its key";
                return Err(Error::Refused(gone.into()));
            }
            JobsReply::Accepted { requests, .. } => self.accepted(requests),
            JobsReply::Later { .. } => drop(self.resend_at.get_or_insert_with(|| now + PAUSE)),
            JobsReply::Refused { reason } => return Err(Error::Refused(reason)),
            _ => return Err(Error::not_an_answer()),
        }
        Ok(None)
    }

    /// Returns what to tell the broker when the submission ends early, if it may know of it. A job with
    /// a key of its user's stays open: the same submission goes on with it.
    pub fn give_up(self) -> Option<JobsRequest> {
        (self.next > 0 && !self.has_key).then_some(JobsRequest::GiveUp(self.spec))
    }

    fn next_part(&mut self, (max_bytes, max_batch): (u64, usize)) -> Result<Part, Error> {
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        while bodies.len() < PART.min(max_batch) && bytes < PART_BYTES {
            let Some(body) = self.requests.next().transpose()? else { break };
            if body.len() > MAX_MESSAGE_BYTES {
                return Err(Error::TooLarge(body.len()));
            }
            if body.len() as u64 > max_bytes {
                let size = body.len();
                return Err(Error::Refused(format!(
                    "a request has {size} bytes, and {max_bytes} are the most (--max-message)"
                )));
            }
            bytes += body.len().max(1);
            bodies.push(body);
        }
        self.is_complete = self.requests.peek().is_none();
        let part = Part { first: self.next, bodies, closes: self.is_complete };
        self.next += part.bodies.len() as u32;
        Ok(part)
    }

    /// Returns the number of the first request that is not known to be safe.
    fn safe(&self) -> u32 {
        self.parts.front().map_or(self.next, |part| part.first)
    }

    /// Removes what is safe: all requests below this number.
    fn accepted(&mut self, requests: u32) {
        while let Some(part) = self.parts.front_mut() {
            let done = requests.saturating_sub(part.first) as usize;
            if done < part.bodies.len() || part.closes {
                part.bodies.drain(..done.min(part.bodies.len()));
                part.first += done as u32;
                if done > 0 {
                    // An earlier submission with the same key was cut into other parts.
                    self.sent = 0;
                }
                return;
            }
            self.parts.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        // It may also have come further, or have had more requests.
        while self.next < requests && self.requests.next().is_some() {
            self.next += 1;
        }
        self.next = self.next.max(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: (u64, usize) = (1 << 20, 65_536);

    type Ready = std::vec::IntoIter<Result<Bytes, Error>>;

    fn submission(requests: usize) -> (Submission<Ready>, Instant) {
        let bodies: Vec<_> = (0..requests).map(|_| Ok(Bytes::from_static(b"body"))).collect();
        (Submission::new(JobOptions::default(), "p", bodies.into_iter()), Instant::now())
    }

    /// The parts that are sent now: the first number, how many, and whether it is the last.
    fn sent(submission: &mut Submission<Ready>, now: Instant) -> Vec<(u32, usize, bool)> {
        let parts = std::iter::from_fn(|| submission.poll_send(LIMITS, now).unwrap()).map(|request| match request {
            JobsRequest::Submit { first, bodies, closes, .. } => (first, bodies.len(), closes),
            other => panic!("{other:?}"),
        });
        parts.collect()
    }

    fn accepted(requests: u32) -> JobsReply {
        JobsReply::Accepted { id: JobId::default(), requests, closed: false }
    }

    #[test]
    fn parts_follow_as_those_before_become_safe_and_the_last_one_closes() {
        let (mut job, now) = submission(17 * PART + 1);
        assert_eq!(sent(&mut job, now).len(), WINDOW);
        job.handle(accepted(2 * PART as u32), now).unwrap();
        assert_eq!(sent(&mut job, now), [(16 * PART as u32, PART, false), (17 * PART as u32, 1, true)]);
        let closed = JobsReply::Accepted { id: JobId { home: 1, number: 7 }, requests: 1, closed: true };
        assert_eq!(job.handle(closed, now).unwrap(), Some(JobId { home: 1, number: 7 }));
    }

    #[test]
    fn over_another_connection_only_what_is_not_safe_is_sent() {
        let (mut job, now) = submission(3 * PART);
        sent(&mut job, now);
        job.handle(accepted(PART as u32), now).unwrap();
        job.restart();
        assert_eq!(sent(&mut job, now), [(PART as u32, PART, false), (2 * PART as u32, PART, true)]);
    }

    #[test]
    fn what_the_broker_had_no_room_for_is_sent_again_after_a_pause() {
        let (mut job, now) = submission(2 * PART);
        sent(&mut job, now);
        job.handle(JobsReply::Later { requests: 0 }, now).unwrap();
        assert_eq!(sent(&mut job, now), []);
        let later = job.poll_timeout().expect("a pause");
        assert_eq!(sent(&mut job, later).len(), 2);
        assert_eq!(job.poll_timeout(), None);
    }

    #[test]
    fn a_job_that_another_process_has_begun_is_gone_on_with_wherever_it_was_cut() {
        let (mut job, now) = submission(PART + 10);
        sent(&mut job, now);
        job.handle(accepted(100), now).unwrap();
        assert_eq!(sent(&mut job, now), [(100, PART - 100, false), (PART as u32, 10, true)]);
    }

    #[test]
    fn a_request_that_cannot_be_made_ends_it_and_what_was_sent_is_given_up() {
        let bad = Err(Error::TooLarge(1 << 30));
        let bodies = (0..PART).map(|_| Ok(Bytes::new())).chain([bad]).collect::<Vec<_>>().into_iter();
        let (mut job, now) = (Submission::new(JobOptions::default(), "p", bodies), Instant::now());
        assert!(job.poll_send(LIMITS, now).unwrap().is_some());
        assert!(matches!(job.poll_send(LIMITS, now), Err(Error::TooLarge(_))));
        let spec = job.spec.clone();
        assert_eq!(job.give_up(), Some(JobsRequest::GiveUp(spec)));
        assert!(submission(1).0.give_up().is_none(), "the broker has heard nothing of it");
    }

    #[test]
    fn a_job_whose_key_another_one_has_by_now_is_reported_as_gone() {
        let (mut job, now) = submission(3 * PART);
        sent(&mut job, now);
        job.handle(accepted(PART as u32), now).unwrap();
        assert!(matches!(job.handle(accepted(0), now), Err(Error::Refused(reason)) if reason.contains("is gone")));
    }

    #[test]
    fn a_submission_with_a_key_is_not_given_up_so_that_it_can_be_gone_on_with() {
        let options = JobOptions::default().key("night");
        let mut job = Submission::new(options, "p", vec![Ok(Bytes::new())].into_iter());
        assert_eq!(sent(&mut job, Instant::now()).len(), 1);
        assert_eq!(job.give_up(), None);
    }
}
