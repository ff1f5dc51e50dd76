//! Durable jobs: what was safe in one life of the broker is there in the next.

use giostra_audit::{Promise, Verdict};

use crate::{audit_lines, expect_proved, expect_refuted};

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

/// A job of which one request fails at first, and is computed again.
const RETRIED: [&str; 13] = [
    START,
    "store home=0000000a jobs=0 path=x",
    WORKER,
    "client-joined c1 ada",
    "job j1 id=0000000a-1 by=c1 pool=p",
    "saved j1 requests=2 j1#0..1 closed",
    "accept j1#0..1 pool=p",
    "dispatch a w1 t1..2 j1#0..1",
    "reply a w1 j1#0",
    "reply-error a w1 j1#1",
    "retry j1#1",
    "stored j1#0",
    "accept j1#1 pool=p",
];

#[test]
fn a_failed_request_is_computed_again_and_has_one_result() {
    let log = |end: &[&'static str]| audit_lines(&[&RETRIED[..], end].concat());
    let sound = ["dispatch a w1 t3 j1#1", "reply a w1 j1#1", "stored j1#1", "finished j1 succeeded=2 failed=0"];
    let report = log(&sound);
    assert_eq!((report.verdict(), report.counts.retried), (Verdict::Proved, 1), "{report}");
    for (end, what) in [
        (&["retry j1#0"][..], "j1#0 is computed again, but has not just failed"),
        (&["retry j1#1"], "j1#1 is computed again, but has not just failed"),
        (&["stored j1#1"], "a result of j1#1 is stored, but none was computed"),
        (&["dispatch a w1 t3 j1#1", "finished j1 succeeded=1 failed=1"], "1 of its requests had no reply"),
        (&["retry j2#1"], "there is no job 0000000a-2"),
    ] {
        expect_refuted(&log(end), Promise::Jobs, what);
    }
}

/// A life in which request 0 of a job goes on that has lost workers in the life before.
fn with_losses(lines: &[&'static str]) -> giostra_audit::Report {
    let begin = [
        "listening format=2 rotation=strict max-attempts=3 level=debug after=none",
        "store home=0000000a jobs=1 path=x",
        "restored j1 id=0000000a-1 requests=2",
        WORKER,
        "joined b w2 pool=p threads=1 window=9 seats=2",
        "accept j1#0..1 pool=p",
        "earlier-losses j1#0 lost=2",
    ];
    audit_lines(&[&begin[..], lines].concat())
}

#[test]
fn losses_of_an_earlier_life_count_against_a_request() {
    expect_proved(&with_losses(&["redispatch a w1 t1 j1#0", "dispatch b w2 t2 j1#1", "reply a w1 j1#0"]));
    let lost = "dropped a w1 returned=1 j1#0 evidence=yes reason=connection broke";
    let given_up = "poison j1#0 workers=before-restart,before-restart,a";
    expect_proved(&with_losses(&["redispatch a w1 t1 j1#0", lost, given_up, "stored j1#0"]));
    for (lines, promise, what) in [
        (&["dispatch b w2 t1 j1#1"][..], Promise::Rotation, "it is the turn of w1"),
        (&["dispatch a w1 t1 j1#1"], Promise::Requests, "j1#1 is dispatched before j1#0"),
        (&["dispatch a w1 t1 j1#0"], Promise::Requests, "as a new one, but was given back"),
        (&["redispatch a w1 t1 j1#0", lost, "redispatch b w2 t2 j1#0"], Promise::Poison, "after 3 workers were lost"),
        (&["redispatch a w1 t1..2 j1#0 j1#1"], Promise::Requests, "j1#1 is dispatched again, but was not given back"),
        (
            &["redispatch a w1 t1 j1#0", lost, "poison j1#0 workers=before-restart,a"],
            Promise::Poison,
            "was lost with before-restart,before-restart,a",
        ),
        (&["earlier-losses j1#0 lost=1"], Promise::Jobs, "j1#0 has lost workers before, but is not new here"),
    ] {
        let report = with_losses(lines);
        let found = report.violations.iter().any(|found| found.promise == promise && found.what.contains(what));
        assert!(report.verdict() == Verdict::Refuted && found, "{lines:?}: {report}");
    }
}

#[test]
fn a_finished_job_goes_on_with_what_had_failed() {
    let begin = [&RETRIED[..], &["dispatch a w1 t3 j1#1", "reply-error a w1 j1#1", "stored j1#1"]].concat();
    let finished = "finished j1 succeeded=1 failed=1";
    let resumed = "resumed j1 id=0000000a-1 requests=2 again=1";
    let log = |end: &[&'static str]| audit_lines(&[&begin[..], end].concat());
    let again = [
        finished,
        resumed,
        "accept j1#1 pool=p",
        "dispatch a w1 t4 j1#1",
        "reply a w1 j1#1",
        "stored j1#1",
        "finished j1 succeeded=2 failed=0",
    ];
    let report = log(&again);
    assert_eq!((report.verdict(), report.counts.jobs_finished), (Verdict::Proved, 1), "{report}");
    for (end, what) in [
        (&[resumed][..], "job 0000000a-1 has nothing to compute again, or is running"),
        (&[finished, "resumed j1 id=0000000a-1 requests=2 again=0"], "has nothing to compute again"),
        (&[finished, "resumed j1 id=0000000a-1 requests=2 again=3"], "has nothing to compute again"),
        (&[finished, resumed, "accept j1#2 pool=p"], "request 2 is accepted, but 2 are safe"),
        (&[finished, resumed, "finished j1 succeeded=1 failed=0"], "finished with 1 results of 2 requests"),
    ] {
        expect_refuted(&log(end), Promise::Jobs, what);
    }
}

#[test]
fn what_lines_that_are_missing_may_say_is_not_held_against_a_job() {
    // It may have finished in the lines that could not be written.
    let after = ["log-gap lost=9", "listening format=2 rotation=strict level=debug after=none again"];
    let next = ["store home=0000000a jobs=0 path=x", "client-joined c1 bob"];
    let log: Vec<_> = FIRST.into_iter().chain(after).chain(next).collect();
    let report = audit_lines(&log);
    assert_eq!(report.verdict(), Verdict::NotProvable, "{report}");
    // With --log-level info there are no replies.
    let debug = ["accept", "dispatch", "reply", "saved"];
    let quiet = FIRST.into_iter().filter(|line| !debug.iter().any(|verb| line.starts_with(verb)));
    let quiet = quiet.map(|line| line.replace("level=debug", "level=info"));
    let report = audit_lines(&quiet.chain(SECOND.map(String::from)).collect::<Vec<_>>());
    assert_eq!(report.verdict(), Verdict::NotProvable, "{report}");
}
