//! The counts and latencies of a batch of requests, which `random` and `bench` print, as text and as
//! JSON.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::time::{Duration, Instant};

use giostra_client::Error;
use giostra_protocol::Failure;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{Reported, of_batch, report_error};
use super::printed::stdout;
use super::send::explain;

/// The bounds of the latencies that the histogram distinguishes: from 100 ns to a day.
const LATENCY_NS: (u64, u64) = (100, 24 * 3600 * 1_000_000_000);

/// The name of a percentile, and where it is.
pub type Percentile = (&'static str, f64);

/// Counts and times of one batch.
pub struct Summary {
    /// How long the batch took.
    pub took: Duration,
    /// The number of submitted requests.
    pub sent: u64,
    answered: u64,
    wrong: u64,
    redispatched: u64,
    /// The number of replies to requests that had one already.
    pub duplicated: u64,
    /// The number of failed requests by error code.
    failed: BTreeMap<String, u64>,
    first_failure: Option<Failure>,
    pub latency_ns: Histogram<u64>,
    /// When something was answered last, and the longest time between two answers.
    last: Option<Instant>,
    pub gap: Duration,
}

impl Default for Summary {
    fn default() -> Self {
        let (shortest, longest) = LATENCY_NS;
        Self {
            took: Duration::ZERO,
            sent: 0,
            answered: 0,
            wrong: 0,
            redispatched: 0,
            duplicated: 0,
            failed: BTreeMap::new(),
            first_failure: None,
            latency_ns: Histogram::new_with_bounds(shortest, longest, 3).expect("the bounds are in order"),
            last: None,
            gap: Duration::ZERO,
        }
    }
}

impl Summary {
    /// Notes that answers came now, for [`Self::gap`].
    pub fn heard(&mut self, now: Instant) {
        let before = self.last.replace(now);
        self.gap = self.gap.max(before.map_or(Duration::ZERO, |before| now.saturating_duration_since(before)));
    }

    /// Counts a request that was answered with a result, at that attempt.
    pub fn add_answer(&mut self, attempts: u32, right: bool, latency: Duration) {
        self.answered += 1;
        self.wrong += u64::from(!right);
        self.redispatched += u64::from(attempts > 1);
        self.latency_ns.saturating_record(latency.as_nanos().try_into().unwrap_or(u64::MAX));
    }

    /// Counts a request that ended in an error.
    pub fn add_failure(&mut self, failure: Failure) {
        *self.failed.entry(failure.code.clone()).or_default() += 1;
        self.first_failure.get_or_insert(failure);
    }

    /// The number of requests that have not ended.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.answered - self.failed()
    }

    fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Returns whether every request was answered once, with the right result.
    pub fn all_well(&self) -> bool {
        self.answered == self.sent && self.wrong == 0 && self.duplicated == 0
    }

    /// The number of answers per second.
    fn rate(&self) -> f64 {
        if self.took.is_zero() { 0.0 } else { self.answered as f64 / self.took.as_secs_f64() }
    }

    /// Returns the summary as a JSON object. `latency` converts nanoseconds into what it shows.
    pub fn json(&self, percentiles: &[Percentile], latency: impl Fn(u64) -> Value) -> Value {
        let mut latencies: serde_json::Map<_, _> = percentiles
            .iter()
            .map(|&(name, percent)| (name.into(), latency(self.latency_ns.value_at_percentile(percent))))
            .collect();
        latencies.insert("max".into(), latency(self.latency_ns.max()));
        json!({
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed(),
            "unanswered": self.unanswered(),
            "wrong": self.wrong,
            "duplicated": self.duplicated,
            "redispatched": self.redispatched,
            "seconds": self.took.as_secs_f64(),
            "rate": self.rate(),
            "latency_us": latencies,
            "errors": self.failed,
        })
    }

    /// Returns the summary as text, with a note behind the first line. `latency` formats nanoseconds.
    pub fn text(&self, note: impl Display, percentiles: &[Percentile], latency: impl Fn(u64) -> String) -> String {
        let Self { sent, answered, wrong, duplicated, redispatched, .. } = self;
        let all = if answered == sent { ", all of them" } else { "" };
        let (seconds, rate, failed) = (self.took.as_secs_f64(), self.rate(), self.failed());
        let mut text = format!("{sent} requests in {seconds:.3} s, {rate:.0} a second{note}\n");
        text += &format!("  answered       {answered}{all}\n  failed         {failed}");
        for (code, count) in &self.failed {
            text += &format!("  {code} {count}");
        }
        if self.unanswered() > 0 {
            text += &format!("\n  unanswered     {}", self.unanswered());
        }
        text += &format!("\n  wrong          {wrong}\n  duplicated     {duplicated}\n  re-dispatched  {redispatched}");
        if *answered > 0 {
            text += "\n  latency      ";
            for &(name, percent) in percentiles {
                text += &format!("  {name} {}", latency(self.latency_ns.value_at_percentile(percent)));
            }
            text += &format!("  max {}", latency(self.latency_ns.max()));
        }
        text
    }

    /// Prints the outcome of a batch, and succeeds if every request was answered and every result was
    /// right. An error that ended the batch is in the object that is printed.
    pub fn finish(
        &self,
        ended: Result<(), Error>,
        mut object: Value,
        text: &str,
        common: &CommonArgs,
    ) -> anyhow::Result<Exit> {
        if let Some(failure) = &self.first_failure {
            report_error(format_args!("the first failure: {}", explain(failure, common)));
        }
        if common.json {
            if let Some(error) = of_batch(&ended, self.first_failure.as_ref()) {
                object["error"] = error;
            }
            writeln!(stdout(), "{object}")?;
        } else {
            writeln!(stdout(), "{text}")?;
        }
        ended.map_err(Reported)?;
        Ok(Exit::success_if(self.all_well()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(count: u64) -> Summary {
        let mut summary = Summary { sent: count, ..Summary::default() };
        (1..=count).for_each(|ms| summary.add_answer(1, true, Duration::from_millis(ms)));
        summary
    }

    #[test]
    fn all_is_well_only_if_all_is_answered_and_right_and_once() {
        let mut summary = answered(2);
        assert!(summary.all_well());
        summary.duplicated = 1;
        assert!(!summary.all_well());

        let mut summary = answered(2);
        summary.sent += 1;
        assert!(!summary.all_well());
        assert_eq!(summary.unanswered(), 1);
        summary.add_answer(2, false, Duration::ZERO);
        assert!(!summary.all_well());
        let json = summary.json(&[], Value::from);
        assert_eq!((&json["answered"], &json["redispatched"], &json["wrong"]), (&json!(3), &json!(1), &json!(1)));
        assert_eq!((&json["failed"], summary.unanswered()), (&json!(0), 0));

        let mut summary = answered(2);
        summary.sent += 1;
        summary.add_failure(Failure::new("expired", "too late"));
        assert!(!summary.all_well());
        assert_eq!(summary.json(&[], Value::from)["errors"], json!({"expired": 1}));
        let text = summary.text("", &[], |ns| ns.to_string());
        assert!(text.contains("failed         1  expired 1"), "{text}");
    }
}
