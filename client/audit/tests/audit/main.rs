//! The audit against logs that are sound, and against each way in which one can be wrong.

mod core;
mod files;
mod lines;
mod mutations;

use std::fs;

use giostra_audit::{Promise, Report, Verdict, audit};

/// A log of these lines, as the broker writes them.
fn written(lines: &[impl AsRef<str>]) -> String {
    let line = |text: &str| {
        let level = match text.split(' ').next() {
            Some("accept" | "dispatch" | "reply" | "reply-error") => "DEBUG",
            Some("dropped" | "poison" | "refuse" | "unheard") => "WARN",
            _ => "INFO",
        };
        format!("2026-11-23T10:45:56.824140Z {level:<5} {text}\n")
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
