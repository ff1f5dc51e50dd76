//! A process that commits to a store, and says what is safe, until it is killed.

use std::collections::VecDeque;
use std::env;
use std::io::Write as _;
use std::sync::{Arc, mpsc};

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Op, Write};
use giostra_protocol::{Bytes, Failure, JobSpec, Outcome};
use giostra_store::{Options, Sqlite, StoreThread};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The environment variable that says whether the store syncs each commit.
pub const SYNCS: &str = "GIOSTRA_POWER_SYNCS";

/// What it says when the store is out of service. It ends then.
pub const FAILED: &str = "failed: ";

/// The number of jobs after which nobody will kill it any more.
const JOBS: usize = 1000;

/// How many writes are under way at a time.
const UNDER_WAY: usize = 16;

/// The body of a request: each another one.
pub fn body(job: u64, number: u32) -> Bytes {
    // Some are of several pages, so that the log is soon full and goes into the database.
    let text = format!("request {number} of {job}");
    if number % 50 == 7 { text.repeat(1000).into() } else { text.into() }
}

/// What became of a request: each another result, and some errors.
pub fn outcome(job: u64, number: u32) -> Outcome {
    match number % 20 {
        19 => Outcome::Error(Failure::from(format!("error {number} of {job}"))),
        _ => Outcome::Ok(format!("result {number} of {job}").into()),
    }
}

#[test]
#[ignore = "the child of another test"]
fn commits_until_it_is_killed() {
    let (Some(folder), Some(syncs)) = (env::var_os(super::FOLDER), env::var_os(SYNCS)) else { return };
    let options = Options { syncs: syncs == "true", ..Options::default() };
    let (store, restored) = Sqlite::open_with(folder.as_ref(), options).unwrap();
    let (wake, woken) = mpsc::channel();
    let thread = StoreThread::start(store, move || wake.send(()).unwrap_or(())).unwrap();
    let mut rng = StdRng::seed_from_u64(restored.last_job);
    let mut work = (restored.last_job + 1..).take(JOBS).flat_map(|job| job_of(job, rng.random_range(1..60)));
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < UNDER_WAY {
            let Some((write, says)) = work.next() else { return };
            thread.submit(Op::Write(write));
            under_way.push_back(says);
        }
        woken.recv().unwrap();
        for done in thread.completed() {
            let says = match done {
                Done::Written | Done::Created(_) => under_way.pop_front().unwrap(),
                Done::Failed(reason) => format!("{FAILED}{reason}\n"),
                done => panic!("{done:?}"),
            };
            std::io::stdout().write_all(says.as_bytes()).unwrap();
            if says.starts_with(FAILED) {
                return;
            }
        }
    }
}

/// The writes of a job, and what to say when each is safe. Every third job is deleted at the end,
/// some are cancelled, the others have requests that are pending.
fn job_of(job: u64, chunk: u32) -> Vec<(Write, String)> {
    let number = JobNumber(job);
    let spec = JobSpec { pool: "compute".into(), key: job.to_string(), ..JobSpec::default() };
    let create = Write::Create { job: number, owner: "".into(), spec: Arc::new(spec) };
    let mut writes = vec![(create, format!("created {job} .\n"))];
    for start in (0..chunk * 8).step_by(chunk as usize) {
        let end = start + chunk;
        let bodies = (start..end).map(|number| body(job, number)).collect();
        let append = Write::Append { job: number, first: start, bodies, closes: false };
        writes.push((append, format!("appended {job} {end} .\n")));
        let settled = start..end - chunk / 3;
        let says = format!("settled {job} {} {} .\n", settled.start, settled.end);
        let outcomes = settled.map(|number| (number, outcome(job, number))).collect();
        writes.push((Write::Results { job: number, outcomes }, says));
    }
    match job % 3 {
        0 => writes.push((Write::Delete(number), format!("deleted {job} .\n"))),
        1 if job % 2 == 1 => writes.push((Write::Cancel(number), format!("cancelled {job} .\n"))),
        _ => {}
    }
    writes
}
