//! What one peer may take up, and how it is told that it wants too much.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use giostra_client::{Client, Options};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Bytes, Failure, FromClient, Outcome, RequestId, ToClient, code};
use giostra_tests::message;
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_transport::shutdown::Shutdown;
use giostra_worker::Operations;

use crate::check;
use crate::peer::Peer;
use crate::relay::address;

/// The least limit that can be set.
const LIMIT: usize = 1 << 20;

/// The library's client, with the system's keys, of this pool.
fn client(system: &System, pool: &str) -> Result<Client> {
    Ok(Client::connect(Options {
        broker: system.frontend().into(),
        pool: pool.into(),
        credentials: system.client_credentials()?,
        ..Options::default()
    })?)
}

/// An echo of this many bytes in total.
fn echo(bytes: usize) -> Vec<u8> {
    let filling = bytes - 12;
    [&b"\x92\xa4echo\x91\xc6"[..], &(filling as u32).to_be_bytes(), &vec![7; filling]].concat()
}

/// The words of the error that a request ends in.
fn failure(client: &mut Client, body: Vec<u8>) -> Result<[String; 2]> {
    match client.call(body.into(), Some(Duration::from_secs(30)))?.outcome {
        Outcome::Error(failure) => Ok([failure.code, failure.message]),
        Outcome::Ok(_) => bail!("a result"),
    }
}

#[test]
fn an_addresss_connections_are_bounded_and_ended_ones_make_room() -> Result<()> {
    let mut system = Setup::workers(0).secured().broker(&["--max-connections", "3"]).start()?;
    let credentials = system.credentials("client")?;
    let mut three = Vec::new();
    for _ in 0..3 {
        three.push(Peer::client(system.frontend(), Some(&credentials))?.0);
    }
    // The fourth is closed, though it has said nothing.
    let mut fourth = TcpStream::connect(address(system.frontend()))?;
    fourth.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut greeting = Vec::new();
    let ended = fourth.read_to_end(&mut greeting);
    ensure!(ended.is_ok() && greeting.len() <= 64, "{ended:?}: {greeting:?}");
    system.wait_for_line(&[" refuse a client at 127.0.0.1:", "127.0.0.1 has 3 connections", "--max-connections"])?;
    // With the right key it does not come in either, and the three go on.
    let patient = Peer::connect(system.frontend(), Some(&credentials))?;
    patient.say(crate::peer::hello())?;
    let heard = patient.listen(Duration::from_millis(300))?;
    ensure!(heard.is_empty(), "{heard:?}");
    // What its client can say is that it may be this, and where to look.
    let ended = system.run(&["status", "--broker-timeout", "1s"])?;
    let told = "too many connections from this address (--max-connections)? Its log says which";
    ensure!(ended.code == Some(1) && ended.stderr.contains(told), "{ended:?}");
    for peer in &three {
        peer.say(FromClient::<Bytes>::Inspect)?;
        ensure!(matches!(peer.hear()?, ToClient::Status(_)));
    }
    // The other door has its own.
    let worker = TcpStream::connect(address(system.backend()))?;
    worker.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut first = [0; 1];
    (&worker).read_exact(&mut first)?;
    // There is room, and it is used without anybody's doing.
    drop(three.pop());
    wait_for("it comes in", || {
        // What it said over a connection that was closed is lost.
        patient.say(crate::peer::hello()).expect("the socket takes everything");
        let heard = patient.listen(Duration::from_millis(100)).expect("it can listen");
        heard.concat().windows(7).any(|window| window == b"Welcome").then_some(())
    })?;
    Ok(())
}

#[test]
fn a_request_over_the_limit_ends_in_an_error_and_one_of_just_that_size_in_a_result() -> Result<()> {
    for secured in [true, false] {
        let setup = Setup::workers(1).broker(&["--max-message", "1MiB"]);
        let mut system = setup.secured_if(secured).start()?;
        let batch = system.begin(&["random", "50000", "--json"])?;
        let mut client = client(&system, "compute")?;
        let [code, message] = {
            client.await_broker()?;
            failure(&mut client, echo(2 * LIMIT))?
        };
        ensure!(code == code::INVALID && message.contains("--max-message"), "{message}");
        let reply = client.call(echo(LIMIT).into(), Some(Duration::from_secs(20)))?;
        ensure!(matches!(&reply.outcome, Outcome::Ok(_)), "{:?}", reply.outcome);
        // One that was submitted before the limit was known, with others.
        let mut early = self::client(&system, "compute")?;
        let over = early.submit(echo(LIMIT + 1).into())?;
        let call = Call { operation: "add".into(), arguments: vec![Value::Int(1), Value::Int(2)] };
        early.submit(call.to_body())?;
        for _ in 0..2 {
            let reply = early.next_reply(Some(Duration::from_secs(30)))?.expect("a reply");
            ensure!((reply.id == over) == matches!(reply.outcome, Outcome::Error(_)), "{reply:?}");
        }
        batch.finish()?.all_well()?;
        // Over one connection each.
        ensure!(system.count(" client-joined ") == 3, "{}", system.log());
        check(&mut system)?;
    }
    Ok(())
}

#[test]
fn the_largest_message_of_all_fits_through_the_encryption() -> Result<()> {
    let system = Setup::workers(1).secured().start()?;
    let mut client = client(&system, "compute")?;
    let largest = giostra_protocol::MAX_MESSAGE_BYTES;
    let reply = client.call(echo(largest).into(), Some(Duration::from_secs(50)))?;
    ensure!(matches!(&reply.outcome, Outcome::Ok(body) if body.len() == largest - 7), "{:?}", reply.trace);
    ensure!(system.count("connection broke") == 0, "{}", system.log());
    Ok(())
}

