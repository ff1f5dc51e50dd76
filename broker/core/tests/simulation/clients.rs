//! Simulated clients: the conversation of `giostra-client`, in few lines, and whether they get what
//! they are owed.
//!
//! A client resends what is unanswered after its connection broke, and takes the first reply to
//! each request. It judges each reply by what the request was about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use giostra_protocol::{Bytes, FromClient, Outcome, Priority, Reply, RequestId, ToClient, VERSION, code};

use crate::network::{Peer, Socket, Up};
use crate::peers::Task;
use crate::plan::MS;
use crate::world::{Step, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Up,
    Closing,
}

#[derive(Clone)]
struct Request {
    task: Task,
    pool: String,
    deadline: Option<u64>,
    /// Whether it waits for a worker.
    wait: bool,
    priority: Priority,
}

/// A client.
pub struct Client {
    pub socket: Socket,
    /// Whether it still wants anything.
    pub living: bool,
    name: String,
    link: Link,
    /// Of the last welcome.
    session: u64,
    last_id: u64,
    unanswered: BTreeMap<u64, Request>,
    unsent: VecDeque<u64>,
    /// How many requests it may send, once it was turned away.
    room: Option<u64>,
    /// All that it ever asked for.
    tasks: BTreeMap<u64, Task>,
    cancelled: BTreeSet<u64>,
    /// Over this connection: how often each id was sent, and how often answered.
    sent: BTreeMap<u64, u64>,
    answered: BTreeMap<u64, u64>,
    /// Whether it has sent something twice of its own will, over this connection.
    resent: bool,
}

impl Client {
    /// What it says first.
    pub fn hello(&self) -> FromClient {
        FromClient::Hello { version: VERSION, name: self.name.clone() }
    }

    /// A message of its own goes out over its present connection. What the pipe still held before
    /// the welcome is not meant for it.
    pub fn has_sent(&mut self, message: &FromClient) {
        if let FromClient::Submit { requests, .. } = message
            && self.link != Link::Down
        {
            requests.iter().for_each(|(id, _)| *self.sent.entry(id.0).or_default() += 1);
        }
    }

    /// Whether a broker has welcomed it.
    pub fn is_up(&self) -> bool {
        self.link != Link::Down
    }

    /// All is over; each reply was looked at when it came.
    pub fn ends(&self) {}

    /// What its requests bear.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Whether it waits for nothing, or for nothing any more.
    pub fn is_content(&self) -> bool {
        !self.living || self.unanswered.is_empty()
    }

    /// The ids it waits for.
    pub fn unanswered(&self) -> Vec<u64> {
        self.unanswered.keys().copied().collect()
    }

    /// The next message with requests, all for the same pool and with the same time left.
    fn poll_send(&mut self, now: u64) -> Option<FromClient> {
        let mut first: Option<Request> = None;
        let mut requests: Vec<(RequestId, Bytes)> = Vec::new();
        let most = self.room.unwrap_or(u64::MAX);
        while let Some(&id) = self.unsent.front().filter(|_| self.link == Link::Up && (requests.len() as u64) < most) {
            if let Some(request) = self.unanswered.get(&id) {
                let first = first.get_or_insert_with(|| request.clone());
                let alike = |it: &Request| (it.pool.clone(), it.deadline, it.wait, it.priority);
                if alike(first) != alike(request) {
                    break;
                }
                requests.push((RequestId(id), request.task.body()));
            }
            self.unsent.pop_front();
        }
        let Request { pool, deadline, wait, priority, .. } = first?;
        self.room = self.room.map(|room| room - requests.len() as u64);
        let timeout_ms = deadline.map_or(0, |deadline| deadline.saturating_sub(now).div_ceil(MS).max(1));
        Some(FromClient::Submit { session: self.session, pool, timeout_ms, priority, wait, requests })
    }

    /// A reply came. False: one too many, but this client has itself to blame, since it has sent
    /// the request twice.
    fn take(&mut self, reply: &Reply, now: u64) -> bool {
        let id = reply.id.0;
        let task = *self.tasks.get(&id).unwrap_or_else(|| panic!("{} never sent {id}", self.name));
        let replies = self.answered.entry(id).or_default();
        *replies += 1;
        let sent = self.sent.get(&id).copied().unwrap_or(0);
        assert!(
            *replies <= sent,
            "{} has {replies} replies to {id}, sent {sent} times over this connection",
            self.name
        );
        assert!(*replies == 1 || self.resent, "{} has {replies} replies to {id} over this connection", self.name);
        let again = *replies > 1;
        let Some(request) = self.unanswered.remove(&id) else {
            assert!(again || self.cancelled.contains(&id), "{} has another reply to {id}", self.name);
            return !again;
        };
        match &reply.outcome {
            Outcome::Error(failure) if failure.code == code::EXPIRED => {
                let deadline = request.deadline.expect("only what has a time limit expires");
                assert!(deadline <= now, "{id} expired {} us too early", deadline - now);
            }
            Outcome::Error(failure) if failure.code == code::POISON => {}
            outcome => assert_eq!(Some(outcome), task.outcome().as_ref(), "{} was misinformed about {id}", self.name),
        }
        true
    }
}

