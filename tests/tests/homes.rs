//! Durable jobs of several brokers: each has a home, and every command with that broker in its list
//! finds it there.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use giostra_client::{Client, Error, JobId, JobOptions, JobState, Options, SharedClient, body, result};
use giostra_tests::process::{Process, binary, wait_for};
use giostra_tests::system::Finished;
use giostra_tests::{Brokers, Setup};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Two brokers that keep jobs, and workers of both.
struct Bench {
    brokers: Brokers,
    /// Of the stores.
    _folder: TempDir,
}

impl Bench {
    fn start(workers: usize) -> Result<Self> {
        let folder = TempDir::new()?;
        let setup = |name: &str| {
            let store = folder.path().join(name).display().to_string();
            Setup::workers(0).broker(&["--store", &store])
        };
        let brokers = Brokers::start(vec![setup("a"), setup("b")], workers, &[])?;
        Ok(Self { brokers, _folder: folder })
    }

    /// Two brokers, of which the first is killed, and a job of its.
    fn with_one_away() -> Result<(Self, JobId)> {
        let mut bench = Self::start(0)?;
        let id = bench.submit_at(0, "7")?;
        bench.brokers.broker(0).kill_broker()?;
        Ok((bench, id))
    }

    /// Submits a job of one request at this broker alone.
    fn submit_at(&mut self, broker: usize, argument: &str) -> Result<JobId> {
        let submitted = self.brokers.broker(broker).run(&["submit", "is_prime", argument])?;
        Ok(well(submitted)?.trim().parse()?)
    }

    /// The number of jobs at each broker.
    fn counts(&mut self) -> Result<Vec<usize>> {
        let jobs = self.brokers.run(&["jobs", "--json"])?;
        let json = serde_json::from_str::<serde_json::Value>(&well(jobs)?)?;
        let brokers = json["brokers"].as_array().context("no brokers")?;
        brokers.iter().map(|one| Ok(one["jobs"].as_array().context("no jobs")?.len())).collect()
    }

    /// The list the other way round.
    fn reversed(&self) -> String {
        let frontends = self.brokers.frontends();
        let (a, b) = frontends.split_once(',').expect("two brokers");
        format!("{b},{a}")
    }

    fn options(&self) -> Options {
        Options::new(self.brokers.frontends())
    }
}

/// Returns what a command printed that succeeded.
fn well(ended: Finished) -> Result<String> {
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(ended.stdout)
}

#[test]
fn each_command_about_a_job_finds_its_home_wherever_that_is_in_the_list() -> Result<()> {
    let mut bench = Bench::start(1)?;
    let ids = [bench.submit_at(0, "7")?.to_string(), bench.submit_at(1, "8")?.to_string()];
    let waited = bench.brokers.run(&["wait", &ids[1], &ids[0], "--json"])?;
    assert_eq!(waited.code, Some(0), "{waited:?}");
    for (id, expected) in ids.iter().zip(["true\n", "false\n"]) {
        assert_eq!(well(bench.brokers.run(&["collect", id])?)?, expected);
        let job = bench.brokers.run(&["job", id, "--json"])?;
        assert_eq!(job.json()?["state"], "finished", "{job:?}");
    }
    let table = well(bench.brokers.run(&["jobs"])?)?;
    let frontends = bench.brokers.frontends();
    let places = frontends.split(',').zip(&ids).flat_map(|(broker, id)| [table.find(broker), table.find(id)]);
    let places: Option<Vec<_>> = places.collect();
    ensure!(places.is_some_and(|places| places.is_sorted()), "{table}");

    well(bench.brokers.run(&["collect", &ids[1], "--delete"])?)?;
    assert_eq!(bench.counts()?, [1, 0]);
    let gone = bench.brokers.run(&["wait", &ids[1]])?;
    ensure!(gone.code == Some(1) && gone.stderr.contains("there is no job"), "{gone:?}");
    let unknown = bench.brokers.run(&["job", "00000001-1"])?;
    ensure!(
        unknown.code == Some(1) && unknown.stderr.contains("none of these brokers has job 00000001-1"),
        "{unknown:?}"
    );
    Ok(())
}

