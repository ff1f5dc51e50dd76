//! A Slurm of a test's own: `munged`, `slurmctld` and a `slurmd` for each node, real ones, each on a host
//! of a [`Network`]. Knows nothing of brokers and workers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Network;
use crate::process::{Process, wait_for};
use crate::trials;

/// How often a cluster is looked at.
pub const LOOK: Duration = Duration::from_millis(200);

/// Whether this machine has one.
pub fn available() -> Result<()> {
    crate::network::available()?;
    for program in ["slurmctld", "slurmd", "sbatch", "squeue", "scancel"] {
        trials::program(program, "slurm-wlm")?;
    }
    trials::program("munged", "munge").map(drop)
}

/// A cluster. Dropped, its jobs are cancelled, and its daemons killed.
#[derive(Debug)]
pub struct Slurm {
    folder: PathBuf,
    /// The namespace of the host of `slurmctld`.
    control: String,
    _munged: Process,
    _slurmctld: Process,
    _slurmd: Vec<Process>,
}

impl Slurm {
    /// Starts a cluster in `folder`: `slurmctld` on the host `control`, and a node of `cpus` CPUs on
    /// each of `nodes`. Waits until all are there.
    pub fn start(folder: &Path, network: &Network, control: &str, nodes: &[&str], cpus: u32) -> Result<Self> {
        let namespaces = network.namespaces();
        let of = |host: &str| {
            let found = namespaces.iter().find(|(name, _)| name == host);
            found.map(|(_, namespace)| namespace.clone()).context("no such host")
        };
        for part in ["state", "spool", "run"] {
            fs::create_dir_all(folder.join(part))?;
        }
        // munged insists that nobody else can write in the folders above its socket.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let key = folder.join("munge.key");
        fs::write(&key, [7; 1024])?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let configuration = folder.join("slurm.conf");
        fs::write(&configuration, text(folder, network, control, nodes, cpus)?)?;

        let at = |name: &str| folder.join(name).display().to_string();
        let mut munged = Command::new("munged");
        munged.args(["--foreground", "--force"]).args([
            format!("--socket={}", at("run/munge")),
            format!("--key-file={}", at("munge.key")),
            format!("--pid-file={}", at("run/munged.pid")),
            format!("--seed-file={}", at("run/seed")),
            format!("--log-file={}", at("munged.log")),
        ]);
        let munged = Process::spawn(folder, "munged", munged)?;
        wait_for("munged is there", || folder.join("run/munge").exists().then_some(()))?;
        let daemon = |name: &str, host: &str, words: &[&str]| {
            // Not `ip netns exec`, which mounts a /sys without the control groups that slurmd looks for.
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{}", of(host)?)).args(words).env("SLURM_CONF", &configuration);
            Process::spawn(folder, name, command)
        };
        let slurmctld = daemon("slurmctld", control, &["slurmctld", "-D", "-c"])?;
        let mut slurmd = Vec::new();
        for node in nodes {
            slurmd.push(daemon(&format!("slurmd-{node}"), node, &["slurmd", "-D", "-N", node])?);
        }
        let (folder, control) = (folder.to_path_buf(), of(control)?);
        let slurm = Self { folder, control, _munged: munged, _slurmctld: slurmctld, _slurmd: slurmd };
        wait_for("all nodes are idle", || {
            // Each question is a process.
            sleep(LOOK);
            let idle = slurm.ask("sinfo", &["--noheader", "--Node", "--format=%N %t"]).ok()?;
            (idle.lines().filter(|line| line.ends_with(" idle")).count() == nodes.len()).then_some(())
        })?;
        Ok(slurm)
    }

    /// The file that `SLURM_CONF` has to name.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("slurm.conf")
    }

    /// Runs a command of Slurm. Returns what it prints.
    pub fn ask(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.control, program]).args(words);
        let output = command.env("SLURM_CONF", self.configuration()).output()?;
        ensure!(output.status.success(), "{program} {words:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The jobs of this name that have not ended: the task, its state, its node. To be asked in a loop.
    pub fn jobs(&self, name: &str) -> Result<Vec<(String, String, String)>> {
        sleep(LOOK);
        let name = format!("--name={name}");
        let listed = self.ask("squeue", &["--noheader", "--array", &name, "--format=%i|%T|%N"])?;
        let fields = listed.lines().map(|line| line.trim().splitn(3, '|').map(String::from).collect::<Vec<_>>());
        fields
            .map(|fields| {
                let [id, state, node]: [_; 3] = fields.try_into().ok().context("squeue printed something else")?;
                Ok((id, state, node))
            })
            .collect()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // Else each has a process that outlives the daemons.
        let _ = self.ask("scancel", &["--me"]);
        let ended = || self.ask("squeue", &["--noheader"]).is_ok_and(|jobs| jobs.trim().is_empty());
        for _ in 0..50 {
            if ended() {
                break;
            }
            sleep(LOOK);
        }
    }
}

/// The configuration: no accounting, no cgroups, short times.
fn text(folder: &Path, network: &Network, control: &str, nodes: &[&str], cpus: u32) -> Result<String> {
    let name = nix::unistd::gethostname()?;
    let (name, folder) = (name.to_string_lossy(), folder.display());
    let mut text = format!(
        "ClusterName=test
SlurmctldHost={name}({})
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdTimeout=10
",
        network.address(control)
    );
    for node in nodes {
        text += &format!("NodeName={node} NodeAddr={} CPUs={cpus} SocketsPerBoard={cpus}\n", network.address(node));
    }
    Ok(text + &format!("PartitionName=short Nodes={} Default=YES MaxTime=INFINITE\n", nodes.join(",")))
}
