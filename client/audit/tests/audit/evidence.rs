//! Poison requests, and which lost workers count against a request.

use giostra_audit::{Promise, Report};

use super::lines::LISTENING;
use super::{audit_lines, expect_proved, expect_refuted};

/// A request that is given up after three workers.
fn poison() -> Vec<String> {
    let mut lines = vec![LISTENING.to_string(), "client-joined c1 n".into(), "accept c1#1 pool=p".into()];
    for (number, verb) in [(1, "dispatch"), (2, "redispatch"), (3, "redispatch")] {
        lines.push(format!("joined a{number} w{number} pool=p threads=1 window=9 seats=1"));
        lines.push(format!("{verb} a{number} w{number} t{number} c1#1"));
        lines.push(format!("dropped a{number} w{number} returned=1 c1#1 evidence=yes reason=x"));
    }
    lines.push("poison c1#1 workers=a1,a2,a3".into());
    lines
}

#[test]
fn a_worker_that_was_silent_already_is_not_held_against_a_request() {
    let mut lines = poison();
    let redispatch = lines.iter().rposition(|line| line.starts_with("redispatch")).unwrap();
    lines[redispatch].push_str(" suspect");
    expect_refuted(&audit_lines(&lines), Promise::Poison, "c1#1 was lost with a1,a2, not with a1,a2,a3");
    // It waits on.
    lines.pop();
    expect_proved(&audit_lines(&lines));
}

#[test]
fn a_request_has_its_last_chance_alone() {
    let joined = |name: &str, number: u64, seats: u64| {
        format!("joined {name} w{number} pool=p threads=1 window=8 seats={seats}")
    };
    let lines = |tail: &[&str]| -> Vec<String> {
        let mut lines = vec![
            LISTENING.replace(" log=", " max-attempts=2 log="),
            "client-joined c1 c".into(),
            joined("a1", 1, 1),
            joined("a2", 2, 2),
            "accept c1#1..3 pool=p".into(),
            "dispatch a1 w1 t1..3/2 c1#1..3/2".into(),
            "dispatch a2 w2 t2 c1#2".into(),
            "dropped a1 w1 returned=2 c1#1..3/2 evidence=yes reason=connection broke".into(),
        ];
        lines.extend(tail.iter().map(ToString::to_string));
        lines
    };
    let alone = ["reply a2 w2 c1#2", "redispatch a2 w2 t4 c1#1", "reply a2 w2 c1#1", "redispatch a2 w2 t5 c1#3"];
    expect_proved(&audit_lines(&lines(&alone)));
    let beside_others = ["redispatch a2 w2 t4 c1#1"];
    expect_refuted(&audit_lines(&lines(&beside_others)), Promise::Poison, "t4 joins 1 in flight to w2");
    let together = ["reply a2 w2 c1#2", "redispatch a2 w2 t4..5 c1#1..3/2"];
    expect_refuted(&audit_lines(&lines(&together)), Promise::Poison, "t5 joins 1 in flight to w2");
}

#[test]
fn a_poison_request_is_given_up_after_equally_many_lost_workers() {
    let mut lines = poison();
    expect_proved(&audit_lines(&lines));
    let last = lines.len() - 1;
    lines[last] = "poison c1#1 workers=a1,a3,a2".into();
    expect_refuted(&audit_lines(&lines), Promise::Poison, "c1#1 was lost with a1,a2,a3, not with a1,a3,a2");
    lines[last] = "poison c1#2 workers=a1,a2,a3".into();
    expect_refuted(&audit_lines(&lines), Promise::Poison, "c1#2 is given up, but was not given back");

    let mut lines = poison();
    let joined = "joined a4 w4 pool=p threads=1 window=9 seats=1";
    let dispatched =
        ["accept c1#2 pool=p", "dispatch a4 w4 t4 c1#2", "dropped a4 w4 returned=1 c1#2 evidence=yes reason=x"];
    lines.extend([&[joined], &dispatched[..], &["poison c1#2 workers=a4"]].concat().into_iter().map(String::from));
    expect_refuted(
        &audit_lines(&lines),
        Promise::Poison,
        "c1#2 is given up after 1 workers were lost, another was after 3",
    );
}

