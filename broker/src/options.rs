//! The options of a broker.

#[cfg(feature = "http")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use giostra_core::config::Settings;
use giostra_transport::endpoint::Endpoint;
use giostra_transport::keys::KeyPair;
use giostra_transport::socket::PEER_TIMEOUT;

use crate::error::{Error, Side};

/// The options of a broker.
///
/// The default is a broker for this host alone: ports that the system picks, no keys, no page, and
/// everything else as in the program `giostra-broker`, except that it stops without a grace.
///
/// ```
/// use std::time::Duration;
///
/// use giostra_broker::{BadEndpoint, Endpoint, Options, Rotation};
///
/// # fn main() -> Result<(), BadEndpoint> {
/// let frontend = Endpoint::to_bind("tcp://127.0.0.1:5555")?;
/// let mut options = Options { frontend, ..Options::default() };
/// options.core.rotation = Rotation::Available;
/// options.core.ping_interval = Duration::from_millis(200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The endpoint for clients.
    pub frontend: Endpoint,
    /// The endpoint for workers.
    pub backend: Endpoint,
    /// The broker's keys, and those of its peers. With them, everything is encrypted.
    pub keys: Option<Keys>,
    /// Allows endpoints that other hosts can reach, without keys.
    pub insecure: bool,
    /// The maximum number of connections from one address to each endpoint.
    pub max_connections: usize,
    /// The time a new connection has for its handshake.
    pub handshake_timeout: Duration,
    /// The time after which a silent client's connection is closed and its requests are cancelled:
    /// 1 s or longer.
    pub client_timeout: Duration,
    /// The maximum number of bytes that wait for a client that does not read.
    pub max_backlog: usize,
    /// Where to serve the live page, `/status.json` and `/metrics`.
    #[cfg(feature = "http")]
    pub http: Option<SocketAddr>,
    /// Names by which HTTP clients may call this host, besides its addresses and `localhost`.
    #[cfg(feature = "http")]
    pub http_hosts: Vec<String>,
    /// The addresses of other brokers' pages, with `http://` or `https://`: the page has links to them.
    #[cfg(feature = "http")]
    pub http_peers: Vec<String>,
    /// Allows an `http` address that other hosts can reach.
    #[cfg(feature = "http")]
    pub http_public: bool,
    /// The folder of the store of durable jobs, made if it is not there; without it there are no
    /// jobs. No other broker may use it at the same time.
    #[cfg(feature = "store")]
    pub store: Option<PathBuf>,
    /// How long stopping waits for requests in flight, and for clients to read their replies.
    pub grace: Duration,
    /// How long the broker looks for more work before it sleeps: costs CPU, saves wake-ups.
    pub spin: Duration,
    /// Rotation, pings, attempts and limits. `first_ticket` is drawn by the broker itself.
    pub core: Settings,
}

/// A broker's own keys, and the list of those that it lets in.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The broker's keys.
    pub own: KeyPair,
    /// The folder of the allowed public certificates, as `giostra keys allow` makes it.
    pub allow: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let any_port = Endpoint::Tcp("127.0.0.1".into(), 0);
        Self {
            frontend: any_port.clone(),
            backend: any_port,
            keys: None,
            insecure: false,
            max_connections: 4096,
            handshake_timeout: Duration::from_secs(10),
            client_timeout: PEER_TIMEOUT,
            max_backlog: 64 << 20,
            #[cfg(feature = "http")]
            http: None,
            #[cfg(feature = "http")]
            http_hosts: Vec::new(),
            #[cfg(feature = "http")]
            http_peers: Vec::new(),
            #[cfg(feature = "http")]
            http_public: false,
            #[cfg(feature = "store")]
            store: None,
            grace: Duration::ZERO,
            spin: Duration::from_micros(200),
            core: Settings {
                hold: Duration::from_millis(50),
                coalesce: Duration::from_micros(90),
                ..Settings::default()
            },
        }
    }
}

impl Options {
    /// Checks that the options are safe and don't contradict each other.
    ///
    /// # Errors
    /// [`Error::Exposed`], [`Error::HttpExposed`] or [`Error::SameEndpoint`].
    pub fn check(&self) -> Result<(), Error> {
        if let Some((side, endpoint)) = self.exposed().filter(|_| !self.insecure) {
            return Err(Error::Exposed { side, endpoint: endpoint.clone() });
        }
        #[cfg(feature = "http")]
        if let Some(http) = self.http.filter(|http| !http.ip().is_loopback() && !self.http_public) {
            return Err(Error::HttpExposed(http));
        }
        if self.frontend == self.backend && !self.frontend.is_any() {
            return Err(Error::SameEndpoint(self.frontend.clone()));
        }
        Ok(())
    }

    /// Both endpoints, in the order in which they are bound.
    pub(crate) fn endpoints(&self) -> [(Side, &Endpoint); 2] {
        [(Side::Frontend, &self.frontend), (Side::Backend, &self.backend)]
    }

    /// An endpoint that other hosts can reach without a key.
    pub(crate) fn exposed(&self) -> Option<(Side, &Endpoint)> {
        self.endpoints().into_iter().find(|(_, endpoint)| self.keys.is_none() && !endpoint.is_local())
    }
}
