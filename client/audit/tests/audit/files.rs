//! Logs in several files, torn, cut short and with their beginnings gone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use giostra_audit::{Error, Gap, Id, Promise, Verdict, audit, story};

use super::{TIME, audit_lines, audit_text, expect_proved, expect_refuted, written};

const BEGIN: [&str; 4] = [
    "listening format=2 frontend=a backend=b rotation=strict log=l pid=1",
    "joined worker-1 w1 pool=p threads=1 window=3 seats=1",
    "joined worker-2 w2 pool=p threads=1 window=3 seats=2",
    "client-joined c1 n",
];

const DEALT: [&str; 4] = [
    "accept c1#1..4 pool=p",
    "dispatch worker-1 w1 t1..3/2 c1#1..3/2",
    "dispatch worker-2 w2 t2..4/2 c1#2..4/2",
    "reply worker-1 w1 c1#1",
];

fn life() -> String {
    written(&BEGIN) + &written(&DEALT)
}

/// The same in a later life.
fn later() -> String {
    life().replace("10:45", "10:47")
}

#[test]
fn a_line_torn_at_the_end_of_a_life_is_no_violation() {
    let whole = life();
    for cut in 1..30 {
        let torn = &whole[..whole.len() - cut];
        let report = audit_text(torn);
        expect_proved(&report);
        assert_eq!(report.torn, 1);
        // The next broker has ended it.
        let report = audit_text(&[torn, "\ttorn\n", &later()].concat());
        expect_proved(&report);
        assert_eq!((report.torn, report.counts.lives, report.counts.replies), (1, 2, 1));
    }
    // A line that has an end was not torn.
    for next in [String::new(), later()] {
        let report = audit_text(&[&whole[..whole.len() - 5], "\n", &next].concat());
        expect_refuted(&report, Promise::Evidence, "the line can't be read");
    }
}

#[test]
fn a_torn_line_that_looks_whole_is_no_violation_if_the_next_broker_says_that_it_is_torn() {
    for torn in ["reply worker-2 w2 c1#2..3", "dispatch worker-1 w1 t5..7 c1#5"] {
        let whole = life() + &written(&["accept c1#5..9 pool=p", torn]);
        let torn = whole.trim_end().to_string() + "\ttorn\n";
        let report = audit_text(&(torn.clone() + &later()));
        expect_proved(&report);
        assert_eq!((report.torn, report.counts.lives, report.counts.replies), (1, 2, 2));
        let report = audit_text(&(torn + &written(&["cancel c1#2"]) + &later()));
        expect_refuted(&report, Promise::Evidence, "the line can't be read");
    }
}

#[test]
fn text_that_a_peer_chose_is_never_read_as_a_brokers_start() {
    let start = "2026-11-28T21:00:00.000000Z INFO  listening format=2 frontend=x backend=y rotation=strict";
    let quotes = [
        format!("unable worker-1 w1 returned=1 c1#3 reason={start}"),
        format!("refuse a peer reason=not a message of this protocol: unknown variant `{start} `, expected one of"),
        format!("refuse a peer reason=unknown variant `{start}"),
        format!("sang {start}"),
    ];
    for quote in &quotes {
        // Twice: the second is no copy of a life either.
        let log =
            life() + &written(&[quote]) + &written(&[quote]).replace(" c1#3", "").replace("returned=1", "returned=0");
        let report = audit_text(&log);
        expect_proved(&report);
        assert_eq!((report.counts.lives, report.torn, report.counts.replies), (1, 0, 1), "{quote}");
        // What follows is audited.
        let report = audit_text(&(log + &written(&["reply worker-1 w1 c1#1"])));
        expect_refuted(&report, Promise::Requests, "w1 replies to c1#1, but it is not open");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker_rCURRENT.log");
    fs::write(&file, life() + &written(&[&quotes[0], "cancel c1#3"])).unwrap();
    let told = story(&[file], Id { client: 1, number: 3 }).unwrap();
    assert!(told.steps.iter().all(|step| step.life == 1) && told.ends.len() == 1, "{told}");
}

#[test]
fn a_forged_last_line_of_a_killed_broker_refutes() {
    for forged in ["reply worker-2 w2 c1#2..3", "reply worker-1 w1 c1#1..100", "dispatch worker-1 w1 t5..7 c1#5"] {
        let log = life() + &written(&[forged]);
        assert_eq!(audit_text(&log).verdict(), Verdict::Refuted, "{forged}");
        assert_eq!(audit_text(&(log + &later())).verdict(), Verdict::Refuted, "{forged}");
    }
}

#[test]
fn the_same_log_twice_is_not_proved_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.log", "b.log"].map(|name| folder.path().join(name));
    fs::write(&a, life() + &later()).unwrap();
    // The same file by whatever name is one file.
    let report = audit(&[a.clone(), a.clone(), folder.path().join("./a.log")]).unwrap();
    expect_proved(&report);
    assert_eq!((report.files, report.counts.lives), (1, 2));
    fs::copy(&a, &b).unwrap();
    let report = audit(&[a, b]).unwrap();
    assert_eq!(report.verdict(), Verdict::NotProvable, "{report}");
    assert_eq!((report.counts.lives, report.counts.accepted, report.counts.replies), (2, 8, 2));
    let [Gap::Twice(_, 1, 7), Gap::Twice(_, 9, 7)] = &report.gaps[..] else { panic!("{report}") };
    assert!(!report.proved_in_part() && report.to_string().contains("a broker's life is there twice"), "{report}");
    let report = audit_text(&(life() + &life()));
    assert_eq!((report.verdict(), report.counts.lives), (Verdict::NotProvable, 1), "{report}");
}

