//! Peers that say what they like, with keys or without.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::{Bytes, FromClient, FromWorker, Registration, ToClient, VERSION};
use giostra_tests::process::wait_for;
use giostra_transport::keys::Credentials;
use giostra_transport::socket;
use zmq::{Context, Socket, SocketType};

/// A DEALER at the broker.
pub struct Peer {
    socket: Socket,
}

impl Peer {
    /// One that has said nothing yet.
    pub fn connect(endpoint: &str, credentials: Option<&Credentials>) -> Result<Self> {
        let socket = plain(&Context::new(), credentials)?;
        socket.connect(endpoint)?;
        Ok(Self { socket })
    }

    /// A client that the broker has welcomed, and its session.
    pub fn client(endpoint: &str, credentials: Option<&Credentials>) -> Result<(Self, u64)> {
        let peer = Self::connect(endpoint, credentials)?;
        peer.say(hello())?;
        match peer.hear()? {
            ToClient::Welcome { session, .. } => Ok((peer, session)),
            other => bail!("{other:?} instead of a welcome"),
        }
    }

    /// Sends a message.
    pub fn say<M: Message>(&self, message: M) -> Result<()> {
        let Frames { envelope, attachments } = message.encode();
        let frames = [envelope].into_iter().chain(attachments).map(|frame| frame.to_vec());
        self.send(&frames.collect::<Vec<_>>())
    }

    /// Sends frames, whatever they are.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        Ok(self.socket.send_multipart(frames, 0)?)
    }

    /// The next message.
    pub fn hear<M: Message>(&self) -> Result<M> {
        let frames = wait_for("the broker says something", || socket::receive(&self.socket).transpose())??;
        Ok(M::decode(&frames)?)
    }

    /// What there is to hear within a while: nothing, one hopes.
    pub fn listen(&self, time: Duration) -> Result<Vec<Vec<u8>>> {
        let began = Instant::now();
        let mut heard = Vec::new();
        while let Some(left) = time.checked_sub(began.elapsed()) {
            if self.socket.poll(zmq::POLLIN, left.as_millis() as i64)? > 0 {
                heard.extend(self.socket.recv_multipart(zmq::DONTWAIT)?);
            }
        }
        Ok(heard)
    }
}

/// A DEALER that is not connected yet.
pub fn plain(context: &Context, credentials: Option<&Credentials>) -> Result<Socket> {
    let socket = context.socket(SocketType::DEALER)?;
    socket.set_linger(0)?;
    socket.set_sndhwm(0)?;
    socket.set_reconnect_ivl(1)?;
    if let Some(keys) = credentials {
        let own = &keys.own;
        socket.set_curve_serverkey(keys.broker(0).as_bytes())?;
        socket.set_curve_publickey(own.public.as_bytes())?;
        socket.set_curve_secretkey(own.secret.as_bytes())?;
    }
    Ok(socket)
}

/// A `Hello`.
pub fn hello() -> FromClient {
    FromClient::Hello { version: VERSION, name: "stranger".into() }
}

/// A `Register` of this version.
pub fn register_of(version: u32) -> FromWorker<Bytes> {
    let operations = vec!["add".into()];
    Registration { version, name: "stranger".into(), operations, ..Registration::default() }.into()
}

/// A `Register`.
pub fn register() -> FromWorker<Bytes> {
    register_of(VERSION)
}
