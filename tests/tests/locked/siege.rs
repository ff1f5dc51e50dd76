//! Peers without a key that connect again and again: connected peers notice nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use giostra_protocol::{Bytes, FromClient, ToClient};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_transport::keys::{Credentials, KeyPair};
use giostra_transport::monitor::{MonitorEvent, MonitoredSocket};
use nix::sys::signal::Signal;
use rand::RngExt as _;
use serde_json::Value;

use crate::peer::{Peer, plain};
use crate::relay::address;
use crate::{check, total};

/// Handshakes that are to fail, of each of the four kinds.
const EACH: usize = 2500;

/// Connections that never speak.
const SILENT: usize = 1000;

/// How much larger a broker may be after a second attack than after the first: what its allocator
/// does.
const MARGIN: u64 = 4 << 20;

/// The part of the undisturbed rate that is left, at least: attackers and attacked share this
/// machine's cores.
const LEAST: f64 = 0.1;

/// What a client asks for meanwhile, again and again.
const BATCH: [&str; 3] = ["100000", "--timeout", "30s"];

/// How long a peer may take to say who it is; and what a busy machine may take besides.
const HANDSHAKE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// ZMTP 3's greeting of a peer without keys.
fn greeting() -> Vec<u8> {
    [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL"[..], &[0; 48]].concat()
}

/// Connects, says this, and waits until the broker has closed the connection.
fn knock(endpoint: &str, what: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address(endpoint))?;
    stream.set_read_timeout(Some(HANDSHAKE[0] + HANDSHAKE[1]))?;
    // It may be closed in the middle.
    let _ = stream.write_all(what);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error).context("it is not closed"),
        _ => Ok(()),
    }
}

/// Some of libzmq's sockets, which connect again and again, until this many handshakes have failed.
fn hammer(endpoint: &str, credentials: &Credentials, failures: usize) -> Result<()> {
    let context = zmq::Context::new();
    let mut sockets = Vec::new();
    for _ in 0..8 {
        let socket = MonitoredSocket::new(&context, plain(&context, Some(credentials))?)?;
        socket.connect(endpoint)?;
        sockets.push(socket);
    }
    let mut failed = 0;
    wait_for("the handshakes have failed", || {
        for socket in &sockets {
            while let Ok(Some((sight, _))) = socket.next_event() {
                if matches!(sight, MonitorEvent::Failed(_)) {
                    failed += 1;
                    // What libzmq has given up by itself is not connected any more.
                    let _ = socket.disconnect(endpoint);
                    socket.connect(endpoint).expect("the endpoint is right");
                }
            }
        }
        (failed >= failures).then_some(())
    })
}

/// What everybody who has no business here does, at the access in turn: four kinds of handshakes
/// that fail.
fn attack(system: &System) -> Result<Vec<JoinHandle<Result<()>>>> {
    let access = [system.frontend().to_string(), system.backend().to_string()];
    let listed = system.credentials("client")?;
    let unlisted = Credentials { own: KeyPair::generate()?, brokers: listed.brokers };
    let astray = Credentials::new(listed.own, KeyPair::generate()?.public);
    let [one, two, three] = [access.clone(), access.clone(), access];
    let hammers = move || hammer(&one[0], &unlisted, EACH / 2).and_then(|()| hammer(&one[1], &unlisted, EACH / 2));
    let strays = move || hammer(&two[0], &astray, EACH / 2).and_then(|()| hammer(&two[1], &astray, EACH / 2));
    let raw = move || {
        let mut noise = [0; 200];
        for round in 0..EACH {
            knock(&three[round % 2], &greeting())?;
            rand::rng().fill(&mut noise[..]);
            // No beginning of a ZMTP 3 greeting, which might have to be waited for.
            noise[0] &= 0x7f;
            knock(&three[round % 2], &noise)?;
        }
        Ok(())
    };
    Ok(vec![thread::spawn(hammers), thread::spawn(strays), thread::spawn(raw)])
}

/// Connections that say nothing, until they are closed.
fn silence(system: &System) -> Result<JoinHandle<Result<Duration>>> {
    let began = Instant::now();
    let access = [system.frontend(), system.backend()];
    let silent: std::io::Result<Vec<_>> = (0..SILENT).map(|n| TcpStream::connect(address(access[n % 2]))).collect();
    let silent = silent?;
    Ok(thread::spawn(move || {
        for mut stream in silent {
            stream.set_read_timeout(Some(HANDSHAKE[0] + HANDSHAKE[1]))?;
            let mut greeting = Vec::new();
            stream.read_to_end(&mut greeting).context("a silent connection is not closed")?;
            ensure!(greeting.len() <= 64, "{greeting:?}");
        }
        Ok(began.elapsed())
    }))
}

