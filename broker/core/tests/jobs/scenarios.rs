//! What clients are told of jobs, and what they may do, step by step.

use giostra_core::config::Rights;
use giostra_core::store::{Op, Write};
use giostra_protocol::{JobId, JobState, JobsReply, JobsRequest};

use crate::bench::{Bench, id, part, peer};
use crate::store::HOME;

#[test]
fn a_broker_without_a_store_says_how_to_have_one() {
    let mut bench = Bench::new(false);
    bench.ask("ada", part(0, 1, true));
    assert!(bench.refusal().contains("--store"), "{}", bench.refusal());
    assert!(bench.asked.is_empty());
}

#[test]
fn a_request_is_acknowledged_and_dispatched_once_it_is_safe_and_not_before() {
    let mut bench = Bench::new(true);
    bench.work();
    bench.ask("ada", part(0, 3, true));
    assert_eq!((bench.told.len(), bench.count), (0, 0));
    bench.sync();
    assert_eq!(bench.told, [(peer("ada"), JobsReply::Accepted { id: id(1), requests: 3, closed: true })]);
    assert_eq!(bench.count, 3);
    bench.reply();
    assert_eq!(bench.disk.jobs.len(), 1);
    assert_eq!(bench.state(1), JobState::Finished);
}

#[test]
fn what_is_sent_again_or_after_the_end_of_a_submission_changes_nothing() {
    let mut bench = Bench::new(true);
    for request in [part(0, 3, false), part(0, 3, false), part(9, 1, true), part(3, 2, true)] {
        bench.ask("ada", request);
        bench.sync();
    }
    let before = bench.asked.len();
    for request in [part(3, 2, true), part(5, 0, true), part(5, 2, false), part(0, 0, false)] {
        bench.ask("ada", request);
        bench.sync();
        assert_eq!(bench.told, [(peer("ada"), JobsReply::Accepted { id: id(1), requests: 5, closed: true })]);
    }
    assert_eq!(bench.asked.len(), before, "something was written");
}

#[test]
fn of_a_long_job_only_a_slice_is_in_memory() {
    let mut bench = Bench::new(true);
    for first in (0..100).step_by(5) {
        bench.ask("ada", part(first, 5, first == 95));
        bench.sync();
        assert!(bench.broker.status(bench.now).pending <= 16);
    }
    bench.work();
    while bench.count < 100 {
        assert!(bench.dispatched.len() <= 16);
        bench.reply();
        bench.sync();
    }
    bench.reply();
    assert_eq!((bench.state(1), bench.count), (JobState::Finished, 100));
}

#[test]
fn a_job_is_its_owners_alone_and_the_administrators() {
    let mut bench = Bench::new(true);
    let client = Rights { submit: true, administer: false };
    bench.join("bob", client, "B");
    bench.join("eve", client, "E");
    bench.ask("bob", part(0, 1, false));
    bench.sync();
    let questions = |id| {
        [
            JobsRequest::Look { id, wait: false },
            JobsRequest::Look { id, wait: true },
            JobsRequest::Collect { id, from: 0, with_failed: true },
            JobsRequest::Retry(id),
            JobsRequest::Cancel(id),
            JobsRequest::Delete(id),
        ]
    };
    for request in questions(id(1)) {
        bench.ask("eve", request.clone());
        bench.sync();
        assert!(bench.refusal().contains("another client's"), "{request:?}: {}", bench.refusal());
    }
    // As of a job that is not there, so that nobody learns how many there are.
    for request in questions(JobId { home: HOME + 1, number: 1 }).into_iter().chain(questions(id(2))) {
        bench.ask("eve", request.clone());
        bench.sync();
        assert!(bench.refusal().contains("there is no job"), "{request:?}");
    }
    for (who, jobs) in [("eve", 0), ("bob", 1), ("ada", 1)] {
        bench.ask(who, JobsRequest::List { before: u64::MAX });
        bench.sync();
        assert!(matches!(&bench.told[0].1, JobsReply::Jobs(seen) if seen.len() == jobs), "{who}: {:?}", bench.told);
    }
    // The same key means another job of another owner.
    bench.ask("eve", part(0, 1, true));
    bench.sync();
    assert_eq!(bench.told, [(peer("eve"), JobsReply::Accepted { id: id(2), requests: 1, closed: true })]);
    bench.ask("ada", JobsRequest::Cancel(id(1)));
    bench.sync();
    assert_eq!(bench.state(1), JobState::Cancelled);
}

