//! A witness of the core: sees what goes in and what comes out, never the tables, and says whether
//! it fits together.
//!
//! From the events alone it knows every request's state, every ring and every window; against this
//! it holds each event and each message. It panics, with a sentence, at the first contradiction.
//! Its own tables are ordered maps.

#[path = "witness/inputs.rs"]
mod inputs;
#[path = "witness/requests.rs"]
mod requests;
#[path = "witness/settling.rs"]
mod settling;
#[path = "witness/workers.rs"]
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use giostra_core::broker::Output;
use giostra_core::config::Settings;
use giostra_core::event::Event;
use giostra_core::policy::rotation::Rotation;
use giostra_protocol::{Bytes, Outcome, Priority, Status, Ticket, ToClient, ToWorker, Totals};

use crate::counts::Counts;
use crate::network::{Conn, conn_of};
use crate::queues::{Key, Queues};
use crate::seats::Seats;

/// An accepted request that is not yet answered.
struct Request {
    pool: String,
    priority: Priority,
    body: Bytes,
    accepted: u64,
    deadline: Option<u64>,
    attempts: u32,
    /// The workers that were lost while they held it, as far as that is held against it.
    lost: Vec<Lost>,
    /// Until when it waits for one of them to come back, and is dispatched to nobody.
    suspended_until: Option<u64>,
    /// The ticket of its first dispatch.
    order: Option<u64>,
    /// The worker that holds it and its ticket; `None`: it is pending.
    held_by: Option<(u64, u64)>,
    /// Whether that worker was suspect when it was handed the request.
    suspect: bool,
}

/// A worker that was lost.
struct Lost {
    name: String,
    number: u64,
    /// Its process, if the matter ends with its return; else 0.
    process: u64,
}

/// What a client is to get with the next message.
struct Owed {
    id: u64,
    why: Why,
    worker: String,
    attempts: u32,
    /// Microseconds from its acceptance to its end.
    took: u64,
}

enum Why {
    Replied(Outcome),
    Expired,
    Poisoned(Vec<String>),
}

#[derive(Default)]
struct Client {
    conn: Option<Conn>,
    session: u64,
    /// Its requests that came too late, as the log tells.
    stale: u64,
    answered: u64,
    owed: Vec<Owed>,
    /// Until when that may be held back.
    hold_until: Option<u64>,
    /// Whether it was ever turned away.
    rejected: bool,
}

struct Worker {
    conn: Option<Conn>,
    name: String,
    pool: String,
    /// The most that it is ever handed at once, and how many it computes at once.
    window: usize,
    threads: usize,
    process: u64,
    /// Whether that process has registered again since.
    superseded: bool,
    /// The most that it is handed at once now; and as the log says, which tells what seats are
    /// passed over by.
    window_now: usize,
    window_logged: usize,
    leaving: bool,
    /// Its results that were discarded, as far as the log has listed.
    discarded: u64,
    /// Whether it has said that it can compute nothing.
    unable: bool,
    /// Whether it is to hold one request only.
    alone: bool,
    /// By ticket: which request, and whether somebody still waits for it.
    in_flight: BTreeMap<u64, (Key, bool)>,
    /// Its pings: how many are out, the last one's number, and when that was.
    pings_out: u32,
    sequence: u64,
    pinged: u64,
}

#[derive(Default)]
struct Pool {
    seats: Seats,
    queues: Queues,
    /// What was dealt since the last time all was settled, as the events say it.
    deals: Vec<Deal>,
    /// The workers of the events of dispatch, in their order.
    lines: Vec<u64>,
}

struct Deal {
    ticket: u64,
    worker: u64,
    key: Key,
    again: bool,
    suspect: bool,
}

/// A submit that was handed in.
struct Submit {
    session: u64,
    pool: String,
    timeout_ms: u64,
    priority: Priority,
    wait: bool,
    bodies: BTreeMap<u64, Bytes>,
}

/// A message with requests for a worker.
type Dispatched = (Conn, Priority, Vec<(Ticket, Bytes)>);

