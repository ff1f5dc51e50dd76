//! The loop: ask the broker, ask the engine, decide, act.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use giostra_client::{Client, Error};
use giostra_protocol::Status;
use giostra_transport::service;
use log::{info, warn};

use super::demand::Estimator;
use super::engine::{Engine, Fault};
use super::policy::{Decision, Demand, Policy, Seat, Stage, Unit};
use crate::live;
use crate::written::many;

/// How long what a killed predecessor was about to start may take to be listed.
const SETTLING: Duration = Duration::from_secs(10);

/// How long a dry run rests until it looks again.
const AGAIN: Duration = Duration::from_secs(1);

/// What goes round.
pub struct Scaler<'a> {
    pub engine: &'a mut dyn Engine,
    pub policy: Policy,
    pub client: &'a mut Client,
    /// The broker's endpoint, for people.
    pub endpoint: &'a str,
    pub pool: &'a str,
    pub interval: Duration,
    pub estimator: Estimator,
    /// What was told last of each kind: only news are.
    pub told: Told,
}

/// What is seen and decided at one time.
struct Look {
    demand: Demand,
    units: Vec<Unit>,
    decisions: Vec<Decision>,
}

/// What was told last.
#[derive(Default)]
pub struct Told {
    state: String,
    fault: String,
}

