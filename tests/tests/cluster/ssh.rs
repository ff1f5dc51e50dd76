//! `giostra scale ssh` with a real `sshd`, on another host than the broker, which listens on its own
//! loopback alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use giostra_tests::process::{Process, binary, wait_for};
use giostra_tests::system::log_files;
use giostra_tests::{Network, network, trials};
use nix::sys::signal::Signal;
use tempfile::TempDir;

pub fn available() -> Result<()> {
    network::available()?;
    trials::program("ssh", "openssh-client")?;
    trials::program("sshd", "openssh-server")?;
    trials::program("ssh-keygen", "openssh-client").map(drop)
}

/// A broker on the host `client`, and an sshd on the host `far`.
struct Scene {
    folder: TempDir,
    network: Network,
    sshd: Process,
    broker: Process,
}

impl Scene {
    fn new() -> Result<Self> {
        let (folder, network) = (tempfile::tempdir()?, Network::of(&["client", "far"])?);
        let path = |name: &str| folder.path().join(name);
        for key in ["host-key", "user-key"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)).status()?;
            ensure!(made.success(), "ssh-keygen: {made}");
        }
        fs::copy(path("user-key.pub"), path("authorized_keys"))?;
        fs::set_permissions(path("authorized_keys"), fs::Permissions::from_mode(0o600))?;
        let far = network.address("far");
        let configuration = format!(
            "ListenAddress {far}\nPort 22\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n",
            path("host-key").display(),
            path("authorized_keys").display()
        );
        fs::write(path("sshd_config"), configuration)?;
        let known = format!("{far} {}", fs::read_to_string(path("host-key.pub"))?);
        fs::write(path("known_hosts"), known)?;
        let client = format!(
            "Host nobody\n  HostName 192.0.2.77\nHost far\n  HostName {far}\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            path("user-key").display(),
            path("known_hosts").display()
        );
        fs::write(path("ssh_config"), client)?;
        // It insists on this folder.
        fs::create_dir_all("/run/sshd")?;
        let mut sshd = network.command("far", trials::program("sshd", "openssh-server")?);
        sshd.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        let sshd = Process::spawn(folder.path(), "sshd", sshd)?;
        wait_for("sshd listens", || sshd.stderr().contains("listening").then_some(()))?;
        let mut broker = network.command("client", binary("giostra-broker")?);
        broker.arg("--log-dir").arg(path("log"));
        let broker = Process::spawn(folder.path(), "broker", broker)?;
        wait_for("the broker listens", || broker.stderr().contains(" listening ").then_some(()))?;
        Ok(Self { folder, network, sshd, broker })
    }

    fn giostra(&self, name: &str, words: &[&str]) -> Result<Process> {
        let mut command = self.network.command("client", binary("giostra")?);
        command.args(words).env("XDG_STATE_HOME", self.folder.path());
        Process::spawn(self.folder.path(), name, command)
    }

    fn scale(&self, name: &str, more: &[&str]) -> Result<Process> {
        let config = format!("-F{}", self.folder.path().join("ssh_config").display());
        let worker = binary("giostra-worker")?.display().to_string();
        let words = [
            "scale",
            "ssh",
            "--host",
            "far:2",
            "--max",
            "2",
            "--interval",
            "200ms",
            "--cool-down",
            "1s",
            "--horizon",
            "1s",
        ];
        let places = ["--ssh-option", &config, "--worker", &worker];
        self.giostra(name, &[&words[..], &places, more].concat())
    }

    fn log(&self) -> String {
        let files = log_files(&self.folder.path().join("log"));
        files.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    fn count(&self, part: &str) -> usize {
        self.log().matches(part).count()
    }
}

/// The workers that run here, on whatever host.
fn workers(name: &str) -> usize {
    // Each question is a process.
    std::thread::sleep(Duration::from_millis(50));
    let listed = Command::new("pgrep").args(["-c", "-f", &format!("^[^ ]*giostra-worker --name {name}-")]).output();
    listed.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok()).unwrap_or_default()
}

pub fn workers_come_through_a_tunnel_and_end_with_the_connection() -> Result<()> {
    let scene = Scene::new()?;
    let name = format!("far-{}", std::process::id());
    let scale = scene.scale("scale", &["--name", &name])?;
    let mut batch = scene.giostra("batch", &["random", "3000", "--json"])?;
    ensure!(batch.wait()?.success(), "{}", batch.stderr());
    let summary = batch.stdout();
    ensure!(summary.contains("\"answered\":3000"), "{summary}");
    // Idle, they leave in order.
    wait_for("they leave", || (scene.count(" left ") >= 2 && workers(&name) == 0).then_some(()))?;

    // The connections are killed while they compute: others do it.
    let input = scene.folder.path().join("requests");
    fs::write(&input, "0.5\n".repeat(16))?;
    let mut map = scene.network.command("client", binary("giostra")?);
    map.args(["map", "sleep"]);
    let mut map = Process::spawn_with(scene.folder.path(), "map", map, fs::File::open(input)?)?;
    wait_for("they are back", || (scene.count(" joined ") >= 4 && workers(&name) == 2).then_some(()))?;
    let killed = Command::new("pkill").args(["-KILL", "-f", &format!("^ssh .*{name}-")]).status()?;
    ensure!(killed.success(), "no ssh was there");
    ensure!(map.wait()?.success(), "map: {}", map.stderr());
    ensure!(map.stdout() == "0.5\n".repeat(16), "map printed {}", map.stdout());

    // Whatever ends it, no worker stays on the other host.
    let mut one = scene.giostra("one", &["send", "sleep", "1"])?;
    wait_for("one is there", || (workers(&name) > 0).then_some(()))?;
    scale.signal(Signal::SIGKILL)?;
    wait_for("they have ended", || (workers(&name) == 0).then_some(()))?;
    // A host that is not there has the most room.
    let mut again = scene.scale("again", &["--name", &name, "--min", "1", "--host", "nobody:9"])?;
    ensure!(one.wait()?.success(), "one: {}", one.stderr());
    wait_for("one is there again", || (workers(&name) == 1).then_some(()))?;
    again.signal(Signal::SIGINT)?;
    ensure!(again.wait()?.success(), "again: {}", again.stderr());
    ensure!(workers(&name) == 0, "a worker is left");
    println!("{}", again.stderr());
    drop((scene.sshd, scene.broker));
    Ok(())
}
