//! The proof that the audit can fail: logs of the broker's own core are proved, and are no longer
//! when any one of the lines is removed, doubled or attributed to another worker.

use std::collections::BTreeSet;

use giostra_audit::{Gap, Verdict};
use giostra_core::policy::rotation::Rotation;

use super::core::log_of;
use super::{TIME, audit_lines, audit_text, expect_proved, written};

const ROTATIONS: [Rotation; 2] = [Rotation::Strict, Rotation::Available];

/// The logs whose lines are changed one by one.
fn logs() -> impl Iterator<Item = Vec<String>> {
    (0..4).map(|seed| log_of(seed, ROTATIONS[seed as usize % 2], 100))
}

fn verb(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The worker that a line is about.
fn label(line: &str) -> String {
    line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")
}

fn is_dispatch(line: &str) -> bool {
    matches!(verb(line), "dispatch" | "redispatch")
}

fn expect_refuted(lines: &[String], what: &str, line: &str) {
    let report = audit_lines(lines);
    assert_eq!(report.verdict(), Verdict::Refuted, "{what}: {line}\n{report}\n{}", lines.join("\n"));
}

#[test]
fn logs_of_the_brokers_own_core_are_proved() {
    let mut verbs = BTreeSet::new();
    for seed in 0..100 {
        for rotation in ROTATIONS {
            let lines = log_of(seed, rotation, 400);
            let report = audit_lines(&lines);
            assert_eq!(report.verdict(), Verdict::Proved, "seed {seed}, {rotation}: {report}\n{}", lines.join("\n"));
            verbs.extend(lines.iter().map(|line| verb(line).to_string()));
        }
    }
    let all = "able accept cancel client-joined client-left closing discard dispatch dropped expire goodbye joined leaving left \
               listening poison redispatch reply reply-error stopped unable unheard window";
    assert_eq!(verbs.into_iter().collect::<Vec<_>>().join(" "), all, "everything has happened");
}

#[test]
fn any_line_removed_from_the_life_of_a_broker_that_stopped_is_noticed() {
    for lines in logs() {
        expect_proved(&audit_lines(&lines));
        for at in 0..lines.len() - 1 {
            let mut rest = lines.clone();
            let line = rest.remove(at);
            let report = audit_lines(&rest);
            assert_ne!(report.verdict(), Verdict::Proved, "without {line}: {report}");
        }
    }
}

/// A life that has no end of its own, and the next one, which knows how it ended.
fn killed(lines: &[String]) -> String {
    let whole = written(lines);
    let last = whole.lines().next_back().expect("it has lines");
    let after = format!("after={TIME}/{:08x}", crc32fast::hash(last.as_bytes()));
    let next = written(&[lines[0].replace(" log=", &format!(" {after} log="))]);
    // It starts later.
    whole + &next.replacen("10:45", "10:47", 1)
}

#[test]
fn any_end_removed_from_the_life_of_a_broker_is_noticed_where_the_next_one_begins() {
    for lines in logs() {
        for whole in [&lines[..], &lines[..lines.len() * 2 / 3]] {
            let log = killed(whole);
            let all: Vec<_> = log.split_inclusive('\n').collect();
            expect_proved(&audit_text(&log));
            for removed in 1..20 {
                let kept = all[..whole.len() - removed].concat() + all[whole.len()];
                let report = audit_text(&kept);
                let cut = report.gaps.iter().any(|gap| matches!(gap, Gap::Cut(_, _, after) if after == TIME));
                assert!(cut && report.verdict() != Verdict::Proved, "{removed} lines: {report}");
            }
        }
    }
}

#[test]
fn any_line_that_changes_a_count_is_missed_also_if_the_broker_was_killed() {
    let of_clients = |line: &str| matches!(verb(line), "client-joined" | "client-left");
    let of_workers = |line: &str| matches!(verb(line), "joined" | "left" | "dropped");
    for lines in logs() {
        let end = lines.iter().position(|line| verb(line) == "closing").expect("it closed");
        let lines = &lines[..end];
        let log = killed(lines);
        let all: Vec<_> = log.split_inclusive('\n').collect();
        for (at, line) in lines.iter().enumerate() {
            let counted_again = |of: &dyn Fn(&str) -> bool| lines[at + 1..].iter().any(|later| of(later));
            let own = |later: &str| label(later) == label(line) && matches!(verb(later), "left" | "dropped");
            let missed = of_clients(line) && counted_again(&of_clients)
                || of_workers(line) && counted_again(&of_workers)
                || verb(line) == "discard" && counted_again(&own);
            if missed {
                let rest = [&all[..at], &all[at + 1..]].concat().concat();
                let report = audit_text(&rest);
                assert_eq!(report.verdict(), Verdict::Refuted, "without {line}: {report}");
            }
        }
    }
}

#[test]
fn any_line_doubled_refutes() {
    for lines in logs() {
        for (at, line) in lines.iter().enumerate() {
            // The same start twice is the same life twice, which is not proved.
            if verb(line) != "listening" {
                let mut doubled = lines.clone();
                doubled.insert(at, line.clone());
                expect_refuted(&doubled, "doubled", line);
            }
        }
    }
}

#[test]
fn any_dispatch_attributed_to_another_worker_refutes() {
    for lines in logs() {
        let labels: Vec<_> = lines.iter().filter(|line| verb(line) == "joined").map(|line| label(line)).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_dispatch(line)) {
            let own = label(line);
            for other in labels.iter().filter(|&other| *other != own) {
                let mut swapped = lines.clone();
                swapped[at] = line.replacen(&own, other, 1);
                expect_refuted(&swapped, &format!("given to {other}"), line);
            }
        }
    }
}
