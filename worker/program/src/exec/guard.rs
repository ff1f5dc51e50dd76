//! The guard: a process that ends the worker's programs when the worker ends without doing so, as by
//! `kill -9` or a second signal.
//!
//! The guard is another process of `giostra-worker`. Through a pipe, the worker reports to it each
//! process group that is started, and each that has ended. The pipe ends with the worker, and then
//! the guard ends the groups that are left.
//!
//! A worker that is killed between the start of a program and the report has not reported it. So
//! each program has its worker's mark in its environment (`MARK`), which the program's children
//! inherit. After an end without [`Guard::dismiss`], the guard also ends the groups of all processes
//! of its session that bear the mark. A forked process holds the write end of the pipe until exec
//! closes it. So when the pipe ends, no program is about to be started any more.
//!
//! Two other ways were considered: the system ends the programs (`PR_SET_PDEATHSIG`), or each
//! process reports its own id before exec. Both take unsafe code between fork and exec, and keep
//! `std` from starting programs by `posix_spawn`. The former also ends programs with the thread that
//! started them, and does not reach the children's children.

mod marked;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use giostra_common::signals::unmasked;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

/// The first argument of a process that is to be a guard.
pub const GUARD: &str = "--exec-guard";

/// The environment variable that holds the worker's mark, a random number, in all its programs.
const MARK: &str = "GIOSTRA_GUARD";

/// The time between two checks whether the groups have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The pause after the system could not start another guard.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// When marked processes are searched for, in milliseconds after the worker's end. More than once,
/// because exec closes the pipe a moment before the environment can be read.
const SEARCHES: [u64; 7] = [0, 20, 60, 140, 300, 620, 1000];

/// The last line of a worker that ends in order: it has reported all its programs.
const DISMISSED: &str = ".";

/// The worker's side of its guard. A guard that is killed is replaced.
#[derive(Debug)]
pub struct Guard {
    grace: Duration,
    /// The value of [`MARK`] in this worker's programs.
    mark: String,
    state: Mutex<State>,
    /// Notified when a leader was waited for.
    reaped: Condvar,
    /// Locked for reading while a process is started and added.
    starting: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Child>,
    /// `None` once a write has failed, until the guard is replaced.
    pipe: Option<ChildStdin>,
    groups: BTreeSet<i32>,
    /// The leaders of the groups, until they were waited for.
    leaders: BTreeSet<i32>,
}

impl Guard {
    /// Starts a guard, and a thread that replaces it. The guard runs this process's own program, whose
    /// `main` has to call [`is_meant`] and [`watch`]. It waits for `grace` between SIGTERM and
    /// SIGKILL.
    ///
    /// # Errors
    /// If the system starts no process or no thread.
    pub fn start(grace: Duration) -> io::Result<Arc<Self>> {
        let mark = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let (state, reaped, starting) = (Mutex::default(), Condvar::new(), RwLock::default());
        let guard = Arc::new(Self { grace, mark, state, reaped, starting });
        guard.lock().adopt(guard.spawn()?)?;
        let replacing = Arc::clone(&guard);
        thread::Builder::new().name("guard".into()).spawn(move || replacing.replace_until_dismissed())?;
        Ok(guard)
    }

    /// Starts the process of a guard.
    fn spawn(&self) -> io::Result<Child> {
        Command::new(std::env::current_exe()?)
            .arg0("giostra-guard")
            .args([GUARD, &self.grace.as_millis().to_string(), &self.mark])
            // A worker that another worker runs bears the mark of that one's guard, which must not end this guard.
            .env_remove(MARK)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C does not reach a group of its own.
            .process_group(0)
            .spawn()
    }

