//! A process that is killed while it commits: what it has acknowledged is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use giostra_core::store::{Done, Op, Write};
use giostra_store::{Sqlite, StoreThread};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const KILLS: u64 = 20;
const FOLDER: &str = "GIOSTRA_TEST_STORE";
const UNDER_WAY: usize = 16;

/// What is acknowledged of a job.
#[derive(Default)]
struct Acknowledged {
    requests: u32,
    settled: BTreeSet<u32>,
}

#[test]
fn what_a_killed_process_has_acknowledged_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut acknowledged = BTreeMap::<u64, Acknowledged>::new();
    for _ in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "killing::commits_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some while they open the store: the first lines are the test harness's own.
        let mut left = if rng.random_ratio(1, 4) { rng.random_range(1..5) } else { rng.random_range(1..400) };
        for line in lines.by_ref() {
            take_down(&mut acknowledged, &line.unwrap());
            left -= 1;
            if left == 0 {
                break;
            }
        }
        // At any moment of a commit, not just after one.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..2000)));
        child.kill().unwrap();
        lines.map_while(Result::ok).for_each(|line| take_down(&mut acknowledged, &line));
        assert!(child.wait().unwrap().code().is_none(), "it has ended by itself");
        // The first ones may be killed before they have made a store.
        if folder.path().join("store.db").exists() || !acknowledged.is_empty() {
            check(folder.path(), &acknowledged);
        }
    }
    let settled: usize = acknowledged.values().map(|job| job.settled.len()).sum();
    assert!(acknowledged.len() > 5 && settled > 100, "{} jobs, {settled} results", acknowledged.len());
}

/// Reads a line of the child. Others are the test harness's own, or cut off.
fn take_down(acknowledged: &mut BTreeMap<u64, Acknowledged>, line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    let number = |word: &str| word.parse::<u64>().unwrap();
    match words[..] {
        ["created", job, "."] => drop(acknowledged.insert(number(job), Acknowledged::default())),
        ["appended", job, end, "."] => acknowledged.get_mut(&number(job)).unwrap().requests = number(end) as u32,
        ["settled", job, start, end, "."] => {
            let settled = number(start) as u32..number(end) as u32;
            acknowledged.get_mut(&number(job)).unwrap().settled.extend(settled);
        }
        _ => {}
    }
}

fn check(folder: &Path, acknowledged: &BTreeMap<u64, Acknowledged>) {
    assert_sound(folder);
    let (mut store, restored) = Sqlite::open(folder).unwrap();
    assert!(restored.last_job >= acknowledged.keys().max().copied().unwrap_or(0));
    for (&job, expected) in acknowledged {
        let record = record(&mut store, job).unwrap();
        let results: BTreeMap<_, _> = all_results(&mut store, job, 0, 10_000).into_iter().collect();
        let pending: BTreeMap<_, _> = all_pending(&mut store, job, 0, (100, 10_000)).into_iter().collect();
        assert!(record.requests >= expected.requests, "{record:?}");
        assert_eq!(results.len() as u32, record.succeeded + record.failed, "{record:?}");
        for number in 0..record.requests {
            match results.get(&number) {
                Some(result) => assert_eq!(*result, outcome(job, number)),
                None => assert_eq!(pending.get(&number), Some(&body(job, number)), "{job}, {number}"),
            }
            assert!(!expected.settled.contains(&number) || results.contains_key(&number), "{job}, {number}");
        }
        assert_eq!(pending.len() + results.len(), record.requests as usize);
    }
}

#[test]
#[ignore = "the child of another test"]
fn commits_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let (store, restored) = Sqlite::open(folder.as_ref()).unwrap();
    let (wake, woken) = mpsc::channel();
    let thread = StoreThread::start(store, move || wake.send(()).unwrap_or(())).unwrap();
    let mut rng = StdRng::seed_from_u64(restored.last_job);
    let mut work = (restored.last_job + 1..).flat_map(|job| job_of(job, rng.random_range(1..60)));
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < UNDER_WAY {
            let (write, says) = work.next().unwrap();
            thread.submit(Op::Write(write));
            under_way.push_back(says);
        }
        woken.recv().unwrap();
        for done in thread.completed() {
            assert!(matches!(done, Done::Written | Done::Created(_)), "{done:?}");
            // In one write, so that a line is whole or not there.
            std::io::stdout().write_all(under_way.pop_front().unwrap().as_bytes()).unwrap();
        }
    }
}

/// The writes of a job, and what to say when each is safe.
fn job_of(job: u64, chunk: u32) -> Vec<(Write, String)> {
    let finishes = job.is_multiple_of(7);
    let mut writes = vec![(create(job, &job.to_string()), format!("created {job} .\n"))];
    for start in (0..chunk * 20).step_by(chunk as usize) {
        let end = start + chunk;
        writes.push((append(job, start..end, false), format!("appended {job} {end} .\n")));
        // Not all, mostly: some are pending at the end.
        let settled = start..end - if finishes { 0 } else { chunk / 3 };
        let says = format!("settled {job} {} {} .\n", settled.start, settled.end);
        writes.push((results(job, settled), says));
    }
    writes.push((append(job, chunk * 20..chunk * 20, true), "closed\n".into()));
    writes
}
