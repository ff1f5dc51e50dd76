//! Commands of an engine: run to their end, or to a time limit.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use giostra_common::signals::unmasked;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::engine::Fault;

/// How long a command may take, in tests.
#[cfg(test)]
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long the last of its output may be on its way once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The most bytes of its output that are read.
const MAX_OUTPUT: u64 = 16 << 20;

/// The most characters of an error that are told.
const MAX_TOLD: usize = 400;

/// Runs a command with this as its input. Returns what it prints to stdout.
///
/// # Errors
/// If it can't be started, takes longer than `limit`, after which it and its children are killed, or
/// ends with another status than 0: with what it prints to stderr.
pub fn run(program: &str, arguments: &[String], input: &str, limit: Duration) -> Result<String, Fault> {
    let mut command = Command::new(program);
    // Ctrl-C is for this process alone.
    command.args(arguments).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = unmasked(|| command.spawn()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no program {program} in PATH"),
        _ => format!("can't start {program}: {error}"),
    })?;
    let group = Pid::from_raw(child.id().cast_signed());
    let (stdout, stderr) = (read(child.stdout.take())?, read(child.stderr.take())?);
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_string();
        // Not all commands read it.
        spawn(move || drop(stdin.write_all(input.as_bytes())))?;
    }
    let (ended, end) = channel();
    spawn(move || drop(ended.send(child.wait())))?;
    let Ok(status) = end.recv_timeout(limit) else {
        let _ = killpg(group, Signal::SIGKILL);
        return Err(format!("{program} took longer than {limit:?}"));
    };
    // Children that it has left behind may have its output open.
    let text = |output: Receiver<Vec<u8>>| {
        String::from_utf8_lossy(&output.recv_timeout(LAST_WORDS).unwrap_or_default()).into_owned()
    };
    let (said, complained) = (text(stdout), text(stderr));
    match status {
        Ok(status) if status.success() => Ok(said),
        Ok(status) => Err(format!("{program}: {}", told(&complained, &said, status))),
        Err(error) => Err(format!("can't wait for {program}: {error}")),
    }
}

/// Reads an output to its end, in a thread of its own.
fn read(output: Option<impl Read + Send + 'static>) -> Result<Receiver<Vec<u8>>, Fault> {
    let (send, bytes) = channel();
    spawn(move || {
        let mut all = Vec::new();
        // What came before an error is better than nothing.
        let _ = output.map(|output| output.take(MAX_OUTPUT).read_to_end(&mut all));
        let _ = send.send(all);
    })?;
    Ok(bytes)
}

fn spawn(act: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    thread::Builder::new().spawn(act).map(drop).map_err(|error| format!("can't start a thread: {error}"))
}

/// Says what a command that failed has said, on one line.
fn told(stderr: &str, stdout: &str, status: ExitStatus) -> String {
    let said = if stderr.trim().is_empty() { stdout } else { stderr };
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if !line.is_empty() {
        return line.chars().take(MAX_TOLD).collect();
    }
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}, and says nothing"),
        (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sh(script: &str, input: &str, limit: Duration) -> Result<String, Fault> {
        run("sh", &["-c".into(), script.into()], input, limit)
    }

    #[test]
    fn a_command_gets_its_input_and_says_its_output_or_its_error() {
        assert_eq!(sh("cat", "ciao\n", LIMIT).unwrap(), "ciao\n");
        // It does not read its input.
        assert_eq!(sh("echo 1", &"x".repeat(1 << 20), LIMIT).unwrap(), "1\n");
        assert_eq!(sh("echo no such; echo partition >&2; exit 3", "", LIMIT).unwrap_err(), "sh: partition");
        assert_eq!(sh("exit 3", "", LIMIT).unwrap_err(), "sh: ended with status 3, and says nothing");
        assert_eq!(run("no-such", &[], "", LIMIT).unwrap_err(), "there is no program no-such in PATH");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let late = sh("sleep 1000 & echo $! >&2; wait", "", Duration::from_millis(200)).unwrap_err();
        assert_eq!(late, "sh took longer than 200ms");
    }

    #[test]
    fn one_that_leaves_a_child_with_its_output_behind_does_not_hold_this_up() {
        let begun = Instant::now();
        // The child may still say something.
        sh("sleep 60 & echo 1", "", LIMIT).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}
