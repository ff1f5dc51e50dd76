//! What was found: as lines while it runs, and as tables for the documentation.

use std::fmt::{self, Write};

use anyhow::{Context, Result};

use super::figures::{Series, Unit, digits};

/// A bound that something is to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// When more is better.
    AtLeast(f64),
    /// When less is better.
    AtMost(f64),
    /// When none was set.
    Open,
}

impl Goal {
    /// Whether it is reached.
    pub fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
            Self::Open => false,
        }
    }

    /// How many times as good a ratio is as 1, and how many times as good it is to be.
    pub fn factors(self, ratio: f64) -> (f64, f64) {
        match self {
            Self::AtLeast(least) => (ratio, least),
            Self::AtMost(most) => (1.0 / ratio, 1.0 / most),
            Self::Open => (ratio, 1.0),
        }
    }

    fn written(self, write: impl Fn(f64) -> String) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", write(least)),
            Self::AtMost(most) => format!("≤ {}", write(most)),
            Self::Open => "none".into(),
        }
    }
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// What is compared.
    pub figure: Series,
    /// CPU time of the broker, or the proxy, for each request, in microseconds.
    pub broker_cpu: Series,
    /// The same of all processes of that side.
    pub all_cpu: Series,
    /// The most memory of the broker, or the proxy, in bytes.
    pub memory: f64,
}

/// Giostra beside `zmq_proxy` under the same load.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The load.
    pub scenario: String,
    /// Of the figures.
    pub unit: Unit,
    /// Giostra.
    pub ours: Side,
    /// `zmq_proxy`.
    pub theirs: Side,
    /// What the ratio of the medians is to be.
    pub goal: Goal,
}

impl Beside {
    /// Of the medians.
    pub fn ratio(&self) -> f64 {
        self.ours.figure.median() / self.theirs.figure.median()
    }
}

/// A figure of Giostra's own, alone or beside another one.
#[derive(Clone, Debug)]
pub struct Own {
    /// What was measured.
    pub what: String,
    /// Of the figures.
    pub unit: Unit,
    /// The measurements.
    pub figure: Series,
    /// What they are compared with, and its name.
    pub beside: Option<(String, Series)>,
    /// What the ratio of the medians is to be, or without a comparison the median.
    pub goal: Goal,
}

impl Own {
    /// Of the medians.
    pub fn ratio(&self) -> Option<f64> {
        let (_, beside) = self.beside.as_ref()?;
        Some(self.figure.median() / beside.median())
    }

    /// Whether the goal is reached.
    pub fn is_met(&self) -> bool {
        self.goal.is_met(self.ratio().unwrap_or(self.figure.median()))
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.figure.written(self.unit))?;
        if let (Some((name, series)), Some(ratio)) = (&self.beside, self.ratio()) {
            write!(f, "; {name}: {}; ratio {ratio:.2}", series.written(self.unit))?;
        }
        Ok(())
    }
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Beside `zmq_proxy`.
    pub beside: Vec<Beside>,
    /// Giostra alone.
    pub own: Vec<Own>,
}

impl Report {
    /// The tables, in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let number = |figure: f64| digits(figure).to_string();
        if !self.beside.is_empty() {
            text.push_str("| load | Giostra | `zmq_proxy` | ratio | goal |\n|---|---|---|---|---|\n");
            for row in &self.beside {
                let [ours, theirs] = [&row.ours, &row.theirs].map(|side| side.figure.written(row.unit));
                let ratio = marked(row.ratio(), row.goal.is_met(row.ratio()));
                let _ =
                    writeln!(text, "| {} | {ours} | {theirs} | {ratio} | {} |", row.scenario, row.goal.written(number));
            }
            text.push_str(
                "\n| load | CPU a request, broker: Giostra | `zmq_proxy` | all processes: Giostra | `zmq_proxy` ",
            );
            text.push_str("| peak memory, broker: Giostra | `zmq_proxy` |\n|---|---|---|---|---|---|---|\n");
            for row in &self.beside {
                let cpu = [&row.ours.broker_cpu, &row.theirs.broker_cpu, &row.ours.all_cpu, &row.theirs.all_cpu];
                let [a, b, c, d] = cpu.map(|series| series.written(Unit::Micros));
                let [ours, theirs] = [&row.ours, &row.theirs].map(|side| Unit::Bytes.written(side.memory));
                let _ = writeln!(text, "| {} | {a} | {b} | {c} | {d} | {ours} | {theirs} |", row.scenario);
            }
        }
        if !self.own.is_empty() {
            text.push_str("\n| Giostra | measured | beside | ratio | goal |\n|---|---|---|---|---|\n");
            for row in &self.own {
                let beside = row.beside.as_ref();
                let beside = beside.map(|(name, series)| format!("{name}: {}", series.written(row.unit)));
                let (figure, ratio) =
                    (row.figure.written(row.unit), row.ratio().map(|ratio| marked(ratio, row.is_met())));
                let (figure, goal) = match ratio {
                    Some(_) => (figure, row.goal.written(number)),
                    None => (bold(figure, row.is_met()), row.goal.written(|goal| row.unit.written(goal))),
                };
                let [beside, ratio] = [beside, ratio].map(Option::unwrap_or_default);
                let _ = writeln!(text, "| {} | {figure} | {beside} | {ratio} | {goal} |", row.what);
            }
        }
        text
    }
}

