//! `giostra scale pbs` in a cluster of four nodes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use giostra_tests::pbs::{Job, Pbs};
use giostra_tests::process::{Process, binary, wait_for, wait_within};
use giostra_tests::{Network, Setup, System};

use super::Work;

const HOSTS: [&str; 6] = ["broker", "client", "n1", "n2", "n3", "n4"];
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// The name of the jobs.
const JOBS: &str = "giostra-compute";

/// The limits of a test's minutes.
const FAST: [&str; 8] = ["--walltime", "1m", "--interval", "1s", "--cool-down", "10s", "--grace", "10s"];

/// A cluster, a broker in it, and what is scaled.
struct Scene {
    scale: Option<Process>,
    scales: usize,
    pbs: Pbs,
    system: System,
    network: Network,
    /// The user's copies: the command line, and the keys of the client and the workers.
    giostra: PathBuf,
    keys: [String; 3],
    begun: Instant,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::of(&HOSTS)?;
        let system = Setup::workers(0).across(&network).secured().start()?;
        // The user's way to its own folder.
        std::fs::set_permissions(system.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let pbs = Pbs::start(&system.folder().join("pbs"), &network, "broker", &NODES, 4)?;
        let giostra = pbs.give(&binary("giostra")?, 0o755)?;
        // It is found beside the command line.
        pbs.give(&binary("giostra-worker")?, 0o755)?;
        let [_, client, _, broker] = system.key_args("client").try_into().ok().context("no keys")?;
        let keys = [client.into(), system.secret_file("later-worker"), broker.into()];
        let mut given = Vec::new();
        for key in keys {
            given.push(pbs.give(&key, 0o600)?.display().to_string());
        }
        let keys = given.try_into().ok().context("three keys")?;
        Ok(Self { scale: None, scales: 0, pbs, system, network, giostra, keys, begun: Instant::now() })
    }

    fn scale(&mut self, more: &[&str]) -> Result<&mut Process> {
        let [client, worker, broker] = &self.keys;
        let mut command = self.pbs.command("client", &self.giostra)?;
        command.args(["--broker", self.system.frontend(), "--keys", client, "--broker-key", broker]);
        command.args(["scale", "pbs", "--max", "4", "--threads", "4", "--backend", self.system.backend()]);
        command.args(["--worker-keys", worker]).args(more).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.pbs.home().join("state"));
        self.scales += 1;
        let name = format!("client-scale-{}", self.scales);
        Ok(self.scale.insert(Process::spawn(self.system.folder(), &name, command)?))
    }

    fn jobs(&self) -> Result<Vec<Job>> {
        self.pbs.jobs("broker", JOBS)
    }

    fn running(&self) -> Result<Vec<Job>> {
        Ok(self.jobs()?.into_iter().filter(|job| job.state == "R" && job.node.is_some()).collect())
    }

    /// What the jobs have written.
    fn output(&self) -> String {
        let files = std::fs::read_dir(self.pbs.home().join("state/giostra/scale")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }

    fn told(&self, what: &str) {
        println!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }
}

