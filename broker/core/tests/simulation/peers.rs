//! What all simulated workers and clients have in common: what requests are about, and what processes
//! may be doing.

use giostra_protocol::{Bytes, Failure, Outcome};

use crate::network::{Conn, Fate};
use crate::workers::Worker;
use crate::world::{Step, World};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// When it has a result.
    Compute(u64),
    /// When it has none, but an error.
    Fail(u64),
    /// When it kills the worker that computes it.
    Poison(u64),
}

impl Task {
    /// The request's body.
    pub fn body(self) -> Bytes {
        let (kind, number) = match self {
            Self::Compute(number) => (0, number),
            Self::Fail(number) => (1, number),
            Self::Poison(number) => (2, number),
        };
        Bytes::from([&[kind][..], &number.to_be_bytes()].concat())
    }

    /// What a body asks for.
    pub fn of(body: &[u8]) -> Self {
        let number = u64::from_be_bytes(body[1..].try_into().expect("a body of nine bytes"));
        [Self::Compute, Self::Fail, Self::Poison][usize::from(body[0])](number)
    }

    /// How it ends, if it does.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Compute(number) => {
                let result = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                Some(Outcome::Ok(Bytes::copy_from_slice(&result)))
            }
            Self::Fail(number) => Some(Outcome::Error(Failure::from(format!("{number} has no result")))),
            Self::Poison(_) => None,
        }
    }
}

/// What a worker's process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Running,
    /// When it does nothing, but its connection stands.
    Frozen,
    Ended,
}

impl Worker {
    /// The number of its process.
    pub fn process(&self) -> u64 {
        self.sockets[0].process
    }

    /// Its connections.
    pub fn conns(&self) -> Vec<Option<Conn>> {
        self.sockets.iter().map(|socket| socket.conn).collect()
    }
}

impl World<'_> {
    /// The process of a worker stops for a while.
    pub fn freeze_worker(&mut self, number: usize, time: u64) {
        self.workers[number].state = Process::Frozen;
        self.workers[number].troubled_until = self.now + time;
        self.after(time, Step::Thaw(number, self.workers[number].process()));
    }

    /// A client goes away for good.
    pub fn vanish(&mut self, number: usize, notice: Option<u64>) {
        let client = &mut self.clients[number];
        client.living = false;
        client.socket.process += 1;
        if let Some(conn) = client.socket.conn {
            self.break_connection(conn, Fate::Dies, notice);
        }
    }
}
