//! The history of one request, by the log.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::json;

use super::files::{self, Error};
use super::line::{Event, Line, Worker, text_of};
use super::ranges::Id;

/// Something that happened to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The time, as in the log.
    pub time: String,
    /// The life of the broker, counted from 1; 0 for one whose beginning is not in the log.
    pub life: u64,
    /// What happened.
    pub what: String,
}

/// What became of a request, and of those with the same number in other lives of a broker. Displays
/// as text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Story {
    id: Id,
    /// What happened, in order; empty if the request is not in the log.
    pub steps: Vec<Step>,
    /// Each request's end, in a sentence.
    pub ends: Vec<String>,
}

/// Tells what became of a request, as the log numbers it.
///
/// # Errors
///
/// Those of [`audit`](crate::audit).
pub fn story(logs: &[PathBuf], id: Id) -> Result<Story, Error> {
    let mut narrator =
        Narrator { id, life: 0, joined: None, open: None, story: Story { id, steps: Vec::new(), ends: Vec::new() } };
    for source in files::sources(logs)? {
        source.read(|_, bytes, whole| {
            if let Some(line) = Line::parse(&text_of(bytes)).filter(|_| whole) {
                narrator.handle_line(&line);
            }
            true
        })?;
    }
    narrator.end("open at the end of the log");
    Ok(narrator.story)
}

/// An open request.
struct Open {
    accepted: SystemTime,
    dispatched: u32,
}

struct Narrator {
    id: Id,
    life: u64,
    /// The step in which its client joined, until another one follows.
    joined: Option<Step>,
    open: Option<Open>,
    story: Story,
}

impl Narrator {
    fn handle_line(&mut self, line: &Line<'_>) {
        let id = self.id;
        match line.event {
            Event::Listening { .. } => self.begin_life(),
            Event::ClientJoined { client, name, key: own, .. } if client == id.client => {
                let own = own.map(|own| format!(", with the key {own}")).unwrap_or_default();
                self.joined = Some(self.step(line, format!("client {name} joined as c{client}{own}")));
            }
            Event::Accept { requests, pool, .. } if requests.position(id).is_some() => {
                self.open = Some(Open { accepted: line.time(), dispatched: 0 });
                self.push(line, format!("accepted for pool {pool}"));
            }
            Event::Dispatch { worker, again, tickets, requests, .. } => {
                let Some(position) = requests.position(id) else { return };
                let ticket = tickets.get(position).map(|ticket| format!("t{ticket}")).unwrap_or_default();
                let how = if again { "dispatched again" } else { "dispatched" };
                self.open.get_or_insert(Open { accepted: line.time(), dispatched: 0 }).dispatched += 1;
                self.push(line, format!("{how} to {} as {ticket}", named(worker)));
            }
            Event::Dropped { worker, requests, reason, .. } if requests.position(id).is_some() => {
                self.push(line, format!("given back: {} was dropped, {reason}", named(worker)));
            }
            Event::Unable { worker, requests, reason, .. } if requests.position(id).is_some() => {
                self.push(line, format!("handed back by {}: {reason}", named(worker)));
            }
            Event::Reply { worker, errors, requests } if requests.position(id).is_some() => {
                let how = if errors { "answered with an error" } else { "answered" };
                self.push_end(line, &format!("{how} by {}", named(worker)));
            }
            Event::Unheard { requests, reason, .. } if requests.position(id).is_some() => {
                self.push(line, format!("its reply was never sent: {reason}"));
            }
            Event::Retry { requests } if requests.position(id).is_some() => {
                self.push(line, "to be computed again after a pause".into());
            }
            Event::Stored { requests } if requests.position(id).is_some() => {
                self.push(line, "its outcome is safe in the store".into());
            }
            Event::Expire { requests } if requests.position(id).is_some() => self.push_end(line, "expired"),
            Event::Cancel { requests } if requests.position(id).is_some() => {
                self.push_end(line, "cancelled by its client");
            }
            Event::Poison { request, workers } if request.position(id).is_some() => {
                self.push_end(line, &format!("given up: {workers} were lost while they held it"));
            }
            Event::ClientLeft { client, reason, .. } if client == id.client && self.open.is_some() => {
                self.push_end(line, &format!("forgotten: its client left, {reason}"));
            }
            Event::Discard { worker: Some(worker), requests, .. } if requests.position(id).is_some() => {
                self.push(line, format!("the result of {} was discarded", named(worker)));
            }
            _ => {}
        }
    }

    fn begin_life(&mut self) {
        self.end("open when the broker ended: its client sends it to the next");
        self.life += 1;
        self.joined = None;
    }

    fn step(&self, line: &Line<'_>, what: String) -> Step {
        Step { time: line.timestamp().into(), life: self.life, what }
    }

    fn push(&mut self, line: &Line<'_>, what: String) {
        self.story.steps.extend(self.joined.take());
        self.story.steps.push(self.step(line, what));
    }

    fn push_end(&mut self, line: &Line<'_>, what: &str) {
        self.push(line, what.into());
        let after = self.open.as_ref().and_then(|open| line.time().duration_since(open.accepted).ok());
        let after = after.map(|after| format!(" after {:.3} ms", after.as_secs_f64() * 1000.0));
        self.end(&format!("{what}{}", after.unwrap_or_default()));
    }

    fn end(&mut self, how: &str) {
        let Some(open) = self.open.take() else { return };
        let times = match open.dispatched {
            0 => "never dispatched".into(),
            1 => "dispatched once".into(),
            times => format!("dispatched {times} times"),
        };
        self.story.ends.push(format!("{}: {times}, {how}", self.id));
    }
}

impl Story {
    /// Returns the story as a JSON object.
    pub fn json(&self) -> serde_json::Value {
        json!({"request": self.id.to_string(), "steps": self.steps, "ends": self.ends})
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut life = None;
        for step in &self.steps {
            if life.replace(step.life) != Some(step.life) {
                writeln!(f, "life {} of the broker", step.life)?;
            }
            writeln!(f, "  {}  {}", step.time, step.what)?;
        }
        if self.steps.is_empty() {
            return write!(f, "{} is not in the log", self.id);
        }
        f.write_str(&self.ends.join("\n"))
    }
}

pub(super) fn named(worker: Worker<'_>) -> String {
    format!("{} w{}", worker.name, worker.number)
}
