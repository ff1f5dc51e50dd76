//! The client library as programs use it: typed calls, an iterator over many, a client for threads
//! and tasks.

use std::future::Future;
use std::iter::repeat;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use giostra_client::{CallError, Client, Error, Options, Progress, SharedClient, body};
use giostra_protocol::{Failure, Outcome, code};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_worker::{Job, Shutdown, Worker};
use serde_json::Value;

fn options(system: &System) -> Options {
    Options { broker: system.frontend().into(), ..Options::default() }
}

fn client(system: &System) -> Result<Client> {
    Ok(Client::connect(options(system))?)
}

fn code_of<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Failed(failure)) => failure.code,
        other => format!("{other:?}"),
    }
}

/// The number of requests that the broker counted as cancelled, once it is at least this.
fn wait_for_cancelled(system: &mut System, at_least: u64) -> Result<()> {
    wait_for("they are cancelled", || {
        let totals = system.status().ok()?["totals"].clone();
        let gone = |key: &str| totals.get(key).and_then(Value::as_u64).unwrap_or(0);
        (gone("cancelled") >= at_least).then_some(())
    })
}

#[test]
fn a_typed_call_has_a_result_of_its_type_or_says_why_not() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let mut client = client(&system)?;
    assert_eq!(client.compute::<i64>("add", &(1, 2))?, 3);
    assert_eq!(client.compute::<Vec<u32>>("primes", &[10])?, [2, 3, 5, 7]);
    assert_eq!(code_of(client.compute::<f64>("div", &(1, 0))), code::FAILED);
    assert_eq!(code_of(client.compute::<f64>("div", &[1])), code::INVALID);
    assert!(matches!(client.compute::<bool>("add", &(1, 2)), Err(CallError::Decode(_))));
    let slow = client.compute_within::<f64>("sleep", &[30], Duration::from_millis(200));
    assert_eq!(code_of(slow), code::EXPIRED);
    Ok(())
}

#[test]
fn the_longest_duration_is_for_ever_in_both_libraries() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let shutdown = Shutdown::new()?;
    let worker = Worker::new(system.backend()).name("patient").threads(0).grace(Duration::MAX);
    let until = shutdown.clone();
    let worker =
        thread::spawn(move || worker.operation("add", |(a, b): (i64, i64)| Ok::<_, String>(a + b)).run_until(&until));
    for broker_timeout in [Duration::MAX, Duration::from_secs(i64::MAX as u64 - (1 << 40))] {
        let mut client = Client::connect(Options { broker_timeout, ..options(&system) })?;
        client.await_broker()?;
        assert_eq!(client.compute_within::<i64>("add", &(1, 2), broker_timeout)?, 3);
        let status = client.status()?;
        assert_eq!(status.workers.iter().map(|worker| worker.threads).collect::<Vec<_>>(), [1]);
        client.submit_within(body("add", &(1, 2))?, Some(broker_timeout))?;
        assert!(client.next_reply(Some(broker_timeout))?.is_some());
        drop(client);
        let shared = SharedClient::connect(Options { broker_timeout, ..options(&system) })?;
        assert_eq!(shared.compute_within::<i64>("add", &(1, 2), broker_timeout).wait()?, 3);
    }
    shutdown.request();
    worker.join().expect("the worker did not panic")?;
    Ok(())
}

