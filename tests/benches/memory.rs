//! Bytes of the broker's memory for each pending request, by the size of its body.
//!
//! `cargo bench -p giostra-tests --bench memory [-- COUNT]`

use std::time::Duration;

use anyhow::Result;
use giostra_client::{Client, Options};
use giostra_common::Bytes;
use giostra_tests::Setup;
use giostra_tests::process::wait_for;

fn main() -> Result<()> {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse::<u64>().ok()).unwrap_or(500_000);
    println!("{count} requests pending, no worker; what the broker's resident memory grew by");
    for size in [8, 32, 1024] {
        let mut system =
            Setup::workers(0).broker(&["--max-pending", "100000000", "--max-pending-bytes", "64GiB"]).start()?;
        let before = system.broker().rss()?;
        let mut client = Client::connect(Options { broker: system.frontend().into(), ..Options::default() })?;
        let body = Bytes::from(vec![0; size]);
        for _ in 0..count {
            client.submit(body.clone())?;
        }
        wait_for("all are pending", || {
            client.next_reply(Some(Duration::ZERO)).ok()?;
            (client.status().ok()?.pending == count).then_some(())
        })?;
        let grown = (system.broker().rss()?.saturating_sub(before)) as f64 / count as f64;
        println!("body of {size:>4} bytes: {grown:.0} bytes a request, {:.0} besides the body", grown - size as f64);
    }
    Ok(())
}
