//! A broker whose name gets another address, as when its machine is replaced.

use std::fs;
use std::path::Path;

use anyhow::Result;
use giostra_tests::Network;
use giostra_tests::process::{Process, binary, wait_for};
use tempfile::TempDir;

fn broker(network: &Network, folder: &Path, host: &str) -> Result<Process> {
    let log = folder.join(format!("log-{host}")).display().to_string();
    let mut command = network.command(host, binary("giostra-broker")?);
    command.args(["--backend", "tcp://*:5556", "--insecure", "--log-dir", &log]);
    let broker = Process::spawn(folder, host, command)?;
    wait_for("the broker listens", || broker.stderr().contains(" listening ").then_some(()))?;
    Ok(broker)
}

pub fn a_worker_follows_a_name_to_another_address_also_if_the_old_host_falls_silent() -> Result<()> {
    let (folder, network) = (TempDir::new()?, Network::of(&["one", "two", "node"])?);
    let hosts = folder.path().join("hosts");
    let point = |host: &str| fs::write(&hosts, format!("127.0.0.1 localhost\n{} broker.test\n", network.address(host)));
    point("one")?;
    let first = broker(&network, folder.path(), "one")?;
    // A file of names for this process alone.
    let script = r#"mount --bind "$1" /etc/hosts && exec "$0" --broker tcp://broker.test:5556 --name follower"#;
    let (worker, hosts_file) = (binary("giostra-worker")?.display().to_string(), hosts.display().to_string());
    let mut command = network.command("node", "unshare");
    command.args(["--mount", "sh", "-c", script, &worker, &hosts_file]);
    let worker = Process::spawn(folder.path(), "worker", command)?;
    let registered = |times: usize| {
        wait_for("it is registered", || (worker.stderr().matches(" registered as ").count() >= times).then_some(()))
    };
    registered(1)?;
    // No FIN, no reset: nobody tells the worker.
    network.cut("one")?;
    point("two")?;
    let second = broker(&network, folder.path(), "two")?;
    registered(2)?;
    network.mend("one")?;
    second.kill()?;
    point("one")?;
    registered(3)?;
    drop(first);
    Ok(())
}
