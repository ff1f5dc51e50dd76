//! Brokers in the test's own process.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use giostra_broker::{AllowError, Broker, Endpoint, Error, KeyPair, Keys, Options, Side};
use giostra_client::{CallError, Client, Credentials, code};
use giostra_tests::process::wait_for;
use giostra_worker::{Job, Shutdown, Worker};
use log::{LevelFilter, Log, Metadata, Record};

/// One test at a time: each looks at the threads and the log of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker of an embedded broker, until it is dropped.
struct Running {
    shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), giostra_worker::Error>>>,
}

impl Running {
    fn start(broker: &Broker, name: &str, credentials: Option<Credentials>) -> Result<Self> {
        let shutdown = Shutdown::new()?;
        let until = shutdown.clone();
        let mut worker = Worker::new(broker.backend())
            .name(name)
            .grace(Duration::ZERO)
            .operation("add", |(a, b): (i64, i64)| -> Result<_, String> { Ok(a + b) })
            .long_operation("hang", |(): (), job: &Job<'_>| -> Result<(), String> {
                while !job.is_cancelled() {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            });
        if let Some(credentials) = credentials {
            worker = worker.credentials(credentials);
        }
        Ok(Self { shutdown, thread: Some(thread::spawn(move || worker.run_until(&until))) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.request();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn client(broker: &Broker) -> Result<Client> {
    let options = giostra_client::Options::new(broker.frontend()).broker_timeout(Duration::from_millis(500));
    Ok(Client::connect(options)?)
}

/// The threads of libzmq and of brokers in this process.
fn threads() -> Result<Vec<String>> {
    let tasks = fs::read_dir("/proc/self/task")?;
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Ok(names.filter(|name| ["ZMQbg", "giostra-broker", "http"].iter().any(|start| name.starts_with(start))).collect())
}

#[test]
fn several_brokers_in_one_process_compute_side_by_side_and_leave_nothing_behind() -> Result<()> {
    let _alone = alone();
    ensure!(threads()?.is_empty(), "{:?}", threads()?);
    let brokers: Vec<_> = (0..3)
        .map(|_| Broker::start(Options { http: Some(([127, 0, 0, 1], 0).into()), ..Options::default() }))
        .collect::<Result<_, _>>()?;
    let workers: Vec<_> = brokers
        .iter()
        .map(|broker| Ok([Running::start(broker, "a", None)?, Running::start(broker, "b", None)?]))
        .collect::<Result<_>>()?;
    for (number, broker) in (0..).zip(&brokers) {
        let mut client = client(broker)?;
        let sums: Vec<i64> = client.map("add", (0..1000).map(|n| (n, number))).collect::<Result<_, _>>()?;
        ensure!(sums.into_iter().eq((0..1000).map(|n| n + number)));
        let address = broker.http().context("it has a page")?;
        let status: serde_json::Value = serde_json::from_str(
            &ureq::get(format!("http://{address}/status.json")).call()?.body_mut().read_to_string()?,
        )?;
        ensure!(status["totals"]["answered"] == 1000, "{status}");
    }
    drop(workers);
    let endpoints: Vec<_> =
        brokers.iter().map(|broker| [broker.frontend(), broker.backend()].map(String::from)).collect();
    drop(brokers);
    ensure!(threads()?.is_empty(), "{:?}", threads()?);
    for [frontend, backend] in &endpoints {
        let [frontend, backend] = [Endpoint::to_bind(frontend)?, Endpoint::to_bind(backend)?];
        let stopped = Broker::start(Options { frontend, backend, ..Options::default() })?.stop()?;
        ensure!(stopped == Default::default(), "{stopped:?}");
    }
    Ok(())
}

#[test]
fn a_client_of_a_broker_that_was_dropped_says_so() -> Result<()> {
    let _alone = alone();
    let broker = Broker::start(Options::default())?;
    let _worker = Running::start(&broker, "worker", None)?;
    let mut client = client(&broker)?;
    ensure!(client.compute::<i64>("add", &(1, 2))? == 3);
    drop(broker);
    match client.compute::<i64>("add", &(1, 2)) {
        Err(CallError::Failed(failure)) if failure.code == code::NO_BROKER => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn stopping_says_what_was_left_undone() -> Result<()> {
    let _alone = alone();
    let broker = Broker::start(Options::default())?;
    let _worker = Running::start(&broker, "worker", None)?;
    let mut client = client(&broker)?;
    client.submit(giostra_client::body("hang", &())?)?;
    wait_for("the worker has it", || {
        let status = client.status().ok()?;
        (status.workers.first()?.in_flight == 1).then_some(())
    })?;
    let stopped = broker.stop()?;
    ensure!((stopped.in_flight, stopped.unread_clients) == (1, 0), "{stopped:?}");
    Ok(())
}

#[test]
fn a_broker_that_cant_start_says_why() -> Result<()> {
    let _alone = alone();
    let first = Broker::start(Options::default())?;
    let taken = Endpoint::to_bind(first.backend())?;
    let error = Broker::start(Options { frontend: taken.clone(), ..Options::default() }).unwrap_err();
    ensure!(matches!(&error, Error::InUse { side: Side::Frontend, endpoint, .. } if *endpoint == taken), "{error:?}");
    let error = Broker::start(Options { backend: Endpoint::to_bind("tcp://*:*")?, ..Options::default() }).unwrap_err();
    ensure!(matches!(error, Error::Exposed { side: Side::Backend, .. }), "{error:?}");
    let nowhere = Endpoint::to_bind("tcp://192.0.2.1:*")?;
    let error = Broker::start(Options { backend: nowhere, insecure: true, ..Options::default() }).unwrap_err();
    ensure!(matches!(error, Error::Bind { side: Side::Backend, .. }), "{error:?}");
    let error = Broker::start(Options { http: Some(([0, 0, 0, 0], 0).into()), ..Options::default() }).unwrap_err();
    ensure!(matches!(error, Error::HttpExposed(_)), "{error:?}");
    let keys = Some(Keys { own: KeyPair::generate()?, allow: "/nonexistent".into() });
    let error = Broker::start(Options { keys, ..Options::default() }).unwrap_err();
    ensure!(matches!(error, Error::Allow(AllowError::NoFolder(..))), "{error:?}");
    Ok(())
}

#[test]
fn with_keys_it_accepts_exactly_the_listed_peers() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let [own, client_keys, worker_keys] = [KeyPair::generate()?, KeyPair::generate()?, KeyPair::generate()?];
    let allow = |role: &str, keys: &KeyPair| -> Result<()> {
        let made = tempfile::tempdir()?;
        let [public, _] = keys.write(made.path(), role)?;
        fs::create_dir_all(folder.path().join(role))?;
        fs::copy(public, folder.path().join(role).join(Path::new(role).with_extension("key")))?;
        Ok(())
    };
    let keys = Some(Keys { own: own.clone(), allow: folder.path().into() });
    let broker = Broker::start(Options { keys, ..Options::default() })?;
    allow("client", &client_keys)?;
    allow("worker", &worker_keys)?;
    broker.reload_keys();
    let credentials = |keys: &KeyPair| Credentials::new(keys.clone(), own.public);
    let _worker = Running::start(&broker, "worker", Some(credentials(&worker_keys)))?;
    let options = giostra_client::Options::new(broker.frontend()).credentials(credentials(&client_keys));
    let mut client = Client::connect(options)?;
    ensure!(client.compute::<i64>("add", &(1, 2))? == 3);
    Ok(())
}

#[test]
fn its_log_lines_go_to_the_processs_logger() -> Result<()> {
    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    struct Lines;
    impl Log for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("giostra_broker")
        }
        fn log(&self, record: &Record<'_>) {
            if self.enabled(record.metadata()) {
                LINES.lock().expect("no test panics here").push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    let _alone = alone();
    log::set_logger(&Lines).map_err(|error| anyhow::anyhow!("{error}"))?;
    log::set_max_level(LevelFilter::Debug);
    let [first, second] = [Broker::start(Options::default())?, Broker::start(Options::default())?];
    let worker = Running::start(&second, "worker", None)?;
    ensure!(client(&second)?.compute::<i64>("add", &(1, 2))? == 3);
    drop((worker, first, second));
    log::set_max_level(LevelFilter::Off);
    let lines = LINES.lock().expect("no test panics here");
    for (start, count) in [("listening ", 2), ("joined worker ", 1), ("dispatch worker ", 1), ("stopped", 2)] {
        ensure!(lines.iter().filter(|line| line.starts_with(start)).count() == count, "{start}: {lines:#?}");
    }
    Ok(())
}

#[test]
fn the_page_on_ones_own_work_shows_the_example_that_is_compiled() {
    let example = include_str!("../../broker/examples/in_process.rs");
    let (_, code) = example.split_once("\n\n").expect("its doc comment ends");
    assert!(include_str!("../../docs/own-work.md").contains(code), "docs/own-work.md has other code");
}
