//! Workers as children of this process: they end with it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use giostra_common::signals::unmasked;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::policy::Stage;
use super::{Engine, Fault, Launch, fresh, quoted};

/// The time after which a worker that does not end is killed: somewhat longer than its `--grace` is by
/// default.
const PATIENCE: Duration = Duration::from_secs(35);

/// Workers on this host.
pub struct Local {
    pub launch: Launch,
    /// Whether the program is Giostra's own, which ends when this process does, however it ends.
    pub ends_with_this: bool,
    pub children: Children,
}

impl Engine for Local {
    fn check(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<(String, Stage)>, Fault> {
        let listed = self.children.list();
        self.children.take_ended();
        Ok(listed)
    }

    fn start(&mut self, count: u32) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let name = fresh(&self.launch.name);
            let mut command = Command::new(&self.launch.program[0]);
            command.args(self.launch.arguments(&name)).stdin(Stdio::null());
            if self.ends_with_this {
                command.arg("--end-with").arg(std::process::id().to_string());
            }
            self.children.start(&name, command)?;
            ids.push(name);
        }
        Ok(ids)
    }

    fn stop(&mut self, ids: &[String]) -> Result<(), Fault> {
        self.children.stop(ids);
        Ok(())
    }

    fn script(&self) -> String {
        format!("# start\n{}\n", self.launch.line(&quoted(&format!("{}-NUMBER", self.launch.name))))
    }

    fn outlives(&self) -> bool {
        false
    }

    fn end(&mut self) {
        self.children.end();
    }
}

/// Children by the names of their workers.
#[derive(Default)]
pub struct Children {
    running: BTreeMap<String, Running>,
    /// Those that have ended, each with its exit status, or none after a signal.
    ended: Vec<(String, Option<i32>)>,
}

struct Running {
    child: Child,
    ending: bool,
    /// Whether it ends when its input does, such as a shell at the other end of ssh. A signal would
    /// end ssh, and with it the connection over which the worker answers.
    ends_with_input: bool,
}

impl Children {
    /// Starts one, in a process group of its own: Ctrl-C is for this process, which ends the others in
    /// order. To be called in the first thread: when that ends, they do.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(&mut self, name: &str, mut command: Command) -> Result<(), Fault> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = unmasked(|| command.process_group(0).spawn());
        let child = child.map_err(|error| format!("can't start {program}: {error}"))?;
        let ends_with_input = child.stdin.is_some();
        self.running.insert(name.into(), Running { child, ending: false, ends_with_input });
        Ok(())
    }

    /// Lists those that have not ended.
    pub fn list(&mut self) -> Vec<(String, Stage)> {
        let Self { running, ended } = self;
        running.retain(|name, running| match running.child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                ended.push((name.clone(), status.code()));
                false
            }
            // One that can't be asked is not ours any more.
            Err(_) => false,
        });
        let stage = |running: &Running| if running.ending { Stage::Ending } else { Stage::Running };
        self.running.iter().map(|(name, running)| (name.clone(), stage(running))).collect()
    }

    /// Returns those that have ended since the last time.
    pub fn take_ended(&mut self) -> Vec<(String, Option<i32>)> {
        std::mem::take(&mut self.ended)
    }

    /// Asks these to finish what they hold and to end.
    pub fn stop(&mut self, names: &[String]) {
        for name in names {
            if let Some(running) = self.running.get_mut(name) {
                running.ending = true;
                drop(running.child.stdin.take());
                // Until it is waited for, nobody else has its id.
                if !running.ends_with_input && matches!(running.child.try_wait(), Ok(None)) {
                    signal(&running.child, Signal::SIGTERM);
                }
            }
        }
    }

    /// Ends all, and waits for them. Those that take too long are killed.
    pub fn end(&mut self) {
        let names: Vec<_> = self.running.keys().cloned().collect();
        self.stop(&names);
        let begun = Instant::now();
        while !self.list().is_empty() {
            if begun.elapsed() > PATIENCE {
                self.running.values().for_each(|running| signal(&running.child, Signal::SIGKILL));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
}
