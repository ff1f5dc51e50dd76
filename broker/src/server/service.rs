//! What the service manager is told of the serving loop.

use std::time::{Duration, Instant};

use giostra_core::broker::Workload;
use giostra_transport::service::{self, Watchdog};

/// The shortest time between two lines about what the broker does.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// What the service manager was told, and what it is to be told next. Costs a comparison each turn
/// if there is none.
pub(super) struct Service {
    watchdog: Watchdog,
    status: String,
    /// When the status is told next; `None` while nothing has changed.
    status_due: Option<Instant>,
    /// The earliest time for that.
    next_status: Instant,
    grace: Option<Duration>,
}

impl Service {
    pub(super) fn new(now: Instant) -> Self {
        Self { watchdog: Watchdog::new(now), status: String::new(), status_due: None, next_status: now, grace: None }
    }

    /// Returns when [`Self::handle_timeout`] is to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.watchdog.poll_timeout(), self.status_due].into_iter().flatten().min()
    }

    /// Records that the broker has done something.
    pub(super) fn handle_work(&mut self) {
        if self.status_due.is_none() && service::is_started() {
            self.status_due = Some(self.next_status);
        }
    }

    /// Tells what is due.
    pub(super) fn handle_timeout(&mut self, workload: Workload, now: Instant) {
        self.watchdog.handle_timeout(now);
        if self.status_due.is_some_and(|due| due <= now) {
            self.status_due = None;
            self.next_status = now + STATUS_INTERVAL;
            let status = self.describe(workload);
            if status != self.status {
                service::status(&status);
                self.status = status;
            }
        }
    }

    /// Tells that the broker serves.
    pub(super) fn handle_ready(&mut self, workload: Workload) {
        self.status = self.describe(workload);
        service::ready(&self.status);
        // The service manager takes that for the end of a reload, but not for its opposite.
        if let Some(grace) = self.grace {
            service::stopping(grace, &self.status);
        }
    }

    /// Tells that the broker finishes.
    pub(super) fn handle_closing(&mut self, workload: Workload, grace: Duration) {
        self.grace = Some(grace);
        self.status = self.describe(workload);
        service::stopping(grace, &self.status);
    }

    fn describe(&self, workload: Workload) -> String {
        format!("{}{workload}", if self.grace.is_some() { "closing; " } else { "" })
    }
}
