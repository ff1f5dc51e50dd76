//! ssh: a worker at the other end of a connection, on any of several hosts.
//!
//! The connection also carries what the worker and the broker say, through a reverse tunnel from a Unix
//! socket on the other host: so the broker may listen on this host alone, and nobody else on the other
//! one can use the tunnel. When the connection ends, however it does, the worker finishes what it holds
//! and ends.

mod hosts;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::command;
use super::super::policy::Stage;
use super::children::Children;
use super::{Engine, Fault, Launch, fresh, quoted};
pub use hosts::Hosts;

/// The exit status of ssh when the connection failed.
const UNREACHED: i32 = 255;

/// What runs on the other host: the worker, and what ends it when this end of the connection closes.
/// The input is at descriptor 3 because a shell's background commands have none.
const SCRIPT: &str = r#"exec 3<&0
{worker} </dev/null 3<&- &
worker=$!
{ cat <&3; kill -TERM $worker; } >/dev/null 2>&1 &
watch=$!
trap 'kill -TERM $worker' TERM HUP INT
exec 3<&-
wait $worker
status=$?
while kill -0 $worker 2>/dev/null; do wait $worker; status=$?; done
kill $watch 2>/dev/null
rm -f {socket}
exit $status"#;

/// Hosts that ssh reaches.
pub struct Ssh {
    pub launch: Launch,
    pub hosts: Hosts,
    /// The `HOST:PORT` or path of the broker's backend, as this host reaches it.
    pub backend: String,
    /// Further options of ssh.
    pub options: Vec<String>,
    /// A program of this host to copy to the others, and run there.
    pub push: Option<String>,
    pub limit: Duration,
    pub children: Children,
    /// Hosts that the program was copied to.
    pub pushed: Vec<String>,
}

impl Ssh {
    fn arguments(&self, host: &str, socket: Option<&str>) -> Vec<String> {
        // Of an option that is there twice, ssh takes the first.
        let mut words = self.options.clone();
        // A connection that breaks is seen within fifteen seconds; nobody is there to type a password.
        let own = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5"];
        words.extend(own.map(String::from));
        if let Some(socket) = socket {
            let tunnel = format!("{socket}:{}", self.backend);
            words.extend(["-o", "ExitOnForwardFailure=yes", "-R", &tunnel].map(String::from));
        }
        words.extend(["--".into(), host.into()]);
        words
    }

    /// Returns what the other host's shell runs for a worker, whose socket is this.
    fn remote(&self, name: &str, socket: &str) -> String {
        let mut launch = self.launch.clone();
        launch.options.splice(0..0, ["--broker".into(), format!("ipc://{socket}")]);
        let script = SCRIPT.replace("{worker}", &launch.line(&quoted(name))).replace("{socket}", &quoted(socket));
        // Whatever shell the user has there.
        format!("exec sh -c {}", quoted(&script))
    }

    fn start_at(&mut self, host: &str, name: &str) -> Result<(), Fault> {
        let socket = format!("/tmp/{name}.sock");
        let mut command = Command::new("ssh");
        command.args(self.arguments(host, Some(&socket))).arg(self.remote(name, &socket)).stdin(Stdio::piped());
        self.children.start(name, command)
    }

    fn push_to(&mut self, host: &str) -> Result<(), Fault> {
        let Some(program) = self.push.clone().filter(|_| !self.pushed.iter().any(|pushed| pushed == host)) else {
            return Ok(());
        };
        let to = quoted(&self.launch.program[0]);
        let copy =
            format!("umask 077; mkdir -p \"$(dirname {to})\" && cat > {to}.$$ && chmod 700 {to}.$$ && mv {to}.$$ {to}");
        let ssh: Vec<_> =
            ["ssh".into()].into_iter().chain(self.arguments(host, None)).map(|word| quoted(&word)).collect();
        let script = format!("{} {} < {}", ssh.join(" "), quoted(&copy), quoted(&program));
        command::run("sh", &["-c".into(), script], "", self.limit)?;
        self.pushed.push(host.into());
        Ok(())
    }
}

impl Engine for Ssh {
    /// One host is enough.
    fn check(&mut self) -> Result<(), Fault> {
        let mut last = "there is no host".into();
        for host in self.hosts.names() {
            let arguments = [self.arguments(host, None), vec!["true".into()]].concat();
            match command::run("ssh", &arguments, "", self.limit) {
                Ok(_) => return Ok(()),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    fn list(&mut self) -> Result<Vec<(String, Stage)>, Fault> {
        let listed = self.children.list();
        for (name, status) in self.children.take_ended() {
            self.hosts.ended(&name, status != Some(UNREACHED), Instant::now());
        }
        Ok(listed)
    }

    fn start(&mut self, count: u32) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::new();
        let mut last = String::from("no host with room can be reached");
        while ids.len() < count as usize {
            let Some(host) = self.hosts.place(Instant::now()) else { break };
            let name = fresh(&self.launch.name);
            match self.push_to(&host).and_then(|()| self.start_at(&host, &name)) {
                Ok(()) => {
                    self.hosts.started(&name, &host);
                    ids.push(name);
                }
                Err(fault) => {
                    self.hosts.failed(&host, Instant::now());
                    last = fault;
                }
            }
        }
        if ids.is_empty() { Err(last) } else { Ok(ids) }
    }

    fn most(&self) -> u32 {
        self.hosts.most()
    }

    fn stop(&mut self, ids: &[String]) -> Result<(), Fault> {
        self.children.stop(ids);
        Ok(())
    }

    fn script(&self) -> String {
        let name = format!("{}-NUMBER", self.launch.name);
        let socket = format!("/tmp/{name}.sock");
        let words = self.arguments("HOST", Some(&socket)).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        format!("# start\nssh {words} {}\n", quoted(&self.remote(&name, &socket)))
    }

    fn outlives(&self) -> bool {
        false
    }

    fn end(&mut self) {
        self.children.end();
    }
}
