//! The reaper: waits for orphans where this is process 1, as in a container. Elsewhere another
//! process 1 does.
//!
//! The system makes process 1 the parent of orphans, such as the background jobs of a script. An
//! orphan that has ended stays in the process table until it is waited for, and when the table is
//! full no program starts any more.

use std::fs;
use std::io;
use std::process;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::guard::Guard;

/// The pause after each look, and so the longest time that an orphan stays.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the thread that waits for orphans, if this is process 1. The thread ends with the process.
///
/// # Errors
/// If the system starts no thread.
pub fn start(guard: &Arc<Guard>) -> io::Result<()> {
    if process::id() != 1 {
        return Ok(());
    }
    let guard = Arc::clone(guard);
    let reap = move || {
        loop {
            // Sleeps until any child has exited.
            let first =
                waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).ok().and_then(|status| status.pid());
            let listed = children();
            guard.reap_orphans(&if listed.is_empty() { first.into_iter().collect() } else { listed });
            sleep(PAUSE);
        }
    };
    thread::Builder::new().name("reaper".into()).spawn(reap).map(drop)
}

/// Returns the children of this process; none where `/proc` does not list them.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_children_of_this_process_are_listed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let there = children().contains(&Pid::from_raw(child.id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(there || !fs::exists("/proc/self/task").unwrap());
    }
}
