//! A network of a test's own: hosts on a switch, with links that can be cut, slowed down and made
//! lossy.
//!
//! Each host is a network namespace, and so is the switch, a bridge: nothing of it is seen outside,
//! and no packet leaves it. Needs Linux, root and iproute2; [`available`] and its neighbours say
//! what is missing. Knows nothing of brokers and workers.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::trials;

/// The hosts' network, of those set aside for examples (RFC 5737).
const PREFIX: &str = "192.0.2";

/// How every network's namespaces are called: this, the process id, the number of the network in
/// the process, the host.
const NAME: &str = "giostra";

/// A namespace's one interface.
const INTERFACE: &str = "eth0";

/// The hosts and their switch. They go when this is dropped; what runs in them should have ended by
/// then.
#[derive(Debug)]
pub struct Network {
    switch: String,
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    /// Also what its port in the switch is called.
    name: String,
    namespace: String,
}

/// Whether this machine can have such a network.
pub fn available() -> Result<()> {
    trials::root()?;
    trials::program("ip", "iproute2")?;
    Network::of(&["probe"]).map(drop)
}

/// Whether its links can be slowed down and made lossy with what nearly every kernel has.
pub fn impairable() -> Result<()> {
    available()?;
    let network = Network::of(&["probe"])?;
    network.slow_down("probe", "10mbit")?;
    network.lose("probe", 0.01)
}

/// Whether this kernel has `netem`.
pub fn has_netem() -> Result<()> {
    available()?;
    Network::of(&["probe"])?.netem("probe", &["delay", "10ms"])
}

