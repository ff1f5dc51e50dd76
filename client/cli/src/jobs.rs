//! Durable jobs: `giostra submit`, `jobs`, `job`, `wait`, `collect`, `retry`, `cancel`.

mod collect;
mod failed;
mod pace;
mod retry;
mod row;
mod several;
mod show;
mod submit;
mod wait;

use giostra_client::{Client, JobId};

use super::common::CommonArgs;
use super::exit::Exit;
use super::help;

use several::Several;

pub use collect::{Collect, run as collect};
pub use retry::{Retry, run as retry};
pub use row::failures;
pub use show::{Jobs, jobs, one};
pub use submit::{Submit, job_options, run as submit};
pub use wait::{Wait, run as wait};

/// The job that a command is about.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::JOB)]
pub struct One {
    /// The job's id, as submit printed it
    #[arg(value_name = "ID")]
    pub id: JobId,
}

/// The jobs that `giostra cancel` ends.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::CANCEL)]
pub struct Cancel {
    /// The jobs' ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<JobId>,
}

/// Cancels jobs, and prints how far they came. Succeeds if all of them are there.
pub fn cancel(client: &mut Client, cancel: &Cancel, common: &CommonArgs) -> anyhow::Result<Exit> {
    let ended = Several::ask(&cancel.ids, |id| client.job(id).cancel())?;
    ended.print(common.json)?;
    Ok(Exit::success_if(ended.refused.is_empty()))
}
