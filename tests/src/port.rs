//! A port that stays one's own while nobody listens on it.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt::ReuseAddr,
};

use crate::process::wait_for;

/// A port of 127.0.0.1, picked by the system. As long as this lives nobody else is given it,
/// neither to listen nor to connect from; whoever is told its number may listen there (as libzmq
/// and the standard library do, with `SO_REUSEADDR`), and stop, and listen again.
/// Meanwhile connections are refused.
///
/// A port that was merely free a moment ago is one that a test beside this one may be given in the
/// next.
#[derive(Debug)]
pub struct Port {
    /// Bound, never listening.
    _socket: OwnedFd,
    /// Its number.
    pub number: u16,
}

impl Port {
    /// One that nobody uses.
    pub fn reserve() -> Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
        let number = getsockname::<SockaddrIn>(socket.as_raw_fd())?.port();
        Ok(Self { _socket: socket, number })
    }

    /// Address and port: `127.0.0.1:40000`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// The same for ZeroMQ: `tcp://127.0.0.1:40000`.
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address())
    }

    /// Listens there, for something that is not ZeroMQ.
    pub fn listen(&self) -> Result<TcpListener> {
        until_free(|| TcpListener::bind(self.address()).map_err(Into::into))
    }
}

/// Binds where one's own process has just stopped listening. It may take a moment: a process that
/// another thread starts has the listening socket, too, until it becomes the program that it is to
/// be.
pub fn until_free<T>(mut bind: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    let bound = wait_for("the port is free", || bind().map_err(|error| last = Some(error)).ok());
    bound.map_err(|late| last.map_or(late, |error| error.context("the port is not free")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_ones_own_between_two_who_listen() -> Result<()> {
        let port = Port::reserve()?;
        for _ in 0..2 {
            assert!(std::net::TcpStream::connect(port.address()).is_err());
            let listener = port.listen()?;
            assert_eq!(listener.local_addr()?.to_string(), port.address());
            drop((std::net::TcpStream::connect(port.address())?, listener));
        }
        Ok(())
    }
}