#[test]
fn a_map_gives_the_results_in_order_each_failure_in_its_place() -> Result<()> {
    let system = Setup::workers(3).start()?;
    let mut client = client(&system)?;
    let before = client.submit(body("add", &(40, 2))?)?;
    let pairs = (0..20_000_i64).map(|n| (n, n % 100));
    let mut failed = 0;
    for (n, quotient) in (0..20_000_i64).zip(client.map::<f64, _>("div", pairs).window(300)) {
        match quotient {
            Ok(quotient) => assert_eq!(quotient, n as f64 / (n % 100) as f64),
            failure => {
                assert_eq!((code_of(failure), n % 100), (code::FAILED.into(), 0));
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 200);
    // A reply to what was asked before is left for later.
    let reply = client.next_reply(None)?.context("a reply")?;
    assert_eq!((reply.id, client.unanswered()), (before, 0));
    Ok(())
}

#[test]
fn unordered_results_come_once_each_with_their_index() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let mut client = client(&system)?;
    let mut places: Vec<_> = client
        .map::<i64, _>("add", (0..10_000).map(|n| (n, 1)))
        .unordered()
        .map(|(place, sum)| sum.map(|sum| (place, sum)))
        .collect::<Result<_, _>>()?;
    places.sort_unstable();
    assert!(places.into_iter().eq((0..10_000).map(|n| (n, n as i64 + 1))));
    Ok(())
}

#[test]
fn a_map_submits_no_more_than_its_window_and_bytes_allow() -> Result<()> {
    let system = Setup::workers(2).worker(&["--threads", "4"]).start()?;
    let mut client = client(&system)?;
    let asked = AtomicU64::new(0);
    // The first takes a second: the results after it must not pile up.
    let times = (0..5000).map(|n| {
        asked.fetch_add(1, Ordering::Relaxed);
        [if n == 0 { 1.0 } else { 0.0 }]
    });
    let mut map = client.map::<f64, _>("sleep", times).window(50);
    assert_eq!(map.next().context("the first")??, 1.0);
    assert!(asked.load(Ordering::Relaxed) <= 51, "{asked:?}");
    assert_eq!(map.count(), 4999);
    // A hundred results of 80 kB each; four fit.
    asked.store(0, Ordering::Relaxed);
    let limits = (0..100).map(|_| {
        asked.fetch_add(1, Ordering::Relaxed);
        [200_000]
    });
    let mut map = client.map::<Vec<u32>, _>("primes", limits).window(2).bytes(300_000);
    for taken in 1..=100 {
        assert_eq!(map.next().context("a result")??.len(), 17_984);
        assert!(asked.load(Ordering::Relaxed) <= taken + 2, "{asked:?} after {taken}");
    }
    Ok(())
}

#[test]
fn long_calls_of_a_map_are_computed_on_all_threads() -> Result<()> {
    const THREADS: usize = 200;
    let system = Setup::workers(0).start()?;
    let stop = Shutdown::new()?;
    let computing = Arc::new(Barrier::new(THREADS));
    let worker = Worker::new(system.backend()).threads(THREADS).operation("together", {
        move |_: u64| {
            computing.wait();
            Ok::<_, String>(true)
        }
    });
    let serving = thread::spawn({
        let stop = stop.clone();
        move || worker.run_until(&stop)
    });
    let mut client = client(&system)?;
    let results = client.map::<bool, _>("together", 0..THREADS as u64).timeout(Duration::from_secs(60));
    assert!(results.collect::<Result<Vec<_>, _>>()?.len() == THREADS);
    stop.request();
    serving.join().expect("no panic")?;
    Ok(())
}

#[test]
fn a_time_limit_that_ends_in_centuries_is_none() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut client = Client::connect(Options { broker_timeout: Duration::MAX, ..options(&system) })?;
    client.await_broker()?;
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2)] {
        let reply = client.call(body("add", &(1, 2))?, Some(timeout))?;
        assert!(matches!(reply.outcome, Outcome::Ok(_)), "{reply:?}");
        assert!(client.next_reply(Some(Duration::ZERO))?.is_none());
        let map = client.map::<i64, _>("add", [(1, 2), (3, 4)]).window(usize::MAX).bytes(usize::MAX).timeout(timeout);
        assert_eq!(map.collect::<Result<Vec<_>, _>>()?, [3, 7]);
    }
    let shared = SharedClient::connect(Options { broker_timeout: Duration::MAX, ..options(&system) })?;
    assert_eq!(shared.compute_within::<i64>("add", &(1, 2), Duration::MAX).wait()?, 3);
    Ok(())
}

#[test]
fn waiting_with_nothing_unanswered_returns_none_at_once() -> Result<()> {
    let mut client = Client::connect(Options { broker: "tcp://127.0.0.1:1".into(), ..Options::default() })?;
    assert!(client.next_reply(None)?.is_none());
    Ok(())
}

#[test]
fn requests_of_a_refused_message_fail_and_nothing_waits_for_them() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut client = Client::connect(Options { pool: "not one word".into(), ..options(&system) })?;
    let ids = [client.submit(body("add", &(1, 2))?)?, client.submit(body("add", &(3, 4))?)?];
    for id in ids {
        let reply = client.next_reply(None)?.context("a reply")?;
        let Outcome::Error(failure) = &reply.outcome else { panic!("{reply:?}") };
        assert_eq!((reply.id, &*failure.code), (id, code::REFUSED), "{failure}");
        assert!(failure.message.starts_with("pool: "), "{failure}");
    }
    assert_eq!(client.unanswered(), 0);
    // The same connection goes on.
    client.await_broker()?;
    Ok(())
}

#[test]
fn a_dropped_map_cancels_what_is_unanswered() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut client = client(&system)?;
    let mut map = client.map::<f64, _>("sleep", (0..1000).map(|n| [if n == 0 { 0.0 } else { 2.0 }]));
    assert_eq!(map.next().context("the first")??, 0.0);
    drop(map);
    assert_eq!(client.unanswered(), 0);
    // As many as are asked for before much is known of the results; one of them is being computed, to
    // its end.
    wait_for_cancelled(&mut system, 60)?;
    let began = Instant::now();
    assert_eq!(client.map::<i64, _>("add", [(1, 2)]).next().context("one")??, 3);
    assert!(began.elapsed() < Duration::from_secs(20));
    Ok(())
}

