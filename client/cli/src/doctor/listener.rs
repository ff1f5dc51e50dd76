//! Which process of this machine listens at an endpoint: from `/proc`, so of other users' processes
//! only root learns it.

use std::fmt;
use std::fs;

use giostra_transport::endpoint::Endpoint;

use crate::failure::is_here;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The program's name, at most 15 bytes.
    pub program: String,
    /// Its process id.
    pub id: u32,
    /// Whether it is stopped, by SIGSTOP or Ctrl-Z.
    pub is_stopped: bool,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.program, self.id)
    }
}

impl Listener {
    /// Returns the process that listens at a local endpoint; `None` if it can't be found.
    pub fn at(endpoint: &Endpoint) -> Option<Self> {
        let sockets: Vec<String> = match endpoint {
            Endpoint::Tcp(_, port) if is_here(endpoint) => {
                let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).ok());
                tables.iter().flatten().flat_map(|table| of_port(table, *port)).collect()
            }
            Endpoint::Ipc(path) => of_path(&fs::read_to_string("/proc/net/unix").ok()?, path),
            Endpoint::Tcp(..) => return None,
        };
        let links: Vec<_> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.find(|&id| has_one_of(id, &links)).and_then(Self::of)
    }

    fn of(id: u32) -> Option<Self> {
        let program = fs::read_to_string(format!("/proc/{id}/comm")).ok()?.trim_end().into();
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name, which is in parentheses and may hold anything.
        let is_stopped = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']));
        Some(Self { program, id, is_stopped })
    }
}

/// Returns the inodes of the sockets that listen at a TCP port, from `/proc/net/tcp`.
fn of_port(table: &str, port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let port = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| row.len() > 9 && row[1].ends_with(&port) && row[3] == LISTENING);
    listening.map(|row| row[9].into()).collect()
}

/// Returns the inodes of the sockets that are bound to a path, from `/proc/net/unix`.
fn of_path(table: &str, path: &str) -> Vec<String> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() == 8 && row[7] == path).map(|row| row[6].into()).collect()
}

fn has_one_of(id: u32, links: &[String]) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    let targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| target.into_os_string().into_string().ok()).any(|target| links.contains(&target))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::process::id;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found_by_port_and_by_path() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = Listener::at(&Endpoint::Tcp("127.0.0.1".into(), port)).unwrap();
        assert_eq!((found.id, found.is_stopped), (id(), false));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker");
        let listener = UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Ipc(path.display().to_string());
        assert_eq!(Listener::at(&endpoint).map(|found| found.id), Some(id()));
        drop(listener);
        assert_eq!(Listener::at(&endpoint), None);
    }

    #[test]
    fn of_another_host_no_process_is_looked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(Listener::at(&Endpoint::Tcp("192.0.2.1".into(), port)), None);
    }
}
