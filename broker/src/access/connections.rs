//! Limits on connections: per address, and in all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;

use super::address;

/// The connections to one socket.
pub(super) struct Connections {
    max_per_address: usize,
    addresses: HashMap<RawFd, IpAddr>,
    counts: HashMap<IpAddr, usize>,
}

impl Connections {
    pub(super) fn new(max_per_address: usize) -> Self {
        Self { max_per_address, addresses: HashMap::new(), counts: HashMap::new() }
    }

    /// Counts a connection from an endpoint such as `tcp://1.2.3.4:5`, while `left` more are
    /// allowed in all. Connections without an address, over Unix sockets, are not counted.
    ///
    /// # Errors
    /// If the connection is above a limit: it is not counted, and the caller has to close it.
    pub(super) fn accepted(&mut self, descriptor: RawFd, from: &str, left: usize) -> Result<(), String> {
        self.ended(descriptor);
        let Some(address) = address::parse(from).map(|address| address.ip().to_canonical()) else { return Ok(()) };
        if left == 0 {
            return Err("there are as many connections as open files allow (ulimit -n)".into());
        }
        let count = self.counts.entry(address).or_default();
        if *count >= self.max_per_address {
            return Err(format!("{address} has {count} connections; more are not taken (--max-connections)"));
        }
        *count += 1;
        self.addresses.insert(descriptor, address);
        Ok(())
    }

    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Counts a connection no more.
    pub(super) fn ended(&mut self, descriptor: RawFd) {
        let Some(address) = self.addresses.remove(&descriptor) else { return };
        if let Some(count) = self.counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_an_address_are_limited_and_ended_ones_do_not_count() {
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
        assert!(connections.counts.is_empty() && connections.addresses.is_empty());
        for nowhere in ["", "ipc:///tmp/x", "tcp://x"] {
            assert_eq!((0..9).try_for_each(|fd| connections.accepted(fd, nowhere, 1)), Ok(()));
        }
    }
}