#[test]
fn behind_lines_that_could_not_be_written_nothing_is_proved_or_refuted() {
    let gap = written(&["log-gap lost=3", "reply worker-9 w9 c9#9"]);
    let report = audit_text(&(life() + &gap + &later()));
    assert_eq!((report.verdict(), report.counts.lives), (Verdict::NotProvable, 2), "{report}");
    assert_eq!(report.gaps, [Gap::Lost(3, 1)]);
    assert!(!report.proved_in_part());
    let wrong = life().replace("worker-2 w2 t2", "worker-1 w1 t2");
    assert_eq!(audit_text(&(wrong + &gap)).verdict(), Verdict::Refuted);
}

#[test]
fn a_line_torn_in_the_middle_of_a_life_refutes() {
    let torn = life().replace("accept c1#1..4 pool=p", "accept c1#1..4 po");
    let report = audit_text(&torn);
    expect_refuted(&report, Promise::Evidence, "the line can't be read");
    assert_eq!((report.violations[0].line, report.violations[0].text.len()), (5, 51));
    let report = audit_text(&life().replace("reply worker-1", "reply\u{0} worker-1\u{fffd}\nx\ny"));
    assert_eq!(report.violated[Promise::Evidence as usize], 2, "{report}");
}

#[test]
fn the_last_pass_of_a_killed_broker_may_be_there_in_part_and_none_of_it_was_sent() {
    let begun = [&BEGIN[..], &DEALT[..1]].concat();
    expect_proved(&audit_lines(&[&begun[..], &DEALT[1..2]].concat()));
    // Not if the missing line would have stood before one that is there.
    let report = audit_lines(&[&begun[..], &DEALT[2..3]].concat());
    expect_refuted(&report, Promise::Rotation, "t1 is missing before t2");
    // And not if the broker went on.
    let report = audit_lines(&[&begun[..], &DEALT[1..2], &DEALT[3..]].concat());
    expect_refuted(&report, Promise::Rotation, "t2 is missing before t3");
    let report = audit_lines(&[&begun[..], &DEALT[1..2], &["stopped"]].concat());
    expect_refuted(&report, Promise::Rotation, "t2 is missing before t3");
}

#[test]
fn each_life_begins_anew() {
    let report = audit_text(&(life() + &later()));
    expect_proved(&report);
    assert_eq!((report.counts.lives, report.counts.accepted, report.counts.open), (2, 8, 6));
    let report = audit_text(&(life() + &written(&["stopped", "accept c1#9 pool=p"])));
    assert!(report.violations.iter().any(|violation| violation.what == "the broker had stopped before"), "{report}");
}

