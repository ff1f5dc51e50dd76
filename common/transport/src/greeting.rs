//! The broker's security mechanism, from the greeting of [ZMTP 3.1][zmtp].
//!
//! If only one side has keys, the side that reads the other's greeting first closes the connection.
//! libzmq then does not send what is left of its own greeting, so the other side may see nothing but
//! a broken connection, time after time. This module reads the greeting over a connection of its own
//! and gives nothing to the broker to object to.
//!
//! [zmtp]: https://rfc.zeromq.org/spec/37/

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;

/// The signature, and major version 3: enough for the broker to send all of its greeting.
const BEGIN: [u8; 11] = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3];

/// The length of a greeting.
const LEN: usize = 64;

/// The place of the mechanism's name in the greeting, which zeros follow.
const MECHANISM: std::ops::Range<usize> = 12..32;

/// The time that a connector gives the connection, and each part of the greeting.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);

/// Returns whether the broker at this endpoint uses keys, at the first of its addresses that answers.
/// `within` is the time for the connection to each, and for the greeting, whose last part may take as
/// long again; it must not be zero.
///
/// # Errors
/// The system's, if the endpoint can't be reached: [`TimedOut`](io::ErrorKind::TimedOut) if the
/// connection takes too long, [`WouldBlock`](io::ErrorKind::WouldBlock) if the greeting does.
/// [`InvalidData`](io::ErrorKind::InvalidData) if the answer is no greeting of ZMTP 3,
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the connection is closed before its end.
/// Abstract Unix sockets are not looked for.
pub fn uses_keys(endpoint: &Endpoint, within: Duration) -> io::Result<bool> {
    match endpoint {
        Endpoint::Tcp(host, port) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let mut answer = Err(io::ErrorKind::AddrNotAvailable.into());
            for address in (host, *port).to_socket_addrs()? {
                answer = TcpStream::connect_timeout(&address, within).and_then(|stream| {
                    stream.set_read_timeout(Some(within))?;
                    read(stream, within)
                });
                if answer.is_ok() {
                    break;
                }
            }
            answer
        }
        Endpoint::Ipc(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(within))?;
            read(stream, within)
        }
    }
}

fn read(mut stream: impl Read + Write, within: Duration) -> io::Result<bool> {
    let until = Instant::now() + within;
    stream.write_all(&BEGIN)?;
    let mut greeting = [0; LEN];
    let mut length = 0;
    while length < LEN {
        match stream.read(&mut greeting[length..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // Byte by byte, it would never end.
        if length < LEN && until <= Instant::now() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    let name = greeting[MECHANISM].split(|&byte| byte == 0).next().unwrap_or_default();
    match (greeting[0], greeting[9], greeting[10], name) {
        (0xff, 0x7f, 3.., b"CURVE") => Ok(true),
        (0xff, 0x7f, 3.., b"NULL") => Ok(false),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use giostra_protocol::MAX_MESSAGE_BYTES;
    use zmq::Context;

    use super::*;
    use crate::keys::KeyPair;
    use crate::socket::{self, PEER_TIMEOUT, Peers, RouterOptions};

    #[test]
    fn a_greeting_tells_whether_the_broker_uses_keys() {
        for keys in [None, Some(KeyPair::generate().unwrap())] {
            let with_keys = keys.is_some();
            let options = RouterOptions {
                keys,
                handshake: Duration::from_secs(30),
                client_timeout: PEER_TIMEOUT,
                max_message: MAX_MESSAGE_BYTES,
            };
            let folder = tempfile::tempdir().unwrap();
            let path = format!("ipc://{}/broker", folder.path().display());
            for endpoint in ["tcp://127.0.0.1:*", "tcp://[::1]:*", &path] {
                let context = Context::new();
                let router = socket::router(&context, b"left", Peers::Clients, &options).unwrap();
                if socket::bind(&router, endpoint).is_err() {
                    assert!(endpoint.contains("::1"), "only a host without IPv6 may refuse {endpoint}");
                    continue;
                }
                let bound = socket::bound_endpoint(&router).unwrap();
                let found = uses_keys(&Endpoint::to_connect(&bound).unwrap(), TIMEOUT);
                assert_eq!(found.unwrap(), with_keys, "{bound}");
            }
        }
    }

    #[test]
    fn a_greeting_that_comes_byte_by_byte_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
        let (done, stop) = std::sync::mpsc::channel::<()>();
        let drips = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = 0;
            while stop.recv_timeout(Duration::from_millis(20)).is_err() && stream.write_all(&BEGIN[..1]).is_ok() {
                sent += 1;
            }
            sent
        });
        let error = uses_keys(&endpoint, Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        // It may have seen by itself that nobody reads any more.
        let _ = done.send(());
        assert!(drips.join().unwrap() < LEN, "all of it was waited for");
    }

    #[test]
    fn what_is_no_broker_is_an_error() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..], b"", &BEGIN]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = Endpoint::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
            let answers = thread::spawn(move || listener.accept().unwrap().0.write_all(answer));
            assert!(uses_keys(&endpoint, TIMEOUT).is_err());
            answers.join().unwrap().unwrap();
        }
    }
}
