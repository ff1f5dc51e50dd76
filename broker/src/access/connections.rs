//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

/// Those at one door.
pub struct Connections {
    most: usize,
    of: HashMap<RawFd, IpAddr>,
    count: HashMap<IpAddr, usize>,
}

impl Connections {
    /// None yet, and at most so many from one address.
    pub fn new(most: usize) -> Self {
        Self { most, of: HashMap::new(), count: HashMap::new() }
    }

    /// A peer has connected from an endpoint, `tcp://1.2.3.4:5`, and there is room for so many. An
    /// error that says so if that is one too many: it is not counted, and to be closed. What
    /// has no address counts as nobody's.
    pub fn accepted(&mut self, descriptor: RawFd, from: &str, room: usize) -> Result<(), String> {
        self.ended(descriptor);
        let Some(address) = address(from).map(|address| address.ip().to_canonical()) else { return Ok(()) };
        if room == 0 {
            return Err("there are as many connections as open files allow (ulimit -n)".into());
        }
        let count = self.count.entry(address).or_default();
        if *count >= self.most {
            return Err(format!("{address} has {count} connections; more are not taken (--max-connections)"));
        }
        *count += 1;
        self.of.insert(descriptor, address);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// A connection has ended.
    pub fn ended(&mut self, descriptor: RawFd) {
        let Some(address) = self.of.remove(&descriptor) else { return };
        if let Some(count) = self.count.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.count.remove(&address);
            }
        }
    }
}

/// The address in an endpoint, without the interface that IPv6 may have in it.
pub fn address(endpoint: &str) -> Option<SocketAddr> {
    let written = endpoint.strip_prefix("tcp://")?;
    match written.split_once('%').map(|(ip, rest)| (ip, rest.split_once(']'))) {
        Some((ip, Some((_, port)))) => format!("{ip}]{port}").parse().ok(),
        _ => written.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_and_gets_back_what_has_ended() {
        let mut connections = Connections::new(2);
        assert_eq!(connections.accepted(1, "tcp://10.0.0.1:1", 1), Ok(()));
        assert_eq!(connections.accepted(2, "tcp://[::ffff:10.0.0.1]:2", 1), Ok(()));
        let error = connections.accepted(3, "tcp://10.0.0.1:3", 1).unwrap_err();
        assert!(error.contains("10.0.0.1") && error.contains("--max-connections"), "{error}");
        assert_eq!(connections.accepted(4, "tcp://10.0.0.2:1", 1), Ok(()));
        assert_eq!(connections.accepted(5, "tcp://[fe80::1]:1", 1), Ok(()));
        connections.ended(3);
        assert!(connections.accepted(3, "tcp://10.0.0.1:3", 1).is_err());
        connections.ended(1);
        connections.ended(1);
        assert_eq!(connections.accepted(3, "tcp://10.0.0.1:3", 1), Ok(()));
        // A descriptor whose end was missed is another connection's now.
        assert_eq!(connections.accepted(3, "tcp://10.0.0.3:3", 1), Ok(()));
        assert_eq!(connections.accepted(6, "tcp://10.0.0.1:4", 1), Ok(()));
        let error = connections.accepted(7, "tcp://10.0.0.7:7", 0).unwrap_err();
        assert!(error.contains("ulimit"), "{error}");
        assert_eq!(connections.len(), 5);
        for descriptor in 0..10 {
            connections.ended(descriptor);
        }
        assert!(connections.count.is_empty() && connections.of.is_empty());
        for nowhere in ["", "ipc:///tmp/x", "tcp://x"] {
            assert_eq!((0..9).try_for_each(|fd| connections.accepted(fd, nowhere, 1)), Ok(()));
        }
    }

    #[test]
    fn an_address_is_read_as_libzmq_writes_it() {
        for (endpoint, read) in [
            ("tcp://10.0.0.1:5", "10.0.0.1:5"),
            ("tcp://[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.1]:5"),
            ("tcp://[fe80::1%eth0]:5", "[fe80::1]:5"),
        ] {
            assert_eq!(address(endpoint), Some(read.parse().unwrap()));
        }
        assert_eq!([address("ipc:///tmp/x"), address("tcp://x%"), address("tcp://%]:1")], [None; 3]);
    }
}