/// What is known of one life of the broker.
pub struct Witness {
    settings: Settings,
    interval: u64,
    /// Whether nothing that happens may be held against a request.
    orderly: bool,
    closing: bool,
    requests: BTreeMap<Key, Request>,
    clients: BTreeMap<u64, Client>,
    client_of: BTreeMap<Conn, u64>,
    workers: BTreeMap<u64, Worker>,
    worker_of: BTreeMap<Conn, u64>,
    pools: BTreeMap<String, Pool>,
    totals: Totals,
    last_ticket: u64,
    asked_to_register: BTreeSet<Conn>,
    asked_to_hello: BTreeSet<Conn>,
    /// The name and the window of the last registration over a connection.
    registrations: BTreeMap<Conn, (String, usize)>,
    /// What was said since then of the threads and the window that this broker may count on.
    shares: BTreeMap<Conn, (u32, u32)>,
    /// The processes that have asked to be registered, in order.
    registering: VecDeque<u64>,
    /// Dropped for their silence since the last look.
    suspect: Vec<Conn>,

    // What is owed until all is settled the next time.
    goodbyes: Vec<Conn>,
    /// Clients of a broker that closes: those that have left for that, by connection; those that
    /// were said goodbye to; and those that have said it.
    parting: BTreeMap<Conn, u64>,
    told_goodbye: BTreeSet<Conn>,
    parted: BTreeSet<Conn>,
    /// Whether somebody has asked for the status since it was listed.
    inspected: bool,
    /// How many requests came over which connection with which session.
    heard_of: BTreeMap<(Conn, u64), u64>,
    /// Bytes of bodies that nobody waits for and that workers hold, by worker and ticket; and whose
    /// they were.
    unwanted: BTreeMap<(u64, u64), (u64, usize)>,
    /// What is no longer wanted: the worker, the ticket as it is sent.
    cancels: BTreeSet<(u64, u64)>,
    closings: BTreeSet<Conn>,
    welcomes: Vec<Conn>,
    /// Those that spoke as only registered workers do.
    spoke: BTreeSet<Conn>,
    /// Those that spoke as only clients do that have said hello.
    spoke_as_client: BTreeSet<Conn>,
    /// Those that are gone, and are to be neither client nor worker any more.
    gone: Vec<Conn>,

    // The inputs and outputs since everything was settled last.
    submits: BTreeMap<Conn, VecDeque<Submit>>,
    /// The ids of the last one that was accepted in part: its other requests may have been
    /// rejected.
    taken: BTreeMap<Conn, BTreeSet<u64>>,
    /// Every request that could be accepted: its connection, session and id.
    submitted: Vec<(Conn, u64, u64)>,
    /// The submitted requests that were accepted or rejected.
    taken_up: BTreeSet<Key>,
    /// Accepted requests that have ended.
    ended: BTreeSet<Key>,
    /// The clients that were given credit, and how much.
    credits: Vec<(u64, u64)>,
    replies: BTreeMap<(Conn, u64), Outcome>,
    /// The connections and tickets of requests that were handed back, and the number that the core
    /// took back.
    handed: BTreeSet<(Conn, u64)>,
    handed_back: u64,
    /// Upper bounds on the requests of clients that have left and on their bytes in the core's
    /// tables, and the number of such requests at the core's last timeout.
    left_behind: usize,
    left_behind_bytes: usize,
    left_before: usize,
    replies_in: u64,
    dispatches: Vec<Dispatched>,
    timeout_handled: Option<u64>,
}

