//! A worker and a client whose broker is none.

use std::io::{Read, Write};

use anyhow::{Result, bail, ensure};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{
    Bytes, FromClient, FromWorker, MAX_BATCH, MAX_MESSAGE_BYTES, Outcome, Priority, Reply, RequestId, Ticket, ToClient,
    ToWorker, Trace, VERSION, code,
};
use giostra_tests::{Port, Process, Setup};
use tempfile::TempDir;

use crate::bad::{Bad, to_backend, to_frontend};
use crate::check;
use crate::peer::Impostor;

/// What is no message to a worker or a client either.
fn nonsense() -> impl Iterator<Item = Bad> {
    // Each side's language is foreign to the other, but for what a broker says, and a hiccup.
    to_frontend().into_iter().chain(to_backend()).filter(|bad| !bad.what.starts_with("what "))
}

fn start(folder: &TempDir, program: &str, args: &[&str], broker: &Impostor) -> Result<Process> {
    let args: Vec<_> = args.iter().copied().chain(["--broker", &broker.endpoint]).collect();
    Process::start(folder.path(), program, program, &args)
}

fn welcome() -> ToWorker {
    ToWorker::Welcome {
        version: VERSION,
        worker: 1,
        ping_interval_ms: u64::MAX,
        ping_max_out: u32::MAX,
        max_message_bytes: u64::MAX,
    }
}

/// Whether the worker is there: it answers a ping.
fn ping(broker: &mut Impostor, sequence: u64) -> Result<()> {
    broker.say(ToWorker::<Bytes>::Ping { sequence })?;
    match broker.hear()? {
        FromWorker::<Bytes>::Pong { sequence: answered, .. } if answered == sequence => Ok(()),
        other => bail!("{other:?} instead of a pong"),
    }
}

