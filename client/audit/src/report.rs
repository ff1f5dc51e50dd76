//! The report of an audit: counts, a verdict, and the first violations, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::json;

use super::findings::{Promise, Violation};
use super::gap::Gap;

/// The maximum number of violations that the text shows.
const MAX_SHOWN: usize = 10;

/// The maximum number of characters that the text shows of a line.
const MAX_LINE: usize = 140;

/// What happened, by the lines of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the names of most fields say what they count
#[non_exhaustive]
pub struct Counts {
    pub lives: u64,
    #[serde(skip)]
    pub clients_joined: u64,
    #[serde(skip)]
    pub clients_left: u64,
    #[serde(skip)]
    pub workers_joined: u64,
    #[serde(skip)]
    pub workers_dropped: u64,
    #[serde(skip)]
    pub workers_left: u64,
    /// How often a worker became unable to compute.
    #[serde(skip)]
    pub workers_unable: u64,
    pub accepted: u64,
    /// First and repeated dispatches.
    pub dispatched: u64,
    pub redispatched: u64,
    /// Requests given back by lost workers.
    pub returned: u64,
    /// Requests given back by workers that were unable to compute.
    pub handed_back: u64,
    pub replies: u64,
    #[serde(rename = "errors")]
    pub reply_errors: u64,
    pub expired: u64,
    /// Requests cancelled by their clients, or because these left.
    pub cancelled: u64,
    pub poisoned: u64,
    /// Results that came too late, or for requests that had ended.
    pub discarded: u64,
    /// Replies that were never sent, because their clients did not read.
    pub undelivered: u64,
    /// Durable jobs that were submitted, finished, and not ended when the log ends.
    pub jobs: u64,
    pub jobs_finished: u64,
    pub jobs_open: u64,
    /// Requests of jobs that were safe before they were dispatched.
    pub saved: u64,
    /// How often a request of a job failed and was computed again.
    pub retried: u64,
    /// Requests that were open when a life ended. Their clients send them to the next broker.
    pub open: u64,
}

/// The verdict of an audit. Displays as one or two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every line fits, from the first broker's start on.
    Proved,
    /// A line breaks a promise.
    Refuted,
    /// No line breaks a promise, but some of the evidence is missing.
    NotProvable,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proved => "proved",
            Self::Refuted => "refuted",
            Self::NotProvable => "not provable",
        })
    }
}

/// The report of an audit. Displays as text.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The number of files read.
    pub files: usize,
    /// The number of lines read.
    pub lines: u64,
    /// What happened, by these lines.
    #[serde(flatten)]
    pub counts: Counts,
    /// The first violations, at most 100, in the order of the log.
    pub violations: Vec<Violation>,
    /// The number of lines that violate each promise, in the order of [`Promise::ALL`].
    #[serde(skip)]
    pub violated: [u64; Promise::ALL.len()],
    /// The parts of the evidence that are missing.
    #[serde(skip)]
    pub gaps: Vec<Gap>,
    /// The number of lines that were cut short when a broker was killed. No evidence is lost with
    /// them.
    pub torn: u64,
    /// How often each unknown verb occurs.
    pub unknown: BTreeMap<String, u64>,
    /// Whether the rotation of all brokers was strict.
    #[serde(skip)]
    pub strict: bool,
    /// The maximum number of lost workers of a request that was dispatched again.
    #[serde(skip)]
    pub max_lost: usize,
}

impl Report {
    /// Returns the verdict.
    pub fn verdict(&self) -> Verdict {
        if self.violation_count() > 0 {
            Verdict::Refuted
        } else if self.gaps.is_empty() {
            Verdict::Proved
        } else {
            Verdict::NotProvable
        }
    }

    /// Returns whether everything is proved except lines that were rotated away before the first whole
    /// life.
    pub fn proved_in_part(&self) -> bool {
        let rotated_away = |gap: &Gap| matches!(gap, Gap::Beginning(_) | Gap::Missing(..));
        self.violation_count() == 0 && self.counts.lives > 0 && self.gaps.iter().all(rotated_away)
    }

    /// Returns the number of violations.
    pub fn violation_count(&self) -> u64 {
        self.violated.iter().sum()
    }

    /// Returns the report as a JSON object.
    pub fn json(&self) -> serde_json::Value {
        let counts = &self.counts;
        let promises = self.promises().map(|promise| {
            let violations = self.violated[promise as usize];
            json!({"promise": promise, "verdict": self.verdict_on(promise).to_string(), "violations": violations})
        });
        let promises: Vec<_> = promises.collect();
        let more = json!({
            "proved": self.verdict() == Verdict::Proved,
            "verdict": self.verdict().to_string(),
            "clients": {"joined": counts.clients_joined, "left": counts.clients_left},
            "workers": {
                "joined": counts.workers_joined, "dropped": counts.workers_dropped, "left": counts.workers_left,
                "unable": counts.workers_unable,
            },
            "promises": promises,
            "not_provable": self.gaps.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "violation_count": self.violation_count(),
        });
        let mut report = json!(self);
        if let (Some(report), serde_json::Value::Object(more)) = (report.as_object_mut(), more) {
            report.extend(more);
        }
        report
    }

