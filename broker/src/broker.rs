//! A broker on a thread of the caller's process.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use giostra_transport::shutdown::Shutdown;
use giostra_transport::wake::{Waker, alarm};

use crate::error::Error;
use crate::options::Options;
use crate::server::{Bound, NoFiles, Stopped};

/// A broker on a thread of its own: see the crate's page.
///
/// Dropping it stops it as [`Broker::stop`] does.
#[derive(Debug)]
pub struct Broker {
    endpoints: [String; 2],
    http: Option<SocketAddr>,
    shutdown: Shutdown,
    reload: Waker,
    /// `None` once it has been joined.
    thread: Option<JoinHandle<Result<Stopped, Error>>>,
}

impl Broker {
    /// Binds the endpoints and starts to serve. Clients and workers can connect when this returns.
    ///
    /// No signal handler and no logger is installed. What the broker does goes to the `log` facade:
    /// requests at level debug, clients and workers at info, losses at warn.
    ///
    /// # Errors
    /// If an endpoint can't be had, the options are unsafe, or the allowed keys can't be read.
    pub fn start(options: Options) -> Result<Self, Error> {
        let shutdown = Shutdown::new()?;
        let (reload, reloads) = alarm()?;
        let bound = Bound::new(options, Vec::new())?;
        let (endpoints, http) = (bound.endpoints.clone(), bound.http_address());
        let until = shutdown.clone();
        let thread =
            thread::Builder::new().name("giostra-broker".into()).spawn(move || bound.run(&NoFiles, &until, reloads))?;
        Ok(Self { endpoints, http, shutdown, reload, thread: Some(thread) })
    }

    /// The endpoint for clients, with the port that the system picked.
    pub fn frontend(&self) -> &str {
        &self.endpoints[0]
    }

    /// The endpoint for workers, with the port that the system picked.
    pub fn backend(&self) -> &str {
        &self.endpoints[1]
    }

    /// The address of the live page, if there is one.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Reads the list of allowed keys again, and disconnects peers that are no longer in it. The
    /// broker does so by itself a second or two after the list has changed.
    pub fn reload_keys(&self) {
        self.reload.wake();
    }

    /// Stops the broker, and returns when its thread has ended and its ports are free.
    ///
    /// Requests in flight, and clients that have not read their replies, are waited for until
    /// [`Options::grace`] is over. Requests without a worker stay with their clients, which send
    /// them to the next broker at this endpoint. For libzmq, a message that a peer does not take
    /// adds up to a second.
    ///
    /// # Errors
    /// If the broker had ended before, why.
    ///
    /// # Panics
    /// If the broker's thread has panicked.
    pub fn stop(mut self) -> Result<Stopped, Error> {
        self.end().expect("it is joined once").unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn end(&mut self) -> Option<thread::Result<Result<Stopped, Error>>> {
        self.shutdown.request();
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(Ok(Err(error))) = self.end() {
            log::error!("the broker had ended: {error}");
        }
    }
}
