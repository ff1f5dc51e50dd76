//! Bad input, thrown at a live broker, worker and client: nobody panics, stops serving others, or
//! grows without bound; it is logged, and the sender is told where that is possible.
//!
//! What single decoders make of a million such messages is tested with the decoders.

mod bad;
mod broker;
mod crowds;
mod flood;
mod impostor;
mod lines;
mod peer;

use anyhow::{Context as _, Result, ensure};
use giostra_audit::Line;
use giostra_tests::System;

/// The broker is alive and serves, and its log consists of whole lines of its own.
fn check(system: &mut System) -> Result<()> {
    system.random(&["500", "--timeout", "30s"])?;
    ensure!(system.broker().is_running());
    let stderr = system.broker().stderr();
    ensure!(!stderr.contains("panicked"), "{stderr}");
    let log = system.log();
    for line in log.lines() {
        Line::parse(line).with_context(|| format!("not a line of the log: {line}"))?;
        ensure!(!line.contains(|c: char| c.is_control()) && line.len() < 100_000, "{line:?}");
        ensure!(!line.starts_with("1999-01-01"), "a forged line: {line}");
    }
    Ok(())
}
