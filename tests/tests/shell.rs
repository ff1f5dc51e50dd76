//! The programs as a shell, a script or a terminal sees them: completion, man pages, JSON, colour,
//! switches, and an output that can't be written.
//!
//! What needs a program that is not there counts as ignored.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, Output, Stdio};

use anyhow::{Context, Result, ensure};
use giostra_tests::process::{binary, wait_for};
use giostra_tests::{Port, Setup, System, test, trials};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const PROGRAMS: [&str; 3] = ["giostra", "giostra-broker", "giostra-worker"];

/// What a person types into the prompt.
const TYPED: &[u8] = b"add 1 2\nexit\n";

fn main() -> ExitCode {
    trials::run(&[
        test!(bash_completes_what_is_typed needs bash),
        test!(zsh_reads_its_scripts needs zsh),
        test!(fish_reads_its_scripts needs fish),
        test!(each_option_of_each_command_is_in_its_page needs trials::anywhere),
        test!(groff_formats_each_page_without_a_warning needs groff),
        test!(with_json_each_command_prints_its_object needs trials::anywhere),
        test!(with_json_a_failure_is_an_object_too needs trials::anywhere),
        test!(with_json_the_prompt_prints_an_object_for_each_command needs trials::anywhere),
        test!(nobody_is_shown_colours_who_does_not_want_them needs trials::anywhere),
        test!(a_dumb_terminal_is_shown_no_progress_bar needs trials::anywhere),
        test!(the_status_has_colours_only_for_who_wants_them needs trials::anywhere),
        test!(a_switch_in_the_environment_says_yes_or_no needs trials::anywhere),
        test!(an_empty_variable_counts_as_unset needs trials::anywhere),
        test!(an_output_that_cannot_be_written_is_an_error needs trials::anywhere),
        test!(a_reader_that_has_read_enough_is_no_reason_to_complain needs trials::anywhere),
        test!(complaints_that_cannot_be_written_end_nobody needs trials::anywhere),
    ])
}

fn bash_completes_what_is_typed() -> Result<()> {
    for (line, expected) in [
        ("giostra st", &["status"][..]),
        ("giostra completions ", &["bash", "elvish", "fish", "powershell", "zsh"]),
        ("giostra keys a", &["allow"]),
        ("giostra send is_", &["is_prime"]),
        ("giostra random --wait", &["--wait-workers"]),
        ("giostra-broker --rot", &["--rotation"]),
        ("giostra-worker --completions z", &["zsh"]),
    ] {
        let offered = completed_by_bash(line)?;
        for word in expected {
            ensure!(offered.iter().any(|offer| offer == word), "{line:?}: no {word} in {offered:?}");
        }
        let typed = line.rsplit(' ').next().unwrap_or_default();
        ensure!(offered.iter().all(|offer| offer.starts_with(typed)), "{line:?}: {offered:?}");
    }
    Ok(())
}

