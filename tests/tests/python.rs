//! The examples in Python, written from the protocol's page alone, together with the real broker,
//! workers and client.
//!
//! Only where the machine has what they need (`giostra_tests::python`); elsewhere these tests count
//! as ignored.

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Process, Setup, System, python, test, trials};
use giostra_transport::keys::{PUBLIC_SUFFIX, Role};
use nix::sys::signal::Signal;
use serde_json::json;

/// Enough for something to happen in the middle of it.
const MANY: &str = "200000";

fn main() -> ExitCode {
    trials::run(&[
        test!(a_python_clients_batch_is_answered_by_the_ready_workers needs python::available),
        test!(a_python_clients_large_body_comes_back_as_it_was needs python::available),
        test!(a_python_client_that_is_rejected_waits_for_credit needs python::available),
        test!(a_python_client_learns_of_errors_and_of_its_time_limit needs python::available),
        test!(a_python_worker_takes_its_turns_in_the_ring needs python::available),
        test!(a_python_worker_answers_pings_while_it_computes needs python::available),
        test!(a_python_worker_leaves_at_sigterm_and_nothing_is_lost needs python::available),
        test!(a_killed_python_workers_requests_are_answered_by_the_others needs python::available),
        test!(a_killed_and_restarted_broker_costs_them_only_time needs python::available),
        test!(a_python_client_submits_no_more_than_the_broker_takes needs python::available),
        test!(a_python_workers_results_fit_into_messages_or_are_errors needs python::available),
        test!(python_peers_with_keys_work_beside_the_others needs python::available),
        test!(certificates_that_pyzmq_made_let_python_peers_in needs python::available),
        test!(a_system_whose_certificates_pyzmq_made_works_as_ever needs python::available),
        test!(a_secret_certificate_is_refused_as_pyzmq_leaves_it needs python::available),
        test!(a_python_client_that_is_refused_says_why_and_ends needs python::available),
        test!(a_python_worker_that_is_refused_says_why_and_ends needs python::available),
        test!(a_python_client_with_the_wrong_brokers_key_ends_by_its_time_limit needs python::available),
        test!(half_of_the_keys_is_a_wrong_command_line needs python::available),
        test!(the_short_client_and_worker_talk_to_a_broker_and_to_each_other needs python::available),
        test!(the_short_client_and_worker_talk_to_a_broker_with_keys needs python::available),
    ])
}

fn a_python_clients_batch_is_answered_by_the_ready_workers() -> Result<()> {
    let system = Setup::workers(3).start()?;
    finish_well(client(&system, "many", &[])?)?;
    let counts = system.audit()?.counts;
    assert_eq!((counts.accepted, counts.replies, counts.reply_errors, counts.open), (1000, 1000, 0, 0));
    Ok(())
}

fn a_python_clients_large_body_comes_back_as_it_was() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let body = system.folder().join("body");
    fs::write(&body, "giostra!".repeat(1 << 17))?;
    let mut echo = client(&system, "echo", &["echo", &body.display().to_string()])?;
    ensure!(echo.wait()?.success(), "{}", echo.stderr());
    ensure!(echo.stdout() == fs::read_to_string(&body)?, "{} bytes came back", echo.stdout().len());
    Ok(())
}

fn a_python_client_that_is_rejected_waits_for_credit() -> Result<()> {
    let system = Setup::workers(1).broker(&["--max-pending", "50"]).start()?;
    finish_well(client(&system, "many", &[])?)?;
    ensure!(system.log().contains(" rejected c1 "), "there was room for all: {}", system.log());
    Ok(())
}

fn a_python_client_learns_of_errors_and_of_its_time_limit() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for (name, args, explanation) in [
        ("failed", &["div", "1", "0"][..], "failed: division by zero"),
        ("invalid", &["nosuch", "1", "0"], "invalid: unknown operation 'nosuch'"),
        ("expired", &["add", "1", "0", "--pool=empty", "--timeout=0.3"], "expired: "),
        ("alone", &["add", "1", "0", "--broker=tcp://127.0.0.1:1", "--timeout=0.3"], "no reply within 0.3 s"),
    ] {
        let mut client = client(&system, name, args)?;
        assert_eq!((client.wait()?.code(), &*client.stdout()), (Some(1), ""), "{args:?}");
        ensure!(client.stderr().starts_with(explanation), "{args:?}: {}", client.stderr());
    }
    Ok(())
}