    /// Returns the promises that the log is about: without a store there is none about jobs.
    fn promises(&self) -> impl Iterator<Item = Promise> {
        let with_jobs = self.counts.jobs + self.counts.jobs_open + self.violated[Promise::Jobs as usize] > 0;
        Promise::ALL.into_iter().filter(move |&promise| with_jobs || promise != Promise::Jobs)
    }

    fn verdict_on(&self, promise: Promise) -> Verdict {
        match (self.violated[promise as usize], self.gaps.is_empty()) {
            (0, true) => Verdict::Proved,
            (0, false) => Verdict::NotProvable,
            _ => Verdict::Refuted,
        }
    }

    /// Returns the facts behind a promise that was not violated.
    fn facts(&self, promise: Promise) -> String {
        let counts = &self.counts;
        match promise {
            Promise::Rotation => {
                let workers = many(counts.workers_joined, "worker");
                format!("{} over {workers}, each in its turn", many_of(counts.dispatched, "dispatch", "dispatches"))
            }
            Promise::Requests => {
                let replies = many_of(counts.replies + counts.reply_errors, "reply", "replies");
                format!("{} accepted, {replies}, none twice; {} open", many(counts.accepted, "request"), counts.open)
            }
            Promise::Poison if counts.poisoned > 0 => format!("{} given up", counts.poisoned),
            Promise::Poison => {
                format!("none given up; at most {} lost per request", many(self.max_lost as u64, "worker"))
            }
            Promise::Leaving => format!("{} left, and all their requests ended", many(counts.clients_left, "client")),
            Promise::Jobs => {
                let (jobs, saved) = (many(counts.jobs, "job"), many(counts.saved, "request"));
                format!("{jobs} of {saved}, {} finished; none missing, no result stored twice", counts.jobs_finished)
            }
            Promise::Evidence => match self.torn {
                0 => many(self.lines, "line"),
                torn => format!("{}, {torn} torn when a broker ended", many(self.lines, "line")),
            },
        }
    }

    fn title(&self, promise: Promise) -> &'static str {
        match promise {
            Promise::Rotation if self.strict => "strict rotation",
            Promise::Rotation => "rotation",
            Promise::Requests => "no request lost, no reply doubled",
            Promise::Poison => "poison requests stop",
            Promise::Leaving => "clients leave cleanly",
            Promise::Jobs => "durable jobs outlive the broker",
            Promise::Evidence => "the log is complete",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let lives = many_of(counts.lives, "life of a broker", "lives of a broker");
        writeln!(f, "{}, {}, {lives}", many(self.files as u64, "file"), many(self.lines, "line"))?;
        writeln!(f, "  clients     {} joined, {} left", counts.clients_joined, counts.clients_left)?;
        writeln!(
            f,
            "  workers     {} joined, {} dropped, {} left",
            counts.workers_joined, counts.workers_dropped, counts.workers_left
        )?;
        if counts.workers_unable > 0 {
            let (times, handed) = (many(counts.workers_unable, "time"), many(counts.handed_back, "request"));
            writeln!(f, "  unable      {times} a worker could compute nothing; {handed} handed back")?;
        }
        writeln!(
            f,
            "  requests    {} accepted, {} expired, {} cancelled, {} given up, {} open",
            counts.accepted, counts.expired, counts.cancelled, counts.poisoned, counts.open
        )?;
        writeln!(f, "  dispatches  {}, {} of them again", counts.dispatched, counts.redispatched)?;
        writeln!(
            f,
            "  replies     {}, {} of them errors{}; {} late or unwanted{}",
            counts.replies + counts.reply_errors,
            counts.reply_errors,
            match counts.retried {
                0 => String::new(),
                retried => format!(" ({retried} computed again)"),
            },
            counts.discarded,
            match counts.undelivered {
                0 => String::new(),
                never => format!("; {never} never sent"),
            }
        )?;
        for (verb, count) in &self.unknown {
            writeln!(f, "  unknown     {verb}: {}, ignored", many(*count, "line"))?;
        }
        for promise in self.promises() {
            let said = match self.verdict_on(promise) {
                Verdict::Proved => format!("proved: {}", self.facts(promise)),
                Verdict::Refuted => format!("refuted, {}", many(self.violated[promise as usize], "violation")),
                Verdict::NotProvable => format!("not proved; from what is there: {}", self.facts(promise)),
            };
            writeln!(f, "{}: {said}", self.title(promise))?;
        }
        for violation in self.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "{}:{}: {}", violation.file.display(), violation.line, violation.what)?;
            writeln!(f, "    {}", shortened(&violation.text))?;
        }
        for gap in &self.gaps {
            writeln!(f, "can't be proved: {gap}")?;
        }
        match self.verdict() {
            Verdict::Refuted => write!(f, "refuted: {}", many(self.violation_count(), "violation")),
            verdict => write!(f, "{verdict}"),
        }
    }
}

pub(crate) fn many(count: u64, what: &str) -> String {
    many_of(count, what, &format!("{what}s"))
}

pub(crate) fn many_of(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.into(),
    }
}
