//! A job as it is printed: as a row of a table, line by line, and as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use giostra_client::status::LiveJob;
use giostra_client::{JobState, JobStatus};
use humantime::{format_duration, format_rfc3339_seconds};
use serde_json::{Value, json};

use super::pace::Pace;
use crate::table::{Cell, Column, Table, Tone};
use crate::written::{grouped, millis};

/// A job, and what is known of its pace.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// How far it is.
    pub job: JobStatus,
    /// Results and errors a second, if known.
    pub rate: Option<f64>,
    /// The time for the rest, if known: of a job that is open more requests may come.
    pub left: Option<Duration>,
    /// How many of its requests wait to be computed again, if known.
    pub retrying: Option<u64>,
}

impl From<JobStatus> for Row {
    fn from(job: JobStatus) -> Self {
        Self { job, ..Self::default() }
    }
}

impl Row {
    /// Adds what the broker's status says of the job.
    pub fn add(&mut self, live: &LiveJob) {
        self.rate = Some(live.rate as f64);
        self.left = live.left_ms.map(Duration::from_millis);
        self.retrying = Some(live.retrying);
    }

    /// Adds its pace from one look to the next.
    pub fn go_at(&mut self, pace: &Pace) {
        let rest = u64::from(self.job.requests).saturating_sub(self.done());
        self.rate = pace.rate();
        self.left = pace.time_for(rest).filter(|_| self.job.state == JobState::Running);
    }

    /// The number of requests that have a result or an error.
    pub fn done(&self) -> u64 {
        u64::from(self.job.succeeded) + u64::from(self.job.failed)
    }

    /// All that is known, as JSON.
    pub fn json(&self) -> Value {
        let JobStatus { id, spec, owner, state, requests, succeeded, failed, submitted_ms, ended_ms } = &self.job;
        let mut object = json!({
            "job": id.to_string(),
            "state": state.to_string(),
            "requests": requests,
            "succeeded": succeeded,
            "failed": failed,
            "pool": spec.pool,
            "name": spec.name,
            "key": spec.key,
            "owner": owner,
            "priority": spec.priority.to_string(),
            "timeout_ms": spec.timeout_ms,
            "retries": spec.retries,
            "keep_ms": spec.keep_ms,
            "submitted_ms": submitted_ms,
            "ended_ms": ended_ms,
        });
        let known = [
            ("rate", self.rate.map(|rate| json!(rate.round() as u64))),
            ("retrying", self.retrying.map(|retrying| json!(retrying))),
            ("left_ms", self.left.map(|left| json!(left.as_millis() as u64))),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                object[name] = value;
            }
        }
        object
    }

    /// All that is known, line by line.
    pub fn lines(&self) -> Vec<String> {
        let JobStatus { id, spec, state, requests, succeeded, failed, submitted_ms, ended_ms, .. } = &self.job;
        let time = |ms: u64| format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string();
        let lines = [
            ("job", Some(id.to_string())),
            ("state", Some(state.to_string())),
            ("requests", Some(requests.to_string())),
            ("succeeded", Some(succeeded.to_string())),
            ("failed", Some(failed.to_string())),
            ("retrying", self.retrying.filter(|&retrying| retrying > 0).map(|retrying| retrying.to_string())),
            ("rate", self.rate.map(|rate| format!("{rate:.0}/s"))),
            ("left", self.left.map(|left| millis(left.as_millis() as u64))),
            ("pool", Some(spec.pool.clone())),
            ("name", Some(spec.name.clone())),
            ("key", Some(spec.key.clone())),
            ("priority", Some(spec.priority.to_string())),
            ("timeout", (spec.timeout_ms > 0).then(|| written(spec.timeout_ms))),
            ("retries", (spec.retries > 0).then(|| spec.retries.to_string())),
            ("keep", Some(if spec.keep_ms > 0 { written(spec.keep_ms) } else { "forever".into() })),
            ("submitted", Some(time(*submitted_ms))),
            ("ended", (*ended_ms > 0).then(|| time(*ended_ms))),
        ];
        lines.into_iter().filter_map(|(name, value)| Some(format!("{name:9}  {}", value?).trim_end().into())).collect()
    }
}

