//! What the process tells the service manager that has started it: systemd's `sd_notify` protocol.
//!
//! A program that is meant to run as a service calls [`start`] once. In any other process, such as
//! one that only uses the libraries, and without a service manager, all else here does nothing.
//! Nothing fails if the service manager is gone.

use std::env;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The environment variables of the protocol. Programs that a service starts must not have them:
/// what they said would be taken for the service's own.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The pause before a message that must not be lost is sent again to a socket that is full.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How often such a message is sent again.
const RETRIES: u32 = 50;

/// The time that the process takes to exit, besides the grace of what it finishes.
const EXIT_TIME: Duration = Duration::from_secs(10);

static SERVICE: OnceLock<Service> = OnceLock::new();

/// The service manager's socket, and its watchdog.
struct Service {
    socket: UnixDatagram,
    address: SocketAddr,
    /// The longest time between two signs of life.
    watchdog: Option<Duration>,
}

/// Finds the service manager in the environment of the process, once.
pub fn start() {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(address) = address(name.as_bytes()) else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    if socket.set_nonblocking(true).is_ok() {
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| is_ours && micros > 0).map(Duration::from_micros);
        let _ = SERVICE.set(Service { socket, address, watchdog });
    }
}

/// Whether there is a service manager to be told.
pub fn is_started() -> bool {
    SERVICE.get().is_some()
}

/// Tells that the process serves, and what it does, in a line.
pub fn ready(status: &str) {
    if let Some(service) = SERVICE.get() {
        service.send_surely(&format!("READY=1\n{}", Status(status)));
    }
}

/// Tells what the process does, in a line. That may be lost.
pub fn status(status: &str) {
    if let Some(service) = SERVICE.get() {
        let _ = service.send(&Status(status).to_string());
    }
}

/// Tells that the process reads its configuration again. [`ready`] tells when that is done.
pub fn reloading() {
    let Some(service) = SERVICE.get() else { return };
    // The service manager compares this with the time of its request.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    service.send_surely(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
}

/// Tells that the process finishes, which takes up to `grace`, and what it does, in a line.
pub fn stopping(grace: Duration, status: &str) {
    let Some(service) = SERVICE.get() else { return };
    let micros = u64::try_from(grace.saturating_add(EXIT_TIME).as_micros()).unwrap_or(u64::MAX);
    service.send_surely(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\n{}", Status(status)));
}

/// The signs of life of a loop, for a service manager that ends a process without any.
#[derive(Clone, Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl Watchdog {
    /// Creates the signs of life of this process's loop. The first is due at once; there are none if
    /// nobody waits for them.
    pub fn new(now: Instant) -> Self {
        // One that is late by as much again is still in time.
        let interval = SERVICE.get().and_then(|service| service.watchdog).map(|longest| longest / 3);
        Self { interval, due: interval.map(|_| now) }
    }

    /// Returns when the next sign of life is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Gives a sign of life if one is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let (Some(service), Some(interval)) = (SERVICE.get(), self.interval)
            && self.due.is_some_and(|due| due <= now)
        {
            let _ = service.send("WATCHDOG=1");
            self.due = Some(now + interval);
        }
    }
}

impl Service {
    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }

    /// Sends a message that is not sent again later. If the socket stays full, half a second is lost.
    fn send_surely(&self, message: &str) {
        for _ in 0..RETRIES {
            match self.send(message) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    sleep(RETRY_PAUSE);
                }
                _ => return,
            }
        }
    }
}

/// The field of a status. What would be another field in it becomes a space.
struct Status<'a>(&'a str);

impl std::fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "STATUS={}", self.0.replace(|c: char| c.is_control(), " "))
    }
}

/// Parses the name of a socket: a path, or `@` and an abstract name.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    match name.starts_with(b"/") {
        true => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        false => Err(ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_paths_or_abstract_names() {
        assert_eq!(address(b"/run/notify").unwrap().as_pathname(), Some(std::path::Path::new("/run/notify")));
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            assert_eq!(address(b"@/a/b").unwrap().as_abstract_name(), Some(&b"/a/b"[..]));
        }
        assert!([&b""[..], b"vsock:2:1234", b"relative"].into_iter().all(|name| address(name).is_err()));
    }

    #[test]
    fn a_status_is_one_field() {
        assert_eq!(Status("a\nREADY=1").to_string(), "STATUS=a READY=1");
    }

    #[test]
    fn a_process_that_is_no_service_tells_nobody_anything() {
        let now = Instant::now();
        let mut watchdog = Watchdog::new(now);
        watchdog.handle_timeout(now);
        assert_eq!((watchdog.poll_timeout(), is_started()), (None, false));
        [ready, status].iter().for_each(|tell| tell("nothing"));
    }
}
