//! The session, scenario by scenario.

use super::outgoing::SPARE;
use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn session() -> (Session, Instant) {
    let now = Instant::now();
    (Session::new("p", true, TIMEOUT, now), now)
}

fn body() -> Bytes {
    Bytes::from_static(b"body")
}

fn welcome(session: &mut Session, now: Instant) {
    welcome_with(session, 1 << 20, 1 << 16, now);
}

fn welcome_with(session: &mut Session, max_message_bytes: u64, max_batch: u64, now: Instant) {
    let welcome = ToClient::Welcome { version: 1, client: 1, session: 1, max_message_bytes, max_batch, home: Some(7) };
    session.handle(welcome, now);
}

fn reply(id: u64) -> ToClient {
    ToClient::Replies(vec![Reply { id: RequestId(id), outcome: Outcome::Ok(body()), trace: Trace::default() }])
}

fn sent(session: &mut Session, now: Instant) -> Vec<(u64, Vec<u64>)> {
    std::iter::from_fn(|| session.poll_send(now))
        .map(|message| match message {
            FromClient::Submit { timeout_ms, requests, .. } => {
                (timeout_ms, requests.iter().map(|(id, _)| id.0).collect())
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn failure(session: &mut Session) -> (u64, String) {
    let reply = session.take_reply().expect("a reply");
    match reply.outcome {
        Outcome::Error(failure) => (reply.id.0, failure.code),
        Outcome::Ok(_) => panic!("a result"),
    }
}

#[test]
fn nothing_is_sent_before_the_welcome_and_many_travel_together() {
    let (mut session, now) = session();
    for _ in 0..BATCH + 1 {
        session.submit(body(), None, Priority::Normal);
    }
    assert_eq!(sent(&mut session, now), []);
    welcome(&mut session, now);
    let sizes: Vec<_> = sent(&mut session, now).iter().map(|(_, ids)| ids.len()).collect();
    assert_eq!(sizes, [BATCH, 1]);
    assert_eq!(sent(&mut session, now), []);
}

#[test]
fn the_brokers_limits_are_respected_and_a_request_over_them_is_not_sent() {
    let (mut session, now) = session();
    for bytes in [1, 11, 10, 2, 3] {
        session.submit(vec![0; bytes].into(), Some(now + TIMEOUT), Priority::Normal);
    }
    welcome_with(&mut session, 10, 2, now);
    assert_eq!(sent(&mut session, now), [(10_000, vec![1, 3]), (10_000, vec![4, 5])]);
    assert_eq!(failure(&mut session), (2, code::INVALID.into()));
    assert_eq!((session.unanswered(), session.poll_timeout().is_some()), (4, true));
}

#[test]
fn after_a_hiccup_unanswered_requests_are_sent_again_and_no_others() {
    let (mut session, now) = session();
    for _ in 0..3 {
        session.submit(body(), None, Priority::Normal);
    }
    welcome(&mut session, now);
    sent(&mut session, now);
    session.handle(reply(2), now);
    session.handle(ToClient::Hiccup, now);
    assert_eq!(sent(&mut session, now), []);
    session.submit(body(), None, Priority::Normal);
    session.handle(ToClient::Hiccup, now);
    welcome(&mut session, now);
    assert_eq!(session.take_to_resend(), 2);
    assert_eq!(sent(&mut session, now), [(0, vec![1, 3, 4])]);
    assert_eq!(session.take_to_resend(), 0);
}

#[test]
fn rejected_requests_are_sent_first_and_no_more_than_the_credit_allows() {
    let (mut session, now) = session();
    for _ in 0..BATCH + 6 {
        session.submit(body(), None, Priority::Normal);
    }
    welcome(&mut session, now);
    sent(&mut session, now);
    session.handle(reply(2), now);
    session.handle(ToClient::Rejected([1, 2, 3].map(RequestId).into()), now);
    session.submit(body(), None, Priority::Normal);
    assert_eq!(sent(&mut session, now), []);
    session.handle(ToClient::Rejected(vec![RequestId(BATCH as u64 + 1)]), now);
    session.handle(ToClient::Credit { requests: 2 }, now);
    assert_eq!(sent(&mut session, now), [(0, vec![1, 3])]);
    session.handle(ToClient::Credit { requests: 10 }, now);
    assert_eq!(sent(&mut session, now), [(0, vec![BATCH as u64 + 1, BATCH as u64 + 7])]);
    // The credit is counted from when it is granted ..
    session.handle(ToClient::Credit { requests: 1 }, now);
    session.submit(body(), None, Priority::Normal);
    session.submit(body(), None, Priority::Normal);
    assert_eq!(sent(&mut session, now).len(), 1);
    // .. but not over another connection.
    session.handle(ToClient::Hiccup, now);
    welcome(&mut session, now);
    assert_eq!(sent(&mut session, now).iter().map(|(_, ids)| ids.len()).sum::<usize>(), BATCH + 8);
}

#[test]
fn many_requests_are_cancelled_in_messages_that_the_broker_accepts() {
    let (mut session, now) = session();
    for _ in 0..=MAX_BATCH {
        session.submit(body(), None, Priority::Normal);
    }
    welcome(&mut session, now);
    let sizes = session.cancel_all().into_iter().map(|message| match message {
        FromClient::Cancel(ids) => ids.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [MAX_BATCH, 1]);
}

#[test]
fn a_second_reply_is_counted_and_discarded() {
    let (mut session, now) = session();
    session.submit(body(), None, Priority::Normal);
    welcome(&mut session, now);
    sent(&mut session, now);
    session.handle(reply(1), now);
    session.handle(reply(1), now);
    assert!(session.take_reply().is_some() && session.take_reply().is_none());
    assert_eq!((session.duplicated(), session.unanswered()), (1, 0));
}

#[test]
fn a_missing_broker_and_a_passed_time_limit_are_different_errors() {
    let (mut session, start) = session();
    session.submit(body(), Some(start + Duration::from_secs(2)), Priority::Normal);
    session.submit(body(), None, Priority::Normal);
    assert_eq!(session.poll_timeout(), Some(start + Duration::from_secs(2)));
    session.handle_timeout(start + Duration::from_secs(2));
    assert_eq!(failure(&mut session), (1, code::NO_BROKER.into()));
    session.handle_timeout(session.poll_timeout().unwrap());
    assert_eq!(failure(&mut session), (2, code::NO_BROKER.into()));

    welcome(&mut session, start);
    session.submit(body(), Some(start + Duration::from_secs(2)), Priority::Normal);
    let due = session.poll_timeout().unwrap();
    assert!(due > start + Duration::from_secs(2), "the broker is given time to say it");
    session.handle_timeout(due);
    assert_eq!(failure(&mut session), (3, code::EXPIRED.into()));
    session.handle(reply(3), due);
    assert_eq!((session.take_reply(), session.duplicated()), (None, 0), "a late reply is no second one");
}

#[test]
fn a_time_limit_too_short_for_a_handshake_does_not_blame_the_broker() {
    let (mut session, start) = session();
    for limit in [Duration::from_nanos(1), Duration::from_micros(100), Duration::from_millis(99)] {
        session.submit(body(), Some(start + limit), Priority::Normal);
        session.handle_timeout(start + limit);
        let Some(Reply { outcome: Outcome::Error(failure), .. }) = session.take_reply() else { panic!() };
        assert_eq!(failure.code, code::EXPIRED, "{limit:?}: {failure}");
        assert!(!failure.message.contains("no broker"), "{failure}");
    }
    // The failure names what ended the wait.
    session.submit(body(), Some(start + TIMEOUT / 2), Priority::Normal);
    session.submit(body(), None, Priority::Normal);
    for (at, said) in [(TIMEOUT / 2, "its time limit passed, with no broker for"), (TIMEOUT, "no broker for")] {
        session.handle_timeout(start + at);
        let Some(Reply { outcome: Outcome::Error(failure), .. }) = session.take_reply() else { panic!() };
        assert_eq!(failure.code, code::NO_BROKER);
        assert!(failure.message.starts_with(said), "{failure}");
    }
}

#[test]
fn a_time_limit_goes_on_running_while_there_is_no_broker() {
    let (mut session, start) = session();
    session.submit(body(), Some(start + Duration::from_secs(100)), Priority::Normal);
    session.submit(body(), Some(start + Duration::from_millis(500) + Duration::from_secs(100)), Priority::Normal);
    session.submit(body(), Some(start + Duration::from_millis(500) + Duration::from_secs(20)), Priority::Normal);
    session.submit(body(), None, Priority::Normal);
    let now = start + Duration::from_secs(5);
    welcome(&mut session, now);
    assert_eq!(sent(&mut session, now), [(95_500, vec![1, 2]), (15_500, vec![3]), (0, vec![4])]);
}

#[test]
fn without_a_broker_ended_requests_take_no_memory() {
    let (mut session, start) = session();
    let kept = session.submit(body(), None, Priority::Normal);
    for number in 0..1_000_000 {
        let now = start + Duration::from_micros(number);
        let id = session.submit(body(), Some(now), Priority::Normal);
        if number % 2 == 0 {
            session.handle_timeout(now);
            assert_eq!(failure(&mut session).0, id.0);
        } else {
            session.cancel(vec![id]);
        }
        assert!(session.unsent() <= SPARE + 4 && session.abandoned.is_empty());
    }
    welcome(&mut session, start);
    assert_eq!(sent(&mut session, start), [(0, vec![kept.0])]);
}

#[test]
fn a_cancelled_request_is_neither_sent_nor_answered() {
    let (mut session, now) = session();
    session.submit(body(), None, Priority::Normal);
    assert_eq!(session.cancel_all(), []);
    welcome(&mut session, now);
    assert_eq!(sent(&mut session, now), []);
    session.submit(body(), Some(now + TIMEOUT), Priority::Normal);
    sent(&mut session, now);
    assert_eq!(session.cancel_all(), [FromClient::Cancel(vec![RequestId(2)])]);
    assert_eq!((session.unanswered(), session.poll_timeout()), (0, None));
}

#[test]
fn urgent_requests_overtake_those_that_wait_and_each_message_has_one_priority() {
    let (mut session, now) = session();
    let order = [Priority::Low, Priority::Normal, Priority::High, Priority::Low, Priority::High];
    for priority in order {
        session.submit(body(), None, priority);
    }
    let sent = |session: &mut Session| -> Vec<(Priority, Vec<u64>)> {
        let messages = std::iter::from_fn(|| session.poll_send(now)).map(|message| match message {
            FromClient::Submit { priority, requests, .. } => (priority, requests.iter().map(|(id, _)| id.0).collect()),
            other => panic!("{other:?}"),
        });
        messages.collect()
    };
    let all = [(Priority::High, vec![3, 5]), (Priority::Normal, vec![2]), (Priority::Low, vec![1, 4])];
    welcome(&mut session, now);
    assert_eq!(sent(&mut session), all);
    // Over another connection, too.
    session.handle(ToClient::Hiccup, now);
    welcome(&mut session, now);
    assert_eq!(sent(&mut session), all);
    // What the broker had no room for comes again as urgent as it was.
    session.handle(ToClient::Rejected([1, 2, 3, 4, 5].map(RequestId).into()), now);
    session.handle(ToClient::Credit { requests: 4 }, now);
    assert_eq!(sent(&mut session), [all[0].clone(), all[1].clone(), (Priority::Low, vec![1])]);
}

#[test]
fn a_record_tells_over_which_connection_what_was_sent_and_answered() {
    let (mut session, now) = session();
    session.record.keep(true);
    for _ in 0..3 {
        session.submit(body(), None, Priority::Normal);
    }
    let ids = |first, last| Record::Sent(RequestId(first), RequestId(last));
    let connected = |session: &mut Session, number| {
        let welcome = ToClient::Welcome {
            version: 1,
            client: number,
            session: number,
            max_message_bytes: 99,
            max_batch: 9,
            home: None,
        };
        session.handle(welcome, now);
        session.record.connected(|| "tcp://a".into());
        Record::Connected { broker: "tcp://a".into(), number }
    };
    let first = connected(&mut session, 7);
    sent(&mut session, now);
    session.handle(reply(2), now);
    let replied = |id| Record::Replied(RequestId(id), None);
    assert_eq!(session.record.take(), [first, ids(1, 3), replied(2)]);
    session.handle(ToClient::Hiccup, now);
    let second = connected(&mut session, 8);
    sent(&mut session, now);
    session.handle(reply(3), now);
    session.handle(reply(3), now);
    session.handle(ToClient::Declined { reason: "no".into(), requests: vec![RequestId(1)] }, now);
    let gave_up = Record::GaveUp(RequestId(1), "refused".into());
    let duplicated = Record::Duplicated(RequestId(3));
    assert_eq!(session.record.take(), [second, ids(1, 1), ids(3, 3), replied(3), duplicated, gave_up]);
}

#[test]
fn nothing_is_recorded_unless_it_is_asked_for() {
    let (mut session, now) = session();
    session.submit(body(), None, Priority::Normal);
    welcome(&mut session, now);
    sent(&mut session, now);
    session.handle(reply(1), now);
    assert_eq!(session.record.take(), []);
}