/// What bash offers at the end of the line, once it has read the script.
fn completed_by_bash(line: &str) -> Result<Vec<String>> {
    let words: Vec<_> = line.split(' ').collect();
    let program = words[0];
    // What bash itself does at Tab: it sets these variables and calls the function of `complete -F`.
    let asked = format!(
        r#"source /dev/stdin <<< "$SCRIPT"
        function=$(complete -p {program} | sed 's/.*-F \([^ ]*\).*/\1/')
        COMP_WORDS=({line}) COMP_CWORD={last} COMP_LINE='{line}' COMP_POINT={length}
        [[ ${{#COMP_WORDS[@]}} -gt {last} ]] || COMP_WORDS+=('')
        $function {program} '{typed}' '{before}'
        printf '%s\n' "${{COMPREPLY[@]}}""#,
        last = words.len() - 1,
        length = line.len(),
        typed = words[words.len() - 1],
        before = words[words.len() - 2],
    );
    let script = script(program, "bash")?;
    let output = Command::new("bash").args(["--norc", "-c", &asked]).env("SCRIPT", script).output()?;
    ensure!(output.stderr.is_empty(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(|word| word.trim().into()).collect())
}

fn zsh_reads_its_scripts() -> Result<()> {
    is_read_by("zsh")
}

fn fish_reads_its_scripts() -> Result<()> {
    is_read_by("fish")
}

/// Whether the shell finds no fault with its scripts. It does not run them.
fn is_read_by(shell: &str) -> Result<()> {
    for program in PROGRAMS {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), script(program, shell)?)?;
        let output = Command::new(shell).arg("-n").arg(file.path()).output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
    }
    Ok(())
}

/// The completion script of one of our programs.
fn script(program: &str, shell: &str) -> Result<String> {
    let args = if program == "giostra" { ["completions", shell] } else { ["--completions", shell] };
    printed(program, &args)
}

fn each_option_of_each_command_is_in_its_page() -> Result<()> {
    let mut options = 0;
    for (page, args) in pages()? {
        let text = page.replace("\\-", "-");
        let program = args[0].clone();
        let args: Vec<_> = args[1..].iter().map(String::as_str).chain(["--help"]).collect();
        let help = printed(&program, &args)?;
        // What is further to the right is text that happens to begin with an option.
        for line in help.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --")) {
            let words = line.split_whitespace().map(|word| word.trim_end_matches(','));
            for option in words.take_while(|word| word.starts_with('-')).filter(|word| word.len() > 1) {
                ensure!(text.contains(&format!("\\fB{option}\\fR")), "{program} {args:?}: no {option} in {text}");
                options += 1;
            }
        }
        ensure!(text.contains("\n.SH EXAMPLES\n"), "{program} {args:?}: {text}");
    }
    ensure!(options > 100, "only {options} options were found");
    Ok(())
}

fn groff_formats_each_page_without_a_warning() -> Result<()> {
    for (page, command) in pages()? {
        let mut groff = Command::new("groff")
            .args(["-ww", "-man", "-Tutf8"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        groff.stdin.take().context("stdin")?.write_all(page.as_bytes())?;
        let output = groff.wait_with_output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    }
    Ok(())
}

/// All pages, each with the words of its command.
fn pages() -> Result<Vec<(String, Vec<String>)>> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("man1");
    let written = printed("giostra", &["man", "--json", "--dir", &dir.display().to_string()])?;
    let written: Value = serde_json::from_str(&written)?;
    let files = written["files"].as_array().context("no files")?;
    ensure!(files.len() > 12, "{written}");
    let mut pages = Vec::new();
    for file in files.iter().filter_map(Value::as_str) {
        let name = file.rsplit('/').next().and_then(|name| name.strip_suffix(".1")).context("no page")?;
        pages.push((std::fs::read_to_string(file)?, name.split('-').map(String::from).collect()));
    }
    ensure!(pages.iter().any(|(page, _)| *page == printed("giostra", &["man"]).unwrap_or_default()));
    for program in &PROGRAMS[1..] {
        pages.push((printed(program, &["--man"])?, vec![program.to_string()]));
    }
    Ok(pages)
}

fn with_json_each_command_prints_its_object() -> Result<()> {
    let system = Setup::workers(3).start()?;
    let folder = system.folder().display().to_string();
    for (line, fields) in [
        ("send add 1 2", &["result", "trace"][..]),
        ("random 10", &["sent", "answered", "failed", "wrong", "rate", "latency_us", "workers", "errors", "seed"]),
        ("bench 10 --warm-up 0", &["clients", "size", "sent", "answered", "rate", "latency_us", "errors"]),
        ("status", &["version", "workers", "clients", "pools", "totals", "pending", "in_flight"]),
        ("drain worker-2 --no-wait", &["worker", "left", "in_flight"]),
        ("drain worker-3", &["worker", "left", "in_flight", "lost"]),
        ("audit FOLDER/log", &["proved", "verdict", "accepted", "promises", "violations"]),
        ("audit FOLDER/log --request c1#1", &["request", "steps", "ends"]),
        ("keys new alice --dir FOLDER/k", &["name", "public_key", "public", "secret"]),
        ("keys show FOLDER/k/alice.key", &["keys"]),
        ("keys allow FOLDER/k/alice.key --role client --dir FOLDER/a", &["allowed"]),
        ("man --dir FOLDER/man", &["files"]),
    ] {
        let line = line.replace("FOLDER", &folder);
        let output = run(&system, &["--json"], &line, &[])?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        let object = object(&output)?;
        for field in fields {
            ensure!(object.get(field).is_some(), "{line}: no {field} in {object}");
        }
        ensure!(object.get("error").is_none(), "{line}: {object}");
    }
    Ok(())
}

fn with_json_a_failure_is_an_object_too() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let nobody = Port::reserve()?;
    let alone = format!("--broker {} --broker-timeout 200ms", nobody.endpoint());
    for (line, status, code, part) in [
        ("send div 1 0".into(), 1, "failed", "division by zero"),
        ("send nosuch 1 2".into(), 1, "invalid", "unknown operation"),
        ("random 10 --pool empty --timeout 100ms".into(), 1, "expired", ""),
        ("bench 10 --pool empty --timeout 100ms".into(), 1, "expired", ""),
        ("drain nobody".into(), 1, "refused", "nobody"),
        (format!("send add 1 2 {alone}"), 1, "no-broker", "no broker"),
        (format!("random 10 {alone}"), 1, "no-broker", "no broker"),
        (format!("random 10 --wait-workers 1 {alone}"), 1, "no-broker", "is one running?"),
        (format!("bench 10 {alone}"), 1, "no-broker", "is one running?"),
        (format!("status {alone}"), 1, "no-broker", "is one running?"),
        (format!("drain worker-1 {alone}"), 1, "no-broker", "is one running?"),
        ("status --keys /nonexistent --broker-key x".into(), 1, "failed", "/nonexistent"),
        ("audit /nonexistent".into(), 2, "failed", "/nonexistent"),
        ("keys show /nonexistent".into(), 1, "failed", "/nonexistent"),
        ("keys new alice --dir /dev/null/x".into(), 1, "failed", "/dev/null"),
        ("man --dir /dev/null/x".into(), 1, "failed", "/dev/null"),
    ] {
        let output = run(&system, &["--json"], &line, &[])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status) && said.starts_with("giostra: "), "{line}: {output:?}");
        let error = &object(&output)?["error"];
        let message = error["message"].as_str().unwrap_or_default();
        ensure!(error["code"] == code && message.contains(part), "{line}: {output:?}");
        ensure!(output.stdout.split(|&byte| byte == b'\n').count() == 2, "{line}: {output:?}");
        ensure!(!message.is_empty() && said.contains(message), "{line}: {output:?}");
    }
    // A wrong command line is told on stderr alone.
    for line in ["nosuch", "status --broker nonsense"] {
        let wrong = run(&system, &["--json"], line, &[])?;
        ensure!(wrong.status.code() == Some(2) && wrong.stdout.is_empty() && !wrong.stderr.is_empty(), "{wrong:?}");
    }
    Ok(())
}