/// A ratio, bold where its goal is reached.
fn marked(ratio: f64, met: bool) -> String {
    bold(digits(ratio).to_string(), met)
}

fn bold(text: String, bold: bool) -> String {
    if bold { format!("**{text}**") } else { text }
}

/// What a document says before its generated part, and after it.
const BEGIN: &str = "<!-- measured: just bench writes what is between these lines -->\n";
const END: &str = "<!-- end of what is measured -->\n";

/// The document with another generated part. An error if its two marks are not there.
pub fn exchanged(document: &str, generated: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("no beginning of the measured part")?;
    let (_, after) = rest.split_once(END).context("no end of the measured part")?;
    Ok(format!("{before}{BEGIN}\n{generated}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: &[f64]) -> Series {
        Series::new(figures.to_vec()).unwrap()
    }

    fn side(rate: f64) -> Side {
        let one = || series(&[0.5]);
        Side { figure: series(&[rate]), broker_cpu: one(), all_cpu: one(), memory: 1e8 }
    }

    fn report() -> Report {
        let row = |scenario: &str, ours, theirs, unit, goal| Beside {
            scenario: scenario.into(),
            unit,
            ours: side(ours),
            theirs: side(theirs),
            goal,
        };
        let own = |what: &str, beside, goal| Own {
            what: what.into(),
            unit: Unit::Micros,
            figure: series(&[2000.0, 1000.0, 4000.0]),
            beside,
            goal,
        };
        Report {
            beside: vec![
                row("W=64", 150e3, 100e3, Unit::Rate, Goal::AtLeast(1.8)),
                row("W=1", 50.0, 200.0, Unit::Micros, Goal::AtMost(0.5)),
            ],
            own: vec![
                own("failover", None, Goal::AtMost(10_000.0)),
                own("growth", Some(("before".into(), series(&[1000.0]))), Goal::AtMost(1.5)),
            ],
        }
    }

    #[test]
    fn what_reaches_its_goal_is_bold_and_all_rows_have_all_columns() {
        let text = report().markdown();
        for row in [
            "| W=64 | 150 k/s | 100 k/s | 1.50 | ≥ 1.80 |",
            "| W=1 | 50.0 µs | 200 µs | **0.25** | ≤ 0.50 |",
            "| failover | **2.00 ms (1.00..4.00)** |  |  | ≤ 10.0 ms |",
            "| growth | 2.00 ms (1.00..4.00) | before: 1.00 ms | 2.00 | ≤ 1.50 |",
        ] {
            assert!(text.lines().any(|line| line == row), "no {row} in\n{text}");
        }
        for table in text.split("\n\n") {
            let columns: Vec<_> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(columns.iter().all(|count| *count == columns[0]), "{table}");
        }
    }

    #[test]
    fn the_measured_part_is_exchanged_and_nothing_else() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let once = exchanged(&document, "new\n").unwrap();
        assert!(once.starts_with("before\n") && once.ends_with("after\n") && !once.contains("old"));
        assert_eq!(exchanged(&once, "new\n").unwrap(), once);
        assert!(exchanged("no marks", "new").is_err());
    }

    #[test]
    fn a_ratio_that_is_to_be_small_is_turned_round_for_the_plot() {
        assert_eq!(Goal::AtMost(0.5).factors(0.25), (4.0, 2.0));
        assert_eq!(Goal::AtLeast(3.0).factors(2.5), (2.5, 3.0));
    }
}
