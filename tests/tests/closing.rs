//! The end of a broker: what it has answered arrives, or the log says what did not.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Bytes, FromClient, Outcome, RequestId, ToClient, VERSION};
use giostra_tests::message;
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_transport::socket;
use nix::sys::signal::Signal;
use zmq::{Socket, SocketType};

const REQUESTS: u64 = 50;
const BYTES: usize = 1 << 20;

/// A client that reads when it likes, with as little room for what it has not read as libzmq
/// allows.
struct Lazy(Socket);

impl Lazy {
    /// It has requested fifty results of 1 MiB each, and has read none.
    fn owed_much(system: &System) -> Result<Self> {
        let socket = zmq::Context::new().socket(SocketType::DEALER)?;
        socket.set_linger(0)?;
        socket.set_rcvhwm(2)?;
        socket.connect(system.frontend())?;
        let lazy = Self(socket);
        lazy.say(FromClient::Hello { version: VERSION, name: "lazy".into() })?;
        let ToClient::Welcome { session, .. } = lazy.hear()? else { bail!("no welcome") };
        let request = request();
        for id in 1..=REQUESTS {
            let requests = vec![(RequestId(id), request.clone())];
            lazy.say(message::submit(session, "compute", 0, requests))?;
        }
        wait_for("all is answered", || (named(system, " reply ") == REQUESTS).then_some(()))?;
        Ok(lazy)
    }

    fn say(&self, message: FromClient) -> Result<()> {
        let Frames { envelope, attachments } = message.encode();
        let frames = [envelope].into_iter().chain(attachments);
        Ok(self.0.send_multipart(frames.map(|frame| frame.to_vec()), 0)?)
    }

    fn hear(&self) -> Result<ToClient> {
        let frames = wait_for("the broker says something", || socket::receive(&self.0).transpose())??;
        Ok(ToClient::decode(&frames)?)
    }
}

/// One whose result has that many bytes.
fn request() -> Bytes {
    Call { operation: "echo".into(), arguments: vec![Value::Bytes(vec![7; BYTES])] }.to_body()
}

/// Requests of the first client that are named in the log's lines with this verb.
fn named(system: &System, verb: &str) -> u64 {
    let log = system.log();
    let lines = log.lines().filter_map(|line| line.split_once(verb));
    lines.flat_map(|(_, rest)| rest.split(' ')).filter_map(|word| count(word.strip_prefix("c1#")?)).sum()
}

/// How many numbers there are in `3`, `3..5` or `3..9/2`.
fn count(run: &str) -> Option<u64> {
    let (range, step) = run.split_once('/').unwrap_or((run, "1"));
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    let [first, last, step] = [first, last, step].map(|number| number.parse::<u64>().ok());
    Some((last? - first?) / step? + 1)
}

fn closes(system: &mut System) -> Result<()> {
    system.broker().signal(Signal::SIGTERM)?;
    system.wait_for_line(&[" closing "]).map(drop)
}

#[test]
fn replies_arrive_before_the_broker_ends_even_if_the_client_reads_late() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--grace", "60s"]).start()?;
    let lazy = Lazy::owed_much(&system)?;
    closes(&mut system)?;
    let mut missing: BTreeSet<_> = (1..=REQUESTS).collect();
    let mut closing = false;
    loop {
        match lazy.hear()? {
            ToClient::Replies(replies) => {
                for reply in replies {
                    assert!(missing.remove(&reply.id.0), "{:?} is answered twice", reply.id);
                    let Outcome::Ok(result) = reply.outcome else { bail!("{:?}", reply.outcome) };
                    assert_eq!(Value::from_body(&result)?, Value::Bytes(vec![7; BYTES]));
                }
            }
            ToClient::Closing => closing = true,
            ToClient::Goodbye => break,
            other => bail!("{other:?}"),
        }
    }
    assert!(missing.is_empty() && closing, "nothing comes after the goodbye: {missing:?}");
    assert!(system.broker().is_running(), "it waits for the answer");
    lazy.say(FromClient::Goodbye)?;
    assert!(system.broker().wait()?.success());
    let log = system.log();
    assert!(log.contains(" client-left c1 cancelled=0 unwanted=0 clients=0 reason=the broker closes"), "{log}");
    assert!(log.contains(" goodbye c1"), "{log}");
    system.audit()?;
    Ok(())
}

#[test]
fn a_client_that_does_not_read_costs_the_grace_and_the_log_names_its_unsent_replies() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--grace", "300ms"]).start()?;
    let lazy = Lazy::owed_much(&system)?;
    closes(&mut system)?;
    assert!(system.broker().wait()?.success());
    let log = system.log();
    let unheard = log.lines().find(|line| line.contains(" unheard c1 unsent=")).context("a line of it")?;
    assert!(unheard.contains(" WARN ") && unheard.contains("reason=it has said no goodbye in time"), "{unheard}");
    let report = system.audit()?;
    let (all, unsent) = (report.counts.replies, report.counts.undelivered);
    assert!((1..all).contains(&unsent), "{unsent} of {all} were never sent");
    assert!(unheard.contains(&format!(" unsent={unsent} c1#")), "{unheard}");
    drop(lazy);
    Ok(())
}

#[test]
fn our_client_has_all_results_when_the_broker_ends() -> Result<()> {
    // All are handed out at once, and in flight when the broker is to end.
    let mut system = Setup::workers(2).broker(&["--grace", "60s", "--hold", "0s"]).start()?;
    let mut client = system.client()?;
    client.await_broker()?;
    let request = request();
    for _ in 0..REQUESTS {
        client.submit(request.clone())?;
    }
    client.turn()?;
    wait_for("all is handed out", || (named(&system, " dispatch ") == REQUESTS).then_some(()))?;
    closes(&mut system)?;
    for _ in 0..REQUESTS {
        let reply = client.next_reply(Some(Duration::from_secs(60)))?.context("a reply")?;
        assert_eq!(reply.trace.attempts, 1);
        assert!(matches!(reply.outcome, Outcome::Ok(_)), "{:?}", reply.outcome);
    }
    // Nobody else is there to compute it again.
    wait_for("the broker ends", || {
        client.turn().ok()?;
        (!system.broker().is_running()).then_some(())
    })?;
    assert!(system.log().contains(" goodbye c1"), "{}", system.log());
    system.audit()?;
    Ok(())
}

#[test]
fn clients_that_are_owed_nothing_are_not_waited_for() -> Result<()> {
    let mut system = Setup::workers(1).broker(&["--grace", "600s"]).start()?;
    let socket = zmq::Context::new().socket(SocketType::DEALER)?;
    socket.connect(system.frontend())?;
    let idle = Lazy(socket);
    idle.say(FromClient::Hello { version: VERSION, name: "idle".into() })?;
    let ToClient::Welcome { .. } = idle.hear()? else { bail!("no welcome") };
    // One that was answered, and has ended since.
    system.random(&["100"])?;
    system.broker().signal(Signal::SIGTERM)?;
    assert!(system.broker().wait()?.success());
    let ToClient::Closing = idle.hear()? else { bail!("no word of the closing") };
    system.audit()?;
    Ok(())
}
