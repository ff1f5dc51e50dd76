//! The standard streams: closed, open in the wrong direction, non-blocking, one and the same file,
//! or a terminal.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use giostra_protocol::Failure;
use giostra_tests::process::binary;
use giostra_tests::{Setup, System};
use giostra_transport::shutdown::Shutdown;
use giostra_worker::{Operations, Options, serve};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;

/// A program without what the tests' caller has set.
fn command(program: &str, args: &[&str]) -> Result<Command> {
    cleaned(Command::new(binary(program)?), args)
}

/// The same, started by a shell with these redirections.
fn redirected(redirections: &str, program: &str, args: &[&str]) -> Result<Command> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {redirections}")).arg(binary(program)?);
    cleaned(shell, args)
}

fn cleaned(mut command: Command, args: &[&str]) -> Result<Command> {
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"GIOSTRA_")) {
        command.env_remove(key);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// `giostra` for the broker of a system.
fn giostra<'a>(system: &'a System, args: &[&'a str]) -> Vec<&'a str> {
    ["--broker", system.frontend()].iter().chain(args).copied().collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn make_nonblocking(file: impl AsFd) -> Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[test]
fn a_command_whose_stdout_is_closed_or_only_readable_fails_before_it_asks_for_anything() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for redirection in [">&-", "1</dev/null"] {
        for args in [&["send", "add", "1", "2"][..], &["send", "add", "1", "2", "--json"], &["map", "add"], &["status"]]
        {
            let output = redirected(redirection, "giostra", &giostra(&system, args))?.output()?;
            let said = stderr(&output);
            ensure!(output.status.code() == Some(1), "{args:?} {redirection}: {output:?}");
            ensure!(said.contains("can't write to stdout: it is "), "{args:?} {redirection}: {said}");
        }
        for (program, args) in [("giostra", ["--help"]), ("giostra", ["man"]), ("giostra-broker", ["--man"])] {
            let output = redirected(redirection, program, &args)?.output()?;
            ensure!(output.status.code() == Some(1), "{program} {args:?} {redirection}: {output:?}");
            ensure!(stderr(&output).contains("can't write to stdout"), "{program} {args:?} {redirection}: {output:?}");
        }
    }
    ensure!(!system.log().contains(" accept "), "{}", system.log());
    // A wrong command line is told on stderr alone, and what is thrown away on purpose is no error,
    // however it was opened.
    let wrong = redirected(">&-", "giostra", &["nosuch"])?.output()?;
    ensure!(wrong.status.code() == Some(2), "{wrong:?}");
    for redirection in [">/dev/null", "1<>/dev/null"] {
        let output = redirected(redirection, "giostra", &giostra(&system, &["send", "add", "1", "2"]))?.output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{redirection}: {output:?}");
    }
    Ok(())
}

#[test]
fn a_stdin_that_is_closed_or_only_writable_is_not_an_empty_one() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let journal = system.folder().join("journal").display().to_string();
    for redirection in ["<&-", "0>/dev/null"] {
        for args in [&["map", "is_prime"][..], &["map", "is_prime", "--journal", &journal], &["prompt"]] {
            let output = redirected(redirection, "giostra", &giostra(&system, args))?.output()?;
            let said = stderr(&output);
            ensure!(output.status.code() == Some(1), "{args:?} {redirection}: {output:?}");
            ensure!(said.contains("can't read stdin: it is "), "{args:?} {redirection}: {said}");
        }
        // Who reads nothing needs none.
        let output = redirected(redirection, "giostra", &giostra(&system, &["send", "add", "1", "2"]))?.output()?;
        ensure!(output.status.success() && output.stdout == b"3\n", "{redirection}: {output:?}");
    }
    ensure!(!fs::exists(&journal)?);
    let empty = command("giostra", &giostra(&system, &["map", "is_prime"]))?.output()?;
    ensure!(empty.status.success() && empty.stdout.is_empty(), "{empty:?}");
    Ok(())
}

#[test]
fn a_stdout_that_another_process_made_nonblocking_gets_all_of_a_large_result() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let input = system.folder().join("numbers");
    fs::write(&input, "1000000\n".repeat(3))?;
    for (args, times) in [(&["send", "primes", "1000000"][..], 1), (&["map", "primes", "--quiet"], 3)] {
        let (mut reader, writer) = pipe()?;
        make_nonblocking(&writer)?;
        let mut command = command("giostra", &giostra(&system, args))?;
        let child = command.stdin(File::open(&input)?).stdout(writer).spawn()?;
        // Ours too is to be closed, or reading would never end.
        drop(command);
        let mut printed = String::new();
        reader.read_to_string(&mut printed)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{args:?}: {}", stderr(&output));
        ensure!(printed.split_whitespace().count() == times * 78498, "{args:?}: {} bytes", printed.len());
    }
    Ok(())
}