impl Scaler<'_> {
    /// Gets ready: after an earlier one that was killed, what that was about to start is waited for.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a signal.
    pub fn settle(&mut self, was_killed: bool) -> Result<(), Error> {
        service::ready("scaling");
        if was_killed && self.engine.outlives() {
            info!("an earlier one was killed: waiting for {SETTLING:?} for what it was about to start");
            self.rest(SETTLING)?;
        }
        Ok(())
    }

    /// Goes round until a signal, or until the broker refuses this client.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a signal.
    pub fn run(&mut self) -> Result<Infallible, Error> {
        loop {
            self.round()?;
            self.rest(self.interval)?;
        }
    }

    /// Sleeps until a signal at most. Without a broker the next question waits for one.
    fn rest(&mut self, time: Duration) -> Result<(), Error> {
        // No reply can come.
        match self.client.next_reply(Some(time)) {
            Ok(_) | Err(Error::NoBroker { .. } | Error::Endpoint(_) | Error::Handshake(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn round(&mut self) -> Result<(), Error> {
        let Self { client, endpoint, told, .. } = self;
        let status = live::ask(client, endpoint, |why| told.fault(&why), Client::status)?;
        let now = Instant::now();
        let Look { demand, units, decisions } = match self.look(&status, now) {
            Ok(look) => look,
            Err(fault) => {
                self.told.fault(&fault);
                return Ok(());
            }
        };
        self.told.fault("");
        self.tell_state(demand, &units);
        for decision in decisions {
            self.act(decision, now)?;
        }
        Ok(())
    }

    fn look(&mut self, status: &Status, now: Instant) -> Result<Look, Fault> {
        let demand = self.estimator.handle(status, self.pool, now);
        let units = self.units(status)?;
        let decisions = self.policy.handle(demand, &units, now);
        Ok(Look { demand, units, decisions })
    }

    /// Says what would be done now. Returns the lines.
    ///
    /// # Errors
    /// If the broker or the engine does not answer.
    pub fn rehearse(&mut self) -> anyhow::Result<Vec<String>> {
        let Look { demand, units, decisions } = loop {
            let status = self.client.status()?;
            let look = self.look(&status, Instant::now()).map_err(anyhow::Error::msg)?;
            if look.demand.is_settled {
                break look;
            }
            // Nothing is decided yet.
            self.rest(AGAIN)?;
        };
        let mut lines = vec![self.state(demand, &units)];
        lines.extend(decisions.iter().map(|decision| match decision {
            Decision::Start(count) => format!("would start {}", many(u64::from(*count), "worker")),
            Decision::Stop(ids) => format!("would stop {}", ids.join(", ")),
            Decision::Drain(seats) => format!("would drain {}", names(seats)),
            Decision::Tell(text) => text.clone(),
        }));
        if decisions.is_empty() {
            lines.push("would do nothing".into());
        }
        Ok(lines)
    }

    /// Returns what the engine lists, with their seats at the broker.
    fn units(&mut self, status: &Status) -> Result<Vec<Unit>, Fault> {
        let listed = self.engine.list()?;
        let ours: Vec<_> = status.workers.iter().filter(|worker| worker.pool == self.pool).collect();
        let unit = |(id, stage): (String, Stage)| {
            let name = self.engine.worker(&id);
            // A program of several processes has a seat for each, with a number behind the name.
            let is_its =
                |other: &str| other.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            let seats = ours.iter().filter(|worker| is_its(&worker.name)).map(|worker| Seat {
                name: worker.name.clone(),
                number: worker.number,
                in_flight: worker.in_flight,
                leaving: worker.leaving,
            });
            let seats = seats.collect();
            Unit { id, stage, seats }
        };
        Ok(listed.into_iter().map(unit).collect())
    }

    fn act(&mut self, decision: Decision, now: Instant) -> Result<(), Error> {
        match decision {
            Decision::Start(count) => {
                let started = self.engine.start(count);
                if let Ok(ids) = &started {
                    info!("started {}: {}", many(ids.len() as u64, "worker"), ids.join(", "));
                }
                if let Some(text) = self.policy.handle_started(started, now) {
                    warn!("{text}");
                }
            }
            Decision::Stop(ids) => match self.engine.stop(&ids) {
                Ok(()) => info!("stopped {}", ids.join(", ")),
                Err(fault) => {
                    warn!("could not stop {}: {fault}", ids.join(", "));
                    ids.iter().for_each(|id| self.policy.handle_not_ended(id));
                }
            },
            Decision::Drain(seats) => {
                for seat in &seats {
                    match self.client.drain_number(&seat.name, seat.number) {
                        Ok(()) => {}
                        Err(error @ Error::Interrupted) => return Err(error),
                        // It may have left by itself; the next round shows what is there.
                        Err(error) => warn!("could not drain {}: {error}", seat.name),
                    }
                }
                info!("drained {}", names(&seats));
            }
            Decision::Tell(text) => {
                let hint = self.engine.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                warn!("{text}{hint}");
            }
        }
        Ok(())
    }

    fn tell_state(&mut self, demand: Demand, units: &[Unit]) {
        let state = self.state(demand, units);
        // The number of requests is always another one.
        let (_, of_workers) = state.split_once(": ").unwrap_or(("", &state));
        if self.told.state != of_workers {
            self.told.state = of_workers.into();
            info!("{state}");
        }
        service::status(&state);
    }

    fn state(&self, demand: Demand, units: &[Unit]) -> String {
        let each = demand.seconds_each.map(|seconds| format!(" of {}", rounded(seconds))).unwrap_or_default();
        let wanted = self.policy.wanted(demand);
        let count = |stage| units.iter().filter(|unit| unit.stage == stage).count();
        let (queued, running, ending) = (count(Stage::Queued), count(Stage::Running), count(Stage::Ending));
        let present = units.iter().filter(|unit| !unit.seats.is_empty()).count();
        let mut state = format!(
            "{}{each}: {} wanted, {queued} queued, {running} running, {present} at the broker",
            many(demand.requests, "request"),
            many(u64::from(wanted), "worker")
        );
        if ending > 0 {
            state += &format!(", {ending} ending");
        }
        state
    }
}

impl Told {
    fn fault(&mut self, fault: &str) {
        if self.fault != fault {
            self.fault = fault.into();
            match fault {
                "" => info!("going on"),
                fault => warn!("{fault}"),
            }
        }
    }
}

fn names(seats: &[Seat]) -> String {
    seats.iter().map(|seat| seat.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Returns seconds in two digits, in their unit.
fn rounded(seconds: f64) -> String {
    match seconds {
        long if long >= 10.0 => format!("{long:.0} s"),
        some if some >= 1.0 => format!("{some:.1} s"),
        short if short >= 0.01 => format!("{:.0} ms", short * 1e3),
        tiny => format!("{:.0} us", tiny * 1e6),
    }
}
