//! Urgent requests are dispatched before the others that wait in their pool.

use giostra_audit::{Promise, Verdict};

use crate::{audit_lines, expect_proved, expect_refuted};

const START: [&str; 5] = [
    "listening format=2 rotation=strict max-attempts=3 level=debug after=none",
    "client-joined c1 ada",
    "client-joined c2 bob",
    "joined a w1 pool=p threads=1 window=9 seats=1",
    "joined b w2 pool=q threads=1 window=9 seats=1",
];

/// All requests wait before the first is dispatched.
const WAITING: [&str; 4] = [
    "accept c1#1 pool=p priority=low",
    "accept c1#2..3 pool=p",
    "accept c2#1 pool=p priority=high",
    "accept c2#2 pool=q priority=low",
];

fn after<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    [&START[..], &WAITING, lines].concat()
}

#[test]
fn urgent_requests_go_first_and_those_that_can_wait_last() {
    // Another pool has requests of its own, whatever is urgent here.
    let log = ["dispatch b w2 t1 c2#2", "dispatch a w1 t2..5 c2#1 c1#2..3 c1#1", "reply a w1 c2#1 c1#1..3"];
    // Every pool has tickets of its own turns; one sequence numbers them all.
    expect_proved(&audit_lines(&after(&log)));
    // What came later could not be known.
    let later = ["dispatch a w1 t1..2 c2#1 c1#2", "accept c2#3 pool=p priority=high", "dispatch a w1 t3 c2#3"];
    expect_proved(&audit_lines(&after(&later)));
}

#[test]
fn a_request_that_overtakes_a_more_urgent_one_is_found() {
    for (line, what) in [
        ("dispatch a w1 t1 c1#2", "c1#2 is dispatched before 1 that are more urgent"),
        ("dispatch a w1 t1 c1#1", "c1#1 is dispatched before 3 that are more urgent"),
        ("dispatch a w1 t1..3 c2#1 c1#2 c1#1", "c1#1 is dispatched before 1 that are more urgent"),
    ] {
        expect_refuted(&audit_lines(&after(&[line])), Promise::Requests, what);
    }
}

#[test]
fn an_urgent_request_that_has_ended_or_is_with_a_worker_holds_up_no_other() {
    for ended in
        ["cancel c2#1", "expire c2#1", "dispatch a w1 t1 c2#1", "client-left c2 cancelled=2 unwanted=0 reason=x"]
    {
        let dispatch = if ended.starts_with("dispatch") { "dispatch a w1 t2 c1#2" } else { "dispatch a w1 t1 c1#2" };
        let report = audit_lines(&after(&[ended, dispatch]));
        assert_eq!(report.verdict(), Verdict::Proved, "{ended}: {report}");
    }
}

#[test]
fn a_request_that_a_lost_worker_gave_back_goes_before_more_urgent_ones() {
    let log = after(&[
        "dispatch a w1 t1..2 c2#1 c1#2",
        "joined c w3 pool=p threads=1 window=9 seats=2",
        "dropped a w1 returned=2 c2#1 c1#2 evidence=yes reason=connection broke",
        "accept c2#3 pool=p priority=high",
        "redispatch c w3 t3..4 c2#1 c1#2",
        "dispatch c w3 t5 c2#3",
    ]);
    expect_proved(&audit_lines(&log));
}
