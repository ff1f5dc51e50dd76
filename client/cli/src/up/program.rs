//! A program of the system: found beside this one, started as a child, heard and ended.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use giostra_common::signals::unmasked;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::record;

/// The variable that tells a `giostra up` that it runs in the background. Nothing else is to have it.
pub const IN_BACKGROUND: &str = "GIOSTRA_UP_IN_BACKGROUND";

/// The longest line that is shown as one, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// How long the last lines of a process that has ended may be on their way.
const LAST_LINES: Duration = Duration::from_millis(500);

/// What happens to a system.
pub enum Event {
    /// When a process has written a line.
    Line(Source, String),
    /// When a process has ended, and can be waited for.
    Ended(Source),
    /// When a signal asks for the end: the first politely, the second at once.
    Stop { at_once: bool },
    /// When the workers that have ended are to be started again.
    Again,
}

/// Which process an event is of: its name, and its id, since there may be another later.
pub type Source = (String, u32);

/// A child that runs, or has not been waited for.
pub struct Program {
    child: Child,
    /// When it was started, in ticks since boot.
    pub started: u64,
}

impl Program {
    /// Starts a program, in a process group of its own: Ctrl-C is for this process, which ends the others
    /// in order. Its lines and its end are sent as events. To be called in the first thread: when that
    /// ends, the programs do.
    ///
    /// # Errors
    /// If it can't be found or started.
    pub fn start(name: &str, program: &str, options: &[OsString], events: &Sender<Event>) -> anyhow::Result<Self> {
        let path = find(program)?;
        let (lines, writer) = io::pipe()?;
        let mut command = Command::new(&path);
        command.args(options).arg("--end-with").arg(std::process::id().to_string());
        command
            .env_remove(IN_BACKGROUND)
            // It is given as an option, unless it is off.
            .env_remove("GIOSTRA_HTTP")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        let child = unmasked(|| command.spawn()).with_context(|| format!("can't start {}", path.display()))?;
        // Otherwise its end of the pipe stays open here.
        drop(command);
        let source = (name.to_string(), child.id());
        // Already over, it is still there until it is waited for; what it said comes as events.
        let started = record::started(child.id()).unwrap_or_default();
        let (to, of) = (events.clone(), source.clone());
        let (reading, is_read) = channel();
        let read = move || {
            read_lines(lines, &of, &to);
            drop(reading);
        };
        thread::Builder::new().name(format!("{name}-lines")).spawn(read)?;
        let to = events.clone();
        thread::Builder::new().name(format!("{name}-end")).spawn(move || wait_for_end(source, &is_read, &to))?;
        Ok(Self { child, started })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. Until it is waited for, nobody else has its id.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid() as i32), signal);
    }

    /// Asks it to finish, also if it is frozen.
    pub fn ask_to_end(&self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
    }

    /// Waits for its end. Returns how it ended, in words, and whether that was in order.
    pub fn wait(mut self) -> (String, bool) {
        self.child.wait().map_or_else(|error| (error.to_string(), false), |status| (in_words(status), status.success()))
    }
}

/// Returns the path of one of the programs: beside this one, or in a folder of `PATH`.
pub fn find(program: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().and_then(|path| path.canonicalize()).context("can't find this program's own file")?;
    let beside = own.parent().unwrap_or(Path::new("/")).join(program);
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program));
    match [beside.clone()].into_iter().chain(in_path).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no {} and none in PATH: install all three programs in one folder", beside.display()),
    }
}

/// Sends the lines of a process until all who could write them have ended.
fn read_lines(lines: impl Read, source: &Source, events: &Sender<Event>) {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_string();
        if events.send(Event::Line(source.clone(), text)).is_err() {
            return;
        }
    }
}

/// Reports the end of a process, which is left to be waited for, behind its last lines.
fn wait_for_end(source: Source, is_read: &Receiver<()>, events: &Sender<Event>) {
    let pid = Pid::from_raw(source.1 as i32);
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
    // Programs that it has started, and that live on, may have the other end of the pipe.
    let _ = is_read.recv_timeout(LAST_LINES);
    let _ = events.send(Event::Ended(source));
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("with status {code}"),
        (None, Some(Ok(signal))) => format!("by {signal}"),
        (None, _) => status.to_string(),
    }
}