impl Witness {
    /// Of a broker that has just started with these settings.
    pub fn new(settings: Settings, orderly: bool) -> Self {
        Self {
            orderly,
            registering: VecDeque::new(),
            interval: settings.ping_interval.as_micros() as u64,
            settings,
            closing: false,
            requests: BTreeMap::new(),
            clients: BTreeMap::new(),
            client_of: BTreeMap::new(),
            workers: BTreeMap::new(),
            worker_of: BTreeMap::new(),
            pools: BTreeMap::new(),
            totals: Totals::default(),
            last_ticket: 0,
            asked_to_register: BTreeSet::new(),
            asked_to_hello: BTreeSet::new(),
            registrations: BTreeMap::new(),
            shares: BTreeMap::new(),
            suspect: Vec::new(),
            goodbyes: Vec::new(),
            inspected: false,
            heard_of: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            parting: BTreeMap::new(),
            told_goodbye: BTreeSet::new(),
            parted: BTreeSet::new(),
            cancels: BTreeSet::new(),
            closings: BTreeSet::new(),
            welcomes: Vec::new(),
            spoke: BTreeSet::new(),
            spoke_as_client: BTreeSet::new(),
            gone: Vec::new(),
            submits: BTreeMap::new(),
            taken: BTreeMap::new(),
            submitted: Vec::new(),
            taken_up: BTreeSet::new(),
            ended: BTreeSet::new(),
            credits: Vec::new(),
            replies: BTreeMap::new(),
            handed: BTreeSet::new(),
            handed_back: 0,
            left_behind: 0,
            left_behind_bytes: 0,
            left_before: 0,
            replies_in: 0,
            dispatches: Vec::new(),
            timeout_handled: None,
        }
    }

    /// Something came out of the core.
    pub fn observe(&mut self, output: &Output, now: u64, counts: &mut Counts) {
        match output {
            Output::ToClient(to, message) => self.observe_to_client(conn_of(to), message, counts),
            Output::ToWorker(to, message) => self.observe_to_worker(conn_of(to), message, now, counts),
            // It is compared when all of a turn has been seen.
            Output::Status(..) => self.inspected = false,
            Output::Close(_) => {}
            Output::Store(op) => panic!("nobody has submitted a job: {op:?}"),
            Output::Log(event) => self.observe_event(event, now, counts),
        }
    }

    fn observe_to_client(&mut self, conn: Conn, message: &ToClient, counts: &mut Counts) {
        match message {
            ToClient::Welcome { client, session, .. } => {
                self.asked_to_hello.remove(&conn);
                let known = self.clients.get_mut(client).expect("who is welcomed has joined");
                assert!(known.conn.is_none_or(|before| before == conn), "c{client} is welcomed under two identities");
                (known.conn, known.session) = (Some(conn), *session);
                self.welcomed(conn);
                self.client_of.insert(conn, *client);
            }
            ToClient::Replies(replies) => self.observe_replies(conn, replies),
            ToClient::Status(status) => self.compare(status),
            ToClient::Draining { worker, numbers } => {
                // One that had nothing to finish has left already.
                let mut drained = numbers.iter().filter_map(|number| self.workers.get(number));
                assert!(
                    drained.all(|known| known.leaving && known.name == *worker),
                    "{worker} is not drained: {numbers:?}"
                );
            }
            ToClient::Closing => assert!(self.closings.remove(&conn), "{conn} is told of the closing twice"),
            ToClient::Goodbye => {
                counts.count("client-goodbye");
                assert!(self.parting.contains_key(&conn), "goodbye to {conn}, which has not left");
                assert!(self.told_goodbye.insert(conn), "{conn} is said goodbye to twice");
            }
            ToClient::HelloAgain => {
                counts.count("hello-again");
                assert!(!self.client_of.contains_key(&conn), "a known client is asked to say hello");
                assert!(self.asked_to_hello.insert(conn), "a client is asked twice to say hello");
            }
            ToClient::Rejected(ids) => {
                counts.add("rejected", ids.len() as u64);
                self.rejected(conn, ids);
            }
            ToClient::NoWorker { pool, pools, requests } => {
                counts.add("no-worker", requests.len() as u64);
                self.nobody(conn, pool, pools, requests);
            }
            ToClient::Progress(progress) => {
                counts.add("progress", progress.len() as u64);
                self.progress(conn, progress.iter().map(|&(id, _)| id));
            }
            ToClient::Credit { requests } => {
                counts.count("credit-given");
                self.credits.push((self.client_of[&conn], *requests));
            }
            _ => {}
        }
    }

