//! Single bad messages to the broker.

use anyhow::{Context as _, Result, bail, ensure};
use giostra_protocol::compute::Value;
use giostra_protocol::{
    Bytes, FromClient, FromWorker, MAX_MESSAGE_BYTES, Outcome, RequestId, Ticket, ToClient, ToWorker, VERSION,
};
use giostra_tests::message;
use giostra_tests::{Setup, System};

use crate::bad::{Bad, FORGED, to_backend, to_frontend};
use crate::check;
use crate::peer::{Peer, register, sent};

/// Sends a bad message until the log has it: a broker need not write a line for each of many.
fn logged(system: &System, peer: &Peer, Bad { what, frames, reason }: &Bad) -> Result<()> {
    giostra_tests::process::wait_for(&format!("the log has {what}"), || {
        let is_logged = system.line(&[" refuse ", reason]).is_some();
        if !is_logged {
            peer.send(frames).and_then(|()| peer.ignore()).expect("the connection takes everything");
            std::thread::yield_now();
        }
        is_logged.then_some(())
    })
}

#[test]
fn a_client_learns_of_each_malformed_message_and_others_are_served() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let batch = system.begin(&["random", "100000", "--json"])?;
    let (client, _) = Peer::client(system.frontend())?;
    for bad in to_frontend() {
        let stranger = Peer::connect(system.frontend())?;
        for peer in [&stranger, &client] {
            peer.send(&bad.frames)?;
            match peer.hear().with_context(|| bad.what.clone())? {
                ToClient::Refused { reason } => {
                    ensure!(reason.contains(bad.reason) && reason.len() < 3000, "{}: {reason}", bad.what);
                }
                other => bail!("{}: {other:?}", bad.what),
            }
        }
        logged(&system, &stranger, &bad)?;
    }
    // The connection bears what is right afterwards.
    client.say(FromClient::<Bytes>::Inspect)?;
    ensure!(matches!(client.hear()?, ToClient::Status(_)));
    batch.finish()?.all_well()?;
    check(&mut system)
}

#[test]
fn a_peer_at_the_backend_learns_of_each_malformed_message_and_others_are_served() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let batch = system.begin(&["random", "100000", "--json"])?;
    for bad in to_backend() {
        let peer = Peer::connect(system.backend())?;
        peer.send(&bad.frames)?;
        match peer.hear().with_context(|| bad.what.clone())? {
            ToWorker::Refused { reason } => {
                ensure!(reason.contains(bad.reason) && reason.len() < 3000, "{}: {reason}", bad.what);
            }
            other => bail!("{}: {other:?}", bad.what),
        }
        logged(&system, &peer, &bad)?;
    }
    batch.finish()?.all_well()?;
    check(&mut system)
}

#[test]
fn a_registered_worker_that_sends_garbage_is_dropped_with_a_reason_and_asked_to_register() -> Result<()> {
    let mut system = Setup::workers(0).broker(&["--max-attempts", "1000"]).start()?;
    let batch = system.begin(&["send", "add", "1", "2"])?;
    let all = to_backend();
    for bad in &all {
        let worker = Peer::worker(system.backend(), "compute")?;
        ensure!(
            matches!(worker.hear_as_worker()?, ToWorker::Dispatch { requests, .. } if requests.len() == 1),
            "{}",
            bad.what
        );
        worker.send(&bad.frames)?;
        match worker.hear_as_worker()? {
            ToWorker::Refused { reason } => ensure!(reason.contains(bad.reason), "{}: {reason}", bad.what),
            other => bail!("{}: {other:?}", bad.what),
        }
        ensure!(matches!(worker.hear_as_worker()?, ToWorker::RegisterAgain), "{}", bad.what);
        system.wait_for_line(&[" dropped stranger ", "returned=1 c1#1 ", "evidence=yes reason=", bad.reason])?;
    }
    system.start_worker(1)?;
    assert_eq!((batch.finish()?.stdout, system.count(" redispatch ")), ("3\n".into(), all.len()));
    check(&mut system)
}