/// A folder with a life's lines in rotated files, one line each, and their paths in order.
fn rotated() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let text = life();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let mut files = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let number = if number + 1 == lines.len() { "CURRENT".into() } else { format!("{number:05}") };
        files.push(folder.path().join(format!("broker_r{number}.log")));
        fs::write(files.last().unwrap(), line).unwrap();
    }
    symlink("broker_rCURRENT.log", folder.path().join("broker.log")).unwrap();
    fs::write(folder.path().join("notes.txt"), "not a log").unwrap();
    (folder, files)
}

#[test]
fn a_folder_is_all_of_its_files_in_their_order() {
    let (folder, mut files) = rotated();
    let report = audit(&[folder.path().into()]).unwrap();
    expect_proved(&report);
    assert_eq!((report.files, report.lines), (8, 8));
    // One by one, backwards, some of them twice.
    files.reverse();
    files.extend([folder.path().join("broker.log"), folder.path().join("./broker_r00003.log")]);
    let report = audit(&files).unwrap();
    expect_proved(&report);
    assert_eq!(report.files, 8);
    assert!(audit(&[folder.path().join("none.log")]).is_err());
    assert!(audit(&[tempfile::tempdir().unwrap().path().into()]).is_err());
}

#[test]
fn a_log_is_never_refuted_while_it_is_written_and_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(format!("broker_r{name}.log"));
    let listening = BEGIN[0].replace("log=l", "level=debug log=l");
    fs::write(file("CURRENT"), written(&[&[listening.as_str()], &BEGIN[1..]].concat())).unwrap();
    let (done, audits) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            for id in 1..=400 {
                if id % 40 == 0 {
                    // Until one more audit has ended, which began while this wrote. Not for ever: it may have failed.
                    let (seen, began) = (audits.load(Ordering::Relaxed), Instant::now());
                    while audits.load(Ordering::Relaxed) == seen && began.elapsed() < Duration::from_secs(60) {
                        thread::yield_now();
                    }
                }
                let name = if id % 2 == 1 { "worker-1 w1" } else { "worker-2 w2" };
                let turn = [
                    format!("accept c1#{id} pool=p"),
                    format!("dispatch {name} t{id} c1#{id}"),
                    format!("reply {name} c1#{id}"),
                ];
                for line in &turn {
                    fs::rename(file("CURRENT"), file(&format!("{number:05}"))).unwrap();
                    number += 1;
                    fs::write(file("CURRENT"), written(&[line])).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            match audit(&[folder.path().into()]) {
                Ok(report) => expect_proved(&report),
                Err(Error::Unsteady) => {}
                Err(error) => panic!("{error}"),
            }
            audits.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(audits.into_inner() >= 10);
    assert_eq!(audit(&[folder.path().into()]).unwrap().counts.replies, 400);
}

#[test]
fn a_file_that_was_rotated_after_the_files_were_named_is_missing() {
    let (folder, files) = rotated();
    // As a shell would have named them before the last rotation but one.
    let report = audit(&[&files[..5], &files[7..]].concat()).unwrap();
    assert_eq!(report.verdict(), Verdict::NotProvable, "{report}");
    let [Gap::Missing(missing, 1)] = &report.gaps[..] else { panic!("{report}") };
    assert_eq!(missing, &folder.path().canonicalize().unwrap().join("broker_r00005.log"));
}

#[test]
fn logs_of_other_names_are_ordered_by_their_first_lines() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.log", "b.log"].map(|name| folder.path().join(name));
    fs::write(&b, written(&BEGIN)).unwrap();
    fs::write(&a, written(&DEALT).replace("10:45", "10:46")).unwrap();
    expect_proved(&audit(&[a, b]).unwrap());
}

#[test]
fn a_missing_beginning_is_not_proved_and_not_refuted() {
    let (folder, files) = rotated();
    fs::remove_file(&files[0]).unwrap();
    let report = audit(&[folder.path().into()]).unwrap();
    assert_eq!((report.verdict(), &report.gaps[..]), (Verdict::NotProvable, &[Gap::Beginning(7)][..]));
    assert!(!report.proved_in_part());
    // What is whole after it is audited.
    let text = fs::read_to_string(&files[7]).unwrap();
    fs::write(&files[7], text.clone() + &later()).unwrap();
    let report = audit(&[folder.path().into()]).unwrap();
    assert_eq!((report.verdict(), report.counts.lives), (Verdict::NotProvable, 1));
    assert!(report.proved_in_part());
    fs::write(&files[7], text + &later().replace("t2..4/2", "t2..6/4")).unwrap();
    let report = audit(&[folder.path().into()]).unwrap();
    assert!(report.verdict() == Verdict::Refuted && !report.proved_in_part());
}

