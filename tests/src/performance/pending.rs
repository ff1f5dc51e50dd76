//! The memory of requests that wait.

use std::time::Duration;

use anyhow::Result;
use giostra_client::{Client, Options};
use giostra_protocol::Bytes;

use crate::Setup;
use crate::process::wait_for;

/// By how many bytes the broker's resident memory grows for each of `count` requests with bodies of
/// `size` bytes that are pending because there is no worker, the body included.
pub fn bytes_each(count: u64, size: usize) -> Result<f64> {
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
    Ok((system.broker().rss()?.saturating_sub(before)) as f64 / count as f64)
}