    /// Starts another guard each time that one ends without having been
    /// [dismissed](Self::dismiss).
    fn replace_until_dismissed(&self) {
        let mut failed = false;
        loop {
            let Some(id) = self.lock().process.as_ref().map(|guard| Pid::from_raw(guard.id() as i32)) else { return };
            // It keeps its process id until it is waited for under the lock.
            wait_unreaped(id);
            let mut state = self.lock();
            let Some(gone) = &mut state.process else { return };
            if !matches!(gone.try_wait(), Ok(None)) {
                match self.spawn().and_then(|next| state.adopt(next)) {
                    Ok(()) => {
                        failed = false;
                        log::warn!("the guard was killed, another one was started");
                    }
                    Err(_) if failed => {}
                    Err(error) => {
                        failed = true;
                        log::warn!(
                            "the guard is gone ({error}): until there is another, programs outlive a killed worker"
                        );
                    }
                }
            }
            drop(state);
            if failed {
                sleep(RETRY_PAUSE);
            }
        }
    }

    /// Has the guard end the groups that are left, and waits for that.
    pub fn dismiss(&self) {
        let mut state = self.lock();
        state.report(DISMISSED);
        state.pipe = None;
        if let Some(mut guard) = state.process.take() {
            // An error means that it has ended already.
            let _ = guard.wait();
        }
    }

    /// Starts a program with the mark, as the leader of a process group, and adds that. From then on
    /// [`Self::reap_orphans`] leaves its status alone.
    ///
    /// # Errors
    /// If the program can't be started.
    pub fn start_leader(&self, command: &mut Command) -> io::Result<Child> {
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        command.env(MARK, &self.mark).process_group(0);
        let leader = unmasked(|| command.spawn())?;
        let group = Pid::from_raw(leader.id() as i32);
        let mut state = self.lock();
        state.groups.insert(group.as_raw());
        state.leaders.insert(group.as_raw());
        state.report(&format!("+{group}"));
        Ok(leader)
    }

    /// Waits for the leader of a group that was removed, and returns its status.
    pub fn collect(&self, leader: &mut Child) -> Option<ExitStatus> {
        let id = Pid::from_raw(leader.id() as i32);
        // Without the lock, since it may take long. It keeps its process id meanwhile.
        wait_unreaped(id);
        let mut state = self.lock();
        let status = leader.wait().ok();
        state.leaders.remove(&id.as_raw());
        self.reaped.notify_all();
        status
    }

    /// Waits for those of these children of this process that have exited, except for leaders, whose
    /// status [`Self::collect`] returns.
    pub fn reap_orphans(&self, children: &[Pid]) {
        // A leader that was being started when the children were listed has been added after this.
        drop(self.starting.write());
        let state = self.lock();
        let own = state.process.as_ref().map(|guard| guard.id() as i32);
        for &child in children {
            if Some(child.as_raw()) != own && !state.leaders.contains(&child.as_raw()) {
                // It may still be running.
                let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
            }
        }
    }

    /// Removes a group that has ended. To be called before its leader is waited for: after that
    /// another process may have its id.
    pub fn remove(&self, group: Pid) {
        let mut state = self.lock();
        state.groups.remove(&group.as_raw());
        state.report(&format!("-{group}"));
    }

    /// Waits for at most `limit` until all leaders were waited for, and returns whether they were. A
    /// removed group was killed, but takes some time to end on a busy machine.
    pub fn wait(&self, limit: Duration) -> bool {
        let waited = self.reaped.wait_timeout_while(self.lock(), limit, |state| !state.leaders.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.leaders.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn report(&mut self, line: &str) {
        // One write, so that the guard reads whole lines whatever happens here. If it is gone, the next one
        // learns of all groups.
        if self.pipe.as_mut().is_some_and(|pipe| pipe.write_all(format!("{line}\n").as_bytes()).is_err()) {
            self.pipe = None;
        }
    }

    /// Makes this process the guard, and reports all groups to it.
    fn adopt(&mut self, mut guard: Child) -> io::Result<()> {
        self.pipe = guard.stdin.take();
        // Kept before anything can fail, so that it is waited for in any case.
        self.process = Some(guard);
        let Some(pipe) = &mut self.pipe else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let known: String = self.groups.iter().map(|group| format!("+{group}\n")).collect();
        pipe.write_all(known.as_bytes())
    }
}

/// Waits until this child has exited, and leaves its status to another call.
fn wait_unreaped(child: Pid) {
    while let Err(Errno::EINTR) = waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
}

/// Whether this process was started to be a guard.
pub fn is_meant() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == GUARD)
}

