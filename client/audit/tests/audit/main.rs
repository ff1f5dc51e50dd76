//! The audit against logs that are sound, and against each way in which one can be wrong.

mod account;
mod core;
mod evidence;
mod files;
mod job_story;
mod jobs;
mod json;
mod lines;
mod mutations;
mod urgency;

use std::fs;

use giostra_audit::{Promise, Report, Verdict, audit};

/// Each line's time.
const TIME: &str = "2026-11-23T10:45:56.824140Z";

/// Counts that a line told by hand lacks, as they are if nothing is missing.
#[derive(Default)]
struct Counted {
    lines: usize,
    clients: usize,
    workers: usize,
}

impl Counted {
    fn completed(&mut self, text: &str) -> String {
        let verb = text.split(' ').next().unwrap_or_default();
        let change = |count: &mut usize, joins: bool| match joins {
            true => *count += 1,
            false => *count = count.saturating_sub(1),
        };
        match verb {
            "listening" => *self = Self::default(),
            "client-joined" | "client-left" => change(&mut self.clients, verb == "client-joined"),
            "joined" | "left" | "dropped" => change(&mut self.workers, verb == "joined"),
            _ => {}
        }
        self.lines += 1;
        let Self { lines, clients, workers } = self;
        let lacks = |counts: &[(&str, &usize)]| -> String {
            let lacking = counts.iter().filter(|(name, _)| !text.contains(&format!(" {name}=")));
            lacking.map(|(name, count)| format!(" {name}={count}")).collect()
        };
        let (before, counts) = match verb {
            "client-joined" => (" key=", lacks(&[("clients", clients)])),
            "client-left" => (" reason=", lacks(&[("clients", clients)])),
            "joined" => (" back=", lacks(&[("workers", workers)])),
            "left" => (" key=", lacks(&[("discarded", &0), ("workers", workers)])),
            "dropped" => (" evidence=", lacks(&[("unwanted", &0), ("discarded", &0), ("workers", workers)])),
            "stopped" => (" key=", lacks(&[("lines", lines)])),
            _ => return text.into(),
        };
        let at = text.find(before).unwrap_or(text.len());
        [&text[..at], &counts, &text[at..]].concat()
    }
}

/// A log of these lines, as the broker writes them.
fn written(lines: &[impl AsRef<str>]) -> String {
    let mut counted = Counted::default();
    let mut line = |text: &str| {
        let text = counted.completed(text);
        let level = match text.split(' ').next() {
            Some("accept" | "dispatch" | "reply" | "reply-error") => "DEBUG",
            Some("dropped" | "poison" | "refuse" | "unheard") => "WARN",
            _ => "INFO",
        };
        format!("{TIME} {level:<5} {text}\n")
    };
    lines.iter().map(|text| line(text.as_ref())).collect()
}

/// Audits a log of that text.
fn audit_text(log: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker_rCURRENT.log");
    fs::write(&file, log).unwrap();
    audit(&[file]).unwrap()
}

fn audit_lines(lines: &[impl AsRef<str>]) -> Report {
    audit_text(&written(lines))
}

fn expect_proved(report: &Report) {
    assert_eq!(report.verdict(), Verdict::Proved, "{report}");
}

/// Expects the first violation to be this one.
fn expect_refuted(report: &Report, promise: Promise, what: &str) {
    assert_eq!(report.verdict(), Verdict::Refuted, "{report}");
    let first = &report.violations[0];
    assert!(first.promise == promise && first.what.contains(what), "not {promise:?}, {what:?}: {report}");
}
