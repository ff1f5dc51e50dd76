//! A broker with keys: who is let in, who is not, and what those lose who try.

use anyhow::Result;
use giostra_tests::Setup;

#[test]
fn who_has_the_right_keys_is_served_as_ever() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    system.random(&["2000"])?;
    system.start_worker(3)?;
    system.random(&["2000"])?;
    let status = system.status()?;
    assert_eq!((&status["totals"]["refused"], status["workers"].as_array().map(Vec::len)), (&0.into(), Some(3)));
    system.audit()?;
    Ok(())
}
