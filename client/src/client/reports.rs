//! Warnings about the connection, each logged once for each cause.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a client goes without a broker before it warns.
const PATIENCE: Duration = Duration::from_secs(1);

/// A client that wakes this much later than it wanted has been stopped. A busy machine delays
/// everybody by less.
const STOPPED: Duration = Duration::from_secs(2);

/// How long after a stop a connection may break because of it.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// What has been reported already, and what is known for the next report.
#[derive(Default)]
pub struct Reports {
    /// Whether the missing broker has been reported.
    is_absence_reported: bool,
    /// Whether it has been reported that what is there does not speak the protocol.
    is_stranger_reported: bool,
    /// When the process last continued after it had been stopped, and how long it had been.
    stopped: Option<(Instant, Duration)>,
}

impl Reports {
    /// Warns once if there has been no broker for a while. Returns when that is due if it is not
    /// yet. `absent` is since when there has been no broker.
    pub fn absence(
        &mut self,
        absent: Option<Instant>,
        now: Instant,
        broker: &str,
        timeout: Duration,
    ) -> Option<Instant> {
        let Some(since) = absent else {
            self.is_absence_reported = false;
            return None;
        };
        let due = since + PATIENCE;
        if !self.is_absence_reported && due <= now {
            self.is_absence_reported = true;
            log::warn!("waiting for a broker at {broker} ({timeout:?} at most)");
        }
        (!self.is_absence_reported).then_some(due)
    }

    /// A broker has welcomed the client.
    pub fn welcomed(&mut self) {
        self.is_stranger_reported = false;
    }

    /// Reports once that what listens at the endpoint does not speak the protocol.
    pub fn stranger(&mut self, broker: &str, error: impl Display) {
        if !std::mem::replace(&mut self.is_stranger_reported, true) {
            log::error!("what speaks at {broker} is not Giostra's frontend: {error}");
        }
    }

    /// Notices if the process was stopped while it slept: it wanted to wake at this instant.
    pub fn woke(&mut self, wanted: Instant) {
        let now = Instant::now();
        let late = now.saturating_duration_since(wanted);
        if late > STOPPED {
            self.stopped = Some((now, late));
        }
    }

    /// Warns about the requests that are sent again because the connection broke at this instant.
    pub fn resent(&mut self, requests: usize, broke: Option<Instant>) {
        let requests = match requests {
            0 => return,
            1 => "1 request that was under way is".to_string(),
            n => format!("{n} requests that were under way are"),
        };
        let stopped = self
            .stopped
            .take()
            .filter(|&(ended, _)| broke.is_some_and(|broke| broke.saturating_duration_since(ended) < AFTER_STOP));
        match stopped {
            Some((_, time)) => log::warn!(
                "this process was stopped for {:.0} s, and the broker took it for gone: {requests} sent again, to \
                 be computed anew (giostra-broker --client-timeout: how long it waits)",
                time.as_secs_f64()
            ),
            None => log::warn!("the connection to the broker broke: {requests} sent again"),
        }
    }
}
