//! A small log by hand, and what becomes of its proof when a line of it is changed.

use giostra_audit::{Promise, Report};

use super::{audit_lines, expect_proved, expect_refuted};

pub const LISTENING: &str = "listening format=2 frontend=a backend=b rotation=strict log=l pid=1";

/// Three workers, of which one is lost and comes again.
const SOUND: [&str; 31] = [
    LISTENING,
    "joined worker-1 w1 pool=p threads=1 window=3 seats=1",
    "joined worker-2 w2 pool=p threads=1 window=3 seats=2",
    "joined worker-3 w3 pool=p threads=1 window=3 seats=3",
    "client-joined c1 n",
    "accept c1#1..7 pool=p",
    "dispatch worker-1 w1 t1..4/3 c1#1..4/3",
    "dispatch worker-2 w2 t2..5/3 c1#2..5/3",
    "dispatch worker-3 w3 t3..6/3 c1#3..6/3",
    "dispatch worker-1 w1 t7 c1#7",
    "reply worker-1 w1 c1#1..4/3",
    "dropped worker-2 w2 returned=2 c1#2..5/3 evidence=yes reason=connection broke",
    "redispatch worker-3 w3 t8 c1#2",
    "redispatch worker-1 w1 t9 c1#5",
    "joined worker-2 w4 pool=p threads=1 window=3 seats=3",
    "refuse a worker reason=whatever it is",
    "accept c1#8..9 pool=p",
    "reply worker-3 w3 c1#3",
    "dispatch worker-3 w3 t10 c1#8",
    "dispatch worker-2 w4 t11 c1#9",
    "reply worker-3 w3 c1#6 c1#2 c1#8",
    "reply-error worker-1 w1 c1#7",
    "cancel c1#5",
    "discard worker-1 w1 late=1 c1#5",
    "leaving worker-1 w1 in-flight=0 by=drain",
    "left worker-1 w1 discarded=2 workers=2",
    "accept c1#10 pool=p",
    "expire c1#10",
    "client-left c1 cancelled=0 unwanted=1 reason=connection broke",
    "discard worker-2 w4 late=0 c1#9",
    "closing in-flight=0",
];

/// The sound log with the line that begins so replaced by these, and what the audit says of it.
fn with(beginning: &str, lines: &[&str]) -> Report {
    let place = SOUND.iter().position(|line| line.starts_with(beginning)).expect("there is one");
    let (before, after) = (&SOUND[..place], &SOUND[place + 1..]);
    audit_lines(&[before, lines, after, &["stopped"]].concat())
}

fn without(beginning: &str) -> Report {
    with(beginning, &[])
}

#[test]
fn a_sound_log_is_proved_and_counted() {
    let report = audit_lines(&[&SOUND[..], &["stopped"]].concat());
    expect_proved(&report);
    let counts = report.counts;
    assert_eq!((counts.accepted, counts.dispatched, counts.redispatched, counts.returned), (10, 11, 2, 2));
    assert_eq!((counts.replies, counts.reply_errors, counts.discarded), (6, 1, 3));
    assert_eq!((counts.expired, counts.cancelled, counts.open, counts.poisoned), (1, 2, 0, 0));
    assert_eq!((counts.workers_joined, counts.workers_dropped, counts.workers_left), (4, 1, 1));
    assert_eq!((counts.clients_joined, counts.clients_left, report.max_lost), (1, 1, 1));
}

