//! Stdin and stdout: slow, long, closed, full.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_protocol::Failure;
use giostra_tests::Setup;
use giostra_tests::process::wait_for;
use giostra_worker::{Job, Operations};
use nix::pty::openpty;
use nix::sys::signal::Signal;

use super::{OwnWorker, Ran, feed, file, map, primes, run, seq, signal};

/// A line of `/proc/PID/status`, in bytes.
fn memory(child: &Child, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>()? << 10)
}

#[test]
fn a_line_is_answered_before_the_next_is_written() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let mut child = map(&system, &["fib"])?.spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout")?);
    for (n, fib) in [(5, 5), (6, 8), (7, 13)] {
        writeln!(stdin, "{n}")?;
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        assert_eq!(line, format!("{fib}\n"));
    }
    // The last line needs no line break.
    write!(stdin, "8")?;
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest)?;
    assert_eq!((rest.as_str(), child.wait()?.code()), ("21\n", Some(0)));
    Ok(())
}

#[test]
fn ten_times_the_lines_take_no_more_memory() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let highest = |lines: u64, args: &[&str]| -> Result<u64> {
        let mut child = map(&system, args)?.stderr(Stdio::null()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let writer = thread::spawn(move || stdin.write_all(seq(lines).as_bytes()).map(|()| stdin));
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        let answered = stdout.lines().take(lines as usize).filter(Result::is_ok).count();
        // All is answered, and it waits for more.
        let stdin = writer.join().expect("no panic")?;
        let highest = memory(&child, "VmHWM:")?;
        drop(stdin);
        ensure!(answered as u64 == lines && child.wait()?.success());
        Ok(highest)
    };
    for args in [&["is_prime"][..], &["is_prime", "--unordered"]] {
        let [few, many] = [100_000, 1_000_000].map(|lines| highest(lines, args));
        let (few, many) = (few?, many?);
        println!("{args:?}: {} KiB, {} KiB", few >> 10, many >> 10);
        ensure!(many < few + (8 << 20), "{args:?}: {few} and {many} bytes");
    }
    Ok(())
}

#[test]
fn a_slow_reader_holds_it_up_in_bounded_memory_and_loses_nothing() -> Result<()> {
    const LINES: u64 = 500_000;
    let system = Setup::workers(2).start()?;
    let mut child = map(&system, &["is_prime"])?.stderr(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let writer = thread::spawn(move || stdin.write_all(seq(LINES).as_bytes()));
    let mut stdout = child.stdout.take().context("stdout")?;
    let replies = || system.count(" reply worker-");
    let mut before = usize::MAX;
    // Nobody reads: at some time it stands still.
    wait_for("it stands still", || {
        thread::sleep(Duration::from_millis(300));
        let now = replies();
        (std::mem::replace(&mut before, now) == now && now > 0).then_some(())
    })?;
    ensure!(!writer.is_finished() && memory(&child, "VmRSS:")? < 64 << 20);
    let mut out = String::new();
    stdout.read_to_string(&mut out)?;
    writer.join().expect("no panic")?;
    ensure!(out == primes(LINES) && child.wait()?.success());
    Ok(())
}

#[test]
fn ctrl_c_ends_it_also_when_nobody_reads() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut child = map(&system, &["is_prime"])?.stderr(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let writer = thread::spawn(move || drop(stdin.write_all(seq(500_000).as_bytes())));
    super::wait_until_under_way(&system, 20)?;
    thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::SIGINT)?;
    assert_eq!(child.wait()?.code(), Some(130));
    writer.join().expect("no panic");
    Ok(())
}

#[test]
fn the_progress_bar_includes_long_operations_and_estimates_the_remaining_time() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let long = |lines: u64, job: &Job<'_>| {
        for step in 1..=20 {
            job.progress(step, 20);
            thread::sleep(Duration::from_millis(50));
        }
        Ok::<_, Failure>(lines)
    };
    let _worker = OwnWorker::start(&system, Operations::new().with_job("long", long))?;
    let terminal = openpty(None, None)?;
    let mut command = map(&system, &["long"])?;
    // Four at a time: after a second half of it is done.
    command.env("TERM", "xterm").stdin(file(&system, "in", &"1\n".repeat(8))?).stderr(terminal.slave);
    let mut child = command.spawn()?;
    // Ours too is to be closed, or reading would never end.
    drop(command);
    let (mut shown, mut part, mut master) = (Vec::new(), [0; 4096], File::from(terminal.master));
    // The other end's last close is an error here, EIO.
    while let Ok(bytes @ 1..) = master.read(&mut part) {
        shown.extend_from_slice(&part[..bytes]);
    }
    let shown = String::from_utf8_lossy(&shown);
    for part in ["%  ", "4 lines  ", "/s  ", " left", "8 lines in "] {
        assert!(shown.contains(part), "no {part:?} in {shown:?}");
    }
    let mut percents =
        shown.match_indices("%  0 lines").filter_map(|(at, _)| shown[..at].rsplit(' ').next()?.parse().ok());
    assert!(percents.any(|percent: u32| (10..50).contains(&percent)), "{shown:?}");
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn on_a_terminal_a_typed_line_is_answered_at_once() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut terminal = system.begin_on_terminal(80, 10, &["map", "fib", "--quiet"])?;
    for (typed, seen) in [("20\n", "6765"), ("30\n", "832040")] {
        terminal.press(typed)?;
        terminal.wait_to_see(seen)?;
    }
    terminal.press("\x04")?;
    assert!(terminal.wait()?.success());
    Ok(())
}

#[test]
fn a_reader_that_closes_the_pipe_ends_it_quietly() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut child = map(&system, &["is_prime"])?.spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout")?);
    let reader = thread::spawn(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).map(|_| line)
    });
    let Ran { code, stderr, .. } = feed(child, &seq(500_000))?;
    assert_eq!(reader.join().expect("no panic")?, "false\n");
    assert_eq!((code, &*stderr), (Some(1), ""));
    Ok(())
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for (args, why) in [
        (&["is_prime"][..], "can't write to stdout: No space left on device"),
        (&["div", "--failed", "/dev/full"], "can't write /dev/full: No space left on device"),
        (&["is_prime", "--journal", "/dev/full"], "/dev/full is no file"),
    ] {
        let full = args.len() == 1;
        let child = map(&system, args)?.stdout(File::create(if full { "/dev/full" } else { "/dev/null" })?).spawn()?;
        let Ran { code, stderr, .. } = feed(child, &seq(10))?;
        assert!(code == Some(1) && stderr.contains(why), "{args:?}: {stderr}");
    }
    Ok(())
}

#[test]
fn a_line_may_be_as_long_as_a_request() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let long = "7 ".repeat(1 << 20);
    let Ran { code, stdout, stderr } = run(&system, &["is_prime"], &format!("7\n{long}\n11\n"))?;
    assert_eq!((code, &*stdout), (Some(1), "true\n\ntrue\n"), "{stderr}");
    assert!(stderr.contains("line 2: invalid: "), "{stderr}");
    let endless = "7".repeat((64 << 20) + (1 << 17));
    let Ran { code, stderr, .. } = run(&system, &["is_prime"], &format!("7\n{endless}\n"))?;
    assert!(code == Some(1) && stderr.contains("after line 1: a line has over 67108864 bytes"), "{stderr}");
    Ok(())
}
