//! Without the right key nothing is accepted and nothing learnt, and both sides are told why.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use giostra_protocol::{Bytes, FromClient, RequestId, ToClient, ToWorker, VERSION};
use giostra_tests::message;
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_transport::keys::{Credentials, KeyPair, Role};

use crate::peer::{Peer, hello, register, register_of};
use crate::{check, run, start, strs, total};

/// How long a command that the broker rejects at once may take on a busy machine: far less
/// than it would wait for a broker.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A system whose log and status show that nobody but its own has ever been in.
fn nobody_was_in(system: &mut System, workers: usize) -> Result<()> {
    let status = system.status()?;
    ensure!(status["totals"]["accepted"] == 0, "{status}");
    ensure!(status["clients"].as_array().is_some_and(|clients| clients.len() == 1), "{status}");
    ensure!(status["workers"].as_array().is_some_and(|all| all.len() == workers), "{status}");
    ensure!(system.count(" stranger") == 0 && system.count(" accept ") == 0, "{}", system.log());
    check(system)
}

/// Keys that nobody has let in, and the arguments that name them.
fn unlisted(system: &System) -> Result<Vec<String>> {
    system.make_keys("nobody")?;
    Ok(system.key_args("nobody"))
}

/// The keys of the system's own client or of a worker, and another broker's key than this one's.
fn for_another_broker(system: &System, name: &str) -> Result<Vec<String>> {
    let other = KeyPair::generate()?.public.to_string();
    let mut args = system.key_args(name);
    *args.last_mut().context("there are keys")? = other;
    Ok(args)
}

/// Until the log has such a line: of ever so many refusals ten a second are logged, and a peer that
/// knows by itself that it will not come in may be gone before the broker has seen why.
fn until_logged(
    system: &mut System,
    parts: &[&str],
    mut again: impl FnMut(&mut System) -> Result<()>,
) -> Result<String> {
    wait_for(&format!("a line of the log with {parts:?}"), || {
        let said = system.line(parts);
        if said.is_none() {
            again(system).expect("it runs");
        }
        said
    })
}

#[test]
fn a_client_without_the_right_key_submits_nothing_and_learns_why() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let nobody = unlisted(&system)?;
    let (astray, worker) = (for_another_broker(&system, "client")?, system.key_args("worker-1"));
    let key = system.credentials("nobody")?.own.public.to_string();
    let listed = "Its public certificate has to be in the broker's --allow folder";
    for (keys, limit, logged, told) in [
        (
            vec![],
            "60s",
            "refuse a client at 127.0.0.1:",
            ["If the broker has keys", "--keys and --broker-key are needed"],
        ),
        (nobody, "60s", &*format!("key={key} reason=this key is not allowed"), ["this key is not allowed", listed]),
        (
            worker,
            "60s",
            "name=worker-1 reason=this key may not come among the clients",
            ["this key is not allowed", listed],
        ),
        (astray, "2s", "not the right broker key", ["", "Is --broker-key the broker's public key?"]),
    ] {
        for command in [&["send", "add", "1", "2"][..], &["status"], &["drain", "worker-1"], &["random", "10"]] {
            let args: Vec<_> = ["--broker-timeout", limit].iter().chain(command).copied().collect();
            let began = Instant::now();
            let ended = system.begin_as(&strs(&keys), &args)?.finish()?;
            ensure!(began.elapsed() < AT_ONCE, "{:?}: {ended:?}", began.elapsed());
            ensure!(ended.code == Some(1), "{ended:?}");
            ensure!(told.iter().all(|part| ended.stderr.contains(part)), "{told:?}: {ended:?}");
        }
        until_logged(&mut system, &[" refuse a client", logged], |system| {
            system.begin_as(&strs(&keys), &["status", "--broker-timeout", "1s"])?.finish().map(drop)
        })?;
    }
    nobody_was_in(&mut system, 1)
}

