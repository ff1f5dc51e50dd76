//! The submission of a job: parts of it are on their way, each until the broker says it is safe.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, FromClient, JobId, JobSpec, JobsReply, JobsRequest, MAX_MESSAGE_BYTES};

use crate::session::{Link, Session};
use crate::{Client, Error};

/// The largest number of requests in one part: the store keeps them as one row.
const PART: usize = 1024;

/// About how many bytes of requests are in one part at most.
const PART_BYTES: usize = 256 << 10;

/// The number of parts that may be on their way: what gathers while the broker's disk syncs.
const WINDOW: usize = 16;

/// How long to wait when the broker has no room.
const PAUSE: Duration = Duration::from_millis(20);

/// A submission under way.
pub(super) struct Submission<I: Iterator<Item = Result<Bytes, Error>>> {
    spec: JobSpec,
    requests: Peekable<I>,
    /// Parts that are not safe yet, without a gap.
    parts: VecDeque<Part>,
    /// The number of the next request of the iterator.
    next: u32,
    /// Whether the last part was made.
    is_complete: bool,
}

#[derive(Clone)]
struct Part {
    first: u32,
    bodies: Vec<Bytes>,
    closes: bool,
}

/// What the broker says, or that it is gone.
enum Heard {
    Reply(JobsReply),
    Lost,
}

impl<I: Iterator<Item = Result<Bytes, Error>>> Submission<I> {
    pub(super) fn new(spec: JobSpec, requests: I) -> Self {
        Self { spec, requests: requests.peekable(), parts: VecDeque::new(), next: 0, is_complete: false }
    }

    /// Submits everything; returns when it is safe.
    pub(super) fn run(mut self, client: &mut Client) -> Result<JobId, Error> {
        let ended = self.submit(client);
        if ended.is_err() && self.next > 0 {
            // If this can't be sent, the job stays open.
            let _ = client.send_message(FromClient::Jobs { tag: 0, request: JobsRequest::GiveUp(self.spec) });
            client.broker.push();
        }
        ended
    }

    fn submit(&mut self, client: &mut Client) -> Result<JobId, Error> {
        client.jobs_asked += 1;
        let tag = client.jobs_asked;
        loop {
            client.await_broker()?;
            let session = client.session.number();
            self.send_all(client, tag)?;
            if let Some(id) = self.go_on(client, tag, session)? {
                return Ok(id);
            }
        }
    }

    /// Submits until everything is safe, or the connection is lost.
    fn go_on(&mut self, client: &mut Client, tag: u64, session: u64) -> Result<Option<JobId>, Error> {
        // When to send again what the broker had no room for, and what it therefore ignored.
        let mut resend_at = None;
        loop {
            while resend_at.is_none() && self.parts.len() < WINDOW && !self.is_complete {
                let part = self.next_part(client.session.limits())?;
                self.parts.push_back(part.clone());
                self.send(client, tag, part)?;
            }
            match hear(client, tag, session, resend_at)? {
                Some(Heard::Reply(JobsReply::Accepted { id, closed: true, .. })) => return Ok(Some(id)),
                Some(Heard::Reply(JobsReply::Accepted { requests, .. })) => {
                    if self.accepted(requests) {
                        self.send_all(client, tag)?;
                    }
                }
                Some(Heard::Reply(JobsReply::Later { .. })) => {
                    resend_at.get_or_insert_with(|| Instant::now() + PAUSE);
                }
                Some(Heard::Reply(JobsReply::Refused { reason })) => return Err(Error::Refused(reason)),
                Some(Heard::Reply(_)) => return Err(super::not_an_answer()),
                Some(Heard::Lost) => return Ok(None),
                None => {
                    resend_at = None;
                    self.send_all(client, tag)?;
                }
            }
        }
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

    fn send_all(&self, client: &mut Client, tag: u64) -> Result<(), Error> {
        self.parts.iter().cloned().try_for_each(|part| self.send(client, tag, part))
    }

    fn send(&self, client: &mut Client, tag: u64, part: Part) -> Result<(), Error> {
        let Part { first, bodies, closes } = part;
        let request = JobsRequest::Submit { job: self.spec.clone(), first, bodies, closes };
        client.send_message(FromClient::Jobs { tag, request })
    }

    /// Removes what is safe: all requests below this number. Returns whether what is left has to be
    /// sent again, because an earlier submission with the same key was cut into other parts.
    fn accepted(&mut self, requests: u32) -> bool {
        while let Some(part) = self.parts.front_mut() {
            let done = requests.saturating_sub(part.first) as usize;
            if done < part.bodies.len() || part.closes {
                part.bodies.drain(..done.min(part.bodies.len()));
                part.first += done as u32;
                return done > 0;
            }
            self.parts.pop_front();
        }
        // It may also have come further, or have had more requests.
        while self.next < requests && self.requests.next().is_some() {
            self.next += 1;
        }
        self.next = self.next.max(requests);
        false
    }
}

/// Waits for the next answer; `None` if there is none until then.
fn hear(client: &mut Client, asked: u64, session: u64, until: Option<Instant>) -> Result<Option<Heard>, Error> {
    client.wait_for(until, |here: &mut Session| {
        while let Some((tag, reply)) = here.take_jobs_reply() {
            if tag == asked {
                return Some(Heard::Reply(reply));
            }
        }
        (here.link() != Link::Up || here.number() != session).then_some(Heard::Lost)
    })
}
