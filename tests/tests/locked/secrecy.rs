//! What somebody on the way between two hosts learns, and what it can do with that.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};

use crate::relay::{Relay, address};
use crate::{check, run, start, total};

/// Somebody listens at both access of a system with a client and a worker that say what would be
/// noticed. Whether each of that was heard.
fn overheard(setup: Setup) -> Result<Vec<(&'static str, bool)>> {
    let mut system = setup.start()?;
    let relays = [Relay::to(system.frontend())?, Relay::to(system.backend())?];
    let at = |system: &System, relay: &Relay, keys: &str| {
        [vec!["--broker".to_string(), relay.endpoint.clone()], system.key_args(keys)].concat()
    };
    let worker = at(&system, &relays[1], "worker-1");
    let worker: Vec<_> = worker.iter().map(String::as_str).chain(["--name", "unheard-worker"]).collect();
    let worker = start(&system, "giostra-worker", &worker)?;
    system.wait_for_line(&[" joined unheard-worker "])?;
    system.run(&["drain", "worker-1"])?;
    let client = at(&system, &relays[0], "client");
    for command in [&["send", "pow", "1234567.25", "2"][..], &["status"]] {
        let args: Vec<_> = client.iter().map(String::as_str).chain(command.iter().copied()).collect();
        let ended = run(&system, "giostra", &args)?;
        ensure!(ended.code == Some(0), "{ended:?}");
    }
    drop(worker);
    let (operand, result) = (1_234_567.25_f64, 1_234_567.25_f64.powi(2));
    let heard: Vec<u8> = relays.iter().flat_map(Relay::records).flatten().flatten().collect();
    ensure!(heard.len() > 1000, "{} bytes", heard.len());
    let has = |what: &[u8]| heard.windows(what.len()).any(|window| window == what);
    Ok(vec![
        ("Hello", has(b"Hello")),
        ("Welcome", has(b"Welcome")),
        ("Submit", has(b"Submit")),
        ("Register", has(b"Register")),
        ("Dispatch", has(b"Dispatch")),
        ("Replies", has(b"Replies")),
        ("Status", has(b"Status")),
        ("the pool", has(b"compute")),
        ("the worker", has(b"unheard-worker")),
        ("the client", has(b"giostra-send-")),
        // With the length that MessagePack writes before it: three letters alone might come up by chance.
        ("the operation", has(b"\xa3pow")),
        ("the operand", has(&operand.to_be_bytes())),
        ("the result", has(&result.to_be_bytes())),
        ("an operation that is offered", has(b"is_prime")),
    ])
}

#[test]
fn an_eavesdropper_learns_nothing_with_keys_and_everything_without() -> Result<()> {
    for (what, heard) in overheard(Setup::workers(1))? {
        ensure!(heard, "{what} is not even heard where nothing is encrypted");
    }
    for (what, heard) in overheard(Setup::workers(1).secured())? {
        ensure!(!heard, "{what} can be read on the way");
    }
    Ok(())
}

/// Plays what a peer once said over a new connection. What is said to that, until the connection is
/// closed.
fn play(endpoint: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address(endpoint))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // The broker may close it in the middle.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(read) => answer.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(answer),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The greeting and the `WELCOME` command: a key made for this connection, in a box for who has the
/// secret of the other.
const GREETING_AND_WELCOME: usize = 64 + 170;

