//! What it costs to be watched.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use giostra_tests::Crowd;
use giostra_tests::performance::{Goal, Own, Report, Unit};
use giostra_tests::process::wait_for;

use super::note;
use super::sides::{ADDITION, Giostra, Load, WORKERS, series};

/// How often metrics are fetched.
const SCRAPE: Duration = Duration::from_secs(1);

/// Stand-ins of the crowd, whose snapshot is as large.
const MANY: usize = 1000;

/// With the page's events read and metrics fetched every second, and without: with few workers, and
/// with many. The browser itself is not counted: it runs elsewhere.
pub fn watched(rounds: usize, report: &mut Report) -> Result<()> {
    let mut few = Giostra::start(WORKERS, HTTP)?;
    let load = Load { length: Duration::from_secs(3), ..Load::default() };
    note(report, beside(rounds, &mut few, &load, "W=4096")?);
    few.audit()?;
    drop(few);
    let mut many = Giostra::start(0, HTTP)?;
    let _crowd = Crowd::join(many.system.backend(), MANY);
    wait_for("the stand-ins are registered", || {
        (many.system.status().ok()?["workers"].as_array()?.len() == MANY).then_some(())
    })?;
    let load = Load { size: Some(ADDITION), ..load };
    note(report, beside(rounds, &mut many, &load, "1,000 workers (stand-ins), W=4096")?);
    many.audit()
}

const HTTP: &[&str] = &["--http", "127.0.0.1:0"];

/// The rate while somebody watches, beside the one while nobody does.
fn beside(rounds: usize, giostra: &mut Giostra, load: &Load, what: &str) -> Result<Own> {
    let log = wait_for("the page is served", || Some(giostra.system.log()).filter(|log| log.contains(" watch ")))?;
    let address = log.split(" watch http://").nth(1).and_then(|rest| rest.split('/').next()).context("no address")?;
    let mut seen = 0;
    let (mut watched, mut alone) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for watch in [round % 2 == 0, round % 2 == 1] {
            let watcher = watch.then(|| Watcher::start(address));
            let figures = giostra.run(load)?;
            if watch { &mut watched } else { &mut alone }.push(figures);
            seen += watcher.map_or(Ok(0), Watcher::stop)?;
        }
    }
    println!("    {:.1} snapshots a second were read", seen as f64 / (rounds as f64 * load.length.as_secs_f64()));
    ensure!(seen > rounds, "nobody watched");
    Ok(Own {
        what: format!("rate while the page is open and metrics are fetched every second, {what}"),
        unit: Unit::Rate,
        figure: series(&watched, |round| round.rate)?,
        beside: Some(("unwatched".into(), series(&alone, |round| round.rate)?)),
        goal: Goal::AtLeast(0.97),
    })
}

/// Reads events and metrics until it is stopped.
struct Watcher {
    stopped: Arc<AtomicBool>,
    events: JoinHandle<io::Result<usize>>,
    metrics: JoinHandle<io::Result<()>>,
}

impl Watcher {
    fn start(address: &str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (at, until) = (address.to_string(), Arc::clone(&stopped));
        let events = thread::spawn(move || {
            let mut stream = ask(&at, "/events")?;
            let (mut seen, mut buffer) = (0, vec![0; 1 << 16]);
            while !until.load(Ordering::Relaxed) {
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                seen += buffer[..read].windows(6).filter(|text| text == b"data: ").count();
            }
            Ok(seen)
        });
        let (at, until) = (address.to_string(), Arc::clone(&stopped));
        let metrics = thread::spawn(move || {
            let mut next = Instant::now();
            while !until.load(Ordering::Relaxed) {
                if Instant::now() >= next {
                    next += SCRAPE;
                    io::copy(&mut ask(&at, "/metrics")?, &mut io::sink())?;
                }
                thread::sleep(SCRAPE / 20);
            }
            Ok(())
        });
        Self { stopped, events, metrics }
    }

    /// How many snapshots it has seen.
    fn stop(self) -> Result<usize> {
        self.stopped.store(true, Ordering::Relaxed);
        let ended = |_| anyhow!("a reader panicked");
        self.metrics.join().map_err(ended)??;
        Ok(self.events.join().map_err(ended)??)
    }
}

fn ask(address: &str, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}
