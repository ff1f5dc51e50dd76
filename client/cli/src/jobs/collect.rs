//! `giostra collect`: prints the results of a job.

use std::io::{BufWriter, Write};
use std::time::Duration;

use anyhow::ensure;
use giostra_client::{Client, JobId, JobState};

use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::failure::report_error;
use crate::help;
use crate::line::{Ended, Format};
use crate::printed::stdout;

/// How often a job that runs is asked for more results.
const TICK: Duration = Duration::from_millis(200);

/// The options of `giostra collect`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::COLLECT)]
pub struct Collect {
    /// The job's id, as submit printed it
    #[arg(value_name = "ID")]
    id: JobId,

    /// Print results as they come while the job runs, each once those before it are there
    #[arg(long)]
    follow: bool,

    /// Print the request's number and a tab before its result; with --json {"line": .., "result": ..}
    #[arg(long)]
    number: bool,

    /// Delete the job once all of its results are printed
    #[arg(long)]
    delete: bool,
}

/// Prints the results in the order of the requests, and succeeds if there is one of each.
pub fn run(client: &mut Client, collect: &Collect, common: &CommonArgs) -> anyhow::Result<Exit> {
    let format = Format { json: common.json, number: collect.number, ordered: true };
    let mut out = BufWriter::new(stdout());
    let (mut next, mut failed, mut missing) = (0, 0_u64, 0_u64);
    let job = loop {
        // Asked for before the results: all results of a job that has ended by now are there.
        let job = client.job(collect.id).status()?;
        let ended = job.state.has_ended();
        ensure!(
            ended || collect.follow,
            "job {} is {}: {} of {} are done; giostra wait {0} first, or collect --follow",
            job.id,
            job.state,
            job.succeeded + job.failed,
            job.requests
        );
        for item in client.job(collect.id).results(next) {
            let (number, outcome) = item?;
            if number > next && !ended {
                break;
            }
            for number in next..number {
                missing += 1;
                print(&mut out, format, number, &Ended::missing())?;
            }
            let outcome = Ended::of(&outcome, common.json);
            if let Ended::Failed(failure) = &outcome {
                failed += 1;
                report_error(format_args!("line {}: {failure}", number + 1));
            }
            print(&mut out, format, number, &outcome)?;
            next = number + 1;
        }
        out.flush()?;
        if ended {
            break job;
        }
        // No reply can come, so this is a sleep that Ctrl-C ends.
        client.next_reply(Some(TICK))?;
    };
    for number in next..job.requests {
        missing += 1;
        print(&mut out, format, number, &Ended::missing())?;
    }
    out.flush()?;
    if missing > 0 {
        report_error(format_args!("{missing} requests have no result: the job was cancelled"));
    }
    if collect.delete {
        client.job(collect.id).delete()?;
    }
    Ok(Exit::success_if(failed == 0 && missing == 0 && job.state == JobState::Finished))
}

fn print(out: &mut impl Write, format: Format, number: u32, ended: &Ended) -> anyhow::Result<()> {
    let mut line = Vec::new();
    format.write(&mut line, u64::from(number) + 1, ended);
    Ok(out.write_all(&line)?)
}