#[test]
fn an_introduction_with_another_version_or_a_bad_name_is_refused() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let long = "x".repeat(1 << 20);
    let names = [
        ("", "must not be empty"),
        ("a b", "must not have spaces, `=`, control characters"),
        (FORGED, "must not have spaces, `=`, control characters"),
        ("a\nb", "must not have spaces, `=`, control characters"),
        ("\u{1b}[2J", "must not have spaces, `=`, control characters"),
        ("key=x", "must not have spaces, `=`, control characters"),
        (&*long, "64 characters and 128 bytes at most"),
    ];
    for (version, name, complaint) in [(0, "n", "version 4 of the protocol, not 0"), (u32::MAX, "n", "version 4")]
        .into_iter()
        .chain(names.map(|(name, complaint)| (VERSION, name, complaint)))
    {
        let hello = FromClient::<Bytes>::Hello { version, name: name.into() };
        let client = Peer::connect(system.frontend())?;
        client.say(hello.clone())?;
        ensure!(matches!(client.hear()?, ToClient::Refused { reason, .. } if reason.contains(complaint)));
        logged(&system, &client, &Bad { what: complaint.into(), frames: sent(hello), reason: complaint })?;
        for (name, pool) in [(name, "p"), ("n", name)] {
            let worker = Peer::connect(system.backend())?;
            worker.say(register(version, name, pool))?;
            ensure!(matches!(worker.hear()?, ToWorker::Refused { reason } if reason.contains(complaint)));
        }
    }
    // A registered worker that registers so is no longer registered.
    let worker = Peer::worker(system.backend(), "p")?;
    worker.say(register(VERSION + 1, "n", "p"))?;
    ensure!(matches!(worker.hear_as_worker()?, ToWorker::Refused { .. }));
    system.wait_for_line(&[" dropped stranger ", "reason=registered again"])?;
    let (client, session) = Peer::client(system.frontend())?;
    let requests = vec![(RequestId(1), Bytes::new())];
    client.say(message::submit(session, "a\nb", 0, requests))?;
    ensure!(
        matches!(client.hear()?, ToClient::Declined { reason, requests } if reason.starts_with("pool: ") && requests == [RequestId(1)])
    );
    client.say(FromClient::<Bytes>::Drain { worker: long, number: 0, all: false })?;
    ensure!(matches!(client.hear()?, ToClient::Refused { .. }));
    assert_eq!(system.count("joined n "), 0);
    check(&mut system)
}

#[test]
fn replies_to_tickets_never_given_are_discarded_and_answer_nobody() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let lies = |tickets: &[u64]| {
        let lie = Value::Int(42).to_body();
        FromWorker::Replies(tickets.iter().map(|&ticket| (Ticket(ticket), Outcome::Ok(lie.clone()))).collect())
    };
    let stranger = Peer::connect(system.backend())?;
    stranger.say(lies(&[0, 1, u64::MAX]))?;
    ensure!(matches!(stranger.hear()?, ToWorker::RegisterAgain));
    system.wait_for_line(&[" discard ? ? late=3"])?;

    let batch = system.begin(&["send", "add", "1", "2"])?;
    let worker = Peer::worker(system.backend(), "compute")?;
    let ToWorker::Dispatch { requests, .. } = worker.hear_as_worker()? else { bail!("no dispatch") };
    let Ticket(ticket) = requests[0].0;
    // Somebody else answers the request; then its worker answers others' ones, and then its own twice.
    stranger.say(lies(&[ticket]))?;
    system.wait_for_line(&[" discard ? ? late=1"])?;
    worker.say(lies(&[ticket.wrapping_add(1), ticket.wrapping_sub(1)]))?;
    system.wait_for_line(&[" discard stranger w1 late=2"])?;
    let reply = || FromWorker::Replies(vec![(Ticket(ticket), Outcome::Ok(Value::Int(3).to_body()))]);
    worker.say(reply())?;
    worker.say(reply())?;
    system.wait_for_line(&[" discard stranger w1 late=1"])?;
    assert_eq!(batch.finish()?.stdout, "3\n");
    drop(worker);
    system.wait_for_line(&[" dropped stranger w1 "])?;
    system.start_worker(1)?;
    check(&mut system)
}