fn with_json_the_prompt_prints_an_object_for_each_command() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let typed = b"add 1 2\ndiv 1 0\nnosuch\nkeys show /nonexistent\ndrain nobody\nadd 3 4\nexit\n";
    let output = run(&system, &["--json"], "prompt", typed)?;
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let objects = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().context(text)?;
    let codes: Vec<_> = objects.iter().map(|object| object["error"]["code"].as_str().unwrap_or("fine")).collect();
    ensure!(codes == ["fine", "failed", "invalid", "failed", "refused", "fine"], "{objects:?}");
    ensure!([&objects[0]["result"], &objects[5]["result"]] == [&json!(3), &json!(7)], "{objects:?}");
    Ok(())
}

fn nobody_is_shown_colours_who_does_not_want_them() -> Result<()> {
    for program in PROGRAMS {
        for args in ["--help", "--nosuch"] {
            let shown = |env: &[(&str, &str)]| in_terminal(program, &[args], env);
            let coloured = shown(&[("TERM", "xterm")])?;
            ensure!(coloured.contains("\x1b[1m"), "{program} {args}: {coloured:?}");
            for unwanted in [("NO_COLOR", "1"), ("TERM", "dumb"), ("CLICOLOR", "0")] {
                let plain = shown(&[("TERM", "xterm"), unwanted])?;
                ensure!(!plain.contains('\x1b'), "{program} {args} {unwanted:?}: {plain:?}");
            }
            // Empty is as if it were not there: https://no-color.org
            ensure!(!shown(&[("TERM", "dumb"), ("CI", "true")])?.contains('\x1b'), "{program} {args}, in CI");
            ensure!(shown(&[("TERM", "xterm"), ("NO_COLOR", "")])? == coloured);
            ensure!(shown(&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")])? == coloured);
            let piped = Command::new(binary(program)?).arg(args).output()?;
            ensure!(!piped.stdout.contains(&0x1b) && !piped.stderr.contains(&0x1b), "{piped:?}");
        }
    }
    Ok(())
}

fn a_dumb_terminal_is_shown_no_progress_bar() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let args = ["--broker", system.frontend(), "random", "100000"];
    let with_bar = in_terminal("giostra", &args, &[("TERM", "xterm"), ("NO_COLOR", "1")])?;
    // A line that is written again and again: no colour is in it.
    ensure!(with_bar.contains("\x1b[2K") && !has_colour(&with_bar), "{with_bar:?}");
    let without = in_terminal("giostra", &args, &[("TERM", "dumb")])?;
    ensure!(without.contains("100000, all of them") && !without.contains('\x1b'), "{without:?}");
    Ok(())
}

fn the_status_has_colours_only_for_who_wants_them() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    // A busy worker is green.
    let _sleeper = system.begin(&["send", "sleep", "60"])?;
    wait_for("it is computed", || (system.status().ok()?["in_flight"] == 1).then_some(()))?;
    let args = ["--broker", system.frontend(), "status"];
    let coloured = in_terminal("giostra", &args, &[("TERM", "xterm")])?;
    ensure!(has_colour(&coloured), "{coloured:?}");
    for unwanted in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = in_terminal("giostra", &args, &[("TERM", "xterm"), unwanted])?;
        ensure!(shown.contains("busy") && !shown.contains('\x1b'), "{unwanted:?}: {shown:?}");
    }
    Ok(())
}

