//! The deadlines of requests, and the time that the broker may be away.

use std::time::{Duration, Instant};

use giostra_protocol::{Failure, RequestId, code};

use super::{Link, Session};

/// How long after a request's deadline the broker has to report it, before the client ends the
/// request itself.
const SLACK: Duration = Duration::from_secs(1);

/// The time that a handshake may take. A request that expires earlier says nothing of the broker:
/// only its time limit is to blame.
const HANDSHAKE: Duration = Duration::from_millis(100);

impl Session {
    /// The instant at which [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|&(deadline, _)| self.abandoned_at(deadline));
        deadline.into_iter().chain(self.broker_gone_at()).min()
    }

    /// Ends the requests whose deadlines have passed, and all of them if there has been no broker
    /// for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_broker_gone = self.broker_gone_at().is_some_and(|at| at <= now);
        while let Some(&(deadline, id)) = self.deadlines.first()
            && (self.abandoned_at(deadline) <= now || is_broker_gone)
        {
            self.abandon(id, now);
        }
        if is_broker_gone {
            for id in self.ids::<Vec<_>>() {
                self.abandon(id, now);
            }
        }
    }

    /// When a request with this deadline ends here. While a broker is there, the broker reports that
    /// a request has expired, and has some time to do so.
    fn abandoned_at(&self, deadline: Instant) -> Instant {
        match self.link {
            Link::Up => deadline.checked_add(SLACK).unwrap_or(deadline),
            Link::Down(_) | Link::Closing(_) => deadline,
        }
    }

    /// When the broker will have been away for too long, if it is away and a request waits for it.
    fn broker_gone_at(&self) -> Option<Instant> {
        match self.link {
            Link::Down(since) | Link::Closing(since) if !self.unanswered.is_empty() => {
                since.checked_add(self.broker_timeout)
            }
            _ => None,
        }
    }

    /// Ends a request whose deadline has passed, or for which no broker came in time.
    fn abandon(&mut self, id: RequestId, now: Instant) {
        self.remember(&[id]);
        self.end(id, self.timeout_failure(now));
    }

    fn timeout_failure(&self, now: Instant) -> Failure {
        match self.link {
            Link::Up if self.outgoing.credit.is_some() => {
                Failure::new(code::EXPIRED, "its time limit passed while the broker was short of room")
            }
            Link::Up => Failure::new(code::EXPIRED, "its time limit passed, and the broker did not say so in time"),
            Link::Down(since) | Link::Closing(since) => {
                let away = now.saturating_duration_since(since);
                if away < HANDSHAKE.min(self.broker_timeout) {
                    return Failure::new(code::EXPIRED, "its time limit passed before a broker could have answered");
                }
                let when = if away < self.broker_timeout { "its time limit passed, with " } else { "" };
                let why = self.obstacle.as_ref().map_or_else(String::new, |why| format!("; {why}"));
                Failure::new(code::NO_BROKER, format!("{when}no broker for {:.1} s{why}", away.as_secs_f64()))
            }
        }
    }
}
