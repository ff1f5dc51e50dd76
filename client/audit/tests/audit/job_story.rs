//! The story of a durable job, over all lives of its broker.

use std::fs;

use giostra_audit::{JobEnd, JobId, JobStory, Verdict, job_story};

use crate::written;

const FIRST: [&str; 12] = [
    "listening format=2 rotation=strict level=debug after=none",
    "store home=0000000a jobs=0 path=x",
    "joined a w1 pool=p threads=1 window=9 seats=1",
    "client-joined c1 ada",
    "job j1 id=0000000a-1 by=c1 pool=p",
    "job j2 id=0000000a-2 by=c1 pool=p",
    "saved j1 requests=4 j1#0..3 closed",
    "saved j2 requests=1 j2#0",
    "accept j1#0..3 pool=p",
    "dispatch a w1 t1..4 j1#0..3",
    "reply a w1 j1#0..1",
    "stored j1#0..1",
];

const SECOND: [&str; 12] = [
    "listening format=2 rotation=strict level=debug after=none again",
    "store home=0000000a jobs=2 path=x",
    "restored j1 id=0000000a-1 requests=4",
    "restored j2 id=0000000a-2 requests=1",
    "joined b w1 pool=p threads=1 window=9 seats=1",
    "accept j1#2..3 pool=p",
    "dispatch b w1 t1..2 j1#2..3",
    "reply b w1 j1#2",
    "reply-error b w1 j1#3",
    "stored j1#2..3",
    "finished j1 succeeded=3 failed=1",
    "deleted j1",
];

fn told(lines: &[&str], job: &str) -> JobStory {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker_rCURRENT.log");
    fs::write(&file, written(lines)).unwrap();
    job_story(&[file], job.parse().unwrap()).unwrap()
}

fn both() -> Vec<&'static str> {
    FIRST.into_iter().chain(SECOND).collect()
}

#[test]
fn a_job_is_told_from_its_submission_to_its_end_over_all_lives() {
    let story = told(&both(), "0000000a-1");
    assert_eq!(story.verdict(), Verdict::Proved, "{story}");
    assert_eq!((story.pool.as_deref(), story.client.as_deref()), (Some("p"), Some("ada")));
    assert_eq!((story.end, story.is_deleted), (JobEnd::Finished { succeeded: 3, failed: 1 }, true));
    assert_eq!((story.requests, story.is_complete, story.lives.len()), (4, true, 2));
    let [first, second] = &story.lives[..] else { panic!("{story}") };
    assert_eq!((first.saved, first.dispatched, first.replies, first.stored, first.was_interrupted), (4, 4, 2, 2, true));
    assert_eq!((second.accepted, second.replies, second.errors, second.was_interrupted), (2, 1, 1, false));
    let workers: Vec<_> = story.workers.iter().map(|(name, &replies)| (name.as_str(), replies)).collect();
    assert_eq!(workers, [("a", 2), ("b", 2)]);
    let text = story.to_string();
    for part in [
        "submitted by ada (c1) for pool p",
        "complete: 4 requests are safe, after 0.000 ms",
        "goes on, with 4 requests that are safe",
        "finished: 3 succeeded, 1 failed, after 0.000 ms",
        "the broker was started again once meanwhile; deleted",
        "proved: nothing missing, nothing twice",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let json = story.json();
    assert_eq!((&json["job"], &json["state"], &json["failed"]), (&"0000000a-1".into(), &"finished".into(), &1.into()));
    assert_eq!((&json["proved"], &json["lives"][0]["interrupted"]), (&true.into(), &true.into()));
}

#[test]
fn a_job_that_is_under_way_is_told_so_far() {
    let story = told(&both(), "0000000a-2");
    assert_eq!((story.end, story.requests, story.is_complete), (JobEnd::Open, 1, false), "{story}");
    assert_eq!((story.verdict(), story.took), (Verdict::Proved, None));
}

#[test]
fn what_is_missing_of_a_job_refutes_it_and_no_other() {
    let log: Vec<_> = both().into_iter().map(|line| line.replace("stored j1#2..3", "stored j1#1..3")).collect();
    let log: Vec<_> = log.iter().map(String::as_str).collect();
    let story = told(&log, "0000000a-1");
    assert_eq!(story.verdict(), Verdict::Refuted, "{story}");
    assert!(story.to_string().ends_with("refuted: the result of j1#1 is stored twice"), "{story}");
    let other = told(&log, "0000000a-2");
    assert_eq!(other.verdict(), Verdict::NotProvable, "{other}");
    assert!(other.to_string().contains("but the log as a whole is refuted"), "{other}");
}

#[test]
fn a_job_that_is_not_in_the_log_is_not_proved() {
    // The same number in another store is another job.
    for absent in ["0000000a-3", "0000000b-1"] {
        let story = told(&both(), absent);
        assert_eq!((story.verdict(), story.end), (Verdict::NotProvable, JobEnd::Unknown), "{story}");
        assert_eq!(story.to_string(), format!("job {absent} is not in the log"));
    }
}

#[test]
fn a_job_of_another_store_in_between_is_no_part_of_the_story() {
    let other = [
        "listening format=2 rotation=strict level=debug after=none other",
        "store home=0000000b jobs=0 path=y",
        "client-joined c1 eve",
        "job j1 id=0000000b-1 by=c1 pool=p",
        "cancelled-job j1",
    ];
    let log: Vec<_> = FIRST.into_iter().chain(other).chain(SECOND).collect();
    let story = told(&log, "0000000a-1");
    assert_eq!((story.lives.len(), story.end), (2, JobEnd::Finished { succeeded: 3, failed: 1 }), "{story}");
    assert_eq!(told(&log, "0000000b-1").end, JobEnd::Cancelled);
}

#[test]
fn a_job_whose_last_line_a_kill_took_is_told_as_ended() {
    let next = ["listening format=2 rotation=strict level=debug after=none again", "store home=0000000a jobs=1 path=x"];
    let log: Vec<_> = FIRST.into_iter().chain(["reply a w1 j1#2..3"]).chain(next).collect();
    let log = [&log[..], &["restored j2 id=0000000a-2 requests=1", "client-joined c1 bob"]].concat();
    let story = told(&log, "0000000a-1");
    assert_eq!((story.verdict(), story.end), (Verdict::Proved, JobEnd::Gone), "{story}");
}

#[test]
fn ids_are_read_as_they_are_printed() {
    for text in ["5f3a9c01-12", "0000000a-1"] {
        assert_eq!(text.parse::<JobId>().unwrap().to_string(), text);
    }
    for text in
        ["", "12", "j1", "a-1", "0000000a-", "0000000a-x", "0000000g-1", "0000000a--1", "0000000a-+1", "0000000a-1 "]
    {
        assert!(text.parse::<JobId>().is_err(), "{text:?}");
    }
}