#[test]
fn what_an_unable_worker_hands_back_is_held_against_nothing_and_it_sits_down_at_the_tail_later() {
    let lines = [
        LISTENING,
        "joined worker-1 w1 pool=p threads=1 window=3 seats=1",
        "joined worker-2 w2 pool=p threads=1 window=3 seats=2",
        "client-joined c1 n",
        "accept c1#1..3 pool=p",
        "dispatch worker-1 w1 t1..3/2 c1#1..3/2",
        "dispatch worker-2 w2 t2 c1#2",
        "unable worker-1 w1 returned=2 c1#1..3/2 reason=can't start job",
        "redispatch worker-2 w2 t4..5 c1#1..3/2",
        "able worker-1 w1 seats=2",
        "reply worker-2 w2 c1#1..3",
        "accept c1#4..5 pool=p",
        "dispatch worker-1 w1 t6 c1#4",
        "dispatch worker-2 w2 t7 c1#5",
        "reply worker-1 w1 c1#4",
        "reply worker-2 w2 c1#5",
        "closing in-flight=0",
        "client-left c1 cancelled=0 unwanted=0 reason=the broker closes",
        "goodbye c1",
        "stopped",
    ];
    let report = audit_lines(&lines);
    expect_proved(&report);
    let counts = report.counts;
    assert_eq!((counts.workers_unable, counts.handed_back, counts.redispatched, report.max_lost), (1, 2, 2, 0));
    let changed = |from: &str, to: &str| audit_lines(&lines.map(|line| if line == from { to } else { line }));
    let unable = lines[7];
    let others = "unable worker-1 w1 returned=2 c1#1..2 reason=can't start job";
    expect_refuted(&changed(unable, others), Promise::Requests, "hands back c1#2, which it does not hold");
    let fewer = "unable worker-1 w1 returned=2 c1#1 reason=can't start job";
    expect_refuted(&changed(unable, fewer), Promise::Requests, "1 requests are named, not 2");
    expect_refuted(&changed(unable, "refuse x reason=y"), Promise::Requests, "but w1 holds it as t1");
    let again = "redispatch worker-1 w1 t4..5 c1#1..3/2";
    expect_refuted(&changed(lines[8], again), Promise::Rotation, "t4 goes to w1, which has given up its seat");
    expect_refuted(
        &changed(lines[9], "refuse x reason=y"),
        Promise::Rotation,
        "t6 goes to w1, which has given up its seat",
    );
    expect_refuted(&changed(lines[9], "able worker-2 w2 seats=1"), Promise::Rotation, "it had not lost its own");
}

#[test]
fn a_removed_dispatch_leaves_a_gap_in_the_tickets() {
    expect_refuted(&without("dispatch worker-2 w2"), Promise::Rotation, "t2 is missing before t3");
    expect_refuted(&without("dispatch worker-1 w1 t7"), Promise::Rotation, "t7 is missing before t8");
    expect_refuted(&without("redispatch worker-3"), Promise::Rotation, "t8 is missing before t9");
}

#[test]
fn a_ticket_is_dealt_once() {
    let report = with("dispatch worker-1 w1 t7", &["dispatch worker-1 w1 t7 c1#7", "dispatch worker-1 w1 t7 c1#7"]);
    expect_refuted(&report, Promise::Rotation, "t7 is dealt, but t7 was dealt before");
    assert_eq!(report.violation_count(), 1, "{report}");
    let report = with("dispatch worker-1 w1 t7", &["dispatch worker-1 w1 t6 c1#7"]);
    expect_refuted(&report, Promise::Rotation, "t6 is dealt, but t6 was dealt before");
    let report = with("dispatch worker-1 w1 t7", &["dispatch worker-1 w1 t7..8 c1#7"]);
    expect_refuted(&report, Promise::Rotation, "2 tickets for 1 requests");
}

#[test]
fn each_dispatch_goes_to_the_next_seat() {
    let report = with("redispatch worker-3", &["redispatch worker-1 w1 t8 c1#2"]);
    expect_refuted(&report, Promise::Rotation, "t8 goes to w1, but it is the turn of w3");
    // Those that sit down again do so at the tail.
    let report = with("dispatch worker-2 w4", &["dispatch worker-1 w1 t11 c1#9"]);
    expect_refuted(&report, Promise::Rotation, "t11 goes to w1, but it is the turn of w4");
    let report = with("dispatch worker-2 w4", &["dispatch worker-3 w4 t11 c1#9"]);
    expect_refuted(&report, Promise::Rotation, "w4 is not worker-3: it joined as worker-2");
}

#[test]
fn nothing_goes_to_a_worker_that_is_dropped_or_leaving_or_never_joined() {
    let report = with("redispatch worker-3", &["redispatch worker-2 w2 t8 c1#2"]);
    expect_refuted(&report, Promise::Rotation, "w2 has left or was dropped");
    let report = with("redispatch worker-3", &["redispatch worker-9 w9 t8 c1#2"]);
    expect_refuted(&report, Promise::Rotation, "w9 never joined");
    let leaving = "leaving worker-3 w3 in-flight=2 by=drain";
    let report = with("dispatch worker-3 w3 t10", &[leaving, "dispatch worker-3 w3 t10 c1#8"]);
    expect_refuted(&report, Promise::Rotation, "t10 goes to w3, which has given up its seat");
}