#[test]
fn a_worker_survives_any_message_from_its_broker() -> Result<()> {
    let (folder, mut broker) = (tempfile::tempdir()?, Impostor::listen()?);
    let mut worker = start(&folder, "giostra-worker", &["--name", "w"], &broker)?;
    ensure!(matches!(broker.hear()?, FromWorker::<Bytes>::Register { .. }));
    // Before the welcome it waits on; its log does not grow with what it is told.
    for _ in 0..10 {
        nonsense().try_for_each(|bad| broker.send(&bad.frames))?;
    }
    ping(&mut broker, 1)?;
    assert_eq!(worker.stderr().matches("is not Giostra's backend").count(), 1, "{}", worker.stderr());

    for bad in nonsense() {
        broker.say(welcome())?;
        broker.send(&bad.frames)?;
        // It may have been requests: they are asked for anew.
        ensure!(matches!(broker.hear()?, FromWorker::<Bytes>::Register { .. }), "{}", bad.what);
    }
    broker.say(welcome())?;
    ping(&mut broker, u64::MAX)?;

    let deep = [&b"\x92\xa3add"[..], &[0x91; 10_000]].concat();
    let list = [&b"\x92\xa3add\xdd\xff\xff\xff\xff"[..], &[1; 100]].concat();
    let text = Call { operation: "\n".repeat(10_000), arguments: vec![Value::Int(1)] }.to_body();
    let long = vec![0x92; 63 << 20];
    let bodies =
        [b"".as_slice(), b"\xc1", b"\x92\xa3add\xc0", b"\x92\xa3add\x92\xa1x\xa1y", &deep, &list, &text, &long];
    let requests = bodies.iter().map(|body| (Ticket(7), Bytes::copy_from_slice(body))).collect::<Vec<_>>();
    broker.say(ToWorker::Dispatch { priority: Priority::Normal, requests })?;
    broker.say(ToWorker::<Bytes>::Dispatch { priority: Priority::Low, requests: vec![] })?;
    let mut answered = 0;
    while answered < bodies.len() {
        let FromWorker::Replies(replies) = broker.hear()? else { bail!("something other than replies came") };
        for (ticket, outcome) in &replies {
            let well = matches!(outcome, Outcome::Error(failure) if failure.code == code::INVALID && failure.message.len() < 5000);
            ensure!(well && *ticket == Ticket(7), "{outcome:?}");
        }
        answered += replies.len();
    }
    // More than one message of replies can hold.
    let call = Call { operation: "add".into(), arguments: vec![Value::Int(1), Value::Int(2)] }.to_body();
    let many = 2 * MAX_BATCH + 1;
    for portion in giostra_protocol::codec::portions(vec![(Ticket(8), call); many], MAX_MESSAGE_BYTES, |_| 0) {
        broker.say(ToWorker::Dispatch { priority: Priority::High, requests: portion })?;
    }
    let mut answered = 0;
    while answered < many {
        let FromWorker::Replies(replies) = broker.hear::<FromWorker>()? else { bail!("no replies") };
        answered += replies.len();
    }
    ping(&mut broker, 0)?;
    ensure!(worker.is_running() && !worker.stderr().contains("panicked"), "{}", worker.stderr());
    broker.say(ToWorker::<Bytes>::Goodbye)?;
    assert_eq!(worker.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_worker_that_is_refused_says_why() -> Result<()> {
    let (folder, mut broker) = (tempfile::tempdir()?, Impostor::listen()?);
    let mut worker = start(&folder, "giostra-worker", &[], &broker)?;
    ensure!(matches!(broker.hear()?, FromWorker::<Bytes>::Register { .. }));
    broker.say(ToWorker::<Bytes>::Refused { reason: "no room".into() })?;
    assert_eq!(worker.wait()?.code(), Some(1));
    ensure!(worker.stderr().contains("refused to register this worker: no room"), "{}", worker.stderr());
    Ok(())
}

/// Begins like a ZMTP greeting and is none.
const NO_ZMTP: &[u8] =
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0GARBAGE, and none of ZMTP's mechanisms; sixty-four bytes in all ..";

#[test]
fn a_worker_finds_its_broker_after_something_else_has_listened_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = Port::reserve()?;
    let (listener, endpoint) = (port.listen()?, port.endpoint());
    let mut worker = Process::start(folder.path(), "w", "giostra-worker", &["--broker", &endpoint])?;
    // Not one that libzmq tries again by itself: see the worker's session.
    let (mut stream, _) = listener.accept()?;
    stream.write_all(NO_ZMTP)?;
    while stream.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0) {}
    drop((stream, listener));

    let mut broker = Impostor::listen_at(&endpoint)?;
    ensure!(matches!(broker.hear()?, FromWorker::<Bytes>::Register { .. }));
    broker.say(welcome())?;
    ping(&mut broker, 1)?;
    // Nor one that says more than a message may hold.
    broker.send(&[vec![0; MAX_MESSAGE_BYTES + 1]])?;
    ensure!(matches!(broker.hear()?, FromWorker::<Bytes>::Register { .. }));
    broker.say(welcome())?;
    ping(&mut broker, 2)?;
    ensure!(worker.is_running() && !worker.stderr().contains("panicked"), "{}", worker.stderr());
    Ok(())
}

#[test]
fn a_client_finds_its_broker_after_another_program_and_after_garbage() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = Port::reserve()?;
    let (listener, endpoint) = (port.listen()?, port.endpoint());
    let args = ["--broker", &endpoint, "--broker-timeout", "60s", "send", "add", "1", "2"];
    let mut client = Process::start(folder.path(), "c", "giostra", &args)?;
    let (mut stream, _) = listener.accept()?;
    stream.write_all(NO_ZMTP)?;
    while stream.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0) {}
    drop((stream, listener));

    let mut broker = Impostor::listen_at(&endpoint)?;
    for spoilt in [&[vec![0; MAX_MESSAGE_BYTES + 1]][..], &[b"what?".to_vec()]] {
        ensure!(matches!(broker.hear()?, FromClient::<Bytes>::Hello { .. }));
        ensure!(matches!(welcome_client(&mut broker)?, FromClient::Submit { .. }));
        broker.send(spoilt)?;
    }
    ensure!(matches!(broker.hear()?, FromClient::<Bytes>::Hello { .. }));
    ensure!(matches!(welcome_client(&mut broker)?, FromClient::Submit { .. }));
    broker.say(reply(1, b"\x03"))?;
    ensure!(client.wait()?.success() && client.stdout() == "3\n", "{} {}", client.stdout(), client.stderr());
    Ok(())
}

