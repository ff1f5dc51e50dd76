//! The run of a seed: its clock, its agenda, and the shell around the core.
//!
//! The shell is imitated as far as it matters to the core: what workers say, what clients say, what
//! time it is, then all that the core has decided; sends that fail are reported, and what follows
//! from that is done in the same turn.

#![allow(clippy::disallowed_methods)] // an instant to begin with

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::Rights;
use giostra_protocol::{FromClient, ToClient, ToWorker};

use crate::clients::Client;
use crate::counts::Counts;
use crate::network::{Conn, Connection, Fate, Peer, Up, Way, conn_of, identity};
use crate::peers::Process;
use crate::plan::{Dice, MS, Plan};
use crate::trace::Trace;
use crate::witness::Witness;
use crate::workers::Worker;

/// The shell's: turns after which it looks at the clock although workers still have something to
/// say.
const TURNS_WITHOUT_CLOCK: u32 = 16;

/// The longest time for which a question for the status waits, in microseconds.
const STATUS_PAUSE: u64 = 250_000;

/// The core's: how long those who were given room may take to use it.
const ROUND: u64 = 10 * MS;

/// How long it may take, after the last fault, until everybody has what they are owed.
const PATIENCE: u64 = 120_000 * MS;

/// Something that is to happen.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// When a broker has something to do.
    Turn(usize),
    /// When something may arrive over a connection.
    Arrive(Conn, Way),
    /// When its broker is told that a connection broke.
    Notice(Conn),
    /// When a peer's process tries to connect.
    Connect(Peer, u64),
    /// When a cut connection is as it was.
    Mend(Conn),
    /// When a connection breaks after all.
    Break(Conn),
    /// When a peer looks whether its broker is still there.
    Silence(Conn),
    /// When a worker's thread is done.
    Computed(usize, u64),
    /// When a worker's process sends its results.
    Flush(usize, u64),
    /// When something is due that a worker's process has waited for.
    WorkerDue(usize, u64),
    /// When a client has something to do.
    ClientDue(usize),
    /// When a worker's process resumes.
    Thaw(usize, u64),
    /// When a worker's process can compute again.
    Able(usize, u64),
    /// When a worker's process starts.
    StartWorker(usize),
    /// When a broker's process starts.
    StartBroker(usize),
    /// When something goes wrong.
    Fault,
    /// When nothing goes wrong any more.
    Calm,
}

/// One life of a broker.
pub struct Life {
    pub core: Broker,
    pub witness: Witness,
    pub from_workers: VecDeque<(Conn, Up)>,
    pub from_clients: VecDeque<(Conn, Up)>,
    /// Until when it takes no turn; and does not even answer heartbeats.
    pub stalled_until: u64,
    pub frozen_until: u64,
    /// Clients whose messages have piled up too high, and those that were cut off for it.
    pub piled_up: BTreeSet<Conn>,
    pub cut_off: BTreeSet<Conn>,
    /// Workers whose key was taken out, and those that do not take what they are sent.
    pub revoked: Vec<Conn>,
    pub overdue_workers: BTreeSet<Conn>,
    /// Set once it is to finish.
    pub close_by: Option<u64>,
    turns_without_clock: u32,
    next_turn: Option<u64>,
    ready_at: u64,
}

/// Everything in a run.
pub struct World<'a> {
    /// Microseconds since the beginning.
    pub now: u64,
    pub dice: Dice,
    pub counts: &'a mut Counts,
    pub trace: Trace,
    pub plan: Plan,
    /// Whether the faults are over.
    pub calm: bool,
    /// The brokers, those that run.
    pub brokers: Vec<Option<Life>>,
    pub workers: Vec<Worker>,
    pub clients: Vec<Client>,
    pub connections: BTreeMap<Conn, Connection>,
    pub last_conn: Conn,
    pub computations: u64,
    /// The connections that clients were welcomed over, in all lives of all brokers.
    pub sessions: BTreeMap<u64, Conn>,
    /// Numbers of strays that are used up.
    pub strays_gone: Conn,
    base: Instant,
    agenda: BTreeMap<(u64, u64), Step>,
    steps: u64,
}

impl<'a> World<'a> {
    /// Runs a seed to its end, and panics if a promise is broken. Returns the trace, which may be a
    /// digest.
    pub fn run(seed: u64, trace: Trace, counts: &'a mut Counts) -> Trace {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice);
        let mut world = World::new(dice, plan, trace, counts);
        world.begin();
        while !(world.calm && world.is_quiet()) {
            assert!(world.now <= world.plan.calm_at + PATIENCE, "it never comes to rest: {}", world.unrest());
            world.step();
        }
        world.clients.iter().for_each(Client::ends);
        world.brokers.into_iter().for_each(|life| life.expect("it is quiet").witness.ends());
        world.trace
    }

