//! The broker: whether one is in reach, whether its keys and ours fit, and what it says of itself.

use std::env;
use std::time::{Duration, Instant};

use giostra_client::{Client, Error};
use giostra_protocol::Status;
use giostra_transport::endpoint::Endpoint;
use giostra_transport::keys::Credentials;
use giostra_transport::shutdown::Shutdown;

use super::listener::Listener;
use super::pool;
use super::reach::{self, Reach};
use super::{Finding, Verdict};
use crate::common::CommonArgs;
use crate::failure::{START, is_here};
use crate::written::{micros, millis};

const BROKER: &str = "broker";
const KEYS: &str = "keys";
const PORTS: &str = "ports";

/// The endpoint for workers, unless `GIOSTRA_BACKEND` names another.
const BACKEND: &str = "tcp://127.0.0.1:5556";

/// What was found of a broker.
pub struct Looked {
    pub findings: Vec<Finding>,
    /// Whether a broker is there.
    is_there: bool,
    /// Whether it has workers, or does not tell.
    has_workers: bool,
}

/// What is at the endpoint for workers, if it is on this machine.
pub struct WorkersEndpoint {
    endpoint: Endpoint,
    reach: Reach,
    listener: Option<Listener>,
}

/// Looks for the broker, and asks it for its status.
///
/// # Errors
/// If Ctrl-C was pressed.
pub fn look(common: &CommonArgs, shutdown: &Shutdown, until: Instant) -> Result<Looked, Error> {
    let mut looked = Looked { findings: Vec::new(), is_there: false, has_workers: false };
    let endpoint = Endpoint::to_connect(&common.broker).expect("the command line has checked it");
    let reach = reach::look(&endpoint, until);
    let credentials = Credentials::from_flags(common.keys.as_deref(), common.broker_key.as_deref());
    let with_keys = match &reach {
        Reach::ZeroMq { keys } => *keys,
        _ => None,
    };
    let keys = match &credentials {
        Ok(credentials) => keys(credentials.as_ref(), with_keys),
        Err(error) => Finding::failure(KEYS, error.to_string(), ""),
    };
    let can_connect = keys.verdict != Verdict::Failure;
    looked.findings.push(keys);
    match &reach {
        Reach::ZeroMq { .. } if can_connect => ask(&mut looked, common, shutdown, until)?,
        Reach::ZeroMq { .. } => {
            (looked.is_there, looked.has_workers) = (true, true);
            let text = format!("one listens at {endpoint}, and was not asked more");
            looked.findings.push(Finding::warning(BROKER, text, "the keys come first"));
        }
        other => looked.findings.push(absent(&endpoint, other)),
    }
    Ok(looked)
}

/// Judges the keys of this side. `theirs`: whether the broker uses keys, if that is known.
fn keys(ours: Option<&Credentials>, theirs: Option<bool>) -> Finding {
    match (ours, theirs) {
        (None, Some(true)) => Finding::failure(
            KEYS,
            "the broker uses keys, and none are given",
            "give your own and the broker's: --keys FILE --broker-key FILE (giostra keys --help)",
        ),
        (Some(_), Some(false)) => Finding::failure(
            KEYS,
            "keys are given, and the broker uses none",
            "leave out --keys and --broker-key, or start the broker with --keys and --allow",
        ),
        (Some(ours), _) if ours.brokers.contains(&ours.own.public) => {
            Finding::failure(KEYS, "--broker-key is your own public key", "it has to be the broker's")
        }
        (None, Some(false)) => Finding::fine(KEYS, "none, and the broker uses none"),
        (None, None) => Finding::fine(KEYS, "none are given"),
        (Some(ours), _) => Finding::fine(
            KEYS,
            format!("given, and yours are safe from others; your public key is {}", ours.own.public),
        ),
    }
}

/// The finding that there is no broker, but something else or nothing.
fn absent(endpoint: &Endpoint, reach: &Reach) -> Finding {
    let listener = Listener::at(endpoint);
    if let Some(stopped) = listener.as_ref().filter(|listener| listener.is_stopped) {
        let text = format!("{stopped} listens at {endpoint}, but is stopped");
        return Finding::failure(BROKER, text, format!("kill -CONT {} lets it go on", stopped.id));
    }
    let who = listener.map_or_else(|| "something".into(), |listener| listener.to_string());
    let other_port = "find the broker's --frontend, or stop what is there";
    let (text, advice) = match reach {
        Reach::Nothing if is_here(endpoint) => (format!("nothing listens at {endpoint}"), START),
        Reach::Nothing => (format!("nothing listens at {endpoint}"), "is that its --frontend, and does one run there?"),
        Reach::NoHost(error) => (format!("{endpoint}: the host is unknown: {error}"), "look at the name"),
        Reach::Unreachable(error) => (
            format!("{endpoint} can't be reached: {error}"),
            "look at the address, the network and firewalls between here and there",
        ),
        Reach::Silent => (
            format!("{who} listens at {endpoint}, but says nothing"),
            "a broker that says nothing is stopped or hangs: its log has the last it did; or it is no broker",
        ),
        Reach::Closes => (
            format!("{who} at {endpoint} closes the connection without a word"),
            "a broker does so with too many connections from an address (--max-connections); or it is no broker",
        ),
        Reach::Http => (format!("{who} at {endpoint} is an HTTP server, no broker"), other_port),
        Reach::Stranger => (format!("{who} at {endpoint} is no broker"), other_port),
        Reach::ZeroMq { .. } => unreachable!("that is asked"),
    };
    Finding::failure(BROKER, text, advice)
}

