//! An OpenPBS of a test's own: server, scheduler, communication daemon, and a MOM for each node, real
//! ones, each on a host of a [`Network`]. Knows nothing of brokers and workers.
//!
//! A host also has its own name, process ids, `/etc/hosts`, users and `/var/spool/pbs`, in namespaces:
//! PBS goes by names, wants its files where nobody else can write, and does not look after jobs of root.
//! When a daemon is killed, all that it has started ends with it, as when the host crashes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Network;
use crate::process::{Process, wait_for};
use crate::trials::{self, Missing};

/// How often a cluster is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The user whose jobs they are.
const USER: &str = "tester";

/// That user's and that group's number.
const ID: u32 = 23_456;

/// What makes a process one of a host: it runs the words behind it. [`FOLDER`] and [`HOST`] are in its
/// environment.
const ENTER: &str = r#"set -e
for file in hosts passwd group; do mount --bind "$TEST_FOLDER/$file" "/etc/$file"; done
mount -t tmpfs -o mode=755 pbs /var/spool
mkdir /var/spool/pbs
mount --bind "$TEST_FOLDER/$TEST_HOST" /var/spool/pbs
if [ -d /run/postgresql ]; then mount -t tmpfs -o mode=1777 postgresql /run/postgresql; fi
hostname "$TEST_HOST"
exec "$@""#;

/// Whether this machine has one. It is in no distribution, so where it is missing is not held against
/// anybody who has not said where it is.
pub fn available() -> Result<()> {
    crate::network::available()?;
    trials::program("setpriv", "util-linux")?;
    let Some(exec) = exec() else {
        let text = "there is no OpenPBS in PBS_EXEC, PATH or /opt/pbs; `just openpbs` builds it";
        if std::env::var_os("PBS_EXEC").is_some() {
            return Err(Missing(text.into()).into());
        }
        bail!(text);
    };
    let mode = fs::metadata(exec.join("sbin/pbs_iff"))?.permissions().mode();
    ensure!(mode & 0o4000 != 0, "{}/sbin/pbs_iff is not setuid: users can't submit", exec.display());
    Ok(())
}

/// Where it is installed.
fn exec() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_path = std::env::split_paths(&path).filter_map(|folder| folder.parent().map(Path::to_path_buf));
    let candidates = match std::env::var_os("PBS_EXEC") {
        Some(exec) => vec![exec.into()],
        None => of_path.chain(["/opt/pbs".into()]).collect(),
    };
    let parts = ["bin/qsub", "sbin/pbs_server", "sbin/pbs_mom", "libexec/pbs_habitat"];
    candidates.into_iter().find(|exec: &PathBuf| parts.iter().all(|part| exec.join(part).is_file()))
}

/// A cluster. Dropped, its daemons and jobs are killed.
#[derive(Debug)]
pub struct Pbs {
    folder: PathBuf,
    exec: PathBuf,
    namespaces: Vec<(String, String)>,
    moms: Vec<(String, Process)>,
    _daemons: Vec<Process>,
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// As qsub printed it.
    pub id: String,
    /// The letter of its state, such as R.
    pub state: String,
    /// Its node, once it has one.
    pub node: Option<String>,
}

impl Pbs {
    /// Starts a cluster in `folder`: the server on the host `control`, and a node of `cpus` CPUs on each
    /// of `nodes`. Waits until all are there.
    pub fn start(folder: &Path, network: &Network, control: &str, nodes: &[&str], cpus: u32) -> Result<Self> {
        let exec = exec().context("there is no OpenPBS")?;
        let (folder, namespaces) = (folder.to_path_buf(), network.namespaces());
        let mut pbs = Self { folder, exec, namespaces, moms: Vec::new(), _daemons: Vec::new() };
        pbs.write_files(network, control, nodes)?;
        let habitat = pbs.exec.join("libexec/pbs_habitat");
        let output =
            pbs.host(control, &["--pid", "--fork", "--kill-child", "--mount-proc"], &[])?.arg(habitat).output()?;
        ensure!(output.status.success(), "pbs_habitat: {output:?}");
        for name in ["pbs_comm", "pbs_sched", "pbs_server"] {
            let daemon = pbs.daemon(control, name)?;
            pbs._daemons.push(daemon);
        }
        for node in nodes {
            let mom = pbs.daemon(node, "pbs_mom")?;
            pbs.moms.push((node.to_string(), mom));
        }
        wait_for("the server answers", || {
            sleep(LOOK);
            pbs.ask(control, "qstat", &["-B"]).ok()
        })?;
        for line in ["flatuid = true", "scheduler_iteration = 2", "node_fail_requeue = 5"] {
            pbs.ask(control, "qmgr", &["-c", &format!("set server {line}")])?;
        }
        for node in nodes {
            pbs.ask(control, "qmgr", &["-c", &format!("create node {node} resources_available.ncpus={cpus}")])?;
        }
        wait_for("all nodes are free", || {
            sleep(LOOK);
            let listed = pbs.ask(control, "pbsnodes", &["-a", "-F", "json"]).ok()?;
            let listed: Value = serde_json::from_str(&listed).ok()?;
            let free = listed["nodes"].as_object()?.values().filter(|node| node["state"] == "free").count();
            (free == nodes.len()).then_some(())
        })?;
        Ok(pbs)
    }

