//! Process 1 of a container: waits for orphans, which the system hands to it and which nobody else
//! would wait for.
//!
//! A background job of a script and what is killed with its process group become such orphans. Each
//! that nobody waits for stays in the table of processes, until a limit on their number lets no
//! program start any more. Elsewhere process 1 is not ours and does this.

use std::fs;
use std::io;
use std::process;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::guard::Guard;

/// The pause after each look: so long an orphan may stay.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the thread that waits for orphans, if this is process 1. It ends with the process.
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
            // Sleeps until any child has exited, of whoever it is.
            let first =
                waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).ok().and_then(|status| status.pid());
            let listed = children();
            guard.reap_orphans(&if listed.is_empty() { first.into_iter().collect() } else { listed });
            sleep(PAUSE);
        }
    };
    thread::Builder::new().name("reaper".into()).spawn(reap).map(drop)
}

/// The children of this process; none if there is no such file in `/proc`.
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