#[test]
fn the_same_key_is_the_same_job_whatever_the_order_of_the_list_and_whoever_is_gone() -> Result<()> {
    let mut bench = Bench::start(1)?;
    let submit = |client: &mut Client, key: &str| {
        client.submit_job(JobOptions::default().key(key), [body("add", &[1, 2]).expect("numbers can be encoded")])
    };
    let mut client = Client::connect(bench.options())?;
    let mut other = Client::connect(Options::new(bench.reversed().replace("tcp://", "")).spread(true))?;
    let mut homes = Vec::new();
    for key in 0..30 {
        let key = format!("night-{key}");
        let id = submit(&mut client, &key)?;
        assert_eq!(submit(&mut other, &key)?, id, "key {key}");
        homes.push((key, id.home));
    }
    let counts = bench.counts()?;
    ensure!(counts.iter().sum::<usize>() == 30 && !counts.contains(&0), "{counts:?}");

    let home = bench.submit_at(0, "7")?.home;
    bench.brokers.broker(0).kill_broker()?;
    let key_of =
        |at_first: bool| homes.iter().find(|(_, it)| (*it == home) == at_first).expect("keys of both").0.clone();
    assert_ne!(submit(&mut client, &key_of(false))?.home, home);
    let options = bench.options().broker_timeout(std::time::Duration::from_secs(1));
    let away = submit(&mut Client::connect(options)?, &key_of(true)).expect_err("its home is gone").to_string();
    let first = bench.brokers.frontends().split(',').next().unwrap_or_default().to_string();
    ensure!(away.starts_with(&format!("no broker at {first} within 1s")), "{away}");
    Ok(())
}

#[test]
fn while_its_home_is_away_a_job_is_waited_for_and_the_others_go_on() -> Result<()> {
    let mut bench = Bench::start(1)?;
    let ids = [bench.submit_at(0, "7")?.to_string(), bench.submit_at(1, "8")?.to_string()];
    bench.brokers.broker(0).kill_broker()?;
    assert_eq!(well(bench.brokers.run(&["collect", &ids[1]])?)?, "false\n");
    let away = bench.brokers.run(&["collect", &ids[0], "--broker-timeout", "3s"])?;
    let first = bench.brokers.frontends().split(',').next().unwrap_or_default().to_string();
    let said = format!("no broker at {first} within 3s (none of the others has job {})", ids[0]);
    ensure!(away.code == Some(1) && away.stderr.contains(&said), "{away:?}");
    let jobs = bench.brokers.run(&["jobs"])?;
    ensure!(jobs.code == Some(1) && jobs.stdout.contains(&ids[1]), "{jobs:?}");
    ensure!(jobs.stdout.contains(&format!("no broker at {first}")), "{jobs:?}");

    // A new job goes to the broker that is there.
    let id: JobId = well(bench.brokers.run(&["submit", "add", "1", "2"])?)?.trim().parse()?;
    assert_eq!(id.home, ids[1].parse::<JobId>()?.home);

    let mut waiting = bench.brokers.begin(&["wait", &ids[0], "--broker-timeout", "60s"])?;
    let absent = format!("waiting for a broker at {first}");
    wait_for("it waits", || waiting.process().stderr().contains(&absent).then_some(()))?;
    bench.brokers.broker(0).start_broker()?;
    well(waiting.finish()?)?;
    bench.brokers.broker(0).audit()?;
    bench.brokers.broker(1).audit()?;
    Ok(())
}