    /// Nobody is there yet.
    pub fn new(dice: Dice, plan: Plan, trace: Trace, counts: &'a mut Counts) -> Self {
        World {
            now: 0,
            dice,
            counts,
            trace,
            brokers: (0..plan.brokers).map(|_| None).collect(),
            plan,
            calm: false,
            workers: Vec::new(),
            clients: Vec::new(),
            connections: BTreeMap::new(),
            last_conn: 0,
            computations: 0,
            sessions: BTreeMap::new(),
            strays_gone: 0,
            base: Instant::now(),
            agenda: BTreeMap::new(),
            steps: 0,
        }
    }

    /// The next that is to happen happens.
    pub fn step(&mut self) {
        let ((at, _), step) = self.agenda.pop_first().expect("pings never end");
        self.now = at;
        self.act_on(step);
    }

    /// All come in.
    pub fn begin(&mut self) {
        let settings = format!("{:?}, {:?}", self.plan.settings, self.plan.faults);
        self.trace.note(0, || settings);
        (0..self.plan.brokers).for_each(|broker| self.start_broker(broker));
        (0..self.plan.workers).for_each(|number| self.add_worker(number % self.plan.pools));
        (0..self.plan.clients).for_each(|_| self.add_client());
        self.after(self.plan.fault_every, Step::Fault);
        self.at(self.plan.calm_at, Step::Calm);
    }

    /// Something is to happen at that time.
    pub fn at(&mut self, at: u64, step: Step) {
        self.steps += 1;
        self.agenda.insert((at, self.steps), step);
    }

    /// Something is to happen in a while.
    pub fn after(&mut self, time: u64, step: Step) {
        self.at(self.now + time, step);
    }

    fn act_on(&mut self, step: Step) {
        match step {
            Step::Turn(broker) => self.turn(broker),
            Step::Arrive(conn, way) => self.arrive(conn, way),
            Step::Notice(conn) => self.notice(conn),
            Step::Connect(peer, process) => self.connect(peer, process),
            Step::Mend(conn) => self.mend(conn),
            Step::Break(conn) => self.break_connection(conn, Fate::Reconnects, Some(0)),
            Step::Silence(conn) => self.silence(conn),
            Step::Computed(worker, computation) => self.computed(worker, computation),
            Step::Flush(worker, process) => self.flush_results(worker, process),
            Step::WorkerDue(worker, process) => self.worker_is_due(worker, process),
            Step::ClientDue(client) => self.client_is_due(client),
            Step::Thaw(worker, process) => self.thaw_worker(worker, process),
            Step::Able(worker, process) => self.becomes_able(worker, process),
            Step::StartWorker(worker) => self.start_worker(worker),
            Step::StartBroker(broker) => self.start_broker(broker),
            Step::Fault => self.fault(),
            Step::Calm => self.calm_down(),
        }
    }

    fn calm_down(&mut self) {
        self.trace.note(self.now, || "-- the faults are over");
        self.calm = true;
        for number in 0..self.workers.len() {
            self.workers[number].slowness = 1;
            self.thaw_worker(number, self.workers[number].process());
        }
        let connections: Vec<_> = self.connections.keys().copied().collect();
        connections.into_iter().for_each(|conn| self.mend(conn));
    }

    /// Whether everybody has what they are owed, and nobody is taken for what they are not.
    fn is_quiet(&self) -> bool {
        self.workers.iter().all(Worker::is_steady)
            && self.clients.iter().all(Client::is_content)
            && (0..self.brokers.len()).all(|broker| self.is_quiet_at(broker))
    }

    fn is_quiet_at(&self, broker: usize) -> bool {
        let Some(life) = &self.brokers[broker] else { return false };
        let mut present: Vec<_> = self.workers.iter().filter_map(|worker| worker.sockets[broker].conn).collect();
        present.sort_unstable();
        life.witness.registered() == present
            && life.close_by.is_none()
            && life.core.in_flight() == 0
            && life.witness.pending() == 0
    }

    fn unrest(&mut self) -> String {
        let now = self.instant();
        let clients: Vec<_> = self.clients.iter().map(|it| (it.socket.conn, it.living, it.unanswered())).collect();
        let workers: Vec<_> = self.workers.iter().map(|it| (it.conns(), it.is_steady(), it.state)).collect();
        let of_broker =
            |life: &mut Option<Life>| life.as_mut().map(|it| (it.witness.registered(), it.core.status(now)));
        let brokers: Vec<_> = self.brokers.iter_mut().map(of_broker).collect();
        format!("clients {clients:?}, workers {workers:?}, registered and status {brokers:?}")
    }

