//! Two machines with keys, by the commands of docs/cluster.md.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use giostra_tests::Network;
use giostra_tests::process::{Process, binary, wait_for};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Copies to the folder of the other host.
const SCP: &str = r#"scp() { local to="${!#}"; cp "${@:1:$#-1}" "../${to%%:*}/"; }"#;

/// What the page has one do: a host, and the commands there.
fn steps(page: &str) -> Vec<(String, String)> {
    let section = page.split("\n## ").find(|section| section.starts_with("Two machines\n")).unwrap_or_default();
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut host = None;
    for line in section.lines() {
        if let Some(command) = line.strip_prefix("    ") {
            if let Some(host) = host.take() {
                steps.push((host, String::new()));
            }
            steps.last_mut().expect("a host stands before").1 += &format!("{command}\n");
        } else if line.ends_with(':') {
            host = line.split('`').nth(1).map(String::from);
        }
    }
    steps
}

pub fn two_machines_work_together_by_the_commands_of_the_page() -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cluster.md");
    let steps = steps(&fs::read_to_string(page)?);
    ensure!(steps.len() == 5, "{steps:?}");
    let (folder, network) = (TempDir::new()?, Network::of(&["compute", "node"])?);
    let programs = binary("giostra")?.parent().context("no folder")?.display().to_string();
    for host in ["compute", "node"] {
        fs::create_dir(folder.path().join(host))?;
    }
    let mut shells = Shells(Vec::new());
    for (number, (host, script)) in steps.iter().enumerate() {
        // There is no name service.
        let script = script.replace("tcp://compute:", &format!("tcp://{}:", network.address("compute")));
        let mut bash = network.command(host, "bash");
        bash.args(["-euc", &format!("{SCP}\n{script}")]);
        bash.env("PATH", format!("{programs}:{}", std::env::var("PATH")?)).process_group(0);
        bash.current_dir(folder.path().join(host));
        shells.0.push(Process::spawn(folder.path(), &format!("step-{number}"), bash)?);
        let shell = shells.last()?;
        let status = shell.wait()?;
        ensure!(status.success(), "{script}: {}", shell.stderr());
        if script.contains("giostra-broker") {
            wait_for("the broker listens", || shell.stderr().contains(" listening ").then_some(()))?;
        }
    }
    let said = shells.last()?.stdout();
    println!("{said}");
    ensure!(said.contains("3000, all of them"), "{said}");
    shells.end();
    wait_for("the worker has left", || shells.0.iter().any(|shell| shell.stderr().contains("left")).then_some(()))
}

/// The shells that ran the commands. Dropped, what they have left in the background is ended.
struct Shells(Vec<Process>);

impl Shells {
    fn last(&mut self) -> Result<&mut Process> {
        self.0.last_mut().context("no shell")
    }

    fn end(&self) {
        for shell in &self.0 {
            let _ = killpg(Pid::from_raw(shell.id().cast_signed()), Signal::SIGTERM);
        }
    }
}

impl Drop for Shells {
    fn drop(&mut self) {
        self.end();
    }
}
