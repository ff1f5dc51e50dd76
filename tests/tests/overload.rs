//! More than the broker has room for, and clients that don't take what they asked for.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use giostra_client::{Client, Options};
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{
    Bytes, FromClient, FromWorker, Outcome, Progress, Registration, RequestId, ToClient, ToWorker, VERSION,
};
use giostra_tests::message;
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use serde_json::Value as Json;

fn totals(system: &mut System, what: &str) -> Result<u64> {
    system.status()?["totals"][what].as_u64().with_context(|| format!("no total {what}"))
}

#[test]
fn at_the_limit_requests_wait_at_their_clients_and_questions_are_answered() -> Result<()> {
    for limit in [["--max-pending", "1000"], ["--max-pending-bytes", "8KiB"]] {
        let mut system = Setup::workers(0).broker(&limit).start()?;
        let batch = system.begin(&["random", "30000", "--window", "30000", "--json"])?;
        system.wait_for_line(&[" rejected c1 "])?;
        let status = system.status()?;
        assert!(status["pending"].as_u64() < Some(1000), "{status}");
        // Another one is served as well: it is let in, and ends on time.
        let other = system.run(&["send", "add", "1", "2", "--timeout", "500ms"])?;
        assert!(other.stderr.contains("expired"), "{other:?}");
        system.start_worker(1)?;
        system.start_worker(2)?;
        let summary = batch.finish()?.all_well()?;
        assert_eq!(summary["answered"], 30000);
        assert!(totals(&mut system, "rejected")? > 0);
    }
    Ok(())
}

#[test]
fn an_occasional_client_is_served_among_a_hundred_that_flood() -> Result<()> {
    const FLOODS: usize = 100;
    const EACH: u64 = 50;
    let mut system = Setup::workers(1).broker(&["--max-pending", "1000"]).worker(&["--window", "1"]).start()?;
    let broker = system.frontend().to_string();
    let connect = |name: String| Client::connect(Options { broker: broker.clone(), name, ..Options::default() });
    let mut floods = Vec::new();
    for number in 0..FLOODS {
        let mut flood = connect(format!("flood-{number}"))?;
        flood.await_broker()?;
        let call = Call { operation: "sleep".into(), arguments: vec![Value::Float(0.002)] };
        for _ in 0..EACH {
            flood.submit(call.to_body())?;
        }
        flood.next_reply(Some(Duration::ZERO))?;
        floods.push(flood);
    }
    wait_for("the broker is full", || (totals(&mut system, "rejected").ok()? > 0).then_some(()))?;
    let mut few = connect("few".into())?;
    let call = Call { operation: "add".into(), arguments: vec![Value::Int(1), Value::Int(2)] };
    let reply = few.call(call.to_body(), Some(Duration::from_secs(60)))?;
    assert_eq!(reply.outcome, Outcome::Ok(Value::Int(3).to_body()));
    // After about one turn of everybody, when hardly any flood has been answered more than a few times.
    let answered = totals(&mut system, "answered")?;
    assert!(answered < FLOODS as u64 * EACH / 2, "{answered} were answered before");
    // The others, too, get all that they asked for.
    for flood in &mut floods {
        while flood.unanswered() > 0 {
            let reply = flood.next_reply(Some(Duration::from_secs(60)))?.context("a reply within a minute")?;
            assert!(matches!(reply.outcome, Outcome::Ok(_)), "{reply:?}");
        }
        assert_eq!(flood.duplicated(), 0);
    }
    Ok(())
}

/// A peer that speaks the protocol by hand and reads only when told to.
struct Raw(zmq::Socket);

impl Raw {
    fn connect(context: &zmq::Context, endpoint: &str) -> Result<Self> {
        let socket = context.socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_rcvhwm(1)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvtimeo(20_000)?;
        socket.connect(endpoint)?;
        Ok(Self(socket))
    }

    /// A worker of one thread in a pool of its own, which is called like it; registered.
    fn worker(context: &zmq::Context, backend: &str, name: &str) -> Result<Self> {
        let worker = Self::connect(context, backend)?;
        let register = Registration { name: name.into(), pool: name.into(), window: 50, ..Registration::default() };
        worker.say(FromWorker::from(register))?;
        let ToWorker::Welcome { .. } = worker.hear()? else { bail!("no welcome") };
        Ok(worker)
    }

    /// A client that has been welcomed, and its session.
    fn client(context: &zmq::Context, frontend: &str, name: &str) -> Result<(Self, u64)> {
        let client = Self::connect(context, frontend)?;
        client.hello(name)?;
        let ToClient::Welcome { session, .. } = client.hear()? else { bail!("no welcome") };
        Ok((client, session))
    }

    fn hello(&self, name: &str) -> Result<()> {
        self.say(FromClient::Hello { version: VERSION, name: name.into() })
    }

    fn say(&self, message: impl Message) -> Result<()> {
        let Frames { envelope, attachments } = message.encode();
        assert!(attachments.is_empty());
        Ok(self.0.send(&*envelope, 0)?)
    }