    /// How large the windows are, since requests were dealt by that. How they are reckoned is not
    /// looked at here.
    pub fn observe_windows(&mut self, status: &Status, counts: &mut Counts) {
        for listed in &status.workers {
            let known = &self.workers[&listed.number];
            let ((threads, most), now) = (self.share_of(known), listed.window as usize);
            let spare = usize::from(self.settings.rotation == Rotation::Strict);
            let least = if self.settings.hold.is_zero() { most } else { most.min(threads + spare) };
            let known = self.workers.get_mut(&listed.number).expect("a listed worker has joined");
            assert!((least..=most).contains(&now), "w{} has a window of {now}, not {least} to {most}", listed.number);
            counts.add("window-changes", u64::from(now != known.window_now));
            known.window_now = now;
        }
    }

    /// The threads and the window of a worker that this broker may count on.
    fn share_of(&self, worker: &Worker) -> (usize, usize) {
        let share = worker.conn.and_then(|conn| self.shares.get(&conn));
        let Some(&(threads, window)) = share else { return (worker.threads, worker.window) };
        let window = if window == 0 { worker.window } else { (window as usize).clamp(1, worker.window) };
        ((threads as usize).clamp(1, worker.threads), window)
    }

    fn welcomed(&mut self, conn: Conn) {
        let place = self.welcomes.iter().position(|&owed| owed == conn);
        self.welcomes.swap_remove(place.unwrap_or_else(|| panic!("{conn} is welcomed, but was not introduced")));
        if self.closing {
            self.closings.insert(conn);
        }
    }

    fn observe_to_worker(&mut self, conn: Conn, message: &ToWorker, now: u64, counts: &mut Counts) {
        match message {
            ToWorker::Welcome { worker, .. } => {
                self.asked_to_register.remove(&conn);
                self.welcomed(conn);
                let known = self.workers.get_mut(worker).expect("who is welcomed has joined");
                known.conn = Some(conn);
                let (name, wanted) = &self.registrations[&conn];
                let most = self.settings.window.max(known.threads);
                let window = most.min(if *wanted == 0 { usize::MAX } else { *wanted });
                assert_eq!((&known.name, known.window), (name, window), "what w{worker} registered with");
                assert_eq!(self.worker_of.insert(conn, *worker), None, "the identity was another worker's");
            }
            ToWorker::Dispatch { priority, requests } => self.dispatches.push((conn, *priority, requests.clone())),
            ToWorker::Cancel(tickets) => {
                counts.add("cancelled-in-flight", tickets.len() as u64);
                let worker = self.worker_of[&conn];
                for ticket in tickets {
                    assert!(self.cancels.remove(&(worker, ticket.0)), "w{worker}'s {ticket:?} is wanted");
                }
            }
            ToWorker::Ping { sequence } => self.observe_ping(conn, *sequence, now),
            ToWorker::RegisterAgain => {
                assert!(!self.worker_of.contains_key(&conn), "a registered worker is asked to register");
                assert!(self.asked_to_register.insert(conn), "a worker is asked twice to register");
            }
            ToWorker::Goodbye => {
                self.goodbyes.retain(|&left| left != conn);
                self.spoke.remove(&conn);
                assert!(!self.worker_of.contains_key(&conn), "goodbye to a worker that has not left");
            }
            ToWorker::Closing => assert!(self.closings.remove(&conn), "{conn} is told of the closing twice"),
            _ => {}
        }
    }