fn rate(summary: &Value) -> f64 {
    summary["rate"].as_f64().unwrap_or_default()
}

/// The attack, once, while clients work: how many requests a second they have answered meanwhile,
/// batch by batch.
fn wave(system: &mut System) -> Result<Vec<f64>> {
    let (refused, began) = (total(system, "refused")?, Instant::now());
    let silent = silence(system)?;
    let attackers = attack(system)?;
    let mut rates = Vec::new();
    while rates.is_empty() || attackers.iter().any(|attacker| !attacker.is_finished()) {
        rates.push(rate(&system.random(&BATCH)?));
    }
    for attacker in attackers {
        attacker.join().expect("it does not panic")?;
    }
    let took = began.elapsed();
    let closed = silent.join().expect("it does not panic")?;
    ensure!(closed >= HANDSHAKE[0] && closed < HANDSHAKE[0] + HANDSHAKE[1], "{closed:?}");
    wait_for("all are counted", || {
        (total(system, "refused").ok()? >= refused + (4 * EACH + SILENT) as u64).then_some(())
    })?;
    println!("{} refused in {took:.1?}; silent ones closed after {closed:.1?}", total(system, "refused")? - refused);
    Ok(rates)
}

fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}

#[test]
fn ten_thousand_failed_handshakes_and_a_thousand_silent_connections_disturb_nobody() -> Result<()> {
    let mut system = Setup::workers(2).secured().broker(&["--handshake-timeout", "2s"]).start()?;
    let began = Instant::now();
    system.random(&BATCH)?;
    let without = rate(&system.random(&BATCH)?);
    // The first wave makes the broker as large as it gets by that; the second shows whether anything of
    // the first was kept.
    let mut rates = wave(&mut system)?;
    let first = system.broker().rss()?;
    rates.extend(wave(&mut system)?);
    let second = system.broker().rss()?;
    let (lines, seconds) = (system.count(" refuse "), began.elapsed().as_secs());
    println!(
        "{without:.0} requests/s without, {:.0} with ({} batches); {} KiB resident after the first wave, {} after the second; \
         {lines} lines",
        mean(&rates),
        rates.len(),
        first >> 10,
        second >> 10
    );
    ensure!(mean(&rates) > without * LEAST, "{without:.0} requests/s without the attack, {rates:.0?} with it");
    ensure!(second < first + MARGIN, "{first} bytes after the first wave, {second} after the second");
    ensure!(lines as u64 <= 10 * (seconds + 2), "{lines} lines in {seconds} s");
    ensure!(system.count(" unsaid=") > 0);
    ensure!(system.count(" dropped ") == 0, "{}", system.log());
    check(&mut system)?;
    system.audit()?;
    Ok(())
}

#[test]
fn ten_thousand_connections_that_came_and_went_leave_nothing_behind() -> Result<()> {
    // With a limit that would be reached if those who are gone were counted.
    let mut system = Setup::workers(1).secured().broker(&["--max-connections", "300"]).start()?;
    let credentials = system.credentials("client")?;
    let context = zmq::Context::new();
    let files = |process: u32| fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    let broker = system.broker().id();
    let (mut before, mut open, mut come) = (0, 0, 0);
    for round in 1..=100 {
        // Each says who it is, so that the broker knows it.
        let sockets: Result<Vec<_>> = (0..100)
            .map(|_| {
                let socket = plain(&context, Some(&credentials))?;
                socket.set_rcvtimeo(60_000)?;
                socket.connect(system.frontend())?;
                socket.send(&b"\x81\xa5Hello\x92\x04\xa4many"[..], 0)?;
                Ok(socket)
            })
            .collect();
        for socket in sockets? {
            socket.recv_bytes(0)?;
            come += 1;
        }
        if round == 20 || round == 100 {
            wait_for("they have left", || (system.count(" client-left ") == come).then_some(()))?;
        }
        if round == 20 {
            (before, open) = (system.broker().rss()?, files(broker));
        }
    }
    wait_for("their files are closed", || (files(broker) <= open).then_some(()))?;
    let after = system.broker().rss()?;
    println!("{} KiB resident after 2000 connections, {} after 10000", before >> 10, after >> 10);
    ensure!(after < before + (8 << 20), "{before} bytes before, {after} after");
    check(&mut system)
}