    fn hear<M: Message>(&self) -> Result<M> {
        let mut frames = self.0.recv_multipart(0).context("a message within 20 s")?.into_iter().map(Bytes::from);
        let envelope = frames.next().context("a frame")?;
        Ok(M::decode(&Frames { envelope, attachments: frames.collect() })?)
    }
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_told_so_when_it_reads_again() -> Result<()> {
    const REQUESTS: u64 = 1000;
    const RESULT: usize = 60_000;
    let mut system = Setup::workers(1).broker(&["--max-backlog", "4MiB"]).start()?;
    let context = zmq::Context::new();

    // A worker with large results, in a pool of its own.
    let worker = Raw::worker(&context, system.backend(), "large")?;
    let computing = std::thread::spawn(move || -> Result<()> {
        loop {
            match worker.hear()? {
                ToWorker::Dispatch { requests, .. } => {
                    for (ticket, _) in requests {
                        let result = Outcome::Ok(Bytes::from(vec![7; RESULT]));
                        worker.say(FromWorker::Replies(vec![(ticket, result)]))?;
                    }
                }
                ToWorker::Ping { sequence } => {
                    worker.say(FromWorker::Pong { sequence, computing: 0, waiting: 0, oldest_ms: 0 })?;
                }
                ToWorker::Cancel(_) => {}
                ToWorker::Closing => return Ok(()),
                other => bail!("{other:?}"),
            }
        }
    });

    let (client, session) = Raw::client(&context, system.frontend(), "lazy")?;
    let submit = |session, ids: &mut dyn Iterator<Item = u64>| {
        let requests = ids.map(|id| (RequestId(id), Bytes::new())).collect();
        client.say(message::submit(session, "large", 0, requests))
    };
    submit(session, &mut (1..=REQUESTS))?;
    let left = system.wait_for_line(&[" client-left c1 "])?;
    assert!(left.ends_with("reason=does not read its replies"), "{left}");
    // Others did not notice.
    system.random(&["3000"])?;
    let swollen = system.broker().rss()?;
    assert!(swollen < 200 << 20, "the broker has {swollen} bytes");

    // It reads again: what was sent before, then that it was cut off; then all the rest, once each.
    let mut unanswered: std::collections::BTreeSet<u64> = (1..=REQUESTS).collect();
    let mut cut_off = 0;
    while !unanswered.is_empty() {
        match client.hear()? {
            ToClient::Replies(replies) => {
                for reply in replies {
                    assert!(unanswered.remove(&reply.id.0), "a second reply to {:?}", reply.id);
                }
            }
            ToClient::HelloAgain => {
                cut_off += 1;
                assert!(unanswered.len() as u64 > REQUESTS / 10, "only {} are left", unanswered.len());
                client.hello("lazy")?;
            }
            ToClient::Welcome { session, .. } => submit(session, &mut unanswered.iter().copied())?,
            other => bail!("{other:?}"),
        }
    }
    assert!(cut_off >= 1);
    system.broker().signal(nix::sys::signal::Signal::SIGTERM)?;
    computing.join().expect("the worker does not panic")
}

#[test]
fn a_frozen_client_holds_nobody_up_and_goes_on_when_it_thaws() -> Result<()> {
    use nix::sys::signal::Signal;
    let mut system = Setup::workers(2).start()?;
    let mut frozen = system.begin(&["random", "300000", "--json"])?;
    system.wait_for_line(&[" reply "])?;
    frozen.process().signal(Signal::SIGSTOP)?;
    let other: Json = system.random(&["20000"])?;
    assert_eq!(other["answered"], 20000);
    frozen.process().signal(Signal::SIGCONT)?;
    frozen.finish()?.all_well()?;
    Ok(())
}

#[test]
fn progress_messages_never_cut_off_a_client_that_does_not_read() -> Result<()> {
    let system = Setup::workers(0).broker(&["--max-backlog", "1MiB"]).start()?;
    let context = zmq::Context::new();
    let worker = Raw::worker(&context, system.backend(), "chatty")?;

    let (client, session) = Raw::client(&context, system.frontend(), "busy")?;
    let requests = (1..=50).map(|id| (RequestId(id), Bytes::new())).collect();
    client.say(message::submit(session, "chatty", 0, requests))?;
    let ToWorker::Dispatch { requests, .. } = worker.hear()? else { bail!("no requests") };

    // More than fits into the sockets and the backlog together, many times over.
    let progress = |done| requests.iter().map(|&(ticket, _)| (ticket, Progress { done, total: u64::MAX })).collect();
    for done in 0..50_000 {
        worker.say(FromWorker::Progress(progress(done)))?;
    }
    let result = |ticket| (ticket, Outcome::Ok(Bytes::new()));
    worker.say(FromWorker::Replies(requests.iter().map(|&(ticket, _)| result(ticket)).collect()))?;
    loop {
        match client.hear()? {
            ToClient::Progress(_) => {}
            ToClient::Replies(replies) => break assert_eq!(replies.len(), requests.len()),
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}