/// A broker that gives up after two; `lines` follow a first worker that is lost without a word.
fn after_a_loss(lines: &[&str]) -> Report {
    let mut all = vec![
        LISTENING.replace(" log=", " max-attempts=2 log="),
        "client-joined c1 n".into(),
        "accept c1#1 pool=p".into(),
        "joined a w1 pool=p threads=1 window=9 seats=1".into(),
        "dispatch a w1 t1 c1#1".into(),
        "dropped a w1 returned=1 c1#1 evidence=unless-back reason=connection broke".into(),
    ];
    all.extend(lines.iter().map(ToString::to_string));
    audit_lines(&all)
}

#[test]
fn a_worker_that_comes_back_is_held_against_nothing_and_one_that_does_not_is() {
    let back = "joined a w2 pool=p threads=1 window=9 seats=1 back=w1";
    let other = "joined a w2 pool=p threads=1 window=9 seats=1";
    let again = "redispatch a w2 t2 c1#1";
    let lost = "dropped a w2 returned=1 c1#1 evidence=unless-back reason=3 pings unanswered";
    let third = "joined a w3 pool=p threads=1 window=9 seats=1 back=w2";
    expect_proved(&after_a_loss(&[back, again, lost, third, "redispatch a w3 t3 c1#1"]));
    expect_proved(&after_a_loss(&[other, again, lost, "poison c1#1 workers=a,a"]));
    expect_proved(&after_a_loss(&[other, again, lost, third, "redispatch a w3 t3 c1#1"]));

    let early = after_a_loss(&[back, again, lost, "poison c1#1 workers=a,a"]);
    expect_refuted(&early, Promise::Poison, "c1#1 was lost with a, not with a,a");
    let early = after_a_loss(&[back, again, lost, "poison c1#1 workers=a"]);
    expect_refuted(&early, Promise::Poison, "c1#1 is given up after 1 workers were lost, another was after 2");
    let late = after_a_loss(&[other, again, lost, &third.replace(" back=w2", ""), "redispatch a w3 t3 c1#1"]);
    expect_refuted(&late, Promise::Poison, "c1#1 is dispatched again after 2 workers were lost");
    let nobody = after_a_loss(&[&back.replace("back=w1", "back=w7")]);
    expect_refuted(&nobody, Promise::Poison, "w2 comes back as w7, which is not there");
}

#[test]
fn what_is_held_against_requests_follows_from_how_their_worker_was_lost() {
    let lost = |before: &[&str], how: &str| {
        let dropped = format!("dropped a w2 returned=1 c1#1 {how}");
        let begin = ["joined a w2 pool=p threads=1 window=9 seats=1", "redispatch a w2 t2 c1#1"];
        after_a_loss(&[&begin[..], before, &[dropped.as_str()]].concat())
    };
    let leaving = ["leaving a w2 in-flight=1 by=worker"];
    let again = ["joined a w3 pool=p threads=1 window=9 seats=2 back=w2"];
    for (before, how) in [
        (&leaving[..], "evidence=no reason=connection broke"),
        (&leaving[..], "evidence=no reason=3 pings unanswered"),
        (&again[..], "evidence=no reason=connection broke"),
        (&[], "evidence=no reason=registered again"),
        (&[], "evidence=no reason=its key is no longer allowed"),
        (&[], "evidence=no reason=does not take what it is sent"),
        (&[], "evidence=yes reason=sent something unreadable: what"),
        (&[], "evidence=unless-back reason=unreachable"),
        (&[], "evidence=yes reason=unreachable"),
    ] {
        expect_proved(&lost(before, how));
    }
    for (before, how) in [
        (&leaving[..], "evidence=unless-back reason=connection broke"),
        (&again[..], "evidence=unless-back reason=connection broke"),
        (&[], "evidence=yes reason=registered again"),
        (&[], "evidence=unless-back reason=its key is no longer allowed"),
        (&[], "evidence=no reason=sent something unreadable: what"),
        (&[], "evidence=no reason=3 pings unanswered"),
    ] {
        expect_refuted(&lost(before, how), Promise::Poison, "was lost (");
    }
}
