//! Keys that are taken away, changed and given again while the broker runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Setup, System};
use giostra_transport::keys::{KeyPair, Role, write_public};
use nix::sys::signal::Signal;

use crate::peer::Peer;
use crate::{check, strs};

/// How long a worker whose key is given again may take to come in by itself.
const SOON: Duration = Duration::from_secs(15);

/// Waits until the broker has read its allow-list by itself, for the `time`th time.
fn was_read(system: &System, time: usize) -> Result<()> {
    wait_for("the list is read", || (system.count(" allowed keys=") == time).then_some(()))
}

/// Makes keys for a client and lets it in.
fn admit(system: &mut System, name: &str) -> Result<Vec<String>> {
    system.make_keys(name)?;
    system.allow(name, Role::Client)?;
    system.reload()?;
    Ok(system.key_args(name))
}

#[test]
fn a_worker_whose_key_is_taken_away_is_dropped_and_comes_back_by_itself_when_it_is_given_again() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let batch = system.begin(&["random", "200000", "--json"])?;
    system.wait_for_line(&[" reply worker-2 "])?;
    fs::remove_file(system.certificate("worker-2", Role::Worker))?;
    system.reload()?;
    let dropped = system.wait_for_line(&[" dropped worker-2 ", "reason=its key is no longer allowed"])?;
    let batch = batch.finish()?.all_well()?;
    ensure!(batch["answered"] == 200_000, "{batch}");
    let after = system.log().split(&*dropped).nth(1).map(String::from).unwrap_or_default();
    ensure!(!after.contains(" dispatch worker-2 ") && !after.contains(" reply worker-2 "), "{after}");
    system.wait_for_line(&[" refuse a worker at 127.0.0.1", "is not allowed"])?;
    ensure!(system.worker(2).is_running());
    system.audit()?;

    let began = Instant::now();
    system.allow("worker-2", Role::Worker)?;
    system.reload()?;
    system.wait_for_registration(2, 2)?;
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let batch = system.random(&["1000"])?;
    ensure!(batch["workers"]["worker-2"] == 500, "{batch}");
    system.audit()?;
    Ok(())
}

#[test]
fn a_client_whose_key_is_taken_away_is_cut_off_and_others_are_not() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let alice = admit(&mut system, "alice")?;
    let others = system.begin(&["random", "200000", "--json"])?;
    let args = ["random", "2000000", "--json", "--broker-timeout", "2s"];
    let batch = system.begin_as(&strs(&alice), &args)?;
    system.wait_for_line(&[" reply ", " c2#"])?;
    fs::remove_file(system.certificate("alice", Role::Client))?;
    system.reload()?;
    let left = system.wait_for_line(&[" client-left c", "reason=its key is no longer allowed"])?;
    let ended = batch.finish()?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("this key is not allowed"), "{ended:?}");
    let summary = ended.json()?;
    ensure!(summary["wrong"] == 0 && summary["duplicated"] == 0 && summary["errors"]["no-broker"] != 0, "{summary}");
    others.finish()?.all_well()?;
    // Nothing of it was accepted afterwards.
    let client = left.split(" client-left ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_string();
    let log = system.log();
    let after = log.split(&*left).nth(1).unwrap_or_default();
    ensure!(!after.contains(&format!(" accept {client}#")), "{after}");
    check(&mut system)?;
    system.audit()?;
    Ok(())
}

#[test]
fn a_client_whose_key_is_allowed_again_in_time_loses_nothing() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let alice = admit(&mut system, "alice")?;
    let batch = system.begin_as(&strs(&alice), &["random", "300000", "--json", "--broker-timeout", "60s"])?;
    system.wait_for_line(&[" reply ", " c1#"])?;
    fs::remove_file(system.certificate("alice", Role::Client))?;
    system.reload()?;
    system.wait_for_line(&[" refuse a client at 127.0.0.1", "is not allowed"])?;
    system.allow("alice", Role::Client)?;
    system.reload()?;
    batch.finish()?.all_well()?;
    system.audit()?;
    Ok(())
}

