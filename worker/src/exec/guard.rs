//! Sees to it that no program outlives its worker, however that ends: also by `kill -9`, or by a second signal.
//!
//! The guard is a process of its own, another `giostra-worker`. The worker tells it of each process group that it starts and of each that
//! is over, through a pipe; when the pipe ends, so has the worker, and the guard ends what is left. To have the system do that
//! (`PR_SET_PDEATHSIG`) takes unsafe code between fork and exec, keeps `std` from starting programs by `posix_spawn`, and forgets the
//! children's children.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

/// The first argument of a process that is a guard.
pub const GUARD: &str = "--exec-guard";

/// How often it is looked whether groups are gone.
const LOOK: Duration = Duration::from_millis(20);

/// The worker's end of the pipe.
#[derive(Debug)]
pub struct Guard {
    told: Mutex<Told>,
    /// Rings when a group is over.
    over: Condvar,
    /// Held for reading while a process is started and added.
    starting: RwLock<()>,
}

#[derive(Debug)]
struct Told {
    process: Option<Child>,
    pipe: Option<ChildStdin>,
    groups: BTreeSet<i32>,
    /// The processes that somebody waits for: the leaders of the groups until they were waited for.
    leaders: BTreeSet<i32>,
}

impl Guard {
    /// Starts one from this process's own program, which has to call [`is_meant`] and [`watch`]. It will wait for `grace` between
    /// SIGTERM and SIGKILL.
    pub fn start(grace: Duration) -> io::Result<Self> {
        let mut guard = Command::new(std::env::current_exe()?)
            .arg0("giostra-guard")
            .args([GUARD, &grace.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for those before it.
            .process_group(0)
            .spawn()?;
        let pipe = guard.stdin.take();
        let told = Told { process: Some(guard), pipe, groups: BTreeSet::new(), leaders: BTreeSet::new() };
        Ok(Self { told: Mutex::new(told), over: Condvar::new(), starting: RwLock::default() })
    }

    /// Has it end what is left, and waits for that.
    pub fn dismiss(&self) {
        let mut told = self.lock();
        told.pipe = None;
        if let Some(mut guard) = told.process.take() {
            // That it is gone already is just as well.
            let _ = guard.wait();
        }
    }

    /// Starts the leader of a group and adds it. Its status is then no other's: see [`Self::reap_orphans`].
    pub fn start_leader(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        let leader = start()?;
        let group = Pid::from_raw(leader.id() as i32);
        let mut told = self.lock();
        told.groups.insert(group.as_raw());
        told.leaders.insert(group.as_raw());
        told.tell('+', group);
        Ok(leader)
    }

    /// Waits for the leader of a group that was removed.
    pub fn collect(&self, leader: &mut Child) -> Option<ExitStatus> {
        let id = Pid::from_raw(leader.id() as i32);
        // Not under the lock: it may take its time, and keeps its number until it was waited for.
        while let Err(Errno::EINTR) = waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
        let mut told = self.lock();
        let status = leader.wait().ok();
        told.leaders.remove(&id.as_raw());
        status
    }

    /// Waits for those of these children of this process that have exited and that nobody else waits for.
    pub fn reap_orphans(&self, children: &[Pid]) {
        // One that was being started when they were listed has been added afterwards.
        drop(self.starting.write());
        let told = self.lock();
        let own = told.process.as_ref().map(|guard| guard.id() as i32);
        for &child in children {
            if Some(child.as_raw()) != own && !told.leaders.contains(&child.as_raw()) {
                // It may still run.
                let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
            }
        }
    }

    /// A group is over. To be called before its leader is waited for: from then on another process may have its number.
    pub fn remove(&self, group: Pid) {
        let mut told = self.lock();
        told.groups.remove(&group.as_raw());
        told.tell('-', group);
        self.over.notify_all();
    }

    /// Waits until there are none, but no longer than that; whether there are none.
    pub fn wait(&self, limit: Duration) -> bool {
        let waited = self.over.wait_timeout_while(self.lock(), limit, |told| !told.groups.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.groups.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn tell(&mut self, what: char, group: Pid) {
        let Some(pipe) = &mut self.pipe else { return };
        // One write, so that the guard reads whole lines whatever happens here.
        if let Err(error) = pipe.write_all(format!("{what}{group}\n").as_bytes()) {
            log::warn!("the guard is gone ({error}): if this worker is killed, its programs live on");
            self.pipe = None;
        }
    }
}

/// Whether this process was started as a guard.
pub fn is_meant() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == GUARD)
}

/// What a guard does: it keeps account until its stdin ends, and then ends what is left.
pub fn watch() -> io::Result<()> {
    // Only the end of the worker is its end. A service manager sends these to all processes of a service at once.
    let harmless = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().chain(harmless)).thread_block()?;
    // For `ps` and `pkill`: whoever kills all of one name is to leave this one.
    let _ = std::fs::write("/proc/self/comm", "giostra-guard");
    let grace = std::env::args_os().nth(2);
    let grace = grace.as_deref().and_then(OsStr::to_str).and_then(|text| text.parse().ok()).unwrap_or(0);
    let groups = left_by(io::stdin().lock());
    end(groups, Duration::from_millis(grace));
    Ok(())
}

/// What was added and not removed when the input ended.
fn left_by(input: impl BufRead) -> BTreeSet<i32> {
    let mut groups = BTreeSet::new();
    for line in input.lines().map_while(Result::ok) {
        let number = line.get(1..).and_then(|number| number.parse().ok()).filter(|&number| number > 1);
        match (line.get(..1), number) {
            (Some("+"), Some(group)) => _ = groups.insert(group),
            (Some("-"), Some(group)) => _ = groups.remove(&group),
            _ => {}
        }
    }
    groups
}

/// SIGTERM to all; SIGKILL to those that are there after the grace.
fn end(mut groups: BTreeSet<i32>, grace: Duration) {
    let there = |signal: Signal| move |group: &i32| killpg(Pid::from_raw(*group), signal).is_ok();
    let exists = |group: &i32| killpg(Pid::from_raw(*group), None).is_ok();
    groups.retain(there(Signal::SIGTERM));
    let began = Instant::now();
    while !groups.is_empty() && began.elapsed() < grace {
        sleep(LOOK);
        groups.retain(exists);
    }
    groups.retain(there(Signal::SIGKILL));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_and_not_removed_is_left() {
        let said = "+10\n+11\n-10\n+12\nnonsense\n+1\n+-3\n+\n\n-99\n";
        assert_eq!(left_by(said.as_bytes()), BTreeSet::from([11, 12]));
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
        end(all.iter().map(|sh| sh.id() as i32).collect(), Duration::from_millis(50));
        assert!(all.iter_mut().all(|sh| !sh.wait().unwrap().success()));
    }
}