#[test]
fn a_file_missing_in_the_middle_is_named() {
    let (folder, files) = rotated();
    fs::remove_file(&files[5]).unwrap();
    let report = audit(&[folder.path().into()]).unwrap();
    assert_eq!(report.verdict(), Verdict::NotProvable, "{report}");
    let [Gap::Missing(missing, 2)] = &report.gaps[..] else { panic!("{report}") };
    assert_eq!(missing.file_name(), files[5].file_name());
}

#[test]
fn a_log_without_dispatches_proves_nothing() {
    let lines =
        life().lines().filter(|line| !line.contains(" DEBUG ")).map(|line| format!("{line}\n")).collect::<String>();
    let lost = "2026-11-23T10:45:56.824140Z WARN  dropped worker-1 w1 returned=1 c1#3 evidence=yes reason=x\n";
    let report = audit_text(&(lines + lost));
    assert_eq!((report.verdict(), &report.gaps[..]), (Verdict::NotProvable, &[Gap::NoDetail(1)][..]));
    assert!(!report.proved_in_part());
    assert_eq!(audit_text("").gaps, [Gap::Nothing]);
    // A broker that says it logs every detail had none; without clients there was nothing to dispatch.
    let detailed = BEGIN[0].replace("log=l", "level=debug log=l");
    expect_proved(&audit_lines(&[&[detailed.as_str()], &BEGIN[1..]].concat()));
    expect_proved(&audit_lines(&BEGIN[..3]));
}

#[test]
fn a_log_in_another_format_is_neither_proved_nor_refuted_and_its_format_is_named() {
    let old = life().replace("format=2 ", "").replace(" t1 ", " t999 ");
    let report = audit_text(&old);
    let lines = old.lines().count() as u64;
    assert_eq!(
        (report.verdict(), &report.gaps[..]),
        (Verdict::NotProvable, &[Gap::Format(None, lines)][..]),
        "{report}"
    );
    assert!(report.to_string().contains("has format 1, and this audit reads format 2"), "{report}");
    let newer = audit_text(&life().replace("format=2 ", "format=3 "));
    assert_eq!(newer.gaps, [Gap::Format(Some(3), lines)]);
    // What today's broker wrote into the same file is audited as ever.
    let both = audit_text(&(old + &life()));
    assert_eq!((both.verdict(), both.counts.lives), (Verdict::NotProvable, 1), "{both}");
    assert!(both.violations.is_empty(), "{both}");
}

#[test]
fn unknown_verbs_are_counted_and_pass() {
    let report = audit_text(&(life() + &written(&["sang a song", "sang another", "rejected c1 count=3"])));
    expect_proved(&report);
    assert_eq!(report.unknown.into_iter().collect::<Vec<_>>(), [("sang".to_string(), 2)]);
}

#[test]
fn the_story_of_a_request_is_told_step_by_step_in_each_life() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let lost = [
        "dropped worker-1 w1 returned=1 c1#3 evidence=yes reason=connection broke",
        "redispatch worker-2 w2 t5 c1#3",
        "reply-error worker-2 w2 c1#2..4",
    ];
    fs::write(&file, life() + &written(&lost).replace("56.824", "56.827") + &later()).unwrap();
    let story_of = |client, number| story(std::slice::from_ref(&file), Id { client, number }).unwrap();
    let told = story_of(1, 3);
    let steps: Vec<_> = told.steps.iter().map(|step| (step.life, step.what.as_str())).collect();
    let first = [
        (1, "client n joined as c1"),
        (1, "accepted for pool p"),
        (1, "dispatched to worker-1 w1 as t3"),
        (1, "given back: worker-1 w1 was dropped, connection broke"),
        (1, "dispatched again to worker-2 w2 as t5"),
        (1, "answered with an error by worker-2 w2"),
    ];
    assert_eq!(steps[..6], first);
    assert_eq!(steps[6..], [1, 2, 3].map(|step: usize| (2, first[step - 1].1)));
    assert_eq!(
        told.ends,
        [
            "c1#3: dispatched 2 times, answered with an error by worker-2 w2 after 3.000 ms",
            "c1#3: dispatched once, open at the end of the log"
        ]
    );
    assert!(story_of(1, 5).steps.is_empty() && story_of(2, 1).to_string().ends_with("is not in the log"));
}

