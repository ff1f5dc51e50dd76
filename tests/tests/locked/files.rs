//! The files with keys on the command line, and that secrets stay in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use giostra_tests::{Setup, System};
use giostra_transport::keys::KeyPair;

use crate::{run, start, strs};

/// How a secret key is written.
fn written(keys: &KeyPair) -> String {
    zmq::z85_encode(keys.secret.as_bytes()).expect("32 is divisible by 4")
}

/// A folder of the system's that nothing else uses.
fn folder(system: &System, name: &str) -> String {
    system.folder().join(name).display().to_string()
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_advice_by_each_program() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    for name in ["client", "worker-1", "broker"] {
        fs::set_permissions(system.secret_file(name), fs::Permissions::from_mode(0o644))?;
    }
    let (client, worker) = (system.key_args("client"), system.key_args("worker-1"));
    let (broker, log) = (system.secret_file("broker").display().to_string(), folder(&system, "log-2"));
    let allow = folder(&system, "keys/allow");
    let any = ["--frontend", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*", "--log-dir", &log];
    for (program, args) in [
        ("giostra", [&strs(&client)[..], &["status"]].concat()),
        ("giostra-worker", strs(&worker)),
        ("giostra-broker", [&any[..], &["--keys", &broker, "--allow", &allow]].concat()),
    ] {
        let ended = run(&system, program, &args)?;
        ensure!(ended.code == Some(1), "{program}: {ended:?}");
        for words in ["can be read by others (mode 0644)", "chmod 600"] {
            ensure!(ended.stderr.contains(words), "{program}: {ended:?}");
        }
    }
    fs::set_permissions(system.secret_file("client"), fs::Permissions::from_mode(0o600))?;
    system.random(&["10"])?;
    // Half of what is needed, and a file that is none.
    let half = run(&system, "giostra", &["--keys", client[1].as_str(), "status"])?;
    ensure!(half.code == Some(1) && half.stderr.contains("--keys and --broker-key belong together"), "{half:?}");
    let public = run(&system, "giostra", &["--keys", &client[3], "--broker-key", &client[3], "status"])?;
    ensure!(public.code == Some(1) && public.stderr.contains("holds no secret key"), "{public:?}");
    Ok(())
}

#[test]
fn keys_are_never_overwritten_and_only_public_ones_are_copied() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let (keys, allow) = (folder(&system, "mine"), folder(&system, "mine/allow"));
    let command = |args: &[&str]| run(&system, "giostra", &[&["keys"], args].concat());
    ensure!(command(&["new", "alice", "--dir", &keys])?.code == Some(0));
    let [public, secret] = ["alice.key", "alice.key_secret"].map(|name| Path::new(&keys).join(name));
    let before = [fs::read(&public)?, fs::read(&secret)?];
    ensure!(fs::metadata(&secret)?.permissions().mode() & 0o777 == 0o600);
    let again = command(&["new", "alice", "--dir", &keys])?;
    ensure!(again.code == Some(1) && again.stderr.contains("is there already"), "{again:?}");
    // Nor if only one of the two is there.
    fs::remove_file(&public)?;
    ensure!(command(&["new", "alice", "--dir", &keys])?.code == Some(1) && !public.exists());
    fs::write(&public, &before[0])?;
    ensure!([fs::read(&public)?, fs::read(&secret)?] == before);

    // Whoever names the secret file by mistake gives nothing away.
    let secret_file = secret.display().to_string();
    let allowed = command(&["allow", &secret_file, "--role", "client", "--role", "admin", "--dir", &allow])?;
    ensure!(allowed.code == Some(0) && allowed.stdout.contains("notices"), "{allowed:?}");
    let pair = KeyPair::read(&secret)?;
    for role in ["client", "admin"] {
        let copied = fs::read_to_string(format!("{allow}/{role}/alice.key"))?;
        ensure!(copied.contains(&pair.public.to_string()) && !copied.contains("secret-key"), "{copied}");
        ensure!(!copied.contains(&written(&pair)), "{role}");
    }
    ensure!(!Path::new(&format!("{allow}/worker")).exists());
    // The same again is well; another key under the same name is not.
    ensure!(command(&["allow", &secret_file, "--role", "client", "--dir", &allow])?.code == Some(0));
    let other = folder(&system, "other");
    ensure!(command(&["new", "alice", "--dir", &other])?.code == Some(0));
    let other = command(&["allow", &format!("{other}/alice.key"), "--role", "client", "--dir", &allow])?;
    ensure!(other.code == Some(1) && other.stderr.contains("is another key"), "{other:?}");
    Ok(())
}

#[test]
fn no_secret_is_in_any_output_log_command_line_or_environment() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    system.random(&["1000"])?;
    system.make_keys("nobody")?;
    let nobody = system.key_args("nobody");
    system.begin_as(&strs(&nobody), &["status"])?.finish()?;
    system.reload()?;
    let names = ["broker", "worker-1", "worker-2", "client", "nobody"];
    let files = names.map(|name| system.secret_file(name));
    // A certificate in which the secret is broken, in all programs that would read it.
    let broken = fs::read_to_string(&files[3])?.replace("secret-key = \"", "secret-key = \"~");
    let broken_file = system.folder().join("broken.key_secret");
    fs::write(&broken_file, broken)?;
    fs::set_permissions(&broken_file, fs::Permissions::from_mode(0o600))?;
    let broken = broken_file.display().to_string();
    for program in ["giostra", "giostra-worker"] {
        let ended = run(&system, program, &["--keys", &broken, "--broker-key", &nobody[3], "status"])?;
        ensure!(ended.code != Some(0), "{ended:?}");
    }
    for file in [&broken, &files[3].display().to_string()] {
        run(&system, "giostra", &["keys", "show", file])?;
        run(&system, "giostra", &["keys", "show", file, "--json"])?;
        run(&system, "giostra", &["keys", "allow", file, "--role", "client", "--dir", &folder(&system, "allow-2")])?;
        run(&system, "giostra", &["--keys", file, "--broker-key", file, "status"])?;
    }
    let mut texts = vec![("the log".to_string(), system.log())];
    let batch = start(
        &system,
        "giostra",
        &[&["--broker", system.frontend()], &strs(&system.key_args("client"))[..], &["random", "100000000"]].concat(),
    )?;
    let processes = [system.broker().id(), batch.id()].into_iter().chain(system.worker_ids());
    for process in processes.collect::<Vec<_>>() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{process}/{file}"))?;
            texts.push((format!("{file} of {process}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    drop(batch);
    let mut outputs = 0;
    for entry in fs::read_dir(system.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "out" || ending == "err") {
            texts.push((path.display().to_string(), fs::read_to_string(&path)?));
            outputs += 1;
        }
    }
    ensure!(outputs > 20, "{outputs}");
    for (name, file) in names.iter().zip(&files) {
        let secret = written(&KeyPair::read(file)?);
        ensure!(fs::read_to_string(file)?.contains(&secret), "it would be found");
        // A part of it would help, too.
        for (place, text) in &texts {
            let tail = secret.get(8..).context("it has 40 characters")?;
            ensure!(!text.contains(tail), "the secret of {name} is in {place}");
        }
    }
    Ok(())
}