/// Runs a `giostra` command, lets `answer` talk to it, and expects an error that says all these
/// parts.
fn client_ends(args: &[&str], parts: &[&str], answer: impl FnOnce(&mut Impostor) -> Result<()>) -> Result<()> {
    let (folder, mut broker) = (tempfile::tempdir()?, Impostor::listen()?);
    let mut client = start(&folder, "giostra", args, &broker)?;
    ensure!(matches!(broker.hear()?, FromClient::<Bytes>::Hello { .. }));
    answer(&mut broker)?;
    let code = client.wait()?.code();
    let said = client.stderr();
    ensure!(code == Some(1) && !said.contains("panicked"), "{code:?} {said}");
    ensure!(parts.iter().all(|part| said.contains(part)), "no {parts:?} in {said}");
    Ok(())
}

fn welcome_client(broker: &mut Impostor) -> Result<FromClient> {
    broker.say(ToClient::<Bytes>::Welcome {
        version: VERSION,
        client: u64::MAX,
        session: u64::MAX,
        max_message_bytes: u64::MAX,
        max_batch: u64::MAX,
        home: Some(u32::MAX),
    })?;
    broker.hear()
}

fn reply(id: u64, body: &'static [u8]) -> ToClient {
    let outcome = Outcome::Ok(Bytes::from_static(body));
    ToClient::Replies(vec![Reply { id: RequestId(id), outcome, trace: Trace::default() }])
}

#[test]
fn a_client_whose_broker_sends_garbage_ends_within_its_time_limits() -> Result<()> {
    let chatter = |broker: &mut Impostor| nonsense().try_for_each(|bad| broker.send(&bad.frames));
    for command in [&["send", "add", "1", "2"][..], &["random", "100"], &["status"]] {
        let args = [command, &["--broker-timeout", "500ms"]].concat();
        client_ends(&args, &["is not Giostra's frontend", "answered can't be read"], chatter)?;
    }
    for command in [&["send", "add", "1", "2"][..], &["random", "100"]] {
        let args = [command, &["--timeout", "500ms"]].concat();
        // What could not be read may have been the reply: it is as if the connection had broken.
        client_ends(&args, &["is not Giostra's frontend", "answered can't be read"], |broker| {
            ensure!(matches!(welcome_client(broker)?, FromClient::Submit { .. }));
            chatter(broker)
        })?;
    }
    client_ends(&["status", "--broker-timeout", "500ms"], &["answered can't be read"], |broker| {
        ensure!(matches!(welcome_client(broker)?, FromClient::Inspect));
        chatter(broker)
    })
}

#[test]
fn a_client_reports_a_malformed_reply_and_the_reason_of_a_refusal() -> Result<()> {
    client_ends(&["send", "add", "1", "2"], &["not a value in MessagePack"], |broker| {
        let FromClient::Submit { requests, .. } = welcome_client(broker)? else { bail!("no request came") };
        // Those that were not asked for are not shown.
        broker.say(reply(0, b"\x07"))?;
        broker.say(reply(u64::MAX, b"\x07"))?;
        broker.say(reply(requests[0].0.0, &[0x91; 10_000]))
    })?;
    client_ends(&["random", "1"], &[], |broker| {
        let FromClient::Submit { requests, .. } = welcome_client(broker)? else { bail!("no request came") };
        broker.say(reply(requests[0].0.0, b"\xa4four"))
    })?;
    client_ends(&["send", "add", "1", "2"], &["the broker refused: no room"], |broker| {
        broker.say(ToClient::<Bytes>::Refused { reason: "no room".into() })
    })
}

#[test]
fn a_worker_at_the_frontend_and_a_client_at_the_backend_end_with_an_error() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    for (program, args, endpoint, foreign) in [
        ("giostra-worker", &[][..], system.frontend(), "this is the clients' endpoint (frontend)"),
        ("giostra", &["send", "add", "1", "2"], system.backend(), "this is the workers' endpoint (backend)"),
    ] {
        let args: Vec<_> = args.iter().copied().chain(["--broker", endpoint]).collect();
        let mut process = Process::start(system.folder(), "astray", program, &args)?;
        assert_eq!(process.wait()?.code(), Some(1), "{}", process.stderr());
        ensure!(["refused", foreign].iter().all(|part| process.stderr().contains(part)), "{}", process.stderr());
    }
    check(&mut system)
}