#[test]
fn no_window_is_exceeded() {
    let report = with("joined worker-1", &["joined worker-1 w1 pool=p threads=1 window=2 seats=1"]);
    expect_refuted(&report, Promise::Rotation, "t7 makes 3 in flight to w1, whose window is 2");
}

#[test]
fn seats_and_numbers_agree_with_who_is_there() {
    expect_refuted(&without("joined worker-2 w2"), Promise::Rotation, "w3 joins instead of w2");
    expect_refuted(&without("dropped"), Promise::Requests, "c1#2 is dispatched, but w2 holds it as t2");
    let report = with("joined worker-2 w4", &["joined worker-2 w4 pool=p threads=1 window=3 seats=4"]);
    expect_refuted(&report, Promise::Rotation, "the ring has 3 seats, not 4");
    expect_refuted(&without("leaving"), Promise::Rotation, "leaves without giving up its seat");
    let report = with("leaving", &["leaving worker-1 w1 in-flight=1 by=drain"]);
    expect_refuted(&report, Promise::Requests, "w1 has 0 requests to finish, not 1");
}

#[test]
fn a_full_seat_may_be_passed_over_only_where_that_was_asked_for() {
    let lines = |rotation: &str, window: u64| {
        [
            LISTENING.replace("strict", rotation),
            format!("joined a w1 pool=p threads=1 window={window} seats=1"),
            "joined b w2 pool=p threads=1 window=9 seats=2".into(),
            "client-joined c1 n".into(),
            "accept c1#1..4 pool=p".into(),
            "dispatch a w1 t1 c1#1".into(),
            "dispatch b w2 t2..4 c1#2..4".into(),
        ]
    };
    let report = audit_lines(&lines("available", 1));
    expect_proved(&report);
    assert!(!report.strict && report.counts.open == 4);
    expect_refuted(&audit_lines(&lines("available", 2)), Promise::Rotation, "t3 goes to w2, but it is the turn of w1");
    expect_refuted(&audit_lines(&lines("strict", 1)), Promise::Rotation, "t3 goes to w2, but it is the turn of w1");
}

#[test]
fn a_seat_may_be_passed_over_by_the_window_that_the_log_told_last() {
    let lines = |window: &[&'static str]| {
        let begin = ["joined a w1 pool=p threads=1 window=3 seats=1", "joined b w2 pool=p threads=1 window=9 seats=2"];
        let asked = ["client-joined c1 n", "accept c1#1..6 pool=p"];
        let dealt =
            ["dispatch a w1 t1 c1#1", "dispatch b w2 t2..4 c1#2..4", "dispatch a w1 t5 c1#5", "dispatch b w2 t6 c1#6"];
        let listening = [LISTENING.replace("strict", "available").leak() as &str];
        [&listening, &begin[..], &asked, window, &dealt[..2], &["window a w1 size=3"][..window.len()], &dealt[2..]]
            .concat()
    };
    expect_refuted(&audit_lines(&lines(&[])), Promise::Rotation, "t3 goes to w2, but it is the turn of w1");
    expect_refuted(&audit_lines(&lines(&["window a w1 size=2"])), Promise::Rotation, "but it is the turn of w1");
    expect_refuted(&audit_lines(&lines(&["window a w1 size=4"])), Promise::Rotation, "but its maximum is 3");
    expect_refuted(&audit_lines(&lines(&["window b w1 size=1"])), Promise::Rotation, "w1 is not b");
    expect_proved(&audit_lines(&lines(&["window a w1 size=1"])));
}

#[test]
fn the_lines_of_a_pass_and_the_tickets_of_a_line_stand_in_the_order_of_the_turns() {
    let lines = |dealt: &[&'static str]| {
        let begin = [
            LISTENING,
            "joined a w1 pool=p threads=1 window=9 seats=1",
            "joined b w2 pool=p threads=1 window=9 seats=2",
            "client-joined c1 n",
            "accept c1#1..4 pool=p",
        ];
        [&begin[..], dealt].concat()
    };
    let (a, b) = ("dispatch a w1 t1..3/2 c1#1..3/2", "dispatch b w2 t2..4/2 c1#2..4/2");
    expect_proved(&audit_lines(&lines(&[a, b])));
    expect_refuted(&audit_lines(&lines(&[b, a])), Promise::Rotation, "the line of t1 stands behind that of t2");
    let turned = audit_lines(&lines(&["dispatch a w1 t3 t1 c1#3 c1#1", b]));
    expect_refuted(&turned, Promise::Rotation, "t1 stands behind t3");
}

