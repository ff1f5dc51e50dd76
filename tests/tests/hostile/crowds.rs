//! Good messages, but too many of them: pools without number, large bodies for a worker that does
//! not read.

use anyhow::{Context as _, Result, bail, ensure};
use giostra_protocol::{Bytes, FromClient, RequestId, ToClient};
use giostra_tests::Setup;
use giostra_tests::message;
use giostra_tests::process::wait_for;
use nix::sys::signal::Signal;

use crate::check;
use crate::peer::Peer;

fn submit(session: u64, pool: &str, timeout_ms: u64, id: u64, bytes: usize) -> FromClient {
    let requests = vec![(RequestId(id), Bytes::from(vec![0xc0; bytes]))];
    message::submit(session, pool, timeout_ms, requests)
}

#[test]
fn requests_to_a_pool_each_are_bounded_and_the_status_says_what_it_leaves_out() -> Result<()> {
    const POOLS: u64 = 12_000;
    let mut system = Setup::workers(1).start()?;
    let (client, session) = Peer::client(system.frontend())?;
    for id in 0..POOLS {
        client.say(submit(session, &format!("pool-{id}"), 0, id, 1))?;
        if id % 100 == 0 {
            client.ignore()?;
        }
    }
    let of = |status: &serde_json::Value, list: &str, count: &str| status[list][count].as_u64().unwrap_or_default();
    let all = wait_for("all of them are dealt with", || {
        client.ignore().expect("the connection is there");
        let status = system.status().ok()?;
        (of(&status, "totals", "accepted") + of(&status, "totals", "refused") >= POOLS).then_some(status)
    })?;
    // Besides theirs there is that of the worker.
    let pools = all["pools"].as_array().context("a list of pools")?;
    ensure!(pools.len() == 1000 && pools.iter().any(|pool| pool["name"] == "compute"), "{} pools", pools.len());
    let kept = pools.len() as u64 + of(&all, "left_out", "pools");
    ensure!((7_900..=8_001).contains(&kept), "{kept} pools are kept");

    (0..100).try_for_each(|_| client.say(FromClient::<Bytes>::Inspect))?;
    system.random(&["500", "--timeout", "30s"])?;
    let told = system.run(&["status"])?;
    ensure!(told.stdout.contains("left out below") && told.stderr.is_empty(), "{told:?}");
    let bytes = system.broker().rss()?;
    ensure!(bytes < 200 << 20, "the broker has {bytes} bytes");
    check(&mut system)
}

#[test]
fn large_requests_that_expire_at_a_frozen_worker_take_no_more_memory_than_they_may() -> Result<()> {
    const REQUESTS: u64 = 400;
    const BODY: usize = 1 << 20;
    let mut system =
        Setup::workers(1).broker(&["--max-pending-bytes", "32MiB"]).worker(&["--threads", "500"]).start()?;
    let before = system.broker().rss()?;
    system.worker(1).signal(Signal::SIGSTOP)?;
    let (client, session) = Peer::client(system.frontend())?;
    let (mut most, mut rejected) = (before, 0);
    for id in 0..REQUESTS {
        client.say(submit(session, "compute", 1, id, BODY))?;
        loop {
            match client.hear()? {
                ToClient::Replies(_) => break,
                ToClient::Rejected(_) => break rejected += 1,
                ToClient::Credit { .. } => {}
                other => bail!("{other:?}"),
            }
        }
        most = most.max(system.broker().rss()?);
    }
    println!("{before} bytes before, {most} at most, {rejected} of {REQUESTS} rejected");
    ensure!(rejected > 0, "all were taken");
    ensure!(most < before + (128 << 20), "{before} bytes before, {most} at most");
    // It is dropped, loses its connection, and comes back by itself.
    system.wait_for_line(&[" dropped worker-1 w1 "])?;
    system.worker(1).signal(Signal::SIGCONT)?;
    system.wait_for_registration(1, 2)?;
    check(&mut system)
}
