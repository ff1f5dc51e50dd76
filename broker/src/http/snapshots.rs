//! How snapshots of the core get to those who watch.
//!
//! The HTTP thread asks, the server's loop answers between two turns, at most every [`EVERY`],
//! however many watch. Nothing else goes from here to the broker, and what does is one bit.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use giostra_protocol::Status;
use giostra_transport::wake::{self, Alarm, Waker};
use tokio::sync::watch;
use tokio::time::timeout;

/// How old a snapshot may be, and so how often one is made at most.
pub const EVERY: Duration = Duration::from_millis(250);

/// How long to wait for the server's loop.
const PATIENCE: Duration = Duration::from_secs(2);

/// The core at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub status: Status,
    taken: Instant,
    json: OnceLock<String>,
}

impl Snapshot {
    /// The status as JSON, written once for all who want it.
    pub fn json(&self) -> &str {
        self.json.get_or_init(|| serde_json::to_string(&self.status).unwrap_or_default())
    }
}

/// The server's end.
#[derive(Debug)]
pub struct Publisher {
    asked: Arc<AtomicBool>,
    alarm: Alarm,
    latest: watch::Sender<Option<Arc<Snapshot>>>,
}

/// The HTTP thread's end.
#[derive(Clone, Debug)]
pub struct Snapshots {
    asked: Arc<AtomicBool>,
    waker: Waker,
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
}

/// Both ends. An error if the system gives no pipe.
pub fn channel() -> io::Result<(Publisher, Snapshots)> {
    let (waker, alarm) = wake::alarm()?;
    let (sender, receiver) = watch::channel(None);
    let asked = Arc::new(AtomicBool::new(false));
    let publisher = Publisher { asked: Arc::clone(&asked), alarm, latest: sender };
    Ok((publisher, Snapshots { asked, waker, latest: receiver }))
}

impl Publisher {
    /// A descriptor that is readable when a snapshot is wanted.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// Whether a snapshot has become wanted since this was last asked.
    pub fn is_asked(&mut self) -> bool {
        // First: the question may be seen before its alarm rings, which then is silenced here at the next
        // look.
        self.alarm.clear();
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::AcqRel)
    }

    /// Hands one over.
    pub fn publish(&self, status: Status, taken: Instant) {
        self.latest.send_replace(Some(Arc::new(Snapshot { status, taken, json: OnceLock::new() })));
    }
}

impl Snapshots {
    /// One that is at most [`EVERY`] old; `None` if the server's loop does not answer, or has
    /// ended.
    pub async fn get(&self) -> Option<Arc<Snapshot>> {
        self.after(None).await
    }

    /// The same, but newer than this one.
    pub async fn after(&self, last: Option<&Snapshot>) -> Option<Arc<Snapshot>> {
        let since = tokio::time::Instant::now().into_std().checked_sub(EVERY).max(last.map(|last| last.taken));
        let is_fresh = |latest: &Option<Arc<Snapshot>>| latest.as_ref().is_some_and(|it| Some(it.taken) > since);
        let mut latest = self.latest.clone();
        if !is_fresh(&latest.borrow()) {
            self.asked.store(true, Ordering::Release);
            self.waker.wake();
        }
        let found = timeout(PATIENCE, latest.wait_for(is_fresh)).await.ok()?.ok()?;
        found.clone()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a snapshot's age is its distance from now
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn however_many_ask_one_snapshot_serves_them_until_it_is_old() {
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
            let (told, ()) = futures_util::future::join(futures_util::future::join_all(asking), publish).await;
            assert_eq!(told, [7; 20]);
            assert!(!publisher.is_asked(), "it is not old yet");
            let old = Instant::now().checked_sub(2 * EVERY).unwrap();
            publisher.publish(Status::default(), old);
            let mut last = None;
            for told in [8, 9] {
                let publish = async {
                    while !publisher.is_asked() {
                        tokio::task::yield_now().await;
                    }
                    publisher.publish(Status { uptime_ms: told, ..Status::default() }, Instant::now());
                };
                let (next, ()) = futures_util::future::join(snapshots.after(last.as_deref()), publish).await;
                assert_eq!(next.as_ref().unwrap().status.uptime_ms, told);
                last = next;
            }
        });
    }

    #[test]
    fn an_alarm_that_rings_after_its_question_was_seen_is_silenced_at_the_next_look() {
        let (mut publisher, snapshots) = channel().unwrap();
        let rings = |publisher: &Publisher| {
            let mut items = [zmq::PollItem::from_fd(publisher.fd().as_raw_fd(), zmq::POLLIN)];
            zmq::poll(&mut items, 0).unwrap() == 1
        };
        // The asker is interrupted between its two steps.
        snapshots.asked.store(true, Ordering::Release);
        assert!(publisher.is_asked());
        snapshots.waker.wake();
        assert!(rings(&publisher));
        assert!(!publisher.is_asked());
        assert!(!rings(&publisher), "the server would never sleep again");
        snapshots.asked.store(true, Ordering::Release);
        snapshots.waker.wake();
        assert!(rings(&publisher) && publisher.is_asked() && !rings(&publisher));
    }

    #[test]
    fn there_is_none_of_a_server_that_has_ended() {
        let (publisher, snapshots) = channel().unwrap();
        drop(publisher);
        assert!(run(snapshots.get()).is_none());
    }
}
