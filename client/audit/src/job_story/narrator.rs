//! The narrator of a job: collects from each line what it says of that job.

use std::collections::HashMap;
use std::time::SystemTime;

use super::{JobEnd, JobId, JobLife, JobStory};
use crate::line::{Event, Line};
use crate::ranges::{IdRanges, JOB};
use crate::report::Report;
use crate::story::{Step, named};

/// What is told about a job so far.
#[derive(Debug)]
pub(super) struct Narrator {
    job: JobId,
    life: u64,
    /// The number of this life's store.
    home: Option<u32>,
    /// Whether the jobs of the store are being restored.
    is_restoring: bool,
    /// Whether the job is under way in this life.
    is_here: bool,
    /// Whether a request of it was dispatched in this life.
    is_dispatched: bool,
    /// The names of the clients that are connected.
    names: HashMap<u64, String>,
    submitted: Option<SystemTime>,
    story: JobStory,
}

impl Narrator {
    pub fn new(job: JobId) -> Self {
        let story = JobStory {
            job,
            pool: None,
            client: None,
            requests: 0,
            is_complete: false,
            end: JobEnd::Unknown,
            is_deleted: false,
            took: None,
            lives: Vec::new(),
            workers: Default::default(),
            steps: Vec::new(),
            wrong: None,
            report: Report::default(),
        };
        Self {
            job,
            life: 0,
            home: None,
            is_restoring: false,
            is_here: false,
            is_dispatched: false,
            names: HashMap::new(),
            submitted: None,
            story,
        }
    }

    pub fn handle_line(&mut self, line: &Line<'_>) {
        match line.event {
            Event::Listening(_) => return self.begin_life(),
            Event::Store { home } => {
                self.home = Some(home);
                self.is_restoring = home == self.job.home && self.story.end == JobEnd::Open;
            }
            Event::ClientJoined { client, name, .. } => _ = self.names.insert(client, name.into()),
            Event::ClientLeft { client, .. } => _ = self.names.remove(&client),
            _ => {}
        }
        if self.home != Some(self.job.home) {
            return;
        }
        let is_told = !matches!(line.event, Event::NoBearing | Event::LogContinues { .. } | Event::Unknown { .. });
        if is_told && !matches!(line.event, Event::Store { .. } | Event::Restored { .. }) {
            self.check_restored(line);
        }
        self.handle_job(line);
        self.handle_requests(line);
    }

    fn begin_life(&mut self) {
        if self.is_here {
            self.here().was_interrupted = true;
        }
        self.life += 1;
        self.home = None;
        (self.is_restoring, self.is_here, self.is_dispatched) = (false, false, false);
        self.names.clear();
    }

    /// Notes, once all jobs of the store are restored, that this one is not.
    fn check_restored(&mut self, line: &Line<'_>) {
        if std::mem::take(&mut self.is_restoring) && !self.is_here {
            self.story.end = JobEnd::Gone;
            self.push(line, "not restored: it is not under way any more");
        }
    }

    /// Handles what happens to the job as a whole.
    fn handle_job(&mut self, line: &Line<'_>) {
        let own = (self.job.home, self.job.number);
        match line.event {
            Event::Job { id, client, pool, .. } if id == own => {
                let name = self.names.get(&client).cloned();
                let by = name.as_ref().map_or_else(|| format!("c{client}"), |name| format!("{name} (c{client})"));
                (self.story.pool, self.story.client) = (Some(pool.into()), name);
                (self.submitted, self.is_here, self.story.end) = (Some(line.time()), true, JobEnd::Open);
                self.push(line, format!("submitted by {by} for pool {pool}"));
            }
            Event::Restored { id, requests, .. } if id == own => {
                (self.is_here, self.story.end, self.story.requests) = (true, JobEnd::Open, requests);
                self.push(line, format!("goes on, with {requests} requests that are safe"));
            }
            Event::Saved { job, count, closed, .. } if job == own.1 => {
                self.here().saved += count;
                self.story.requests += count;
                if closed {
                    self.story.is_complete = true;
                    let requests = self.story.requests;
                    self.push(line, format!("complete: {requests} requests are safe{}", self.after(line)));
                }
            }
            Event::Resumed { id, requests, again, .. } if id == own => {
                (self.is_here, self.story.end, self.story.requests) = (true, JobEnd::Open, requests);
                self.push(line, format!("goes on again: {again} of {requests} requests had failed"));
            }
            Event::Known { job, id } if job == own.1 => {
                let earlier = JobId { home: id.0, number: id.1 };
                self.end(line, JobEnd::Known { earlier }, &format!("its key is that of {earlier}, which has ended"));
            }
            Event::Known { id, .. } if id == own => self.push(line, "submitted again with the same key, and known"),
            Event::Finished { job, succeeded, failed } if job == own.1 => {
                let results = format!("finished: {succeeded} succeeded, {failed} failed");
                self.end(line, JobEnd::Finished { succeeded, failed }, &results);
            }
            Event::CancelledJob { job } if job == own.1 => self.end(line, JobEnd::Cancelled, "cancelled"),
            Event::Deleted { job } if job == own.1 => {
                self.story.is_deleted = true;
                self.push(line, "deleted, with its results");
            }
            Event::StoreFull { reason } if self.is_here => self.push(line, format!("the store has no room: {reason}")),
            Event::StoreFailed { reason } if self.is_here => {
                self.push(line, format!("left to the next life of the broker: {reason}"));
            }
            _ => {}
        }
    }

