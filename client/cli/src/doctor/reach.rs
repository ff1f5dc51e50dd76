//! What is at an endpoint, as far as can be told without a message of Giostra's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use giostra_transport::endpoint::Endpoint;
use giostra_transport::greeting;

/// What is at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// When ZeroMQ answers; `None` if it was not asked whether it uses keys.
    ZeroMq {
        /// Whether it uses keys (CURVE).
        keys: Option<bool>,
    },
    /// When nothing listens there.
    Nothing,
    /// When the host's name has no address; holds the reason.
    NoHost(String),
    /// When no connection can be made for another reason, which it holds.
    Unreachable(String),
    /// When connections are accepted, and nothing is said.
    Silent,
    /// When connections are closed without a word.
    Closes,
    /// When an HTTP server answers.
    Http,
    /// When something else answers.
    Stranger,
}

/// Looks at an endpoint. Takes about half of the time that is left.
pub fn look(endpoint: &Endpoint, until: Instant) -> Reach {
    let left = until.saturating_duration_since(Instant::now());
    let part = (left / 4).max(Duration::from_millis(10));
    match endpoint {
        Endpoint::Ipc(name) if name.starts_with('@') => Reach::ZeroMq { keys: None },
        Endpoint::Ipc(path) => at(endpoint, part, || ask(std::os::unix::net::UnixStream::connect(path)?, part)),
        Endpoint::Tcp(host, port) => {
            let addresses = match resolved(host, *port, part) {
                Ok(addresses) => addresses,
                Err(error) => return Reach::NoHost(error),
            };
            // A name may have several addresses: the first where something listens.
            let share = part / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
            let mut last = Reach::Nothing;
            for address in addresses {
                let endpoint = Endpoint::Tcp(address.ip().to_string(), address.port());
                last = at(&endpoint, share, || ask(TcpStream::connect_timeout(&address, share)?, share));
                if !matches!(last, Reach::Nothing | Reach::Unreachable(_)) {
                    break;
                }
            }
            last
        }
    }
}

fn at(endpoint: &Endpoint, within: Duration, asked: impl FnOnce() -> io::Result<Vec<u8>>) -> Reach {
    use io::ErrorKind as Kind;
    let other = match greeting::uses_keys(endpoint, within) {
        Ok(keys) => return Reach::ZeroMq { keys: Some(keys) },
        Err(error) => match error.kind() {
            Kind::ConnectionRefused | Kind::NotFound => return Reach::Nothing,
            Kind::WouldBlock => Reach::Silent,
            Kind::InvalidData => Reach::Stranger,
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => Reach::Closes,
            Kind::TimedOut => return Reach::Unreachable("no answer to connecting".into()),
            _ => return Reach::Unreachable(error.to_string()),
        },
    };
    // To a greeting of ZeroMQ many servers say nothing, since it has no end of a line, or less than a
    // greeting has.
    match asked().unwrap_or_default() {
        answer if answer.starts_with(b"HTTP/") => Reach::Http,
        answer if answer.is_empty() => other,
        _ => Reach::Stranger,
    }
}

/// Asks as a client of HTTP does, and returns the first bytes of the answer.
fn ask(mut stream: impl Read + Write + SetTimeout, within: Duration) -> io::Result<Vec<u8>> {
    stream.set_timeout(within)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = vec![0; 16];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// A stream whose reads can have a time limit.
trait SetTimeout {
    fn set_timeout(&self, within: Duration) -> io::Result<()>;
}

impl SetTimeout for TcpStream {
    fn set_timeout(&self, within: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(within))
    }
}

impl SetTimeout for std::os::unix::net::UnixStream {
    fn set_timeout(&self, within: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(within))
    }
}

/// Returns the addresses of a host. Name servers may take longer: they are asked by a thread that is
/// left to itself then.
fn resolved(host: &str, port: u16, within: Duration) -> Result<Vec<SocketAddr>, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
    let (found, receive) = mpsc::channel();
    thread::spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody waits for it any more if it took too long.
        let _ = found.send(addresses);
    });
    match receive.recv_timeout(within) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err("it has no address".into()),
        Ok(addresses) => addresses.map_err(|error| error.to_string()),
        Err(_) => Err("no name server answers".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    /// What a server looks like that answers each connection so; with `None` it never does.
    fn server(answer: Option<&'static [u8]>) -> Reach {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
        if let Some(answer) = answer {
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut asked = [0; 11];
                    // Read first, so that closing sends no reset.
                    let _ = stream.read_exact(&mut asked);
                    let _ = stream.write_all(answer);
                }
            });
            return look(&endpoint, soon());
        }
        look(&endpoint, soon())
    }

    #[test]
    fn a_server_that_is_no_broker_is_told_from_one_that_says_nothing() {
        assert_eq!(
            server(Some(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
            Reach::Http
        );
        assert_eq!(
            server(Some(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 and more than a greeting has\r\n")),
            Reach::Stranger
        );
        assert_eq!(server(Some(b"SSH-2.0-x\r\n")), Reach::Stranger);
        assert_eq!(server(Some(b"")), Reach::Closes);
        assert_eq!(server(None), Reach::Silent);
    }

    #[test]
    fn where_nothing_listens_and_what_is_no_host_are_told_apart() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(look(&Endpoint::Tcp("127.0.0.1".into(), free), soon()), Reach::Nothing);
        assert_eq!(look(&Endpoint::Ipc("/nonexistent/broker".into()), soon()), Reach::Nothing);
        assert!(matches!(look(&Endpoint::Tcp("no-host.invalid".into(), free), soon()), Reach::NoHost(_)));
    }
}