#[test]
fn a_worker_without_the_right_key_is_not_registered_and_learns_why() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let nobody = unlisted(&system)?;
    let key = system.credentials("nobody")?.own.public.to_string();
    for (keys, logged, told) in [
        (nobody, &*format!("key={key} reason=this key is not allowed"), "this key is not allowed"),
        (
            system.key_args("client"),
            "name=client reason=this key may not come among the workers",
            "this key is not allowed",
        ),
    ] {
        let backend = system.backend().to_string();
        let args = [&["--broker", &backend, "--name", "stranger"][..], &strs(&keys)].concat();
        let began = Instant::now();
        let ended = run(&system, "giostra-worker", &args)?;
        ensure!(ended.code == Some(1) && ended.stderr.contains(told), "{ended:?}");
        ensure!(began.elapsed() < AT_ONCE);
        until_logged(&mut system, &[" refuse a worker", logged], |system| {
            run(system, "giostra-worker", &args).map(drop)
        })?;
    }
    // Of another broker it may be that it is only away, and this one in its place: the worker goes on
    // trying, and says so. So it does without keys, as long as the broker hangs up before it has
    // said that it has some. Who hangs up first is not settled, and the other one sees a connection
    // that has ended.
    let astray = for_another_broker(&system, "worker-1")?;
    for (keys, logged, told) in [
        (astray, "not the right broker key", "Is --broker-key the broker's"),
        (vec![], "reason=handshake: ", "--keys and --broker-key are needed"),
    ] {
        let before = system.count(logged);
        let args = [&["--broker", system.backend(), "--name", "stranger"][..], &strs(&keys)].concat();
        let worker = start(&system, "giostra-worker", &args)?;
        wait_for("the broker says why", || (system.count(logged) > before).then_some(()))
            .with_context(|| format!("{} {}", worker.stderr(), system.log()))?;
        wait_for("the worker says why", || worker.stderr().contains(told).then_some(()))?;
    }
    nobody_was_in(&mut system, 1)
}

#[test]
fn refused_peers_receive_nothing_at_either_endpoint() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    unlisted(&system)?;
    let (nobody, client, worker) =
        (system.credentials("nobody")?, system.credentials("client")?, system.credentials("worker-1")?);
    let other = Credentials::new(client.own.clone(), KeyPair::generate()?.public);
    let mut peers = Vec::new();
    for at_frontend in [None, Some(&nobody), Some(&worker), Some(&other)] {
        let peer = Peer::connect(system.frontend(), at_frontend)?;
        peer.say(hello())?;
        peer.say(FromClient::<Bytes>::Inspect)?;
        peers.push(peer);
    }
    for at_backend in [None, Some(&nobody), Some(&client), Some(&other)] {
        let peer = Peer::connect(system.backend(), at_backend)?;
        peer.say(register())?;
        peers.push(peer);
    }
    // They try again and again, some hundred times a second.
    wait_for("all have been refused", || (total(&mut system, "refused").ok()? > 1000).then_some(()))?;
    for peer in &peers {
        let heard = peer.listen(Duration::ZERO)?;
        ensure!(heard.is_empty(), "{heard:?}");
    }
    drop(peers);
    nobody_was_in(&mut system, 1)
}

#[test]
fn a_key_may_do_what_its_roles_say_and_nothing_else() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    for (name, role) in [("alice", Role::Client), ("root", Role::Admin)] {
        system.make_keys(name)?;
        system.allow(name, role)?;
    }
    system.reload()?;
    let (alice, root) = (system.key_args("alice"), system.key_args("root"));

    for (name, keys, command, told) in [
        ("alice", &alice, &["status"][..], "has not the role 'admin'"),
        ("alice", &alice, &["drain", "worker-1"], "has not the role 'admin'"),
        ("root", &root, &["send", "add", "1", "2"], "has not the role 'client'"),
        ("root", &root, &["random", "1000"], "has not the role 'client'"),
    ] {
        let args = [&["--broker-timeout", "60s"][..], command].concat();
        let began = Instant::now();
        let ended = system.begin_as(&strs(keys), &args)?.finish()?;
        ensure!(ended.code == Some(1) && ended.stderr.contains(told), "{ended:?}");
        ensure!(began.elapsed() < AT_ONCE);
        // The broker answers a question for the status, but not with all of it.
        if command == ["status"] {
            continue;
        }
        let key = format!(" key={} name={name} ", system.credentials(name)?.own.public);
        system.wait_for_line(&[" refuse c", " at 127.0.0.1:", &key, "reason=this key may not", told])?;
    }
    ensure!(total(&mut system, "accepted")? == 0 && system.count(" leaving ") == 0);

    let random = ["random", "1000", "--wait-workers", "1", "--json"];
    ensure!(system.begin_as(&strs(&alice), &random)?.finish()?.all_well().is_ok());
    ensure!(system.begin_as(&strs(&root), &["status"])?.finish()?.code == Some(0));
    let drained = system.begin_as(&strs(&root), &["drain", "worker-1"])?.finish()?;
    ensure!(drained.stdout == "worker-1 has left\n", "{drained:?}");

    // The connection bears what is right after what was refused, and nothing of that was done.
    let alice = system.credentials("alice")?;
    let (peer, session) = Peer::client(system.frontend(), Some(&alice))?;
    peer.say(FromClient::<Bytes>::Inspect)?;
    let ToClient::Status(limited) = peer.hear()? else { bail!("no status") };
    ensure!(limited.limited && !format!("{limited:?}").contains("127.0.0.1"), "{limited:?}");
    peer.say(FromClient::<Bytes>::Drain { worker: "worker-1".into(), number: 0, all: false })?;
    ensure!(matches!(peer.hear()?, ToClient::Refused { reason, .. } if reason.contains("'admin'")));
    let requests = vec![(RequestId(1), Bytes::new())];
    peer.say(message::submit(session, "compute", 1, requests))?;
    ensure!(matches!(peer.hear()?, ToClient::Replies(replies) if replies.len() == 1));
    Ok(())
}