impl Network {
    /// Hosts of these names, of at most 15 letters, each with a link to all others.
    pub fn of(names: &[&str]) -> Result<Self> {
        static NETWORKS: AtomicUsize = AtomicUsize::new(1);
        remove_leftovers()?;
        let own = format!("{NAME}-{}-{}", std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { switch: format!("{own}-switch"), hosts: Vec::new() };
        ip(&["netns", "add", &network.switch])?;
        ip(&["-n", &network.switch, "link", "add", "bridge", "up", "type", "bridge"])?;
        for name in names {
            network.add(name, &format!("{own}-{name}"))?;
        }
        Ok(network)
    }

    fn add(&mut self, name: &str, namespace: &str) -> Result<()> {
        ip(&["netns", "add", namespace])?;
        self.hosts.push(Host { name: name.into(), namespace: namespace.into() });
        let peer = ["peer", "name", INTERFACE, "netns", namespace];
        ip(&[&["-n", &self.switch, "link", "add", name, "type", "veth"][..], &peer].concat())?;
        ip(&["-n", &self.switch, "link", "set", name, "master", "bridge", "up"])?;
        ip(&["-n", namespace, "address", "add", &format!("{}/24", self.address(name)), "dev", INTERFACE])?;
        ip(&["-n", namespace, "link", "set", INTERFACE, "up"])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])
    }

    /// The address of a host.
    pub fn address(&self, name: &str) -> String {
        let place = self.hosts.iter().position(|host| host.name == name).expect("a host of this network");
        format!("{PREFIX}.{}", place + 1)
    }

    /// A command on a host of this network.
    pub fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Command {
        let host = self.hosts.iter().find(|it| it.name == host).expect("a host of this network");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &host.namespace]).arg(program);
        command
    }

    /// The hosts' names and namespaces.
    pub fn namespaces(&self) -> Vec<(String, String)> {
        self.hosts.iter().map(|host| (host.name.clone(), host.namespace.clone())).collect()
    }

    /// Pulls the host's cable: neither side gets a packet any more, and the host sees that it has
    /// no carrier.
    pub fn unplug(&self, name: &str) -> Result<()> {
        ip(&["-n", &self.switch, "link", "set", name, "down"])
    }

    /// Undoes [`Self::unplug`].
    pub fn plug_in(&self, name: &str) -> Result<()> {
        ip(&["-n", &self.switch, "link", "set", name, "up"])
    }

    /// Cuts the host off somewhere on the way: neither side gets a packet any more, and nobody can
    /// see why.
    pub fn cut(&self, name: &str) -> Result<()> {
        self.set_forwarding(name, "0")
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self, name: &str) -> Result<()> {
        self.set_forwarding(name, "3")
    }

    /// Cuts two hosts off from each other, and from nobody else: their packets to each other go to a
    /// machine that is not there.
    pub fn part(&self, one: &str, other: &str) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            let nobody = ["lladdr", "02:00:00:00:00:fe", "nud", "permanent", "dev", INTERFACE];
            self.neighbour(from, &[&["replace", &self.address(to)][..], &nobody].concat())?;
        }
        Ok(())
    }

    /// Undoes [`Self::part`].
    pub fn join(&self, one: &str, other: &str) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            self.neighbour(from, &["del", &self.address(to), "dev", INTERFACE])?;
        }
        Ok(())
    }

    fn neighbour(&self, host: &str, what: &[&str]) -> Result<()> {
        let (namespace, _) = self.ends(host)[0];
        ip(&[&["-n", namespace, "neighbour"], what].concat())
    }

    /// The state of the port, as the spanning tree protocol numbers them: 0 disabled, 3 forwarding.
    fn set_forwarding(&self, name: &str, state: &str) -> Result<()> {
        run("bridge", &["-n", &self.switch, "link", "set", "dev", name, "state", state]).map(drop)
    }

    /// Limits the host's link to this rate (`10mbit`), both ways. What doesn't fit into a queue of
    /// 50 ms is lost.
    pub fn slow_down(&self, name: &str, rate: &str) -> Result<()> {
        self.on_both_ends(name, &["qdisc", "add"], &["root", "tbf", "rate", rate, "burst", "16kb", "latency", "50ms"])
    }

    /// Lets the host's link lose packets at random, both ways: `share` of them, from 0 to 1.
    pub fn lose(&self, name: &str, share: f64) -> Result<()> {
        // A classic BPF program: a random word is loaded (SKF_AD_OFF + SKF_AD_RANDOM), and the packet
        // dropped (2, TC_ACT_SHOT) if that is below the limit, else passed on (0, TC_ACT_OK).
        let limit = (share * f64::from(u32::MAX)) as u32;
        let program = format!("4,32 0 0 4294963256,53 1 0 {limit},6 0 0 2,6 0 0 0");
        self.on_both_ends(name, &["qdisc", "add"], &["clsact"])?;
        self.on_both_ends(name, &["filter", "add"], &["egress", "bpf", "direct-action", "bytecode", &program])
    }

    /// Treats the host's packets, both ways, as `netem` can: `["delay", "20ms", "loss", "1%"]`.
    pub fn netem(&self, name: &str, treatment: &[&str]) -> Result<()> {
        self.on_both_ends(name, &["qdisc", "add"], &[&["root", "netem"], treatment].concat())
    }

    /// Packets that the host's link has lost, both ways: those that found its queue full and those
    /// lost at random.
    pub fn lost(&self, name: &str) -> Result<u64> {
        let mut lost = 0;
        for (namespace, interface) in self.ends(name) {
            let said = run("tc", &["-n", namespace, "-s", "-j", "qdisc", "show", "dev", interface])?;
            let disciplines: Vec<Value> = serde_json::from_str(&said).with_context(|| said.clone())?;
            lost += disciplines.iter().filter_map(|discipline| discipline["drops"].as_u64()).sum::<u64>();
        }
        Ok(lost)
    }

    fn on_both_ends(&self, name: &str, what: &[&str], how: &[&str]) -> Result<()> {
        for (namespace, interface) in self.ends(name) {
            run("tc", &[&["-n", namespace], what, &["dev", interface], how].concat())?;
        }
        Ok(())
    }

    /// The two interfaces that a host's link connects, each sending one way.
    fn ends<'a>(&'a self, name: &'a str) -> [(&'a str, &'a str); 2] {
        let host = self.hosts.iter().find(|host| host.name == name).expect("a host of this network");
        [(&host.namespace, INTERFACE), (&self.switch, name)]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().map(|host| &host.namespace).chain([&self.switch]) {
            // One that was never made can't be removed; nothing better can be done about the others.
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

/// Removes the namespaces of tests that were killed.
fn remove_leftovers() -> Result<()> {
    for namespace in run("ip", &["netns", "list"])?.lines().filter_map(|line| line.split(' ').next()) {
        let process = namespace.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        let Some(process) = process.and_then(|id| id.parse::<u32>().ok()) else { continue };
        if !std::fs::exists(format!("/proc/{process}"))? {
            // Another test may have been quicker.
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<()> {
    run("ip", args).map(drop)
}

/// What the program said. An error with what it complained about if it failed.
fn run(program: &str, args: &[&str]) -> Result<String> {
    let ran = Command::new(program).args(args).output();
    let output = ran.with_context(|| format!("there is no `{program}`, of iproute2"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), complaint.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
