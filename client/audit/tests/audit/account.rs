//! The logs of several brokers, and the journals of their clients.

use std::fs;
use std::path::{Path, PathBuf};

use giostra_audit::{Account, Crossing, Error, Gap, Verdict, account, audit};
use tempfile::TempDir;

use super::written;

/// The name of the client.
const NAME: &str = "giostra-random-h-1";

/// A folder with the logs of brokers, each in a folder of its own, and journals.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the log of a broker, from that second on, ten lines a second.
    fn log(&self, broker: &str, second: usize, lines: &[String]) -> PathBuf {
        self.log_in(broker, "broker_rCURRENT.log", &timed(second, lines))
    }

    fn log_in(&self, broker: &str, name: &str, log: &str) -> PathBuf {
        let folder = self.path(broker);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), log).unwrap();
        folder
    }

    fn journal(&self, lines: &[&str]) -> PathBuf {
        let path = self.path("journal");
        let head = format!("giostra-journal format=1 client={NAME}");
        fs::write(&path, [&[&*head], lines].concat().join("\n") + "\n").unwrap();
        path
    }
}

/// A log of these lines with times from that second on, ten lines a second.
fn timed(second: usize, lines: &[String]) -> String {
    let log = written(lines);
    let time = |at: usize| format!("T10:45:{:02}.{}00000Z", second + at / 10, at % 10);
    log.lines().enumerate().map(|(at, line)| line.replacen("T10:45:56.824140Z", &time(at), 1) + "\n").collect()
}

/// The lines of a broker with one worker and this client.
fn lines(endpoint: &str, more: &[&str]) -> Vec<String> {
    let begin = [
        &format!("listening format=2 frontend={endpoint} backend=b keys=none rotation=strict level=debug log=l pid=1"),
        "joined worker-1 w1 pool=p threads=1 window=9 seats=1",
        &format!("client-joined c1 {NAME}"),
    ];
    begin.iter().chain(more).map(ToString::to_string).collect()
}

/// The first broker: it had six requests, answered two, and was killed when the worker had two more.
fn first() -> Vec<String> {
    let more = ["accept c1#1..6 pool=p", "dispatch worker-1 w1 t1..4 c1#1..4", "reply worker-1 w1 c1#1..2"];
    lines("tcp://a:1", &more)
}

/// The second broker: it had the other four, and two new ones. Of the two replies of the first, one was
/// lost.
fn second() -> Vec<String> {
    let more = [
        "accept c1#2..8 pool=p",
        "dispatch worker-1 w1 t1..7 c1#2..8",
        "reply worker-1 w1 c1#2..7",
        "reply-error worker-1 w1 c1#8",
    ];
    lines("tcp://b:1", &more)
}

const JOURNAL: [&str; 13] = [
    "connected tcp://a:1 c1",
    "sent 1..6",
    "reply 1",
    "connected tcp://b:1 c1",
    "sent 2..8",
    "reply 2",
    "reply 3",
    "reply 4",
    "reply 5",
    "reply 6",
    "reply 7",
    "reply-error 8 failed",
    "end requests=8 duplicated=0",
];

/// The account of the two brokers with this journal.
fn told(files: &Files, journal: &[&str]) -> Account {
    let logs = [files.log("a", 10, &first()), files.log("b", 10, &second())];
    account(&logs, &[files.journal(journal)]).unwrap()
}

fn without(part: &str) -> Vec<&'static str> {
    JOURNAL.into_iter().filter(|line| *line != part).collect()
}

fn expect_finding(account: &Account, request: Option<u64>, what: &str) {
    assert_eq!(account.verdict(), Verdict::Refuted, "{account}");
    let found = account.journals.iter().flat_map(|journal| &journal.findings);
    let found = found.filter(|finding| finding.request == request && finding.what.contains(what)).count();
    assert!(found == 1 && account.to_string().contains(what), "no {what:?}: {account}");
}

