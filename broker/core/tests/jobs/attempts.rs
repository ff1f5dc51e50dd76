//! Requests of jobs that fail, expire, or end their workers, step by step.

use std::time::Duration;

use giostra_core::store::{Attempts, Op, Write};
use giostra_protocol::{Bytes, JobSpec, JobState, JobsReply, JobsRequest, Outcome, code};

use crate::bench::{Bench, id, part, spec};

const SECOND: Duration = Duration::from_secs(1);

/// A broker with a worker and a job of one request.
fn with_one_request(spec: JobSpec) -> Bench {
    let mut bench = Bench::new(true);
    bench.work();
    bench.ask("ada", one_request(spec));
    bench.sync();
    assert_eq!(bench.dispatched.len(), 1);
    bench
}

fn one_request(job: JobSpec) -> JobsRequest {
    JobsRequest::Submit { job, first: 0, bodies: vec![Bytes::from_static(b"x")], closes: true }
}

fn results(bench: &mut Bench) -> Vec<(u32, Outcome)> {
    bench.ask("ada", JobsRequest::Collect { id: id(1), from: 0, with_failed: false });
    bench.sync();
    match bench.told.pop() {
        Some((_, JobsReply::Results { results, .. })) => results,
        other => panic!("{other:?}"),
    }
}