#[test]
fn requests_without_a_hello_or_of_another_session_are_not_accepted() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let submit = |session| {
        message::submit(session, "compute", 0, vec![(RequestId(1), Bytes::new()), (RequestId(2), Bytes::new())])
    };
    let (client, session) = Peer::client(system.frontend())?;
    let stranger = Peer::connect(system.frontend())?;
    for forged in [0, session, session.wrapping_add(1)] {
        stranger.say(submit(forged))?;
    }
    stranger.say(FromClient::<Bytes>::Cancel(vec![RequestId(1)]))?;
    stranger.say(FromClient::<Bytes>::Drain { worker: "worker-1".into(), number: 0, all: false })?;
    // Something is said to that, and it is no acceptance.
    ensure!(!matches!(stranger.hear()?, ToClient::Replies(_) | ToClient::Draining { .. }));
    for forged in [0, u64::MAX, session.wrapping_add(1)] {
        client.say(submit(forged))?;
    }
    client.say(FromClient::<Bytes>::Cancel(vec![RequestId(1), RequestId(u64::MAX)]))?;
    client.say(FromClient::<Bytes>::Inspect)?;
    let ToClient::Status(status) = client.hear()? else { bail!("something other than the status came") };
    assert_eq!((status.totals.accepted, status.totals.cancelled), (0, 0));
    system.wait_for_line(&[" stale c1 count=2"])?;
    ensure!(!system.log().contains(" leaving worker-1 "));
    check(&mut system)
}

#[test]
fn a_peer_that_claims_its_own_disconnection_is_refused_with_bounded_log() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let (client, session) = Peer::client(system.frontend())?;
    let requests = vec![(RequestId(1), Bytes::new())];
    client.say(message::submit(session, "nobody", 0, requests))?;
    for _ in 0..100 {
        client.say(FromClient::<Bytes>::Disconnected)?;
        ensure!(matches!(client.hear()?, ToClient::Refused { reason } if reason.contains("close the connection")));
        client.say(FromClient::<Bytes>::Hello { version: VERSION, name: "again".into() })?;
        ensure!(matches!(client.hear()?, ToClient::Welcome { client: 1, .. }));
    }
    let log = system.log();
    assert_eq!((log.matches(" client-joined ").count(), log.matches(" client-left ").count()), (1, 0));

    let worker = Peer::worker(system.backend(), "p")?;
    worker.say(FromWorker::<Bytes>::Disconnected)?;
    ensure!(
        matches!(worker.hear_as_worker()?, ToWorker::Refused { reason } if reason.contains("close the connection"))
    );
    ensure!(matches!(worker.hear_as_worker()?, ToWorker::RegisterAgain));
    // The real one is heard as ever.
    drop(client);
    system.wait_for_line(&[" client-left c1 cancelled=1 ", "connection broke"])?;
    worker.say(FromWorker::<Bytes>::Leave)?;
    ensure!(matches!(worker.hear_as_worker()?, ToWorker::Goodbye));
    check(&mut system)
}

#[test]
fn only_the_sender_of_a_frame_over_the_limit_loses_its_connection() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let batch = system.begin(&["random", "100000", "--json"])?;
    let (client, _) = Peer::client(system.frontend())?;
    let worker = Peer::worker(system.backend(), "p")?;
    let oversize = vec![0; MAX_MESSAGE_BYTES + 1];
    client.send(&[b"\xa7Inspect".to_vec(), oversize.clone()])?;
    worker.send(&[oversize])?;
    system.wait_for_line(&[" client-left c", "connection broke"])?;
    system.wait_for_line(&[" dropped stranger ", "connection broke"])?;
    // One of just that size is a message like others.
    let (client, _) = Peer::client(system.frontend())?;
    client.send(&[vec![0xc1; MAX_MESSAGE_BYTES]])?;
    ensure!(matches!(client.hear()?, ToClient::Refused { .. }));
    batch.finish()?.all_well()?;
    check(&mut system)
}