fn a_python_worker_takes_its_turns_in_the_ring() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let _python = worker(&system, "python-1")?;
    assert_eq!(system.random(&["20000"])?["workers"], json!({"python-1": 10000, "worker-1": 10000}));
    finish_well(client(&system, "many", &[])?)?;
    assert_eq!(system.audit()?.counts.redispatched, 0);
    Ok(())
}

fn a_python_worker_answers_pings_while_it_computes() -> Result<()> {
    let system = Setup::workers(0).broker(&["--ping-interval", "250ms"]).start()?;
    let _python = worker(&system, "python-1")?;
    // Four intervals without a pong, and the broker would have dropped it.
    let mut block = client(&system, "block", &["block", "2.5"])?;
    ensure!(block.wait()?.success() && block.stdout() == "2.5\n", "{}", block.stderr());
    assert_eq!(system.count(" joined python-1 "), 1);
    assert_eq!(system.audit()?.counts.redispatched, 0);
    Ok(())
}

fn a_python_worker_leaves_at_sigterm_and_nothing_is_lost() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut python = worker(&system, "python-1")?;
    let batch = system.begin_random(MANY, &[], "python-1 ")?;
    python.signal(Signal::SIGTERM)?;
    assert_eq!(python.wait()?.code(), Some(0), "{}", python.stderr());
    assert_eq!(batch.finish()?.all_well()?["redispatched"], 0);
    system.wait_for_line(&[" leaving python-1 w2 "])?;
    system.wait_for_line(&[" left python-1 w2"])?;
    system.audit()?;
    Ok(())
}

fn a_killed_python_workers_requests_are_answered_by_the_others() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let python = worker(&system, "python-1")?;
    let batch = system.begin_random(MANY, &[], "python-1 ")?;
    python.kill()?;
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    system.wait_for_line(&[" dropped python-1 w2 "])?;
    system.audit()?;
    Ok(())
}

fn a_killed_and_restarted_broker_costs_them_only_time() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let client = client(&system, "many", &["--timeout", "60"])?;
    wait_for("the batch is accepted", || (system.status().ok()?["pending"] == 1000).then_some(()))?;
    system.kill_broker()?;
    system.start_broker()?;
    wait_for("it is accepted again", || (system.status().ok()?["pending"] == 1000).then_some(()))?;
    let mut python = worker(&system, "python-1")?;
    finish_well(client)?;

    system.kill_broker()?;
    system.start_broker()?;
    system.wait_for_lines(" joined python-1 ", 2)?;
    system.random(&["100"])?;
    python.signal(Signal::SIGINT)?;
    assert_eq!(python.wait()?.code(), Some(0), "{}", python.stderr());
    assert_eq!(system.audit()?.counts.lives, 3);
    Ok(())
}

fn a_python_client_submits_no_more_than_the_broker_takes() -> Result<()> {
    let system = Setup::workers(1).broker(&["--max-batch", "7", "--max-message", "1MiB"]).start()?;
    finish_well(client(&system, "many", &[])?)?;
    // With the array around it, the first is one that just fits and the second one that just does not.
    let bodies = "import argparse, client, connection, msgpack
broker = connection.Broker(argparse.Namespace(broker=sys.argv[1], keys=None), {'Hello': [connection.VERSION, 'sizes']})
bodies = [msgpack.packb(['echo', [bytes(size)]]) for size in ((1 << 20) - 12, (1 << 20) - 11, 1)]
outcomes = client.submit_all(bodies, broker, argparse.Namespace(timeout=30, pool='compute'))
print([len(body) for body in bodies], [list(outcomes[place])[0] for place in range(3)], outcomes[1])
broker.close()";
    let mut sizes = python::start_code(system.folder(), "sizes", bodies, &[system.frontend()])?;
    ensure!(sizes.wait()?.success(), "{}", sizes.stderr());
    let explanation = "the request has 1048577 bytes, and this broker takes 1048576 at most";
    let expected = format!("[1048576, 1048577, 10] ['Ok', 'Error', 'Ok'] {{'Error': ['invalid', '{explanation}']}}\n");
    assert_eq!(sizes.stdout(), expected);
    assert_eq!(system.count(" client-joined "), 2, "nobody lost its connection");
    assert_eq!(system.audit()?.counts.accepted, 1002);
    Ok(())
}