#[test]
fn each_broker_is_proved_by_itself_and_its_clients_are_known_at_the_other() {
    let files = Files::new();
    let account = account(&[files.log("b", 10, &second()), files.log("a", 9, &first())], &[]).unwrap();
    assert_eq!(account.verdict(), Verdict::Proved, "{account}");
    let logs: Vec<_> = account.brokers.iter().map(|broker| (broker.log.clone(), broker.report.counts.lives)).collect();
    let [a, b] = ["a", "b"].map(|name| files.path(name).display().to_string());
    assert_eq!(logs, [(a.clone(), 1), (b.clone(), 1)]);
    let [client] = &account.clients[..] else { panic!("{account}") };
    assert_eq!((&*client.name, client.is_shared, account.moved_count), (NAME, false, 1));
    let counts: Vec<_> = client.brokers.iter().map(|at| (at.accepted, at.dispatched, at.answered)).collect();
    assert_eq!(counts, [(6, 4, 2), (7, 7, 7)]);
    let [Crossing { from, to, requests: 5, dispatched_at_both: 3, answered_at_both: 1, .. }] = &client.went_over[..]
    else {
        panic!("{account}")
    };
    assert_eq!((from, to), (&a, &b));
    let object = account.json();
    assert_eq!((&object["proved"], &object["brokers"][1]["log"]), (&true.into(), &(&*b).into()));
    assert_eq!(object["clients"][0]["went_over"][0]["requests"], 5);
}

#[test]
fn a_journal_proves_that_each_request_was_answered_once() {
    let files = Files::new();
    let account = told(&files, &JOURNAL);
    assert_eq!(account.verdict(), Verdict::Proved, "{account}");
    let text = account.to_string();
    let [a, b] = ["a", "b"].map(|name| files.path(name).display().to_string());
    let said = format!(
        "8 requests of 1 client: each answered once, 1 with an error; 5 went over from {a} to {b}, 3 of these were \
         dispatched at both, 1 answered at both"
    );
    assert!(text.contains(&said), "{text}");
    assert_eq!(account.json()["journals"][0]["proved"], true);
    // Also if clients know the brokers by other endpoints than their own.
    let journal = JOURNAL.map(|line| if line.starts_with("connected") { "connected tcp://host:1 c1" } else { line });
    let account = told(&files, &journal);
    assert_eq!(account.verdict(), Verdict::Proved, "{account}");
}

#[test]
fn a_request_that_was_answered_twice_refutes_and_is_named() {
    let files = Files::new();
    let doubled = [&JOURNAL[..12], &["duplicate 5", "end requests=8 duplicated=1"]].concat();
    expect_finding(&told(&files, &doubled), Some(5), "request 5 was answered twice");
    let doubled = [&JOURNAL[..12], &["reply 6", JOURNAL[12]]].concat();
    expect_finding(&told(&files, &doubled), Some(6), "request 6 was answered twice");
    let unnamed = [&JOURNAL[..12], &["end requests=8 duplicated=3"]].concat();
    let account = told(&files, &unnamed);
    expect_finding(&account, None, "3 replies were to requests that had one already");
    assert_eq!(account.journals[0].finding_count, 3);
}

#[test]
fn a_request_that_was_never_answered_refutes_and_is_named() {
    let files = Files::new();
    expect_finding(&told(&files, &without("reply 4")), Some(4), "request 4 was never answered");
    let gave_up: Vec<_> = JOURNAL.map(|line| if line == "reply 4" { "gave-up 4 no-broker" } else { line }).into();
    expect_finding(&told(&files, &gave_up), Some(4), "the client gave it up, no-broker");
    let short: Vec<_> =
        JOURNAL.map(|line| if line == JOURNAL[12] { "end requests=9 duplicated=0" } else { line }).into();
    expect_finding(&told(&files, &short), None, "the client had 9 requests, and 8 are in its journal");
}

