//! Runs that are broken off and gone on with.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Ran, file, map, path, primes, run, seq, signal, wait_until_under_way};

const MANY: u64 = 100_000;

/// The number of lines at a time: this many may be computed twice for each killed run.
const WINDOW: u64 = 256;

/// The same command, killed or interrupted at random times, until it ends by itself. How often that
/// was.
fn until_it_ends(random: &mut StdRng, mut command: impl FnMut() -> Result<Command>) -> Result<u64> {
    for broken in 0.. {
        let mut child = command()?.stderr(Stdio::null()).spawn()?;
        sleep(Duration::from_millis(random.random_range(5..120)));
        let patient = broken == 30;
        if !patient && child.try_wait()?.is_none() {
            signal(&child, if random.random_bool(0.7) { Signal::SIGKILL } else { Signal::SIGINT })?;
        }
        match child.wait()?.code() {
            Some(0) => return Ok(broken),
            Some(130) | None => ensure!(!patient, "it was left alone"),
            code => ensure!(false, "it ended with {code:?}"),
        }
    }
    unreachable!("there are enough numbers")
}

fn to_file(system: &System, args: &[&str], append: bool) -> Result<Command> {
    let mut command = map(system, args)?;
    let out = File::options().create(true).append(append).write(true).truncate(!append).open(path(system, "out"))?;
    command.stdin(File::open(path(system, "in"))?).stdout(out);
    Ok(command)
}

#[test]
fn a_run_that_is_killed_at_any_time_goes_on_without_a_line_lost_doubled_or_computed_again() -> Result<()> {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let window = WINDOW.to_string();
    for (append, flags) in [(true, &[][..]), (false, &[]), (true, &["--unordered", "--number"])] {
        let system = Setup::workers(2).start()?;
        file(&system, "in", &seq(MANY))?;
        let journal = path(&system, "journal");
        let args: Vec<_> =
            ["is_prime", "--journal", &journal, "--window", &window].iter().chain(flags).copied().collect();
        let broken = until_it_ends(&mut random, || to_file(&system, &args, append))?;
        println!("{flags:?}: broken off {broken} times");
        let out = fs::read_to_string(path(&system, "out"))?;
        let expected = primes(MANY);
        if flags.is_empty() {
            ensure!(out == expected, "seed {seed}: {} lines", out.lines().count());
        } else {
            let mut lines: Vec<_> = out.lines().filter_map(|line| line.split_once('\t')).collect();
            lines.sort_by_key(|(number, _)| number.parse::<u64>().unwrap_or(0));
            ensure!(lines.iter().map(|(number, _)| number.parse()).eq((1..=MANY).map(Ok)), "seed {seed}");
            ensure!(lines.into_iter().map(|(_, prime)| prime).eq(expected.lines()), "seed {seed}");
        }
        let asked = system.audit()?.counts.accepted;
        ensure!(asked <= MANY + broken * WINDOW, "seed {seed}: {asked} were asked, {broken} times broken off");
    }
    Ok(())
}

#[test]
fn a_finished_run_prints_everything_again_and_submits_nothing() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let journal = path(&system, "journal");
    let input = "1 1\n1 0\n\n9 3\n";
    let first = run(&system, &["div", "--journal", &journal], input)?;
    assert_eq!((first.code, &*first.stdout), (Some(1), "1\n\n\n3\n"));
    system.kill_broker()?;
    let failed = path(&system, "failed");
    let again = run(&system, &["div", "--journal", &journal, "--failed", &failed], input)?;
    assert_eq!((again.code, &again.stdout), (Some(1), &first.stdout), "{again:?}");
    assert!(again.stderr.contains("; 4 before, 2 of them failed") && !again.stderr.contains("line 2"), "{again:?}");
    assert_eq!(fs::read_to_string(&failed)?, "1 0\n\n");
    // Input may have been appended.
    system.start_broker()?;
    let more = run(&system, &["div", "--journal", &journal], &format!("{input}8 2\n"))?;
    assert_eq!((more.code, &*more.stdout), (Some(1), "1\n\n\n3\n4\n"));
    Ok(())
}

#[test]
fn a_journal_of_another_run_is_refused() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let journal = path(&system, "journal");
    assert_eq!(run(&system, &["is_prime", "--journal", &journal], &seq(10))?.code, Some(0));
    let other_line = seq(10).replace("5\n", "55\n");
    for (args, input, why) in [
        (&["fib"][..], &seq(10), "its operation was \"is_prime\", and is now \"fib\""),
        (&["is_prime", "--pool", "other"], &seq(10), "its pool was"),
        (&["is_prime", "--json"], &seq(10), "its json was false"),
        (&["is_prime"], &other_line, "line 5 of the input is not the one that the journal knows"),
        (&["is_prime"], &seq(7), "the input ends after line 7, and the journal knows line"),
    ] {
        let args: Vec<_> = args.iter().chain(&["--journal", &journal]).copied().collect();
        let Ran { code, stderr, .. } = run(&system, &args, input)?;
        assert!(code == Some(1) && stderr.contains(why), "{args:?}: {stderr}");
    }
    // An output that has been written to since is left alone.
    file(&system, "in", &seq(10))?;
    let journal = path(&system, "second");
    let args = ["is_prime", "--journal", &journal];
    assert_eq!(to_file(&system, &args, true)?.output()?.status.code(), Some(0));
    let out = path(&system, "out");
    fs::write(&out, fs::read_to_string(&out)? + "something else\n")?;
    let output = to_file(&system, &args, true)?.output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert!(
        output.status.code() == Some(1) && stderr.contains("stdout holds more results than the journal"),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(&out)?, primes(10) + "something else\n");
    // Nor is it if it is as long as it was, or shorter.
    for altered in [primes(10).replacen("false", "FALSE", 1), primes(10).replacen("false", "FALSE", 1)[..20].into()] {
        fs::write(&out, &altered)?;
        let output = to_file(&system, &args, true)?.output()?;
        let stderr = String::from_utf8(output.stderr)?;
        assert!(output.status.code() == Some(1) && stderr.contains("stdout holds other results"), "{stderr}");
        assert_eq!(fs::read_to_string(&out)?, altered);
    }
    Ok(())
}