#[test]
fn a_log_is_read_from_pipes_and_from_files_without_a_name() {
    use std::io::{Write, pipe};
    use std::os::fd::AsRawFd;
    let path = |number: i32| PathBuf::from(format!("/proc/self/fd/{number}"));
    let piped = |text: String| {
        let (reader, mut writer) = pipe().unwrap();
        // Without a shell, so that nothing but the pipe is waited for.
        thread::spawn(move || writer.write_all(text.as_bytes()));
        reader
    };
    let long =
        || life() + &written(&["cancel c1#2", "cancel c1#3", "cancel c1#4"]) + &written(&vec!["busy c1"; 10_000]);
    let one = piped(long());
    expect_proved(&audit(&[path(one.as_raw_fd())]).unwrap());
    // Several are ordered by their first lines, which are read once.
    let (second, first) = (piped(later()), piped(long()));
    let report = audit(&[path(second.as_raw_fd()), path(first.as_raw_fd())]).unwrap();
    expect_proved(&report);
    assert_eq!((report.files, report.counts.lives, report.counts.cancelled), (2, 2, 3));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(life().as_bytes()).unwrap();
    expect_proved(&audit(&[path(file.as_raw_fd())]).unwrap());
    // What a link leads to still has its number.
    let (folder, files) = rotated();
    let link = folder.path().join("link");
    symlink(&files[0], &link).unwrap();
    let report = audit(&[link, files[2].clone()]).unwrap();
    assert!(matches!(&report.gaps[..], [Gap::Missing(..)]), "{report}");
}

/// The log in a file that was moved away and the one that its broker continued in.
fn moved() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let files = ["broker_rCURRENT.log.1", "broker_rCURRENT.log"].map(|name| folder.path().join(name));
    let first = life();
    let last = first.lines().next_back().unwrap();
    let after = format!("log-continues after=T/{:08x}", crc32fast::hash(last.as_bytes()));
    let rest = written(&[&*after, "reply worker-1 w1 c1#3", "reply worker-2 w2 c1#2..4/2"]).replace("10:45", "10:46");
    fs::write(&files[0], first).unwrap();
    fs::write(&files[1], rest).unwrap();
    (folder, files)
}

#[test]
fn a_file_that_was_moved_away_and_the_next_prove_together_and_neither_refutes_alone() {
    let (folder, [first, rest]) = moved();
    for logs in [vec![folder.path().into()], vec![rest.clone(), first.clone()]] {
        let report = audit(&logs).unwrap();
        expect_proved(&report);
        assert_eq!((report.counts.lives, report.counts.accepted, report.counts.replies), (1, 4, 4));
    }
    let report = audit(std::slice::from_ref(&rest)).unwrap();
    assert_eq!((report.verdict(), &report.gaps[..]), (Verdict::NotProvable, &[Gap::Beginning(3)][..]));
    expect_proved(&audit(std::slice::from_ref(&first)).unwrap());
    // Numbered files of the broker come before, and are followed by a file that is no longer there.
    let numbered = folder.path().join("broker_r00000.log");
    let before = life();
    let (begin, end) = before.split_at(before.find("DEBUG").unwrap() - TIME.len() - 1);
    fs::write(&numbered, begin.replace("10:45", "10:44")).unwrap();
    fs::write(&first, end).unwrap();
    expect_proved(&audit(&[folder.path().into()]).unwrap());
    fs::remove_file(&first).unwrap();
    let report = audit(&[folder.path().into()]).unwrap();
    assert_eq!(report.verdict(), Verdict::NotProvable, "{report}");
    // What is there of the life has no line of a request, either.
    let [Gap::NoDetail(1), Gap::Moved(_, 1, time, 2)] = &report.gaps[..] else { panic!("{report}") };
    assert_eq!(time, "T");
    assert!(report.to_string().contains("in a file that was moved or removed"), "{report}");
}