#[test]
fn a_reply_that_is_missing_in_the_log_of_its_broker_refutes_and_is_named() {
    let files = Files::new();
    // No other line of that log contradicts it: the requests seem to be open.
    let lacks: Vec<_> = second().into_iter().map(|line| line.replace("c1#2..7", "c1#2..6")).collect();
    let logs = [files.log("a", 10, &first()), files.log("b", 10, &lacks)];
    let found = account(&logs, &[files.journal(&JOURNAL)]).unwrap();
    assert!(found.brokers.iter().all(|broker| broker.report.verdict() == Verdict::Proved), "{found}");
    expect_finding(&found, Some(7), "does not say that c1#7 was answered");
    // Request 2 was answered by the first, too; the client has that of the second.
    let lacks: Vec<_> = second().into_iter().map(|line| line.replace("c1#2..7", "c1#3..7")).collect();
    let logs = [files.path("a"), files.log("b", 10, &lacks)];
    expect_finding(&account(&logs, &[files.path("journal")]).unwrap(), Some(2), "c1#2 was answered");
}

#[test]
fn what_a_broker_accepted_and_the_client_had_not_sent_refutes() {
    let files = Files::new();
    let journal: Vec<_> = JOURNAL.map(|line| if line == "sent 2..8" { "sent 3..8" } else { line }).into();
    let journal: Vec<_> = journal.into_iter().filter(|line| *line != "reply 2").collect();
    let account = told(&files, &journal);
    expect_finding(&account, Some(2), "request 2 was not sent to tcp://b:1");
    let journal: Vec<_> = JOURNAL.map(|line| if line == "sent 1..6" { "sent 1..5" } else { line }).into();
    expect_finding(&told(&files, &journal), Some(6), "request 6 was not sent to tcp://a:1");
}

#[test]
fn a_journal_without_its_end_or_a_broker_proves_nothing_and_refutes_nothing() {
    let files = Files::new();
    let expect = |account: &Account, why: &str| {
        assert_eq!((account.verdict(), account.journals[0].finding_count), (Verdict::NotProvable, 0), "{account}");
        assert!(account.to_string().contains(why), "{account}");
    };
    expect(&told(&files, &JOURNAL[..12]), "it has no end: its client was killed, or still runs; 0 requests are open");
    let early = [&JOURNAL[..8], &["end requests=8 duplicated=0 interrupted"]].concat();
    expect(&told(&files, &early), "its client ended early, when 4 requests were open");
    let alone = account(&[files.path("b")], &[files.journal(&JOURNAL)]).unwrap();
    expect(&alone, "no log has the client's connection c1 to tcp://a:1");
    // Also where the broker itself has another endpoint than clients know: its connections have others.
    let elsewhere = JOURNAL.map(|line| if line == JOURNAL[0] { "connected tcp://host:1 c1" } else { line });
    let alone = account(&[files.path("b")], &[files.journal(&elsewhere)]).unwrap();
    expect(&alone, "no log has the client's connection c1 to tcp://host:1");
    files.journal(&JOURNAL);
    // Of a log whose beginning was rotated away.
    let part = timed(10, &second()).lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
    let logs = [files.path("a"), files.log_in("b", "broker_r00003.log", &part)];
    fs::remove_file(files.path("b").join("broker_rCURRENT.log")).unwrap();
    let rotated = account(&logs, &[files.path("journal")]).unwrap();
    assert_eq!((rotated.verdict(), rotated.journals[0].finding_count), (Verdict::NotProvable, 0), "{rotated}");
}

#[test]
fn one_broker_that_was_started_again_is_held_against_a_journal_by_its_lives() {
    let files = Files::new();
    // The same number of connection in both lives.
    let log = timed(10, &first()) + &timed(20, &second()).replace("tcp://b:1", "tcp://a:1");
    let folder = files.log_in("a", "broker_rCURRENT.log", &log);
    let journal = JOURNAL.map(|line| line.replace("tcp://b:1", "tcp://a:1"));
    let journal = files.journal(&journal.each_ref().map(|line| &**line));
    let account = account(&[folder], &[journal]).unwrap();
    assert_eq!(account.verdict(), Verdict::Proved, "{account}");
    assert!(account.to_string().contains("8 requests of 1 client: each answered once, 1 with an error\n"), "{account}");
}

