//! The endpoints, before the broker serves.

use std::io;
use std::net::SocketAddr;

#[cfg(feature = "store")]
use giostra_core::store::Restored;
use giostra_protocol::MAX_THREADS;
use giostra_protocol::escape::word;
use giostra_transport::descriptors;
use giostra_transport::io_loop::IoLoop;
use giostra_transport::lock::{self, Lock};
use giostra_transport::monitor::MonitoredSocket;
use giostra_transport::socket::{self, Peers, RouterOptions};
use zmq::Context;

#[cfg(feature = "store")]
use super::store::Store;
use super::{LOG_FORMAT, LogFiles, Side};
use crate::access::AccessControl;
use crate::error::Error;
#[cfg(feature = "http")]
use crate::http::Http;
use crate::options::Options;
use crate::outbox::Outbox;

/// The message that libzmq puts in for a peer whose connection has ended. Random in each process:
/// no peer can send it itself.
pub(super) type Disconnected = [u8; 32];

/// Messages that may wait for a worker that does not read, besides one for each request of its
/// window.
const MESSAGES_BESIDES_DISPATCH: usize = 100;

/// Tickets and sessions begin below 2^52 and count up, so that they stay below 2^53: JavaScript and
/// many JSON readers round larger numbers.
const FIRST_TICKET_SHIFT: u32 = 12;

/// The sockets of a broker that does not serve yet. Nobody is answered, and nothing is logged: a
/// broker that can't have its endpoints leaves the log's folder as it was.
pub struct Bound {
    /// The I/O loop of all sockets, dropped before them.
    pub(super) io: IoLoop,
    /// Endpoints of frontend and backend, with the ports that the system picked.
    pub endpoints: [String; 2],
    pub(super) options: Options,
    pub(super) clients: Side,
    pub(super) workers: Side,
    pub(super) disconnected: Disconnected,
    pub(super) access: AccessControl,
    #[cfg(feature = "http")]
    pub(super) http: Option<Http>,
    /// The store of durable jobs, and what it holds until the core has it.
    #[cfg(feature = "store")]
    pub(super) store: Option<Store>,
    #[cfg(feature = "store")]
    pub(super) restored: Option<Restored>,
    warnings: Vec<String>,
    /// The locks of Unix sockets: the last field, dropped when the sockets are closed.
    _locks: Vec<Lock>,
}

impl Bound {
    /// Binds the endpoints. `warnings` are logged at the start.
    ///
    /// # Errors
    /// If an endpoint can't be had, the options are unsafe, or the allowed keys can't be read.
    pub fn new(mut options: Options, mut warnings: Vec<String>) -> Result<Self, Error> {
        options.check()?;
        descriptors::check_connection()?;
        options.core.first_ticket = rand::random::<u64>() >> FIRST_TICKET_SHIFT;
        let router_options = RouterOptions {
            keys: options.keys.as_ref().map(|keys| keys.own.clone()),
            handshake: options.handshake_timeout,
            client_timeout: options.client_timeout,
            max_message: options.core.max_message_bytes,
        };
        // Before any endpoint: a broker whose store is out of order takes no connections.
        #[cfg(feature = "store")]
        let (store, restored) = options.store.as_deref().map(Store::open).transpose()?.unzip();
        let context = Context::new();
        let disconnected: Disconnected = rand::random();
        let [frontend, backend] = [Peers::Clients, Peers::Workers].map(|peers| {
            let router = socket::router(&context, &disconnected, peers, &router_options)?;
            MonitoredSocket::new(&context, router).map_err(io::Error::from)
        });
        let (mut frontend, backend) = (frontend?, backend?);
        let io = IoLoop::of(&context, &mut frontend);
        // Before anybody can connect.
        let allow = options.keys.as_ref().map(|keys| keys.allow.clone());
        let access = AccessControl::new(&context, allow, options.max_connections)?;
        warnings.extend_from_slice(access.warnings());
        let (mut endpoints, mut locks) = ([const { String::new() }; 2], Vec::new());
        for (number, socket) in [&frontend, &backend].into_iter().enumerate() {
            locks.extend(bind(socket, &options, number)?);
            endpoints[number] = socket::bound_endpoint(socket).map_err(io::Error::from)?;
        }
        #[cfg(feature = "http")]
        let start = |address| Http::start(address, options.http_hosts.clone(), &options.http_peers);
        let http = options.http.map(start).transpose()?;
        let window = options.core.window.max(MAX_THREADS as usize);
        // A worker's window bounds what it is dispatched, and `max_pending_bytes` the bytes of it.
        // A worker to which more than that and some pings is owed is broken.
        let to_workers = Outbox::new(usize::MAX, window.saturating_add(MESSAGES_BESIDES_DISPATCH));
        let to_clients = Outbox::new(options.max_backlog, usize::MAX);
        Ok(Self {
            io,
            endpoints,
            clients: Side { socket: frontend, outbox: to_clients },
            workers: Side { socket: backend, outbox: to_workers },
            disconnected,
            access,
            #[cfg(feature = "http")]
            http,
            #[cfg(feature = "store")]
            store,
            #[cfg(feature = "store")]
            restored,
            warnings,
            _locks: locks,
            options,
        })
    }

