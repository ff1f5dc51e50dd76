//! The options of `giostra map`.

use std::path::PathBuf;

use giostra_common::args::switch;
use serde_json::json;

use super::journal::{FORMAT, FORMAT_KEY, Run};
use crate::common::CommonArgs;
use crate::help;
use crate::operations::Operation;

/// The options of `giostra map`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::MAP)]
pub struct Map {
    /// Operation to compute on each line, as with send
    #[arg(value_name = "OP", value_parser = Operation, hide_possible_values = true)]
    pub operation: String,

    /// Send all words as texts, even numbers
    #[arg(long, env = "GIOSTRA_TEXT", value_parser = switch)]
    pub text: bool,

    /// Send the whole line as one text, white space and all, instead of its words
    #[arg(long)]
    pub line: bool,

    /// Print results as they arrive, not in the order of the lines; nothing for a line that failed
    #[arg(long)]
    pub unordered: bool,

    /// Print the line's number and a tab before its result; with --json {"line": .., "result": ..}
    #[arg(long)]
    pub number: bool,

    /// Maximum number of unanswered lines; without --unordered, answered lines that wait behind a slow
    /// one count, too
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub window: u32,

    /// Retry a line that failed up to this many times, after growing pauses, unless the request was
    /// invalid
    #[arg(long, env = "GIOSTRA_RETRY", default_value_t = 0, value_name = "N")]
    pub retry: u32,

    /// Write the input lines that failed to this file
    #[arg(long, value_name = "FILE")]
    pub failed: Option<PathBuf>,

    /// Record answers in this file; after an interruption, the same command resumes and computes only
    /// the rest
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// On Ctrl-C, SIGTERM or SIGHUP hand the lines that have no result yet, and the rest of the input,
    /// over as a job, and print its id on stderr
    #[arg(long, conflicts_with_all = ["journal", "number"])]
    pub detach: bool,

    /// Wait first until the pool has this many workers that take requests
    #[arg(long, env = "GIOSTRA_WAIT_WORKERS", default_value_t = 0, value_name = "N")]
    pub wait_workers: u32,

    /// Report only failures on stderr, without progress bar and summary
    #[arg(long)]
    pub quiet: bool,
}

impl Map {
    /// Returns the description of the run for its journal.
    pub fn description(&self, common: &CommonArgs) -> Run {
        Run::from([
            (FORMAT_KEY, json!(FORMAT)),
            ("operation", json!(self.operation)),
            ("pool", json!(common.pool)),
            ("json", json!(common.json)),
            ("text", json!(self.text)),
            ("line", json!(self.line)),
            ("number", json!(self.number)),
            ("unordered", json!(self.unordered)),
        ])
    }
}
