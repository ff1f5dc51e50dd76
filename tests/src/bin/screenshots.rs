//! `just screenshots`: the live page as the docs show it, light and dark: six workers under load, one of them just killed.
//!
//! Needs a browser (`giostra_tests::browser`). Leaves nothing but the two files.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use giostra_tests::process::wait_for;
use giostra_tests::{Browser, Setup, browser};
use nix::sys::signal::Signal;

/// How long there is load before the worker is killed, and how long after that the picture is taken.
const BEFORE: Duration = Duration::from_secs(40);
const AFTER: Duration = Duration::from_millis(900);

/// The worker that is killed.
const VICTIM: usize = 3;

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
    let mut system = Setup::workers(6).watched().start()?;
    let browser = Browser::start(1280, 800)?;
    browser.open(&format!("http://{}/", system.http()))?;
    let _load = system.begin(&["bench", "--duration", "120s", "--clients", "2"])?;
    for (scheme, name) in [("light", "page.png"), ("dark", "page-dark.png")] {
        browser.prefer("prefers-color-scheme", scheme)?;
        std::thread::sleep(BEFORE);
        // Its window is to be full, so that there is something to see.
        system.worker(VICTIM).signal(Signal::SIGSTOP)?;
        wait_for("it holds requests", || {
            let snapshot = system.snapshot().ok()?;
            let workers = snapshot["workers"].as_array()?;
            let victim = workers.iter().find(|worker| worker["name"] == format!("worker-{VICTIM}"))?;
            (victim["in_flight"].as_u64() >= victim["window"].as_u64()).then_some(())
        })?;
        system.kill_worker(VICTIM)?;
        browser.wait_until("document.querySelector('.seat.lost')")?;
        std::thread::sleep(AFTER);
        let file = docs.join(name);
        fs::write(&file, browser.screenshot()?).with_context(|| file.display().to_string())?;
        println!("docs/{name}");
        system.start_worker(VICTIM)?;
    }
    Ok(())
}
