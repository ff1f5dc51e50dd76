//! Long-lived programs, line by line.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use giostra_protocol::{Outcome, code};
use giostra_tests::process::{PATIENCE, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bench::{Bench, all_end};

#[test]
fn a_process_a_thread_answers_line_by_line() -> Result<()> {
    let script = "while read -r line; do echo \"$$ $line\"; done";
    let mut bench = Bench::start(&["--exec-lines", &format!("sh -c '{script}'"), "--threads", "2"])?;
    for i in 0..1000 {
        bench.client.submit(bench.body(&json!(["a b", i])))?;
    }
    let (mut processes, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..1000 {
        let reply = bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
        let Outcome::Ok(body) = &reply.outcome else { anyhow::bail!("{reply:?}") };
        let words: Vec<String> = rmp_serde::from_slice::<String>(body)?.split(' ').map(Into::into).collect();
        // The first request has the id 1 or so; what counts is that each answer belongs to its request.
        numbers.insert((reply.id.0, words[3].parse::<u64>()?));
        processes.insert(words[0].clone());
    }
    let offsets: BTreeSet<_> = numbers.iter().map(|(id, number)| id - number).collect();
    assert_eq!((numbers.len(), offsets.len()), (1000, 1), "answers were exchanged");
    assert!(processes.len() <= 2, "{processes:?}");
    assert!(bench.failure(&json!(["a\nb"]))?.message.contains("newline"));
    Ok(())
}

#[test]
fn json_lines_go_in_and_come_out() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", "cat", "--json"])?;
    for arguments in [json!(["a\nb", {"k": 1}]), json!([]), json!(["x".repeat(1_000_000)])] {
        assert!(bench.result(&arguments)? == arguments);
    }
    Ok(())
}

/// Answers each line with its length, and reads lines as node's `readline` does: LF, CR, CRLF,
/// U+2028 and U+2029 end one.
const LIKE_NODE: &str = r#"python3 -u -c '
import sys
for line in sys.stdin:
    for part in line[:-1].replace("\u2028", "\r").replace("\u2029", "\r").split("\r"):
        print(len(part), flush=True)'"#;

#[test]
fn another_kind_of_line_end_shifts_no_answers() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", LIKE_NODE])?;
    for length in 1..100 {
        if length % 10 == 0 {
            let end = ["\r", "\u{2028}", "\u{2029}"][length / 10 % 3];
            let refused = bench.failure(&json!([format!("note{end}from a Mac")]))?;
            assert_eq!(refused.code, code::INVALID);
            assert!(refused.message.contains("take for the end of a line"), "{refused}");
        }
        assert_eq!(bench.result(&json!(["x".repeat(length)]))?, json!(length.to_string()));
    }
    Ok(())
}

/// Answers with the id of its request, unless an argument says what else it shall do.
const WITH_ID: &str = r#"python3 -u -c '
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    what = request["arguments"][0]
    answer = {"id": request["id"], "result": what}
    if what == "other":
        answer["id"] -= 1
    elif what == "error":
        answer = {"id": request["id"], "error": "no such thing"}
    elif what == "neither":
        del answer["result"]
    print("nonsense" if what == "nonsense" else json.dumps(answer), flush=True)'"#;

#[test]
fn an_answer_with_the_id_of_another_request_is_an_error_and_ends_its_process() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", WITH_ID, "--json-id"])?;
    let mut process = bench.children();
    assert!(process.is_empty());
    for (id, (what, error, stays)) in [
        ("other", "failed: python3 answered request 1 instead of 2, and was ended", false),
        ("nonsense", "failed: what python3 printed is no answer with an id: ", false),
        ("error", "failed: python3 says: no such thing", true),
        ("neither", "failed: what python3 printed is no answer: it has to have either a result or an error: ", true),
    ]
    .into_iter()
    .enumerate()
    {
        for kept in [json!("right"), json!(null), json!({"b": [1], "a": 18446744073709551615_u64})] {
            assert_eq!(bench.result(&json!([kept]))?, kept, "{what}");
            if id == 0 {
                break;
            }
        }
        process = bench.children();
        let failure = bench.failure(&json!([what]))?.to_string();
        assert!(failure.starts_with(error), "{failure}");
        assert_eq!(bench.children() == process, stays, "{what}");
    }
    Ok(())
}

#[test]
fn a_line_that_is_not_json_ends_the_process_that_printed_it() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", "sed -u 's/wrong/\"/'", "--json"])?;
    assert_eq!(bench.result(&json!(["right"]))?, json!(["right"]));
    let process = bench.children();
    let failure = bench.failure(&json!(["wrong"]))?.to_string();
    assert!(failure.starts_with("failed: what sed printed is not JSON: "), "{failure}");
    assert_eq!(bench.result(&json!(["right"]))?, json!(["right"]));
    assert_ne!(bench.children(), process);
    Ok(())
}

/// A program that does what its lines say.
const OBEDIENT: &str = r#"sh -c 'while read -r line; do eval "$line"; done'"#;

#[test]
fn a_process_that_dies_is_restarted_and_its_request_fails_with_the_reason() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", OBEDIENT])?;
    let first = bench.result(&json!(["echo $$"]))?;
    assert_eq!(bench.result(&json!(["echo $$"]))?, first);
    let died = bench.failure(&json!(["echo oh no >&2; exit 7"]))?.to_string();
    assert_eq!(died, "failed: there is no answer: sh exited with status 7: oh no");
    let second = bench.result(&json!(["echo $$"]))?;
    assert_ne!(second, first);
    // While nobody asks it: nobody is told.
    let id: i32 = second.as_str().context("a text")?.parse()?;
    kill(Pid::from_raw(id), Signal::SIGKILL)?;
    all_end(&[id])?;
    assert_ne!(bench.result(&json!(["echo $$"]))?, second);
    // After its answer.
    assert_eq!(bench.result(&json!(["echo last; exit"]))?, json!("last"));
    assert_eq!(bench.result(&json!(["echo first"]))?, json!("first"));
    let closed = bench.failure(&json!(["exec >&-; sleep 1000"]))?.to_string();
    assert_eq!(closed, "failed: sh closed its stdout without an answer and was ended");
    assert!(bench.result(&json!(["echo well"]))? == json!("well") && bench.children().len() == 1);
    Ok(())
}