#[test]
fn other_roles_count_at_once_and_what_is_still_allowed_goes_on() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let alice = admit(&mut system, "alice")?;
    let batch = system.begin_as(&strs(&alice), &["random", "200000", "--json"])?;
    system.wait_for_line(&[" reply ", " c1#"])?;
    system.allow("alice", Role::Admin)?;
    system.reload()?;
    system.wait_for_line(&[" client-left c1 ", "or has other roles now"])?;
    ensure!(system.begin_as(&strs(&alice), &["status"])?.finish()?.code == Some(0));
    batch.finish()?.all_well()?;
    fs::remove_file(system.certificate("alice", Role::Admin))?;
    system.reload()?;
    ensure!(system.begin_as(&strs(&alice), &["status"])?.finish()?.stderr.contains("'admin'"));
    system.audit()?;
    Ok(())
}

#[test]
fn an_unreadable_allow_list_changes_nothing() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let batch = system.begin(&["random", "100000", "--json"])?;
    let broken = system.certificate("broken", Role::Client);
    // A file that somebody is just writing, one of another kind, and one that never ends.
    fs::write(&broken, "")?;
    system.reload()?;
    fs::write(&broken, "curve\n    public-key = \"short\"\n")?;
    system.reload()?;
    fs::remove_file(&broken)?;
    ensure!(Command::new("mkfifo").arg(&broken).status()?.success());
    system.reload()?;
    wait_for("all are in the log", || {
        (system.count("ERROR hangup: those with keys stay as they are: ") == 3).then_some(())
    })?;
    ensure!(system.line(&["broken.key"]).is_some());
    // Nor that of those that were to go with it.
    fs::remove_file(system.certificate("worker-2", Role::Worker))?;
    system.reload()?;
    ensure!(system.count(" dropped ") == 0);
    batch.finish()?.all_well()?;
    check(&mut system)?;
    fs::remove_file(&broken)?;
    system.reload()?;
    system.wait_for_line(&[" dropped worker-2 "])?;
    check(&mut system)
}

#[test]
fn thousands_of_sighups_under_load_disconnect_nobody() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let alice = admit(&mut system, "alice")?;
    let batches = [
        system.begin(&["random", "200000", "--json"])?,
        system.begin_as(&strs(&alice), &["random", "200000", "--json"])?,
    ];
    system.wait_for_line(&[" reply ", " c2#"])?;
    // Others come and go meanwhile, whose descriptors are used again and again.
    let credentials = system.credentials("client")?;
    for round in 0..100 {
        // So many that some come in the middle of a call into libzmq.
        for _ in 0..100 {
            system.broker().signal(Signal::SIGHUP)?;
            thread::sleep(Duration::from_micros(20));
        }
        drop(Peer::client(system.frontend(), Some(&credentials))?);
        if round % 10 == 0 {
            let certificate = system.certificate("worker-2", Role::Worker);
            match certificate.exists() {
                true => fs::remove_file(certificate)?,
                false => system.allow("worker-2", Role::Worker)?,
            }
            system.reload()?;
        }
    }
    ensure!(system.count(" dropped worker-1 ") == 0 && system.count(" dropped worker-2 ") > 0);
    for batch in batches {
        batch.finish()?.all_well()?;
    }
    check(&mut system)?;
    system.audit()?;
    Ok(())
}

#[test]
fn one_key_serves_several_at_once_and_all_of_them_go_with_it() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    let alice = admit(&mut system, "alice")?;
    let credentials = system.credentials("alice")?;
    // A worker's key that is a client's, too, is both, each at its door.
    system.allow("worker-1", Role::Client)?;
    system.reload()?;
    let both = system.key_args("worker-1");
    system.begin_as(&strs(&both), &["random", "1000", "--json"])?.finish()?.all_well()?;
    let two = [(); 2].map(|()| Peer::client(system.frontend(), Some(&credentials)));
    let (two, _): (Vec<_>, Vec<_>) = two.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
    for batch in [(); 2].map(|()| system.begin_as(&strs(&alice), &["random", "20000", "--json"])) {
        batch?.finish()?.all_well()?;
    }
    // All but the two: that a batch's connection has ended, the broker may hear later than this.
    let left = |system: &System| system.count(" client-left ");
    wait_for("the batches have left", || (left(&system) + 2 == system.count(" client-joined ")).then_some(()))?;
    let before = left(&system);
    fs::remove_file(system.certificate("alice", Role::Client))?;
    fs::remove_file(system.certificate("worker-1", Role::Client))?;
    system.reload()?;
    wait_for("both are cut off", || (system.count("its key is no longer allowed") >= 2).then_some(()))?;
    ensure!(system.count(" client-left ") == before + 2 && system.count(" dropped ") == 0);
    drop(two);
    check(&mut system)
}