    /// Writes what each host has: its name and place in the network, its users, its home of PBS.
    fn write_files(&self, network: &Network, control: &str, nodes: &[&str]) -> Result<()> {
        let file = |name: &str| self.folder.join(name);
        fs::create_dir_all(self.home())?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755))?;
        chown(self.home(), Some(ID), Some(ID))?;
        let hosts = self.namespaces.iter().map(|(host, _)| format!("{} {host}\n", network.address(host)));
        fs::write(file("hosts"), format!("127.0.0.1 localhost\n{}", hosts.collect::<String>()))?;
        let user = format!("{USER}:x:{ID}:{ID}::{}:/bin/sh\n", self.home().display());
        fs::write(file("passwd"), fs::read_to_string("/etc/passwd")? + &user)?;
        fs::write(file("group"), fs::read_to_string("/etc/group")? + &format!("{USER}:x:{ID}:\n"))?;
        for (host, _) in &self.namespaces {
            fs::create_dir(file(host))?;
            let start = |is_there: bool| u32::from(is_there);
            let (server, mom) = (start(host == control), start(nodes.contains(&host.as_str())));
            let text = format!(
                "PBS_EXEC={}\nPBS_HOME=/var/spool/pbs\nPBS_SERVER={control}\nPBS_START_SERVER={server}\n\
                 PBS_START_SCHED={server}\nPBS_START_COMM={server}\nPBS_START_MOM={mom}\n",
                self.exec.display()
            );
            fs::write(file(&format!("{host}.conf")), text)?;
        }
        // As its own script makes them, which would install a service, too.
        let parts = [("aux", 0o755), ("checkpoint", 0o700), ("mom_logs", 0o755), ("mom_priv", 0o751)].into_iter();
        let parts = parts.chain([("mom_priv/jobs", 0o751), ("mom_priv/hooks", 0o750), ("mom_priv/hooks/tmp", 0o750)]);
        for (part, mode) in parts.chain([("spool", 0o1777), ("undelivered", 0o1777)]) {
            for node in nodes {
                let path = file(node).join(part);
                fs::create_dir(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
        }
        for node in nodes {
            fs::write(file(node).join("pbs_environment"), "PATH=/bin:/usr/bin\n")?;
            // One file system, as clusters have.
            fs::write(file(node).join("mom_priv/config"), "$usecp *:/ /\n")?;
        }
        Ok(())
    }

    /// The home of the user, where that may write, on all hosts.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Gives the user a copy of this file, with this mode. Returns it.
    pub fn give(&self, file: &Path, mode: u32) -> Result<PathBuf> {
        let copy = self.home().join(file.file_name().context("no name")?);
        fs::copy(file, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
        chown(&copy, Some(ID), Some(ID))?;
        Ok(copy)
    }

    /// A command of root's, or of the user's if words say so, in namespaces of a host.
    fn host(&self, host: &str, namespaces: &[&str], words: &[&str]) -> Result<Command> {
        let found = self.namespaces.iter().find(|(name, _)| name == host);
        let (_, namespace) = found.context("no such host")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).args(["unshare", "--mount", "--uts"]).args(namespaces);
        command.args(["sh", "-c", ENTER, "sh"]).args(words);
        command.env("TEST_FOLDER", &self.folder).env("TEST_HOST", host);
        command.env("PBS_CONF_FILE", self.folder.join(format!("{host}.conf")));
        let mut path = vec![self.exec.join("bin"), self.exec.join("sbin")];
        path.extend(databases());
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path)?);
        Ok(command)
    }

    /// A command of the user's on a host.
    pub fn command(&self, host: &str, program: &Path) -> Result<Command> {
        let id = ID.to_string();
        let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        let mut command = self.host(host, &[], &words)?;
        command.arg(program).env("HOME", self.home()).env("USER", USER).env("LOGNAME", USER);
        command.current_dir(self.home());
        Ok(command)
    }

    fn daemon(&self, host: &str, program: &str) -> Result<Process> {
        let mut command = self.host(host, &["--pid", "--fork", "--kill-child", "--mount-proc"], &[])?;
        command.arg(self.exec.join("sbin").join(program)).arg("-N");
        Process::spawn(&self.folder, &format!("{host}-{program}"), command)
    }

    /// Runs a command of PBS, as root. Returns what it prints.
    pub fn ask(&self, host: &str, program: &str, words: &[&str]) -> Result<String> {
        let output = self.host(host, &[], &[])?.arg(self.exec.join("bin").join(program)).args(words).output()?;
        ensure!(output.status.success(), "{program} {words:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The jobs of this name that have not ended. To be asked in a loop.
    pub fn jobs(&self, host: &str, name: &str) -> Result<Vec<Job>> {
        sleep(LOOK);
        let listed: Value = serde_json::from_str(&self.ask(host, "qstat", &["-f", "-F", "json"])?)?;
        let jobs = listed["Jobs"].as_object().into_iter().flatten().filter(|(_, job)| job["Job_Name"] == name);
        let job = |(id, job): (&String, &Value)| {
            let state = job["job_state"].as_str().context("a job without a state")?.to_string();
            let node = job["exec_host"].as_str().and_then(|place| Some(place.split_once('/')?.0.to_string()));
            Ok(Job { id: id.clone(), state, node })
        };
        jobs.map(job).collect()
    }

    /// Has a node crash: its MOM, and all that runs there.
    pub fn crash(&mut self, node: &str) -> Result<()> {
        let at = self.moms.iter().position(|(name, _)| name == node).context("no such node")?;
        self.moms.swap_remove(at).1.kill()
    }
}

/// Where Debian has PostgreSQL's own programs.
fn databases() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).collect()
}
