//! `giostra audit`: what the broker's log proves. It connects to nobody.

use std::io::Write;

use giostra_audit::{Verdict, audit, story};

use super::args::Audit;
use super::printed::stdout;

/// Whether all is proved, or the request was found.
pub fn run(options: &Audit, json: bool) -> anyhow::Result<bool> {
    let (object, text, well) = match options.request {
        Some(request) => {
            let story = story(&options.logs, request)?;
            (story.json(), story.to_string(), !story.steps.is_empty())
        }
        None => {
            let report = audit(&options.logs)?;
            let well = report.verdict() == Verdict::Proved || options.partial && report.proved_in_part();
            (report.json(), report.to_string(), well)
        }
    };
    if json {
        writeln!(stdout(), "{object}")?;
    } else {
        writeln!(stdout(), "{text}")?;
    }
    Ok(well)
}
