//! What is started: the command lines of the broker and the workers, their keys, and what clients are
//! to know.

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::path::PathBuf;

use giostra_transport::keys::{KeyError, Role};

use super::Up;
use super::folder::Folder;
use super::keys::Keys;
use super::record::Record;

/// The name of the broker.
pub const BROKER: &str = "broker";

/// The names of the keys of clients, and of workers that are started by others.
const CLIENT: &str = "client";
const WORKER: &str = "worker";

/// The usual address of the live page.
const PAGE: &str = "127.0.0.1:8080";

/// The name of a worker; numbers begin with 1.
pub fn worker_name(number: u32) -> String {
    format!("worker-{number}")
}

/// Makes keys for all: the broker is to know them before they come.
///
/// # Errors
/// If they can't be written.
pub fn keys(folder: &Folder, workers: u32) -> Result<Keys, KeyError> {
    let keys = Keys::new(folder.keys());
    keys.make(BROKER, &[])?;
    keys.make(CLIENT, &[Role::Client, Role::Admin])?;
    let mut names = (1..=workers).map(worker_name).chain([WORKER.into()]);
    names.try_for_each(|name| keys.make(&name, &[Role::Worker]))?;
    Ok(keys)
}

/// The options of the broker.
pub fn broker(options: &Up, record: &Record, keys: Option<&Keys>) -> Vec<OsString> {
    let mut all = Options::default();
    all.add("--frontend", options.frontend.to_string());
    all.add("--backend", options.backend.to_string());
    all.add("--log-dir", &record.log);
    all.add("--store", &record.store);
    all.add("--stderr-level", if options.verbose { "debug" } else { "info" });
    match options.http.as_deref() {
        Some("off") => {}
        Some(address) => all.add("--http", address),
        None => all.add("--http", free_page()),
    }
    if let Some(keys) = keys {
        all.add("--keys", keys.secret(BROKER));
        all.add("--allow", keys.allowed());
    }
    all.0
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
        all.add("--broker-key", keys.broker());
    }
    all.0.extend(options.worker_options.iter().map(Into::into));
    all.0
}

/// The lines by which a shell is a client or a worker of the system.
///
/// # Errors
/// If a path has a character that no shell takes.
pub fn variables(record: &Record, keys: Option<&Keys>) -> anyhow::Result<String> {
    let mut variables = vec![("FRONTEND", record.frontend.clone()), ("BACKEND", record.backend.clone())];
    if let Some(keys) = keys {
        let of = |path: PathBuf| path.display().to_string();
        variables.push(("KEYS", of(keys.secret(CLIENT))));
        variables.push(("WORKER_KEYS", of(keys.secret(WORKER))));
        variables.push(("BROKER_KEY", of(keys.broker())));
    }
    let line = |(name, value): (&str, String)| Ok(format!("export GIOSTRA_{name}={}\n", shlex::try_quote(&value)?));
    variables.into_iter().map(line).collect()
}

/// Returns the address by which this host reaches an endpoint that was bound.
pub fn to_connect(bound: &str) -> String {
    bound.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:").replace("tcp://[::]:", "tcp://[::1]:")
}

/// Returns the usual address of the live page, or one with a port that the system picks if somebody has it.
fn free_page() -> &'static str {
    if TcpListener::bind(PAGE).is_ok() { PAGE } else { "127.0.0.1:0" }
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
        let text = variables(&record, Some(&keys)).unwrap();
        assert!(
            text.starts_with("export GIOSTRA_FRONTEND=tcp://127.0.0.1:1\nexport GIOSTRA_BACKEND='ipc:///a b'\n"),
            "{text}"
        );
        assert!(text.contains("GIOSTRA_KEYS=\"/run/it's/client.key_secret\"\n"), "{text}");
    }
}