#[test]
fn a_map_ends_with_the_error_after_which_the_client_cannot_go_on() -> Result<()> {
    let mut client = Client::connect(Options { broker: "tcp://127.0.0.1:1".into(), ..Options::default() })?;
    let map = client.map::<i64, _>("add", (0..10).map(|n| (n, n))).timeout(Duration::from_millis(100));
    let codes: Vec<_> = map.map(code_of).collect();
    assert_eq!(codes, [code::NO_BROKER; 10]);
    let shutdown = Shutdown::new()?;
    shutdown.request();
    let options = Options { shutdown: Some(shutdown), ..Options::default() };
    let mut client = Client::connect(options)?;
    let results: Vec<_> = client.map::<i64, _>("add", (0..10).map(|n| (n, n))).collect();
    assert!(matches!(&results[..], [Err(CallError::Client(Error::Interrupted))]), "{results:?}");
    Ok(())
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The least there can be of a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn answers_can_be_awaited_without_a_runtime_and_in_tokio() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let shared = SharedClient::connect(options(&system))?;
    let sums = async {
        let asked: Vec<_> = (0..500).map(|n| shared.compute::<i64>("add", &(n, n))).collect();
        let mut sums = Vec::new();
        for sum in asked {
            sums.push(sum.await?);
        }
        Ok::<_, CallError>(sums)
    };
    assert!(block_on(sums)?.into_iter().eq((0..500).map(|n| 2 * n)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let tasks: Vec<_> = (0..500_i64)
        .map(|n| {
            let shared = shared.clone();
            runtime.spawn(async move { shared.compute::<i64>("mul", &(n, n)).await })
        })
        .collect();
    for (n, task) in (0..).zip(tasks) {
        assert_eq!(runtime.block_on(task)??, n * n);
    }
    Ok(())
}

#[test]
fn many_threads_share_one_connection() -> Result<()> {
    let system = Setup::workers(3).start()?;
    let shared = SharedClient::connect(options(&system))?;
    thread::scope(|scope| {
        for thread in 0..8_i64 {
            let shared = &shared;
            scope.spawn(move || {
                for n in 0..200 {
                    assert_eq!(shared.compute::<i64>("add", &(thread, n)).wait().expect("a sum"), thread + n);
                }
            });
        }
    });
    // Those who ask at once may share an answer.
    for asked in (0..100).map(|_| shared.status()).collect::<Vec<_>>() {
        let clients = asked.wait()?.clients;
        assert_eq!(clients.iter().map(|client| client.answered).collect::<Vec<_>>(), [1600]);
    }
    Ok(())
}

#[test]
fn calls_beyond_the_brokers_limit_wait_within_their_time_limits_and_are_cancelled_when_dropped() -> Result<()> {
    let mut system = Setup::workers(1).broker(&["--max-pending", "50"]).start()?;
    let shared = SharedClient::connect(options(&system))?;
    let slow: Vec<_> = (0..100).map(|_| shared.compute::<f64>("sleep", &[30])).collect();
    let quick: Vec<_> = (0..100_000_i64).map(|n| shared.compute::<i64>("add", &(n, n))).collect();
    // They wait here, and so does this one.
    let expired = shared.compute_within::<i64>("add", &(1, 2), Duration::from_millis(300)).wait();
    assert_eq!(code_of(expired), code::EXPIRED);
    drop(slow);
    // All that the broker knew of: its one client may have four fifths of the room.
    wait_for_cancelled(&mut system, 40)?;
    // The one that is being computed is so to its end: another worker takes the rest.
    system.start_worker(2)?;
    system.kill_worker(1)?;
    for (n, sum) in (0..).zip(quick) {
        assert_eq!(sum.wait()?, 2 * n);
    }
    Ok(())
}

/// A worker with an operation that says how far it is, until it is told to go on; with 0, it has
/// nothing to say.
fn reporting_worker(system: &System, go_on: Arc<AtomicBool>) -> Result<(Shutdown, thread::JoinHandle<()>)> {
    let stop = Shutdown::new()?;
    let worker = Worker::new(system.backend()).name("reporting").long_operation(
        "report",
        move |n: u64, job: &Job<'_>| -> Result<u64, String> {
            if n > 0 {
                job.progress(n, 10);
            }
            while n > 0 && !go_on.load(Ordering::Acquire) && !job.is_cancelled() {
                sleep(Duration::from_millis(5));
            }
            Ok(n)
        },
    );
    let worker = worker.threads(3);
    let thread = thread::spawn({
        let stop = stop.clone();
        move || worker.run_until(&stop).expect("it works")
    });
    Ok((stop, thread))
}

#[test]
fn progress_is_visible_at_an_answer_and_in_a_map() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let go_on = Arc::new(AtomicBool::new(false));
    let (stop, worker) = reporting_worker(&system, Arc::clone(&go_on))?;
    let shared = SharedClient::connect(options(&system))?;
    let answers: Vec<_> = (1..=2_u64).map(|n| shared.compute::<u64>("report", &[n])).collect();
    for (n, answer) in (1..).zip(&answers) {
        wait_for("its progress", || (answer.progress() == Some(Progress { done: n, total: 10 })).then_some(()))?;
    }
    go_on.store(true, Ordering::Release);
    for (n, answer) in (1..).zip(answers) {
        assert_eq!(answer.wait()?, n);
    }
    // In a map, it is by place; what is quick goes on meanwhile.
    go_on.store(false, Ordering::Release);
    let mut client = client(&system)?;
    let mut map = client.map::<u64, _>("report", [5, 9].into_iter().chain(repeat(0))).window(20).unordered();
    let expected = [(0, Progress { done: 5, total: 10 }), (1, Progress { done: 9, total: 10 })];
    wait_for("its progress in the map", || {
        let quick = map.next().is_some_and(|(_, result)| result.is_ok_and(|n| n == 0));
        (!quick || map.progress().eq(expected)).then_some(quick)
    })?;
    assert!(map.progress().eq(expected));
    drop(map);
    stop.request();
    worker.join().expect("it does not panic");
    Ok(())
}