fn a_python_workers_results_fit_into_messages_or_are_errors() -> Result<()> {
    let mut system = Setup::workers(0).broker(&["--max-message", "1MiB"]).start()?;
    let code = "import worker
worker.OPERATIONS['range'] = lambda first, last: list(range(first, last))
worker.main()";
    let args = ["--broker", system.backend(), "--name", "python-1"];
    let _python = python::start_code(system.folder(), "python-1", code, &args)?;
    system.wait_for_line(&[" joined python-1 "])?;
    for last in [3_usize, 50_000] {
        let sent = system.run(&["send", "range", "0", &last.to_string()])?;
        ensure!(sent.code == Some(0) && sent.stdout.split_whitespace().count() == last, "{sent:?}");
    }
    let sent = system.run(&["send", "range", "0", "400000"])?;
    ensure!(sent.code == Some(1) && sent.stderr.contains("this broker takes 1048576 at most"), "{sent:?}");
    // Each is smaller than an attachment; together they are more than one frame may hold.
    let many = "import argparse, client, connection, msgpack
broker = connection.Broker(argparse.Namespace(broker=sys.argv[1], keys=None), {'Hello': [connection.VERSION, 'many']})
bodies = [msgpack.packb(['range', [0, 20000]])] * 200
outcomes = client.submit_all(bodies, broker, argparse.Namespace(timeout=30, pool='compute'))
print(sum(msgpack.unpackb(outcome['Ok']) == list(range(20000)) for outcome in outcomes.values()))
broker.close()";
    let mut many = python::start_code(system.folder(), "many", many, &[system.frontend()])?;
    ensure!(many.wait()?.success(), "{}", many.stderr());
    assert_eq!(many.stdout(), "200\n");
    assert_eq!(system.count(" joined "), 1, "the worker never lost its connection");
    system.audit()?;
    Ok(())
}

fn python_peers_with_keys_work_beside_the_others() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    for (name, role) in [("alice", Role::Client), ("python-1", Role::Worker)] {
        system.make_keys(name)?;
        system.allow(name, role)?;
    }
    system.reload()?;
    both_kinds_take_turns(&mut system)
}

fn certificates_that_pyzmq_made_let_python_peers_in() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let allow = system.allow_dir().display().to_string();
    for (name, role) in [("alice", "client"), ("python-1", "worker")] {
        python::make_exposed_keys(&system.keys_dir(), name)?;
        let public = system.keys_dir().join(format!("{name}.{PUBLIC_SUFFIX}")).display().to_string();
        let allowed = system.begin_as(&[], &["keys", "allow", &public, "--role", role, "--dir", &allow])?.finish()?;
        ensure!(allowed.code == Some(0), "{allowed:?}");
    }
    system.reload()?;
    both_kinds_take_turns(&mut system)
}

fn a_system_whose_certificates_pyzmq_made_works_as_ever() -> Result<()> {
    let mut system = Setup::workers(1).secured_by(python::make_keys).start()?;
    for (name, role) in [("alice", Role::Client), ("python-1", Role::Worker)] {
        system.make_keys(name)?;
        system.allow(name, role)?;
    }
    system.reload()?;
    both_kinds_take_turns(&mut system)
}

fn a_secret_certificate_is_refused_as_pyzmq_leaves_it() -> Result<()> {
    let mut system = Setup::workers(0).secured().start()?;
    python::make_exposed_keys(&system.keys_dir(), "alice")?;
    let keys = system.key_args("alice");
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let sent = system.begin_as(&keys, &["send", "add", "1", "2"])?.finish()?;
    ensure!(sent.code == Some(1) && sent.stderr.contains("chmod 600 "), "{sent:?}");
    Ok(())
}

fn a_python_client_that_is_refused_says_why_and_ends() -> Result<()> {
    let system = Setup::workers(1).secured().start()?;
    let open = Setup::workers(0).start()?;
    system.make_keys("mallory")?;
    let key_args = |name| system.key_args(name);
    let adding = |server: &System, name: &str, keys: &[String], timeout: &str| {
        let args = ["--broker", server.frontend(), "--timeout", timeout, "add", "1", "2"].map(String::from);
        python::start(system.folder(), name, "client.py", &[keys, &args].concat())
    };
    for (name, server, keys, explanation) in [
        ("unlisted", &system, key_args("mallory"), " does not let this key in here"),
        ("role", &system, key_args("worker-1"), " does not let this key in here"),
    ] {
        ended(&mut adding(server, name, &keys, "30")?, "refused: ", explanation)?;
    }
    // Of these, the broker notices first in some handshakes and hangs up; on a busy machine in all of
    // them.
    for (name, server, keys, explanation, advice) in [
        ("without", &system, Vec::new(), " wants --keys and --broker-key, or is no broker", "has it keys?\n"),
        ("open", &open, key_args("client"), " has no keys, or is no broker", ", and has it keys at all?\n"),
    ] {
        let mut client = adding(server, name, &keys, "3")?;
        client.wait()?;
        if client.stderr().contains("no reply within") {
            let broken = format!("the connection to {} breaks in the handshake: ", server.frontend());
            ensure!(client.stderr().contains(&broken) && client.stderr().contains(advice), "{}", client.stderr());
            ended(&mut client, "no reply within 3.0 s", "")?;
        } else {
            ended(&mut client, "refused: ", explanation)?;
        }
    }
    // Of a peer without keys, the broker says what it is only if it is the first to notice.
    for reason in [" is not allowed", " may not come among the clients", " reason=handshake: "] {
        system.wait_for_line(&[reason])?;
    }
    assert_eq!((system.audit()?.counts.accepted, open.audit()?.counts.accepted), (0, 0));
    Ok(())
}

