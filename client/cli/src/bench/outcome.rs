//! What came of a load: for people, and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use giostra_protocol as protocol;
use giostra_protocol::{Failure, Reply};
use hdrhistogram::Histogram;
use serde_json::json;

use super::args::Bench;
use super::work::Work;

/// Latencies are told apart from 100 ns on, up to a day.
const LATENCY_NS: (u64, u64) = (100, 24 * 3600 * 1_000_000_000);

/// Where the histogram's rows end, in each power of ten from a microsecond on.
const ROWS: [u64; 6] = [1000, 1500, 2000, 3000, 5000, 7000];

/// The longest bar of the histogram, in characters.
const BAR: usize = 40;

/// What the percentiles are called, and where they are.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// Counts and times.
pub struct Outcome {
    /// How long it took.
    pub took: Duration,
    /// Requests submitted.
    pub sent: u64,
    answered: u64,
    wrong: u64,
    redispatched: u64,
    /// Replies to requests that had one already.
    pub duplicated: u64,
    failed: u64,
    /// By error code.
    failures: BTreeMap<String, u64>,
    /// The first error.
    pub first_failure: Option<Failure>,
    latency_ns: Histogram<u64>,
}

impl Default for Outcome {
    fn default() -> Self {
        let (least, most) = LATENCY_NS;
        Self {
            took: Duration::ZERO,
            sent: 0,
            answered: 0,
            wrong: 0,
            redispatched: 0,
            duplicated: 0,
            failed: 0,
            failures: BTreeMap::new(),
            first_failure: None,
            latency_ns: Histogram::new_with_bounds(least, most, 3).expect("the bounds are in order"),
        }
    }
}

impl Outcome {
    /// A request ended.
    pub fn ended(&mut self, reply: Reply, right: bool, latency: Duration) {
        match reply.outcome {
            protocol::Outcome::Ok(_) => {
                self.answered += 1;
                self.wrong += u64::from(!right);
                self.redispatched += u64::from(reply.trace.attempts > 1);
                self.latency_ns.saturating_record(latency.as_nanos().try_into().unwrap_or(u64::MAX));
            }
            protocol::Outcome::Error(failure) => {
                self.failed += 1;
                *self.failures.entry(failure.code.clone()).or_default() += 1;
                self.first_failure.get_or_insert(failure);
            }
        }
    }

    /// Requests that have not ended.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.answered - self.failed
    }

    /// Whether every request was answered with the right result, once.
    pub fn all_well(&self) -> bool {
        self.answered == self.sent && self.wrong == 0 && self.duplicated == 0
    }

    /// For programs.
    pub fn json(&self, bench: &Bench, work: &Work) -> serde_json::Value {
        let micros = |ns: u64| ns as f64 / 1000.0;
        let mut latency: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|&(name, percent)| (name.to_string(), json!(micros(self.latency_ns.value_at_percentile(percent)))))
            .collect();
        latency.insert("max".into(), json!(micros(self.latency_ns.max())));
        json!({
            "clients": bench.clients,
            "window": bench.window,
            "operation": work.operation,
            "size": work.body.len(),
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "unanswered": self.unanswered(),
            "wrong": self.wrong,
            "duplicated": self.duplicated,
            "redispatched": self.redispatched,
            "seconds": self.took.as_secs_f64(),
            "rate": self.rate(),
            "latency_us": latency,
            "errors": self.failures,
        })
    }

    /// Answers a second.
    fn rate(&self) -> f64 {
        match self.took {
            Duration::ZERO => 0.0,
            took => self.answered as f64 / took.as_secs_f64(),
        }
    }

    fn write_histogram(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = (0..).flat_map(|power| ROWS.map(|end| end * 10_u64.pow(power)));
        let (mut rows, mut from) = (Vec::new(), 0);
        for end in ends {
            let count = self.latency_ns.count_between(from, end);
            if count > 0 || !rows.is_empty() {
                rows.push((end, count));
            }
            from = self.latency_ns.next_non_equivalent(end);
            if from > self.latency_ns.max() {
                break;
            }
        }
        let most = rows.iter().map(|&(_, count)| count).max().unwrap_or(0).max(1);
        for (up_to, count) in rows {
            let bar = "#".repeat((count as f64 / most as f64 * BAR as f64).ceil() as usize);
            let share = 100.0 * count as f64 / self.answered.max(1) as f64;
            write!(f, "\n  up to {:>10}  {share:>6.2} %  {bar}", written(up_to))?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, answered) = (self.sent, self.answered);
        writeln!(f, "{sent} requests in {:.3} s, {:.0} a second", self.took.as_secs_f64(), self.rate())?;
        write!(f, "  answered       {answered}")?;
        if answered == sent {
            write!(f, ", all of them")?;
        }
        write!(f, "\n  failed         {}", self.failed)?;
        for (code, count) in &self.failures {
            write!(f, "  {code} {count}")?;
        }
        if self.unanswered() > 0 {
            write!(f, "\n  unanswered     {}", self.unanswered())?;
        }
        write!(f, "\n  wrong          {}", self.wrong)?;
        write!(f, "\n  duplicated     {}", self.duplicated)?;
        write!(f, "\n  re-dispatched  {}", self.redispatched)?;
        if answered > 0 {
            write!(f, "\n  latency      ")?;
            for (name, percent) in PERCENTILES {
                write!(f, "  {name} {}", written(self.latency_ns.value_at_percentile(percent)))?;
            }
            write!(f, "  max {}", written(self.latency_ns.max()))?;
            self.write_histogram(f)?;
        }
        Ok(())
    }
}

