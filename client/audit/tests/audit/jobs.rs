//! Durable jobs: what was safe in one life of the broker is there in the next.

use giostra_audit::{Promise, Verdict};

use crate::audit_lines;

const START: &str = "listening format=2 rotation=strict level=debug after=none";
const WORKER: &str = "joined a w1 pool=p threads=1 window=9 seats=1";

/// A job of four requests, two of which are stored when the broker is killed.
const FIRST: [&str; 9] = [
    START,
    "store home=0000000a jobs=0 path=x",
    WORKER,
    "client-joined c1 ada",
    "job j1 id=0000000a-1 by=c1 pool=p",
    "saved j1 requests=4 j1#0..3 closed",
    "accept j1#0..3 pool=p",
    "dispatch a w1 t1..4 j1#0..3",
    "reply a w1 j1#0..2",
];

/// The next life, in which the others are computed.
const SECOND: [&str; 9] = [
    "listening format=2 rotation=strict level=debug after=none again",
    "store home=0000000a jobs=1 path=x",
    "restored j1 id=0000000a-1 requests=4",
    WORKER,
    "accept j1#2..3 pool=p",
    "dispatch a w1 t1..2 j1#2..3",
    "reply a w1 j1#2..3",
    "stored j1#2..3",
    "finished j1 succeeded=4 failed=0",
];

/// Both lives, with `stored` in the first, and with one line replaced.
fn lives(from: &str, to: &[&str]) -> (Verdict, Vec<String>) {
    let lines = FIRST.into_iter().chain(["stored j1#0..1"]).chain(SECOND);
    let (mut replaced, mut log) = (0, Vec::new());
    for line in lines {
        if line == from {
            replaced += 1;
            log.extend(to.iter().copied());
        } else {
            log.push(line);
        }
    }
    assert!(replaced > 0 || from.is_empty(), "no line is {from}");
    let report = audit_lines(&log);
    let jobs = report.violations.iter().filter(|violation| violation.promise == Promise::Jobs);
    (report.verdict(), jobs.map(|violation| violation.what.clone()).collect())
}

#[test]
fn a_job_that_goes_on_in_the_next_life_is_proved() {
    assert_eq!(lives("", &[]), (Verdict::Proved, vec![]));
    // What is stored and not said, because the broker was killed in between.
    assert_eq!(lives("stored j1#0..1", &[]), (Verdict::Proved, vec![]));
}

#[test]
fn each_way_to_lose_or_double_something_of_a_job_is_found() {
    for (line, instead, what) in [
        ("restored j1 id=0000000a-1 requests=4", &[][..], "is not restored, with 4 requests that were safe"),
        (
            "restored j1 id=0000000a-1 requests=4",
            &["restored j1 id=0000000a-1 requests=3"],
            "of 4 requests that were safe, 3",
        ),
        ("accept j1#2..3 pool=p", &["accept j1#1..3 pool=p"], "j1#1 is accepted again, though its result was safe"),
        ("stored j1#2..3", &["stored j1#1..3"], "the result of j1#1 is stored twice"),
        ("stored j1#0..1", &["stored j1#3"], "a result of j1#3 is stored, but none was computed"),
        ("finished j1 succeeded=4 failed=0", &["finished j1 succeeded=3 failed=0"], "finished with 3 results of 4"),
        ("saved j1 requests=4 j1#0..3 closed", &["saved j1 requests=3 j1#1..3 closed"], "request 1 is saved after 0"),
        (
            "saved j1 requests=4 j1#0..3 closed",
            &["saved j1 requests=3 j1#0..2 closed"],
            "request 3 is accepted, but 3 are safe",
        ),
        ("job j1 id=0000000a-1 by=c1 pool=p", &[], "there is no job 0000000a-1"),
    ] {
        let (verdict, found) = lives(line, instead);
        assert_eq!(verdict, Verdict::Refuted, "{line} -> {instead:?}");
        assert!(found.iter().any(|found| found.contains(what)), "{line} -> {instead:?}: {found:?}");
    }
}

#[test]
fn a_job_whose_last_line_a_kill_took_has_ended_if_all_of_it_was_computed() {
    let mut log: Vec<_> = FIRST.into_iter().chain(["reply a w1 j1#3"]).collect();
    log.extend([
        "listening format=2 rotation=strict level=debug after=none again",
        "store home=0000000a jobs=0 path=x",
    ]);
    log.extend(["client-joined c1 bob"]);
    assert_eq!(audit_lines(&log).verdict(), Verdict::Proved);
}

#[test]
fn a_cancelled_job_and_one_that_was_known_end_with_their_requests() {
    let log = FIRST.into_iter().chain([
        "cancelled-job j1",
        "discard a w1 late=0 j1#3",
        "job j2 id=0000000a-2 by=c1 pool=p",
        "known j2 id=0000000a-1",
        "job j3 id=0000000a-3 by=c1 pool=p",
        "deleted j1",
    ]);
    let report = audit_lines(&log.collect::<Vec<_>>());
    assert_eq!((report.verdict(), report.counts.jobs, report.counts.jobs_open), (Verdict::Proved, 3, 1));
    assert!(report.to_string().contains("durable jobs outlive the broker: proved: 3 jobs"), "{report}");
}

#[test]
fn a_store_that_fails_leaves_its_jobs_to_the_next_life() {
    let log = FIRST.into_iter().chain(["store-failed reason=no space"]).chain(SECOND);
    // All four are computed again, since nothing was stored.
    let log = log.map(|line| line.replace("j1#2..3", "j1#0..3").replace("t1..2", "t1..4"));
    let report = audit_lines(&log.collect::<Vec<_>>());
    assert_eq!(report.verdict(), Verdict::Proved, "{report}");
}
