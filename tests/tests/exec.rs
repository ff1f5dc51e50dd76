//! Any program as a worker (`giostra-worker --exec`): what programs do that do not behave, and that nothing is left of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use giostra_client::{Client, Options};
use giostra_common::Bytes;
use giostra_common::protocol::{Failure, Outcome, code};
use giostra_tests::process::{PATIENCE, binary, wait_for};
use giostra_tests::{Setup, System};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A broker, a worker that runs a program, and a client.
struct Bench {
    system: System,
    client: Client,
    operation: String,
}

impl Bench {
    fn start(worker: &[&str]) -> Result<Self> {
        Self::of(Setup::workers(1).worker(worker), worker)
    }

    /// The same with more to say of the system.
    fn of(setup: Setup, worker: &[&str]) -> Result<Self> {
        let system = setup.start()?;
        let mut client = Client::connect(Options { broker: system.frontend().into(), ..Options::default() })?;
        client.await_broker()?;
        let command = worker[1].split(' ').next().unwrap_or_default();
        let operation = command.rsplit('/').next().unwrap_or_default().into();
        Ok(Self { system, client, operation })
    }

    fn body(&self, arguments: &Value) -> Bytes {
        rmp_serde::to_vec(&(&self.operation, arguments)).expect("it can be encoded").into()
    }

    fn submit(&mut self, arguments: &Value) -> Result<()> {
        self.client.submit(self.body(arguments))?;
        assert_eq!(self.client.next_reply(Some(Duration::ZERO))?, None);
        Ok(())
    }

    fn ask(&mut self, arguments: &Value) -> Result<Outcome> {
        let body = self.body(arguments);
        self.ask_body(body)
    }

    fn ask_body(&mut self, body: Bytes) -> Result<Outcome> {
        Ok(self.client.call(body, Some(PATIENCE))?.outcome)
    }

    /// The result, which is no bytes.
    fn result(&mut self, arguments: &Value) -> Result<Value> {
        match self.ask(arguments)? {
            Outcome::Ok(body) => Ok(rmp_serde::from_slice(&body)?),
            Outcome::Error(failure) => anyhow::bail!("{failure}"),
        }
    }

    fn failure(&mut self, arguments: &Value) -> Result<Failure> {
        match self.ask(arguments)? {
            Outcome::Ok(body) => anyhow::bail!("a result came: {body:?}"),
            Outcome::Error(failure) => Ok(failure),
        }
    }

    /// A file for what programs have to say.
    fn file(&self, name: &str) -> String {
        self.system.folder().join(name).display().to_string()
    }

    /// The processes that the worker has started, but for its guard.
    fn children(&mut self) -> Vec<i32> {
        children(self.system.worker(1).id())
    }

    fn no_child_is_left(&mut self) -> Result<()> {
        let worker = self.system.worker(1).id();
        wait_for("no child is left", || children(worker).is_empty().then_some(()))
    }
}

fn children(parent: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{parent}\n")) && !status.contains("giostra-guard")
    })
    .collect()
}

/// Whether it runs: one that nobody has waited for yet does not.
fn runs(id: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The process ids that programs have written into a file, when there are so many.
fn written(file: &str, count: usize) -> Result<Vec<i32>> {
    wait_for("programs have written their ids", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let ids: Vec<_> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (ids.len() >= count && text.ends_with('\n')).then_some(ids)
    })
}

fn all_end(ids: &[i32]) -> Result<()> {
    assert!(!ids.is_empty());
    wait_for("all processes end", || ids.iter().all(|&id| !runs(id)).then_some(()))
}

/// A process and a child of it, both deaf to SIGTERM; their ids go into the file that is its argument.
const DEAF: &str =
    r#"sh -c 'trap "" TERM; sh -c "while :; do sleep 100; done" & echo $! $$ >> "$1"; while :; do sleep 100; done' sh"#;

/// The same, but they hear it.
const LONG: &str = r#"sh -c 'sleep 1000 & echo $! $$ >> "$1"; wait' sh"#;