/// Asks the broker for its status.
fn ask(looked: &mut Looked, common: &CommonArgs, shutdown: &Shutdown, until: Instant) -> Result<(), Error> {
    let endpoint = &common.broker;
    let (joined, status) = match connect(common, shutdown, until) {
        Ok(answers) => answers,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(Error::NoBroker { .. }) => {
            let text = format!("no broker answers at {endpoint}");
            let advice =
                "one that does not answer is stopped or hangs: its log has the last it did; or it is another program";
            looked.findings.push(Finding::failure(BROKER, text, advice));
            return Ok(());
        }
        Err(error) => {
            looked.findings.push(Finding::failure(BROKER, error.to_string(), ""));
            return Ok(());
        }
    };
    looked.is_there = true;
    let joined = micros(joined.as_micros().try_into().unwrap_or(u64::MAX));
    match status {
        Ok((status, took)) => {
            let took = micros(took.as_micros().try_into().unwrap_or(u64::MAX));
            let (version, up) = (&status.version, millis(status.uptime_ms));
            let text =
                format!("{endpoint} answers: version {version}, up {up}; {joined} to connect, {took} for a round trip");
            looked.findings.push(if version == env!("CARGO_PKG_VERSION") {
                Finding::fine(BROKER, text)
            } else {
                Finding::warning(BROKER, text, "versions belong together: install the same everywhere")
            });
            looked.has_workers = !status.workers.is_empty();
            looked.findings.push(pool::workers(&status, &common.pool));
            looked.findings.extend(pool::jobs(&status));
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            looked.has_workers = true;
            let text = format!("{endpoint} answers ({joined} to connect), but tells no status: {error}");
            let advice = "for more, allow your key the role admin (giostra keys allow --role admin)";
            looked.findings.push(Finding::warning(BROKER, text, advice));
        }
    }
    Ok(())
}

type Answers = (Duration, Result<(Status, Duration), Error>);

/// Connects, and asks for the status. Returns how long each took.
fn connect(common: &CommonArgs, shutdown: &Shutdown, until: Instant) -> Result<Answers, Error> {
    let mut options = common.options("doctor", shutdown).map_err(|error| Error::Endpoint(error.to_string()))?;
    options.broker_timeout = until.saturating_duration_since(Instant::now());
    let began = Instant::now();
    let mut client = Client::connect(options)?;
    client.await_broker()?;
    let joined = began.elapsed();
    let mut timed = || {
        let asked = Instant::now();
        client.status().map(|status| (status, asked.elapsed()))
    };
    // The first answer may take longer: of two the faster one.
    let first = timed();
    Ok((joined, first.and_then(|(_, before)| timed().map(|(status, took)| (status, took.min(before))))))
}

/// Looks at the endpoint for workers, if the broker is on this machine.
pub fn workers_endpoint(common: &CommonArgs, until: Instant) -> Option<WorkersEndpoint> {
    if !Endpoint::list_to_connect(&common.broker).is_ok_and(|list| list.iter().all(is_here)) {
        return None;
    }
    let text = env::var("GIOSTRA_BACKEND").ok().filter(|text| !text.is_empty());
    let endpoint = Endpoint::to_connect(text.as_deref().unwrap_or(BACKEND)).ok()?;
    let reach = reach::look(&endpoint, until);
    let listener = if reach == Reach::Nothing { None } else { Listener::at(&endpoint) };
    Some(WorkersEndpoint { endpoint, reach, listener })
}

impl Looked {
    /// Judges what is at the endpoint for workers; `None` if there is nothing to say.
    pub fn ports(&self, workers: &WorkersEndpoint) -> Option<Finding> {
        let WorkersEndpoint { endpoint, reach, listener } = workers;
        // A broker that is stopped or hangs is told of by its other endpoint.
        if *reach == Reach::Silent && listener.as_ref().is_some_and(|listener| listener.program == "giostra-broker") {
            return None;
        }
        let who = listener.as_ref().map_or_else(|| "something".into(), ToString::to_string);
        let other = "start the broker with another --backend, and workers with the same --broker";
        Some(match (reach, self.is_there) {
            (Reach::Nothing, false) => Finding::fine(PORTS, format!("{endpoint}, for workers, is free")),
            (Reach::Nothing, true) if self.has_workers => return None,
            (Reach::Nothing, true) => Finding::warning(
                PORTS,
                format!("nothing listens at {endpoint}, where workers look for a broker"),
                "start them with --broker and this broker's --backend",
            ),
            (Reach::ZeroMq { .. }, true) => {
                Finding::fine(PORTS, format!("{endpoint}, for workers, is served by {who}"))
            }
            (Reach::ZeroMq { .. }, false) => Finding::warning(
                PORTS,
                format!("{endpoint}, for workers, is served by {who}, but there is no broker for clients"),
                "find that broker's --frontend",
            ),
            (Reach::NoHost(error) | Reach::Unreachable(error), _) => {
                Finding::warning(PORTS, format!("{endpoint}, for workers, can't be reached: {error}"), other)
            }
            (Reach::Silent | Reach::Closes | Reach::Http | Reach::Stranger, true) => {
                Finding::warning(PORTS, format!("{endpoint}, for workers, is taken by {who}"), other)
            }
            (Reach::Silent | Reach::Closes | Reach::Http | Reach::Stranger, false) => {
                Finding::failure(PORTS, format!("{endpoint}, for workers, is taken by {who}"), other)
            }
        })
    }
}