/// Whether any of the escapes sets a colour.
fn has_colour(shown: &str) -> bool {
    let ends = |escape: &str| escape.find(|c: char| c.is_ascii_alphabetic()).map(|at| &escape[at..=at]) == Some("m");
    shown.split("\x1b[").skip(1).any(ends)
}

fn a_switch_in_the_environment_says_yes_or_no() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let shown = |value: &str| {
        command("giostra", &["keys", "show", "/nonexistent"])?.env("GIOSTRA_JSON", value).output().context("")
    };
    for (value, json) in [("1", true), ("true", true), ("YES", true), ("0", false), ("false", false), ("", false)] {
        let output = shown(value)?;
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty() != json, "{value:?}: {output:?}");
    }
    let wrong = shown("fasle")?;
    ensure!(
        wrong.status.code() == Some(2) && String::from_utf8_lossy(&wrong.stderr).contains("yes or on"),
        "{wrong:?}"
    );
    // A completion script is one with any setting.
    let script = command("giostra", &["completions", "bash"])?.env("GIOSTRA_JSON", "1").output()?;
    ensure!(script.stdout.starts_with(b"_giostra()"), "{script:?}");

    let log = folder.path().join("log").display().to_string();
    for (insecure, args, explanation) in [
        ("0", &["--frontend", "tcp://*:*"][..], "say --insecure"),
        ("1", &["--keys", "k", "--allow", "a"], "--insecure is for a broker without keys"),
        ("0", &["--keys", "/nonexistent", "--allow", "a"], "/nonexistent"),
    ] {
        let args: Vec<_> = ["--log-dir", &log].iter().chain(args).copied().collect();
        let output = command("giostra-broker", &args)?.env("GIOSTRA_INSECURE", insecure).output()?;
        ensure!(output.status.code() == Some(1), "{insecure} {args:?}: {output:?}");
        ensure!(String::from_utf8_lossy(&output.stderr).contains(explanation), "{insecure} {args:?}: {output:?}");
    }
    Ok(())
}

