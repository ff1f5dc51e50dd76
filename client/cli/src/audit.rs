//! `giostra audit`: checks the logs of one or several brokers. It needs no broker.

use std::io::Write;
use std::path::PathBuf;

use giostra_audit::{Id, JobId, Verdict, account, job_story, story};

use super::exit::Exit;
use super::help;
use super::printed::stdout;

/// The options of `giostra audit`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::AUDIT)]
pub struct Audit {
    /// Files of the broker's log in any order, or its folder; of several brokers the folder of each
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,

    /// Tell instead what became of one request: here request 17 of client connection 1; j1#17 of job 1
    #[arg(long, value_name = "c1#17")]
    pub request: Option<Id>,

    /// Tell instead what became of one durable job, over all lives of its broker
    #[arg(long, value_name = "ID", conflicts_with = "request")]
    pub job: Option<JobId>,

    /// Prove also what a client says of its requests: a journal that giostra random has written. May be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request", "job"])]
    pub journal: Vec<PathBuf>,

    /// Accept that the oldest files were rotated away: prove the rest, from the next broker's start on
    #[arg(long)]
    pub partial: bool,
}

/// Audits the logs, and succeeds if all is proved, or the request was found, or the job is there and
/// proved.
pub fn run(options: &Audit, json: bool) -> anyhow::Result<Exit> {
    let (object, text, complete) = match (options.request, options.job) {
        (_, Some(job)) => {
            let story = job_story(&options.logs, job)?;
            let complete = story.verdict() == Verdict::Proved || options.partial && story.proved_in_part();
            (story.json(), story.to_string(), complete)
        }
        (Some(request), _) => {
            let story = story(&options.logs, request)?;
            (story.json(), story.to_string(), !story.steps.is_empty())
        }
        (None, None) => {
            let account = account(&options.logs, &options.journal)?;
            let complete = account.verdict() == Verdict::Proved || options.partial && account.proved_in_part();
            (account.json(), account.to_string(), complete)
        }
    };
    let output = if json { object.to_string() } else { text };
    writeln!(stdout(), "{output}")?;
    Ok(Exit::success_if(complete))
}