    /// Counts what happens to its requests.
    fn handle_requests(&mut self, line: &Line<'_>) {
        let (Some(requests), own) = (requests_of(&line.event), self.job.number | JOB) else { return };
        let count: u64 = requests.ranges().filter(|range| range.client == own).map(|range| range.count()).sum();
        if count == 0 {
            return;
        }
        let here = self.here();
        match line.event {
            Event::Accept { .. } => here.accepted += count,
            Event::Dispatch { worker, again, .. } => {
                here.dispatched += count;
                here.redispatched += if again { count } else { 0 };
                if !std::mem::replace(&mut self.is_dispatched, true) {
                    self.push(line, format!("first dispatched, to {}{}", named(worker), self.after(line)));
                }
            }
            Event::Dropped { worker, reason, .. } => {
                here.returned += count;
                self.push(line, format!("{} was dropped with {count} of its requests: {reason}", named(worker)));
            }
            Event::Unable { worker, reason, .. } => {
                here.returned += count;
                self.push(line, format!("{} handed back {count} of its requests: {reason}", named(worker)));
            }
            Event::Reply { worker, errors, .. } => {
                *if errors { &mut here.errors } else { &mut here.replies } += count;
                *self.story.workers.entry(worker.name.into()).or_default() += count;
            }
            Event::Poison { workers, .. } => {
                here.poisoned += count;
                self.push(line, format!("a request is given up: {workers} were lost while they held it"));
            }
            Event::EarlierLosses { .. } => here.earlier_losses += count,
            Event::Retry { .. } => here.retried += count,
            Event::Expire { .. } => here.expired += count,
            Event::Discard { .. } => here.discarded += count,
            Event::Stored { .. } => here.stored += count,
            _ => {}
        }
    }

    fn end(&mut self, line: &Line<'_>, end: JobEnd, what: &str) {
        self.push(line, format!("{what}{}", self.after(line)));
        (self.is_here, self.story.end) = (false, end);
        self.story.took = self.submitted.and_then(|submitted| line.time().duration_since(submitted).ok());
    }

    /// Returns the counts of this life.
    fn here(&mut self) -> &mut JobLife {
        let lives = &mut self.story.lives;
        if lives.last().is_none_or(|last| last.life != self.life) {
            lives.push(JobLife { life: self.life, ..JobLife::default() });
        }
        lives.last_mut().expect("there is one now")
    }

    fn push(&mut self, line: &Line<'_>, what: impl Into<String>) {
        self.here();
        self.story.steps.push(Step { time: line.timestamp().into(), life: self.life, what: what.into() });
    }

    /// Says how long after the submission a line was written.
    fn after(&self, line: &Line<'_>) -> String {
        let after = self.submitted.and_then(|submitted| line.time().duration_since(submitted).ok());
        after.map(|after| format!(", after {}", super::text::Seconds(after))).unwrap_or_default()
    }

    /// Ends the story, with the audit of the log and what that says is wrong with the job.
    pub fn finish(self, report: Report, wrong: Option<(u64, String)>) -> JobStory {
        JobStory { report, wrong, ..self.story }
    }
}

/// Returns the requests that an event is about, if it names any that are counted.
fn requests_of<'a>(event: &Event<'a>) -> Option<IdRanges<'a>> {
    match *event {
        Event::Accept { requests, .. }
        | Event::Dispatch { requests, .. }
        | Event::Dropped { requests, .. }
        | Event::Unable { requests, .. }
        | Event::Reply { requests, .. }
        | Event::Poison { request: requests, .. }
        | Event::EarlierLosses { requests, .. }
        | Event::Retry { requests }
        | Event::Expire { requests }
        | Event::Discard { requests, .. }
        | Event::Stored { requests } => Some(requests),
        _ => None,
    }
}