#[test]
fn a_journal_with_a_changed_result_is_refused_before_anything_is_printed() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let journal = path(&system, "journal");
    let args = ["fib", "--journal", &journal];
    assert_eq!(run(&system, &args, "10\n20\n30\n")?.stdout, "55\n6765\n832040\n");
    let whole = fs::read_to_string(&journal)?;
    fs::write(&journal, whole.replace("832040", "832041"))?;
    let Ran { code, stdout, stderr } = run(&system, &args, "10\n20\n30\n")?;
    assert!(code == Some(1) && stdout.is_empty() && stderr.contains("is damaged"), "{stdout:?} {stderr}");
    // As it says: what is before is good.
    let cut = whole.lines().take(3).map(|line| line.len() + 1).sum::<usize>();
    assert!(stderr.contains(&format!("truncate -s {cut}")), "{stderr}");
    fs::write(&journal, &whole[..cut])?;
    let Ran { code, stdout, stderr } = run(&system, &args, "10\n20\n30\n")?;
    assert_eq!((code, &*stdout), (Some(0), "55\n6765\n832040\n"), "{stderr}");
    Ok(())
}

#[test]
fn a_journal_remembers_each_file_that_its_output_went_to() -> Result<()> {
    let system = Setup::workers(1).start()?;
    file(&system, "in", &seq(10))?;
    let journal = path(&system, "journal");
    for name in ["a", "b", "a", "b"] {
        let mut command = map(&system, &["is_prime", "--journal", &journal])?;
        let out = File::options().create(true).append(true).open(path(&system, name))?;
        let status = command.stdin(File::open(path(&system, "in"))?).stdout(out).status()?;
        ensure!(status.success() && fs::read_to_string(path(&system, name))? == primes(10), "{name}");
    }
    Ok(())
}

#[test]
fn a_file_with_two_purposes_is_refused_and_kept() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let [journal, out] = ["journal", "out"].map(|name| path(&system, name));
    file(&system, "in", "1 0\n6 3\n")?;
    let args = ["div", "--journal", &journal];
    assert_eq!(to_file(&system, &args, true)?.output()?.status.code(), Some(1));
    let before = [fs::read_to_string(&journal)?, fs::read_to_string(&out)?];
    for (flags, why) in [
        (["--journal", &journal, "--failed", &journal], "is the journal;"),
        (["--journal", &journal, "--failed", &out], "is what stdout writes;"),
        (["--failed", &journal, "--journal", &out], "is what stdout writes;"),
    ] {
        let args: Vec<_> = ["div"].iter().chain(&flags).copied().collect();
        let output = to_file(&system, &args, true)?.output()?;
        let stderr = String::from_utf8(output.stderr)?;
        assert!(output.status.code() == Some(1) && stderr.contains(why), "{flags:?}: {stderr}");
        assert_eq!([fs::read_to_string(&journal)?, fs::read_to_string(&out)?], before, "{flags:?}");
    }
    Ok(())
}

#[test]
fn ctrl_c_ends_a_run_with_what_it_has_and_says_how_to_go_on() -> Result<()> {
    let system = Setup::workers(1).start()?;
    file(&system, "in", &seq(50_000_000))?;
    let journal = path(&system, "journal");
    for (args, hint) in [
        (&["is_prime"][..], "with --journal it could resume"),
        (&["is_prime", "--journal", &journal], "the same command resumes"),
    ] {
        let before = system.count(" reply worker-");
        let child = to_file(&system, args, false)?.spawn()?;
        wait_until_under_way(&system, before + 20)?;
        signal(&child, Signal::SIGINT)?;
        let output = child.wait_with_output()?;
        let stderr = String::from_utf8(output.stderr)?;
        assert!(output.status.code() == Some(130) && stderr.contains(hint), "{stderr}");
        assert!(stderr.ends_with("giostra: interrupted\n"), "{stderr}");
        let out = fs::read_to_string(path(&system, "out"))?;
        assert!(!out.is_empty() && primes(out.lines().count() as u64) == out);
    }
    system.wait_for_lines(" client-left ", 2)?;
    Ok(())
}

#[test]
fn a_second_run_with_the_same_journal_at_the_same_time_is_refused() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let journal = path(&system, "journal");
    let args = ["is_prime", "--journal", &journal];
    let mut first = map(&system, &args)?.spawn()?;
    wait_for("the first has it", || fs::metadata(&journal).is_ok_and(|file| file.len() > 0).then_some(()))?;
    let Ran { code, stderr, .. } = run(&system, &args, "1\n")?;
    assert!(code == Some(1) && stderr.contains("another run is using the journal"), "{stderr}");
    drop(first.stdin.take());
    assert_eq!(first.wait()?.code(), Some(0));
    Ok(())
}
