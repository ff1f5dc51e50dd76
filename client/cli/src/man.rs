//! `giostra man` and `giostra completions`: man pages and completion scripts from the definition of
//! the command line. They need no broker.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Command;
use giostra_common::manual::{self, Shell};
use serde_json::json;

use super::exit::Exit;
use super::help;
use super::printed::stdout;

/// The options of `giostra completions`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::COMPLETIONS)]
pub struct Completions {
    /// Shell to print the script for
    pub shell: Shell,
}

/// The options of `giostra man`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::MAN)]
pub struct Man {
    /// Write giostra.1 and a page for each command to this folder; it is made if necessary
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the page, or writes all pages to a folder.
pub fn run(man: &Man, command: Command, json: bool) -> anyhow::Result<Exit> {
    let Some(dir) = &man.dir else {
        stdout().write_all(&manual::page(command))?;
        return Ok(Exit::Success);
    };
    fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    let mut files = Vec::new();
    for (name, page) in manual::pages(command) {
        let file = dir.join(name);
        fs::write(&file, page).with_context(|| format!("can't write {}", file.display()))?;
        files.push(file.display().to_string());
    }
    if json {
        writeln!(stdout(), "{}", json!({ "files": files }))?;
    } else {
        writeln!(stdout(), "{}", files.join("\n"))?;
    }
    Ok(Exit::Success)
}

/// Prints the script.
pub fn completions(options: &Completions, command: Command) -> anyhow::Result<Exit> {
    stdout().write_all(&manual::completions(command, options.shell))?;
    Ok(Exit::Success)
}