#[test]
fn a_replayed_recording_gives_no_access() -> Result<()> {
    let mut system = Setup::workers(1).secured().broker(&["--handshake-timeout", "1s"]).start()?;
    let (front, back) = (Relay::to(system.frontend())?, Relay::to(system.backend())?);
    let keys = system.key_args("client");
    let args: Vec<_> = ["--broker", &front.endpoint].into_iter().chain(keys.iter().map(String::as_str)).collect();
    for command in [&["random", "100"][..], &["drain", "nobody"]] {
        run(&system, "giostra", &[&args, command].concat())?;
    }
    let keys = system.key_args("worker-1");
    let args: Vec<_> =
        ["--broker", &back.endpoint, "--name", "recorded"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let worker = start(&system, "giostra-worker", &args)?;
    system.start_worker(2)?;
    wait_for("it is registered", || (system.count(" joined recorded ") == 1).then_some(()))?;
    system.random(&["100"])?;
    drop(worker);

    let accepted = total(&mut system, "accepted")?;
    let [clients, registered] = ["client-joined", " joined "].map(|what| system.count(what));
    let records = [(system.frontend().to_string(), front.records()), (system.backend().to_string(), back.records())];
    let mut played = 0;
    for (endpoint, records) in records {
        for [said, _] in records {
            ensure!(said.len() > 300, "{} bytes", said.len());
            // The greeting is 64 bytes, HELLO 202: what follows is the cookie, which was for another
            // connection, and what it is to prove.
            let before_cookie = 64 + 202;
            for (part, why) in [
                (&said[..], "handshake: no ZMTP, or a breach of it"),
                (&said[..before_cookie + 50], "handshake: it took too long"),
                (&said[..before_cookie], "handshake: it took too long"),
                (&said[64..], "handshake: no ZMTP 3"),
            ] {
                let before = system.count(" refuse ");
                let answer = play(&endpoint, part)?;
                ensure!(answer.len() <= GREETING_AND_WELCOME, "{} bytes: {answer:?}", answer.len());
                wait_for("it is refused", || (system.count(" refuse ") > before).then_some(()))?;
                let last = system.lines(" refuse ").pop();
                ensure!(last.as_ref().is_some_and(|line| line.contains(why)), "{why}: {last:?}");
                played += 1;
            }
        }
    }
    ensure!(played >= 12);
    ensure!(total(&mut system, "accepted")? == accepted);
    // All but the one that has just asked for the status.
    ensure!([system.count("client-joined"), system.count(" joined ")] == [clients + 1, registered]);
    check(&mut system)
}

#[test]
fn older_versions_of_zmtp_do_not_bypass_the_keys() -> Result<()> {
    let mut system = Setup::workers(1).secured().broker(&["--handshake-timeout", "1s"]).start()?;
    let hello = b"\x81\xa5Hello\x92\x04\xa8stranger";
    let greeting = |mechanism: &[u8], as_server: u8| {
        let padded = [mechanism, &vec![0; 20 - mechanism.len()]].concat();
        [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0"[..], &padded, &[as_server], &[0; 31]].concat()
    };
    let ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER";
    let framed = [&[0, hello.len() as u8][..], hello].concat();
    for opening in [
        // ZMTP 1: an empty identity, a message.
        [&b"\x01\0"[..], &[hello.len() as u8 + 1, 0], hello].concat(),
        // ZMTP 2: signature, revision 1, a DEALER, an empty identity.
        [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\0\0"[..], &framed].concat(),
        // ZMTP 3 with each of the other mechanisms.
        [&greeting(b"NULL", 0)[..], ready, &framed].concat(),
        [&greeting(b"PLAIN", 0)[..], b"\x04\x0e\x05HELLO\x03abc\x03abc", ready, &framed].concat(),
        [&greeting(b"CURVE", 1)[..], ready, &framed].concat(),
        [&greeting(b"CURVE", 0)[..], ready, &framed].concat(),
        [&greeting(b"CURVE", 0)[..], &framed].concat(),
    ] {
        for endpoint in [system.frontend(), system.backend()] {
            let answer = play(endpoint, &opening)?;
            ensure!(answer.len() <= 64, "{answer:?} to {opening:?}");
        }
    }
    ensure!(system.count("client-joined") == 0 && system.count(" stranger") == 0);
    wait_for("each was seen", || (total(&mut system, "refused").ok()? >= 14).then_some(()))?;
    check(&mut system)
}
