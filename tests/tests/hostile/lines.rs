//! Bytes of log that a peer causes with each byte that it sends.

use anyhow::{Result, ensure};
use giostra_protocol::{Bytes, FromClient, FromWorker, RequestId, ToClient, VERSION};
use giostra_tests::message;
use giostra_tests::{Setup, System};

use crate::check;
use crate::peer::{Peer, sent};

/// How often each is done.
const TIMES: u64 = 2000;

/// The bytes of a message on the wire: each frame has two of ZMTP's own.
fn bytes(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(|frame| frame.len() + 2).sum()
}

/// Waits until the broker has dealt with all that a client has said before.
fn answered(client: &Peer) -> Result<()> {
    client.say(FromClient::<Bytes>::Inspect)?;
    while !matches!(client.hear()?, ToClient::Status(_)) {}
    Ok(())
}

fn ratio(system: &System, before: usize, sent: usize, what: &str) -> f64 {
    let ratio = (system.log().len() - before) as f64 / sent as f64;
    println!("{what}: {ratio:.2} bytes of log for each byte");
    ratio
}

#[test]
fn a_peer_causes_no_more_log_than_a_few_times_what_it_sends() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let (client, session) = Peer::client(system.frontend())?;

    let (before, mut count) = (system.log().len(), 0);
    for id in 0..TIMES {
        let requests = vec![(RequestId(id), Bytes::new())];
        let submit = sent(message::submit(session, "nobody", 0, requests));
        let cancel = sent(FromClient::<Bytes>::Cancel(vec![RequestId(id)]));
        count += bytes(&submit) + bytes(&cancel);
        client.send(&submit)?;
        client.send(&cancel)?;
    }
    answered(&client)?;
    ensure!(ratio(&system, before, count, "submit and cancel") < 5.0);

    let worker = Peer::worker(system.backend(), "p")?;
    let (before, mut count) = (system.log().len(), 0);
    for _ in 0..TIMES {
        let unable = sent(FromWorker::<Bytes>::Unable { reason: "x".into(), tickets: vec![] });
        let able = sent(FromWorker::<Bytes>::Able);
        count += bytes(&unable) + bytes(&able);
        worker.send(&unable)?;
        worker.send(&able)?;
    }
    worker.say(FromWorker::<Bytes>::Leave)?;
    system.wait_for_line(&[" left stranger "])?;
    ensure!(ratio(&system, before, count, "unable and able") < 1.0);

    let (before, mut count) = (system.log().len(), 0);
    let hello = sent(FromClient::<Bytes>::Hello { version: VERSION, name: "x".into() });
    for number in 0..TIMES / 10 {
        let peer = Peer::connect(system.frontend())?;
        peer.send(&hello)?;
        ensure!(matches!(peer.hear()?, ToClient::Welcome { .. }));
        // ZMTP 3's greeting and the shortest READY of a DEALER.
        count += 64 + 43 + bytes(&hello);
        drop(peer);
        system.wait_for_line(&[&format!(" client-left c{} ", number + 2)])?;
    }
    ensure!(ratio(&system, before, count, "connect and leave") < 3.0);
    check(&mut system)
}