#[test]
fn peers_and_refusals_are_logged_with_address_and_key_at_both_endpoints() -> Result<()> {
    let system = Setup::workers(1).secured().start()?;
    let (client, worker) = (system.credentials("client")?, system.credentials("worker-1")?);
    let [client_key, worker_key] = [&client, &worker].map(|it| it.own.public);
    let [as_client, as_worker] = [format!(" key={client_key} name=client"), format!(" key={worker_key} name=worker-1")];
    system.wait_for_line(&[" joined worker-1 w1 ", &as_worker])?;

    // Before they have a number.
    let version = VERSION + 1;
    let peer = Peer::connect(system.frontend(), Some(&client))?;
    peer.say(FromClient::<Bytes>::Hello { version, name: "early".into() })?;
    ensure!(matches!(peer.hear()?, ToClient::<Bytes>::Refused { .. }));
    system.wait_for_line(&[" refuse a client at 127.0.0.1:", &as_client, " reason=this broker speaks version"])?;
    let other = Peer::connect(system.backend(), Some(&worker))?;
    other.say(register_of(version))?;
    ensure!(matches!(other.hear()?, ToWorker::<Bytes>::Refused { .. }));
    system.wait_for_line(&[" refuse a worker at 127.0.0.1:", &as_worker, " reason=this broker speaks version"])?;

    // And with one.
    peer.say(hello())?;
    ensure!(matches!(peer.hear()?, ToClient::<Bytes>::Welcome { .. }));
    let joined = system.wait_for_line(&[" client-joined c", " stranger", &as_client])?;
    let number = joined.split(' ').find(|word| word.starts_with('c') && word[1..].parse::<u64>().is_ok());
    peer.send(&[b"rubbish".to_vec()])?;
    let refused = format!(" refuse {} at 127.0.0.1:", number.context("it has a number")?);
    system.wait_for_line(&[&refused, &as_client, " reason="])?;
    Ok(())
}

#[test]
fn a_client_with_keys_sends_nothing_to_an_impostor() -> Result<()> {
    // A broker without keys, and one with others, in the place of the right one.
    let mut plain = Setup::workers(1).start()?;
    let mut other = Setup::workers(1).secured().start()?;
    let right = Setup::workers(0).secured().start()?;
    let keys = right.key_args("client");
    for (impostor, limit, told) in
        [(&mut plain, "60s", "Does the broker have keys (--keys)?"), (&mut other, "2s", "Is --broker-key the broker's")]
    {
        let args = ["send", "add", "1", "2", "--broker-timeout", limit];
        let ended = impostor.begin_as(&strs(&keys), &args)?.finish()?;
        ensure!(ended.code == Some(1) && ended.stderr.contains(told), "{ended:?}");
        ensure!(impostor.count(" client-joined ") == 0 && impostor.count(" accept ") == 0);
        check(impostor)?;
    }
    Ok(())
}

#[test]
fn a_bench_without_a_valid_key_reports_it() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let nobody = unlisted(&system)?;
    let began = Instant::now();
    let ended =
        system.begin_as(&strs(&nobody), &["bench", "1000", "--clients", "3", "--broker-timeout", "60s"])?.finish()?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("this key is not allowed"), "{ended:?}");
    ensure!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    nobody_was_in(&mut system, 1)
}
