//! Sees to it that no program outlives its worker, however that ends: also by `kill -9`, or by a
//! second signal.
//!
//! The guard is a process of its own, another `giostra-worker`. The worker tells it of each process
//! group that it starts and of each that is over, through a pipe; when the pipe ends, so has the
//! worker, and the guard ends what is left.
//!
//! A worker that is killed between the start of a program and the word to the guard has told
//! nothing of it. So each program has its worker's mark in its environment ([`MARK`]), which the
//! program's children inherit, and after an end without [`Guard::dismiss`] the guard also ends the
//! groups of all processes of its session that bear the mark. Until a process that was forked has
//! become the program, it holds the write end of the pipe, since that is closed by exec: when the
//! pipe ends, nothing is about to be started any more.
//!
//! To have the system end the programs (`PR_SET_PDEATHSIG`), or to have each process tell its own
//! number before exec, takes unsafe code between fork and exec and keeps `std` from starting
//! programs by `posix_spawn`; the former also ends them with the thread that started them, and
//! forgets the children's children.

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

/// The first argument of a process that is a guard.
pub const GUARD: &str = "--exec-guard";

/// The environment variable of every program that holds its worker's mark, a random number.
const MARK: &str = "GIOSTRA_GUARD";

/// How often it is looked whether groups are gone.
const LOOK: Duration = Duration::from_millis(20);

/// The pause before another guard is tried after the system has started none.
const RETRY: Duration = Duration::from_secs(1);

/// When marked processes are looked for, in milliseconds after the worker's end. More than once,
/// because exec closes the pipe a moment before the environment can be seen.
const SEARCHES: [u64; 7] = [0, 20, 60, 140, 300, 620, 1000];

/// What the worker says last when it ends in order: no program of it runs that the guard does not
/// know.
const DISMISSED: &str = ".";

/// The worker's side of its guard. A guard that somebody kills is replaced.
#[derive(Debug)]
pub struct Guard {
    launch: Launch,
    state: Mutex<State>,
    /// Rings when a leader was waited for.
    over: Condvar,
    /// Held for reading while a process is started and added.
    starting: RwLock<()>,
}

/// How guards are started.
#[derive(Debug)]
struct Launch {
    grace: Duration,
    /// The value of [`MARK`] in this worker's programs.
    mark: String,
}

impl Launch {
    fn spawn(&self) -> io::Result<Child> {
        Command::new(std::env::current_exe()?)
            .arg0("giostra-guard")
            .args([GUARD, &self.grace.as_millis().to_string(), &self.mark])
            // A worker that is a program itself bears the mark of another guard, which is not to end this one before
            // its time.
            .env_remove(MARK)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for those before it.
            .process_group(0)
            .spawn()
    }
}

#[derive(Debug, Default)]
struct State {
    process: Option<Child>,
    /// `None` once a write has failed, until the guard is replaced.
    pipe: Option<ChildStdin>,
    groups: BTreeSet<i32>,
    /// The processes that somebody waits for: the leaders of the groups until they were waited for.
    leaders: BTreeSet<i32>,
}

impl Guard {
    /// Starts one from this process's own program, which has to call [`is_meant`] and [`watch`],
    /// and a thread that replaces it. It will wait for `grace` between SIGTERM and SIGKILL.
    ///
    /// # Errors
    /// If the system starts no process or no thread.
    pub fn start(grace: Duration) -> io::Result<Arc<Self>> {
        let mark = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let launch = Launch { grace, mark };
        let mut state = State::default();
        state.adopt(launch.spawn()?)?;
        let guard =
            Arc::new(Self { launch, state: Mutex::new(state), over: Condvar::new(), starting: RwLock::default() });
        let replacing = Arc::clone(&guard);
        thread::Builder::new().name("guard".into()).spawn(move || replacing.replace_until_dismissed())?;
        Ok(guard)
    }

