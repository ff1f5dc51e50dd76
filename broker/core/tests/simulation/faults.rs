//! What goes wrong, to whom, and when.
//!
//! A seed draws which faults it may have; here one of them strikes at a time, somebody who is fit
//! for it.

use giostra_protocol::{Bytes, FromClient, FromWorker, Outcome, Registration, RequestId, Ticket, VERSION};

use crate::network::{Conn, Fate, Peer, STRAYS, STRAYS_OF_BROKER, Up};
use crate::peers::{Process, Task};
use crate::plan::MS;
use crate::world::{Step, World};

/// The most workers that a run comes to have.
const MAX_WORKERS: usize = 10;

/// Something that goes wrong, or at least out of the ordinary way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// When a worker's process is killed; its host may be gone as well, so that nobody says so.
    Crash,
    /// When a worker's connection breaks, but not its process.
    Break,
    /// When a worker stops and resumes later.
    Freeze,
    /// When a cable is cut, to a worker or a client, and mended or not.
    Cut,
    /// When a worker leaves politely.
    Leave,
    /// When a client drains a worker.
    Drain,
    /// When a worker comes in.
    Join,
    /// When a worker's key is taken out.
    Bar,
    /// When a worker does not take what it is sent, and is given up.
    OverdueWorker,
    /// When a worker registers a second time.
    RegisterTwice,
    /// When a worker replies to what it was not asked.
    Garbage,
    /// When a worker says something unreadable.
    MalformedWorker,
    /// When a worker can compute nothing for a while.
    Unable,
    /// When a worker becomes slow, or fast again.
    Slow,
    /// When a client's connection breaks.
    BreakClient,
    /// When a client goes for good.
    Vanish,
    /// When a client does not read, and is given up.
    Overdue,
    /// When a client cancels requests.
    Cancel,
    /// When a client sends again what is held.
    Resend,
    /// When a client asks for the status.
    Inspect,
    /// When a client says something unreadable, or unacceptable.
    MalformedClient,
    /// When a peer sends messages without an introduction.
    Stray,
    /// When a broker is stopped for a while.
    Stall,
    /// When a broker is killed.
    Kill,
    /// When a broker finishes in order.
    Close,
}

impl Fault {
    /// All that there are.
    pub const ALL: [Self; 25] = [
        Self::Crash,
        Self::Break,
        Self::Freeze,
        Self::Cut,
        Self::Leave,
        Self::Drain,
        Self::Join,
        Self::Bar,
        Self::OverdueWorker,
        Self::RegisterTwice,
        Self::Garbage,
        Self::MalformedWorker,
        Self::Unable,
        Self::Slow,
        Self::BreakClient,
        Self::Vanish,
        Self::Overdue,
        Self::Cancel,
        Self::Resend,
        Self::Inspect,
        Self::MalformedClient,
        Self::Stray,
        Self::Stall,
        Self::Kill,
        Self::Close,
    ];
}

