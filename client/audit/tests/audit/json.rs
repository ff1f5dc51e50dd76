//! Logs whose lines are JSON objects: they say what the lines of text say, and are audited alike.

use std::collections::BTreeMap;

use giostra_audit::{Gap, Id, Promise, Verdict, audit, story, text_of};
use giostra_common::log::json_of;
use giostra_core::policy::rotation::Rotation;
use proptest::prelude::*;

use super::core::log_of;
use super::{TIME, audit_lines, audit_text, expect_proved, expect_refuted, written};

/// The log of that text with these of its lines, by their number from 0, as objects.
fn in_json(log: &str, is_object: impl Fn(usize) -> bool) -> String {
    let line = |(at, line): (usize, &str)| if is_object(at) { json_of(line) + "\n" } else { format!("{line}\n") };
    log.lines().enumerate().map(line).collect()
}

/// Words that begin a field, belong to one, or look as if they did.
fn word() -> impl Strategy<Value = String> {
    let telling =
        "(dispatch|saved|reply|dropped|listening|poison|refuse|hangup:|insecure:|message|watch|client-joined)";
    let fields = "(level|time|event|message|log-level|reason|workers|key|a-b|_|a_b|É)=[0-9a-z=\"\\\\]{0,17}";
    prop_oneof![
        telling,
        fields,
        "[cjtw][0-9]{0,3}(#[0-9.]{0,4})?",
        "[0-9]{1,20}",
        "(|closed|suspect|\\?|true|null|\\{|\\[)",
        "\\PC{0,8}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_line_is_the_same_after_it_was_an_object(words in prop::collection::vec(word(), 0..9), level in 0..5_usize) {
        let level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"][level];
        let line = format!("{TIME} {level:<5} {}", words.join(" "));
        let object = json_of(&line);
        prop_assert!(!object.contains(['\n', '\r']), "{object}");
        prop_assert_eq!(text_of(object.as_bytes()), &*line, "{}", object);
        // No name is there twice, of which most readers would keep only one.
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(&object).unwrap();
        prop_assert_eq!(serde_json::from_str::<Pairs>(&object).unwrap().0, fields.len(), "{}", object);
    }
}

/// The number of an object's fields.
struct Pairs(usize);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;
        impl<'de> serde::de::Visitor<'de> for Counter {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut count = 0;
                while map.next_entry::<String, serde::de::IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Pairs(count))
            }
        }
        deserializer.deserialize_map(Counter)
    }
}

#[test]
fn a_log_of_objects_is_proved_and_refuted_as_one_of_text() {
    for seed in 0..20 {
        let lines = log_of(seed, [Rotation::Strict, Rotation::Available][seed as usize % 2], 200);
        let report = audit_lines(&lines);
        let text = written(&lines);
        let choices: [fn(usize) -> bool; 3] = [|_| true, |at| at % 2 == 0, |at| at > 20];
        for objects in choices {
            let same = audit_text(&in_json(&text, objects));
            expect_proved(&same);
            assert_eq!((same.counts, same.lines), (report.counts, report.lines));
        }
        let removed = lines.iter().rposition(|line| line.starts_with("reply ")).unwrap();
        let rest: Vec<_> = lines.iter().enumerate().filter(|(at, _)| *at != removed).map(|(_, line)| line).collect();
        let (wrong, same) = (audit_lines(&rest), audit_text(&in_json(&written(&rest), |_| true)));
        let said = |report: &giostra_audit::Report| {
            report.violations.iter().map(|violation| (violation.line, violation.what.clone())).collect::<Vec<_>>()
        };
        assert_eq!((same.verdict(), said(&same)), (Verdict::Refuted, said(&wrong)));
    }
}

const LIFE: [&str; 5] = [
    "listening format=2 frontend=a backend=b rotation=strict level=debug log=l pid=1",
    "joined worker-1 w1 pool=p threads=1 window=3 seats=1",
    "client-joined c1 n",
    "accept c1#1..2 pool=p",
    "cancel c1#1..2",
];

#[test]
fn an_object_that_is_torn_is_no_violation_and_one_that_is_damaged_is() {
    let whole = in_json(&written(&LIFE), |_| true);
    for cut in 1..60 {
        let torn = &whole[..whole.len() - cut];
        let later = whole.replace("10:45", "10:47");
        for log in [torn.to_string(), [torn, "\ttorn\n", &later].concat()] {
            let report = audit_text(&log);
            expect_proved(&report);
            assert_eq!(report.torn, 1);
        }
        if cut > 1 {
            expect_refuted(&audit_text(&[torn, "\n", &later].concat()), Promise::Evidence, "the line can't be read");
        }
    }
    for damaged in ["{}", "{\"time\":1}", "{\"time\":\"x\",\"level\":[1]}", "[]"] {
        let report = audit_text(&[&whole, damaged, "\n", &whole.replace("10:45", "10:47")].concat());
        expect_refuted(&report, Promise::Evidence, "the line can't be read");
    }
}

#[test]
fn the_next_broker_names_the_last_object_and_a_removed_one_is_missed() {
    let whole = in_json(&written(&LIFE), |_| true);
    let last = whole.lines().next_back().unwrap();
    let after = format!(" after={TIME}/{:08x} log=", crc32fast::hash(last.as_bytes()));
    let next = written(&LIFE).replace("10:45", "10:47").replace(" log=", &after);
    for next in [next.clone(), in_json(&next, |_| true)] {
        expect_proved(&audit_text(&[&*whole, &next].concat()));
        let report = audit_text(&[&whole[..whole.len() - last.len() - 1], &next].concat());
        let [Gap::Cut(_, 5, time)] = &report.gaps[..] else { panic!("{report}") };
        assert_eq!(time, TIME);
    }
}

#[test]
fn files_of_objects_are_put_in_order_and_tell_the_story_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let [early, late] = ["b.log", "a.log"].map(|name| folder.path().join(name));
    let text = written(&LIFE);
    std::fs::write(&early, in_json(&text, |_| true)).unwrap();
    std::fs::write(&late, text.replace("10:45", "10:47")).unwrap();
    let logs = [late, early];
    expect_proved(&audit(&logs).unwrap());
    let told = story(&logs, Id { client: 1, number: 2 }).unwrap();
    assert!(told.steps[0].time.contains("10:45") && told.ends.len() == 2, "{told}");
}