/// Returns a table of jobs. Rates are left out if none is known.
pub fn table(rows: &[Row], now: SystemTime) -> Table {
    let age = |row: &Row| {
        let age = now.duration_since(UNIX_EPOCH + Duration::from_millis(row.job.submitted_ms)).unwrap_or_default();
        // The two largest units.
        let written = format_duration(Duration::from_secs(age.as_secs())).to_string();
        written.split(' ').take(2).collect::<Vec<_>>().join(" ").into()
    };
    let left = |row: &Row| row.left.map_or("-".into(), |left| millis(left.as_millis() as u64)).into();
    let columns: [Column<Row>; 10] = [
        ("JOB", 0, &|row| row.job.id.to_string().into()),
        ("STATE", 0, &|row| state(row.job.state)),
        ("DONE", 0, &|row| format!("{}/{}", row.done(), row.job.requests).into()),
        ("FAILED", 2, &|row| failures(row.job.failed.into())),
        ("RATE", 3, &|row| row.rate.map_or("-".into(), |rate| format!("{rate:.0}/s")).into()),
        ("LEFT", 4, &left),
        ("AGE", 6, &age),
        ("PRIORITY", 7, &|row| row.job.spec.priority.to_string().into()),
        ("POOL", 5, &|row| (&row.job.spec.pool).into()),
        ("NAME", 1, &|row| (&row.job.spec.name).into()),
    ];
    let mut table = Table::new(&columns, rows);
    if rows.iter().all(|row| row.rate.is_none()) {
        table.leave_out("RATE");
        table.leave_out("LEFT");
    }
    table
}

fn state(state: JobState) -> Cell {
    let tone = match state {
        JobState::Running => Tone::Good,
        JobState::Open | JobState::Cancelled => Tone::Notable,
        JobState::Finished => Tone::Plain,
    };
    Cell { text: state.to_string(), tone }
}

/// The cell of a number of failures.
pub fn failures(count: u64) -> Cell {
    Cell { text: grouped(count), tone: if count > 0 { Tone::Bad } else { Tone::Plain } }
}

fn written(ms: u64) -> String {
    format_duration(Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use giostra_client::{JobId, JobSpec};

    use super::*;
    use crate::table::Room;

    fn row() -> Row {
        let spec = JobSpec { pool: "compute".into(), name: "night".into(), keep_ms: 604_800_000, ..JobSpec::default() };
        Row::from(JobStatus {
            id: JobId { home: 0x5f3a_9c01, number: 12 },
            spec,
            state: JobState::Running,
            requests: 1000,
            succeeded: 240,
            failed: 10,
            submitted_ms: 1000,
            ..JobStatus::default()
        })
    }

    fn lines(rows: &[Row]) -> Vec<String> {
        table(rows, UNIX_EPOCH + Duration::from_secs(3722)).lines(Room::default())
    }

    #[test]
    fn a_job_that_runs_tells_its_pace_and_the_time_that_is_left() {
        let mut row = row();
        row.add(&LiveJob { rate: 25, retrying: 3, left_ms: Some(30_000), ..LiveJob::default() });
        let lines = lines(&[row.clone()]);
        assert_eq!(lines[0], "JOB          STATE    DONE      FAILED  RATE  LEFT    AGE    PRIORITY  POOL     NAME");
        assert_eq!(lines[1], "5f3a9c01-12  running  250/1000  10      25/s  30.0 s  1h 2m  normal    compute  night");
        let json = row.json();
        assert_eq!((&json["rate"], &json["left_ms"], &json["retrying"]), (&25.into(), &30_000.into(), &3.into()));
        assert!(row.lines().contains(&"left       30.0 s".into()) && row.lines().contains(&"keep       7days".into()));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let lines = lines(&[row()]);
        assert!(!lines[0].contains("RATE") && !lines[0].contains("LEFT"), "{lines:?}");
        assert!(row().json().get("rate").is_none() && row().json().get("left_ms").is_none());
        assert!(!row().lines().iter().any(|line| line.starts_with("rate") || line.starts_with("ended")));
    }

    #[test]
    fn a_slow_job_tells_what_is_left_and_one_that_is_open_does_not() {
        let (mut row, mut pace, began) = (row(), Pace::default(), Instant::now());
        [(0, 249), (10, 250)].iter().for_each(|&(second, done)| pace.add(began + Duration::from_secs(second), done));
        row.go_at(&pace);
        assert!(lines(&[row.clone()])[1].contains("  0/s   2 h 5 min  "), "{:?}", lines(&[row]));
        row.job.state = JobState::Open;
        row.go_at(&pace);
        assert!(lines(&[row.clone()])[1].contains("  0/s   -     "), "{:?}", lines(&[row]));
    }
}