fn a_python_worker_that_is_refused_says_why_and_ends() -> Result<()> {
    let mut system = Setup::workers(0).secured().start()?;
    system.make_keys("python-1")?;
    let explanation = " does not let this key in here";
    for (name, own) in [("unlisted", "python-1"), ("role", "client")] {
        ended(&mut launch(&system, name, own)?, "refused: ", explanation)?;
    }
    ensure!(!system.log().contains(" joined "), "one came in: {}", system.log());

    system.allow("python-1", Role::Worker)?;
    system.reload()?;
    let mut worker = worker(&system, "python-1")?;
    fs::remove_file(system.certificate("python-1", Role::Worker))?;
    system.reload()?;
    ended(&mut worker, "refused: ", explanation)
}

fn a_python_client_with_the_wrong_brokers_key_ends_by_its_time_limit() -> Result<()> {
    let system = Setup::workers(0).secured().start()?;
    system.make_keys("impostor")?;
    let [own, broker] = [system.secret_file("client"), system.keys_dir().join("impostor.key")];
    let [own, broker] = [&own, &broker].map(|path| path.display().to_string());
    let keys = ["--keys", &own, "--broker-key", &broker];
    let mut client = client(&system, "wrong", &[&keys[..], &["--timeout", "0.3", "add", "1", "2"]].concat())?;
    ended(&mut client, "no reply within 0.3 s", "")?;
    let broken = format!("the connection to {} breaks in the handshake: is --broker-key", system.frontend());
    assert_eq!(client.stderr().matches(&broken).count(), 1, "{}", client.stderr());
    assert_eq!(system.audit()?.counts.accepted, 0);
    Ok(())
}

fn half_of_the_keys_is_a_wrong_command_line() -> Result<()> {
    let system = Setup::workers(0).secured().start()?;
    let keys = system.key_args("client");
    let public = system.keys_dir().join("broker.key").display().to_string();
    let both = "--keys and --broker-key belong together";
    for (name, args, explanation) in [
        ("own", vec!["--keys", &keys[1]], both),
        ("brokers", vec!["--broker-key", &keys[3]], both),
        ("public", vec!["--keys", &public, "--broker-key", &public], "--keys takes the secret certificate"),
        ("missing", vec!["--keys", "nosuch", "--broker-key", &public], "Invalid certificate file: nosuch"),
    ] {
        for program in ["client.py", "worker.py"] {
            let mut peer = python::start(system.folder(), &format!("{name}-{program}"), program, &args)?;
            let code = peer.wait()?.code();
            let said = peer.stderr();
            ensure!(code == Some(2) && said.trim_end().ends_with(explanation), "{name} {program}: {code:?} {said}");
        }
    }
    Ok(())
}

fn the_short_client_and_worker_talk_to_a_broker_and_to_each_other() -> Result<()> {
    short_ones_work(Setup::workers(0).start()?)
}

fn the_short_client_and_worker_talk_to_a_broker_with_keys() -> Result<()> {
    let mut system = Setup::workers(0).secured().start()?;
    for (name, role) in [("alice", Role::Client), ("short", Role::Worker), ("mallory", Role::Client)] {
        system.make_keys(name)?;
        if name != "mallory" {
            system.allow(name, role)?;
        }
    }
    system.reload()?;
    let args = [&["add", "1", "2"].map(String::from)[..], &short_keys(&system, "mallory")].concat();
    let mut refused = short_client(&system, "mallory", &args)?;
    system.wait_for_line(&["this key is not allowed"])?;
    refused.signal(Signal::SIGINT)?;
    ensure!(!refused.wait()?.success() && refused.stdout().is_empty(), "{}", refused.stdout());
    assert_eq!(system.audit()?.counts.accepted, 0);
    short_ones_work(system)
}