    /// Waits for the guard's end again and again, and starts another one each time that it was not
    /// [dismissed](Self::dismiss).
    fn replace_until_dismissed(&self) {
        let mut failed = false;
        loop {
            let Some(id) = self.lock().process.as_ref().map(|guard| Pid::from_raw(guard.id() as i32)) else { return };
            // It keeps its number until it is waited for under the lock.
            wait_unreaped(id);
            let mut state = self.lock();
            let Some(gone) = &mut state.process else { return };
            if !matches!(gone.try_wait(), Ok(None)) {
                match self.launch.spawn().and_then(|next| state.adopt(next)) {
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
                sleep(RETRY);
            }
        }
    }

    /// Has it end what it knows to be left, and waits for that.
    pub fn dismiss(&self) {
        let mut state = self.lock();
        state.say(DISMISSED);
        state.pipe = None;
        if let Some(mut guard) = state.process.take() {
            // That it is gone already is just as well.
            let _ = guard.wait();
        }
    }

    /// Starts a program with its mark as the leader of a group, and adds that. Its status is then
    /// no other's: see [`Self::reap_orphans`].
    ///
    /// # Errors
    /// If the program can't be started.
    pub fn start_leader(&self, command: &mut Command) -> io::Result<Child> {
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        command.env(MARK, &self.launch.mark).process_group(0);
        let leader = unmasked(|| command.spawn())?;
        let group = Pid::from_raw(leader.id() as i32);
        let mut state = self.lock();
        state.groups.insert(group.as_raw());
        state.leaders.insert(group.as_raw());
        state.tell('+', group);
        Ok(leader)
    }

    /// Waits for the leader of a group that was removed.
    pub fn collect(&self, leader: &mut Child) -> Option<ExitStatus> {
        let id = Pid::from_raw(leader.id() as i32);
        // Not under the lock: it may take its time, and keeps its number until it was waited for.
        wait_unreaped(id);
        let mut state = self.lock();
        let status = leader.wait().ok();
        state.leaders.remove(&id.as_raw());
        self.over.notify_all();
        status
    }

    /// Waits for those of these children of this process that have exited and that nobody else
    /// waits for.
    pub fn reap_orphans(&self, children: &[Pid]) {
        // One that was being started when they were listed has been added afterwards.
        drop(self.starting.write());
        let state = self.lock();
        let own = state.process.as_ref().map(|guard| guard.id() as i32);
        for &child in children {
            if Some(child.as_raw()) != own && !state.leaders.contains(&child.as_raw()) {
                // It may still run.
                let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
            }
        }
    }

    /// A group is over. To be called before its leader is waited for: from then on another process
    /// may have its number.
    pub fn remove(&self, group: Pid) {
        let mut state = self.lock();
        state.groups.remove(&group.as_raw());
        state.tell('-', group);
    }

    /// Waits until all leaders were waited for, but no longer than that; whether they were. That a
    /// group was removed is not enough: it was killed by then, but takes its time to die on a
    /// busy machine.
    pub fn wait(&self, limit: Duration) -> bool {
        let waited = self.over.wait_timeout_while(self.lock(), limit, |state| !state.leaders.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.leaders.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, what: char, group: Pid) {
        self.say(&format!("{what}{group}"));
    }

    fn say(&mut self, line: &str) {
        // One write, so that the guard reads whole lines whatever happens here. If it is gone, the next one
        // is told of all groups.
        if self.pipe.as_mut().is_some_and(|pipe| pipe.write_all(format!("{line}\n").as_bytes()).is_err()) {
            self.pipe = None;
        }
    }

    /// Makes this process the guard and tells it of all groups.
    fn adopt(&mut self, mut guard: Child) -> io::Result<()> {
        self.pipe = guard.stdin.take();
        // Known before anything fails, so that it is waited for in any case.
        self.process = Some(guard);
        let Some(pipe) = &mut self.pipe else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let known: String = self.groups.iter().map(|group| format!("+{group}\n")).collect();
        pipe.write_all(known.as_bytes())
    }
}

/// Waits until this child has exited, and leaves its status to another wait.
fn wait_unreaped(child: Pid) {
    while let Err(Errno::EINTR) = waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
}

/// Whether this process was started as a guard.
pub fn is_meant() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == GUARD)
}

/// What a guard does: it keeps account until its stdin ends, and then ends what is left.
pub fn watch() -> io::Result<()> {
    // Only the end of the worker is its end. A service manager sends these to all processes of a
    // service at once.
    let harmless = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().chain(harmless)).thread_block()?;
    // For `ps` and `pkill`: whoever kills all of one name is to leave this one.
    let _ = std::fs::write("/proc/self/comm", "giostra-guard");
    let argument = |n| std::env::args_os().nth(n);
    let grace = argument(2).as_deref().and_then(OsStr::to_str).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (groups, dismissed) = left_by(io::stdin().lock());
    let mark = argument(3).filter(|_| !dismissed);
    end(groups, Duration::from_millis(grace), || mark.as_deref().map(|mark| marked::groups(MARK, mark)));
    Ok(())
}

/// What was added and not removed when the input ended, and whether the worker said that this is
/// all.
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

/// SIGTERM to these groups and to those that `search` finds, which is asked at each of [`SEARCHES`]
/// unless it says `None`: then no more. SIGKILL to each that is there after the grace.
fn end(known: BTreeSet<i32>, grace: Duration, mut search: impl FnMut() -> Option<BTreeSet<i32>>) {
    let send = |group: i32, signal: Option<Signal>| killpg(Pid::from_raw(group), signal).is_ok();
    let began = Instant::now();
    let mut searches = SEARCHES.iter().map(|&after| Duration::from_millis(after)).peekable();
    // Each since when it knows.
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
        sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_and_not_removed_is_left() {
        let said = "+10\n+11\n-10\n+12\nnonsense\n+1\n+-3\n+\n\n-99\n";
        assert_eq!(left_by(said.as_bytes()), (BTreeSet::from([11, 12]), false));
        assert_eq!(left_by("+10\n.\n".as_bytes()), (BTreeSet::from([10]), true));
    }

    #[test]
    fn groups_are_ended_also_those_that_do_not_want_to() {
        let sleeper = |script: &str| {
            let mut sh =
                Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
            // Its first byte: from then on it does what the script says.
            io::Read::read_exact(sh.stdout.as_mut().unwrap(), &mut [0]).unwrap();
            sh
        };
        let mut all = [sleeper("echo; sleep 60"), sleeper("trap '' TERM; echo; while :; do sleep 60; done")];
        end(all.iter().map(|sh| sh.id() as i32).collect(), Duration::from_millis(50), || None);
        assert!(all.iter_mut().all(|sh| !sh.wait().unwrap().success()));
    }
}
