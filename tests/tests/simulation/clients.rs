//! Simulated clients that hold the conversation of the real ones: [`Session`] decides what is sent,
//! and which reply counts. A client of several brokers goes on to the next when its connection breaks
//! or its broker falls silent: see [`crate::network`].
//!
//! Beside the session each client keeps books of its own, and judges each reply by what the request was
//! about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use giostra_client::sans_io::{Link, Session};
use giostra_protocol::{FromClient, Outcome, Priority, Reply, RequestId, ToClient, VERSION, code};

use crate::network::{Fate, Peer, Socket, Up};
use crate::peers::Task;
use crate::plan::MS;
use crate::world::{Step, World};

/// For how long a client puts up with there being no broker: for longer than any run.
const BROKER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A request that was made.
struct Request {
    task: Task,
    /// In microseconds since the beginning.
    deadline: Option<u64>,
    answered: bool,
}

/// A client.
pub struct Client {
    pub socket: Socket,
    /// Whether it still wants anything.
    pub living: bool,
    name: String,
    session: Session,
    /// Whether its requests wait for a worker.
    wait: bool,
    /// All that it ever asked for and has not given up.
    requests: BTreeMap<u64, Request>,
    cancelled: BTreeSet<u64>,
    /// When it has requests again.
    submit_at: u64,
    /// When the session is to be told the time.
    due: Option<u64>,
}

impl Client {
    /// What it says first.
    pub fn hello(&self) -> FromClient {
        FromClient::Hello { version: VERSION, name: self.name.clone() }
    }

    /// Whether a broker has welcomed it.
    pub fn is_up(&self) -> bool {
        !matches!(self.session.link(), Link::Down(_))
    }

    /// The session keeps books of what is under way.
    pub fn has_sent(&mut self, _: &FromClient) {}

    /// What its requests bear.
    pub fn session(&self) -> u64 {
        self.session.number()
    }

    /// Whether it waits for nothing, or for nothing any more.
    pub fn is_content(&self) -> bool {
        !self.living || self.session.unanswered() == 0
    }

    /// The ids it waits for.
    pub fn unanswered(&self) -> Vec<u64> {
        self.requests.iter().filter(|(_, request)| !request.answered).map(|(&id, _)| id).collect()
    }

    /// All is over: what it asked for and has not given up has been answered.
    pub fn ends(&self) {
        let lost = self.unanswered();
        assert!(!self.living || lost.is_empty(), "{} was never answered {lost:?}", self.name);
    }

    fn judge(&mut self, reply: &Reply, now: u64) {
        let id = reply.id.0;
        assert!(!self.cancelled.contains(&id), "{} gave {id} up, and has a reply to it", self.name);
        let request = self.requests.get_mut(&id).unwrap_or_else(|| panic!("{} never sent {id}", self.name));
        assert!(!request.answered, "{} has another reply to {id}", self.name);
        request.answered = true;
        match &reply.outcome {
            Outcome::Error(failure) if [code::EXPIRED, code::NO_BROKER].contains(&&*failure.code) => {
                let deadline = request.deadline.expect("only what has a time limit expires");
                assert!(deadline <= now, "{id} expired {} us too early", deadline - now);
            }
            Outcome::Error(failure) if failure.code == code::NO_WORKER => {
                assert!(!self.wait, "{id} was to wait for a worker");
            }
            Outcome::Error(failure) if failure.code == code::POISON => {}
            outcome => {
                let right = request.task.outcome();
                assert_eq!(Some(outcome), right.as_ref(), "{} was misinformed about {id}", self.name);
            }
        }
    }
}

