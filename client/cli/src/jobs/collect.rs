//! `giostra collect`: prints the results of a job.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use giostra_client::{Client, JobId, JobResult, JobState, JobStatus, Outcome};

use super::failed::FailedRequests;
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

    /// Write the requests that failed to this file, from which submit --lines and map make them again:
    /// words, with --json a list of arguments a line
    #[arg(long, value_name = "FILE")]
    failed: Option<PathBuf>,

    /// Delete the job once all of its results are printed
    #[arg(long)]
    delete: bool,
}

/// Prints the results in the order of the requests, and succeeds if there is one of each.
pub fn run(client: &mut Client, collect: &Collect, common: &CommonArgs) -> anyhow::Result<Exit> {
    let format = Format { json: common.json, number: collect.number, ordered: true };
    let failed = collect.failed.as_deref().map(|path| FailedRequests::create(path, common.json)).transpose()?;
    let mut printer = Printer { out: BufWriter::new(stdout()), format, next: 0, counts: Counts::default(), failed };
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
        printer.print_all(client, collect.id, ended)?;
        printer.out.flush()?;
        if ended {
            break job;
        }
        // No reply can come, so this is a sleep that Ctrl-C ends.
        client.next_reply(Some(TICK))?;
    };
    let Counts { failed, missing } = printer.finish(&job)?;
    if collect.delete {
        client.job(collect.id).delete()?;
    }
    Ok(Exit::success_if(failed == 0 && missing == 0 && job.state == JobState::Finished))
}

/// The results on their way to stdout.
struct Printer<W: Write> {
    out: W,
    format: Format,
    /// The number of the next request.
    next: u32,
    counts: Counts,
    /// Where requests that failed are written.
    failed: Option<FailedRequests>,
}

/// What has no result.
#[derive(Clone, Copy, Default)]
struct Counts {
    failed: u64,
    missing: u64,
}

impl<W: Write> Printer<W> {
    /// Prints the results that there are now. While the job has not ended, each waits for those before.
    fn print_all(&mut self, client: &mut Client, id: JobId, ended: bool) -> anyhow::Result<()> {
        let results = client.job(id).results(self.next);
        match self.failed.is_some() {
            true => {
                for item in results.with_failed() {
                    let JobResult { number, outcome, request } = item?;
                    if !self.take(number, &outcome, request.as_deref(), ended)? {
                        break;
                    }
                }
            }
            false => {
                for item in results {
                    let (number, outcome) = item?;
                    if !self.take(number, &outcome, None, ended)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints a result. Returns false if it is not its turn yet.
    fn take(&mut self, number: u32, outcome: &Outcome, request: Option<&[u8]>, ended: bool) -> anyhow::Result<bool> {
        if number > self.next && !ended {
            return Ok(false);
        }
        self.skip_to(number)?;
        let outcome = Ended::of(outcome, self.format.json);
        if let Ended::Failed(failure) = &outcome {
            self.counts.failed += 1;
            report_error(format_args!("line {}: {failure}", number + 1));
            if let Some(failed) = &mut self.failed {
                failed.add(u64::from(number) + 1, request)?;
            }
        }
        self.print(number, &outcome)?;
        self.next = number + 1;
        Ok(true)
    }

    /// Prints that there is no result of the requests before this one.
    fn skip_to(&mut self, number: u32) -> anyhow::Result<()> {
        for number in self.next..number {
            self.counts.missing += 1;
            self.print(number, &Ended::missing())?;
        }
        Ok(())
    }

    fn print(&mut self, number: u32, ended: &Ended) -> anyhow::Result<()> {
        let mut line = Vec::new();
        self.format.write(&mut line, u64::from(number) + 1, ended);
        Ok(self.out.write_all(&line)?)
    }

    /// Prints the rest of a job that has ended.
    fn finish(mut self, job: &JobStatus) -> anyhow::Result<Counts> {
        self.skip_to(job.requests)?;
        self.out.flush()?;
        let missing = self.counts.missing;
        if missing > 0 {
            report_error(format_args!("{missing} requests have no result: the job was cancelled"));
        }
        self.failed.map(FailedRequests::finish).transpose()?;
        Ok(self.counts)
    }
}
