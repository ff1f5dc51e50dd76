//! Connections as ZeroMQ makes them: in order, delayed, and lossy only where one breaks.
//!
//! A peer's socket goes through many connections, each with an identity of its own at its broker.
//! When one breaks, of what was under way some has arrived, some is lost, and what still was in the
//! peer's pipe follows at the next one, after the hello. Either side hears of it late, or never.

use std::collections::VecDeque;

use giostra_core::broker::Output;
use giostra_protocol::Identity;
use giostra_protocol::{Bytes, FromClient, FromWorker, ToClient, ToWorker};

use crate::plan::MS;
use crate::world::{Step, World};

/// The number of a connection; its identity is made from it.
pub type Conn = u64;

/// Connections with this number and greater are of peers that are not simulated.
pub const STRAYS: Conn = 1 << 40;

/// The numbers of strays at one broker.
pub const STRAYS_OF_BROKER: Conn = 1 << 32;

/// One end of the simulated peers: a worker's link to a broker, by the numbers of both, or a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Worker(usize, usize),
    Client(usize),
}

/// A message to the broker.
#[derive(Clone, Debug)]
pub enum Up {
    Worker(FromWorker),
    Client(FromClient),
    Malformed(Peer),
}

/// A message from the broker.
#[derive(Clone, Debug)]
pub enum Down {
    Worker(ToWorker),
    Client(ToClient),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Intact,
    /// When nothing gets through, and nobody knows.
    Cut,
    Broken,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// A connection, with what is under way: when it arrives, and what it is.
pub struct Connection {
    peer: Peer,
    /// The broker at its other end.
    broker: usize,
    state: State,
    /// Whether sends of the broker fail.
    gone: bool,
    up: VecDeque<(u64, Up)>,
    down: VecDeque<(u64, Down)>,
}

/// A peer's end.
#[derive(Default)]
pub struct Socket {
    /// The broker that it is connected to, or is to be.
    pub broker: usize,
    /// The connection, if there is one.
    pub conn: Option<Conn>,
    /// What waits for the next one.
    pub pipe: VecDeque<Up>,
    /// The process that it belongs to.
    pub process: u64,
}

/// What becomes of the peer when its connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// When it hears of it and connects again.
    Reconnects,
    /// When its process was killed.
    Dies,
    /// When its process ended in order: what it had sent arrives.
    Exits,
}

/// The identity by which the broker knows a connection.
pub fn identity(conn: Conn) -> Identity {
    Identity(Bytes::copy_from_slice(&conn.to_be_bytes()))
}

/// The connection of that identity.
pub fn conn_of(identity: &Identity) -> Conn {
    Conn::from_be_bytes(identity.0[..].try_into().expect("eight bytes"))
}

