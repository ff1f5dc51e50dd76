//! `giostra doctor`: looks at what is usually amiss when something does not work, and says what to do.
//!
//! It needs nothing: no broker, no keys, no folder. Each check is a line, also if all is well, so that
//! it can be seen what was looked at.

mod broker;
mod disk;
mod environment;
mod host;
mod listener;
mod pool;
mod reach;

use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use giostra_protocol::escape::sentence;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::time::deadline;
use serde_json::{Value, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::help;
use super::printed::stdout;
use super::written::many;

/// The options of `giostra doctor`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::DOCTOR)]
pub struct Doctor {
    /// Folder of a broker's store on this machine: its room, and what a sync costs there
    #[arg(long, env = "GIOSTRA_STORE", value_name = "DIR")]
    pub store: Option<PathBuf>,

    /// Folder of a broker's log on this machine: the same
    #[arg(long, env = "GIOSTRA_LOG_DIR", value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// When nothing is amiss.
    Fine,
    /// When something is unusual, but need not be wrong.
    Warning,
    /// When something does not work.
    Failure,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// What was looked at, in one word.
    about: &'static str,
    verdict: Verdict,
    /// What there is.
    text: String,
    /// What to do about it; empty if there is nothing to be done, or the text says it.
    advice: String,
}

impl Finding {
    fn fine(about: &'static str, text: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Fine, text: text.into(), advice: String::new() }
    }

    fn warning(about: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Warning, text: text.into(), advice: advice.into() }
    }

    fn failure(about: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Failure, text: text.into(), advice: advice.into() }
    }

    /// The finding as a line.
    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Warning => "warn",
            Verdict::Failure => "FAIL",
        };
        let advice = if self.advice.is_empty() { String::new() } else { format!("; {}", self.advice) };
        format!("{verdict:4}  {:11}  {}", self.about, sentence(&format!("{}{advice}", self.text)))
    }

    fn object(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Warning => "warning",
            Verdict::Failure => "failure",
        };
        json!({"about": self.about, "verdict": verdict, "text": self.text, "advice": self.advice})
    }
}

/// Checks everything, within `--broker-timeout`. Succeeds if nothing has failed.
pub fn run(doctor: &Doctor, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let until = deadline(Instant::now(), common.broker_timeout);
    let findings = thread::scope(|scope| {
        let disks = scope.spawn(|| disk::look(doctor, until));
        let workers = scope.spawn(|| broker::workers_endpoint(common, until));
        let brokers = common.each_broker();
        let brokers: Result<Vec<_>, _> = brokers.iter().map(|one| broker::look(one, shutdown, until)).collect();
        let brokers = brokers?;
        let workers = workers.join().expect("the check does not panic");
        let ports = workers.and_then(|workers| brokers.first()?.ports(&workers));
        let disks = disks.join().expect("the check does not panic");
        let host = [host::versions(), environment::look(), host::files(), host::clock()];
        anyhow::Ok(
            host.into_iter()
                .chain(brokers.into_iter().flat_map(|broker| broker.findings))
                .chain(ports)
                .chain(disks)
                .collect::<Vec<_>>(),
        )
    })?;
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    let (failures, warnings) = (count(Verdict::Failure), count(Verdict::Warning));
    let mut out = stdout();
    if common.json {
        let checks: Vec<_> = findings.iter().map(Finding::object).collect();
        writeln!(out, "{}", json!({"failures": failures, "warnings": warnings, "checks": checks}))?;
    } else {
        for finding in &findings {
            writeln!(out, "{}", finding.line())?;
        }
        writeln!(out, "{}, {}", many(failures, "failure"), many(warnings, "warning"))?;
    }
    Ok(Exit::success_if(failures == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_is_in_it() {
        let finding = Finding::failure("broker", "says \"\u{1b}[2J\nok\"", "look at its log");
        let line = finding.line();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.starts_with("FAIL  broker       says ") && line.ends_with("; look at its log"), "{line}");
        assert_eq!(Finding::fine("clock", "synchronised").line(), "ok    clock        synchronised");
    }
}