#[test]
fn arguments_become_words_and_stdout_the_result() -> Result<()> {
    let mut bench = Bench::start(&["--exec", r"printf '[%s]\n'"])?;
    let result = bench.result(&json!(["a b", 1, 2.5, true, null, [1, "x"], {"k": 1}, "$(id)", "-v", "", "è"]))?;
    assert_eq!(result, json!("[a b]\n[1]\n[2.5]\n[true]\n[null]\n[[1,\"x\"]]\n[{\"k\":1}]\n[$(id)]\n[-v]\n[]\n[è]"));
    assert_eq!(bench.failure(&json!(["a\0b"]))?.code, code::INVALID);
    let long = bench.failure(&json!(["x".repeat(200_000)]))?.to_string();
    assert_eq!(long, "invalid: the arguments are too long for printf; bytes go to stdin");
    let status = bench.system.status()?;
    assert_eq!(status["workers"][0]["operations"], json!(["printf"]), "{status}");
    bench.operation = "nosuch".into();
    let unknown = bench.failure(&json!([]))?.to_string();
    assert_eq!(unknown, "invalid: unknown operation 'nosuch'; this pool offers printf");
    Ok(())
}

#[test]
fn bytes_go_to_stdin_and_what_is_no_text_comes_back_as_bytes() -> Result<()> {
    let mut bench = Bench::start(&["--exec", r#"sh -c 'printf "%s." "$@"; cat' sh"#])?;
    // ["sh", [bytes ff 00, "a"]]
    let outcome = bench.ask_body(Bytes::from_static(b"\x92\xa2sh\x92\xc4\x02\xff\0\xa1a"))?;
    assert_eq!(outcome, Outcome::Ok(Bytes::from_static(b"\xc4\x04a.\xff\0")));
    let twice = bench.ask_body(Bytes::from_static(b"\x92\xa2sh\x92\xc4\0\xc4\0"))?;
    assert!(matches!(twice, Outcome::Error(failure) if failure.message.contains("only one argument can")));
    Ok(())
}

#[test]
fn a_large_input_comes_through_also_if_the_output_is_as_large() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "cat", "--stdin"])?;
    let large = "0123456789abcdef".repeat(1 << 20);
    assert!(bench.result(&json!([large]))? == json!(large));
    assert!(bench.failure(&json!([]))?.message.contains("takes an argument"));
    Ok(())
}

#[test]
fn a_program_need_not_read_its_stdin() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'head -c 3; echo $0' {1}", "--stdin"])?;
    let large = "abcdef".repeat(1 << 20);
    for _ in 0..3 {
        assert_eq!(bench.result(&json!(["!", large]))?, json!("abc!"));
    }
    let mut bench = Bench::start(&["--exec", "true", "--stdin"])?;
    assert_eq!(bench.result(&json!([large]))?, json!(""));
    Ok(())
}

#[test]
fn json_goes_in_and_comes_out() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "cat", "--json"])?;
    let arguments = json!([1, -2.5, "a\nb", null, {"k": [true, 18446744073709551615u64]}]);
    assert_eq!(bench.result(&arguments)?, arguments);
    let mut bench = Bench::start(&["--exec", "echo '{\"a\": nonsense'", "--json"])?;
    let failure = bench.failure(&json!([]))?.to_string();
    assert!(
        failure.starts_with("failed: what echo printed is not JSON: ") && failure.contains("nonsense"),
        "{failure}"
    );
    Ok(())
}

#[test]
fn a_failure_tells_the_exit_status_or_the_signal_and_the_end_of_stderr() -> Result<()> {
    let mut bench = Bench::start(&["--exec", r#"sh -c 'echo "no such thing" >&2; eval "$1"' sh"#])?;
    assert_eq!(bench.failure(&json!(["exit 3"]))?.to_string(), "failed: sh exited with status 3: no such thing");
    let signal = bench.failure(&json!(["kill -SEGV $$"]))?.to_string();
    assert_eq!(signal, "failed: sh was ended by SIGSEGV: no such thing");
    // Only the end of a flood is kept, and a program that succeeds may say what it wants.
    let flood = bench.failure(&json!(["head -c 50000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1"]))?;
    assert!(flood.message.contains(": .. xxx") && flood.message.ends_with("xthe end"), "{flood}");
    assert_eq!(bench.result(&json!(["head -c 50000000 /dev/zero >&2; echo well"]))?, json!("well"));
    assert!(bench.system.worker(1).rss()? < 50_000_000);
    Ok(())
}

#[test]
fn stderr_may_be_the_workers_and_is_then_no_clients_business() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'echo secret >&2; exit 3'", "--stderr", "worker"])?;
    assert_eq!(bench.failure(&json!([]))?.to_string(), "failed: sh exited with status 3");
    assert!(bench.system.worker(1).stderr().contains("secret"));
    Ok(())
}

#[test]
fn a_program_that_hangs_is_ended_with_its_children_though_they_ignore_sigterm() -> Result<()> {
    let mut bench = Bench::start(&["--exec", DEAF, "--time-limit", "300ms", "--kill-after", "200ms"])?;
    let file = bench.file("ids");
    let failure = bench.failure(&json!([file]))?.to_string();
    assert_eq!(failure, "failed: sh took longer than 300ms (--time-limit) and was ended");
    all_end(&written(&file, 2)?)?;
    bench.no_child_is_left()
}

#[test]
fn a_program_that_floods_stdout_is_ended() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "yes", "--max-output", "1MiB"])?;
    for _ in 0..5 {
        let failure = bench.failure(&json!([]))?.to_string();
        assert_eq!(failure, "failed: yes printed more than 1.0 MiB (--max-output) and was ended");
    }
    bench.no_child_is_left()?;
    assert!(bench.system.worker(1).rss()? < 50_000_000);
    Ok(())
}

