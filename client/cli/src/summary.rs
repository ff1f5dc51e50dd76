//! The summary of a batch of requests, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use giostra_protocol::Trace;
use hdrhistogram::Histogram;
use serde_json::json;

/// The longest latency that the histogram distinguishes: a day.
const MAX_LATENCY_US: u64 = 24 * 3600 * 1_000_000;

/// Counts and times of one batch.
pub struct Summary {
    seed: u64,
    began: Instant,
    took: Option<Duration>,
    /// Requests submitted.
    pub sent: u64,
    answered: u64,
    wrong: u64,
    redispatched: u64,
    duplicated: u64,
    /// Failed requests by error code.
    failed: BTreeMap<String, u64>,
    workers: BTreeMap<String, u64>,
    latency_us: Histogram<u64>,
}

impl Summary {
    /// Begins a batch.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            began: Instant::now(),
            took: None,
            sent: 0,
            answered: 0,
            wrong: 0,
            redispatched: 0,
            duplicated: 0,
            failed: BTreeMap::new(),
            workers: BTreeMap::new(),
            latency_us: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("the bounds are in order"),
        }
    }

    /// Counts a request that was answered with a result.
    pub fn answered(&mut self, trace: &Trace, right: bool, latency: Duration) {
        self.answered += 1;
        self.wrong += u64::from(!right);
        self.redispatched += u64::from(trace.attempts > 1);
        match self.workers.get_mut(&*trace.worker) {
            Some(count) => *count += 1,
            None => drop(self.workers.insert(trace.worker.to_string(), 1)),
        }
        self.latency_us.saturating_record(latency.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// Counts a request that ended in an error.
    pub fn failed(&mut self, code: &str) {
        *self.failed.entry(code.into()).or_default() += 1;
    }

    /// Ends the batch.
    pub fn finish(&mut self, duplicated: u64) {
        self.took = Some(self.began.elapsed());
        self.duplicated = duplicated;
    }

    /// The number of requests that ended, with a result or an error.
    pub fn replies(&self) -> u64 {
        self.answered + self.all_failed()
    }

    /// Returns whether every request was answered once, with the right result.
    pub fn all_well(&self) -> bool {
        self.answered == self.sent && self.wrong == 0 && self.duplicated == 0
    }

    /// Returns the summary as a JSON object.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "seed": self.seed,
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.all_failed(),
            "unanswered": self.sent - self.replies(),
            "wrong": self.wrong,
            "duplicated": self.duplicated,
            "redispatched": self.redispatched,
            "seconds": self.seconds(),
            "rate": self.rate(),
            "latency_us": {"p50": self.percentile(50.0), "p99": self.percentile(99.0), "max": self.latency_us.max()},
            "workers": self.workers,
            "errors": self.failed,
        })
    }

    fn all_failed(&self) -> u64 {
        self.failed.values().sum()
    }

    fn seconds(&self) -> f64 {
        self.took.unwrap_or_else(|| self.began.elapsed()).as_secs_f64()
    }

    fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds()
    }

    fn percentile(&self, percent: f64) -> u64 {
        self.latency_us.value_at_percentile(percent)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, answered, failed) = (self.sent, self.answered, self.all_failed());
        writeln!(f, "{sent} requests in {:.3} s, {:.0} a second (seed {})", self.seconds(), self.rate(), self.seed)?;
        write!(f, "  answered       {answered}")?;
        if answered == sent {
            write!(f, ", all of them")?;
        }
        write!(f, "\n  failed         {failed}")?;
        for (code, count) in &self.failed {
            write!(f, "  {code} {count}")?;
        }
        if sent > answered + failed {
            write!(f, "\n  unanswered     {}", sent - answered - failed)?;
        }
        write!(f, "\n  wrong          {}", self.wrong)?;
        write!(f, "\n  duplicated     {}", self.duplicated)?;
        write!(f, "\n  re-dispatched  {}", self.redispatched)?;
        if answered > 0 {
            let [p50, p99] = [50.0, 99.0].map(|percent| millis(self.percentile(percent)));
            write!(f, "\n  latency        p50 {p50}  p99 {p99}  max {}", millis(self.latency_us.max()))?;
            write!(f, "\n  workers      ")?;
            for (worker, count) in &self.workers {
                write!(f, "  {worker} {count}")?;
            }
        }
        Ok(())
    }
}

fn millis(us: u64) -> String {
    format!("{:.3} ms", us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(worker: &str, attempts: u32) -> Trace {
        Trace { worker: worker.into(), attempts, ..Trace::default() }
    }

    #[test]
    fn all_is_well_only_if_all_is_answered_and_right_and_once() {
        let mut summary = Summary::new(7);
        summary.sent = 2;
        summary.answered(&trace("a", 1), true, Duration::from_millis(1));
        assert!(!summary.all_well());
        summary.answered(&trace("b", 2), true, Duration::from_millis(3));
        summary.finish(0);
        assert!(summary.all_well());
        let json = summary.json();
        assert_eq!((&json["answered"], &json["redispatched"], &json["failed"]), (&json!(2), &json!(1), &json!(0)));
        assert_eq!(json["workers"], json!({"a": 1, "b": 1}));
        summary.finish(1);
        assert!(!summary.all_well());

        let mut summary = Summary::new(7);
        summary.sent = 1;
        summary.answered(&trace("a", 1), false, Duration::ZERO);
        assert!(!summary.all_well());

        let mut summary = Summary::new(7);
        summary.sent = 1;
        summary.failed("expired");
        assert!(!summary.all_well());
        assert_eq!(summary.json()["errors"], json!({"expired": 1}));
        assert!(summary.to_string().contains("expired 1"), "{summary}");
    }
}