#[test]
fn a_store_that_fails_ends_jobs_for_this_life_and_nothing_else() {
    let mut bench = Bench::new(true);
    bench.work();
    bench.ask("ada", part(0, 3, false));
    bench.sync();
    bench.queue.fail();
    bench.ask("ada", part(3, 3, true));
    bench.sync();
    assert!(bench.refusal().contains("out of order until the broker is restarted"), "{}", bench.refusal());
    // Results of what was dispatched are thrown away: the next life computes it again.
    bench.reply();
    bench.ask("ada", JobsRequest::List { before: u64::MAX });
    assert!(bench.refusal().contains("the disk is gone"));
    let asked = bench.asked.iter().filter(|op| matches!(op, Op::Write(Write::Results { .. })));
    assert_eq!(asked.count(), 0);
    let restored = bench.disk.restored();
    assert_eq!((restored.jobs[0].requests, restored.jobs[0].succeeded), (3, 0));
}

#[test]
fn whoever_waits_is_told_when_the_job_has_ended() {
    let mut bench = Bench::new(true);
    bench.work();
    bench.ask("ada", part(0, 3, true));
    bench.sync();
    bench.join("bob", Rights::ALL, "");
    bench.ask("bob", JobsRequest::Look { id: id(1), wait: true });
    bench.sync();
    assert!(bench.told.is_empty());
    bench.reply();
    bench.sync();
    let [(to, JobsReply::Jobs(jobs))] = &bench.told[..] else { panic!("{:?}", bench.told) };
    assert_eq!((to, jobs[0].state, jobs[0].succeeded), (&peer("bob"), JobState::Finished, 3));
    // The same of one that has ended before.
    bench.ask("bob", JobsRequest::Look { id: id(1), wait: true });
    bench.sync();
    assert!(matches!(&bench.told[..], [(_, JobsReply::Jobs(jobs))] if jobs[0].state == JobState::Finished));
}

#[test]
fn of_a_client_that_asks_the_same_twice_each_question_is_answered() {
    let mut bench = Bench::new(true);
    bench.work();
    for tag in [1, 2] {
        bench.ask_as(tag, "ada", part(0, 3, true));
    }
    bench.sync();
    assert_eq!(bench.accepted(), 2, "{:?}", bench.told);
    bench.told.clear();
    for tag in 1..=70 {
        bench.ask_as(tag, "ada", JobsRequest::Look { id: id(1), wait: true });
    }
    bench.reply();
    bench.sync();
    assert_eq!(bench.told.len(), 64, "those that asked first have most likely given up");
}

#[test]
fn whoever_waits_for_a_job_or_submits_it_hears_that_it_was_cancelled() {
    let mut bench = Bench::new(true);
    bench.ask("ada", part(0, 3, true));
    bench.join("bob", Rights::ALL, "");
    bench.ask("bob", JobsRequest::Look { id: id(1), wait: true });
    bench.sync();
    bench.join("eve", Rights::ALL, "");
    bench.ask("eve", JobsRequest::Cancel(id(1)));
    bench.sync();
    let told = |who: &str| {
        bench.told.iter().any(|(to, reply)| {
            *to == peer(who) && matches!(reply, JobsReply::Jobs(jobs) if jobs[0].state == JobState::Cancelled)
        })
    };
    assert!(told("bob") && told("eve"), "{:?}", bench.told);

    // One that is cancelled before all of it is safe.
    bench.ask("ada", part(0, 3, true));
    bench.ask_as(2, "eve", JobsRequest::Cancel(id(2)));
    bench.sync();
    let refused = |(to, reply): &(_, JobsReply)| {
        *to == peer("ada") && matches!(reply, JobsReply::Refused { reason } if reason.contains("was cancelled"))
    };
    assert!(bench.told.iter().any(refused), "{:?}", bench.told);
}

#[test]
fn a_job_is_told_to_be_cancelled_also_while_the_disk_has_no_room_to_say_so() {
    let mut bench = Bench::new(true);
    bench.ask("ada", part(0, 3, true));
    bench.sync();
    bench.disk.full = [true, true];
    for tag in 1..=40 {
        bench.ask_as(tag, "ada", JobsRequest::Look { id: id(1), wait: true });
    }
    bench.told.clear();
    bench.join("eve", Rights::ALL, "");
    bench.ask_as(1, "eve", JobsRequest::Cancel(id(1)));
    // As many as wait are no open questions of theirs.
    (0..30).for_each(|tag| bench.ask_as(100 + tag, "ada", JobsRequest::Look { id: id(1), wait: false }));
    bench.sync();
    assert_eq!(bench.told.len(), 71);
    for (_, reply) in &bench.told {
        assert!(matches!(reply, JobsReply::Jobs(jobs) if jobs[0].state == JobState::Cancelled), "{reply:?}");
    }
}
