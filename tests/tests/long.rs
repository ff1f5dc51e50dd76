//! Long computations: how far they are, and that they end when nobody waits for them. And requests
//! that do not wait for a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use giostra_client::Client;
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Bytes, Outcome, code};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_transport::shutdown::Shutdown;
use giostra_worker::{Job, Worker};

/// A worker in this process whose one operation goes on until nobody waits for it, and counts.
struct Endless {
    begun: Arc<AtomicU32>,
    ended: Arc<AtomicU32>,
    stop: Shutdown,
    thread: Option<JoinHandle<Result<(), giostra_worker::Error>>>,
}

impl Endless {
    fn start(system: &System) -> Result<Self> {
        let (begun, ended, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Shutdown::new()?);
        let counters = (Arc::clone(&begun), Arc::clone(&ended));
        let go_on = move |name: String, job: &Job<'_>| -> Result<String, String> {
            counters.0.fetch_add(1, Ordering::SeqCst);
            for step in 1.. {
                if job.is_cancelled() {
                    break;
                }
                job.progress(step, 0);
                thread::sleep(Duration::from_millis(1));
            }
            counters.1.fetch_add(1, Ordering::SeqCst);
            Ok(name)
        };
        let worker = Worker::new(system.backend()).name("endless").pool("long").long_operation("go_on", go_on);
        let until = stop.clone();
        Ok(Self { begun, ended, stop, thread: Some(thread::spawn(move || worker.run_until(&until))) })
    }

    fn wait_until_begun(&self, count: u32) -> Result<()> {
        wait_for("it computes", || (self.begun.load(Ordering::SeqCst) == count).then_some(()))
    }

    fn go_on_until_begun(&self, client: &mut Client, count: u32) -> Result<()> {
        wait_for("it computes", || {
            let turned = client.next_reply(Some(Duration::from_millis(10)));
            (turned.is_ok() && self.begun.load(Ordering::SeqCst) == count).then_some(())
        })
    }

    fn wait_until_ended(&self, count: u32) -> Result<()> {
        wait_for("it has noticed", || (self.ended.load(Ordering::SeqCst) == count).then_some(()))
    }

    fn leave(mut self) -> Result<()> {
        self.stop.request();
        let thread = self.thread.take().expect("it is joined once");
        thread.join().map_err(|_| anyhow!("the worker panicked"))?.map_err(Into::into)
    }
}

fn body(name: &str) -> Bytes {
    Call { operation: "go_on".into(), arguments: vec![Value::Text(name.into())] }.to_body()
}

#[test]
fn progress_comes_while_it_is_computed_and_goes_with_the_reply() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let worker = Endless::start(&system)?;
    let mut client = system.client_of("long")?;
    let id = client.submit_within(body("a"), Some(Duration::from_secs(5)))?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        ensure!(client.next_reply(Some(Duration::from_millis(10)))?.is_none(), "only {seen:?} was said of it");
        let news = client.progress().map(|(of, progress)| (of, progress.done)).last();
        seen.extend(news.filter(|news| seen.last() != Some(news)));
    }
    ensure!(seen.iter().all(|&(of, _)| of == id) && seen.is_sorted_by_key(|&(_, done)| done), "{seen:?}");
    let reply = client.next_reply(None)?.expect("without a limit there is a reply");
    ensure!(matches!(&reply.outcome, Outcome::Error(failure) if failure.code == code::EXPIRED), "{reply:?}");
    ensure!(client.progress().next().is_none());
    worker.wait_until_ended(1)?;
    worker.leave()
}

#[test]
fn cancelled_requests_are_abandoned_and_waiting_ones_never_begun() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let worker = Endless::start(&system)?;
    let mut client = system.client_of("long")?;
    let ids = ["a", "b", "c"].map(|name| client.submit(body(name)));
    let [a, b, c] = ids.map(|id| id.map_err(anyhow::Error::from));
    let (a, b, c) = (a?, b?, c?);
    worker.go_on_until_begun(&mut client, 1)?;
    client.cancel([b])?;
    client.cancel([a])?;
    worker.wait_until_begun(2)?;
    worker.wait_until_ended(1)?;
    ensure!(client.unanswered() == 1);
    client.cancel([c])?;
    worker.wait_until_ended(2)?;
    // All three have made room, though the one that waited was not computed.
    wait_for("the broker knows", || {
        let log = system.log();
        ["c1#1", "c1#2", "c1#3"].iter().all(|it| log.contains(&format!("late=0 {it}"))).then_some(())
    })?;
    ensure!(worker.begun.load(Ordering::SeqCst) == 2 && client.take_reply().is_none() && client.duplicated() == 0);
    worker.leave()
}

#[test]
fn computation_stops_for_a_client_that_is_gone() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let worker = Endless::start(&system)?;
    let mut client = system.client_of("long")?;
    client.submit(body("a"))?;
    client.submit(body("b"))?;
    worker.go_on_until_begun(&mut client, 1)?;
    drop(client);
    worker.wait_until_ended(1)?;
    ensure!(worker.begun.load(Ordering::SeqCst) == 1);
    worker.leave()
}

#[test]
fn a_worker_whose_broker_is_killed_gives_up_and_computes_it_anew_for_the_next() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let worker = Endless::start(&system)?;
    let mut client = system.client_of("long")?;
    client.submit(body("a"))?;
    worker.go_on_until_begun(&mut client, 1)?;
    system.kill_broker()?;
    worker.wait_until_ended(1)?;
    system.start_broker()?;
    worker.go_on_until_begun(&mut client, 2)?;
    client.cancel_all()?;
    worker.wait_until_ended(2)?;
    worker.leave()
}

#[test]
fn without_waiting_a_request_fails_at_once_and_names_the_pools() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let answer = system.run(&["send", "add", "1", "2", "--no-wait", "--pool", "nightly"])?;
    let told = "no-worker: pool 'nightly' has no worker; there are workers in compute";
    ensure!(answer.code == Some(1) && answer.stderr.contains(told), "{answer:?}");
    let answer = system.run(&["random", "10", "--no-wait", "--pool", "nightly", "--json"])?;
    ensure!(answer.code == Some(1) && answer.stdout.contains(r#""errors":{"no-worker":10}"#), "{answer:?}");
    ensure!(system.run(&["random", "10", "--no-wait", "--json"])?.all_well()?["answered"] == 10);
    system.audit().map(drop)
}