#[test]
fn folders_of_one_brokers_rotated_files_are_one_log_as_before() {
    let files = Files::new();
    let begin = timed(10, &first());
    let (lines, next): (Vec<_>, _) = (begin.split_inclusive('\n').collect(), timed(20, &first()));
    // Moved away in the middle of a life.
    let old = files.log_in("old", "broker_r00000.log", &lines[..4].concat());
    let new = files.log_in("new", "broker_rCURRENT.log", &(lines[4..].concat() + &next));
    let given = [new, old];
    let together = account(&given, &[]).unwrap();
    let [broker] = &together.brokers[..] else { panic!("{together}") };
    assert_eq!(together.to_string(), audit(&given).unwrap().to_string());
    assert_eq!((together.verdict(), broker.report.counts.lives), (Verdict::Proved, 2), "{together}");
    assert_eq!(together.json(), audit(&given).unwrap().json());
    // Between two lives.
    let old = files.log_in("old", "broker_r00000.log", &begin);
    let new = files.log_in("new", "broker_rCURRENT.log", &next);
    assert_eq!(account(&[old, new], &[]).unwrap().brokers.len(), 1);
}

#[test]
fn brokers_on_two_machines_with_the_same_endpoints_are_two_if_they_wrote_at_the_same_time() {
    let files = Files::new();
    let same = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| line.replace("tcp://b:1", "tcp://a:1").replace("pid=1", "pid=7")).collect()
    };
    let logs = [files.log("a", 10, &first()), files.log("b", 10, &same(second()))];
    let two = account(
        &logs,
        &[files
            .journal(&JOURNAL.map(|line| if line.starts_with("connected") { "connected tcp://a:1 c1" } else { line }))],
    )
    .unwrap();
    assert_eq!((two.brokers.len(), two.verdict()), (2, Verdict::Proved), "{two}");
}

#[test]
fn a_file_that_could_go_on_from_two_brokers_is_refused_with_advice() {
    let files = Files::new();
    let old = |folder: &str, log: &[String]| files.log_in(folder, "broker_r00008.log", &timed(10, log));
    let [a, b] = [old("a", &first()), old("b", &second())];
    let rest = files.log_in("rest", "broker_r00009.log", "2026-11-23T10:46:59.000000Z DEBUG reply worker-1 w1 c1#3\n");
    let error = account(&[a.clone(), b.clone(), rest], &[]).unwrap_err();
    assert!(matches!(error, Error::Unclear(_)) && error.to_string().contains("a folder of its own"), "{error}");
    let empty = files.log_in("empty", "broker_rCURRENT.log", "");
    let account = account(&[a, b, empty], &[]).unwrap();
    assert_eq!(account.verdict(), Verdict::NotProvable);
    assert!(account.brokers.iter().any(|broker| broker.report.gaps == [Gap::Nothing]), "{account}");
}

#[test]
fn a_broker_whose_start_was_rotated_away_is_not_one_that_ended_before() {
    let files = Files::new();
    let a = files.log("a", 10, &first());
    let b = files.log_in("b", "broker_rCURRENT.log", "2026-11-23T10:46:59.000000Z DEBUG reply worker-1 w1 c1#3\n");
    let account = account(&[a, b], &[]).unwrap();
    assert_eq!((account.brokers.len(), account.verdict()), (2, Verdict::NotProvable), "{account}");
    assert_eq!(account.brokers[0].report.verdict(), Verdict::Proved);
}

#[test]
fn a_copy_of_a_log_is_not_a_second_broker() {
    let files = Files::new();
    let next = timed(20, &first());
    let [a, b] = [files.log("a", 10, &first()), files.log("b", 10, &first())];
    let copied = account(&[a.clone(), b], &[]).unwrap();
    assert_eq!((copied.brokers.len(), copied.verdict()), (1, Verdict::NotProvable), "{copied}");
    // A copy from a later life on, beside another one whose lines are of the same time.
    let log = timed(10, &first()) + &next + &timed(30, &first());
    let long = files.log_in("long", "broker_rCURRENT.log", &log);
    let part = files.log_in("part", "broker_rCURRENT.log", &next);
    let copied = account(&[long, part], &[]).unwrap();
    assert_eq!(copied.verdict(), Verdict::NotProvable, "{copied}");
    assert!(copied.to_string().contains("a broker's life is in "), "{copied}");
}

