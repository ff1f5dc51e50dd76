//! `giostra scale slurm` in a cluster of four nodes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use giostra_tests::process::{Process, wait_for, wait_within};
use giostra_tests::{Network, Setup, Slurm, System};

use super::{Work, giostra};

const HOSTS: [&str; 6] = ["broker", "client", "n1", "n2", "n3", "n4"];
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// The name of the jobs.
const JOBS: &str = "giostra-compute";

/// A cluster, a broker in it, and what is scaled.
struct Scene {
    scale: Option<Process>,
    scales: usize,
    slurm: Slurm,
    system: System,
    network: Network,
    begun: Instant,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::of(&HOSTS)?;
        let system = Setup::workers(0).across(&network).secured().start()?;
        let folder = system.folder().join("slurm");
        let slurm = Slurm::start(&folder, &network, "broker", &NODES, 4)?;
        Ok(Self { scale: None, scales: 0, slurm, system, network, begun: Instant::now() })
    }

    fn scale(&mut self, more: &[&str]) -> Result<&mut Process> {
        let (backend, output) = (self.system.backend(), self.system.folder().join("output").display().to_string());
        let words = ["scale", "slurm", "--max", "4", "--threads", "4", "--backend", backend, "--output", &output];
        let keys = self.system.secret_file("later-worker").display().to_string();
        let words = [&words[..], &["--worker-keys", &keys]].concat();
        let mut command = giostra(&self.network, &self.system, &[&words[..], more].concat())?;
        command.env("SLURM_CONF", self.slurm.configuration()).env("XDG_STATE_HOME", self.system.folder());
        self.scales += 1;
        let name = format!("client-scale-{}", self.scales);
        Ok(self.scale.insert(Process::spawn(self.system.folder(), &name, command)?))
    }

    fn running(&self) -> Result<Vec<(String, String)>> {
        let jobs = self.slurm.jobs(JOBS)?.into_iter();
        Ok(jobs.filter(|(_, state, _)| state == "RUNNING").map(|(id, _, node)| (id, node)).collect())
    }

    fn told(&self, what: &str) {
        println!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }
}

/// The limits of a test's minutes.
const FAST: [&str; 8] = ["--walltime", "1m", "--interval", "1s", "--cool-down", "10s", "--grace", "10s"];

pub fn walltimes_cancelled_requeued_and_killed_jobs_cost_no_request() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut work = Work::begin(&scene.network, &scene.system, 2000, [0.05, 5.0])?;
    // One that Slurm starts again by itself, too.
    scene.scale(&[&FAST[..], &["--sbatch=--requeue"]].concat())?;
    let first = wait_for("four jobs run", || scene.running().ok().filter(|running| running.len() == 4))?;
    wait_for("four workers are there", || (scene.system.count(" joined ") == 4).then_some(()))?;
    scene.told(&format!("four jobs run: {first:?}"));

    scene.slurm.ask("scancel", &[&first[0].0])?;
    scene.told(&format!("scancel {}", first[0].0));
    wait_for("another job is there", || (scene.running().ok()?.iter().any(|job| !first.contains(job))).then_some(()))?;

    let before = scene.slurm.jobs(JOBS)?;
    scene.scale.take().context("scale")?.kill()?;
    scene.told("kill -9 of giostra scale");
    scene.scale(&FAST)?;
    let id = &first[1].0;
    scene.slurm.ask("scontrol", &["requeue", id])?;
    scene.told(&format!("scontrol requeue {id}"));
    // Slurm starts it again after two minutes.
    wait_for("it waits again", || {
        scene.slurm.jobs(JOBS).ok()?.iter().any(|job| job.0 == *id && job.1 == "PENDING").then_some(())
    })?;
    let known = |job: &str| before.iter().any(|(id, ..)| id == job);
    ensure!(scene.slurm.jobs(JOBS)?.iter().all(|(id, ..)| known(id)), "the second one has started jobs again");

    let (id, node) = scene.running()?.pop().context("no job runs")?;
    scene.slurm.ask("scontrol", &["update", &format!("nodename={node}"), "state=down", "reason=test"])?;
    scene.told(&format!("node {node} down, with {id}"));

    let mut most = 0;
    let patience = Duration::from_secs(400);
    wait_within(patience, || {
        let alive = scene.slurm.jobs(JOBS).ok()?.iter().filter(|(_, state, _)| state != "COMPLETING").count();
        most = most.max(alive);
        (!work.is_running()).then_some(())
    })
    .context("it takes too long")?;
    work.finish()?;
    scene.told("all is answered, each once");
    ensure!(most <= 4, "{most} jobs at once");
    println!("{}", scene.scale.as_ref().context("scale")?.stderr());
    // The end of a lifetime, before the walltime.
    let outputs = || std::fs::read_dir(scene.system.folder().join("output")).into_iter().flatten().flatten();
    let text: String = outputs().filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
    let (old, left) = (text.matches("at the end of a lifetime").count(), text.matches("INFO  left").count());
    scene.told(&format!("{old} workers left at the end of their lifetime, {left} in order"));
    ensure!(old > 0 && left >= old, "{text}");

    wait_within(Duration::from_secs(120), || scene.slurm.jobs(JOBS).ok()?.is_empty().then_some(()))
        .context("jobs go on without requests")?;
    scene.told("no job is left");
    let lost = scene.system.lines(" dropped ");
    scene.told(&format!("lost without a word: {}", lost.len()));
    // The worker of the node that was set down, and one that was killed while it was requeued.
    ensure!(lost.len() <= 2, "{lost:?}");
    ensure!(scene.system.count(" poison ") == 0, "a request was given up");
    let report = scene.system.audit()?;
    scene.told(&format!("audit: {:?}", report.verdict()));
    Ok(())
}

pub fn what_slurm_refuses_is_told_before_anything_waits_for_it() -> Result<()> {
    let mut scene = Scene::new()?;
    let refused = scene.scale(&["--partition", "no-such"])?;
    ensure!(refused.wait()?.code() == Some(1));
    let said = refused.stderr();
    ensure!(said.contains("nvalid partition"), "{said}");
    let refused = scene.scale(&["--walltime", "2m", "--grace", "2m"])?;
    ensure!(refused.wait()?.code() == Some(2), "{}", refused.stderr());
    let dry = scene.scale(&["--min", "2", "--dry-run"])?;
    ensure!(dry.wait()?.code() == Some(0) && dry.stdout().contains("would start 2 workers"), "{}", dry.stdout());
    let printed = scene.scale(&["--print"])?;
    ensure!(printed.wait()?.code() == Some(0) && printed.stdout().contains("exec "), "{}", printed.stdout());
    ensure!(scene.slurm.jobs(JOBS)?.is_empty());
    Ok(())
}