fn an_empty_variable_counts_as_unset() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut send = giostra(&system, &[], "send add 1 2")?;
    for name in ["TIMEOUT", "POOL", "BROKER_TIMEOUT", "KEYS", "BROKER_KEY", "TEXT"] {
        send.env(format!("GIOSTRA_{name}"), "");
    }
    let output = send.output()?;
    ensure!(output.status.success() && output.stdout == b"3\n", "{output:?}");
    for (program, name) in [("giostra-broker", "GIOSTRA_PING_INTERVAL"), ("giostra-worker", "GIOSTRA_THREADS")] {
        let status =
            |value: &str| -> Result<_> { Ok(command(program, &["--man"])?.env(name, value).output()?.status.code()) };
        ensure!((status("")?, status("nonsense")?) == (Some(0), Some(2)), "{program}");
    }
    // What there is to set is told all the same.
    let help = command("giostra", &["send", "--help"])?.env("GIOSTRA_TIMEOUT", "").output()?;
    ensure!(String::from_utf8_lossy(&help.stdout).contains("[env: GIOSTRA_TIMEOUT=]"), "{help:?}");
    Ok(())
}

fn an_output_that_cannot_be_written_is_an_error() -> Result<()> {
    of_each_command(|command, line| {
        let output = finish(command.stdout(File::create("/dev/full")?), TYPED)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{line}: {output:?}");
        ensure!(said.ends_with(": can't write to stdout: No space left on device (os error 28)\n"), "{line}: {said}");
        Ok(())
    })
}

fn a_reader_that_has_read_enough_is_no_reason_to_complain() -> Result<()> {
    of_each_command(|command, line| {
        let (reader, writer) = pipe()?;
        drop(reader);
        // What another test starts meanwhile has a copy of the reader for a moment.
        wait_for("nobody reads", || {
            let mut writers = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
            poll(&mut writers, PollTimeout::ZERO).ok()?;
            writers[0].revents()?.contains(PollFlags::POLLERR).then_some(())
        })?;
        let output = finish(command.stdout(writer), TYPED)?;
        ensure!(output.status.code() == Some(1), "{line}: {output:?}");
        ensure!(output.stderr.is_empty(), "{line}: {output:?}");
        Ok(())
    })
}

/// Does something with each command that prints, each once with `--json`, too, where it makes a
/// difference.
fn of_each_command(check: impl Fn(&mut Command, &str) -> Result<()>) -> Result<()> {
    const COMMANDS: [&str; 13] = [
        "send add 1 2",
        "send div 1 2",
        "random 10",
        "bench 10 --warm-up 0",
        "prompt",
        "status",
        "drain WORKER --no-wait",
        "audit FOLDER/log",
        "audit FOLDER/log --request c1#1",
        "keys new NAME --dir FOLDER/k",
        "keys show FOLDER/k/NAME.key",
        "keys allow FOLDER/k/NAME.key --role client --dir FOLDER/a",
        "man --dir FOLDER/man",
    ];
    let system = Setup::workers(3).start()?;
    let folder = system.folder().display().to_string();
    for (flags, worker, name) in [(&[][..], "worker-2", "alice"), (&["--json"], "worker-3", "bob")] {
        for line in COMMANDS {
            let line = line.replace("FOLDER", &folder).replace("WORKER", worker).replace("NAME", name);
            check(&mut giostra(&system, flags, &line)?, &format!("{line} {flags:?}"))?;
        }
    }
    for line in ["giostra completions bash", "giostra man", "giostra --help", "giostra help keys", "giostra --version"]
        .into_iter()
        .chain(["giostra-broker --completions bash", "giostra-worker --man", "giostra-worker --help"])
    {
        let words: Vec<_> = line.split(' ').collect();
        check(&mut command(words[0], &words[1..])?, line)?;
    }
    Ok(())
}