/// Runs the guard: keeps account of the groups until stdin ends, and then ends those that are left.
///
/// # Errors
/// If signals can't be blocked.
pub fn watch() -> io::Result<()> {
    // The guard ends only after the worker. A service manager sends these signals to all processes of a
    // service at once.
    let harmless = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().chain(harmless)).thread_block()?;
    // For `ps` and `pkill`: killing all processes named giostra-worker leaves the guard alone.
    let _ = std::fs::write("/proc/self/comm", "giostra-guard");
    let argument = |n| std::env::args_os().nth(n);
    let grace = argument(2).as_deref().and_then(OsStr::to_str).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (groups, dismissed) = left_by(io::stdin().lock());
    let mark = argument(3).filter(|_| !dismissed);
    end(groups, Duration::from_millis(grace), || mark.as_deref().map(|mark| marked::groups(MARK, mark)));
    Ok(())
}

/// Returns the groups that were added and not removed when the input ended, and whether the worker
/// had reported all of them.
fn left_by(input: impl BufRead) -> (BTreeSet<i32>, bool) {
    let mut groups = BTreeSet::new();
    let mut dismissed = false;
    for line in input.lines().map_while(Result::ok) {
        dismissed |= line == DISMISSED;
        let number = line.get(1..).and_then(|number| number.parse().ok()).filter(|&number| number > 1);
        match (line.get(..1), number) {
            (Some("+"), Some(group)) => _ = groups.insert(group),
            (Some("-"), Some(group)) => _ = groups.remove(&group),
            _ => {}
        }
    }
    (groups, dismissed)
}

/// Sends SIGTERM to these groups and to those that `search` finds, and SIGKILL to each that is left
/// after the grace. Calls `search` at each of [`SEARCHES`] until it returns `None`.
fn end(known: BTreeSet<i32>, grace: Duration, mut search: impl FnMut() -> Option<BTreeSet<i32>>) {
    let send = |group: i32, signal: Option<Signal>| killpg(Pid::from_raw(group), signal).is_ok();
    let began = Instant::now();
    let mut searches = SEARCHES.iter().map(|&after| Duration::from_millis(after)).peekable();
    // Each group, and when SIGTERM was sent to it.
    let mut ending = BTreeMap::new();
    let mut found = known;
    loop {
        while searches.next_if(|&after| began.elapsed() >= after).is_some() {
            match search() {
                Some(more) => found.extend(more),
                None => searches.by_ref().for_each(drop),
            }
        }
        for group in std::mem::take(&mut found) {
            ending.entry(group).or_insert_with(|| {
                send(group, Some(Signal::SIGTERM));
                Instant::now()
            });
        }
        ending.retain(|&group, since| {
            if since.elapsed() < grace {
                return send(group, None);
            }
            send(group, Some(Signal::SIGKILL));
            false
        });
        if ending.is_empty() && searches.peek().is_none() {
            return;
        }
        sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_were_added_and_not_removed_are_left() {
        let lines = "+10\n+11\n-10\n+12\nnonsense\n+1\n+-3\n+\n\n-99\n";
        assert_eq!(left_by(lines.as_bytes()), (BTreeSet::from([11, 12]), false));
        assert_eq!(left_by("+10\n.\n".as_bytes()), (BTreeSet::from([10]), true));
    }

    #[test]
    fn groups_are_ended_even_if_they_ignore_sigterm() {
        let sleeper = |script: &str| {
            let mut sh =
                Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
            // After its first byte the script is running.
            io::Read::read_exact(sh.stdout.as_mut().unwrap(), &mut [0]).unwrap();
            sh
        };
        let mut all = [sleeper("echo; sleep 60"), sleeper("trap '' TERM; echo; while :; do sleep 60; done")];
        end(all.iter().map(|sh| sh.id() as i32).collect(), Duration::from_millis(50), || None);
        assert!(all.iter_mut().all(|sh| !sh.wait().unwrap().success()));
    }
}
