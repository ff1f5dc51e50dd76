//! `just screenshots`: the live page as the docs show it, light and dark: three workers under load,
//! one of them just killed, its requests on their way; and a thousand workers, some of which are lost.
//! It takes five minutes, so that the plots have something to show.
//!
//! Needs a browser (`giostra_tests::browser`). Leaves nothing but the four files.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use giostra_tests::process::wait_for;
use giostra_tests::{Batch, Browser, Crowd, Setup, System, browser};
use nix::sys::signal::Signal;

/// How long there is load before the picture is taken: first of one client, then of more besides.
const LOADS: [(Duration, &str); 3] =
    [(Duration::from_secs(60), "1"), (Duration::from_secs(90), "2"), (Duration::from_secs(60), "1")];

/// The worker that is killed.
const VICTIM: usize = 2;

/// The stand-ins of the picture of many, those that are lost there, and how many are on a host.
const MANY: [usize; 3] = [1000, 40, 50];

/// How long they have load.
const LOAD_OF_MANY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match browser::available().and_then(|()| few()).and_then(|()| many()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("screenshots: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the pictures of three workers.
fn few() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let browser = Browser::start(1280, 800)?;
    browser.open(&format!("http://{}/", system.http()))?;
    let whole: Duration = LOADS.iter().map(|(length, _)| *length).sum();
    let _load = begin(&mut system, whole * 2, "1")?;
    for (at, (length, clients)) in LOADS.into_iter().enumerate() {
        // Between two of them a worker goes and comes back, so that the plots have that to show, too.
        if at > 0 {
            lose(&mut system)?;
            system.start_worker(VICTIM)?;
        }
        let _more = begin(&mut system, length, clients)?;
        thread::sleep(length);
    }
    // The moment at which its requests are on their way stays, for as long as two pictures take.
    browser.run(
        "const later = (it) => { it.until += 60e3; };
         const held = setInterval(() => {
           if (!document.querySelector('.seat.lost') || !document.querySelector('.move')) return;
           model.moves.forEach(later);
           model.ghosts.forEach(later);
           document.documentElement.dataset.held = '';
           clearInterval(held);
         }, 300);",
    )?;
    lose(&mut system)?;
    browser.wait_until("document.querySelector('[data-held]')")?;
    take(&browser, ["page.png", "page-dark.png"])
}

/// Takes the pictures of a thousand workers.
fn many() -> Result<()> {
    let [workers, lost, per_host] = MANY;
    let mut system = Setup::workers(0).watched().start()?;
    let _crowd = Crowd::on_hosts(system.backend(), "compute", workers, per_host);
    let gone = Crowd::on_hosts(system.backend(), "compute", lost, per_host);
    let browser = Browser::start(1280, 1200)?;
    browser.open(&format!("http://{}/", system.http()))?;
    let length = format!("{}s", (LOAD_OF_MANY * 2).as_secs());
    let _load = system.begin(&["bench", "--duration", &length, "--size", "64", "--window", "3000"])?;
    thread::sleep(LOAD_OF_MANY);
    drop(gone);
    browser.wait_until(&format!("document.querySelector('#workers-title').innerText.endsWith(', {lost} lost')"))?;
    take(&browser, ["page-many.png", "page-many-dark.png"])
}

fn take(browser: &Browser, [light, dark]: [&str; 2]) -> Result<()> {
    for (scheme, name) in [("light", light), ("dark", dark)] {
        browser.prefer("prefers-color-scheme", scheme)?;
        browser.wait_until(&format!("matchMedia('(prefers-color-scheme: {scheme})').matches"))?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        fs::write(&file, browser.screenshot()?).with_context(|| file.display().to_string())?;
        println!("docs/{name}");
    }
    Ok(())
}

fn begin(system: &mut System, length: Duration, clients: &str) -> Result<Batch> {
    let length = format!("{}s", length.as_secs());
    system.begin(&["bench", "--duration", &length, "--clients", clients, "--window", "4096"])
}

/// Kills the worker while its window is full, so that there is something to see.
fn lose(system: &mut System) -> Result<()> {
    system.worker(VICTIM).signal(Signal::SIGSTOP)?;
    wait_for("it holds requests", || {
        let snapshot = system.snapshot().ok()?;
        let workers = snapshot["workers"].as_array()?;
        let victim = workers.iter().find(|worker| worker["name"] == format!("worker-{VICTIM}"))?;
        (victim["in_flight"].as_u64() >= victim["window"].as_u64()).then_some(())
    })?;
    system.kill_worker(VICTIM)
}
