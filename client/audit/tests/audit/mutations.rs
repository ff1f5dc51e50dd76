//! The proof that the audit can fail: logs of the broker's own core are proved, and are refuted when any one of the lines
//! that matter is removed, doubled or attributed to another worker.

use std::collections::BTreeSet;

use giostra_audit::Verdict;
use giostra_core::rotation::Rotation;

use super::core::log_of;
use super::{audit_lines, expect_proved};

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
fn any_line_of_those_that_matter_removed_refutes() {
    for lines in logs() {
        expect_proved(&audit_lines(&lines));
        for (at, line) in lines.iter().enumerate() {
            // One that is lost before it has finished has left no other trace of its leaving, if nothing was dispatched meanwhile.
            let left = lines.iter().any(|other| verb(other) == "left" && label(other) == label(line));
            let returns = verb(line) == "unable" && !line.contains(" returned=0 ");
            // One that was unable, and is lost with nothing in hand, is not missed: nothing would have gone to it.
            let own = lines[..at].iter().rev().filter(|other| label(other) == label(line)).map(|other| verb(other));
            let unmissed = verb(line) == "dropped"
                && line.contains(" returned=0 ")
                && own.take_while(|&verb| verb != "able").any(|verb| verb == "unable");
            if unmissed {
                continue;
            }
            let matters = is_dispatch(line)
                || returns
                || verb(line) == "leaving" && left
                || matches!(
                    verb(line),
                    "joined"
                        | "client-joined"
                        | "dropped"
                        | "accept"
                        | "reply"
                        | "reply-error"
                        | "poison"
                        | "expire"
                        | "goodbye"
                        | "unheard"
                );
            if matters {
                let mut rest = lines.clone();
                rest.remove(at);
                expect_refuted(&rest, "removed", line);
            }
        }
    }
}

#[test]
fn any_line_of_those_that_matter_doubled_refutes() {
    for lines in logs() {
        for (at, line) in lines.iter().enumerate() {
            // What is unable may say so again.
            let again = verb(line) == "unable" && line.contains(" returned=0 ");
            let matters = !again && !matches!(verb(line), "listening" | "discard" | "closing" | "window");
            if matters {
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
