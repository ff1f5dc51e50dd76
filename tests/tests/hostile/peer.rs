//! Peers that say what they like: raw sockets, without the options and the manners of Giostra's
//! own.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail};
use giostra_protocol::Identity;
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::{Bytes, FromClient, FromWorker, Registration, ToClient, ToWorker, VERSION};
use giostra_tests::port::until_free;
use giostra_tests::process::wait_for;
use giostra_transport::socket;
use zmq::{Context, Socket, SocketType};

/// A DEALER at the broker, as a client or as a worker.
pub struct Peer {
    socket: Socket,
}

impl Peer {
    /// One that has said nothing yet.
    pub fn connect(endpoint: &str) -> Result<Self> {
        Self::of_type(SocketType::DEALER, endpoint)
    }

    /// One of any type of socket.
    pub fn of_type(socket_type: SocketType, endpoint: &str) -> Result<Self> {
        let socket = Context::new().socket(socket_type)?;
        // What it has not sent is not to be waited for; nor does it wait for room itself.
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.connect(endpoint)?;
        Ok(Self { socket })
    }

    /// One that chooses its routing id itself.
    pub fn named(name: &[u8], endpoint: &str) -> Result<Self> {
        let socket = Context::new().socket(SocketType::DEALER)?;
        socket.set_linger(0)?;
        socket.set_identity(name)?;
        socket.connect(endpoint)?;
        Ok(Self { socket })
    }

    /// A client that the broker has welcomed, and its session.
    pub fn client(endpoint: &str) -> Result<(Self, u64)> {
        let peer = Self::connect(endpoint)?;
        peer.say(FromClient::Hello { version: VERSION, name: "stranger".into() })?;
        match peer.hear()? {
            ToClient::Welcome { session, .. } => Ok((peer, session)),
            other => bail!("{other:?} instead of a welcome"),
        }
    }

    /// A worker of that pool that the broker has welcomed.
    pub fn worker(endpoint: &str, pool: &str) -> Result<Self> {
        let peer = Self::connect(endpoint)?;
        peer.say(register(VERSION, "stranger", pool))?;
        match peer.hear()? {
            ToWorker::Welcome { .. } => Ok(peer),
            other => bail!("{other:?} instead of a welcome"),
        }
    }

    /// Sends frames, whatever they are.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        Ok(self.socket.send_multipart(frames, 0)?)
    }

    /// Sends a message.
    pub fn say<M: Message>(&self, message: M) -> Result<()> {
        self.send(&sent(message))
    }

    /// The next message.
    pub fn hear<M: Message>(&self) -> Result<M> {
        let frames = wait_for("the broker says something", || socket::receive(&self.socket).transpose())??;
        Ok(M::decode(&frames)?)
    }

    /// What is there is thrown away.
    pub fn ignore(&self) -> Result<()> {
        while socket::receive(&self.socket)?.is_some() {}
        Ok(())
    }

    /// The next message but for pings, which come at any time and are answered.
    pub fn hear_as_worker(&self) -> Result<ToWorker> {
        loop {
            match self.hear()? {
                ToWorker::Ping { sequence } => {
                    self.say(FromWorker::<Bytes>::Pong { sequence, computing: 0, waiting: 0, oldest_ms: 0 })?;
                }
                other => return Ok(other),
            }
        }
    }
}

/// A `Register`.
pub fn register(version: u32, name: &str, pool: &str) -> FromWorker {
    let (name, pool, operations) = (name.into(), pool.into(), vec!["add".into()]);
    Registration { version, name, pool, operations, ..Registration::default() }.into()
}

/// A message as it is sent.
pub fn sent<M: Message>(message: M) -> Vec<Vec<u8>> {
    let Frames { envelope, attachments } = message.encode();
    [envelope].into_iter().chain(attachments).map(|frame| frame.to_vec()).collect()
}

/// A ROUTER that poses as a broker to one peer.
pub struct Impostor {
    socket: Socket,
    /// Where it listens.
    pub endpoint: String,
    peer: Option<Identity>,
}

impl Impostor {
    /// One to which nobody has come yet, on a port that the system picks.
    pub fn listen() -> Result<Self> {
        Self::listen_at("tcp://127.0.0.1:*")
    }

    /// The same at an endpoint of one's choice.
    pub fn listen_at(endpoint: &str) -> Result<Self> {
        let socket = Context::new().socket(SocketType::ROUTER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        until_free(|| Ok(socket.bind(endpoint)?))?;
        let endpoint = socket::bound_endpoint(&socket)?;
        Ok(Self { socket, endpoint, peer: None })
    }

    /// The next message; its sender is the peer from now on.
    pub fn hear<M: Message + Debug>(&mut self) -> Result<M> {
        let (from, frames) =
            wait_for("somebody comes and says something", || socket::receive_from(&self.socket).transpose())??;
        self.peer = Some(from);
        Ok(M::decode(&frames)?)
    }

    /// Sends frames to the peer, whatever they are.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        let peer = self.peer.as_ref().context("nobody has come yet")?;
        let frames = [peer.0.to_vec()].into_iter().chain(frames.iter().cloned());
        Ok(self.socket.send_multipart(frames, 0)?)
    }

    /// Sends the peer a message.
    pub fn say<M: Message>(&self, message: M) -> Result<()> {
        self.send(&sent(message))
    }
}