    fn observe_event(&mut self, event: &Event, now: u64, counts: &mut Counts) {
        match event {
            Event::ClientJoined { client, clients, .. } => {
                counts.count("client-joined");
                assert!(self.clients.insert(client.0, Client::default()).is_none(), "{client} joined twice");
                assert_eq!(*clients, self.clients.len(), "clients after {client} joined");
            }
            Event::Goodbye(client) => {
                let conn = self.parting.iter().find(|&(_, number)| *number == client.0).map(|(&conn, _)| conn);
                let conn = conn.unwrap_or_else(|| panic!("{client} has read all, but is not parting"));
                assert!(self.parted.contains(&conn), "{client} has not said that it has read all");
                self.parting.remove(&conn);
            }
            Event::Unheard { client, unsent, .. } => {
                counts.count("client-unheard");
                assert!(unsent.is_empty(), "nobody has said that something was not sent");
                self.parting.retain(|_, number| *number != client.0);
            }
            Event::ClientLeft { client, cancelled, unwanted, clients, reason } => {
                if *reason == "the broker closes" {
                    self.parts(client.0, *unwanted);
                }
                counts.count("client-left");
                let count = cancelled + unwanted;
                counts.add("left-in-parts", u64::from(count > self.settings.freed_at_once as u64));
                self.client_left(client.0, *cancelled, *unwanted);
                assert_eq!(*clients, self.clients.len(), "clients after {client} left");
            }
            Event::Accepted { requests, pool, priority } => {
                counts.add("accepted", requests.len());
                self.accepted(&keys(requests), pool, *priority, now);
            }
            Event::Stale(client, count) => {
                counts.add("stale", *count);
                let known = self.clients.get_mut(&client.0).expect("it is known");
                known.stale += count;
                let conn = known.conn.expect("it was welcomed");
                let sent = self.heard_of.iter().filter(|((of, session), _)| *of == conn && *session != known.session);
                let sent: u64 = sent.map(|(_, count)| count).sum();
                assert!(known.stale <= sent, "{client} sent {sent} that are stale, and {} are told of", known.stale);
            }
            Event::Replied { worker, errors, requests } => {
                counts.add(if *errors { "replied-error" } else { "replied" }, requests.len());
                self.replied(worker.number.0, *errors, &keys(requests), now);
            }
            Event::Discarded { worker, requests, late } => {
                counts.add("discarded-unwanted", requests.len());
                counts.add(if worker.is_some() { "discarded-late" } else { "discarded-unknown" }, *late);
                self.discarded(worker.as_ref().map(|worker| worker.number.0), &keys(requests), *late);
            }
            Event::Expired(requests) => {
                counts.add("expired", requests.len());
                self.expired(&keys(requests), now);
            }
            Event::Poisoned { request, workers } => {
                counts.add("poisoned", request.len());
                self.poisoned(&keys(request), workers.iter().map(ToString::to_string).collect(), now);
            }
            Event::Cancelled(requests) => {
                counts.add("cancelled", requests.len());
                self.cancelled(&keys(requests));
            }
            Event::Refused { unsaid, .. } => {
                counts.count("refused");
                counts.add("log-silent", *unsaid);
                self.totals.refused += 1 + unsaid;
            }
            // The message to its client, which follows, is looked at.
            Event::NoWorker(..) => {}
            Event::Rejected(client, _) => assert!(!self.clients[&client.0].rejected, "{client} was told before"),
            Event::Closing(in_flight) => {
                self.closing = true;
                self.closings.extend(self.worker_of.keys().chain(self.client_of.keys()));
                let expected: usize = self.workers.values().map(|worker| worker.in_flight.len()).sum();
                assert_eq!(*in_flight, expected as u64, "in flight when closing");
            }
            of_a_worker => self.observe_worker_event(of_a_worker, now, counts),
        }
    }

    /// Whether there may be somebody who waits for room.
    pub fn somebody_waits_for_room(&self) -> bool {
        self.clients.values().any(|client| client.rejected)
    }

    /// Whether the core may still have to take requests of clients that have left out of its
    /// tables.
    pub fn something_was_left_behind(&self) -> bool {
        self.left_behind > 0
    }

    /// When the core is to be told the time next.
    pub fn next_due(&self) -> Option<u64> {
        let ping = self.workers.values().map(|worker| worker.pinged + self.interval).min();
        let deadline = self.requests.values().filter_map(|request| request.deadline).min();
        let held_back = self.clients.values().filter_map(|client| client.hold_until).min();
        let suspended = self.requests.values().filter_map(|request| request.suspended_until).min();
        [ping, deadline, suspended, held_back].into_iter().flatten().min()
    }

