//! Durable jobs: `giostra submit`, `jobs`, `job`, `wait`, `collect`, `retry`, `cancel`.

mod collect;
mod failed;
mod pace;
mod retry;
mod row;
mod show;
mod submit;
mod wait;

use giostra_client::{Client, JobId};

use super::common::CommonArgs;
use super::exit::Exit;
use super::help;

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

/// Cancels jobs, and prints how far they came.
pub fn cancel(client: &mut Client, cancel: &Cancel, common: &CommonArgs) -> anyhow::Result<Exit> {
    let ended = cancel.ids.iter().map(|&id| client.job(id).cancel());
    let ended = ended.collect::<Result<Vec<_>, _>>()?;
    show::print(&ended, common.json)?;
    Ok(Exit::Success)
}
