//! Looks up the addresses of brokers' names, each on a thread of its own: a name server that does
//! not answer holds up nobody.
//!
//! libzmq would look a name up in the thread that does all I/O of its context, and take the first
//! address alone.

use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;

/// The time after which an answer is first looked for. It doubles with each look, up to the second
/// one.
const LOOK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// The time between two questions for the same name.
const AGAIN: Duration = Duration::from_secs(1);

/// A broker, by its place in the list, and the endpoints that its name stands for.
pub type Answer = (usize, io::Result<Vec<String>>);

/// The names of brokers, and the questions that are under way.
#[derive(Debug)]
pub struct Names {
    names: Vec<Name>,
    answers: Receiver<Answer>,
    sender: Sender<Answer>,
    /// When to look for an answer, and the time to the next look.
    look: Option<(Instant, Duration)>,
}

/// A name to be looked up.
#[derive(Debug)]
struct Name {
    broker: usize,
    host: String,
    port: u16,
    /// Whether the answer is still to come.
    asked: bool,
    /// When the last question was asked.
    asked_at: Option<Instant>,
    /// When to ask next.
    again: Option<Instant>,
}

impl Names {
    /// Takes the names of these brokers. What is an address or a Unix socket has none.
    pub fn new(brokers: &[Endpoint]) -> Self {
        let names = brokers.iter().enumerate().filter_map(|(broker, endpoint)| match endpoint {
            Endpoint::Tcp(host, port) if endpoint.is_name() => {
                Some(Name { broker, host: host.clone(), port: *port, asked: false, asked_at: None, again: None })
            }
            _ => None,
        });
        let (names, (sender, answers)) = (names.collect(), channel());
        Self { names, answers, sender, look: None }
    }

    /// Asks for all names, except where a question is under way. Where one was asked just before, this
    /// waits a while.
    pub fn ask(&mut self, now: Instant) {
        for name in &mut self.names {
            name.again = Some(name.asked_at.map_or(now, |asked| now.max(asked + AGAIN)));
        }
        self.ask_due(now);
    }

    /// Asks for none until [`Self::ask`].
    pub fn rest(&mut self) {
        self.names.iter_mut().for_each(|name| name.again = None);
    }

    fn ask_due(&mut self, now: Instant) {
        for name in self.names.iter_mut().filter(|name| !name.asked) {
            if name.again.take_if(|again| *again <= now).is_none() {
                continue;
            }
            let (broker, host, port, sender) = (name.broker, name.host.clone(), name.port, self.sender.clone());
            let ask = move || {
                // Nobody listens once the connection was given up.
                let _ = sender.send((broker, addresses(&host, port)));
            };
            match thread::Builder::new().name("names".into()).spawn(ask) {
                Ok(_) => {
                    (name.asked, name.asked_at) = (true, Some(now));
                    self.look = Some((now + LOOK[0], LOOK[0]));
                }
                Err(_) => name.again = Some(now + AGAIN),
            }
        }
    }

    /// Returns the next answer, and asks again where there was none.
    pub fn poll(&mut self, now: Instant) -> Option<Answer> {
        if self.names.is_empty() {
            return None;
        }
        self.ask_due(now);
        let Ok((broker, answer)) = self.answers.try_recv() else {
            if let Some((at, step)) = &mut self.look
                && *at <= now
            {
                *step = (2 * *step).min(LOOK[1]);
                *at = now + *step;
            }
            return None;
        };
        if let Some(name) = self.names.iter_mut().find(|name| name.broker == broker) {
            name.asked = false;
            if answer.is_err() {
                name.again = Some(now + AGAIN);
            }
        }
        if self.names.iter().all(|name| !name.asked) {
            self.look = None;
        }
        Some((broker, answer))
    }

    /// Returns when to call [`Self::poll`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let again = self.names.iter().filter(|name| !name.asked).filter_map(|name| name.again);
        again.chain(self.look.map(|(at, _)| at)).min()
    }
}

/// Returns the endpoints that a name stands for, in the order of the name server.
fn addresses(host: &str, port: u16) -> io::Result<Vec<String>> {
    let mut endpoints = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        let endpoint = format!("tcp://{address}");
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn await_answer(names: &mut Names) -> Answer {
        let began = Instant::now();
        loop {
            if let Some(answer) = names.poll(Instant::now()) {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no answer");
            let due = names.poll_timeout().expect("an answer is looked for");
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    #[test]
    fn a_name_has_addresses_an_unknown_one_is_asked_for_again_and_an_address_is_no_name() {
        let list = Endpoint::list_to_connect("10.0.0.1:1,[::1]:1,ipc:///x,localhost:7,no.such.name.invalid:1").unwrap();
        let mut names = Names::new(&list);
        names.ask(Instant::now());
        let mut answers = [await_answer(&mut names), await_answer(&mut names)];
        answers.sort_by_key(|(broker, _)| *broker);
        assert_eq!([answers[0].0, answers[1].0], [3, 4]);
        let local = answers[0].1.as_ref().unwrap();
        assert!(local.iter().any(|it| it == "tcp://127.0.0.1:7" || it == "tcp://[::1]:7"), "{local:?}");
        assert!(answers[1].1.is_err());
        assert!(names.poll_timeout().is_some_and(|at| at > Instant::now()), "it is asked for again, later");
        assert!(Names::new(&list[..3]).poll_timeout().is_none());
    }
}