fn complaints_that_cannot_be_written_end_nobody() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for (line, status) in [("send div 1 0", 1), ("keys show /nonexistent", 1), ("nosuch", 2), ("send sleep 0", 0)] {
        let output = finish(giostra(&system, &[], line)?.stderr(File::create("/dev/full")?), b"")?;
        ensure!(output.status.code() == Some(status), "{line}: {output:?}");
    }
    let mut worker = command("giostra-worker", &["--broker", system.backend(), "--name", "mute"])?;
    let mut worker = Ended(worker.stderr(File::create("/dev/full")?).spawn()?);
    system.wait_for_line(&[" joined mute "])?;
    kill(Pid::from_raw(worker.0.id() as i32), Signal::SIGTERM)?;
    let status = wait_for("it leaves", || worker.0.try_wait().transpose())??;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// A process that does not outlive its handle.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of our programs, without what the tests' caller has set.
fn command(program: &str, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary(program)?);
    command.args(args);
    for (key, _) in std::env::vars_os() {
        if key.as_encoded_bytes().starts_with(b"GIOSTRA_")
            || ["CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"].iter().any(|&k| key == k)
        {
            command.env_remove(key);
        }
    }
    Ok(command)
}

/// `giostra` with the words of a line, for the broker of a system unless they name another.
fn giostra(system: &System, flags: &[&str], line: &str) -> Result<Command> {
    let words: Vec<_> = flags.iter().copied().chain(line.split(' ')).collect();
    let mut command = command("giostra", &words)?;
    command.env("GIOSTRA_FRONTEND", system.frontend()).env("XDG_STATE_HOME", system.folder());
    Ok(command)
}

/// The same, to its end.
fn run(system: &System, flags: &[&str], line: &str, typed: &[u8]) -> Result<Output> {
    finish(giostra(system, flags, line)?.stdout(Stdio::piped()), typed)
}

/// Runs it to its end, with that on its stdin.
fn finish(command: &mut Command, typed: &[u8]) -> Result<Output> {
    let (reader, mut writer) = pipe()?;
    writer.write_all(typed)?;
    drop(writer);
    command.stdin(reader);
    Ok(command.output()?)
}

/// What a program prints that ends well.
fn printed(program: &str, args: &[&str]) -> Result<String> {
    let output = command(program, args)?.output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{program} {args:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The object on the last line of stdout.
fn object(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("no JSON: {output:?}"))
}

/// What a program shows in a terminal of its own.
fn in_terminal(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<String> {
    let terminal = openpty(None, None)?;
    let end = || terminal.slave.try_clone();
    let mut command = command(program, args)?;
    let child = command.envs(env.iter().copied()).stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
    let _child = Ended(child);
    // Ours too is to be closed, or reading would never end.
    drop((command, terminal.slave));
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    // The other end's last close is an error here, EIO.
    let mut terminal = File::from(terminal.master);
    while let Ok(bytes @ 1..) = terminal.read(&mut part) {
        shown.extend_from_slice(&part[..bytes]);
    }
    Ok(String::from_utf8(shown)?)
}

fn bash() -> Result<()> {
    trials::program("bash", "bash").map(drop)
}

fn zsh() -> Result<()> {
    trials::program("zsh", "zsh").map(drop)
}

fn fish() -> Result<()> {
    trials::program("fish", "fish").map(drop)
}

fn groff() -> Result<()> {
    trials::program("groff", "groff").map(drop)
}
