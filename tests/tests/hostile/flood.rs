//! Bad messages without number, connections that are no ZeroMQ, and sockets of the wrong kind.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use giostra_protocol::{Bytes, FromWorker, Outcome, Ticket, ToClient, ToWorker};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use zmq::SocketType;

use crate::check;
use crate::peer::{Peer, sent};

/// Bad messages of each kind.
const MANY: u64 = 100_000;

/// How much larger a broker may be after them: what its allocator keeps, and what waits for one
/// that does not read.
const MARGIN: u64 = 64 << 20;

/// Bytes of a process that are in memory.
fn resident(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Sends a message many times, reads what comes back if `read`, and waits until the broker has
/// dealt with all.
fn flood(system: &mut System, peer: &Peer, frames: &[Vec<u8>], read: bool, count: &str) -> Result<()> {
    let before = total(system, count);
    for sent in 0..MANY {
        peer.send(frames)?;
        if read && sent % 100 == 0 {
            peer.ignore()?;
        }
    }
    wait_for("all of them are dealt with", || {
        if read {
            peer.ignore().expect("the connection is there");
        }
        (total(system, count) >= before + MANY).then_some(())
    })
}

/// A total of the broker's status.
fn total(system: &mut System, count: &str) -> u64 {
    system.status().expect("the broker answers")["totals"][count].as_u64().expect("a total is a number")
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_bad_messages_of_each_kind_leave_the_broker_as_it_was() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--max-backlog", "1MiB"]).start()?;
    check(&mut system)?;
    let before = resident(system.broker().id())?;
    let batch = system.begin(&["random", "200000", "--json"])?;
    let garbage = [b"\x81\xa6Submit\x96".to_vec()];

    let stranger = Peer::connect(system.frontend())?;
    flood(&mut system, &stranger, &garbage, true, "refused")?;
    let (client, _) = Peer::client(system.frontend())?;
    flood(&mut system, &client, &garbage, true, "refused")?;
    // Refusals that nobody takes are kept up to the limit.
    let deaf = Peer::connect(system.frontend())?;
    flood(&mut system, &deaf, &garbage, false, "refused")?;
    let worker = Peer::connect(system.backend())?;
    flood(&mut system, &worker, &garbage, true, "refused")?;
    let deaf_worker = Peer::connect(system.backend())?;
    flood(&mut system, &deaf_worker, &garbage, false, "refused")?;
    let lie = sent(FromWorker::Replies(vec![(Ticket(1), Outcome::Ok(Bytes::new()))]));
    flood(&mut system, &worker, &lie, true, "discarded")?;

    batch.finish()?.all_well()?;
    let after = resident(system.broker().id())?;
    println!("{before} bytes before, {after} after {} messages", 6 * MANY);
    ensure!(after < before + MARGIN, "{before} bytes before, {after} after");
    check(&mut system)
}

#[test]
fn connections_without_or_with_half_of_zmtp_disturb_nobody() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let batch = system.begin(&["random", "100000", "--json"])?;
    // ZMTP 3's greeting, its NULL mechanism, and a handshake that claims more than it has.
    let greeting = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL"[..], &[0; 48]].concat();
    let openings: Vec<Vec<u8>> = vec![
        vec![],
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser that has lost its way\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        greeting[..11].to_vec(),
        greeting[..40].to_vec(),
        greeting.clone(),
        [&greeting[..], b"\x04\xff\x05READY"].concat(),
        [&greeting[..], b"\x04\x29\x05READY\x0bSocket-Type\xff\xff\xff\xffDEALER\x08Identity\0\0\0\0"].concat(),
        [&greeting[..], b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB"].concat(),
        [&greeting[..], b"\x04\x04\x05NONE\x02\xff\xff\xff\xff\xff\xff\xff\xff"].concat(),
        // ZMTP 1: an identity, messages, an endless one.
        b"\x01\0\x05\0hey!\x02\x01x\xff\xff\xff\xff\xff\xff\xff\xff\xff\0".to_vec(),
        b"\x01\0\x01\0\x01\0\x01\x01".to_vec(),
    ];
    let mut open = Vec::new();
    for endpoint in [system.frontend().to_string(), system.backend().to_string()] {
        let address = endpoint.trim_start_matches("tcp://").to_string();
        let mut seed = 1_u32;
        for round in 0..20_u32 {
            for opening in &openings {
                let mut stream = TcpStream::connect(&address)?;
                // A few bytes of chance behind it: the broker may have closed the connection by then.
                let _ = stream.write_all(opening);
                let noise: Vec<u8> = (0..round * 7)
                    .map(|_| {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (seed >> 24) as u8
                    })
                    .collect();
                let _ = stream.write_all(&noise);
                if round == 0 {
                    open.push(stream);
                }
            }
        }
    }
    batch.finish()?.all_well()?;
    check(&mut system)?;
    drop(open);
    check(&mut system)
}

#[test]
fn sockets_of_another_kind_or_of_one_name_disturb_nobody() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    // A REQ puts an empty frame before each message.
    let frontend = Peer::of_type(SocketType::REQ, system.frontend())?;
    frontend.send(&[b"\xa7Inspect".to_vec()])?;
    system.wait_for_line(&[" refuse "])?;
    let backend = Peer::of_type(SocketType::REQ, system.backend())?;
    backend.send(&[b"\xa5Leave".to_vec()])?;
    // Kinds that a ROUTER does not talk to.
    let others = [SocketType::PUSH, SocketType::PUB, SocketType::PAIR];
    let _open = others.map(|kind| Peer::of_type(kind, system.frontend()));

    let client = Peer::named(b"one-name", system.frontend())?;
    client.send(&[b"\x81\xa5Hello\x92\x04\xa3one".to_vec()])?;
    ensure!(matches!(client.hear()?, ToClient::Welcome { .. }));
    let worker = Peer::named(b"one-name", system.backend())?;
    worker.send(&[b"\xa5Leave".to_vec()])?;
    ensure!(matches!(worker.hear()?, ToWorker::Goodbye));
    for _ in 0..20 {
        for endpoint in [system.frontend(), system.backend()] {
            let second = Peer::named(b"one-name", endpoint)?;
            for _ in 0..20 {
                second.send(&[b"\xacDisconnected".to_vec()])?;
            }
        }
    }
    check(&mut system)
}