#[test]
fn children_that_hold_the_pipes_do_not_hold_the_worker_and_end_with_their_request() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'sleep 1000 & echo $!'"])?;
    let began = Instant::now();
    let id = bench.result(&json!([]))?.as_str().context("a text")?.parse()?;
    assert!(began.elapsed() < Duration::from_secs(30));
    all_end(&[id])?;
    // Nor do those that hold nothing live on.
    let mut bench = Bench::start(&["--exec", "sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'"])?;
    all_end(&[bench.result(&json!([]))?.as_str().context("a text")?.parse()?])
}

#[test]
fn a_program_that_closes_its_pipes_and_lives_on_is_waited_for() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'echo first; exec >&- 2>&-; sleep 0.5; exit 4'"])?;
    assert_eq!(bench.failure(&json!([]))?.to_string(), "failed: sh exited with status 4");
    Ok(())
}

#[test]
fn one_that_escapes_into_a_session_of_its_own_does_not_hold_the_worker() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'setsid sleep 1000 & echo $!; sleep 0.2'"])?;
    let id = bench.result(&json!([]))?.as_str().context("a text")?.parse()?;
    // This is what docs/exec.md says of it.
    assert!(runs(id));
    Ok(kill(Pid::from_raw(id), Signal::SIGKILL)?)
}

#[test]
fn a_program_ends_when_its_client_cancels_or_leaves() -> Result<()> {
    let mut bench = Bench::start(&["--exec", LONG, "--threads", "2"])?;
    let [first, second] = ["first", "second"].map(|name| bench.file(name));
    // Its time limit passes: the broker has it cancelled.
    let reply = bench.client.call(bench.body(&json!([first])), Some(Duration::from_millis(500)))?;
    assert!(matches!(reply.outcome, Outcome::Error(failure) if failure.code == code::EXPIRED));
    all_end(&written(&first, 2)?)?;

    bench.submit(&json!([second]))?;
    let ids = written(&second, 2)?;
    assert!(ids.iter().all(|&id| runs(id)));
    let other = Client::connect(Options { broker: bench.system.frontend().into(), ..Options::default() })?;
    drop(std::mem::replace(&mut bench.client, other));
    all_end(&ids)?;
    bench.no_child_is_left()
}

#[test]
fn programs_end_when_the_broker_does() -> Result<()> {
    let mut bench = Bench::start(&["--exec", LONG])?;
    let file = bench.file("ids");
    bench.submit(&json!([file]))?;
    let ids = written(&file, 2)?;
    bench.system.kill_broker()?;
    all_end(&ids)?;
    assert!(bench.system.worker(1).is_running());
    Ok(())
}

