//! Endpoints as people write them, checked before libzmq gets them.
//!
//! libzmq takes port 99999 for 34463 and `80a` for 80, and reports any other mistake as "Invalid
//! argument". It understands an [`Endpoint`] as it was meant. libzmq still resolves host names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use thiserror::Error;

/// The longest path of a Unix socket, in bytes (`sockaddr_un` on Linux, without the final zero).
const MAX_PATH: usize = 107;

/// Where a socket binds or connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// When it is a TCP endpoint: the host as it was written, including brackets, and the port. For
    /// port 0, the system picks one.
    Tcp(String, u16),
    /// When it is a Unix socket: its path, or `@` and an abstract name.
    Ipc(String),
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadEndpoint {
    /// When the transport is neither `tcp` nor `ipc`.
    #[error("'{0}://' is no transport of Giostra's; write tcp://HOST:PORT or ipc://PATH")]
    Transport(String),
    /// When the port is missing.
    #[error("the port is missing; write it like tcp://127.0.0.1:5555")]
    NoPort,
    /// When the port is not a number from 1 to 65535.
    #[error("'{0}' is no port: ports are 1 to 65535")]
    Port(String),
    /// When an endpoint to connect to leaves the port to the system.
    #[error("'{0}' is no port to connect to: only a broker may leave it to the system")]
    AnyPort(String),
    /// When an endpoint to connect to stands for all addresses.
    #[error("'*' is no host to connect to; write a name or an address, like tcp://127.0.0.1:5555")]
    AnyHost,
    /// When an IPv6 address has no brackets.
    #[error("an IPv6 address is written in brackets, like tcp://[::1]:5555")]
    Brackets,
    /// When the host is not a name, an address or an interface.
    #[error("'{0}' is no host name, address or network interface")]
    Host(String),
    /// When a path has no transport before it.
    #[error("a path is written ipc://{0}")]
    Path(String),
    /// When a list has the same endpoint twice.
    #[error("'{0}' is in the list twice")]
    Twice(String),
    /// When the path of a Unix socket is missing or too long.
    #[error("the path of a Unix socket has 1 to {MAX_PATH} bytes")]
    PathLength,
}

impl Endpoint {
    /// Parses an endpoint to bind: `tcp://ADDRESS:PORT`, where the address may be `*` or a network
    /// interface and the port `*`; or `ipc://PATH`. Without a transport it is TCP.
    ///
    /// # Errors
    /// If libzmq would misunderstand or refuse it.
    pub fn to_bind(text: &str) -> Result<Self, BadEndpoint> {
        match Self::parse(text, true)? {
            // libzmq resolves no names for bind, not even this one.
            Self::Tcp(host, port) if host == "localhost" => Ok(Self::Tcp("127.0.0.1".into(), port)),
            endpoint => Ok(endpoint),
        }
    }

    /// Parses an endpoint to connect to: `tcp://HOST:PORT` or `ipc://PATH`. Without a transport it
    /// is TCP.
    ///
    /// # Errors
    /// If libzmq would misunderstand or refuse it.
    pub fn to_connect(text: &str) -> Result<Self, BadEndpoint> {
        Self::parse(text, false)
    }

    /// Parses a list of endpoints to connect to, with commas between them, each as
    /// [`Self::to_connect`] does. The paths of Unix sockets in it have no commas.
    ///
    /// # Errors
    /// Those of [`Self::to_connect`], or if one is in it twice.
    pub fn list_to_connect(text: &str) -> Result<Vec<Self>, BadEndpoint> {
        let mut list = Vec::new();
        for one in text.split(',') {
            let endpoint = Self::to_connect(one.trim())?;
            if list.contains(&endpoint) {
                return Err(BadEndpoint::Twice(endpoint.to_string()));
            }
            list.push(endpoint);
        }
        Ok(list)
    }

    /// Returns whether its host is a name, whose addresses have to be looked up.
    pub fn is_name(&self) -> bool {
        match self {
            Self::Tcp(host, _) => !host.starts_with('[') && address(host).is_none(),
            Self::Ipc(_) => false,
        }
    }