#[test]
fn a_list_that_changes_is_read_again_by_itself() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    system.make_keys("alice")?;
    system.allow("alice", Role::Client)?;
    was_read(&system, 1)?;
    let alice = system.key_args("alice");
    system.begin_as(&strs(&alice), &["random", "1000", "--json"])?.finish()?.all_well()?;
    fs::remove_file(system.certificate("worker-2", Role::Worker))?;
    system.wait_for_line(&[" dropped worker-2 ", "reason=its key is no longer allowed"])?;
    // Another key in the same file.
    let other = system.make_keys("mallory")?;
    let file = system.certificate("alice", Role::Client);
    fs::write(
        &file,
        fs::read_to_string(&file)?
            .replace(&KeyPair::read(&system.secret_file("alice"))?.public.to_string(), &other.public.to_string()),
    )?;
    was_read(&system, 3)?;
    let refused = system.begin_as(&strs(&alice), &["send", "add", "1", "2"])?.finish()?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("this key is not allowed"), "{refused:?}");
    check(&mut system)?;
    system.audit()?;
    Ok(())
}

#[test]
fn a_mounted_list_is_read_again_when_its_link_is_exchanged() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    system.make_keys("alice")?;
    let own = system.certificate("client", Role::Client);
    let folder = own.parent().context("it is in a folder")?;
    // As the kubelet lays out a mounted secret: folders by version, and links through one of them.
    let version = |name: &str| -> Result<()> {
        fs::create_dir(folder.join(name))?;
        fs::copy(&own, folder.join(name).join("client.key"))?;
        symlink(name, folder.join("..data_tmp"))?;
        Ok(())
    };
    version("..1")?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    fs::remove_file(&own)?;
    symlink("..data/client.key", &own)?;
    symlink("..data/alice.key", folder.join("alice.key"))?;
    system.wait_for_line(&["ERROR allow: those with keys stay as they are: ", "alice.key"])?;
    version("..2")?;
    let alice = KeyPair::read(&system.secret_file("alice"))?.public;
    write_public(&folder.join("..2/alice.key"), "alice", &alice)?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    was_read(&system, 1)?;
    let alice = system.key_args("alice");
    system.begin_as(&strs(&alice), &["random", "1000", "--json"])?.finish()?.all_well()?;
    version("..3")?;
    write_public(&folder.join("..3/alice.key"), "alice", &KeyPair::generate()?.public)?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    was_read(&system, 2)?;
    ensure!(system.begin_as(&strs(&alice), &["send", "add", "1", "2"])?.finish()?.code == Some(1));
    check(&mut system)
}

#[test]
fn a_list_that_breaks_changes_nothing_and_is_told_of_once_until_it_is_mended() -> Result<()> {
    let mut system = Setup::workers(2).secured().start()?;
    let errors = |system: &System| system.count("ERROR allow: those with keys stay as they are: ");
    let broken = system.certificate("broken", Role::Client);
    fs::write(&broken, "curve\n    public-key = \"short\"\n")?;
    fs::remove_file(system.certificate("worker-2", Role::Worker))?;
    system.wait_for_line(&["ERROR allow: those with keys stay as they are: ", "broken.key"])?;
    // It looks, and reads, each second meanwhile.
    let slept = system.run(&["send", "sleep", "3.5"])?;
    ensure!(slept.code == Some(0) && errors(&system) == 1 && system.count(" dropped ") == 0, "{slept:?}");
    let whole = system.allow_dir();
    fs::rename(&whole, whole.with_extension("away"))?;
    wait_for("that there is none is said, too", || (errors(&system) == 2).then_some(()))?;
    check(&mut system)?;
    fs::remove_file(whole.with_extension("away").join("client/broken.key"))?;
    fs::rename(whole.with_extension("away"), &whole)?;
    system.wait_for_line(&[" dropped worker-2 ", "reason=its key is no longer allowed"])?;
    ensure!(errors(&system) == 2);
    check(&mut system)
}