#[test]
fn a_worker_that_is_asked_to_finish_lets_its_program_finish() -> Result<()> {
    let script = r#"sh -c 'echo $$ >> "$1"; while ! [ -e "$1.go" ]; do sleep 0.05; done; echo finished' sh"#;
    let mut bench = Bench::start(&["--exec", script])?;
    let file = bench.file("ids");
    bench.submit(&json!([file]))?;
    written(&file, 1)?;
    bench.system.worker(1).signal(Signal::SIGTERM)?;
    let worker = bench.system.worker(1);
    wait_for("it has heard", || worker.stderr().contains("1 requests to finish first").then_some(()))?;
    fs::write(format!("{file}.go"), "")?;
    let reply = bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
    assert_eq!(reply.outcome, Outcome::Ok(Bytes::from_static(b"\xa8finished")));
    assert_eq!(bench.system.worker(1).wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn no_program_is_left_when_its_worker_gives_up_is_interrupted_twice_or_is_killed() -> Result<()> {
    type End = fn(&mut System) -> Result<()>;
    let ends: [(&str, End); 3] = [
        ("gives up", |system| {
            system.worker(1).signal(Signal::SIGTERM)?;
            // It waits for its programs.
            system.worker(1).wait().map(drop)
        }),
        ("twice", |system| {
            system.worker(1).signal(Signal::SIGINT)?;
            let worker = system.worker(1);
            wait_for("it has heard", || worker.stderr().contains("leaving").then_some(()))?;
            system.worker(1).signal(Signal::SIGINT)?;
            system.worker(1).wait().map(drop)
        }),
        ("killed", |system| system.kill_worker(1)),
    ];
    for (name, end) in ends {
        let grace = if name == "gives up" { "100ms" } else { "1h" };
        let args = ["--exec", DEAF, "--threads", "2", "--kill-after", "200ms", "--grace", grace];
        let mut bench = Bench::start(&args)?;
        let file = bench.file("ids");
        bench.submit(&json!([file]))?;
        bench.submit(&json!([file]))?;
        let ids = written(&file, 4)?;
        let guard = guard_of(bench.system.worker(1).id()).context("no guard")?;
        end(&mut bench.system)?;
        if name == "gives up" {
            // Each has written its child's id before its own. The child is killed, and nobody can wait for it.
            assert!(ids.chunks(2).all(|pair| !runs(pair[1])), "it did not wait for them");
        }
        all_end(&ids)?;
        all_end(&[guard])?;
    }
    Ok(())
}

fn guard_of(worker: u32) -> Option<i32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{worker}\n")) && status.contains("Name:\tgiostra-guard\n")
    })
}

#[test]
fn a_program_hears_all_signals_as_if_it_were_started_by_hand() -> Result<()> {
    // No shell in between: some clear the mask themselves.
    let mut bench = Bench::start(&["--exec", "grep ^Sig /proc/self/status"])?;
    let said = bench.result(&json!([]))?;
    let said = said.as_str().context("a text")?;
    let mask = |text: &str, name: &str| -> Result<u64> {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in {text}"))?;
        // glibc uses some beyond the 31st itself.
        Ok(u64::from_str_radix(line.trim(), 16)? & 0x7fff_ffff)
    };
    assert_eq!(mask(said, "SigBlk:")?, 0, "{said}");
    // As it was for whoever started the worker, but for SIGPIPE, which programs in Rust ignore.
    let own = fs::read_to_string("/proc/self/status")?;
    assert_eq!(mask(said, "SigIgn:")?, mask(&own, "SigIgn:")? & !(1 << 12), "{said}");
    // So there is no waiting for SIGKILL.
    let mut bench = Bench::start(&["--exec", "sleep", "--time-limit", "200ms", "--kill-after", "1h"])?;
    let failure = bench.failure(&json!([1000]))?.to_string();
    assert_eq!(failure, "failed: sleep took longer than 200ms (--time-limit) and was ended");
    Ok(())
}