    /// Returns whether only this host can reach it. Of the network interfaces, only `lo` is known to
    /// be local.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(host, _) => host == "lo" || address(host).is_some_and(|address| address.is_loopback()),
            Self::Ipc(_) => true,
        }
    }

    /// Returns the path of a Unix socket in the file system.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Ipc(path) if !path.starts_with('@') && path != "*" => Some(Path::new(path)),
            _ => None,
        }
    }

    /// Returns whether each bind results in a different endpoint.
    pub fn is_any(&self) -> bool {
        match self {
            Self::Tcp(_, port) => *port == 0,
            Self::Ipc(path) => path == "*",
        }
    }

    fn parse(text: &str, binds: bool) -> Result<Self, BadEndpoint> {
        match text.split_once("://") {
            Some(("tcp", rest)) => Self::parse_tcp(rest, binds),
            Some(("ipc", path)) if path.is_empty() || path.len() > MAX_PATH => Err(BadEndpoint::PathLength),
            Some(("ipc", path)) => Ok(Self::Ipc(path.into())),
            Some((transport, _)) => Err(BadEndpoint::Transport(transport.into())),
            None if text.contains('/') || text.starts_with('@') => Err(BadEndpoint::Path(text.into())),
            None => Self::parse_tcp(text, binds),
        }
    }

    fn parse_tcp(text: &str, binds: bool) -> Result<Self, BadEndpoint> {
        let (host, port) = text.rsplit_once(':').ok_or(BadEndpoint::NoPort)?;
        if host.contains(':') && !host.starts_with('[') || text.ends_with(']') {
            // `::1` with or without a port, `[::1]` without one.
            let without_port = text.ends_with(']') && text.starts_with('[');
            return Err(if without_port { BadEndpoint::NoPort } else { BadEndpoint::Brackets });
        }
        let port = match port {
            "*" | "0" if binds => 0,
            "*" | "0" => return Err(BadEndpoint::AnyPort(port.into())),
            "" => return Err(BadEndpoint::NoPort),
            _ => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                port.parse().ok().filter(|_| digits).ok_or_else(|| BadEndpoint::Port(port.into()))?
            }
        };
        match host {
            "*" if binds => {}
            "*" => return Err(BadEndpoint::AnyHost),
            _ if is_host(host) => {}
            _ => return Err(BadEndpoint::Host(host.into())),
        }
        Ok(Self::Tcp(host.into(), port))
    }
}

/// Parses an endpoint to bind, for `clap`.
///
/// # Errors
/// Those of [`Endpoint::to_bind`].
pub fn parse_to_bind(text: &str) -> Result<Endpoint, BadEndpoint> {
    Endpoint::to_bind(text)
}

/// Parses an endpoint to connect to, for `clap`. Returns it as libzmq expects it.
///
/// # Errors
/// Those of [`Endpoint::to_connect`].
pub fn parse_to_connect(text: &str) -> Result<String, BadEndpoint> {
    Endpoint::to_connect(text).map(|endpoint| endpoint.to_string())
}

/// Parses a list of endpoints to connect to, for `clap`. Returns it with each as libzmq expects it.
///
/// # Errors
/// Those of [`Endpoint::list_to_connect`].
pub fn parse_list_to_connect(text: &str) -> Result<String, BadEndpoint> {
    Ok(written(&Endpoint::list_to_connect(text)?))
}