#[test]
fn only_the_sender_of_more_than_that_loses_its_connection() -> Result<()> {
    let mut system = Setup::workers(1).secured().broker(&["--max-message", "1MiB"]).start()?;
    let batch = system.begin(&["random", "100000", "--json"])?;
    let (stranger, session) = Peer::client(system.frontend(), Some(&system.credentials("client")?))?;
    let requests = vec![(RequestId(1), Bytes::from(echo(2 * LIMIT)))];
    stranger.say(message::submit(session, "compute", 0, requests))?;
    system.wait_for_line(&[" client-left c", "reason=connection broke"])?;
    batch.finish()?.all_well()?;
    check(&mut system)
}

#[test]
fn bytes_before_a_handshake_are_bounded_and_kept_no_longer_than_its_time_limit() -> Result<()> {
    const STRANGERS: usize = 48;
    let limits = ["--max-message", "1MiB", "--handshake-timeout", "3s"];
    let mut system = Setup::workers(1).secured().broker(&limits).start()?;
    system.random(&["1000"])?;
    let before = system.broker().rss()?;
    // ZMTP 3's greeting with CURVE, then a command of the largest size, all of which comes but for one
    // byte.
    let begin = || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address(system.frontend()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let greeting = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE"[..], &[0; 47]].concat();
        stream.write_all(&[&greeting[..], &[6], &(LIMIT as u64).to_be_bytes(), &vec![7; LIMIT - 1]].concat())?;
        Ok(stream)
    };
    let closed = |mut stream: TcpStream| -> Result<()> {
        let ended = stream.read_to_end(&mut Vec::new());
        ensure!(ended.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true), "{ended:?}");
        Ok(())
    };
    let held: Result<Vec<_>> = (0..STRANGERS).map(|_| begin()).collect();
    let held = held?;
    let meanwhile = system.broker().rss()?;
    for stream in held {
        closed(stream)?;
    }
    let after = system.broker().rss()?;
    println!(
        "{} KiB resident before, {} with {STRANGERS} MiB of strangers, {} after",
        before >> 10,
        meanwhile >> 10,
        after >> 10
    );
    ensure!(meanwhile < before + ((STRANGERS + 16) * LIMIT) as u64, "{before} bytes before, {meanwhile} meanwhile");
    ensure!(after < before + (16 << 20), "{before} bytes before, {after} after");
    check(&mut system)
}

#[test]
fn a_result_over_the_limit_becomes_an_error_and_the_worker_stays() -> Result<()> {
    let mut system = Setup::workers(1).secured().broker(&["--max-message", "1MiB"]).start()?;
    let pool = "large".to_string();
    let options = giostra_worker::Options {
        broker: system.backend().into(),
        name: "large".into(),
        pool: pool.clone(),
        credentials: Some(system.credentials("worker-1")?),
        ..giostra_worker::Options::default()
    };
    let shutdown = Shutdown::new()?;
    let asked = shutdown.clone();
    let operations = Operations::new().with("zeros", |(count,): (usize,)| Ok::<_, Failure>(vec![0_u8; count]));
    let worker = thread::spawn(move || giostra_worker::serve(&options, operations, &asked));
    let mut client = client(&system, &pool)?;
    let ask = |count: i64| Call { operation: "zeros".into(), arguments: vec![Value::Int(count)] }.to_body();
    let [_, message] = failure(&mut client, ask(2 * LIMIT as i64).to_vec())?;
    ensure!(message.contains("bytes"), "{message}");
    let reply = client.call(ask(10), None)?;
    ensure!(matches!(reply.outcome, Outcome::Ok(_)) && reply.trace.attempts == 1, "{reply:?}");
    ensure!(system.count(" dropped large ") == 0);
    check(&mut system)?;
    shutdown.request();
    worker.join().expect("the worker does not panic")?;
    Ok(())
}

#[test]
fn a_batch_over_the_limit_is_refused_with_a_reason_and_our_client_sends_none() -> Result<()> {
    let mut system = Setup::workers(2).secured().broker(&["--max-batch", "10"]).start()?;
    system.random(&["1000"])?;
    ensure!(system.count(" refuse ") == 0);
    let (peer, session) = Peer::client(system.frontend(), Some(&system.credentials("client")?))?;
    let submit = |count| {
        let requests = (1..=count).map(|id| (RequestId(id), Bytes::new())).collect();
        peer.say(message::submit(session, "nobody", 0, requests))
    };
    submit(11)?;
    ensure!(matches!(peer.hear()?, ToClient::Declined { reason, requests }
            if reason.contains("11") && reason.contains("--max-batch") && requests.len() == 11));
    system.wait_for_line(&[" refuse c", "--max-batch"])?;
    ensure!(system.status()?["pending"] == 0);
    submit(10)?;
    wait_for("the ten are accepted", || (system.status().ok()?["pending"] == 10).then_some(()))?;
    Ok(())
}

#[test]
fn a_clients_pending_requests_are_bounded_and_others_are_accepted() -> Result<()> {
    let mut system = Setup::workers(0).secured().broker(&["--max-client-pending", "5"]).start()?;
    let mut batches = Vec::new();
    for pending in [5, 10] {
        batches.push(system.begin(&["random", "100", "--json"])?);
        wait_for("it has as many as it may", || {
            let status = system.status().ok()?;
            assert!(status["pending"].as_u64() <= Some(pending), "{status}");
            (status["pending"] == pending).then_some(())
        })?;
    }
    // However long they wait.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        ensure!(system.status()?["pending"] == 10);
    }
    system.start_worker(1)?;
    for batch in batches {
        batch.finish()?.all_well()?;
    }
    system.audit()?;
    Ok(())
}
