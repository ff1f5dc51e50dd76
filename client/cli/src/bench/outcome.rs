//! How the outcome of a load is printed: its text, with a histogram, and its JSON.

use serde_json::{Value, json};

use super::args::Bench;
use super::work::Work;
use crate::summary::{Percentile, Summary};

/// The upper ends of the histogram's rows in each power of ten, from a microsecond on.
const ROWS: [u64; 6] = [1000, 1500, 2000, 3000, 5000, 7000];

/// The longest bar of the histogram, in characters.
const BAR: usize = 40;

const PERCENTILES: [Percentile; 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// Returns the outcome as a JSON object.
pub fn json(summary: &Summary, bench: &Bench, work: &Work) -> Value {
    let mut object = summary.json(&PERCENTILES, |ns| json!(ns as f64 / 1000.0));
    object["clients"] = bench.clients.into();
    object["window"] = bench.window.into();
    object["operation"] = work.operation.into();
    object["size"] = work.body.len().into();
    object
}

/// Returns the outcome as text.
pub fn text(summary: &Summary) -> String {
    summary.text("", &PERCENTILES, format_ns) + &histogram(summary)
}

fn histogram(summary: &Summary) -> String {
    let latency = &summary.latency_ns;
    let ends = (0..).flat_map(|power| ROWS.map(|end| end * 10_u64.pow(power)));
    let (mut rows, mut from) = (Vec::new(), 0);
    for end in ends {
        if from > latency.max() {
            break;
        }
        let count = latency.count_between(from, end);
        if count > 0 || !rows.is_empty() {
            rows.push((end, count));
        }
        from = latency.next_non_equivalent(end);
    }
    let highest = rows.iter().map(|&(_, count)| count).max().unwrap_or(1);
    let row = |(end, count): (u64, u64)| {
        let bar = "#".repeat((count as f64 / highest as f64 * BAR as f64).ceil() as usize);
        let share = 100.0 * count as f64 / latency.len() as f64;
        format!("\n  up to {:>10}  {share:>6.2} %  {bar}", format_ns(end))
    };
    rows.into_iter().map(row).collect()
}

/// Formats a time with three or four digits.
fn format_ns(ns: u64) -> String {
    match ns as f64 {
        ns @ ..1e5 => format!("{:.1} us", ns / 1e3),
        ns @ ..1e6 => format!("{:.0} us", ns / 1e3),
        ns @ ..1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(latencies_us: &[u64]) -> String {
        let mut summary = Summary::default();
        for &us in latencies_us {
            summary.sent += 1;
            summary.add_answer(1, true, Duration::from_micros(us));
        }
        text(&summary)
    }

    #[test]
    fn the_histogram_shows_every_request_and_begins_with_the_first() {
        let text = outcome(&[100, 100, 100, 900]);
        let rows: Vec<_> = text.lines().filter(|line| line.contains(" up to ")).collect();
        assert!(rows[0].contains("75.00 %") && rows[0].ends_with(&format!("  {}", "#".repeat(BAR))), "{text}");
        assert!(rows[rows.len() - 1].contains("25.00 %"), "{text}");
        assert!(text.contains("p50 100 us  p90 900 us"), "{text}");
        assert!(!outcome(&[]).contains("up to"));
    }

    #[test]
    fn times_have_three_or_four_digits() {
        let all = [90_500, 215_000, 3_835_000, 12_000_000_000].map(format_ns);
        assert_eq!(all, ["90.5 us", "215 us", "3.83 ms", "12.00 s"]);
    }
}