#[test]
fn clients_that_share_a_name_are_not_told_apart() {
    let files = Files::new();
    let more = ["accept c1#1..2 pool=p", "dispatch worker-1 w1 t1..2 c1#1..2", "reply worker-1 w1 c1#1..2"];
    // Each has asked something when the other had been there for long.
    let late: Vec<_> = (3..60).map(|id| format!("accept c1#{id} pool=p")).collect();
    let both = |endpoint: &str| [lines(endpoint, &more), late.clone()].concat();
    let account = account(&[files.log("a", 10, &both("x")), files.log("b", 11, &both("y"))], &[]).unwrap();
    let [client] = &account.clients[..] else { panic!("{account}") };
    assert!(client.is_shared && client.went_over.is_empty(), "{account}");
    assert_eq!(client.brokers[1].accepted, 59);
    assert!(account.to_string().contains("a name of several at the same time"), "{account}");
}

#[test]
fn what_is_no_journal_is_refused() {
    let files = Files::new();
    let log = files.log("a", 10, &first());
    let refused = |text: &[u8]| {
        let path = files.path("j");
        fs::write(&path, text).unwrap();
        account(std::slice::from_ref(&log), &[path]).unwrap_err()
    };
    for other in ["", "x\n", "{\"giostra map\":3}\n", "giostra-journal format=2 client=a\n"] {
        assert!(matches!(refused(other.as_bytes()), Error::NoJournal(_)), "{other:?}");
    }
    let bad = [
        "reply 1",
        "sent 2..1",
        "sent 1..99999999",
        "sung 3",
        "",
        "connected x",
        "reply-error 1",
        "end requests=1",
        "gave-up 1",
        "sent -1",
        "connected a c1\nsent 1\nreply 1 2",
        "end requests=0 duplicated=0\nsent 1",
    ];
    for line in bad {
        let error = refused(format!("giostra-journal format=1 client=a\n{line}\n").as_bytes());
        let is_it = matches!(error, Error::DamagedJournal { .. });
        // A reply to what was never sent is a finding, but over no connection at all it is damage.
        assert!(is_it, "{line:?}: {error}");
    }
    let mut long = b"giostra-journal format=1 client=a\n".to_vec();
    long.resize(10_000, b'x');
    assert!(matches!(refused(&long), Error::DamagedJournal { line: 2, .. }));
    let missing = account(&[log], &[Path::new("/no/such/journal").into()]).unwrap_err();
    assert!(matches!(missing, Error::Unreadable { .. }));
}

#[test]
fn what_one_life_of_a_broker_lacks_is_not_looked_for_in_another() {
    let files = Files::new();
    let at_a = JOURNAL.map(|line| if line.starts_with("connected") { "connected tcp://a:1 c1" } else { line });
    // The log of the life in which both began is not given.
    let later: Vec<_> = second().iter().map(|line| line.replace("tcp://b:1", "tcp://a:1")).collect();
    let account = account(&[files.log("a", 10, &later)], &[files.journal(&at_a)]).unwrap();
    assert_eq!(account.verdict(), Verdict::NotProvable, "{account}");
    assert!(account.to_string().contains("no log has the client's connection c1 to tcp://a:1"), "{account}");
}

#[test]
fn a_journal_that_was_cut_off_in_the_middle_of_what_was_sent_refutes_nothing() {
    let files = Files::new();
    let account = told(&files, &[&JOURNAL[..4], &["sent 2..4", "reply 2"]].concat());
    assert_eq!(account.verdict(), Verdict::NotProvable, "{account}");
}

#[test]
fn a_request_whose_time_limit_passed_has_ended_whoever_noticed() {
    let files = Files::new();
    let expired = JOURNAL.map(|line| if line == "reply-error 8 failed" { "gave-up 8 expired" } else { line });
    let account = told(&files, &expired);
    assert_eq!(account.verdict(), Verdict::Proved, "{account}");
    let again = told(&files, &[&expired[..12], &["reply 8"], &expired[12..]].concat());
    expect_finding(&again, Some(8), "request 8 was answered twice");
}