    /// Returns the address of the live page.
    pub fn http_address(&self) -> Option<SocketAddr> {
        #[cfg(feature = "http")]
        return self.http.as_ref().map(|http| http.address);
        #[cfg(not(feature = "http"))]
        None
    }

    /// Logs the first lines.
    pub(super) fn log_start(&self, log: &dyn LogFiles) {
        let Self { options, endpoints: [frontend, backend], .. } = self;
        let [after, folder] = log.origin();
        log::info!(
            "listening format={LOG_FORMAT} frontend={} backend={} keys={} rotation={} max-attempts={} level={} after={after} log={folder} pid={}",
            // A file name may contain what looks like another field.
            word(frontend),
            word(backend),
            options.keys.as_ref().map_or_else(|| "none".into(), |keys| keys.own.public.to_string()),
            options.core.rotation,
            options.core.max_attempts,
            log::max_level().as_str().to_ascii_lowercase(),
            std::process::id()
        );
        if options.exposed().is_some() {
            log::warn!(
                "insecure: anyone who reaches these endpoints is served without a key, in clear text (--insecure)"
            );
        }
        if let Some(address) = self.http_address() {
            log::info!("watch http://{address}/");
        }
        #[cfg(feature = "store")]
        if let (Some(folder), Some(Restored { home, jobs, .. })) = (&options.store, &self.restored) {
            log::info!("store home={home:08x} jobs={} path={}", jobs.len(), word(&folder.display().to_string()));
        }
        self.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        log.flush();
    }
}

/// Binds a socket to the endpoint with this number; returns the lock of a Unix socket.
fn bind(socket: &zmq::Socket, options: &Options, number: usize) -> Result<Option<Lock>, Error> {
    let (side, endpoint) = options.endpoints()[number];
    let in_use = |by: String| Error::InUse { side, endpoint: endpoint.clone(), by };
    let failed = |reason| Error::Bind { side, endpoint: endpoint.clone(), reason };
    let lock = endpoint.path().map(Lock::of_unix_socket).transpose().map_err(|error| match error {
        lock::Error::InUse(..) => in_use(error.to_string()),
        error => failed(io::Error::other(error)),
    })?;
    socket::bind(socket, &endpoint.to_string()).map_err(|error| match error {
        zmq::Error::EADDRINUSE => in_use("it is in use; is a broker running there already?".into()),
        error => failed(error.into()),
    })?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_tickets_begin_where_every_language_counts_exactly() {
        let first_ticket = || Bound::new(Options::default(), Vec::new()).unwrap().options.core.first_ticket;
        assert!((0..20).all(|_| first_ticket() < 1 << 52));
    }
}
