//! What goes into a program, its output, and how its failure is reported.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use giostra_protocol::{Bytes, Outcome, code};
use giostra_tests::Setup;
use giostra_tests::process::{PATIENCE, Process, binary};
use serde_json::json;

use crate::bench::Bench;

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
fn words_come_to_a_program_as_they_were_typed() -> Result<()> {
    let bench = Bench::start(&["--exec", "echo"])?;
    let mut lines: String = (1..=100).map(|n| format!("{n:03}\n")).collect();
    lines += "1 1.10 1.0 1e3 +7 -0 0.00001 0.5 18446744073709551616 100000000000000000000000 12e4567\n";
    for flags in [&[][..], &["--text"]] {
        let mut map = Command::new(binary("giostra")?);
        map.args(["map", "echo", "--quiet", "--broker", bench.system.frontend()]).args(flags);
        let mut map = map.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        map.stdin.take().context("stdin")?.write_all(lines.as_bytes())?;
        assert_eq!(String::from_utf8(map.wait_with_output()?.stdout)?, lines, "{flags:?}");
    }
    Ok(())
}

#[test]
fn an_integer_beyond_64_bits_is_an_error_on_its_way_in_and_out() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "cat", "--json"])?;
    let map = |lines: &str| -> Result<String> {
        let mut map = Command::new(binary("giostra")?);
        map.args(["map", "cat", "--quiet", "--json", "--broker", bench.system.frontend()]);
        let mut map = map.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        map.stdin.take().context("stdin")?.write_all(lines.as_bytes())?;
        Ok(String::from_utf8(map.wait_with_output()?.stdout)?)
    };
    let kept = "[18446744073709551615,-9223372036854775808,0.1,-0.0,1e+20,{\"b\":1,\"a\":2}]\n";
    assert_eq!(map(kept)?, kept);
    for beyond in ["[18446744073709551616]\n", "[-9223372036854775809]\n", "[1e400]\n"] {
        assert!(map(beyond)?.starts_with("{\"error\":{\"code\":\"invalid\""), "{beyond}");
    }
    let mut out = Bench::start(&["--exec", "echo [18446744073709551616]", "--json"])?;
    let failure = out.failure(&json!([]))?.to_string();
    assert!(failure.contains("the integer 18446744073709551616 does not fit into 64 bits"), "{failure}");
    assert_eq!(bench.result(&json!([u64::MAX]))?, json!([u64::MAX]));
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
fn a_failure_has_the_exit_status_or_the_signal_and_the_end_of_stderr() -> Result<()> {
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
fn stderr_can_go_to_the_worker_and_then_no_reply_quotes_it() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'echo secret >&2; exit 3'", "--stderr", "worker"])?;
    assert_eq!(bench.failure(&json!([]))?.to_string(), "failed: sh exited with status 3");
    assert!(bench.system.worker(1).stderr().contains("secret"));
    Ok(())
}

#[test]
fn a_program_receives_all_signals_as_if_started_by_hand() -> Result<()> {
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
    // As the worker inherited it, except for SIGPIPE, which programs in Rust ignore.
    let own = fs::read_to_string("/proc/self/status")?;
    assert_eq!(mask(said, "SigIgn:")?, mask(&own, "SigIgn:")? & !(1 << 12), "{said}");
    // So there is no waiting for SIGKILL.
    let mut bench = Bench::start(&["--exec", "sleep", "--time-limit", "200ms", "--kill-after", "1h"])?;
    let failure = bench.failure(&json!([1000]))?.to_string();
    assert_eq!(failure, "failed: sleep took longer than 200ms (--time-limit) and was ended");
    Ok(())
}

