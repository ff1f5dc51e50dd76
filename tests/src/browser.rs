//! A real browser without a screen, told by [WebDriver](https://www.w3.org/TR/webdriver2/) what to do: Debian's chromium, by its
//! `chromium-driver`.
//!
//! Needs both; `just test` installs them where it can, and [`available`] says what is missing.
//! Knows nothing of the page.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::Request;

use crate::process::{PATIENCE, Process, wait_for};
use crate::trials::{self, Missing};

/// The tabulator, as WebDriver names keys.
pub const TAB: &str = "\u{E004}";

/// The enter key.
pub const ENTER: &str = "\u{E007}";

const DRIVER: &str = "chromedriver";
/// How often a driver is started if it does not find a port.
const STARTS: u32 = 5;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Whether this machine has a browser, and what drives it.
pub fn available() -> Result<()> {
    driver()?;
    browser().map(drop)
}

fn driver() -> Result<PathBuf> {
    trials::program(DRIVER, "chromium-driver")
}

fn browser() -> Result<PathBuf> {
    let found = BROWSERS.iter().find_map(|name| trials::program(name, "chromium").ok());
    found.ok_or_else(|| Missing(format!("there is none of {BROWSERS:?}; install chromium")).into())
}

/// Starts a driver; the port that it listens on.
///
/// The system picks one for its IPv6 socket, and it ends at once if somebody has the same of IPv4:
/// then another is tried.
fn drive(folder: &Path) -> Result<(Process, u16)> {
    for _ in 0..STARTS {
        let mut command = Command::new(driver()?);
        command.arg("--port=0").env("HOME", folder).env("TMPDIR", folder).process_group(0);
        let mut driver = Process::spawn(folder, DRIVER, command)?;
        let port = wait_for("chromedriver listens or has ended", || {
            let said = driver.stdout();
            let port = said.split_once("started successfully on port ").and_then(|(_, rest)| rest.split_once(".\n"));
            match port {
                Some((port, _)) => Some(port.parse().ok()),
                None => (!driver.is_running()).then_some(None),
            }
        })?;
        if let Some(port) = port {
            return Ok((driver, port));
        }
        eprintln!("chromedriver ended: {}{}", driver.stdout(), driver.stderr());
    }
    bail!("chromedriver has ended {STARTS} times instead of listening")
}

/// A browser with one window. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    agent: Agent,
    /// Of its session, at the driver.
    url: String,
    /// Its process.
    browser: Option<Pid>,
    driver: Process,
    /// Its profile, and what it and its driver say.
    _folder: TempDir,
}