#[test]
fn when_the_last_answer_and_client_are_gone_so_is_the_connection() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let shared = SharedClient::connect(options(&system))?;
    let answer = shared.call(body("add", &(1, 2))?, None);
    drop(shared);
    // The answer keeps it.
    assert!(matches!(answer.wait()?.outcome, Outcome::Ok(_)));
    system.wait_for_line(&[" client-left "]).map(drop)
}

#[test]
fn a_shared_client_that_cannot_go_on_gives_each_caller_the_reason() -> Result<()> {
    let shutdown = Shutdown::new()?;
    let options = Options { shutdown: Some(shutdown.clone()), ..Options::default() };
    let shared = SharedClient::connect(Options { broker: "tcp://127.0.0.1:1".into(), ..options })?;
    let waiting: Vec<_> = (0..3).map(|n| shared.compute::<i64>("add", &(n, n))).collect();
    sleep(Duration::from_millis(50));
    shutdown.request();
    for answer in waiting.into_iter().chain([shared.compute("add", &(1, 2))]) {
        let ended = answer.wait();
        assert!(matches!(&ended, Err(CallError::Client(Error::Ended(_)))), "{ended:?}");
        assert_eq!(ended.unwrap_err().to_string(), "interrupted");
    }
    Ok(())
}

#[test]
fn an_operation_that_can_not_compute_now_has_its_request_handed_to_another_worker() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let able = Arc::new(AtomicBool::new(false));
    let shutdown = Shutdown::new()?;
    let start = |name: &str, operation: Box<dyn Fn() -> Result<&'static str, Failure> + Send + Sync>| {
        let worker = Worker::new(system.backend()).name(name).operation("whose", move |(): ()| operation());
        let shutdown = shutdown.clone();
        thread::spawn(move || worker.run_until(&shutdown))
    };
    let is_able = Arc::clone(&able);
    let picky = start(
        "picky",
        Box::new(move || match is_able.load(Ordering::Acquire) {
            true => Ok("picky"),
            false => Err(Failure::new(code::UNABLE, "the licence is taken")),
        }),
    );
    system.wait_for_line(&[" joined picky "])?;
    let patient = start("patient", Box::new(|| Ok("patient")));
    system.wait_for_line(&[" joined patient "])?;
    let mut client = client(&system)?;
    for _ in 0..20 {
        assert_eq!(client.compute::<String>("whose", &())?, "patient");
    }
    assert!(system.log().contains(" reason=the licence is taken"));
    able.store(true, Ordering::Release);
    wait_for("it takes its turns again", || (client.compute::<String>("whose", &()).ok()? == "picky").then_some(()))?;
    let report = system.audit()?;
    assert_eq!((report.counts.reply_errors, report.max_lost), (0, 0), "{report}");
    shutdown.request();
    for worker in [picky, patient] {
        worker.join().expect("it does not panic")?;
    }
    Ok(())
}