#[test]
fn a_request_is_accepted_once_and_ends_once() {
    expect_refuted(&without("accept c1#1..7"), Promise::Requests, "c1#1 is dispatched, but is not open");
    let report = with("accept c1#8", &["accept c1#7..9 pool=p"]);
    expect_refuted(&report, Promise::Requests, "c1#7 is accepted, but is open already");
    // After its end an id may be used again.
    expect_proved(&with("accept c1#10", &["accept c1#1 c1#10 pool=p", "cancel c1#1"]));
    let reply = "reply worker-1 w1 c1#1..4/3";
    expect_refuted(&with(reply, &[reply, reply]), Promise::Requests, "w1 replies to c1#1, but it is not open");
    let report = with(reply, &["reply worker-2 w2 c1#1..4/3"]);
    expect_refuted(&report, Promise::Requests, "w2 replies to c1#1, but worker-1 w1 holds it");
    let report = with(reply, &[reply, "reply worker-1 w1 c1#2"]);
    expect_refuted(&report, Promise::Requests, "w1 replies to c1#2, but worker-2 w2 holds it");
    let report = with(reply, &[reply, "expire c1#1"]);
    expect_refuted(&report, Promise::Requests, "c1#1 expires, but is not open");
    let report = with("expire", &["expire c1#10", "cancel c1#10"]);
    expect_refuted(&report, Promise::Requests, "c1#10 is cancelled, but is not open");
}

#[test]
fn a_missing_reply_is_seen_where_its_place_in_the_window_is_missed() {
    expect_refuted(&without("reply worker-3 w3 c1#3"), Promise::Rotation, "whose window is 3");
    expect_refuted(&without("reply-error"), Promise::Requests, "w1 has 1 requests to finish, not 0");
    // At the end of a log it might still have come; not if the broker waited for it.
    let lines = [LISTENING, SOUND[1], "client-joined c1 n", "accept c1#1 pool=p", "dispatch worker-1 w1 t1 c1#1"];
    let report = audit_lines(&lines);
    expect_proved(&report);
    assert_eq!(report.counts.open, 1);
    let report = audit_lines(&[&lines[..], &["stopped"]].concat());
    expect_refuted(&report, Promise::Requests, "1 requests are in flight, not 0");
    let waited = ["closing in-flight=1", "1 requests were not answered within 5s", "stopped"];
    expect_proved(&audit_lines(&[&lines[..], &waited].concat()));
}

#[test]
fn what_a_lost_worker_gives_back_is_all_that_it_held_and_goes_first() {
    let dropped = |list: &str| with("dropped", &[&format!("dropped worker-2 w2 {list} evidence=yes reason=x")]);
    expect_refuted(&dropped("returned=1 c1#2"), Promise::Requests, "w2 held c1#5, which is not given back");
    expect_refuted(&dropped("returned=2 c1#5 c1#2"), Promise::Requests, "gives back c1#5 where c1#2 is next");
    expect_refuted(&dropped("returned=3 c1#2..5/3 c1#6"), Promise::Requests, "gives back c1#6, which it does not hold");
    expect_refuted(&dropped("returned=3 c1#2..5/3"), Promise::Requests, "2 requests are named, not 3");

    let report = with("redispatch worker-3", &["dispatch worker-3 w3 t8 c1#2"]);
    expect_refuted(&report, Promise::Requests, "dispatched as a new one, but was given back");
    let report = with("dispatch worker-3 w3 t10", &["redispatch worker-3 w3 t10 c1#8"]);
    expect_refuted(&report, Promise::Requests, "c1#8 is dispatched again, but was not given back");
    let report = with("redispatch worker-3", &["redispatch worker-3 w3 t8 c1#5"]);
    expect_refuted(&report, Promise::Requests, "c1#5 is dispatched again before c1#2, which was dealt as t2");
    let fresh = ["accept c1#20 pool=p", "dispatch worker-3 w3 t8 c1#20"];
    expect_refuted(&with("redispatch worker-3", &fresh), Promise::Requests, "c1#20 is dispatched before c1#2");
}