/// A time as people write it, three or four digits of it.
fn written(ns: u64) -> String {
    match ns as f64 {
        ns @ ..1e5 => format!("{:.1} us", ns / 1e3),
        ns @ ..1e6 => format!("{:.0} us", ns / 1e3),
        ns @ ..1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{Bytes, RequestId, Trace};

    use super::*;

    fn reply(outcome: protocol::Outcome, attempts: u32) -> Reply {
        Reply { id: RequestId(1), outcome, trace: Trace { attempts, ..Trace::default() } }
    }

    fn outcome(latencies_us: &[u64]) -> Outcome {
        let mut outcome = Outcome::default();
        for &us in latencies_us {
            outcome.sent += 1;
            let reply = reply(protocol::Outcome::Ok(Bytes::new()), 1);
            outcome.ended(reply, true, Duration::from_micros(us));
        }
        outcome
    }

    #[test]
    fn all_is_well_only_if_all_is_answered_and_right_and_once() {
        let well = || outcome(&[1, 2]);
        assert!(well().all_well());
        let mut sent = well();
        sent.sent += 1;
        assert!(!sent.all_well());
        assert_eq!(sent.unanswered(), 1);
        let ok = || protocol::Outcome::Ok(Bytes::new());
        sent.ended(reply(ok(), 2), false, Duration::ZERO);
        assert!(!sent.all_well());
        assert_eq!((sent.wrong, sent.redispatched, sent.unanswered()), (1, 1, 0));
        let mut failed = well();
        failed.sent += 1;
        failed.ended(reply(protocol::Outcome::Error("no".into()), 1), false, Duration::ZERO);
        assert!(!failed.all_well() && failed.to_string().contains("failed 1"), "{failed}");
        let mut twice = well();
        twice.duplicated = 1;
        assert!(!twice.all_well());
    }

    #[test]
    fn the_histogram_shows_every_request_and_begins_with_the_first() {
        let text = outcome(&[100, 100, 100, 900]).to_string();
        let rows: Vec<_> = text.lines().filter(|line| line.contains(" up to ")).collect();
        assert!(rows[0].contains("75.00 %") && rows[0].ends_with(&format!("  {}", "#".repeat(BAR))), "{text}");
        assert!(rows[rows.len() - 1].contains("25.00 %"), "{text}");
        assert!(text.contains("p50 100 us  p90 900 us"), "{text}");
        assert!(!outcome(&[]).to_string().contains("up to"));
    }

    #[test]
    fn times_are_written_with_three_or_four_digits() {
        let all = [90_500, 215_000, 3_835_000, 12_000_000_000].map(written);
        assert_eq!(all, ["90.5 us", "215 us", "3.83 ms", "12.00 s"]);
    }
}
