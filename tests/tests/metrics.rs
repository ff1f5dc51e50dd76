//! Metrics as Prometheus reads them: well-formed, named by its conventions, and in agreement with
//! what has happened.
//!
//! Where the machine has no Prometheus, the tests that need its programs count as ignored.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use giostra_client::{JobOptions, body};
use giostra_tests::process::wait_for;
use giostra_tests::{Process, Setup, System, test, trials};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

fn main() -> ExitCode {
    trials::run(&[
        test!(promtool_has_nothing_to_complain_about needs promtool),
        test!(a_prometheus_reads_them_and_sees_a_worker_go needs prometheus),
        test!(they_agree_with_what_a_batch_did needs trials::anywhere),
        test!(a_killed_worker_is_down_until_it_is_back_and_no_count_goes_down needs trials::anywhere),
        test!(of_two_namesakes_the_lost_one_is_missed needs trials::anywhere),
        test!(a_pool_that_empties_keeps_its_counts needs trials::anywhere),
        test!(they_agree_with_what_jobs_did_and_outlive_no_broker needs trials::anywhere),
        test!(many_who_look_see_the_same_longest_sync needs trials::anywhere),
        test!(whatever_the_dashboard_asks_for_is_there needs trials::anywhere),
        test!(no_panel_of_the_dashboard_hides_another needs trials::anywhere),
    ])
}

fn promtool() -> Result<()> {
    trials::program("promtool", "prometheus").map(drop)
}

fn prometheus() -> Result<()> {
    trials::program("prometheus", "prometheus").map(drop)
}

fn promtool_has_nothing_to_complain_about() -> Result<()> {
    let store = TempDir::new()?;
    let mut system = with_store(3, &store)?;
    check(&system.get("/metrics")?)?;
    let mut odd = Vec::new();
    for name in ["\"quoted\"", "back\\slash\\", "ünïcödé-工-🎠", "{a,\"b\"}", "\\n#"] {
        odd.push(system.other_worker(name, "compute")?);
        odd.push(system.other_worker("twin", name)?);
    }
    odd.push(system.other_worker("twin", "compute")?);
    odd.push(system.other_worker("twin", "compute")?);
    system.random(&["5000"])?;
    system.random(&["500", "--pool", "{a,\"b\"}"])?;
    system.kill_worker(3)?;
    odd.truncate(5);
    wait_for("they are lost", || (system.snapshot().ok()?["lost"].as_array()?.len() >= 4).then_some(()))?;
    let text = system.get("/metrics")?;
    ensure!(text.contains("\ngiostra_store_sync_seconds_count "), "{text}");
    ensure!(text.contains("worker=\"back\\\\slash\\\\\"") && text.contains("worker=\"\\\"quoted\\\"\""), "{text}");
    check(&text)
}

