//! A short fault hunt; `just chaos` makes longer ones.

use std::time::Duration;

use anyhow::{Result, ensure};
use giostra_tests::chaos;
use giostra_transport::shutdown::Shutdown;

#[test]
fn nothing_is_lost_doubled_or_wrong_while_everything_is_killed_and_frozen_in_turn() -> Result<()> {
    // One after the other: each has the machine to itself.
    for (brokers, secure) in [(1, false), (1, true), (2, false), (2, true)] {
        let seed = rand::random::<u32>().into();
        println!("seed {seed}, brokers {brokers}{}", if secure { ", with keys" } else { "" });
        let report = chaos::run(Duration::from_secs(10), seed, brokers, secure, false, &Shutdown::new()?)?;
        println!("{report}");
        ensure!(report.all_well(), "not all was well: {report}");
        ensure!(report.requests() > 1000 && report.faults() > 8, "not much of a hunt: {report}");
    }
    Ok(())
}
