//! What `giostra map` can be asked for.

use std::path::PathBuf;

use giostra_common::args::switch;

use crate::help;
use crate::operations::Operation;

/// Many requests, one a line of stdin.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::MAP)]
pub struct Map {
    /// What is to be computed on each line: as with send
    #[arg(value_name = "OP", value_parser = Operation, hide_possible_values = true)]
    pub operation: String,

    /// Send all words as texts, not those that are numbers as numbers
    #[arg(long, env = "GIOSTRA_TEXT", value_parser = switch)]
    pub text: bool,

    /// Send the whole line as one text, white space and all, instead of its words
    #[arg(long)]
    pub line: bool,

    /// Print results as they come, not in the order of the lines; nothing for a line that failed
    #[arg(long)]
    pub unordered: bool,

    /// Print the line's number and a tab before its result; with --json {"line": .., "result": ..}
    #[arg(long)]
    pub number: bool,

    /// Lines that may be unanswered at a time; in order, what is computed ahead of a slow one is
    /// among them
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub window: u32,

    /// Ask again for a line that failed, up to so many times and after growing pauses, unless it
    /// makes no sense to the worker (invalid)
    #[arg(long, env = "GIOSTRA_RETRY", default_value_t = 0, value_name = "N")]
    pub retry: u32,

    /// Write the lines that failed, as they were, into this file
    #[arg(long, value_name = "FILE")]
    pub failed: Option<PathBuf>,

    /// Keep what was answered in this file; run again with it, the same command asks only for the
    /// rest, and prints all of it
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Wait first until so many workers are registered
    #[arg(long, env = "GIOSTRA_WAIT_WORKERS", default_value_t = 0, value_name = "N")]
    pub wait_workers: u32,

    /// No progress bar and no summary on stderr, only what failed
    #[arg(long)]
    pub quiet: bool,
}
