//! Several jobs of one command: one that the broker refuses keeps none of the others from being asked
//! for.

use std::io::Write;
use std::time::SystemTime;

use giostra_client::{Error, JobId, JobStatus};
use serde_json::{Value, json};

use super::row::{Row, table};
use crate::failure::{code_of_client, object, report_error};
use crate::printed::stdout;
use crate::table::Room;

/// The jobs that a command was given, as far as the broker knows them.
#[derive(Debug, Default)]
pub struct Several {
    /// The jobs as they were when they were asked for last.
    pub jobs: Vec<JobStatus>,
    /// The others, and why. They have been reported.
    pub refused: Vec<(JobId, Error)>,
}

impl Several {
    /// Asks for each job.
    ///
    /// # Errors
    /// Those that concern all jobs.
    pub fn ask(ids: &[JobId], mut ask: impl FnMut(JobId) -> Result<JobStatus, Error>) -> Result<Self, Error> {
        let mut several = Self::default();
        ids.iter().try_for_each(|&id| several.add(id, ask(id)))?;
        Ok(several)
    }

    /// Asks again for those that have not ended.
    ///
    /// # Errors
    /// Those that concern all jobs.
    pub fn ask_again(&mut self, mut ask: impl FnMut(JobId) -> Result<JobStatus, Error>) -> Result<(), Error> {
        std::mem::take(&mut self.jobs).into_iter().try_for_each(|job| match job.state.has_ended() {
            true => self.add(job.id, Ok(job)),
            false => self.add(job.id, ask(job.id)),
        })
    }

    /// Returns the first that has not ended.
    pub fn first_live(&self) -> Option<JobId> {
        self.jobs.iter().find(|job| !job.state.has_ended()).map(|job| job.id)
    }

    /// Prints a row for each job.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        let rows: Vec<_> = self.jobs.iter().cloned().map(Row::from).collect();
        if json {
            writeln!(stdout(), "{}", self.object(&rows))?;
        } else if !rows.is_empty() {
            writeln!(stdout(), "{}", table(&rows, SystemTime::now()).lines(Room::of_stdout()).join("\n"))?;
        }
        Ok(())
    }

    fn object(&self, rows: &[Row]) -> Value {
        let mut all = json!({"jobs": rows.iter().map(Row::json).collect::<Vec<_>>()});
        if !self.refused.is_empty() {
            let refused = self.refused.iter().map(|(id, error)| {
                json!({"job": id.to_string(), "error": object(code_of_client(error), &error.to_string())})
            });
            all["refused"] = refused.collect();
        }
        all
    }

    fn add(&mut self, id: JobId, answer: Result<JobStatus, Error>) -> Result<(), Error> {
        match answer {
            Ok(job) => self.jobs.push(job),
            Err(error @ Error::Refused(_)) => {
                report_error(&error);
                self.refused.push((id, error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use giostra_client::JobState;

    use super::*;

    fn id(number: u64) -> JobId {
        JobId { home: 1, number }
    }

    fn job(id: JobId, state: JobState) -> Result<JobStatus, Error> {
        Ok(JobStatus { id, state, ..JobStatus::default() })
    }

    #[test]
    fn the_jobs_behind_one_that_is_not_there_are_asked_for_until_they_have_ended() {
        let known = |id: JobId| match id.number {
            2 => Err(Error::Refused("no such job".into())),
            3 => job(id, JobState::Running),
            _ => job(id, JobState::Finished),
        };
        let mut several = Several::ask(&[1, 2, 3].map(id), known).unwrap();
        assert_eq!(several.first_live(), Some(id(3)));
        several.ask_again(|id| job(id, JobState::Finished)).unwrap();
        let known: Vec<_> = several.jobs.iter().map(|job| job.id.number).collect();
        assert_eq!((&known[..], several.refused[0].0, several.first_live()), (&[1, 3][..], id(2), None));
        let object = several.object(&[]);
        assert_eq!(object["refused"][0]["error"]["code"], "refused", "{object}");
    }

    #[test]
    fn without_a_broker_none_is_asked_for() {
        let mut asked = 0;
        let ended = Several::ask(&[1, 2].map(id), |_| {
            asked += 1;
            Err(Error::Interrupted)
        });
        assert!(matches!(ended, Err(Error::Interrupted)) && asked == 1);
    }
}