fn a_prometheus_reads_them_and_sees_a_worker_go() -> Result<()> {
    let mut system = Setup::workers(2).watched().start()?;
    system.random(&["1000"])?;
    let prometheus = Prometheus::start(&system)?;
    let up = r#"giostra_worker_up{worker="worker-2"}"#;
    prometheus.wait_for(up, "1")?;
    prometheus.wait_for(r#"sum(giostra_requests_total{outcome="succeeded"})"#, "1000")?;
    prometheus.wait_for("sum by (pool) (giostra_request_seconds_count)", "1000")?;
    system.kill_worker(2)?;
    prometheus.wait_for(up, "0")?;
    system.start_worker(2)?;
    prometheus.wait_for(up, "1")
}

fn they_agree_with_what_a_batch_did() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    system.random(&["1000"])?;
    for _ in 0..7 {
        let failed = system.run(&["send", "div", "1", "0"])?;
        ensure!(failed.code == Some(1), "{failed:?}");
    }
    let expired = system.run(&["send", "add", "1", "2", "--pool", "nobody", "--timeout", "100ms"])?;
    ensure!(expired.code == Some(1), "{expired:?}");
    let series = series(&system)?;
    let of = |name: &str| series.get(name).copied();
    for (outcome, count) in
        [("succeeded", 1000.0), ("failed", 7.0), ("expired", 0.0), ("poisoned", 0.0), ("cancelled", 0.0)]
    {
        assert_eq!(
            of(&format!("giostra_requests_total{{pool=\"compute\",outcome=\"{outcome}\"}}")),
            Some(count),
            "{outcome}"
        );
    }
    assert_eq!(of(r#"giostra_requests_total{pool="nobody",outcome="expired"}"#), Some(1.0));
    for name in ["giostra_requests_accepted_total", "giostra_dispatches_total", "giostra_request_seconds_count"] {
        assert_eq!(of(&format!("{name}{{pool=\"compute\"}}")), Some(1007.0), "{name}");
    }
    assert_eq!(of(r#"giostra_request_seconds_bucket{pool="compute",le="+Inf"}"#), Some(1007.0));
    assert_eq!(of(r#"giostra_request_seconds_count{pool="nobody"}"#), Some(0.0));
    assert_eq!(sum(&series, "giostra_worker_answered_total"), 1007.0);
    assert_eq!(of(r#"giostra_workers{pool="compute",state="idle"}"#), Some(3.0));
    Ok(())
}

fn a_killed_worker_is_down_until_it_is_back_and_no_count_goes_down() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let batch = system.begin(&["random", "300000", "--json"])?;
    let up = r#"giostra_worker_up{pool="compute",worker="worker-2"}"#;
    wait_for("it is under way", || (sum(&series(&system).ok()?, "giostra_requests_total") > 1000.0).then_some(()))?;
    system.worker(2).signal(Signal::SIGSTOP)?;
    let mut before = series(&system)?;
    assert_eq!(before.get(up), Some(&1.0));
    let mut look = |system: &System| -> Result<f64> {
        let now = series(system)?;
        for (name, value) in before.iter().filter(|(name, _)| counts(name)) {
            match now.get(name) {
                Some(now) => ensure!(now >= value, "{name} was {value} and is {now}"),
                // Of a worker that is lost they pause, and go on from there when it is back.
                None => ensure!(name.starts_with("giostra_worker_"), "{name} is gone"),
            }
        }
        before.extend(now);
        Ok(before[up])
    };
    system.kill_worker(2)?;
    wait_for("it is down", || (look(&system).expect("counts go up") == 0.0).then_some(()))?;
    system.launch_worker(2)?;
    // One of a name that is there already.
    let mut twin = system.other_worker("worker-1", "compute")?;
    wait_for("it is up", || (look(&system).expect("counts go up") == 1.0).then_some(()))?;
    batch.finish()?.all_well()?;
    look(&system)?;
    twin.signal(Signal::SIGTERM)?;
    twin.wait()?;
    // What is served may be a quarter of a second old.
    let ended = |series: &BTreeMap<String, f64>| sum(series, "giostra_requests_total") == 300_000.0;
    wait_for("all are counted", || ended(&series(&system).ok()?).then_some(()))?;
    look(&system)?;
    assert_eq!(sum(&before, "giostra_requests_total"), 300_000.0);
    assert_eq!(sum(&before, "giostra_worker_answered_total"), 300_000.0);
    assert_eq!(sum(&before, "giostra_redispatches_total"), sum(&before, "giostra_worker_redispatched_total"));
    Ok(())
}

fn of_two_namesakes_the_lost_one_is_missed() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let twin = system.other_worker("worker-1", "compute")?;
    let both = |system: &System| {
        let all = series(system).expect("it is served");
        let of = |name: &str| all.get(&format!("{name}{{pool=\"compute\",worker=\"worker-1\"}}")).copied();
        (of("giostra_worker_up"), of("giostra_worker_lost"))
    };
    wait_for("both are up", || (both(&system) == (Some(2.0), Some(0.0))).then_some(()))?;
    drop(twin);
    wait_for("one is missed", || (both(&system) == (Some(1.0), Some(1.0))).then_some(()))?;
    let _back = system.other_worker("worker-1", "compute")?;
    wait_for("none is missed", || (both(&system) == (Some(2.0), Some(0.0))).then_some(()))
}

fn a_pool_that_empties_keeps_its_counts() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let mut only = system.other_worker("only", "nightly")?;
    system.random(&["100", "--pool", "nightly"])?;
    only.signal(Signal::SIGTERM)?;
    only.wait()?;
    wait_for("the pool is gone", || (system.snapshot().ok()?["pools"].as_array()?.len() == 1).then_some(()))?;
    let series = series(&system)?;
    assert_eq!(series.get(r#"giostra_requests_total{pool="nightly",outcome="succeeded"}"#), Some(&100.0));
    assert_eq!(series.get(r#"giostra_request_seconds_count{pool="nightly"}"#), Some(&100.0));
    assert_eq!(series.get(r#"giostra_worker_up{pool="nightly",worker="only"}"#), None, "it left, and was not lost");
    Ok(())
}

fn they_agree_with_what_jobs_did_and_outlive_no_broker() -> Result<()> {
    let store = TempDir::new()?;
    let mut system = with_store(1, &store)?;
    let before = series(&system)?;
    for name in ["giostra_jobs{state=\"open\"}", "giostra_job_requests_total{what=\"saved\"}"] {
        assert_eq!(before.get(name), Some(&0.0), "{name} is there from the start");
    }
    let submit = |system: &mut System, args: &[&str]| -> Result<String> {
        let submitted = system.run(&[&["submit"], args].concat())?;
        ensure!(submitted.code == Some(0), "{submitted:?}");
        Ok(submitted.stdout.trim().into())
    };
    let done = submit(&mut system, &["add", "1", "2"])?;
    let options = JobOptions::default().retries(1);
    let failed = system.client()?.submit_job(options, [body("div", &[1, 0])?])?;
    system.run(&["wait", &done, &failed.to_string()])?;
    let cancelled = submit(&mut system, &["add", "1", "2", "--pool", "nobody"])?;
    submit(&mut system, &["add", "3", "4", "--pool", "nobody"])?;
    ensure!(system.run(&["cancel", &cancelled])?.code == Some(0));
    let expected = [
        (r#"giostra_jobs{state="running"}"#, 1.0),
        (r#"giostra_jobs{state="open"}"#, 0.0),
        (r#"giostra_job_events_total{event="submitted"}"#, 4.0),
        (r#"giostra_job_events_total{event="restored"}"#, 0.0),
        (r#"giostra_job_events_total{event="finished"}"#, 2.0),
        (r#"giostra_job_events_total{event="cancelled"}"#, 1.0),
        (r#"giostra_job_requests_total{what="saved"}"#, 4.0),
        (r#"giostra_job_requests_total{what="succeeded"}"#, 1.0),
        (r#"giostra_job_requests_total{what="failed"}"#, 1.0),
        (r#"giostra_job_requests_total{what="retried"}"#, 1.0),
        (r#"giostra_requests_total{pool="compute",outcome="succeeded"}"#, 1.0),
        ("giostra_store_full", 0.0),
        ("giostra_store_failed", 0.0),
    ];
    wait_for_series(&system, &expected)?;
    let now = series(&system)?;
    let (syncs, took) = (now["giostra_store_sync_seconds_count"], now["giostra_store_sync_seconds_sum"]);
    ensure!(syncs >= 8.0 && took > 0.0 && now["giostra_store_bytes"] > 0.0, "{now:?}");
    ensure!((took / syncs..=took).contains(&now["giostra_store_longest_sync_seconds"]), "{now:?}");

    system.kill_broker()?;
    system.start_broker()?;
    let restored = [
        (r#"giostra_jobs{state="running"}"#, 1.0),
        (r#"giostra_job_events_total{event="restored"}"#, 1.0),
        (r#"giostra_job_events_total{event="submitted"}"#, 0.0),
        (r#"giostra_job_requests_total{what="saved"}"#, 0.0),
    ];
    wait_for_series(&system, &restored)
}

fn many_who_look_see_the_same_longest_sync() -> Result<()> {
    let store = TempDir::new()?;
    let mut system = with_store(1, &store)?;
    ensure!(system.run(&["submit", "add", "1", "2", "--pool", "nobody"])?.code == Some(0));
    let longest = |system: &System| Some(system.snapshot().ok()?["jobs"]["store"]["longest_us"].as_u64()? as f64 / 1e6);
    let first = wait_for("it has synced", || longest(&system).filter(|&longest| longest > 0.0))?;
    // A terminal, and a page's next snapshots.
    for _ in 0..3 {
        let terminal = system.run(&["status", "--json"])?.json()?;
        ensure!(terminal["jobs"]["store"]["longest_us"].as_f64() >= Some(first * 1e6), "{terminal}");
        let before = system.snapshot()?["uptime_ms"].as_u64();
        wait_for("the next snapshot", || (system.snapshot().ok()?["uptime_ms"].as_u64() > before).then_some(()))?;
    }
    let scraped = series(&system)?["giostra_store_longest_sync_seconds"];
    ensure!(scraped >= first, "{scraped} after {first}");
    Ok(())
}

fn whatever_the_dashboard_asks_for_is_there() -> Result<()> {
    let store = TempDir::new()?;
    let mut system = with_store(2, &store)?;
    system.random(&["100"])?;
    system.kill_worker(2)?;
    wait_for("it is lost", || (system.snapshot().ok()?["lost"].as_array()?.len() == 1).then_some(()))?;
    let text = system.get("/metrics")?;
    let dashboard = dashboard()?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let queries: Vec<_> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["expr"].as_str())
        .chain(
            dashboard["templating"]["list"].as_array().into_iter().flatten().filter_map(|it| it["definition"].as_str()),
        )
        .collect();
    ensure!(queries.len() > 10, "{queries:?}");
    for query in queries {
        let asked = asked(query);
        ensure!(!asked.is_empty(), "{query}");
        for (name, labels) in asked {
            let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let series: Vec<_> = text.lines().filter(of_name).collect();
            ensure!(!series.is_empty(), "the dashboard asks for {name}, which is not in {text}");
            // Prometheus adds where it has it from, and what begins with $ is filled in by whoever looks.
            for (label, value) in labels.into_iter().filter(|(label, _)| !["job", "instance"].contains(label)) {
                let wanted = match value.filter(|value| !value.starts_with('$')) {
                    Some(value) => format!("{label}=\"{value}\""),
                    None => format!("{label}=\""),
                };
                let has = |line: &&str| line.contains(&format!("{{{wanted}")) || line.contains(&format!(",{wanted}"));
                ensure!(
                    series.iter().any(has),
                    "the dashboard asks for {name} with {wanted}, which is not in {series:#?}"
                );
            }
        }
    }
    Ok(())
}

fn no_panel_of_the_dashboard_hides_another() -> Result<()> {
    let dashboard = dashboard()?;
    let (mut ids, mut taken) = (BTreeMap::new(), BTreeMap::new());
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = &panel["title"];
        let twin = ids.insert(panel["id"].as_u64().context("an id")?, title);
        ensure!(twin.is_none(), "{title} and {twin:?} have one id");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|of| panel["gridPos"][of].as_u64().unwrap_or(u64::MAX / 2));
        ensure!(x + w <= 24, "{title} is beyond the edge");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = taken.insert(place, title);
            ensure!(other.is_none(), "{title} lies upon {other:?}");
        }
    }
    ensure!(dashboard["panels"].to_string().contains("by host"), "it has no panel of hosts");
    Ok(())
}

fn dashboard() -> Result<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana.json");
    Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
}

/// A Prometheus that reads the broker's metrics four times a second. It ends when this is dropped.
struct Prometheus {
    process: Process,
    address: String,
}

impl Prometheus {
    fn start(system: &System) -> Result<Self> {
        let settings = json!({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{"job_name": "giostra", "static_configs": [{"targets": [system.http()]}]}],
        });
        let file = system.folder().join("prometheus.yml");
        // YAML takes JSON.
        fs::write(&file, settings.to_string())?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", system.folder().join("prometheus").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"]);
        let mut process = Process::spawn(system.folder(), "prometheus", command)?;
        let address = wait_for("prometheus listens", || {
            assert!(process.is_running(), "{}", process.stderr());
            let said = process.stderr();
            let line = said.lines().find(|line| line.contains("Listening on"))?;
            let said: Value = serde_json::from_str(line).ok()?;
            said["address"].as_str().filter(|address| !address.ends_with(":0")).map(String::from)
        })?;
        Ok(Self { process, address })
    }

    /// Waits until a query has one result, with this value.
    fn wait_for(&self, query: &str, value: &str) -> Result<()> {
        let url = format!("http://{}/api/v1/query", self.address);
        let mut last = Value::Null;
        let waited = wait_for(query, || {
            let mut response = ureq::get(&url).query("query", query).call().ok()?;
            last = serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?;
            let result = &last["data"]["result"];
            (result.as_array()?.len() == 1 && result[0]["value"][1] == value).then_some(())
        });
        waited.with_context(|| format!("{last}; {}", self.process.stderr()))
    }
}

/// Has promtool check them.
fn check(text: &str) -> Result<()> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut stdin, text_) = (promtool.stdin.take().context("its stdin")?, text.to_string());
    let writer = thread::spawn(move || stdin.write_all(text_.as_bytes()));
    let output = promtool.wait_with_output()?;
    writer.join().expect("it does not panic")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Starts a system whose broker serves metrics, and keeps jobs in this folder.
fn with_store(workers: usize, folder: &TempDir) -> Result<System> {
    let store = folder.path().join("store").display().to_string();
    Setup::workers(workers).watched().broker(&["--store", &store]).start()
}

/// Waits until series have these values: what is served may be a quarter of a second old.
fn wait_for_series(system: &System, expected: &[(&str, f64)]) -> Result<()> {
    let mut last = BTreeMap::new();
    let waited = wait_for("the series", || {
        last = series(system).ok()?;
        expected.iter().all(|(name, value)| last.get(*name) == Some(value)).then_some(())
    });
    waited.with_context(|| format!("{expected:?} in {last:#?}"))
}

/// Each series with its value.
fn series(system: &System) -> Result<BTreeMap<String, f64>> {
    let text = system.get("/metrics")?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context("a value")?;
            Ok((name.to_string(), value.parse().with_context(|| line.to_string())?))
        })
        .collect()
}

/// Of all series of a name.
fn sum(series: &BTreeMap<String, f64>, name: &str) -> f64 {
    series.iter().filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, value)| value).sum()
}

/// Whether a series never goes down.
fn counts(series: &str) -> bool {
    let name = series.split('{').next().unwrap_or_default();
    ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
}

/// A metric, and the labels that are asked of it, with the values if only some are meant.
type Asked<'a> = (&'a str, Vec<(&'a str, Option<&'a str>)>);

/// The labels and values that are asked of each metric in a query, and the labels by which it is
/// summed.
fn asked(query: &str) -> Vec<Asked<'_>> {
    let by = query.split(" by (").skip(1).filter_map(|rest| rest.split(')').next()).flat_map(|by| by.split(", "));
    let by: Vec<_> = by.map(|label| (label, None)).collect();
    let mut asked = Vec::new();
    for (at, _) in query.match_indices("giostra_") {
        let of = &query[at..];
        let end = of.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(of.len());
        let selector = of[end..].strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let wanted = selector.split(',').filter_map(|it| it.split_once('='));
        let wanted = wanted.map(|(label, value)| (label, value.strip_prefix('"').map(|value| value.trim_matches('"'))));
        asked.push((&of[..end], wanted.chain(by.iter().copied()).collect()));
    }
    asked
}
