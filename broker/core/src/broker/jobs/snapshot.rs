//! What the status says of jobs.

use giostra_protocol::{JobsStatus, LiveJob, StoreStatus};

use super::job::Job;
use super::{Broker, Moment};
use crate::ids::JobNumber;

/// The maximum number of jobs that are listed.
const LISTED: usize = 100;

impl Broker {
    /// Returns what the status says of jobs; `None` if this broker keeps none.
    pub(in super::super) fn jobs_status(&self, now: Moment) -> Option<JobsStatus> {
        let jobs = &self.jobs;
        jobs.home?;
        let open = jobs.table.values().filter(|job| !job.is_closed).count() as u64;
        Some(JobsStatus {
            live: jobs.table.iter().take(LISTED).map(|(&number, job)| self.live_job(number, job, now)).collect(),
            left_out: jobs.table.len().saturating_sub(LISTED) as u64,
            totals: jobs.totals,
            store: StoreStatus {
                failed: jobs.failed.as_deref().unwrap_or_default().into(),
                // The shell knows the rest.
                ..StoreStatus::default()
            },
            open,
            running: jobs.table.len() as u64 - open,
        })
    }

    fn live_job(&self, number: JobNumber, job: &Job, now: Moment) -> LiveJob {
        let rest = u64::from(job.stored - job.succeeded - job.failed);
        LiveJob {
            id: self.jobs.id(number),
            name: job.spec.name.clone(),
            pool: job.spec.pool.clone(),
            priority: job.spec.priority,
            closed: job.is_closed,
            requests: job.stored.into(),
            succeeded: job.succeeded.into(),
            failed: job.failed.into(),
            retrying: job.waiting as u64,
            rate: job.pace.per_second(now.millis()).round() as u64,
            // More requests may come while it is open.
            left_ms: job.pace.time_for(rest, now.millis()).filter(|_| job.is_closed),
        }
    }
}
