//! What many requests leave behind, and how many there are in a second.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use giostra_protocol::Outcome;
use giostra_tests::process::PATIENCE;
use serde_json::json;

use crate::bench::Bench;

#[test]
fn a_thousand_requests_leave_nothing_behind() -> Result<()> {
    for way in ["--exec", "--exec-lines"] {
        let script = if way == "--exec" { "sh -c 'echo $1; exit 0' sh" } else { "cat" };
        let mut bench = Bench::start(&[way, script, "--threads", "2"])?;
        let round = |bench: &mut Bench| -> Result<_> {
            for i in 0..500 {
                bench.client.submit(bench.body(&json!([i.to_string()])))?;
            }
            let mut results = BTreeSet::new();
            for _ in 0..500 {
                let reply = bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
                let Outcome::Ok(body) = reply.outcome else { anyhow::bail!("{reply:?}") };
                results.insert(rmp_serde::from_slice::<String>(&body)?);
            }
            assert_eq!(results.len(), 500);
            let worker = bench.system.worker(1);
            let descriptors = fs::read_dir(format!("/proc/{}/fd", worker.id()))?.count();
            Ok((descriptors, worker.rss()?))
        };
        let (descriptors, before) = round(&mut bench)?;
        let (later, after) = round(&mut bench)?;
        let left = bench.children().len();
        assert_eq!(descriptors, later, "{way}");
        assert!(after < before + 2_000_000, "{way}: {before} bytes became {after}");
        assert!(left <= if way == "--exec" { 0 } else { 2 }, "{way}: {left} processes");
    }
    Ok(())
}

/// `cargo test --release -p giostra-tests --test exec -- --ignored --nocapture`: what docs/exec.md
/// says.
#[test]
#[ignore = "it proves nothing, it measures"]
fn requests_a_second() -> Result<()> {
    for (args, requests) in [(["--exec", "true"], 4_000), (["--exec-lines", "cat"], 100_000)] {
        for threads in ["1", "2"] {
            let mut bench = Bench::start(&[args[0], args[1], "--threads", threads])?;
            bench.result(&json!(["x"]))?;
            let began = Instant::now();
            for _ in 0..requests {
                bench.client.submit(bench.body(&json!(["x"])))?;
            }
            for _ in 0..requests {
                bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
            }
            let rate = f64::from(requests) / began.elapsed().as_secs_f64();
            println!("{} {}, --threads {threads}: {rate:.0} requests a second", args[0], args[1]);
        }
    }
    Ok(())
}