#[test]
fn a_client_that_leaves_takes_its_requests_along() {
    let left = |counts: &str| with("client-left", &[&format!("client-left c1 {counts} reason=x")]);
    expect_refuted(
        &left("cancelled=1 unwanted=0"),
        Promise::Leaving,
        "0 requests pending and 1 in flight, not 1 and 0",
    );
    expect_refuted(&left("cancelled=0 unwanted=0"), Promise::Leaving, "not 0 and 0");
    let report = with("discard worker-2", &["reply worker-2 w4 c1#9"]);
    expect_refuted(&report, Promise::Requests, "w4 replies to c1#9, but it is not open");
    let report = with("discard worker-2", &["discard worker-2 w4 late=0 c1#8..9"]);
    expect_refuted(&report, Promise::Requests, "c1#8 is discarded, but w4 held nothing unwanted of it");
}

#[test]
fn one_gap_does_not_make_all_that_follows_look_wrong() {
    let mut lines: Vec<_> = SOUND[..5].iter().map(ToString::to_string).collect();
    lines.retain(|line| !line.starts_with("joined worker-2"));
    for ticket in 1..=3000 {
        let worker = (ticket - 1) % 3 + 1;
        lines.push(format!("accept c1#{ticket} pool=p"));
        lines.push(format!("dispatch worker-{worker} w{worker} t{ticket} c1#{ticket}"));
        lines.push(format!("reply worker-{worker} w{worker} c1#{ticket}"));
    }
    let report = audit_lines(&lines);
    expect_refuted(&report, Promise::Rotation, "w3 joins instead of w2");
    assert!(report.violation_count() < 10, "{report}");
}

#[test]
fn ids_that_were_chosen_to_collide_are_audited_as_fast_as_others() {
    // Multiples of the inverse of rustc-hash's multiplier hash to numbers that end alike.
    const INVERSE: u64 = 0x7814_94a5_5daa_ed0d;
    let took = |multiplier: u64| {
        let ids: Vec<_> = (1..=30_000_u64).map(|n| format!("c1#{}", n.wrapping_mul(multiplier))).collect();
        let accepted = ids.chunks(100).map(|ids| format!("accept {} pool=p", ids.join(" ")));
        let start = [LISTENING, "client-joined c1 n"].map(String::from);
        let lines: Vec<_> = start.into_iter().chain(accepted).collect();
        let begun = std::time::Instant::now();
        assert_eq!(audit_lines(&lines).counts.accepted, 30_000);
        begun.elapsed()
    };
    let (honest, chosen) = (took(0x9e37_79b9_7f4a_7c15), took(INVERSE));
    assert!(chosen < 20 * honest + std::time::Duration::from_millis(200), "{chosen:?} instead of {honest:?}");
}

const BEGUN: [&str; 4] =
    [LISTENING, "client-joined c1 n", "joined worker-1 w1 pool=p threads=1 window=3 seats=1", "accept c1#1..4 pool=p"];

#[test]
fn numbers_that_no_broker_writes_are_refuted_whatever_they_would_add_up_to() {
    let most = u64::MAX;
    for lines in [
        vec![format!("discard ? ? late={most}"); 2],
        vec![format!("client-left c1 cancelled={most} unwanted={most} reason=x")],
        vec![format!("client-joined c{most} n"), "client-joined c1 n".into()],
        vec![format!("joined worker-9 w{most} pool=p threads=1 window={most} seats=1"), "left worker-9 w1".into()],
        vec![format!("dispatch worker-1 w1 t{most} c1#4"), "dispatch worker-1 w1 t1 c1#4".into()],
        vec![format!("dropped worker-1 w1 returned={most} evidence=yes reason=x"); 2],
        vec![format!("unheard c1 unsent={most} reason=x"); 2],
        vec![format!("closing in-flight={most}"), format!("{most} requests were not answered within 5s")],
        vec![format!("unable worker-1 w1 returned={most} reason=x"), format!("able worker-1 w1 seats={most}")],
        vec!["accept c1#1..67108864 pool=p".into()],
        vec![format!("accept c{most}#1 pool=p")],
    ] {
        let begun = BEGUN.iter().map(|line| (*line).to_string());
        let report = audit_lines(&begun.chain(lines).chain(["cancel c1#1".into()]).collect::<Vec<_>>());
        assert!(report.violated[Promise::Evidence as usize] > 0, "{report}");
    }
    // But a client may number its requests as it likes.
    let chosen = format!("accept c1#{most} pool=p");
    expect_proved(&audit_lines(&[&BEGUN[..], &[&chosen]].concat()));
}