impl World<'_> {
    /// A client more. It connects at once.
    pub fn add_client(&mut self) {
        let number = self.clients.len();
        self.clients.push(Client {
            socket: Socket::default(),
            living: true,
            name: format!("client-{number}"),
            link: Link::Down,
            session: 0,
            last_id: 0,
            unanswered: BTreeMap::new(),
            unsent: VecDeque::new(),
            room: None,
            tasks: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
            resent: false,
        });
        let after = self.dice.range(0, 5 * MS);
        self.after(after, Step::Connect(Peer::Client(number), 0));
        self.after(after, Step::ClientDue(number));
    }

    /// A client has something to ask for.
    pub fn client_is_due(&mut self, number: usize) {
        if self.calm || !self.clients[number].living {
            return;
        }
        for _ in 0..self.dice.one_of(&[1, 1, 3, 8, 20]) {
            let deadline = (self.plan.limits > 0 && self.dice.once_in(self.plan.limits))
                .then(|| self.now + self.dice.range(3, 300) * MS);
            let pool = format!("pool-{}", self.dice.index(self.plan.pools));
            let poison = self.plan.poison > 0 && self.dice.once_in(self.plan.poison);
            let fails = self.dice.once_in(20);
            let wait = !self.dice.once_in(8);
            let priority = Priority::ALL[self.dice.range(0, 2) as usize];
            let client = &mut self.clients[number];
            client.last_id += 1;
            let (id, what) = (client.last_id, (number as u64) << 32 | client.last_id);
            let task = if poison {
                Task::Poison
            } else if fails {
                Task::Fail
            } else {
                Task::Compute
            }(what);
            client.tasks.insert(id, task);
            client.unanswered.insert(id, Request { task, pool, deadline, wait, priority });
            client.unsent.push_back(id);
        }
        self.send_requests(number);
        let pause = self.dice.range(MS, self.plan.submit_every);
        self.after(pause, Step::ClientDue(number));
    }

    fn send_requests(&mut self, number: usize) {
        while let Some(message) = self.clients[number].poll_send(self.now) {
            self.client_says(number, message);
        }
    }

    /// It says something.
    pub fn client_says(&mut self, number: usize, message: FromClient) {
        self.send_up(Peer::Client(number), Up::Client(message));
    }

    /// A message is there for it.
    pub fn client_hears(&mut self, number: usize, message: ToClient) {
        let now = self.now;
        let client = &mut self.clients[number];
        if !client.living {
            return;
        }
        self.trace.note(now, || format!("    {} {:?} hears {message:?}", client.name, client.socket.conn));
        match message {
            ToClient::Welcome { session, .. } => {
                (client.link, client.session, client.room) = (Link::Up, session, None);
                let owner = client.socket.conn.map(|conn| *self.sessions.entry(session).or_insert(conn));
                assert_eq!(owner, client.socket.conn, "session {session} was another connection's");
            }
            ToClient::Closing => client.link = Link::Closing,
            ToClient::Goodbye => {
                assert_eq!(client.link, Link::Closing, "a goodbye of a broker that has not said that it closes");
                self.client_says(number, FromClient::Goodbye);
            }
            ToClient::Hiccup | ToClient::HelloAgain => {
                client.link = Link::Down;
                client.resent = false;
                client.sent.clear();
                client.answered.clear();
                client.unsent = client.unanswered().into();
                if message == ToClient::HelloAgain {
                    let hello = client.hello();
                    self.client_says(number, hello);
                }
            }
            ToClient::Rejected(ids) => {
                let ids = ids.into_iter().map(|id| id.0);
                ids.rev().filter(|id| client.unanswered.contains_key(id)).for_each(|id| client.unsent.push_front(id));
                client.room = Some(0);
            }
            ToClient::Credit { requests } => client.room = Some(requests),
            ToClient::Replies(replies) => {
                let again = replies.iter().filter(|reply| !client.take(reply, now)).count();
                self.counts.add("answered-resent", again as u64);
            }
            ToClient::NoWorker { requests, .. } => {
                for id in requests {
                    // An answer like any other: what was sent twice may have a second one.
                    *client.answered.entry(id.0).or_default() += 1;
                    let request = client.unanswered.remove(&id.0);
                    assert!(request.is_none_or(|request| !request.wait), "{id:?} was to wait");
                }
            }
            ToClient::Progress(_) | ToClient::Status(_) | ToClient::Draining { .. } => {}
            ToClient::Refused { .. } | ToClient::Declined { .. } | ToClient::Jobs { .. } => {}
        }
        self.send_requests(number);
    }

    /// It gives up some of what it waits for.
    pub fn cancel(&mut self, number: usize) {
        let every = self.dice.range(1, 3);
        let client = &mut self.clients[number];
        let ids: Vec<_> = client.unanswered().into_iter().filter(|id| id % every == 0).collect();
        if ids.is_empty() || client.link != Link::Up {
            return;
        }
        self.counts.count("client-cancels");
        client.unanswered.retain(|id, _| !ids.contains(id));
        client.cancelled.extend(&ids);
        self.client_says(number, FromClient::Cancel(ids.into_iter().map(RequestId).collect()));
    }

    /// It sends again what it waits for, over the same connection.
    pub fn resend(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if client.link == Link::Up && !client.unanswered.is_empty() {
            client.resent = true;
            client.unsent = client.unanswered().into();
            self.counts.count("client-resends");
            self.send_requests(number);
        }
    }
}