    /// Now.
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    fn start_broker(&mut self, broker: usize) {
        let settings = self.plan.settings.clone();
        // No two lives begin with the same one.
        self.plan.settings.first_ticket = self.dice.any();
        self.trace.note(self.now, || format!("-- broker {broker} starts, first_ticket {}", settings.first_ticket));
        self.brokers[broker] = Some(Life {
            core: Broker::new(settings.clone(), self.instant()),
            witness: Witness::new(settings, self.plan.orderly),
            from_workers: VecDeque::new(),
            from_clients: VecDeque::new(),
            stalled_until: 0,
            frozen_until: 0,
            piled_up: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            revoked: Vec::new(),
            overdue_workers: BTreeSet::new(),
            close_by: None,
            turns_without_clock: 0,
            next_turn: None,
            ready_at: 0,
        });
    }

    /// A broker's process ends, and another starts later.
    pub fn end_broker(&mut self, broker: usize) {
        self.brokers[broker] = None;
        self.break_all(broker);
        let pause = if self.calm { MS } else { self.dice.range(MS, 200 * MS) };
        self.after(pause, Step::StartBroker(broker));
    }

    /// A broker is to take a turn at that time, or as soon as it can.
    pub fn wake_broker(&mut self, broker: usize, at: u64) {
        let Some(life) = &mut self.brokers[broker] else { return };
        let at = at.max(life.ready_at).max(life.stalled_until);
        if life.next_turn.is_none_or(|next| at < next) {
            life.next_turn = Some(at);
            self.at(at, Step::Turn(broker));
        }
    }

    fn turn(&mut self, broker: usize) {
        let Some(mut life) = self.brokers[broker].take_if(|life| life.next_turn == Some(self.now)) else { return };
        life.next_turn = None;
        if self.now < life.stalled_until {
            let until = life.stalled_until;
            self.brokers[broker] = Some(life);
            return self.wake_broker(broker, until);
        }
        let now = self.instant();
        for conn in std::mem::take(&mut life.revoked) {
            life.from_workers.retain(|(from, _)| *from != conn);
            life.witness.has_no_registration(conn);
            life.core.handle_revoked_worker(&identity(conn), now);
        }
        let drained = self.receive_from_workers(&mut life, now);
        self.receive_from_clients(&mut life, now);
        if drained || life.turns_without_clock >= TURNS_WITHOUT_CLOCK {
            life.turns_without_clock = 0;
            life.core.handle_timeout(now);
            life.witness.timeout_handled(self.now);
        } else {
            life.turns_without_clock += 1;
            self.counts.count("clock-waited-for-messages");
        }
        self.act(&mut life, now);
        let finished = life.close_by.is_some_and(|by| by <= self.now || life.core.has_finished());
        if life.core.has_finished() {
            assert!(life.core.in_flight() == 0 && life.witness.may_finish(), "it does not wait for its clients");
            self.counts.count("broker-finished");
        }
        self.plan_next_turn(broker, life);
        if finished {
            self.trace.note(self.now, || format!("-- broker {broker} has finished"));
            self.end_broker(broker);
        }
    }

    fn plan_next_turn(&mut self, broker: usize, mut life: Life) {
        life.ready_at = self.now + self.dice.range(20, 400);
        let due = life.core.poll_timeout().map(|due| (due - self.base).as_micros() as u64);
        let expected = life.witness.next_due();
        // Who was given room is waited for, but not for long.
        let sooner = due > Some(self.now) && due <= Some(self.now + ROUND) && life.witness.somebody_waits_for_room();
        let answers = due > Some(self.now) && due <= Some(self.now + STATUS_PAUSE) && life.witness.somebody_inspects();
        let frees = due <= Some(self.now) && life.witness.something_was_left_behind();
        let sooner = sooner || answers || frees;
        assert!(due == expected || sooner, "the broker would wake up at {due:?}, not at {expected:?}");
        let unread = !life.from_workers.is_empty() || !life.from_clients.is_empty();
        let wake = [due, life.close_by, unread.then_some(self.now)].into_iter().flatten().min();
        self.brokers[broker] = Some(life);
        if let Some(at) = wake {
            self.wake_broker(broker, at);
        }
    }