/// The short worker computes what the ready client and the short one ask for, and lives on whatever
/// that is.
fn short_ones_work(mut system: System) -> Result<()> {
    let args = [&[system.backend(), "short"].map(String::from)[..], &short_keys(&system, "short")].concat();
    let _worker = python::start(system.folder(), "short", "short_worker.py", &args)?;
    system.wait_for_line(&[" joined short "])?;
    for (name, words, result, explanation) in [
        ("sum", &["add", "1", "2"][..], "3\n", ""),
        ("float", &["add", "1.5", "2"], "3.5\n", ""),
        ("few", &["add", "1"], "", "invalid: this worker adds two numbers"),
        ("large", &["add", "9223372036854775807", "18446744073709551615"], "", "invalid: this worker adds two numbers"),
        ("other", &["mul", "1", "2"], "", "invalid: this worker adds two numbers"),
    ] {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let mut client = short_client(&system, name, &[words, short_keys(&system, "alice")].concat())?;
        let code = client.wait()?.code();
        let (said, complaint) = (client.stdout(), client.stderr());
        let well = said == result && complaint.starts_with(explanation) && code == Some(i32::from(result.is_empty()));
        ensure!(well, "{name}: {code:?} {said} {complaint}");
    }
    let sent = system.run(&["send", "add", "20", "22"])?;
    ensure!(sent.code == Some(0) && sent.stdout.trim() == "42", "{sent:?}");
    assert_eq!(system.count(" joined "), 1, "the worker never lost its connection");
    let counts = system.audit()?.counts;
    assert_eq!((counts.accepted, counts.replies, counts.reply_errors), (6, 3, 3));
    Ok(())
}

fn short_client(system: &System, name: &str, args: &[String]) -> Result<Process> {
    python::start(system.folder(), name, "short_client.py", &[&[system.frontend().to_string()], args].concat())
}

/// The keys as the short ones are told them; none if the system has none.
fn short_keys(system: &System, own: &str) -> Vec<String> {
    system.key_args(own).into_iter().filter(|word| !word.starts_with("--")).collect()
}

/// A batch of the ready client and one of the client in Python, alice, are answered by worker 1 and
/// a worker in Python, turn and turn about.
fn both_kinds_take_turns(system: &mut System) -> Result<()> {
    let _python = worker(system, "python-1")?;
    assert_eq!(system.random(&["2000"])?["workers"], json!({"python-1": 1000, "worker-1": 1000}));
    let args = system.key_args("alice");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    finish_well(client(system, "many", &args)?)?;
    let report = system.audit()?;
    assert_eq!((report.counts.accepted, report.counts.replies, report.counts.redispatched), (3000, 3000, 0));
    ensure!(!system.log().contains(" refuse "), "somebody was refused: {}", system.log());
    Ok(())
}

/// Waits until it ends, with exit status 1, without a result, its last words beginning and ending
/// like this.
fn ended(process: &mut Process, begin: &str, end: &str) -> Result<()> {
    let code = process.wait()?.code();
    let (result, said) = (process.stdout(), process.stderr());
    let last = said.lines().last().unwrap_or_default();
    let well = code == Some(1) && result.is_empty() && last.starts_with(begin) && last.ends_with(end);
    ensure!(well && !said.contains("Traceback"), "{code:?} {result} {said}");
    Ok(())
}

/// Starts the client.
fn client(system: &System, name: &str, args: &[&str]) -> Result<Process> {
    let broker = ["--broker", system.frontend()];
    python::start(system.folder(), name, "client.py", &[&broker, args].concat())
}

/// Waits for the end of its thousand additions, all of which must be right.
fn finish_well(mut client: Process) -> Result<()> {
    let code = client.wait()?.code();
    let said = [client.stdout(), client.stderr()];
    assert_eq!((code, said), (Some(0), ["1000 of 1000 answered, 1000 of them correctly\n".into(), String::new()]));
    Ok(())
}

/// Starts the worker, and waits until it is registered.
fn worker(system: &System, name: &str) -> Result<Process> {
    let worker = launch(system, name, name)?;
    system.wait_for_line(&[&format!(" joined {name} ")])?;
    Ok(worker)
}

/// Starts the worker, with the keys of this name if the system has keys.
fn launch(system: &System, name: &str, own: &str) -> Result<Process> {
    let args = ["--broker", system.backend(), "--name", name].map(String::from);
    python::start(system.folder(), name, "worker.py", &[&args[..], &system.key_args(own)].concat())
}