#[test]
fn a_shared_client_asks_each_job_s_home() -> Result<()> {
    let mut bench = Bench::start(1)?;
    let ids = [bench.submit_at(0, "7")?, bench.submit_at(1, "8")?];
    let client = SharedClient::connect(bench.options())?;
    let ended: Vec<_> = ids.iter().map(|&id| client.job(id).wait_for_end()).collect();
    for (id, ended) in ids.iter().zip(ended) {
        assert_eq!(ended.wait()?.id, *id);
    }
    let results = client.job(ids[1]).results(0).wait()?;
    ensure!(!result::<bool>(results[0].outcome.clone())?, "8 is no prime");
    let mut jobs: Vec<_> = client.jobs().wait()?.iter().map(|job| job.id).collect();
    jobs.sort_by_key(|id| *id != ids[0]);
    assert_eq!(jobs, ids);
    let unknown = client.job(JobId { home: 1, number: 1 }).status().wait();
    ensure!(matches!(&unknown, Err(Error::Refused(why)) if why.contains("none of these brokers")), "{unknown:?}");
    let key = || JobOptions::default().key("night");
    let submitted = [(); 2].map(|()| client.submit_job(key(), [body("add", &[1, 2]).expect("numbers")]));
    let [first, second] = submitted.map(giostra_client::Asked::wait);
    assert_eq!(first?, second?);

    let slow = client.submit_job(JobOptions::default(), [body("sleep", &[600])?]).wait()?;
    let waiting = client.job(slow).wait_for_end();
    client.job(slow).cancel().wait()?;
    assert_eq!(waiting.wait()?.state, JobState::Cancelled);

    bench.brokers.broker(0).kill_broker()?;
    assert_eq!(client.job(ids[1]).status().wait()?.id, ids[1]);
    bench.brokers.broker(0).start_broker()?;
    assert_eq!(client.job(ids[0]).status().wait()?.id, ids[0]);
    Ok(())
}

#[test]
fn a_shared_client_whose_home_is_away_says_which_and_finds_it_again() -> Result<()> {
    let (mut bench, id) = Bench::with_one_away()?;
    let client = SharedClient::connect(bench.options().broker_timeout(std::time::Duration::from_secs(1)))?;
    let away = client.job(id).status().wait();
    ensure!(
        matches!(&away, Err(Error::NoBroker { why: Some(why), .. }) if why.contains("none of the others")),
        "{away:?}"
    );
    ensure!(matches!(client.jobs().wait(), Err(Error::NoBroker { .. })), "a list is not whole");
    bench.brokers.broker(0).start_broker()?;
    // Until it is connected again, the broker has been away for too long.
    wait_for("the job", || client.job(id).status().wait().ok())?;
    Ok(())
}

#[test]
fn the_job_of_a_map_that_is_interrupted_is_found_by_the_list_that_the_map_had() -> Result<()> {
    let mut bench = Bench::start(1)?;
    let mut command = Command::new(binary("giostra")?);
    command.args(["--broker", &bench.brokers.frontends(), "map", "sleep", "--detach"]);
    let mut map = Process::spawn_with(bench.brokers.folder(), "map", command, Stdio::piped())?;
    let mut pipe = map.stdin().context("a pipe")?;
    std::io::Write::write_all(&mut pipe, b"0.25\n0.5\n0.01\n")?;
    wait_for("the first result", || (map.stdout() == "0.25\n").then_some(()))?;
    map.signal(Signal::SIGINT)?;
    drop(pipe);
    ensure!(map.wait()?.success(), "{}", map.stderr());
    let said = map.stderr();
    let id =
        said.split_once("handed over as job ").context("no job")?.1.split(':').next().context("no id")?.to_string();
    well(bench.brokers.run(&["wait", &id])?)?;
    assert_eq!(well(bench.brokers.run(&["collect", &id])?)?, "0.5\n0.01\n");
    assert_eq!(bench.counts()?.iter().sum::<usize>(), 1);
    Ok(())
}

#[test]
fn a_question_that_waits_for_its_home_ends_when_its_client_does() -> Result<()> {
    let (bench, id) = Bench::with_one_away()?;
    let stop = giostra_client::Shutdown::new()?;
    let client = SharedClient::connect(bench.options().shutdown(stop.clone()))?;
    let asked = [client.job(id).status(), client.job(id).wait_for_end()];
    let all = client.jobs();
    stop.request();
    for asked in asked {
        ensure!(matches!(asked.wait(), Err(Error::Ended(_))), "it has an answer");
    }
    ensure!(all.wait().is_err(), "it has an answer, too");
    Ok(())
}