/// Sets how many files a process may have open.
fn limit_files(process: u32, files: u64) -> Result<()> {
    let limit = format!("--nofile={files}:20000");
    ensure!(Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status()?.success());
    Ok(())
}

/// Seconds of processor time that a process has had.
fn busy(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

#[test]
fn without_descriptors_connected_peers_are_served_and_others_connect_later() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let broker = system.broker().id();
    let credentials = system.credentials("client")?;
    let (inside, _) = Peer::client(system.frontend(), Some(&credentials))?;
    let batch = system.begin(&["random", "300000", "--json"])?;
    system.wait_for_line(&[" reply worker-1 "])?;
    limit_files(broker, 160)?;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(address(system.frontend()))?);
    }
    system.wait_for_line(&[" refuse a client at 127.0.0.1:", "open files allow (ulimit -n)"])?;
    batch.finish()?.all_well()?;
    inside.say(FromClient::<Bytes>::Inspect)?;
    ensure!(matches!(inside.hear()?, ToClient::Status(_)));
    let (before, began) = (busy(broker)?, Instant::now());
    thread::sleep(Duration::from_secs(1));
    println!(
        "{:.0} % of a core with the crowd outside",
        100.0 * (busy(broker)? - before) / began.elapsed().as_secs_f64()
    );
    drop(crowd);
    check(&mut system)?;

    // Fewer than the broker has already: libzmq itself finds none, and tries on and on.
    limit_files(broker, 20)?;
    let crowd: Vec<_> = (0..20).map(|_| TcpStream::connect(address(system.frontend()))).collect();
    inside.say(FromClient::<Bytes>::Inspect)?;
    ensure!(matches!(inside.hear()?, ToClient::Status(_)));
    let (before, began) = (busy(broker)?, Instant::now());
    thread::sleep(Duration::from_secs(1));
    println!(
        "{:.0} % of a core while accept(2) fails",
        100.0 * (busy(broker)? - before) / began.elapsed().as_secs_f64()
    );
    ensure!(system.broker().is_running());
    limit_files(broker, 20_000)?;
    drop(crowd);
    check(&mut system)
}

#[test]
fn a_broker_in_a_storm_of_handshakes_stops_on_request_and_so_does_a_client() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let listed = system.credentials("client")?;
    let unlisted = Arc::new(Credentials { own: KeyPair::generate()?, brokers: listed.brokers });
    let (over, storms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = [system.frontend().to_string(), system.backend().to_string()]
        .into_iter()
        .map(|endpoint| {
            let (over, storms, unlisted) = (Arc::clone(&over), Arc::clone(&storms), Arc::clone(&unlisted));
            thread::spawn(move || -> Result<()> {
                let context = zmq::Context::new();
                let mut sockets = Vec::new();
                for _ in 0..16 {
                    let socket = plain(&context, Some(&unlisted))?;
                    socket.connect(&endpoint)?;
                    sockets.push(socket);
                }
                while !over.load(Ordering::Relaxed) {
                    // A broker that is ending takes no more.
                    let _ = knock(&endpoint, &greeting());
                    storms.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    wait_for("the storm has begun", || (storms.load(Ordering::Relaxed) > 200).then_some(()))?;

    // Of a client that tries another broker's key.
    let mut astray = system.key_args("client");
    astray[3] = KeyPair::generate()?.public.to_string();
    let args = ["random", "1000", "--broker-timeout", "60s"];
    let mut client = system.begin_as(&crate::strs(&astray), &args)?;
    let began = Instant::now();
    wait_for("it says that it waits", || client.process().stderr().contains("waiting for a broker").then_some(()))?;
    client.process().signal(Signal::SIGINT)?;
    let ended = client.finish()?;
    ensure!(ended.code == Some(130) && began.elapsed() < Duration::from_secs(30), "{ended:?}");

    system.random(&["20000"])?;
    let began = Instant::now();
    system.broker().signal(Signal::SIGTERM)?;
    let status = system.broker().wait()?;
    let took = began.elapsed();
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("it does not panic")?;
    }
    println!("the broker ended {took:.1?} after SIGTERM");
    ensure!(status.success() && took < Duration::from_secs(15), "{status:?} after {took:?}");
    system.audit()?;
    Ok(())
}
