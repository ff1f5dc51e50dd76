//! `giostra man` and `giostra completions`: what the definition of the command line says of itself. They need no broker.

use std::fs;
use std::io::Write;

use anyhow::Context;
use clap::CommandFactory;
use giostra_common::manual;
use serde_json::json;

use super::args::{Args, Completions, Man};
use super::printed::stdout;

/// The pages, on stdout or into a folder.
pub fn run(man: &Man, json: bool) -> anyhow::Result<()> {
    let Some(dir) = &man.dir else {
        return Ok(stdout().write_all(&manual::page(Args::command()))?);
    };
    fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    let mut files = Vec::new();
    for (name, page) in manual::pages(Args::command()) {
        let file = dir.join(name);
        fs::write(&file, page).with_context(|| format!("can't write {}", file.display()))?;
        files.push(file);
    }
    if json {
        writeln!(stdout(), "{}", json!({ "files": files }))?;
    } else {
        files.iter().try_for_each(|file| writeln!(stdout(), "{}", file.display()))?;
    }
    Ok(())
}

/// The script, on stdout.
pub fn completions(options: &Completions) -> anyhow::Result<()> {
    Ok(stdout().write_all(&manual::completions(Args::command(), options.shell))?)
}