fn error_code(bench: &mut Bench) -> String {
    match &results(bench)[..] {
        [(0, Outcome::Error(failure))] => failure.code.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_that_fails_is_computed_again_after_growing_pauses_and_then_its_error_is_its_result() {
    let mut bench = with_one_request(JobSpec { retries: 2, ..spec() });
    for pause in [SECOND, 2 * SECOND] {
        bench.fail();
        bench.sync();
        bench.wait(pause - Duration::from_millis(1));
        assert_eq!((bench.dispatched.len(), results(&mut bench).len()), (0, 0));
        bench.wait(Duration::from_millis(1));
        assert_eq!(bench.dispatched.len(), 1);
    }
    bench.fail();
    bench.sync();
    assert_eq!((bench.state(1), &*error_code(&mut bench)), (JobState::Finished, "failed"));
}

#[test]
fn how_often_a_request_has_failed_outlives_the_broker() {
    let mut bench = with_one_request(JobSpec { retries: 1, ..spec() });
    bench.fail();
    bench.sync();
    bench.restart();
    bench.work();
    bench.sync();
    bench.fail();
    bench.sync();
    assert_eq!(bench.state(1), JobState::Finished);
}

#[test]
fn a_request_that_ends_its_workers_is_not_innocent_again_in_each_life_of_the_broker() {
    let mut bench = with_one_request(spec());
    for _ in 0..2 {
        bench.lose();
        bench.sync();
        bench.restart();
        bench.work();
        bench.sync();
        assert_eq!(bench.dispatched.len(), 1);
    }
    bench.lose();
    bench.wait(2 * SECOND);
    bench.sync();
    assert_eq!((bench.state(1), &*error_code(&mut bench)), (JobState::Finished, code::POISON));
    let last = bench.asked.iter().rev().find_map(|op| match op {
        Op::Write(Write::Attempts { attempts, .. }) => Some(attempts.clone()),
        _ => None,
    });
    assert!(matches!(&last.unwrap()[..], [(0, Attempts { lost: 2 | 3, failed: 0 })]));
}

#[test]
fn a_time_limit_counts_from_each_dispatch_and_not_while_a_request_waits() {
    let mut bench = Bench::new(true);
    bench.ask("ada", one_request(JobSpec { timeout_ms: 500, ..spec() }));
    bench.sync();
    bench.wait(100 * SECOND);
    bench.work();
    bench.sync();
    bench.lose();
    bench.wait(100 * SECOND);
    bench.work();
    bench.sync();
    assert_eq!((bench.count, results(&mut bench).len()), (2, 0));
    bench.wait(SECOND);
    bench.sync();
    assert_eq!(&*error_code(&mut bench), code::EXPIRED);
}

#[test]
fn the_failed_requests_of_a_finished_job_are_computed_again_when_asked_for() {
    let mut bench = with_one_request(spec());
    bench.ask("ada", JobsRequest::Retry(id(1)));
    bench.sync();
    assert!(bench.refusal().contains("only finished jobs"), "{}", bench.refusal());
    bench.fail();
    bench.sync();
    bench.ask("ada", JobsRequest::Retry(id(1)));
    bench.sync();
    assert_eq!((bench.state(1), bench.dispatched.len()), (JobState::Running, 1));
    bench.reply();
    bench.sync();
    assert!(matches!(&results(&mut bench)[..], [(0, Outcome::Ok(_))]));
    assert_eq!(bench.state(1), JobState::Finished);
}

#[test]
fn the_pace_of_a_job_that_goes_on_is_that_of_its_new_results() {
    let mut bench = Bench::new(true);
    bench.work();
    bench.ask("ada", part(0, 8, true));
    bench.sync();
    bench.fail();
    bench.sync();
    bench.wait(3600 * SECOND);
    bench.ask("ada", JobsRequest::Retry(id(1)));
    bench.sync();
    bench.wait(2 * SECOND);
    bench.answer(4);
    bench.sync();
    let status = bench.broker.status(bench.now).jobs.unwrap();
    assert_eq!((status.live[0].rate, status.live[0].left_ms), (2, Some(2000)));
}

#[test]
fn a_job_is_deleted_when_it_has_been_kept_for_as_long_as_it_was_to_be() {
    let mut bench = with_one_request(JobSpec { keep_ms: 600_000, ..spec() });
    bench.reply();
    bench.sync();
    for _ in 0..9 {
        bench.wait(60 * SECOND);
        bench.sync();
    }
    assert_eq!(bench.state(1), JobState::Finished);
    for _ in 0..2 {
        bench.wait(60 * SECOND);
        bench.sync();
    }
    bench.ask("ada", JobsRequest::Look { id: id(1), wait: false });
    bench.sync();
    assert!(bench.refusal().contains("there is no job"), "{}", bench.refusal());
}

#[test]
fn a_job_that_is_kept_for_a_moment_is_deleted_after_it_however_it_has_ended() {
    for is_cancelled in [false, true] {
        let mut bench = with_one_request(JobSpec { keep_ms: 2000, ..spec() });
        // The regular look is a minute away.
        bench.wait(Duration::from_millis(1));
        match is_cancelled {
            true => bench.ask("ada", JobsRequest::Cancel(id(1))),
            false => bench.reply(),
        }
        bench.sync();
        for is_there in [true, false] {
            bench.ask("ada", JobsRequest::Look { id: id(1), wait: false });
            bench.sync();
            assert_eq!(matches!(bench.told[0].1, JobsReply::Jobs(_)), is_there);
            bench.wait(2 * SECOND);
            bench.sync();
        }
    }
}

#[test]
fn each_of_several_jobs_is_deleted_in_its_time_also_after_a_restart() {
    let mut bench = Bench::new(true);
    bench.work();
    for (key, keep_ms) in [("a", 5000), ("b", 9000), ("c", 7000)] {
        bench.ask("ada", one_request(JobSpec { key: key.into(), keep_ms, ..spec() }));
        bench.sync();
        bench.reply();
        bench.sync();
    }
    for (restarts, left) in [(false, 3), (false, 2), (true, 1), (false, 0)] {
        if restarts {
            bench.restart();
        }
        assert_eq!(bench.disk.jobs.len(), left);
        bench.wait(Duration::from_secs(if left == 3 { 5 } else { 2 }));
        bench.sync();
    }
}

#[test]
fn without_room_new_requests_are_refused_and_results_wait_for_it() {
    let mut bench = with_one_request(spec());
    bench.disk.full = [true, true];
    bench.reply();
    bench.sync();
    bench.ask("ada", one_request(JobSpec { key: "other".into(), ..spec() }));
    bench.sync();
    assert_eq!(bench.refusal(), "no space");
    assert_eq!((bench.state(1), bench.disk.jobs.len()), (JobState::Running, 1));
    bench.wait(SECOND);
    bench.sync();
    assert_eq!(bench.state(1), JobState::Running);
    bench.disk.full = [false, false];
    bench.wait(SECOND);
    bench.sync();
    assert_eq!((bench.state(1), bench.count), (JobState::Finished, 1));
}