#[test]
fn a_program_does_not_inherit_the_settings_of_its_worker() -> Result<()> {
    // Through `env`, since the tests' own settings are kept from what they start.
    let system = Setup::workers(0).start()?;
    let mut env = Command::new("env");
    env.args(["GIOSTRA_POOL=nightly", "GIOSTRA_NAME=nw", "GIOSTRA_THREADS=2", "GIOSTRA_WORKER_GRACE=1s"]);
    env.args(["GIOSTRA_EXEC=env", "GIOSTRA_EXEC_KILL_AFTER=1s", "GIOSTRA_FRONTEND=tcp://10.0.0.1:5555", "OTHER=7"]);
    env.arg(format!("GIOSTRA_BACKEND={}", system.backend())).arg(binary("giostra-worker")?);
    let _worker = Process::spawn(system.folder(), "hidden", env)?;
    let mut client = system.client_of("nightly")?;
    let body = Bytes::from(rmp_serde::to_vec(&("env", [(); 0]))?);
    let Outcome::Ok(said) = client.call(body, Some(PATIENCE))?.outcome else { anyhow::bail!("no result") };
    let said: String = rmp_serde::from_slice(&said)?;
    let mut ours: Vec<_> = said.lines().filter(|line| line.starts_with("GIOSTRA_")).collect();
    ours.sort_unstable();
    let own = ["GIOSTRA_GUARD=", "GIOSTRA_OPERATION=env", "GIOSTRA_THREAD=", "GIOSTRA_WORKER=nw"];
    let kept = ["GIOSTRA_FRONTEND=tcp://10.0.0.1:5555"].into_iter().chain(own);
    assert!(ours.len() == 5 && ours.iter().zip(kept).all(|(line, kept)| line.starts_with(kept)), "{ours:?}");
    assert!(said.lines().any(|line| line == "OTHER=7"));
    Ok(())
}

#[test]
fn a_program_gets_no_descriptor_of_the_worker() -> Result<()> {
    let mut bench = Bench::start(&["--exec", r#"sh -c 'ls -l /proc/$$/fd; eval "$1"' sh"#])?;
    let said = bench.result(&json!(["echo $GIOSTRA_OPERATION $GIOSTRA_WORKER $GIOSTRA_THREAD"]))?;
    let said = said.as_str().context("a text")?;
    let mut descriptors: Vec<_> = said.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
    // Programs inherit what this process has inherited.
    let given = Command::new("sh").args(["-c", "ls -l /proc/$$/fd"]).stdout(Stdio::piped()).output()?;
    let given = String::from_utf8(given.stdout)?;
    descriptors.retain(|to| *to == "/dev/null" || !given.contains(&format!(" -> {to}\n")));
    let is_pipe = |to: &&&str| to.starts_with("pipe:");
    assert!(descriptors.len() >= 3 && descriptors.iter().all(|to| *to == "/dev/null" || is_pipe(&to)), "{said}");
    assert_eq!(descriptors.iter().filter(is_pipe).count(), 2, "{said}");
    assert!(said.ends_with("sh worker-1 0"), "{said}");
    Ok(())
}

#[test]
fn a_worker_without_its_program_does_not_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("script"), "#!/bin/sh\n")?;
    let script = folder.path().join("script").display().to_string();
    let [none, missing] = ["none", "missing"].map(|name| folder.path().join(name).display().to_string());
    for (path, text) in [(&none, "echo a\n"), (&missing, "#!/nonexistent/python\n")] {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let unsound = [
        (vec!["--exec", &none], "its first line names no interpreter"),
        (vec!["--exec", &missing], "its first line names the interpreter \"/nonexistent/python\": No such file"),
        (vec!["--exec", "nosuch-program x"], "no program 'nosuch-program' on the PATH"),
        (vec!["--exec-lines", &script], "can't execute"),
        (vec!["--exec", "sh -c 'ls {}'"], "would let a request run any command"),
        (vec!["--exec", "ls {}", "--json"], "there is no {} to fill in"),
        (vec!["--exec", "cat 'x"], "a quote is not closed"),
    ];
    for (args, error) in unsound {
        let output = Command::new(binary("giostra-worker")?).args(&args).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(error) && said.lines().count() == 1, "{args:?}: {said}");
    }
    let alone = Command::new(binary("giostra-worker")?).args(["--time-limit", "1s"]).output()?;
    assert_eq!(alone.status.code(), Some(2));
    Ok(())
}