    /// Whether all was heard.
    fn receive_from_workers(&mut self, life: &mut Life, now: Instant) -> bool {
        for _ in 0..self.plan.messages_a_turn {
            let Some((conn, message)) = life.from_workers.pop_front() else { return true };
            self.trace.note(self.now, || format!("<- {conn} {message:?}"));
            life.witness.observe_input(conn, &message);
            match message {
                Up::Worker(message) => life.core.handle_worker(&identity(conn), message, now),
                _ => life.core.handle_malformed_worker(&identity(conn), "no message", now),
            }
        }
        false
    }

    fn receive_from_clients(&mut self, life: &mut Life, now: Instant) {
        for _ in 0..self.plan.messages_a_turn {
            let Some((conn, message)) = life.from_clients.pop_front() else { return };
            self.trace.note(self.now, || format!("<- {conn} {message:?}"));
            life.witness.observe_input(conn, &message);
            match message {
                Up::Client(message) => {
                    if message == FromClient::Disconnected {
                        life.cut_off.remove(&conn);
                        life.piled_up.remove(&conn);
                    }
                    life.core.handle_client(&identity(conn), Rights::ALL, message, now);
                }
                _ => life.core.handle_malformed_client(&identity(conn), "no message", now),
            }
        }
    }

    /// Does what the core has decided, until it decides nothing more.
    pub fn act(&mut self, life: &mut Life, now: Instant) {
        // Sometimes the broker is about to sleep.
        if self.dice.once_in(4) {
            life.core.flush();
        }
        loop {
            let mut sends = Vec::new();
            while let Some(output) = life.core.poll_output(now) {
                match &output {
                    Output::Log(event) => self.trace.note(self.now, || event),
                    other => self.trace.note(self.now, || format!("-> {other:?}")),
                }
                life.witness.observe(&output, self.now, self.counts);
                match output {
                    Output::Log(_) => {}
                    Output::Status(to, status) => {
                        sends.extend(to.into_iter().map(|to| Output::ToClient(to, ToClient::Status(status.clone()))));
                    }
                    output => sends.push(output),
                }
            }
            let status = life.core.status(now);
            life.witness.observe_windows(&status, self.counts);
            life.witness.settles(self.now, self.counts);
            life.witness.compare(&status);
            life.witness.compare_pools(&status);
            life.witness.all_replies_count(&status);
            life.core.check();
            self.judge_silence(life);
            if sends.is_empty() {
                return;
            }
            sends.into_iter().for_each(|send| self.send(life, send, now));
        }
    }

    fn send(&mut self, life: &mut Life, send: Output, now: Instant) {
        match &send {
            // Of those who are cut off: the last word is all that reaches them.
            Output::ToClient(to, ToClient::HelloAgain) if life.cut_off.remove(&conn_of(to)) => {
                self.send_down(send);
            }
            Output::ToClient(to, _) if life.cut_off.contains(&conn_of(to)) => {}
            Output::ToClient(to, _) if life.piled_up.remove(&conn_of(to)) => {
                life.cut_off.insert(conn_of(to));
                life.witness.is_cut_off(conn_of(to));
                life.core.handle_overdue_client(to);
            }
            Output::ToClient(to, _) => {
                let to = to.clone();
                if !self.send_down(send) {
                    life.witness.is_gone(conn_of(&to));
                    life.core.handle_unreachable_client(&to);
                }
            }
            Output::ToWorker(to, ToWorker::Dispatch { .. } | ToWorker::Ping { .. })
                if life.overdue_workers.remove(&conn_of(to)) =>
            {
                life.witness.has_no_registration(conn_of(to));
                life.core.handle_overdue_worker(to, now);
            }
            Output::ToWorker(to, _) => {
                let to = to.clone();
                if !self.send_down(send) {
                    life.witness.is_gone(conn_of(&to));
                    life.core.handle_unreachable_worker(&to, now);
                }
            }
            // The connection of a worker that was dropped may end later, or never.
            Output::Close(_) | Output::Status(..) | Output::Store(_) | Output::Log(_) => {}
        }
    }

    /// A worker that is well, and was for a while, is not dropped for its silence.
    fn judge_silence(&self, life: &mut Life) {
        let grace = 2 * self.plan.settings.ping_interval.as_micros() as u64;
        for conn in life.witness.take_silent() {
            let Some(Peer::Worker(number, link)) = self.peer_of(conn).filter(|_| self.is_intact(conn)) else {
                continue;
            };
            let worker = &self.workers[number];
            let well = worker.state == Process::Running && worker.sockets[link].conn == Some(conn);
            assert!(
                !well || self.now < worker.troubled_until + grace,
                "{} was dropped for its silence and is well",
                worker.name
            );
        }
    }
}