/// Returns the list as people write it, with commas.
pub fn written(list: &[Endpoint]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Returns whether a text may be a host name, an address or a network interface: letters, digits
/// and a few marks; or an IPv6 address in brackets, with the interface if it is link-local.
fn is_host(host: &str) -> bool {
    let is_of = |text: &str, marks: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => {
            let (address, interface) = host.split_once('%').map_or((host, None), |(host, of)| (host, Some(of)));
            address.parse::<Ipv6Addr>().is_ok() && interface.is_none_or(|of| is_of(of, b"-_."))
        }
        // A text of digits and dots has to be an IPv4 address.
        None if is_of(host, b".") && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            host.parse::<IpAddr>().is_ok()
        }
        None => is_of(host, b"-_."),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, 0) => write!(f, "tcp://{host}:*"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_what_was_written() {
        for text in
            ["tcp://127.0.0.1:5555", "tcp://[::1]:1", "tcp://*:*", "tcp://eth0:5556", "ipc:///run/x", "ipc://@x"]
        {
            assert_eq!(Endpoint::to_bind(text).unwrap().to_string(), text);
        }
        for text in ["tcp://broker.example:5555", "tcp://[fe80::1%eth0]:5555", "tcp://10.0.0.1:65535", "ipc://a b"] {
            assert_eq!(Endpoint::to_connect(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn without_a_transport_it_is_tcp() {
        assert_eq!(Endpoint::to_connect("localhost:7321"), Ok(Endpoint::Tcp("localhost".into(), 7321)));
        assert_eq!(Endpoint::to_bind("127.0.0.1:5999"), Ok(Endpoint::Tcp("127.0.0.1".into(), 5999)));
        assert!(Endpoint::to_bind("127.0.0.1:5999").unwrap().is_local());
    }

    #[test]
    fn what_libzmq_would_take_for_something_else_is_refused() {
        use BadEndpoint as Bad;
        for (text, bad) in [
            ("tcp://127.0.0.1:99999", Bad::Port("99999".into())),
            ("tcp://127.0.0.1:80a", Bad::Port("80a".into())),
            ("tcp://127.0.0.1:+80", Bad::Port("+80".into())),
            ("tcp://127.0.0.1: 80", Bad::Port(" 80".into())),
            ("tcp://127.0.0.1", Bad::NoPort),
            ("tcp://127.0.0.1:", Bad::NoPort),
            ("tcp://[::1]", Bad::NoPort),
            ("tcp://::1:5555", Bad::Brackets),
            ("tcp://[::1:5555", Bad::Host("[::1".into())),
            ("tcp://[localhost]:5555", Bad::Host("[localhost]".into())),
            ("tcp://256.0.0.1:5555", Bad::Host("256.0.0.1".into())),
            ("tcp://:5555", Bad::Host(String::new())),
            ("tcp://a b:5555", Bad::Host("a b".into())),
            ("udp://127.0.0.1:5555", Bad::Transport("udp".into())),
            ("/run/giostra", Bad::Path("/run/giostra".into())),
            ("nonsense", Bad::NoPort),
            ("", Bad::NoPort),
            ("ipc://", Bad::PathLength),
        ] {
            assert_eq!(Endpoint::to_bind(text), Err(bad.clone()), "{text}");
            assert_eq!(Endpoint::to_connect(text), Err(bad), "{text}");
        }
        assert_eq!(Endpoint::to_bind(&format!("ipc:///{}", "x".repeat(MAX_PATH))), Err(Bad::PathLength));
        assert_eq!(Endpoint::to_connect("tcp://*:5555"), Err(Bad::AnyHost));
        assert_eq!(Endpoint::to_connect("tcp://127.0.0.1:*"), Err(Bad::AnyPort("*".into())));
    }

    #[test]
    fn a_list_has_commas_and_each_broker_once() {
        let parse = parse_list_to_connect;
        assert_eq!(parse("a:1, tcp://b:2,ipc:///x").unwrap(), "tcp://a:1,tcp://b:2,ipc:///x");
        assert_eq!(parse("a:1,tcp://a:1"), Err(BadEndpoint::Twice("tcp://a:1".into())));
        assert_eq!(parse("a:1,"), Err(BadEndpoint::NoPort));
        let names: Vec<_> = Endpoint::list_to_connect("a:1,127.0.0.1:1,[::1]:1,[fe80::1%eth0]:1,ipc:///a").unwrap();
        assert_eq!(names.iter().map(Endpoint::is_name).collect::<Vec<_>>(), [true, false, false, false, false]);
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_local() {
        let is_local = |text| Endpoint::to_bind(text).unwrap().is_local();
        for local in
            ["tcp://127.0.0.1:5555", "tcp://127.8.0.1:*", "tcp://[::1]:1", "tcp://lo:1", "ipc:///tmp/x", "localhost:1"]
        {
            assert!(is_local(local), "{local}");
        }
        for open in ["tcp://*:5555", "tcp://0.0.0.0:1", "tcp://192.168.0.1:1", "tcp://eth0:1", "tcp://[::]:1"] {
            assert!(!is_local(open), "{open}");
        }
    }
}
