//! The history of a durable job over all lives of its broker, by the log.
//!
//! The narrator counts and tells; whether anything is missing or there twice, the audit of the whole
//! log says, which reads the same lines.

mod narrator;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::files::{self, Error};
use super::line::{Line, text_of};
use super::ranges::JOB;
use super::report::{Report, Verdict};
use super::story::Step;
use narrator::Narrator;

/// The id of a job: its store's number and its own. Displays as `5f3a9c01-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobId {
    /// The number of the store.
    pub home: u32,
    /// The number of the job in that store; the log calls it `j12`.
    pub number: u64,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.home, self.number)
    }
}

impl FromStr for JobId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (home, number) = text.split_once('-')?;
            let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let sound = home.len() == 8 && home.bytes().all(|byte| byte.is_ascii_hexdigit()) && is_number(number);
            let number = number.parse().ok().filter(|&number| sound && number < JOB)?;
            Some(Self { home: u32::from_str_radix(home, 16).ok()?, number })
        };
        parse().ok_or("the id of a job is as `giostra submit` prints it, such as 5f3a9c01-12")
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What happened to a job in one life of its broker: counts of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobLife {
    /// The life, counted from 1; 0 for one whose beginning is not in the log.
    pub life: u64,
    /// Requests that became safe in the store.
    pub saved: u64,
    /// Requests that were put into the queue of their pool; again in each life until they are done.
    pub accepted: u64,
    /// First and repeated dispatches.
    pub dispatched: u64,
    /// Repeated dispatches, after a worker was lost or handed a request back.
    pub redispatched: u64,
    /// Requests given back by workers that were lost, or unable to compute.
    pub returned: u64,
    /// Requests that had lost workers in an earlier life.
    pub earlier_losses: u64,
    /// Results from workers.
    pub replies: u64,
    /// Errors from workers.
    pub errors: u64,
    /// Requests that failed and were to be computed again.
    pub retried: u64,
    /// Requests that reached their time limit.
    pub expired: u64,
    /// Requests that were given up after too many workers were lost.
    pub poisoned: u64,
    /// Results that came too late.
    pub discarded: u64,
    /// Results that became safe in the store, as far as a killed broker could still say so.
    pub stored: u64,
    /// Whether the job was under way when this life ended.
    #[serde(rename = "interrupted")]
    pub was_interrupted: bool,
}

/// The state of a job at the end of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobEnd {
    /// It is not in the log.
    #[default]
    Unknown,
    /// It has not ended.
    Open,
    /// All its results are safe: how many are results, and how many errors.
    Finished {
        /// The number of results.
        succeeded: u64,
        /// The number of errors.
        failed: u64,
    },
    /// It was cancelled.
    Cancelled,
    /// There is no such job: its key was that of this one.
    Known {
        /// The earlier job.
        earlier: JobId,
    },
    /// A later life does not have it any more, and no line says why.
    Gone,
}

/// What became of a job over all lives of its broker. Displays as text.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobStory {
    /// The id of the job.
    pub job: JobId,
    /// Its pool, if its submission is in the log.
    pub pool: Option<String>,
    /// The name of the client that submitted it, if the log says so.
    pub client: Option<String>,
    /// The number of its requests that are safe.
    pub requests: u64,
    /// Whether its submission is complete.
    #[serde(rename = "complete")]
    pub is_complete: bool,
    /// Its state at the end of the log.
    #[serde(flatten)]
    pub end: JobEnd,
    /// Whether it was deleted afterwards.
    #[serde(rename = "deleted")]
    pub is_deleted: bool,
    /// The time from its submission to its end, if both are in the log.
    #[serde(rename = "seconds", serialize_with = "text::seconds")]
    pub took: Option<Duration>,
    /// The lives in which it was there.
    pub lives: Vec<JobLife>,
    /// How many of its requests the workers of each name have replied to.
    pub workers: BTreeMap<String, u64>,
    /// What happened, in order; empty if the job is not in the log.
    pub steps: Vec<Step>,
    /// How often the log contradicts what is promised of the job, and the first of it.
    #[serde(skip)]
    pub wrong: Option<(u64, String)>,
    /// The audit of the whole log.
    #[serde(skip)]
    pub report: Report,
}

impl JobStory {
    /// Returns the verdict on this job. It is proved only if the whole log is sound.
    pub fn verdict(&self) -> Verdict {
        self.verdict_if(self.report.verdict() == Verdict::Proved)
    }

    /// Returns the verdict if the log `is_sound`.
    pub(super) fn verdict_if(&self, is_sound: bool) -> Verdict {
        match is_sound && !self.steps.is_empty() {
            _ if self.wrong.is_some() => Verdict::Refuted,
            true => Verdict::Proved,
            false => Verdict::NotProvable,
        }
    }

    /// Returns whether the job is proved but for lines that were rotated away before the first whole
    /// life.
    pub fn proved_in_part(&self) -> bool {
        self.verdict_if(self.report.proved_in_part()) == Verdict::Proved
    }
}

/// Tells what became of a job.
///
/// # Errors
///
/// Those of [`audit`](crate::audit).
pub fn job_story(logs: &[PathBuf], job: JobId) -> Result<JobStory, Error> {
    let mut narrator = Narrator::new(job);
    let (auditor, sources) = super::read(files::sources(logs)?, |bytes, whole| {
        if let Some(line) = Line::parse(&text_of(bytes)).filter(|_| whole) {
            narrator.handle_line(&line);
        }
    })?;
    let (report, wrong) = auditor.finish_about((job.home, job.number), &sources);
    Ok(narrator.finish(report, wrong))
}
