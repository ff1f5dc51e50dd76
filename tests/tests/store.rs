//! `giostra store`: what it says of real stores, sound and damaged ones, and of one in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use giostra_core::ids::JobNumber;
use giostra_core::store::Write;
use giostra_protocol::{Bytes, JobSpec, Outcome};
use giostra_store::{Sqlite, Store as _};
use giostra_tests::Setup;
use giostra_tests::process::binary;
use serde_json::Value;
use tempfile::TempDir;

/// Requests in a job.
const REQUESTS: u32 = 3000;

fn giostra(args: &[&str], store: &Path) -> Result<Output> {
    Ok(Command::new(binary("giostra")?).arg("store").args(args).arg(store).output()?)
}

/// What a command prints on stdout that ends with this status.
fn printed(status: i32, args: &[&str], store: &Path) -> Result<String> {
    let output = giostra(args, store)?;
    ensure!(output.status.code() == Some(status), "{args:?}: {output:?}");
    ensure!(status != 0 || output.stderr.is_empty(), "{args:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn object(status: i32, command: &str, store: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&printed(status, &[command, "--json"], store)?)?)
}

/// Makes a store with a running and a finished job, and a large one that was deleted.
fn made() -> Result<(TempDir, PathBuf)> {
    let folder = TempDir::new()?;
    let path = folder.path().join("store");
    let (mut store, _) = Sqlite::open(&path)?;
    for job in 1..=3 {
        let (number, key) = (JobNumber(job), job.to_string());
        let body = Bytes::from(vec![7; if job == 3 { 4000 } else { 10 }]);
        let spec = Arc::new(JobSpec { pool: "compute".into(), key, ..JobSpec::default() });
        let bodies = vec![body; REQUESTS as usize];
        store.commit(&[
            Write::Create { job: number, owner: "".into(), spec },
            Write::Append { job: number, first: 0, bodies, closes: true },
        ])?;
    }
    let outcomes = (0..REQUESTS).map(|number| (number, Outcome::Ok(Bytes::from(number.to_string())))).collect();
    store.commit(&[Write::Results { job: JobNumber(2), outcomes }])?;
    store.commit(&[Write::Delete(JobNumber(3))])?;
    Ok((folder, path))
}

#[test]
fn a_store_says_how_many_jobs_it_has_and_how_large_it_is() -> Result<()> {
    let (_folder, store) = made()?;
    let info = object(0, "info", &store)?;
    assert_eq!(info["jobs"].to_string(), r#"{"cancelled":0,"finished":1,"open":0,"running":1}"#);
    assert_eq!((&info["requests"], &info["succeeded"], &info["last_job"]), (&6000.into(), &3000.into(), &3.into()));
    assert_eq!(info["home"].as_str().context("a text")?.len(), 8);
    assert_eq!(info["database_bytes"], fs::metadata(store.join("store.db"))?.len());
    let text = printed(0, &["info"], &store)?;
    for line in ["jobs       2: 0 open, 1 running, 1 finished, 0 cancelled", "requests   6,000", "format     2"] {
        ensure!(text.lines().any(|printed| printed == line), "{text}");
    }
    Ok(())
}

#[test]
fn a_sound_store_is_said_to_be_sound_and_a_damaged_one_what_is_wrong() -> Result<()> {
    let (_folder, store) = made()?;
    assert_eq!(printed(0, &["check"], &store)?, "sound\n");
    assert_eq!(object(0, "check", &store)?["sound"], true);
    // In the middle of the database, as a disk may do it.
    let path = store.join("store.db");
    let mut bytes = fs::read(&path)?;
    let at = bytes.windows(8).position(|window| window == [7; 8]).context("there are bodies")? / 4096 * 4096;
    bytes[at..at + 4096].fill(0xff);
    fs::write(&path, bytes)?;
    let found = object(1, "check", &store)?;
    ensure!(found["sound"] == false && !found["problems"].as_array().context("a list")?.is_empty(), "{found}");
    let text = printed(1, &["check"], &store)?;
    ensure!(text.contains("not sound: ") && text.contains("restore a backup"), "{text}");
    Ok(())
}

#[test]
fn a_compacted_store_gives_back_the_space_of_deleted_jobs() -> Result<()> {
    let (_folder, store) = made()?;
    let before = fs::metadata(store.join("store.db"))?.len();
    let sizes = object(0, "compact", &store)?;
    let after = fs::metadata(store.join("store.db"))?.len();
    assert_eq!((&sizes["before_bytes"], &sizes["after_bytes"]), (&before.into(), &after.into()));
    ensure!(before > 10 << 20 && after < 1 << 20, "{sizes}");
    assert_eq!(printed(0, &["check"], &store)?, "sound\n");
    let info = object(0, "info", &store)?;
    assert_eq!((&info["requests"], &info["removing"]), (&6000.into(), &0.into()));
    ensure!(printed(0, &["compact"], &store)?.contains(" before, "));
    Ok(())
}

#[test]
fn a_store_in_use_is_left_alone_and_the_error_names_the_process() -> Result<()> {
    let (_folder, store) = made()?;
    let mut system = Setup::workers(0).broker(&["--store", &store.display().to_string()]).start()?;
    for command in ["info", "check", "compact"] {
        let output = giostra(&[command], &store)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{said}");
        ensure!(said.contains(&format!("in use by process {}", system.broker().id())), "{said}");
    }
    system.kill_broker()?;
    assert_eq!(printed(0, &["check"], &store)?, "sound\n");
    Ok(())
}

#[test]
fn where_there_is_no_store_none_is_made_and_the_error_says_so() -> Result<()> {
    let folder = TempDir::new()?;
    let store = folder.path().join("none");
    for command in ["info", "check", "compact"] {
        let error = object(1, command, &store)?["error"].clone();
        ensure!(error["message"].as_str().unwrap_or_default().contains("there is no store in"), "{error}");
    }
    ensure!(!store.exists());
    Ok(())
}