#[test]
fn a_program_gets_no_descriptor_of_the_worker() -> Result<()> {
    let mut bench = Bench::start(&["--exec", r#"sh -c 'ls -l /proc/$$/fd; eval "$1"' sh"#])?;
    let said = bench.result(&json!(["echo $GIOSTRA_OPERATION $GIOSTRA_WORKER $GIOSTRA_THREAD"]))?;
    let said = said.as_str().context("a text")?;
    let mut descriptors: Vec<_> = said.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
    // What this process was given by whoever started it, its own programs have, too.
    let given = std::process::Command::new("sh").args(["-c", "ls -l /proc/$$/fd"]).stdout(Stdio::piped()).output()?;
    let given = String::from_utf8(given.stdout)?;
    descriptors.retain(|to| *to == "/dev/null" || !given.contains(&format!(" -> {to}\n")));
    let is_pipe = |to: &&&str| to.starts_with("pipe:");
    assert!(descriptors.len() >= 3 && descriptors.iter().all(|to| *to == "/dev/null" || is_pipe(&to)), "{said}");
    assert_eq!(descriptors.iter().filter(is_pipe).count(), 2, "{said}");
    assert!(said.ends_with("sh worker-1 0"), "{said}");
    Ok(())
}

#[test]
fn a_thousand_requests_leave_nothing_behind() -> Result<()> {
    for way in ["--exec", "--exec-lines"] {
        let script = if way == "--exec" { "sh -c 'echo $1; exit 0' sh" } else { "cat" };
        let mut bench = Bench::start(&[way, script, "--threads", "2"])?;
        let round = |bench: &mut Bench| -> Result<_> {
            for i in 0..500 {
                bench.client.submit(bench.body(&json!([i.to_string()])))?;
            }
            let mut results = BTreeSet::new();
            for _ in 0..500 {
                let reply = bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
                let Outcome::Ok(body) = reply.outcome else { anyhow::bail!("{reply:?}") };
                results.insert(rmp_serde::from_slice::<String>(&body)?);
            }
            assert_eq!(results.len(), 500);
            let worker = bench.system.worker(1);
            let descriptors = fs::read_dir(format!("/proc/{}/fd", worker.id()))?.count();
            Ok((descriptors, worker.rss()?))
        };
        let (descriptors, before) = round(&mut bench)?;
        let (later, after) = round(&mut bench)?;
        let left = bench.children().len();
        assert_eq!(descriptors, later, "{way}");
        assert!(after < before + 2_000_000, "{way}: {before} bytes became {after}");
        assert!(left <= if way == "--exec" { 0 } else { 2 }, "{way}: {left} processes");
    }
    Ok(())
}

#[test]
fn a_worker_without_its_program_does_not_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("script"), "#!/bin/sh\n")?;
    let script = folder.path().join("script").display().to_string();
    let unsound = [
        (vec!["--exec", "nosuch-program x"], "no program 'nosuch-program' on the PATH"),
        (vec!["--exec-lines", &script], "can't execute"),
        (vec!["--exec", "sh -c 'ls {}'"], "would let a request run any command"),
        (vec!["--exec", "ls {}", "--json"], "there is no {} to fill in"),
        (vec!["--exec", "cat 'x"], "a quote is not closed"),
    ];
    for (args, error) in unsound {
        let output = std::process::Command::new(binary("giostra-worker")?).args(&args).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(error) && said.lines().count() == 1, "{args:?}: {said}");
    }
    let alone = std::process::Command::new(binary("giostra-worker")?).args(["--time-limit", "1s"]).output()?;
    assert_eq!(alone.status.code(), Some(2));
    Ok(())
}

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

/// A program that does what its lines say.
const OBEDIENT: &str = r#"sh -c 'while read -r line; do eval "$line"; done'"#;

#[test]
fn a_process_that_dies_is_started_again_and_its_request_is_told() -> Result<()> {
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
fn a_program_that_can_not_live_is_started_ever_more_slowly() -> Result<()> {
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
fn lines_that_nobody_asked_for_do_not_become_the_answers_of_others() -> Result<()> {
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
fn a_line_that_takes_too_long_is_too_long_or_unwanted_costs_only_its_own_process() -> Result<()> {
    let limits = ["--exec-lines", OBEDIENT, "--time-limit", "300ms", "--kill-after", "200ms", "--max-output", "1000B"];
    let mut bench = Bench::start(&limits)?;
    let id: i32 = bench.result(&json!(["echo $$"]))?.as_str().context("a text")?.parse()?;
    let late = bench.failure(&json!(["trap '' TERM; sleep 1000"]))?.to_string();
    assert_eq!(late, "failed: sh took longer than 300ms (--time-limit) and was ended");
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
fn idle_processes_end_with_their_worker() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It stays also when its stdin ends.
        let script = r#"sh -c 'trap "" TERM; while read -r line; do echo $$; done; while :; do sleep 100; done'"#;
        let mut bench = Bench::start(&["--exec-lines", script, "--kill-after", "100ms"])?;
        let id: i32 = bench.result(&json!([]))?.as_str().context("a text")?.parse()?;
        bench.system.worker(1).signal(signal)?;
        bench.system.worker(1).wait()?;
        all_end(&[id])?;
    }
    Ok(())
}

/// `cargo test --release -p giostra-tests --test exec -- --ignored --nocapture`: what docs/exec.md says.
#[test]
#[ignore = "it proves nothing, it measures"]
fn requests_a_second() -> Result<()> {
    for (args, requests) in [(["--exec", "true"], 4_000), (["--exec-lines", "cat"], 100_000)] {
        for threads in ["1", "2"] {
            let mut bench = Bench::start(&[args[0], args[1], "--threads", threads])?;
            bench.result(&json!(["x"]))?;
            let began = Instant::now();
            for _ in 0..requests {
                bench.client.submit(bench.body(&json!(["x"])))?;
            }
            for _ in 0..requests {
                bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
            }
            let rate = f64::from(requests) / began.elapsed().as_secs_f64();
            println!("{} {}, --threads {threads}: {rate:.0} requests a second", args[0], args[1]);
        }
    }
    Ok(())
}