impl World<'_> {
    /// One of the run's faults strikes.
    pub fn fault(&mut self) {
        if self.calm {
            return;
        }
        let fault = self.plan.faults[self.dice.index(self.plan.faults.len())];
        self.trace.note(self.now, || format!("-- fault: {fault:?}"));
        let running: Vec<_> =
            (0..self.workers.len()).filter(|&it| self.workers[it].state == Process::Running).collect();
        let living: Vec<_> = (0..self.clients.len()).filter(|&it| self.clients[it].living).collect();
        match fault {
            Fault::Stray => self.somebody_speaks(),
            Fault::Stall | Fault::Kill | Fault::Close => self.fault_of_the_broker(fault),
            Fault::Join if self.workers.len() < MAX_WORKERS => self.add_worker(self.workers.len() % self.plan.pools),
            Fault::Cut => self.cut_a_cable(),
            _ if fault.is_of_a_worker() && !running.is_empty() => {
                let worker = self.dice.one_of(&running);
                self.fault_of_a_worker(fault, worker);
            }
            _ if !fault.is_of_a_worker() && !living.is_empty() => {
                let client = self.dice.one_of(&living);
                self.fault_of_a_client(fault, client, living.len() > 1);
            }
            _ => {}
        }
        let pause = self.dice.range(MS, self.plan.fault_every);
        self.after(pause, Step::Fault);
    }

    /// After how long the broker hears of it, if ever.
    pub fn draw_notice(&mut self) -> Option<u64> {
        match self.dice.index(4) {
            0 => None,
            1 => {
                self.counts.count("notice-late");
                Some(self.dice.range(5, 500) * MS)
            }
            _ => Some(self.dice.range(0, MS)),
        }
    }

    fn fault_of_a_worker(&mut self, fault: Fault, number: usize) {
        let link = self.dice.index(self.brokers.len());
        let conn = self.workers[number].sockets[link].conn;
        match (fault, conn) {
            (Fault::Crash, _) => {
                self.counts.count("worker-crashes");
                let notice = self.draw_notice();
                self.end_worker(number, Fate::Dies, notice);
            }
            (Fault::Freeze, _) => {
                self.counts.count("worker-freezes");
                let time = self.dice.range(5, 1000) * MS;
                self.freeze_worker(number, time);
            }
            (Fault::Slow, _) => {
                self.counts.count("worker-slow");
                self.workers[number].slowness = self.dice.one_of(&[1, 5, 20]);
            }
            (Fault::Unable, _) if !self.workers[number].is_unable() => {
                self.counts.count("worker-becomes-unable");
                let time = self.dice.range(1, 300) * MS;
                self.becomes_unable(number, time);
            }
            (Fault::Leave, _) if !self.workers[number].is_leaving() => {
                self.counts.count("worker-leaves");
                self.leave(number);
            }
            (Fault::Break, Some(conn)) => {
                self.counts.count("worker-breaks");
                let notice = self.draw_notice();
                self.break_connection(conn, Fate::Reconnects, notice);
            }
            (Fault::RegisterTwice, Some(_)) if !self.workers[number].is_leaving() => {
                self.counts.count("worker-registers-twice");
                self.worker_says(number, link, self.workers[number].register(link));
            }
            // Where its connection is broken it would be missed, and the key not known to be the reason.
            (Fault::Bar, _) if self.workers[number].conns().iter().all(Option::is_some) => self.bar(number),
            (Fault::OverdueWorker, Some(conn)) => {
                let Some(life) = &mut self.brokers[link] else { return };
                self.counts.count("worker-overdue");
                life.overdue_workers.insert(conn);
            }
            (Fault::MalformedWorker, Some(_)) => {
                self.counts.count("worker-malformed");
                let peer = Peer::Worker(number, link);
                self.send_up(peer, Up::Malformed(peer));
            }
            (Fault::Garbage, Some(_)) => self.reply_garbage(number, link),
            _ => {}
        }
    }

    /// The worker's key is taken out of the list that all brokers go by.
    fn bar(&mut self, number: usize) {
        self.counts.count("worker-revoked");
        for broker in 0..self.brokers.len() {
            let conn = self.workers[number].sockets[broker].conn;
            if let (Some(life), Some(conn)) = (&mut self.brokers[broker], conn) {
                life.revoked.push(conn);
                self.wake_broker(broker, self.now);
            }
        }
        self.end_worker(number, Fate::Dies, Some(0));
    }

    /// Replies to requests of others, to its own for the second time, and to such as never were.
    fn reply_garbage(&mut self, number: usize, link: usize) {
        self.counts.count("worker-garbage");
        let mut tickets = self.workers[number].replied(link);
        for (other, worker) in self.workers.iter().enumerate() {
            if other != number {
                tickets.extend(worker.tickets(link));
            }
        }
        tickets.push(Ticket(self.dice.any()));
        let wrong = Outcome::Ok(Bytes::from_static(b"garbage"));
        let replies = (0..3).map(|_| (self.dice.one_of(&tickets), wrong.clone())).collect();
        self.worker_says(number, link, FromWorker::Replies(replies));
    }

    fn fault_of_a_client(&mut self, fault: Fault, number: usize, others: bool) {
        let Some(conn) = self.clients[number].socket.conn else { return };
        match fault {
            Fault::BreakClient => {
                self.counts.count("client-breaks");
                let notice = self.draw_notice();
                self.break_connection(conn, Fate::Reconnects, notice);
            }
            Fault::Vanish if others => {
                self.counts.count("client-vanishes");
                let notice = self.draw_notice();
                self.vanish(number, notice);
            }
            Fault::Overdue => {
                let broker = self.clients[number].socket.broker;
                let Some(life) = &mut self.brokers[broker] else { return };
                self.counts.count("client-overdue");
                life.piled_up.insert(conn);
            }
            Fault::Cancel => self.cancel(number),
            Fault::Resend => self.resend(number),
            Fault::Inspect => {
                self.counts.count("client-inspects");
                self.client_says(number, FromClient::Inspect);
            }
            Fault::Drain => {
                self.counts.count("worker-drained");
                let worker = format!("worker-{}", self.dice.index(MAX_WORKERS));
                let all = self.dice.index(2) == 0;
                self.client_says(number, FromClient::Drain { worker, number: 0, all });
            }
            Fault::MalformedClient => {
                self.counts.count("client-malformed");
                let requests = vec![(RequestId(u64::MAX), Task::Compute(0).body())];
                let (session, pool) = (self.clients[number].session(), "two words".into());
                let message = match self.dice.once_in(2) {
                    true => Up::Malformed(Peer::Client(number)),
                    false => Up::Client(FromClient::Submit {
                        session,
                        pool,
                        timeout_ms: 0,
                        priority: Default::default(),
                        wait: true,
                        requests,
                    }),
                };
                self.send_up(Peer::Client(number), message);
            }
            _ => {}
        }
    }

    fn fault_of_the_broker(&mut self, fault: Fault) {
        let interval = self.plan.settings.ping_interval.as_micros() as u64;
        let broker = self.dice.index(self.brokers.len());
        let Some(life) = &mut self.brokers[broker] else { return };
        match fault {
            Fault::Stall => {
                self.counts.count("broker-stalls");
                life.stalled_until = self.now + self.dice.range(interval / 2, 5 * interval);
                // Its threads of libzmq may go on, or not.
                if self.dice.once_in(2) {
                    life.frozen_until = life.stalled_until;
                    self.connections_of(broker).into_iter().for_each(|conn| self.watch(conn));
                }
            }
            Fault::Close if life.close_by.is_none() => {
                self.counts.count("broker-closes");
                life.core.close();
                life.close_by = Some(self.now + self.dice.range(0, 100) * MS);
                self.wake_broker(broker, self.now);
            }
            // Rarer than others, or a run would be nothing but restarts.
            Fault::Kill if self.dice.once_in(3) => {
                self.counts.count("broker-killed");
                self.end_broker(broker);
            }
            _ => {}
        }
    }

    fn cut_a_cable(&mut self) {
        let connected: Vec<Conn> = self.connections.keys().copied().filter(|&conn| self.is_intact(conn)).collect();
        if connected.is_empty() {
            return;
        }
        let conn = self.dice.one_of(&connected);
        self.counts.count("cable-cut");
        let time = self.dice.range(1, 1500) * MS;
        if let Some(Peer::Worker(number, _)) = self.peer_of(conn) {
            let worker = &mut self.workers[number];
            worker.troubled_until = worker.troubled_until.max(self.now + time);
        }
        self.cut(conn);
        if self.dice.once_in(3) {
            self.counts.count("cable-cut-for-good");
            self.after(time, Step::Break(conn));
        } else {
            self.after(time, Step::Mend(conn));
        }
    }

    fn somebody_speaks(&mut self) {
        let broker = self.dice.index(self.brokers.len());
        if self.brokers[broker].is_none() {
            return;
        }
        self.counts.count("stray-peer");
        // No identity comes again once its connection has ended.
        let of_broker = STRAYS + broker as Conn * STRAYS_OF_BROKER;
        let conn = of_broker + self.dice.range(1, 20) + self.strays_gone;
        let (id, ticket) = (RequestId(self.dice.range(1, 20)), Ticket(self.dice.any()));
        let requests = vec![(id, Task::Compute(0).body())];
        let operations = vec![];
        let (name, pool) = (String::from("stray"), String::from("pool-0"));
        let message = match self.dice.index(16) {
            0 => Up::Worker(FromWorker::Leave),
            1 => Up::Worker(FromWorker::Disconnected),
            2 => Up::Worker(FromWorker::Pong { sequence: 1, computing: 0, waiting: 0, oldest_ms: 0 }),
            3 => Up::Worker(FromWorker::Replies(vec![(ticket, Outcome::Ok(Bytes::new()))])),
            4 => Up::Worker(
                Registration { version: 99, name, pool, operations, instance: 1, ..Registration::default() }.into(),
            ),
            5 => Up::Client(FromClient::Submit {
                session: 0,
                pool,
                timeout_ms: 0,
                priority: Default::default(),
                wait: true,
                requests,
            }),
            6 => Up::Client(FromClient::Cancel(vec![id])),
            7 => Up::Client(FromClient::Inspect),
            8 => Up::Client(FromClient::Disconnected),
            9 => Up::Client(FromClient::Drain { worker: "worker-0".into(), number: 0, all: true }),
            10 => Up::Client(FromClient::Hello { version: VERSION, name: "two words".into() }),
            11 => Up::Malformed(Peer::Worker(0, 0)),
            12 => Up::Worker(FromWorker::Unable { reason: "stray".into(), tickets: vec![ticket] }),
            13 => Up::Worker(FromWorker::Able),
            14 => Up::Client(FromClient::Goodbye),
            _ => Up::Malformed(Peer::Client(0)),
        };
        if let Up::Worker(FromWorker::Disconnected) | Up::Client(FromClient::Disconnected) = message {
            self.strays_gone += 20;
        }
        self.arrive_up(conn, message);
    }
}

impl Fault {
    fn is_of_a_worker(self) -> bool {
        use Fault::{
            Bar, Break, Crash, Freeze, Garbage, Leave, MalformedWorker, OverdueWorker, RegisterTwice, Slow, Unable,
        };
        matches!(
            self,
            Bar | Break
                | Crash
                | Freeze
                | Garbage
                | Leave
                | MalformedWorker
                | OverdueWorker
                | RegisterTwice
                | Slow
                | Unable
        )
    }

    /// Whether nothing of it may be held against a request, if the broker waits half a second for
    /// those that come back.
    pub fn is_orderly(self) -> bool {
        use Fault::{Bar, Drain, Garbage, Join, Leave, OverdueWorker, RegisterTwice, Slow, Stray, Unable};
        let of_a_client = !self.is_of_a_worker() && !self.is_of_the_broker() && self != Self::Cut;
        of_a_client
            || matches!(
                self,
                Bar | Drain | Garbage | Join | Leave | OverdueWorker | RegisterTwice | Slow | Stray | Unable
            )
    }

    fn is_of_the_broker(self) -> bool {
        matches!(self, Self::Stall | Self::Kill | Self::Close)
    }
}
