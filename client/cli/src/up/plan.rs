//! What is started: the command lines of the brokers and the workers, their keys, and what clients are
//! to know.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use giostra_transport::endpoint::Endpoint;
use giostra_transport::keys::{KeyError, Role};

use super::Up;
use super::folder::Folder;
use super::keys::Keys;
use super::record::{Broker, Record};

/// The name of a lone broker; those of several have a number behind it.
pub const BROKER: &str = "broker";

/// How far the ports of one broker are from those of the next.
const STEP: u16 = 10;

/// The names of the keys of clients, and of workers that are started by others.
const CLIENT: &str = "client";
const WORKER: &str = "worker";

/// The usual address of the live page.
const PAGE: &str = "127.0.0.1:8080";

/// The names of this many brokers.
pub fn broker_names(count: u32) -> Vec<String> {
    if count == 1 { vec![BROKER.into()] } else { (1..=count).map(|number| format!("{BROKER}-{number}")).collect() }
}

/// Whether a process of this name is a broker.
pub fn is_broker(name: &str) -> bool {
    name.starts_with(BROKER)
}

/// The name of a worker; numbers begin with 1.
pub fn worker_name(number: u32) -> String {
    format!("worker-{number}")
}

/// Makes keys for all: the broker is to know them before they come.
///
/// # Errors
/// If they can't be written.
pub fn keys(folder: &Folder, brokers: &[String], workers: u32) -> Result<Keys, KeyError> {
    let keys = Keys::new(folder.keys());
    brokers.iter().try_for_each(|name| keys.make(name, &[]))?;
    keys.make(CLIENT, &[Role::Client, Role::Admin])?;
    let mut names = (1..=workers).map(worker_name).chain([WORKER.into()]);
    names.try_for_each(|name| keys.make(&name, &[Role::Worker]))?;
    Ok(keys)
}

/// The endpoint of the broker at this place, where the first one has this.
///
/// # Errors
/// If there are no such ports.
pub fn endpoint(first: &Endpoint, place: usize) -> Result<Endpoint, String> {
    match first {
        _ if place == 0 || first.is_any() => Ok(first.clone()),
        Endpoint::Ipc(path) => Ok(Endpoint::Ipc(format!("{path}-{}", place + 1))),
        Endpoint::Tcp(host, port) => {
            let above = u16::try_from(place).ok().and_then(|place| port.checked_add(place.checked_mul(STEP)?));
            let port = above.ok_or_else(|| format!("{first} leaves no ports for {} brokers", place + 1))?;
            Ok(Endpoint::Tcp(host.clone(), port))
        }
    }
}

/// The options of the broker at this place, which has its own part of the log and the store if it is
/// one of several.
///
/// # Errors
/// As [`endpoint`].
pub fn broker(
    options: &Up,
    (place, name): (usize, &str),
    record: &Record,
    keys: Option<&Keys>,
) -> Result<Vec<OsString>, String> {
    let mut all = Options::default();
    // Started again, it is where the others look for it.
    let before = record.brokers.get(place);
    let at = |first: &Endpoint, before: Option<&String>| match before.filter(|at| first.is_any() && !at.is_empty()) {
        Some(before) => Ok(before.clone()),
        None => endpoint(first, place).map(|it| it.to_string()),
    };
    all.add("--frontend", at(&options.frontend, before.map(|it| &it.frontend))?);
    all.add("--backend", at(&options.backend, before.map(|it| &it.backend))?);
    let part = |of: &str| if name == BROKER { PathBuf::from(of) } else { Path::new(of).join(name) };
    all.add("--log-dir", part(&record.log));
    all.add("--store", part(&record.store));
    all.add("--stderr-level", if options.verbose { "debug" } else { "info" });
    if let Some(page) = page(options, place, before.and_then(|it| it.page.as_deref())) {
        all.add("--http", page);
        let others = (0..options.brokers as usize).filter(|&other| other != place);
        others.filter_map(|other| other_page(options, other, record)).for_each(|it| all.add("--peer", it));
    }
    if let Some(keys) = keys {
        all.add("--keys", keys.secret(name));
        all.add("--allow", keys.allowed());
    }
    Ok(all.0)
}

/// The options of the worker of this name.
pub fn worker(options: &Up, name: &str, pool: &str, record: &Record, keys: Option<&Keys>) -> Vec<OsString> {
    let mut all = Options::default();
    all.add("--broker", &record.backend);
    all.add("--name", name);
    all.add("--pool", pool);
    all.add("--threads", options.threads.to_string());
    all.add("--log-level", "info");
    // Its lines are read here: which says that it is registered.
    all.add("--log-format", "text");
    if let Some(exec) = &options.exec {
        all.add("--exec", exec);
    }
    if let Some(keys) = keys {
        all.add("--keys", keys.secret(name));
        all.add("--broker-key", keys.brokers(&broker_names(options.brokers)));
    }
    all.0.extend(options.worker_options.iter().map(Into::into));
    all.0
}