#[test]
fn a_process_that_ends_after_each_answer_costs_no_request() -> Result<()> {
    // It is still ending when the next line comes; the larger one fills the pipe.
    for (script, line) in [
        ("read -r line; echo $line", "short".to_string()),
        ("read -r line; echo $line; sleep 0.02", "short".to_string()),
        ("read -r line; echo ${#line}; exec >&-; sleep 0.02", "x".repeat(200_000)),
    ] {
        let mut bench = Bench::start(&["--exec-lines", &format!("sh -c '{script}'")])?;
        let expected = if line.len() > 10 { json!(line.len().to_string()) } else { json!(line) };
        for _ in 0..30 {
            assert_eq!(bench.result(&json!([line]))?, expected, "{script}");
        }
    }
    Ok(())
}

#[test]
fn a_request_whose_line_was_read_by_a_process_that_ended_is_not_asked_again() -> Result<()> {
    // Answers the first, counts the second, and ends.
    let folder = tempfile::tempdir()?;
    let count = folder.path().join("count").display().to_string();
    let script = format!("read -r line; echo $line; read -r line; echo taken >> {count}");
    let mut bench = Bench::start(&["--exec-lines", &format!("sh -c '{script}'")])?;
    for round in 1..=3 {
        assert_eq!(bench.result(&json!(["first"]))?, json!("first"));
        let failure = bench.failure(&json!(["second"]))?.to_string();
        assert_eq!(failure, "failed: there is no answer: sh exited with status 0");
        assert_eq!(std::fs::read_to_string(&count)?.lines().count(), round);
    }
    Ok(())
}

#[test]
fn a_program_that_keeps_crashing_is_restarted_ever_more_slowly() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", "sh -c 'echo no licence >&2; exit 1'"])?;
    let began = Instant::now();
    for i in 1..5 {
        let failure = bench.failure(&json!(["x"]))?.to_string();
        let times = if i > 1 { format!(" ({i} in a row)") } else { String::new() };
        assert_eq!(failure, format!("failed: there is no answer: sh exited with status 1: no licence{times}"));
    }
    // 100, 200 and 400 ms.
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    Ok(())
}

#[test]
fn unsolicited_lines_do_not_become_answers_of_other_requests() -> Result<()> {
    let mut bench = Bench::start(&["--exec-lines", OBEDIENT])?;
    let more = bench.failure(&json!([r"printf 'a\nb\n'"]))?.to_string();
    assert_eq!(more, "failed: sh printed more than a line; nobody knows which is the answer");
    let ready = bench.file("ready");
    let late = format!("echo right; sleep 0.1; echo stray; echo x > {ready}");
    assert_eq!(bench.result(&json!([late]))?, json!("right"));
    wait_for("it has strayed", || Path::new(&ready).exists().then_some(()))?;
    assert_eq!(bench.result(&json!(["echo next"]))?, json!("next"));
    let said = bench.system.worker(1).stderr();
    assert!(said.contains("sh printed something that nobody asked for; starting it again"), "{said}");
    Ok(())
}

#[test]
fn a_line_too_slow_too_long_or_cancelled_costs_only_its_own_process() -> Result<()> {
    let limits = ["--exec-lines", OBEDIENT, "--time-limit", "1s", "--kill-after", "200ms", "--max-output", "1000B"];
    let mut bench = Bench::start(&limits)?;
    let id: i32 = bench.result(&json!(["echo $$"]))?.as_str().context("a text")?.parse()?;
    let late = bench.failure(&json!(["trap '' TERM; sleep 1000"]))?.to_string();
    assert_eq!(late, "failed: sh took longer than 1s (--time-limit) and was ended");
    all_end(&[id])?;
    assert_eq!(bench.result(&json!(["printf '%0999d\\n' 0"]))?, json!("0".repeat(999)));
    for long in ["printf '%01000d\\n' 0", "yes | tr -d '\\n'"] {
        let failure = bench.failure(&json!([long]))?.to_string();
        assert_eq!(failure, "failed: sh printed more than 1000 B (--max-output) and was ended");
    }
    assert_eq!(bench.result(&json!(["echo well"]))?, json!("well"));
    Ok(())
}

#[test]
fn a_process_may_load_for_longer_than_a_line_may_take() -> Result<()> {
    let slow = "sh -c 'sleep 2; while read -r line; do eval \"$line\"; done'";
    let mut bench = Bench::start(&["--exec-lines", slow, "--time-limit", "1s"])?;
    for _ in 0..2 {
        assert_eq!(bench.result(&json!(["echo well"]))?, json!("well"));
        let late = bench.failure(&json!(["sleep 1000"]))?.to_string();
        assert_eq!(late, "failed: sh took longer than 1s (--time-limit) and was ended");
    }
    let limits = ["--exec-lines", slow, "--time-limit", "100ms", "--start-limit", "400ms"];
    let late = Bench::start(&limits)?.failure(&json!(["echo well"]))?.to_string();
    assert_eq!(late, "failed: sh took longer than 400ms (--start-limit) and was ended");
    Ok(())
}