    /// The connections of the registered workers, in their order.
    pub fn registered(&self) -> Vec<Conn> {
        self.worker_of.keys().copied().collect()
    }

    /// Requests that wait for a worker.
    pub fn pending(&self) -> usize {
        let suspended = self.requests.values().filter(|request| request.suspended_until.is_some()).count();
        self.pools.values().map(|pool| pool.queues.len()).sum::<usize>() + suspended
    }

    /// The connections of workers that were dropped for their silence since this was asked last.
    pub fn take_silent(&mut self) -> Vec<Conn> {
        std::mem::take(&mut self.suspect)
    }

    /// The core says of itself what is known of it.
    pub fn compare(&self, status: &Status) {
        // Of rubbish, not everything is said.
        let Totals { refused, discarded, .. } = status.totals;
        assert!(refused >= self.totals.refused && discarded >= self.totals.discarded, "{:?}", status.totals);
        assert_eq!(status.totals, Totals { refused, discarded, ..self.totals }, "totals");
        let pending = self.pending();
        let in_flight = self.requests.len() - pending;
        assert_eq!((status.pending, status.in_flight), (pending as u64, in_flight as u64), "pending and in flight");
        let mut workers: Vec<_> = self.workers.iter().collect();
        workers.sort_unstable_by_key(|&(&number, worker)| (&worker.pool, number));
        assert_eq!(status.workers.len(), workers.len(), "workers");
        for (listed, (number, known)) in status.workers.iter().zip(workers) {
            assert_eq!((listed.number, &*listed.name, &*listed.pool), (*number, &*known.name, &*known.pool));
            assert_eq!(
                (listed.in_flight, listed.window_max),
                (known.in_flight.len() as u64, known.window as u64),
                "w{number}"
            );
            assert_eq!((listed.pings_out, listed.leaving), (known.pings_out, known.leaving), "w{number}'s pings");
            let state = match known {
                _ if known.pings_out > 1 => "suspect",
                _ if known.leaving => "leaving",
                _ if known.unable => "unable",
                _ if known.in_flight.is_empty() => "idle",
                _ => "busy",
            };
            assert_eq!(listed.state, state, "w{number}");
        }
        assert_eq!(status.clients.len(), self.clients.len(), "clients");
        for (listed, (number, known)) in status.clients.iter().zip(&self.clients) {
            let unanswered = self.requests.range((*number, 0)..=(*number, u64::MAX)).count() as u64;
            assert_eq!((listed.number, listed.unanswered, listed.answered), (*number, unanswered, known.answered));
        }
    }

    /// Every reply that came in went to its client, or was discarded.
    pub fn all_replies_count(&self, status: &Status) {
        let Totals { answered, discarded, .. } = status.totals;
        let known = answered + discarded + self.handed_back;
        assert_eq!(self.replies_in, known, "replies that came in, and that became of them something");
    }

    /// Nothing is left to do.
    pub fn ends(&self) {
        let left: Vec<_> = self.requests.keys().collect();
        assert!(left.is_empty(), "at the end the broker still holds {left:?}");
        assert!(self.workers.values().all(|worker| worker.in_flight.is_empty()), "a worker still owes something");
    }
}

/// The requests that are written short as `c1#1..190/3`.
fn keys(runs: &impl ToString) -> Vec<Key> {
    let mut keys = Vec::new();
    for run in runs.to_string().split_whitespace() {
        let (client, ids) = run[1..].split_once('#').expect("a request is written c1#1");
        let client = client.parse().expect("a client's number");
        keys.extend(numbers(ids).map(|id| (client, id)));
    }
    keys
}

/// The tickets that are written short as `t1..190/3`.
fn tickets(runs: &impl ToString) -> Vec<u64> {
    runs.to_string().split_whitespace().flat_map(|run| numbers(&run[1..])).collect()
}

fn numbers(run: &str) -> impl Iterator<Item = u64> + use<> {
    let (range, step) = run.split_once('/').unwrap_or((run, "1"));
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    let number = |text: &str| text.parse::<u64>().expect("a number");
    (number(first)..=number(last)).step_by(number(step) as usize)
}
