//! `giostra audit`: what the broker's log proves. It connects to nobody.

use std::io::{Write, stdout};
use std::process::ExitCode;

use giostra_client::audit::{Verdict, audit, story};

use super::args::Audit;

/// The exit status of a command line that can't be followed, such as one that names a file that is not there.
const USAGE: u8 = 2;

/// Success if all is proved, or the request was found.
pub fn run(options: &Audit, json: bool) -> anyhow::Result<ExitCode> {
    let (json_text, text, well) = match options.request {
        Some(request) => match story(&options.logs, request) {
            Ok(story) => (story.json(), story.to_string(), !story.steps.is_empty()),
            Err(error) => return Ok(wrong(&error)),
        },
        None => match audit(&options.logs) {
            Ok(report) => {
                let well = report.verdict() == Verdict::Proved || options.partial && report.proved_in_part();
                (report.json(), report.to_string(), well)
            }
            Err(error) => return Ok(wrong(&error)),
        },
    };
    if json {
        writeln!(stdout(), "{json_text}")?;
    } else {
        writeln!(stdout(), "{text}")?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wrong(error: &giostra_client::audit::Error) -> ExitCode {
    eprintln!("giostra: {error}");
    ExitCode::from(USAGE)
}