/// The lines by which a shell is a client or a worker of the system.
///
/// # Errors
/// If a path has a character that no shell takes.
pub fn variables(record: &Record, brokers: &[String], keys: Option<&Keys>) -> anyhow::Result<String> {
    let mut variables = vec![("FRONTEND", record.frontend.clone()), ("BACKEND", record.backend.clone())];
    if let Some(keys) = keys {
        let of = |path: PathBuf| path.display().to_string();
        variables.push(("KEYS", of(keys.secret(CLIENT))));
        variables.push(("WORKER_KEYS", of(keys.secret(WORKER))));
        variables.push(("BROKER_KEY", keys.brokers(brokers)));
    }
    let line = |(name, value): (&str, String)| Ok(format!("export GIOSTRA_{name}={}\n", shlex::try_quote(&value)?));
    variables.into_iter().map(line).collect()
}

/// Returns the address by which this host reaches an endpoint that was bound.
pub fn to_connect(bound: &str) -> String {
    bound.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:").replace("tcp://[::]:", "tcp://[::1]:")
}

/// The address of the live page of the broker at this place; `None` without pages. Where none is given,
/// it is the usual one, or one with a port that the system picks if somebody has that. `before` is where
/// it was: the others link to it.
fn page(options: &Up, place: usize, before: Option<&str>) -> Option<String> {
    let (first, is_given) = match options.http.as_deref() {
        Some("off") => return None,
        Some(given) => (given, true),
        None => (PAGE, false),
    };
    if place == 0 && is_given && !first.ends_with(":0") {
        return Some(first.into());
    }
    let is_free = |address: &String| TcpListener::bind(address).is_ok();
    let before = before.and_then(|url| Some(url.strip_prefix("http://")?.trim_end_matches('/').to_string()));
    if let Some(before) = before.filter(is_free) {
        return Some(before);
    }
    let (host, port) = first.rsplit_once(':')?;
    // What others may reach is said for the first alone.
    let is_local = host.parse::<IpAddr>().map_or(host == "[::1]", |host| host.is_loopback());
    let host = if is_local || place == 0 { host } else { "127.0.0.1" };
    let above = || {
        let port = port.parse::<u16>().ok().filter(|&port| port > 0)?;
        port.checked_add(STEP.checked_mul(place.try_into().ok()?)?)
    };
    let free = above().map(|port| format!("{host}:{port}")).filter(is_free);
    Some(free.unwrap_or_else(|| format!("{host}:0")))
}

/// The URL of the page of another broker: of one that has been started, or where it will be.
fn other_page(options: &Up, place: usize, record: &Record) -> Option<String> {
    if let Some(Broker { page: Some(url), .. }) = record.brokers.get(place) {
        return Some(url.clone());
    }
    page(options, place, None).filter(|address| !address.ends_with(":0")).map(|address| format!("http://{address}"))
}

/// A command line.
#[derive(Default)]
struct Options(Vec<OsString>);

impl Options {
    fn add(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.extend([name.into(), value.as_ref().into()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_this_host() {
        assert_eq!(to_connect("tcp://0.0.0.0:5556"), "tcp://127.0.0.1:5556");
        assert_eq!(to_connect("tcp://[::]:5556"), "tcp://[::1]:5556");
        assert_eq!(to_connect("ipc:///run/giostra"), "ipc:///run/giostra");
    }

    #[test]
    fn variables_are_quoted_for_the_shell() {
        let record = Record { frontend: "tcp://127.0.0.1:1".into(), backend: "ipc:///a b".into(), ..Record::default() };
        let keys = Keys::new("/run/it's".into());
        let text = variables(&record, &broker_names(2), Some(&keys)).unwrap();
        assert!(
            text.starts_with("export GIOSTRA_FRONTEND=tcp://127.0.0.1:1\nexport GIOSTRA_BACKEND='ipc:///a b'\n"),
            "{text}"
        );
        assert!(text.contains("GIOSTRA_KEYS=\"/run/it's/client.key_secret\"\n"), "{text}");
        let both = "GIOSTRA_BROKER_KEY=\"/run/it's/broker-1.key,/run/it's/broker-2.key\"\n";
        assert!(text.contains(both), "{text}");
    }

    #[test]
    fn brokers_beside_each_other_have_endpoints_of_their_own() {
        let at = |text: &str, place| endpoint(&Endpoint::to_bind(text).unwrap(), place).map(|it| it.to_string());
        assert_eq!(at("tcp://127.0.0.1:5555", 0).unwrap(), "tcp://127.0.0.1:5555");
        assert_eq!(at("tcp://127.0.0.1:5555", 2).unwrap(), "tcp://127.0.0.1:5575");
        assert_eq!(at("tcp://127.0.0.1:*", 1).unwrap(), "tcp://127.0.0.1:*");
        assert_eq!(at("ipc:///run/x", 1).unwrap(), "ipc:///run/x-2");
        assert!(at("tcp://127.0.0.1:65530", 1).unwrap_err().contains("no ports for 2 brokers"));
    }
}
