//! Addresses of peers, and how their connections are ended.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use giostra_transport::socket::Peers;
use nix::sys::socket as system;

/// Describes a peer at an endpoint of libzmq's, for the log.
pub(super) fn describe(endpoint: &str, side: Peers) -> String {
    let address = endpoint.strip_prefix("tcp://").unwrap_or(endpoint);
    let one = match side {
        Peers::Clients => "client",
        Peers::Workers => "worker",
    };
    if address.is_empty() { format!("a {one}") } else { format!("a {one} at {address}") }
}

/// Returns the address in an endpoint, without the interface of a link-local IPv6 address.
pub(super) fn parse(endpoint: &str) -> Option<SocketAddr> {
    let address = endpoint.strip_prefix("tcp://")?;
    match address.split_once('%').map(|(ip, rest)| (ip, rest.split_once(']'))) {
        Some((ip, Some((_, port)))) => format!("{ip}]{port}").parse().ok(),
        _ => address.parse().ok(),
    }
}

/// Returns the address as people write it: an IPv4 address that is mapped to IPv6 as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns the address at the other end of a connection, if the descriptor is one.
pub(super) fn peer_of(descriptor: RawFd) -> Option<SocketAddr> {
    let peer: system::SockaddrStorage = system::getpeername(descriptor).ok()?;
    let v4 = peer.as_sockaddr_in().map(|peer| SocketAddr::from((peer.ip(), peer.port())));
    v4.or_else(|| peer.as_sockaddr_in6().map(|peer| SocketAddr::from((peer.ip(), peer.port()))))
}

/// Ends a connection of libzmq's, which notices as if the peer had ended it. With an endpoint, only
/// if the peer is there.
///
/// libzmq has no call for that. It may just have closed the descriptor itself, and opened it for
/// another connection. That peer then connects again; comparing the endpoint makes it rarer.
pub(super) fn close(descriptor: RawFd, from: Option<&str>) {
    if from.is_none_or(|from| parse(from) == peer_of(descriptor)) {
        // An error means that the connection has ended already.
        let _ = system::shutdown(descriptor, system::Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_libzmq_writes_it() {
        for (endpoint, address) in [
            ("tcp://10.0.0.1:5", "10.0.0.1:5"),
            ("tcp://[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.1]:5"),
            ("tcp://[fe80::1%eth0]:5", "[fe80::1]:5"),
        ] {
            assert_eq!(parse(endpoint), Some(address.parse().unwrap()));
        }
        assert_eq!([parse("ipc:///tmp/x"), parse("tcp://x%"), parse("tcp://%]:1")], [None; 3]);
    }
}
