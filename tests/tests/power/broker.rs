//! The power cut under a real broker: jobs whose ids clients were told are there and go on, and those
//! that they were told to be finished have their results.

use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_client::{Client, JobId, JobOptions, JobState, Options, body, result};
use giostra_tests::process::binary;
use giostra_tests::{Port, Process, Setup};
use rand::RngExt as _;

use super::*;

/// How many cuts of each [`CUTS`] are under a broker.
const SHARE: usize = 5;

/// How long a client waits for a broker that was killed.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a client was told.
enum Told {
    /// When a job was safe: its first number, and how many requests it has.
    Submitted(JobId, u32, u32),
    /// When a job was finished.
    Finished(JobId),
}

#[test]
fn what_clients_of_a_broker_were_told_survives_power_cuts() -> Result<()> {
    let mut bench = Bench::new()?;
    let (mut submitted, mut finished) = (0, 0);
    for _ in 0..wanted_cuts().div_ceil(SHARE) {
        let store = TempDir::new_in(bench.folder.path())?;
        let (ops, told) = bench.broker_life(store.path())?;
        let mut disk = Disk::default();
        ops.into_iter().for_each(|op| disk.apply(op));
        let after = TempDir::new_in(bench.folder.path())?;
        disk.after_a_cut(&mut bench.rng).write(after.path())?;
        let counts = check(after.path(), &told)?;
        (submitted, finished) = (submitted + counts.0, finished + counts.1);
    }
    println!("{submitted} jobs submitted, {finished} of them finished before the cut");
    ensure!(submitted > 20 && finished > 5, "too few to tell");
    Ok(())
}

impl Bench {
    /// Runs a broker with a store, a worker and two clients, until the broker is killed at a random
    /// moment. Returns what it did to the folder, and what the clients were told.
    fn broker_life(&mut self, store: &Path) -> Result<(Vec<Op>, Vec<Told>)> {
        let (front, back, trace) = (Port::reserve()?, Port::reserve()?, self.folder.path().join("trace"));
        let (frontend, backend) = (front.endpoint(), back.endpoint());
        let mut command = Command::new(binary("giostra-broker")?);
        command.args(["--frontend", &frontend, "--backend", &backend, "--store"]).arg(store);
        command.arg("--log-dir").arg(self.folder.path().join("log"));
        command.env("LD_PRELOAD", &self.library).env(FOLDER, store).env(TRACE, &trace);
        let broker = Process::spawn(self.folder.path(), "broker", command)?;
        let worker = Process::start(self.folder.path(), "worker", "giostra-worker", &["--broker", &backend])?;
        let (tell, told) = mpsc::channel();
        let (ids, to_wait) = mpsc::channel();
        let submitting = client(&frontend)?;
        let waiting = client(&frontend)?;
        let seed = self.rng.random();
        let threads = [
            thread::spawn({
                let tell = tell.clone();
                move || submit(submitting, &tell, &ids, seed)
            }),
            thread::spawn(move || wait(waiting, &tell, &to_wait)),
        ];
        thread::sleep(Duration::from_millis(self.rng.random_range(300..1500)));
        broker.kill()?;
        for thread in threads {
            thread.join().expect("a client does not panic");
        }
        worker.kill()?;
        Ok((self.trace()?, told.into_iter().collect()))
    }
}

fn client(frontend: &str) -> Result<Client> {
    // Patient until the broker listens.
    let mut client = Client::connect(Options::new(frontend))?;
    client.await_broker()?;
    drop(client);
    Ok(Client::connect(Options::new(frontend).broker_timeout(PATIENCE))?)
}

/// Submits jobs until the broker is gone.
fn submit(mut client: Client, tell: &Sender<Told>, ids: &Sender<JobId>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for first in (0..).step_by(10_000) {
        let count = rng.random_range(1..2000);
        let requests = (first..first + count).map(|number| body("add", &[number, 1]).expect("numbers"));
        let Ok(id) = client.submit_job(JobOptions::default(), requests) else { return };
        let _ = tell.send(Told::Submitted(id, first, count));
        let _ = ids.send(id);
    }
}

/// Waits for the jobs until the broker is gone.
fn wait(mut client: Client, tell: &Sender<Told>, ids: &Receiver<JobId>) {
    for id in ids {
        match client.job(id).wait(None) {
            Ok(status) if status.state == JobState::Finished => drop(tell.send(Told::Finished(id))),
            _ => return,
        }
    }
}

/// Starts a broker after a power cut, and checks what clients were told. Returns how many jobs were
/// submitted, and how many finished.
fn check(store: &Path, told: &[Told]) -> Result<(usize, usize)> {
    let system = Setup::workers(1).broker(&["--store", &store.display().to_string()]).start()?;
    let mut client = system.client()?;
    let mut counts = (0, 0);
    for told in told {
        match *told {
            Told::Finished(id) => {
                let state = client.job(id).status().with_context(|| id.to_string())?.state;
                ensure!(state == JobState::Finished, "{id} is {state}, and was finished");
                counts.1 += 1;
            }
            Told::Submitted(..) => counts.0 += 1,
        }
    }
    for told in told {
        let Told::Submitted(id, first, count) = *told else { continue };
        let status = client.job(id).wait(None).with_context(|| id.to_string())?;
        ensure!((status.requests, status.succeeded) == (count, count), "{status:?}, not {count} results");
        for (expected, found) in (first..).zip(client.job(id).results(0)) {
            ensure!(result::<u32>(found?.1)? == expected + 1, "another result of {expected}");
        }
    }
    drop(client);
    drop(system);
    let problems = maintenance::check(store)?.problems;
    ensure!(problems.is_empty(), "{problems:#?}");
    Ok(counts)
}
