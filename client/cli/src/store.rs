//! `giostra store`: looks at, checks and compacts the store of durable jobs, while no broker uses it.
//! It needs no broker.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use giostra_store::maintenance::{self, Check, Info};
use indicatif::HumanBytes;
use serde_json::json;

use super::exit::Exit;
use super::help;
use super::printed::stdout;
use super::written::{grouped, many};

/// The states of jobs, in the order of [`Info::jobs`].
const STATES: [&str; 4] = ["open", "running", "finished", "cancelled"];

/// The subcommands of `giostra store`.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Show how many jobs a store has, and how large it is
    #[command(after_help = help::STORE_INFO)]
    Info(Folder),
    /// Check that a store is sound, and tell what is wrong if it is not
    #[command(after_help = help::STORE_CHECK)]
    Check(Folder),
    /// Write a store anew without what was removed: its file does not shrink by itself
    #[command(after_help = help::STORE_COMPACT)]
    Compact(Folder),
}

/// The store that a subcommand is about.
#[derive(Clone, Debug, clap::Args)]
pub struct Folder {
    /// Folder of the store, as in a broker's --store
    pub dir: PathBuf,
}

/// Runs a subcommand.
pub fn run(command: &StoreCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        StoreCommand::Info(Folder { dir }) => info(dir, json),
        StoreCommand::Check(Folder { dir }) => check(dir, json),
        StoreCommand::Compact(Folder { dir }) => compact(dir, json),
    }
}

fn info(dir: &Path, json: bool) -> anyhow::Result<Exit> {
    let info = maintenance::info(dir)?;
    let mut out = stdout();
    if json {
        writeln!(out, "{}", object(&info))?;
        return Ok(Exit::Success);
    }
    let by_state: Vec<_> =
        STATES.into_iter().zip(info.jobs).map(|(state, count)| format!("{} {state}", grouped(count))).collect();
    writeln!(out, "format     {}", info.format)?;
    writeln!(out, "home       {:08x}", info.home)?;
    writeln!(out, "jobs       {}: {}", grouped(info.jobs.iter().sum()), by_state.join(", "))?;
    writeln!(out, "requests   {}", grouped(info.requests))?;
    writeln!(out, "succeeded  {}", grouped(info.succeeded))?;
    writeln!(out, "failed     {}", grouped(info.failed))?;
    writeln!(out, "database   {} ({} free)", HumanBytes(info.database_bytes), HumanBytes(info.free_bytes))?;
    writeln!(out, "log        {}", HumanBytes(info.log_bytes))?;
    writeln!(out, "reserve    {}", HumanBytes(info.reserve_bytes))?;
    if info.removing > 0 {
        writeln!(out, "removing   {}", many(info.removing, "job"))?;
    }
    Ok(Exit::Success)
}

fn object(info: &Info) -> serde_json::Value {
    let jobs: serde_json::Map<_, _> =
        STATES.into_iter().zip(info.jobs).map(|(state, count)| (state.into(), count.into())).collect();
    json!({
        "format": info.format,
        "home": format!("{:08x}", info.home),
        "jobs": jobs,
        "last_job": info.last_job,
        "removing": info.removing,
        "requests": info.requests,
        "succeeded": info.succeeded,
        "failed": info.failed,
        "database_bytes": info.database_bytes,
        "free_bytes": info.free_bytes,
        "log_bytes": info.log_bytes,
        "reserve_bytes": info.reserve_bytes,
    })
}

fn check(dir: &Path, json: bool) -> anyhow::Result<Exit> {
    let check = maintenance::check(dir)?;
    let Check { problems, left_out } = &check;
    let mut out = stdout();
    if json {
        writeln!(out, "{}", json!({"sound": check.is_sound(), "problems": problems, "left_out": left_out}))?;
    } else if check.is_sound() {
        writeln!(out, "sound")?;
    } else {
        for problem in problems {
            writeln!(out, "{problem}")?;
        }
        let count = problems.len() as u64 + left_out;
        let left_out =
            if *left_out > 0 { format!(", {} of them not listed", grouped(*left_out)) } else { String::new() };
        writeln!(
            out,
            "not sound: {}{left_out}; restore a backup of the folder, or move it away to begin with an empty store",
            many(count, "problem")
        )?;
    }
    Ok(Exit::success_if(check.is_sound()))
}

fn compact(dir: &Path, json: bool) -> anyhow::Result<Exit> {
    let (before, after) = maintenance::compact(dir)?;
    if json {
        writeln!(stdout(), "{}", json!({"before_bytes": before, "after_bytes": after}))?;
    } else {
        writeln!(stdout(), "{} before, {} now", HumanBytes(before), HumanBytes(after))?;
    }
    Ok(Exit::Success)
}