impl World<'_> {
    /// A client more. It connects at once, to any of the brokers.
    pub fn add_client(&mut self) {
        let number = self.clients.len();
        let pool = format!("pool-{}", self.dice.index(self.plan.pools));
        let wait = !self.dice.once_in(8);
        let broker = self.dice.index(self.brokers.len());
        let after = self.dice.range(0, 5 * MS);
        self.clients.push(Client {
            socket: Socket { broker, ..Socket::default() },
            living: true,
            name: format!("client-{number}"),
            session: Session::new(&pool, wait, BROKER_TIMEOUT, self.instant()),
            wait,
            requests: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            submit_at: self.now + after,
            due: None,
        });
        self.after(after, Step::Connect(Peer::Client(number), 0));
        self.after(after, Step::ClientDue(number));
    }

    /// It has something to ask for, or something else is due.
    pub fn client_is_due(&mut self, number: usize) {
        let now = self.instant();
        let client = &mut self.clients[number];
        if !client.living {
            return;
        }
        if client.due.is_some_and(|due| due <= self.now) {
            client.due = None;
        }
        client.session.handle_timeout(now);
        if !self.calm && self.clients[number].submit_at <= self.now {
            self.submit(number);
        }
        self.pump(number);
    }

    fn submit(&mut self, number: usize) {
        for _ in 0..self.dice.one_of(&[1, 1, 3, 8, 20]) {
            let limited = self.plan.limits > 0 && self.dice.once_in(self.plan.limits);
            let limit = limited.then(|| self.dice.range(3, 300) * MS);
            let poison = self.plan.poison > 0 && self.dice.once_in(self.plan.poison);
            let fails = self.dice.once_in(20);
            let priority = Priority::ALL[self.dice.range(0, 2) as usize];
            self.ask(
                number,
                limit,
                priority,
                [Task::Compute, Task::Fail, Task::Poison][if poison { 2 } else { usize::from(fails) }],
            );
        }
        let pause = self.dice.range(MS, self.plan.submit_every);
        self.clients[number].submit_at = self.now + pause;
        self.after(pause, Step::ClientDue(number));
    }

    /// It asks for something, with this time limit. To be followed by [`Self::pump`].
    pub fn ask(&mut self, number: usize, limit: Option<u64>, priority: Priority, task: fn(u64) -> Task) {
        let now = self.instant();
        let client = &mut self.clients[number];
        let task = task((number as u64) << 32 | (client.requests.len() + client.cancelled.len()) as u64);
        let deadline = limit.map(|limit| now + Duration::from_micros(limit));
        let id = client.session.submit(task.body(), deadline, priority);
        let deadline = limit.map(|limit| self.now + limit);
        client.requests.insert(id.0, Request { task, deadline, answered: false });
    }

    /// Sends what it has to send, and takes what was answered.
    pub fn pump(&mut self, number: usize) {
        let now = self.instant();
        while let Some(message) = self.clients[number].session.poll_send(now) {
            self.client_says(number, message);
        }
        let client = &mut self.clients[number];
        while let Some(reply) = client.session.take_reply() {
            client.judge(&reply, self.now);
        }
        let Some(at) = client.session.poll_timeout() else { return };
        let at = self.now + at.saturating_duration_since(now).as_nanos().div_ceil(1000) as u64;
        if client.due.is_none_or(|due| at < due || due <= self.now) {
            client.due = Some(at);
            self.at(at, Step::ClientDue(number));
        }
    }

    /// It says something.
    pub fn client_says(&mut self, number: usize, message: FromClient) {
        self.send_up(Peer::Client(number), Up::Client(message));
    }

    /// A message is there for it. It does what `giostra-client` does around its session.
    pub fn client_hears(&mut self, number: usize, message: ToClient) {
        let now = self.instant();
        let client = &mut self.clients[number];
        if !client.living {
            return;
        }
        self.trace.note(self.now, || format!("    {} {:?} hears {message:?}", client.name, client.socket.conn));
        let is_welcome = matches!(message, ToClient::Welcome { .. });
        let (is_goodbye, is_closing) = (message == ToClient::Goodbye, message == ToClient::Closing);
        let is_hello_again = message == ToClient::HelloAgain;
        let twice = client.session.duplicated();
        client.session.handle(message, now);
        assert_eq!(client.session.duplicated(), twice, "{} is answered twice over one connection", client.name);
        if is_welcome {
            let owner = client.socket.conn.map(|conn| *self.sessions.entry(client.session.number()).or_insert(conn));
            assert_eq!(owner, client.socket.conn, "session {} was another connection's", client.session.number());
        }
        if is_hello_again {
            let hello = client.hello();
            self.client_says(number, hello);
        } else if is_goodbye {
            self.client_says(number, FromClient::Goodbye);
            self.leave_closing(number);
        } else if is_closing && client.session.under_way() == 0 {
            self.leave_closing(number);
        }
        self.pump(number);
    }

    /// It leaves a broker that is closing, if there is another one.
    fn leave_closing(&mut self, number: usize) {
        if self.brokers.len() == 1 {
            return;
        }
        let now = self.instant();
        let client = &mut self.clients[number];
        client.session.handle(ToClient::Hiccup, now);
        let process = client.socket.process;
        if let Some(conn) = client.socket.conn {
            self.break_connection(conn, Fate::Exits, Some(0));
        }
        self.turns_to_the_next(Peer::Client(number));
        let after = self.dice.range(0, MS);
        self.after(after, Step::Connect(Peer::Client(number), process));
    }

    /// It gives up some of what it waits for.
    pub fn cancel(&mut self, number: usize) {
        let every = self.dice.range(1, 3);
        let client = &mut self.clients[number];
        let ids: Vec<_> = client.unanswered().into_iter().filter(|id| id % every == 0).collect();
        if ids.is_empty() {
            return;
        }
        self.counts.count("client-cancels");
        client.requests.retain(|id, _| !ids.contains(id));
        client.cancelled.extend(&ids);
        for message in client.session.cancel(ids.into_iter().map(RequestId).collect()) {
            self.client_says(number, message);
        }
    }

    /// Nothing: its session never sends the same over the same connection.
    pub fn resend(&mut self, _: usize) {}
}