impl World<'_> {
    /// The peer's end.
    pub fn socket(&mut self, peer: Peer) -> &mut Socket {
        match peer {
            Peer::Worker(number, link) => &mut self.workers[number].sockets[link],
            Peer::Client(number) => &mut self.clients[number].socket,
        }
    }

    /// Whether all is well between the broker and this peer's end of the connection.
    pub fn is_intact(&self, conn: Conn) -> bool {
        self.connections.get(&conn).is_some_and(|connection| connection.state == State::Intact)
    }

    /// Whose connection it is; `None` if it is gone.
    pub fn peer_of(&self, conn: Conn) -> Option<Peer> {
        self.connections.get(&conn).filter(|connection| connection.state != State::Broken).map(|known| known.peer)
    }

    /// A peer tries to connect. It says hello first, then what is left of before.
    pub fn connect(&mut self, peer: Peer, process: u64) {
        let socket = self.socket(peer);
        if socket.process != process || socket.conn.is_some() {
            return;
        }
        let broker = socket.broker;
        if self.brokers[broker].is_none() {
            self.turns_to_the_next(peer);
            let retry = self.dice.range(MS, 10 * MS);
            return self.after(retry, Step::Connect(peer, process));
        }
        self.last_conn += 1;
        let conn = self.last_conn;
        let (up, down) = (VecDeque::new(), VecDeque::new());
        self.connections.insert(conn, Connection { peer, broker, state: State::Intact, gone: false, up, down });
        let hello = self.hello(peer);
        let socket = self.socket(peer);
        socket.conn = Some(conn);
        let stale = std::mem::take(&mut socket.pipe);
        self.counts.add("message-stale", stale.len() as u64);
        for message in [hello].into_iter().chain(stale) {
            self.send_up(peer, message);
        }
        if matches!(peer, Peer::Client(_)) {
            self.watch(conn);
        }
    }

    /// A client of several brokers goes on to the next, with a socket of its own for that one.
    pub fn turns_to_the_next(&mut self, peer: Peer) {
        if let (Peer::Client(number), brokers @ 2..) = (peer, self.brokers.len()) {
            let socket = &mut self.clients[number].socket;
            socket.broker = (socket.broker + 1) % brokers;
            socket.pipe.clear();
        }
    }

    fn hello(&self, peer: Peer) -> Up {
        match peer {
            Peer::Worker(number, link) => Up::Worker(self.workers[number].register(link)),
            Peer::Client(number) => Up::Client(self.clients[number].hello()),
        }
    }

    /// A peer sends a message, now or when it is connected.
    pub fn send_up(&mut self, peer: Peer, message: Up) {
        let Some(conn) = self.socket(peer).conn else {
            self.socket(peer).pipe.push_back(message);
            return;
        };
        if let (Peer::Client(number), Up::Client(message)) = (peer, &message) {
            self.clients[number].has_sent(message);
        }
        let delay = self.delay();
        let connection = self.connections.get_mut(&conn).expect("its peer is connected");
        let at = connection.up.back().map_or(0, |&(at, _)| at).max(self.now + delay);
        connection.up.push_back((at, message));
        self.at(at, Step::Arrive(conn, Way::Up));
    }

    /// The broker sends a message. False: there is no such peer.
    pub fn send_down(&mut self, output: Output) -> bool {
        let (conn, message) = match output {
            Output::ToWorker(to, message) => (conn_of(&to), Down::Worker(message)),
            Output::ToClient(to, message) => (conn_of(&to), Down::Client(message)),
            Output::Close(_) | Output::Status(..) | Output::Store(_) | Output::Log(_) => return true,
        };
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&conn) else { return conn >= STRAYS && conn % 2 == 0 };
        if connection.state == State::Broken {
            return !connection.gone;
        }
        let at = connection.down.back().map_or(0, |&(at, _)| at).max(self.now + delay);
        connection.down.push_back((at, message));
        self.at(at, Step::Arrive(conn, Way::Down));
        true
    }

    fn delay(&mut self) -> u64 {
        if !self.calm && self.dice.once_in(100) {
            self.counts.count("message-delayed");
            return self.dice.range(MS, 15 * MS);
        }
        self.dice.range(30, 300)
    }

    /// What is due on a connection arrives.
    pub fn arrive(&mut self, conn: Conn, way: Way) {
        let now = self.now;
        while let Some(connection) = self.connections.get_mut(&conn)
            && connection.state == State::Intact
        {
            let peer = connection.peer;
            match way {
                Way::Up if connection.up.front().is_some_and(|&(at, _)| at <= now) => {
                    let (_, message) = connection.up.pop_front().expect("it was just seen");
                    self.arrive_up(conn, message);
                }
                Way::Down if connection.down.front().is_some_and(|&(at, _)| at <= now) => {
                    let (_, message) = connection.down.pop_front().expect("it was just seen");
                    self.arrive_down(peer, message);
                }
                _ => return,
            }
        }
    }

    /// A message is there for the broker.
    pub fn arrive_up(&mut self, conn: Conn, message: Up) {
        let broker = self.broker_of(conn);
        let Some(life) = &mut self.brokers[broker] else { return };
        match &message {
            Up::Worker(_) | Up::Malformed(Peer::Worker(..)) => life.from_workers.push_back((conn, message)),
            Up::Client(_) | Up::Malformed(Peer::Client(_)) => life.from_clients.push_back((conn, message)),
        }
        self.wake_broker(broker, self.now);
    }

    fn arrive_down(&mut self, peer: Peer, message: Down) {
        match (peer, message) {
            (Peer::Worker(number, link), Down::Worker(message)) => self.worker_receives(number, link, message),
            (Peer::Client(number), Down::Client(message)) => self.client_hears(number, message),
            (peer, message) => panic!("{peer:?} was sent {message:?}"),
        }
    }

    /// A connection breaks; the broker hears of it after `notice`, if ever.
    pub fn break_connection(&mut self, conn: Conn, fate: Fate, notice: Option<u64>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.state == State::Broken {
            return;
        }
        let (peer, broker, cut) = (connection.peer, connection.broker, connection.state == State::Cut);
        self.trace.note(self.now, || format!("-- {conn} of {peer:?} breaks: {fate:?}, notice {notice:?}"));
        let mut up = std::mem::take(&mut connection.up);
        let mut down = std::mem::take(&mut connection.down);
        connection.state = State::Broken;
        connection.gone = notice.is_some() && self.dice.once_in(2);

        let arrived = match fate {
            _ if cut || self.brokers[broker].is_none() => 0,
            Fate::Exits => up.len(),
            _ => self.dice.index(up.len() + 1),
        };
        let mut stale = up.split_off(arrived);
        let lost = if fate == Fate::Reconnects { self.dice.index(stale.len() + 1) } else { stale.len() };
        let stale = stale.split_off(lost);
        let read = if cut || fate != Fate::Reconnects { 0 } else { self.dice.index(down.len() + 1) };
        let unread = down.split_off(read).len();
        self.counts.add("message-lost", (lost + unread) as u64);

        self.socket(peer).conn = None;
        up.into_iter().for_each(|(_, message)| self.arrive_up(conn, message));
        match notice {
            Some(after) => self.after(after, Step::Notice(conn)),
            None => self.counts.count("notice-never"),
        }
        if fate == Fate::Reconnects {
            // What it still reads may be the goodbye, upon which this process ends and does not
            // connect again.
            let process = self.socket(peer).process;
            self.socket(peer).pipe = stale.into_iter().map(|(_, message)| message).collect();
            down.into_iter().for_each(|(_, message)| self.arrive_down(peer, message));
            self.hiccup(peer, process);
        }
    }

    fn hiccup(&mut self, peer: Peer, process: u64) {
        let message = match peer {
            Peer::Worker(..) => Down::Worker(ToWorker::Hiccup),
            Peer::Client(_) => Down::Client(ToClient::Hiccup),
        };
        self.turns_to_the_next(peer);
        self.arrive_down(peer, message);
        let after = self.dice.range(MS, 30 * MS);
        self.after(after, Step::Connect(peer, process));
    }

    /// The broker hears that a connection broke.
    pub fn notice(&mut self, conn: Conn) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.gone = true;
        let message = match connection.peer {
            Peer::Worker(..) => Up::Worker(FromWorker::Disconnected),
            Peer::Client(_) => Up::Client(FromClient::Disconnected),
        };
        self.arrive_up(conn, message);
    }

    /// A broker is gone: all its connections break, and their peers hear of it.
    pub fn break_all(&mut self, broker: usize) {
        for conn in self.connections_of(broker) {
            self.break_connection(conn, Fate::Reconnects, Some(0));
        }
        self.connections.retain(|_, connection| connection.broker != broker);
    }

    /// The connections of a broker.
    pub fn connections_of(&self, broker: usize) -> Vec<Conn> {
        let all = self.connections.iter();
        all.filter(|(_, connection)| connection.broker == broker).map(|(&conn, _)| conn).collect()
    }

    /// The broker at the other end.
    fn broker_of(&self, conn: Conn) -> usize {
        let of_stray = || (conn.saturating_sub(STRAYS) / STRAYS_OF_BROKER) as usize;
        self.connections.get(&conn).map_or_else(of_stray, |connection| connection.broker)
    }

    /// The peer looks in a while whether the broker is still there. One that has a single broker has
    /// no other to go to.
    pub fn watch(&mut self, conn: Conn) {
        if self.brokers.len() > 1 {
            // Workers are more patient.
            let times = if matches!(self.peer_of(conn), Some(Peer::Worker(..))) { 2 } else { 1 };
            self.after(times * self.plan.heartbeat, Step::Silence(conn));
        }
    }

    /// A peer gives up a connection over which it hears nothing.
    pub fn silence(&mut self, conn: Conn) {
        let Some(connection) = self.connections.get(&conn).filter(|it| it.state != State::Broken) else { return };
        let frozen = self.brokers[connection.broker].as_ref().is_some_and(|life| self.now < life.frozen_until);
        let unanswered = matches!(connection.peer, Peer::Client(number) if !self.clients[number].is_up());
        if frozen || unanswered || connection.state == State::Cut {
            self.counts.count("broker-given-up");
            let notice = self.draw_notice();
            self.break_connection(conn, Fate::Reconnects, notice);
        }
    }

    /// Lets nothing through any more, without a notice.
    pub fn cut(&mut self, conn: Conn) {
        if let Some(connection) = self.connections.get_mut(&conn).filter(|it| it.state == State::Intact) {
            connection.state = State::Cut;
            self.trace.note(self.now, || format!("-- {conn} of {:?} is cut", connection.peer));
            self.watch(conn);
        }
    }

    /// Everything gets through again, all at once.
    pub fn mend(&mut self, conn: Conn) {
        if let Some(connection) = self.connections.get_mut(&conn).filter(|it| it.state == State::Cut) {
            connection.state = State::Intact;
            self.trace.note(self.now, || format!("-- {conn} of {:?} is mended", connection.peer));
            self.counts.count("cable-mended");
            self.arrive(conn, Way::Up);
            self.arrive(conn, Way::Down);
        }
    }
}
