//! `just screenshots`: the live page as the docs show it, light and dark: three workers under load,
//! one of them just killed, its requests on their way. It takes four minutes, so that the plots
//! have something to show.
//!
//! Needs a browser (`giostra_tests::browser`). Leaves nothing but the two files.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use giostra_tests::process::wait_for;
use giostra_tests::{Batch, Browser, Setup, System, browser};
use nix::sys::signal::Signal;

/// How long there is load before the picture is taken: first of one client, then of more besides.
const LOADS: [(Duration, &str); 3] =
    [(Duration::from_secs(60), "1"), (Duration::from_secs(90), "2"), (Duration::from_secs(60), "1")];

/// The worker that is killed.
const VICTIM: usize = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("screenshots: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    browser::available()?;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
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
    for (scheme, name) in [("light", "page.png"), ("dark", "page-dark.png")] {
        browser.prefer("prefers-color-scheme", scheme)?;
        browser.wait_until(&format!("matchMedia('(prefers-color-scheme: {scheme})').matches"))?;
        let file = docs.join(name);
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