#[test]
fn a_stdin_that_another_process_made_nonblocking_is_read_to_its_end() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let (reader, mut writer) = pipe()?;
    make_nonblocking(&reader)?;
    let mut command = command("giostra", &giostra(&system, &["map", "fib", "--quiet"]))?;
    let mut child = command.stdin(reader).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout")?);
    // Each line is written when the one before has been answered, so that there is nothing to read
    // in between.
    for (n, fib) in [(5, 5), (6, 8), (7, 13)] {
        writeln!(writer, "{n}")?;
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        ensure!(line == format!("{fib}\n"), "{n}: {line:?}");
    }
    drop(writer);
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn a_map_that_would_read_its_own_results_is_refused_and_the_file_is_kept() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let path = system.folder().join("numbers");
    let name = path.display().to_string();
    fs::write(&path, "2\n3\n")?;
    let map = |input: &str, output: &str, args: &[&str]| -> Result<Output> {
        let args: Vec<_> = ["map", "is_prime"].iter().chain(args).copied().collect();
        let shell = format!("< {input} {output}");
        Ok(redirected(&shell, "giostra", &giostra(&system, &args))?.output()?)
    };
    for (output, args, why) in [
        (format!(">> {name}"), &[][..], "stdout writes the file that stdin reads"),
        (format!("1<> {name}"), &[], "stdout writes the file that stdin reads"),
        (String::new(), &["--journal", &name], "is what stdin reads"),
        (String::new(), &["--failed", &name], "is what stdin reads"),
    ] {
        let refused = map(&name, &output, args)?;
        ensure!(refused.status.code() == Some(1), "{output} {args:?}: {refused:?}");
        ensure!(stderr(&refused).contains(why), "{output} {args:?}: {refused:?}");
        ensure!(fs::read_to_string(&path)? == "2\n3\n", "{output} {args:?}");
    }
    // Of an empty file there is nothing to be read.
    let empty = map(&name, &format!("> {name}"), &[])?;
    ensure!(empty.status.success() && fs::read(&path)?.is_empty(), "{empty:?}");
    Ok(())
}

/// What a program shows in a terminal, which its stdout and stderr are.
fn in_terminal(args: &[&str], input: &str) -> Result<String> {
    let terminal = openpty(None, None)?;
    let mut command = command("giostra", args)?;
    command.stdin(Stdio::piped()).stdout(terminal.slave.try_clone()?).stderr(terminal.slave);
    let mut child = command.env("TERM", "dumb").spawn()?;
    child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
    drop(command);
    let (mut shown, mut part, mut master) = (Vec::new(), [0; 4096], File::from(terminal.master));
    // The other end's last close is an error here, EIO.
    while let Ok(bytes @ 1..) = master.read(&mut part) {
        shown.extend_from_slice(&part[..bytes]);
    }
    child.wait()?;
    Ok(String::from_utf8(shown)?)
}

#[test]
fn a_peers_control_characters_do_not_reach_a_terminal() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let stop = Shutdown::new()?;
    let options = Options { broker: system.backend().into(), name: "own".into(), ..Options::default() };
    let operations = Operations::new()
        .with("red", |()| Ok::<_, Failure>("\u{1b}[31mred\r\u{b}\u{9b}2J"))
        .with("fail", |()| Err::<(), _>(Failure::from("\u{1b}[2Jfirst\nsecond")));
    let worker = thread::spawn({
        let stop = stop.clone();
        move || serve(&options, operations, &stop)
    });
    system.wait_for_line(&[" joined own "])?;
    let lines = |args: &[&str], input: &str| in_terminal(&giostra(&system, args), input);
    let escaped = r"\u001b[31mred\r\u000b\u009b2J";
    for (args, input) in [(&["send", "red"][..], ""), (&["map", "red", "--quiet"], "\n"), (&["prompt"], "send red\n")] {
        let shown = lines(args, input)?;
        ensure!(shown.contains(escaped), "{args:?}: {shown:?}");
        ensure!(!shown.replace("\r\n", "").contains(|c: char| c.is_control() && c != '\n'), "{args:?}: {shown:?}");
    }
    let json = lines(&["send", "red", "--json"], "")?;
    ensure!(json.contains(r"\u009b2J") && !json.contains('\u{9b}'), "{json:?}");
    for (args, input) in
        [(&["send", "fail"][..], ""), (&["map", "fail", "--quiet"], "\n"), (&["prompt"], "send fail\n")]
    {
        let shown = lines(args, input)?;
        ensure!(shown.contains("failed:  [2Jfirst"), "{args:?}: {shown:?}");
        ensure!(!shown.contains('\u{1b}'), "{args:?}: {shown:?}");
    }
    // A pipe gets what the worker said.
    let output = command("giostra", &giostra(&system, &["send", "red"]))?.output()?;
    ensure!(output.stdout == "\u{1b}[31mred\r\u{b}\u{9b}2J\n".as_bytes(), "{output:?}");
    stop.request();
    worker.join().expect("no panic")?;
    Ok(())
}