pub fn walltimes_deleted_jobs_and_crashed_nodes_of_pbs_cost_no_request() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut work = Work::begin(&scene.network, &scene.system, 1500, [0.05, 5.0])?;
    scene.scale(&FAST)?;
    let first = wait_for("four jobs run", || scene.running().ok().filter(|running| running.len() == 4))?;
    wait_for("four workers are there", || (scene.system.count(" joined ") == 4).then_some(()))?;
    let named = |job: &Job| format!("{} on {}", job.id, job.node.as_deref().unwrap_or("-"));
    scene.told(&format!("four jobs run: {}", first.iter().map(named).collect::<Vec<_>>().join(", ")));

    scene.pbs.ask("broker", "qdel", &[&first[0].id])?;
    scene.told(&format!("qdel {}", first[0].id));
    let is_new = |job: &Job| first.iter().all(|other| other.id != job.id);
    wait_for("another job is there", || scene.running().ok()?.iter().any(is_new).then_some(()))?;

    let known: BTreeSet<_> = scene.jobs()?.into_iter().map(|job| job.id).collect();
    scene.scale.take().context("scale")?.kill()?;
    scene.told("kill -9 of giostra scale");
    scene.scale(&FAST)?;
    let looked = |scene: &Scene| scene.scale.as_ref().is_some_and(|scale| scale.stderr().contains(" wanted, "));
    wait_for("the second one looks", || looked(&scene).then_some(()))?;
    let all = scene.jobs()?;
    ensure!(all.iter().all(|job| known.contains(&job.id)), "it has started jobs again: {known:?}, then {all:?}");

    let job = scene.running()?.pop().context("no job runs")?;
    let node = job.node.context("no node")?;
    scene.pbs.crash(&node)?;
    scene.told(&format!("node {node} crashes, with {}", job.id));

    let mut most = 0;
    wait_within(Duration::from_secs(400), || {
        most = most.max(scene.jobs().ok()?.iter().filter(|job| job.state != "E").count());
        (!work.is_running()).then_some(())
    })
    .context("it takes too long")?;
    work.finish()?;
    scene.told("all is answered, each once");
    ensure!(most <= 4, "{most} jobs at once");
    println!("{}", scene.scale.as_ref().context("scale")?.stderr());
    ensure!(scene.jobs()?.iter().all(|other| other.id != job.id), "PBS has not given up {}", job.id);

    wait_within(Duration::from_secs(120), || scene.jobs().ok()?.is_empty().then_some(()))
        .context("jobs go on without requests")?;
    scene.told("no job is left");
    // The end of a lifetime, before the walltime.
    let text = scene.output();
    let (old, left) = (text.matches("at the end of a lifetime").count(), text.matches("INFO  left").count());
    scene.told(&format!("{old} workers left at the end of their lifetime, {left} in order"));
    ensure!(old > 0 && left > old, "{text}");
    let lost = scene.system.lines(" dropped ");
    scene.told(&format!("lost without a word: {}", lost.len()));
    // The worker of the node that crashed.
    ensure!(lost.len() <= 1, "{lost:?}");
    ensure!(scene.system.count(" poison ") == 0, "a request was given up");
    let report = scene.system.audit()?;
    scene.told(&format!("audit: {:?}", report.verdict()));
    Ok(())
}

pub fn what_pbs_refuses_is_told_and_no_job_is_left_behind() -> Result<()> {
    let mut scene = Scene::new()?;
    let refused = scene.scale(&["--queue", "no-such"])?;
    ensure!(refused.wait()?.code() == Some(1));
    let said = refused.stderr();
    ensure!(said.contains("Unknown queue"), "{said}");
    let refused = scene.scale(&["--walltime", "2m", "--grace", "2m"])?;
    ensure!(refused.wait()?.code() == Some(2), "{}", refused.stderr());
    let dry = scene.scale(&["--min", "2", "--dry-run"])?;
    ensure!(dry.wait()?.code() == Some(0) && dry.stdout().contains("would start 2 workers"), "{}", dry.stdout());
    let printed = scene.scale(&["--print"])?;
    ensure!(printed.wait()?.code() == Some(0) && printed.stdout().contains("exec "), "{}", printed.stdout());
    // What PBS looks at with the first job only.
    let paused = scene.scale(&["--min", "1", "--select", "no-such=1"])?;
    wait_for("what qsub says is told", || paused.stderr().contains("Unknown resource: no-such").then_some(()))?;
    ensure!(paused.stderr().contains("no start for 10s"), "{}", paused.stderr());
    ensure!(scene.jobs()?.is_empty());
    // A worker that can't be started: its job is not started again and again.
    let failing = scene.scale(&["--min", "1", "--interval", "1s", "--worker", "/no/such/worker"])?;
    let text = "ended without a worker having been at the broker; no start for 10s; its output is in";
    wait_for("what became of it is told", || failing.stderr().contains(text).then_some(()))?;
    ensure!(scene.output().contains("/no/such/worker"), "{}", scene.output());
    Ok(())
}
