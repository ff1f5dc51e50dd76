//! Snapshots of the core, on their way to the HTTP thread.
//!
//! The HTTP thread asks; the server's loop answers between two turns, at most every [`EVERY`],
//! however many pages are open. That one bit is all that goes from HTTP to the broker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use giostra_protocol::Status;
use giostra_transport::wake::{Alarm, Waker, alarm};
use tokio::sync::watch;
use tokio::time::timeout;

/// The maximum age of a snapshot, and the minimum time between two.
pub const EVERY: Duration = Duration::from_millis(250);

/// How long the HTTP thread waits for the server's loop.
const PATIENCE: Duration = Duration::from_secs(2);

/// The core at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub status: Status,
    taken: Instant,
    json: OnceLock<String>,
}

impl Snapshot {
    /// Returns the status as JSON, which is written once for all readers.
    pub fn json(&self) -> &str {
        self.json.get_or_init(|| serde_json::to_string(&self.status).unwrap_or_default())
    }
}

/// The server's end.
#[derive(Debug)]
pub struct Publisher {
    asked: Alarm,
    latest: watch::Sender<Option<Arc<Snapshot>>>,
}

/// The HTTP thread's end.
#[derive(Clone, Debug)]
pub struct Snapshots {
    asked: Waker,
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
}

/// Returns both ends.
///
/// # Errors
/// If the system gives no pipe.
pub fn channel() -> io::Result<(Publisher, Snapshots)> {
    let (waker, alarm) = alarm()?;
    let (sender, receiver) = watch::channel(None);
    Ok((Publisher { asked: alarm, latest: sender }, Snapshots { asked: waker, latest: receiver }))
}

impl Publisher {
    /// Whether a snapshot has been asked for since the last call.
    pub fn is_asked(&mut self) -> bool {
        self.asked.clear()
    }

    /// Publishes a snapshot.
    pub fn publish(&self, status: Status, taken: Instant) {
        self.latest.send_replace(Some(Arc::new(Snapshot { status, taken, json: OnceLock::new() })));
    }
}

/// The descriptor is readable when a snapshot is wanted.
impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}

impl Snapshots {
    /// Returns a snapshot that is at most [`EVERY`] old; `None` if the server's loop does not
    /// answer, or has ended.
    pub async fn get(&self) -> Option<Arc<Snapshot>> {
        self.after(None).await
    }

    /// Returns one that is also newer than `last`.
    pub async fn after(&self, last: Option<&Snapshot>) -> Option<Arc<Snapshot>> {
        let since = tokio::time::Instant::now().into_std().checked_sub(EVERY).max(last.map(|last| last.taken));
        let is_fresh = |latest: &Option<Arc<Snapshot>>| latest.as_ref().is_some_and(|it| Some(it.taken) > since);
        let mut latest = self.latest.clone();
        if !is_fresh(&latest.borrow()) {
            self.asked.wake();
        }
        let found = timeout(PATIENCE, latest.wait_for(is_fresh)).await.ok()?.ok()?;
        found.clone()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a snapshot's age is its distance from now
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn one_snapshot_serves_all_until_it_is_old() {
        let (mut publisher, snapshots) = channel().unwrap();
        assert!(!publisher.is_asked());
        run(async {
            let asking = [0; 20].map(|_| {
                let snapshots = snapshots.clone();
                async move { snapshots.get().await.unwrap().status.uptime_ms }
            });
            let publish = async {
                while !publisher.is_asked() {
                    tokio::task::yield_now().await;
                }
                publisher.publish(Status { uptime_ms: 7, ..Status::default() }, Instant::now());
            };
            let (uptime, ()) = futures_util::future::join(futures_util::future::join_all(asking), publish).await;
            assert_eq!(uptime, [7; 20]);
            assert!(!publisher.is_asked(), "it is not old yet");
            let old = Instant::now().checked_sub(2 * EVERY).unwrap();
            publisher.publish(Status::default(), old);
            let mut last = None;
            for uptime in [8, 9] {
                let publish = async {
                    while !publisher.is_asked() {
                        tokio::task::yield_now().await;
                    }
                    publisher.publish(Status { uptime_ms: uptime, ..Status::default() }, Instant::now());
                };
                let (next, ()) = futures_util::future::join(snapshots.after(last.as_deref()), publish).await;
                assert_eq!(next.as_ref().unwrap().status.uptime_ms, uptime);
                last = next;
            }
        });
    }

    #[test]
    fn a_server_that_has_ended_gives_no_snapshot() {
        let (publisher, snapshots) = channel().unwrap();
        drop(publisher);
        assert!(run(snapshots.get()).is_none());
    }
}