impl Browser {
    /// Starts one, with a window of this size.
    pub fn start(width: u32, height: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("giostra-browser-").tempdir()?;
        let (driver, port) = drive(folder.path())?;
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        let url = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { agent, url, browser: None, driver, _folder: folder };
        let profile = browser._folder.path().join("profile");
        let options = json!({
            "binary": self::browser()?,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-breakpad",
                format!("--user-data-dir={}", profile.display()),
            ],
        });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": PATIENCE.as_millis() as u64, "pageLoad": PATIENCE.as_millis() as u64},
        });
        let session = browser.ask("POST", "", Some(&json!({"capabilities": {"alwaysMatch": wanted}})))?;
        browser.browser = session["capabilities"]["goog:processID"].as_i64().map(|id| Pid::from_raw(id as i32));
        browser.url.push('/');
        browser.url.push_str(session["sessionId"].as_str().context("a session has an id")?);
        browser.set_size(width, height, false)?;
        Ok(browser)
    }

    /// Goes to a page, and waits until that is loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        self.ask("POST", "/url", Some(&json!({"url": url}))).map(drop)
    }

    /// What a function body returns in the page.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.ask("POST", "/execute/sync", Some(&json!({"script": script, "args": []})))
            .with_context(|| script.to_string())
    }

    /// What an expression is worth in the page.
    pub fn value(&self, expression: &str) -> Result<Value> {
        self.run(&format!("return {expression}"))
    }

    /// Waits until an expression is true in the page. An error says what is seen if that takes too
    /// long.
    pub fn wait_until(&self, condition: &str) -> Result<()> {
        let mut last = Ok(Value::Null);
        let waited = wait_for(condition, || {
            last = self.value(&format!("Boolean({condition})"));
            (last.as_ref().ok()? == true).then_some(())
        });
        waited.with_context(|| format!("{last:?} in a page with: {:?}", self.value("document.body.innerText")))
    }

    /// Presses a key: a letter, or one of those above.
    pub fn press(&self, key: &str) -> Result<()> {
        let strokes = ["keyDown", "keyUp"].map(|stroke| json!({"type": stroke, "value": key}));
        self.ask("POST", "/actions", Some(&json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]})))
            .map(drop)
    }

    /// Makes what the page sees of the window so large; `phone`: a phone's, to be touched.
    pub fn set_size(&self, width: u32, height: u32, phone: bool) -> Result<()> {
        let scale = if phone { 2 } else { 1 };
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone});
        self.command("Emulation.setDeviceMetricsOverride", &metrics).map(drop)
    }

    /// Pretends that the system asks for this, for instance `prefers-color-scheme`, `dark`.
    pub fn prefer(&self, feature: &str, value: &str) -> Result<()> {
        self.command("Emulation.setEmulatedMedia", &json!({"features": [{"name": feature, "value": value}]})).map(drop)
    }

    /// A command of the [DevTools protocol](https://chromedevtools.github.io/devtools-protocol/).
    fn command(&self, command: &str, parameters: &Value) -> Result<Value> {
        self.ask("POST", "/goog/cdp/execute", Some(&json!({"cmd": command, "params": parameters})))
    }

    /// The window as a PNG.
    pub fn screenshot(&self) -> Result<Vec<u8>> {
        let encoded = self.ask("GET", "/screenshot", None)?;
        Ok(BASE64_STANDARD.decode(encoded.as_str().context("a screenshot is a string")?)?)
    }

    /// What has been complained about since this was last asked: errors and warnings of scripts, of
    /// the network, of the page's policy.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.ask("POST", "/se/log", Some(&json!({"type": "browser"})))?;
        let entries = entries.as_array().context("a log is a list")?.iter();
        let grave =
            entries.filter(|entry| ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap_or_default()));
        Ok(grave.map(|entry| entry["message"].to_string()).collect())
    }

    /// The addresses that have been asked for since this was last asked.
    pub fn requests(&self) -> Result<Vec<String>> {
        let entries = self.ask("POST", "/se/log", Some(&json!({"type": "performance"})))?;
        let mut requests = Vec::new();
        for entry in entries.as_array().context("a log is a list")? {
            let entry: Value = serde_json::from_str(entry["message"].as_str().context("a message is a string")?)?;
            if entry["message"]["method"] == "Network.requestWillBeSent" {
                requests.push(entry["message"]["params"]["request"]["url"].as_str().unwrap_or_default().to_string());
            }
        }
        Ok(requests)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let mut response = match body {
            None => self.agent.run(request.body(())?)?,
            Some(body) => self.agent.run(request.header("Content-Type", "application/json").body(body.to_string())?)?,
        };
        // Screenshots are large.
        let answer = response.body_mut().with_config().limit(100 << 20).read_to_vec()?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        let value = answer["value"].take();
        ensure!(response.status().is_success(), "{method} {path}: {}: {}", value["error"], value["message"]);
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In peace, then by force: what its processes still write into the profile would keep that from
        // being removed.
        let _ = self.ask("DELETE", "", None);
        if let Some(browser) = self.browser {
            let gone = || kill(browser, None).is_err().then_some(());
            if wait_for("the browser ends", gone).is_err() {
                let _ = kill(browser, Signal::SIGKILL);
            }
        }
        let _ = killpg(Pid::from_raw(self.driver.id() as i32), Signal::SIGKILL);
        std::thread::sleep(Duration::from_millis(50));
    }
}
