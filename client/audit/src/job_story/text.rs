//! A job's story as text and as JSON.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use serde::Serializer;
use serde_json::json;

use super::{JobEnd, JobLife, JobStory};
use crate::report::Verdict;

/// The maximum number of workers that the text names.
const MAX_WORKERS: usize = 10;

/// A duration, displayed as seconds, or as milliseconds below one.
pub(super) struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 { write!(f, "{:.3} ms", seconds * 1000.0) } else { write!(f, "{seconds:.3} s") }
    }
}

pub(super) fn seconds<S: Serializer>(took: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match took {
        Some(took) => serializer.serialize_f64(took.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

impl JobStory {
    /// Returns the story as a JSON object.
    pub fn json(&self) -> serde_json::Value {
        let mut story = json!(self);
        if let Some(story) = story.as_object_mut() {
            let (violations, first) = self.wrong.clone().unzip();
            story.insert("verdict".into(), self.verdict().to_string().into());
            story.insert("proved".into(), (self.verdict() == Verdict::Proved).into());
            story.insert("violation_count".into(), violations.unwrap_or(0).into());
            story.insert("violation".into(), first.into());
            story.insert("log".into(), json!({"verdict": self.report.verdict().to_string()}));
        }
        story
    }

    fn write_end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            JobEnd::Unknown => f.write_str("its submission and its end are not in the log")?,
            JobEnd::Open => write!(f, "not ended at the end of the log: {} requests are safe", self.requests)?,
            JobEnd::Finished { succeeded, failed } => write!(f, "finished: {succeeded} succeeded, {failed} failed")?,
            JobEnd::Cancelled => f.write_str("cancelled")?,
            JobEnd::Known { earlier } => write!(f, "no job of its own: its key is that of {earlier}")?,
            JobEnd::Gone => f.write_str("ended when a broker was killed: the last line of it is missing")?,
        }
        if let Some(took) = self.took {
            write!(f, ", {} after its submission", Seconds(took))?;
        }
        match self.lives.iter().filter(|life| life.was_interrupted).count() {
            0 => {}
            1 => f.write_str("; the broker was started again once meanwhile")?,
            times => write!(f, "; the broker was started again {times} times meanwhile")?,
        }
        writeln!(f, "{}", if self.is_deleted { "; deleted" } else { "" })
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.verdict(), &self.wrong) {
            (Verdict::Proved, _) => f.write_str("proved: nothing missing, nothing twice"),
            (verdict, Some((count, first))) if *count > 1 => write!(f, "{verdict}: {first}; and {} more", count - 1),
            (verdict, Some((_, first))) => write!(f, "{verdict}: {first}"),
            (verdict, None) => {
                let log = self.report.verdict();
                write!(f, "{verdict}: nothing is wrong with this job, but the log as a whole is {log}")
            }
        }
    }
}

impl fmt::Display for JobStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return write!(f, "job {} is not in the log", self.job);
        }
        for life in &self.lives {
            writeln!(f, "life {} of the broker", life.life)?;
            for step in self.steps.iter().filter(|step| step.life == life.life) {
                writeln!(f, "  {}  {}", step.time, step.what)?;
            }
            write_counts(f, life)?;
        }
        if !self.workers.is_empty() {
            let mut workers: Vec<_> = self.workers.iter().collect();
            workers.sort_by_key(|&(_, &replies)| Reverse(replies));
            let named = workers.iter().take(MAX_WORKERS).map(|(name, replies)| format!("{name} {replies}"));
            let named = named.collect::<Vec<_>>().join("  ");
            let more = workers.len().saturating_sub(MAX_WORKERS);
            let more = if more > 0 { format!("  and {more} more") } else { String::new() };
            writeln!(f, "workers  {named}{more}")?;
        }
        self.write_end(f)?;
        self.write_verdict(f)
    }
}

/// Writes the counts of a life that are not 0, on a line.
fn write_counts(f: &mut fmt::Formatter<'_>, life: &JobLife) -> fmt::Result {
    let counts = [
        ("saved", life.saved),
        ("accepted", life.accepted),
        ("dispatched", life.dispatched),
        ("of them again", life.redispatched),
        ("given back", life.returned),
        ("with earlier losses", life.earlier_losses),
        ("replies", life.replies),
        ("errors", life.errors),
        ("to be retried", life.retried),
        ("expired", life.expired),
        ("given up", life.poisoned),
        ("discarded", life.discarded),
        ("stored", life.stored),
    ];
    let counts: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
    if !counts.is_empty() {
        let counts = counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>();
        writeln!(f, "  {}", counts.join(", "))?;
    }
    match life.was_interrupted {
        true => writeln!(f, "  the broker ended, and the job was not done"),
        false => Ok(()),
    }
}
