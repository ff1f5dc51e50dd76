//! A client's side of the conversation with the broker, without its socket and clock.
//!
//! Messages and instants come in, messages to send and replies come out. What is unanswered is kept
//! until its reply is here: after the connection broke, all of it is sent again, in its order. The
//! broker answers each request once over each connection; a reply to a request that is no longer
//! unanswered is counted and thrown away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{
    Bytes, Failure, FromClient, MAX_BATCH, Outcome, Progress, Reply, RequestId, Status, ToClient, Trace, code,
};
use rustc_hash::FxHashSet;

/// The most requests in one message. More gain nothing.
pub const BATCH: usize = 512;

/// The same in bytes of their bodies, but for the last one's: what is large gains nothing by
/// waiting for others.
const BATCH_BYTES: usize = 256 << 10;

/// The most requests given up of which it is remembered: a reply to one of them is no second one.
const MOST_GIVEN_UP: usize = 1 << 20;

/// So many requests that have ended may be among those to be sent, besides as many as have not.
const SOME: usize = 32;

/// How long after a request's time limit to wait for the broker to say so, before it is said here.
const SLACK: Duration = Duration::from_secs(1);

/// Whether a broker is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// When no broker has welcomed this client, or the connection broke: since when.
    Down(Instant),
    /// When a broker has welcomed this client.
    Up,
    /// When the broker has said that it is closing: since when.
    Closing(Instant),
}

/// What a client knows of its requests.
#[derive(Debug)]
pub struct Session {
    pool: String,
    /// Whether requests wait for a worker if there is none.
    wait: bool,
    broker_timeout: Duration,
    link: Link,
    /// Of the last welcome.
    session: u64,
    last_id: u64,
    unanswered: SparseQueue<Request>,
    /// Those that are to be sent, by id.
    unsent: VecDeque<RequestId>,
    /// Those that the broker had no room for: they go before the others.
    rejected: VecDeque<RequestId>,
    /// How many requests may be sent, once the broker has had no room.
    room: Option<u64>,
    /// What the broker takes: bytes of a frame, requests in a message.
    limits: Limits,
    /// When requests with a time limit are over, by id within an instant.
    deadlines: BTreeSet<(Instant, RequestId)>,
    replies: VecDeque<Reply>,
    /// Of what is unanswered, as far as something was heard.
    progress: BTreeMap<RequestId, Progress>,
    progress_has_changed: bool,
    status: Option<Status>,
    draining: Option<Vec<u64>>,
    refused: Option<String>,
    /// How many had been sent over connections that broke, and are to be sent again.
    to_resend: usize,
    /// Ended here, so that this connection's broker may still reply to them.
    given_up: FxHashSet<RequestId>,
    duplicated: u64,
    /// Why there is no broker, if something is there that is none, or with which no handshake
    /// succeeds.
    in_the_way: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    requests: usize,
}

#[derive(Debug)]
struct Request {
    body: Bytes,
    deadline: Option<Instant>,
}

impl Session {
    /// One that has no broker yet, since `now`.
    pub fn new(pool: &str, wait: bool, broker_timeout: Duration, now: Instant) -> Self {
        Self {
            pool: pool.into(),
            wait,
            broker_timeout,
            link: Link::Down(now),
            session: 0,
            last_id: 0,
            unanswered: SparseQueue::default(),
            unsent: VecDeque::new(),
            rejected: VecDeque::new(),
            room: None,
            limits: Limits { bytes: u64::MAX, requests: BATCH },
            deadlines: BTreeSet::new(),
            replies: VecDeque::new(),
            progress: BTreeMap::new(),
            progress_has_changed: false,
            status: None,
            draining: None,
            refused: None,
            to_resend: 0,
            given_up: FxHashSet::default(),
            duplicated: 0,
            in_the_way: None,
        }
    }

    /// Adds a request, which expires at its deadline.
    pub fn submit(&mut self, body: Bytes, deadline: Option<Instant>) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        self.unanswered.push(id.0, Request { body, deadline });
        self.unsent.push_back(id);
        // Without a broker nothing is sent, and those that have ended meanwhile would stay.
        if self.unsent.len() > 2 * self.unanswered.len() + SOME {
            let unanswered = &self.unanswered;
            self.unsent.retain(|id| unanswered.get(id.0).is_some());
        }
        id
    }

    /// Gives up all that is unanswered. The messages that tell the broker, if it knows of it.
    pub fn cancel_all(&mut self) -> Vec<FromClient> {
        let ids: Vec<_> = self.ids();
        self.cancel(ids)
    }

    /// Gives up these requests, and the replies to them that have not been taken. The messages that
    /// tell the broker, if it knows of them.
    pub fn cancel(&mut self, mut ids: Vec<RequestId>) -> Vec<FromClient> {
        if !self.replies.is_empty() {
            let ids: FxHashSet<_> = ids.iter().collect();
            self.replies.retain(|reply| !ids.contains(&reply.id));
        }
        ids.retain(|&id| match self.unanswered.take(id.0) {
            Some(request) => {
                self.forget(id, &request);
                true
            }
            None => false,
        });
        self.remember(&ids);
        if self.link != Link::Up {
            return Vec::new();
        }
        ids.chunks(MAX_BATCH).map(|ids| FromClient::Cancel(ids.to_vec())).collect()
    }

    /// Requests without a reply, those included whose reply has not been taken yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len() + self.replies.len()
    }

    /// Requests that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.rejected.len() + self.unsent.len()
    }

    /// Replies to requests that had one already.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// A handshake with what is at the broker's endpoint has failed, in a few words.
    pub fn handshake_failed(&mut self, why: &str) {
        self.in_the_way = Some(format!("the last handshake: {why}"));
    }

    /// What answered at the broker's endpoint can't be read, in a few words.
    pub fn answer_was_unreadable(&mut self, why: &str) {
        self.in_the_way = Some(format!("what answered can't be read: {why}"));
    }

    /// Whether a broker is there.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The next reply.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    /// Whether a reply is here.
    pub fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The next reply to this request or a later one.
    pub fn take_reply_since(&mut self, first: RequestId) -> Option<Reply> {
        // The very first, but for replies that were left for later.
        let place = self.replies.iter().position(|reply| reply.id >= first)?;
        self.replies.remove(place)
    }

    /// The reply to this request, if it is here.
    pub fn take_reply_to(&mut self, id: RequestId) -> Option<Reply> {
        let place = self.replies.iter().position(|reply| reply.id == id)?;
        self.replies.remove(place)
    }

    /// How far those are that are being computed, as far as their workers say it.
    pub fn progress(&self) -> &BTreeMap<RequestId, Progress> {
        &self.progress
    }

    /// Whether something was heard of it since this was last asked.
    pub fn progress_has_changed(&mut self) -> bool {
        std::mem::take(&mut self.progress_has_changed)
    }

    /// The status that was asked for, if it has come.
    pub fn take_status(&mut self) -> Option<Status> {
        self.status.take()
    }

    /// The numbers of the workers that are being drained, if the broker has confirmed some.
    pub fn take_draining(&mut self) -> Option<Vec<u64>> {
        self.draining.take()
    }

    /// Why the broker refused a message, if it did.
    pub fn take_refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// The number of requests that the last connection took with it, to be sent again over this
    /// one. It is told once for each connection.
    pub fn take_to_resend(&mut self) -> usize {
        std::mem::take(&mut self.to_resend).min(self.unanswered.len())
    }

    /// The next batch to send, if a broker is there.
    pub fn poll_send(&mut self, now: Instant) -> Option<FromClient> {
        if self.link != Link::Up {
            return None;
        }
        let most = self.room.map_or(BATCH, |room| usize::try_from(room).unwrap_or(BATCH)).min(self.limits.requests);
        let mut requests = Vec::with_capacity(self.unsent().min(most));
        let mut limit: Option<Duration> = None;
        let mut bytes = 0;
        while requests.len() < most && bytes < BATCH_BYTES {
            let queue = if self.rejected.is_empty() { &mut self.unsent } else { &mut self.rejected };
            // What was answered or has expired since is not sent.
            let Some(&id) = queue.front() else { break };
            let Some(request) = self.unanswered.get(id.0) else {
                queue.pop_front();
                continue;
            };
            let size = request.body.len();
            if size as u64 > self.limits.bytes {
                queue.pop_front();
                self.reject(id, size);
                continue;
            }
            let left = request.deadline.map(|deadline| deadline.saturating_duration_since(now));
            if requests.is_empty() {
                limit = left;
            } else if !close(limit, left) {
                break;
            }
            limit = limit.max(left);
            bytes += size;
            requests.push((id, request.body.clone()));
            queue.pop_front();
        }
        if let Some(room) = &mut self.room {
            *room -= requests.len() as u64;
        }
        let timeout_ms = limit.map_or(0, |limit| limit.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(0).max(1));
        let (session, pool, wait) = (self.session, self.pool.clone(), self.wait);
        (!requests.is_empty()).then_some(FromClient::Submit { session, pool, timeout_ms, wait, requests })
    }

    /// A message came from the broker.
    pub fn handle(&mut self, message: ToClient, now: Instant) {
        match message {
            ToClient::Welcome { session, max_message_bytes, max_batch, .. } => {
                let requests = usize::try_from(max_batch).unwrap_or(BATCH).clamp(1, BATCH);
                self.limits = Limits { bytes: max_message_bytes, requests };
                self.link = Link::Up;
                self.in_the_way = None;
                self.session = session;
                self.room = None;
            }
            ToClient::Closing | ToClient::Goodbye if matches!(self.link, Link::Closing(_)) => {}
            ToClient::Closing | ToClient::Goodbye => self.link = Link::Closing(now),
            ToClient::Hiccup | ToClient::HelloAgain => {
                if !matches!(self.link, Link::Down(_)) {
                    self.link = Link::Down(now);
                }
                self.given_up.clear();
                let waiting = self.rejected.iter().chain(&self.unsent);
                let waiting = waiting.filter(|id| self.unanswered.get(id.0).is_some()).count();
                self.to_resend += self.unanswered.len() - waiting;
                self.unsent = self.ids();
                self.rejected.clear();
            }
            ToClient::Rejected(ids) => {
                self.rejected.extend(ids.into_iter().filter(|id| self.unanswered.get(id.0).is_some()));
                self.room = Some(0);
            }
            ToClient::Credit { requests } => self.room = Some(requests),
            ToClient::Replies(replies) => {
                for reply in replies {
                    match self.unanswered.take(reply.id.0) {
                        Some(request) => {
                            self.forget(reply.id, &request);
                            self.replies.push_back(reply);
                        }
                        None if self.given_up.remove(&reply.id) => {}
                        None => self.duplicated += 1,
                    }
                }
            }
            ToClient::Progress(progress) => {
                let known = progress.into_iter().filter(|(id, _)| self.unanswered.get(id.0).is_some());
                self.progress.extend(known);
                self.progress_has_changed = true;
            }
            ToClient::NoWorker { pool, pools, requests } => {
                let others = match pools.is_empty() {
                    true => "no pool has any".into(),
                    false => format!("there are workers in {}", pools.join(", ")),
                };
                let failure = Failure::new(code::NO_WORKER, format!("pool '{pool}' has no worker; {others}"));
                for id in requests {
                    self.end(id, failure.clone());
                }
            }
            ToClient::Status(status) => self.status = Some(*status),
            ToClient::Draining { numbers, .. } => self.draining = Some(numbers),
            ToClient::Refused { reason } => self.refused = Some(reason),
            ToClient::Declined { reason, requests } => {
                let failure = Failure::new(code::REFUSED, reason);
                for id in requests {
                    self.end(id, failure.clone());
                }
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|&(deadline, _)| match self.link {
            Link::Up => after_slack(deadline),
            _ => deadline,
        });
        let broker = self.broker_gone_at();
        match (deadline, broker) {
            (Some(deadline), Some(broker)) => Some(deadline.min(broker)),
            (one, other) => one.or(other),
        }
    }

    /// Ends the requests whose time is over, and all of them if there has been no broker for too
    /// long.
    ///
    /// As long as a broker is there, it is the one to say that a request has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        let gone = self.broker_gone_at().is_some_and(|at| at <= now);
        while let Some(&(deadline, id)) = self.deadlines.first()
            && (if self.link == Link::Up { after_slack(deadline) } else { deadline } <= now || gone)
        {
            self.give_up(id, now);
        }
        if gone {
            for id in self.ids::<Vec<_>>() {
                self.give_up(id, now);
            }
        }
    }

    /// When the broker will have been away for too long, if it is away and something waits for it.
    fn broker_gone_at(&self) -> Option<Instant> {
        match self.link {
            Link::Down(since) | Link::Closing(since) if !self.unanswered.is_empty() => {
                since.checked_add(self.broker_timeout)
            }
            _ => None,
        }
    }

    /// Remembers that these were ended here, as long as the broker may still reply to them: another
    /// connection's never does.
    fn remember(&mut self, ids: &[RequestId]) {
        if matches!(self.link, Link::Down(_)) {
            return;
        }
        // Of so many over one connection the first are long past.
        if self.given_up.len() > MOST_GIVEN_UP {
            self.given_up.clear();
        }
        self.given_up.extend(ids);
    }

    fn give_up(&mut self, id: RequestId, now: Instant) {
        self.remember(&[id]);
        let failure = match self.link {
            Link::Up if self.room.is_some() => {
                Failure::new(code::EXPIRED, "its time limit passed while the broker was short of room")
            }
            Link::Up => Failure::new(code::EXPIRED, "its time limit passed, and the broker did not say so in time"),
            Link::Down(since) | Link::Closing(since) => {
                let away = now.saturating_duration_since(since);
                if away < A_HANDSHAKE.min(self.broker_timeout) {
                    let early = "its time limit passed before a broker could have answered";
                    Failure::new(code::EXPIRED, early)
                } else {
                    let when = if away < self.broker_timeout { "its time limit passed, with " } else { "" };
                    let why = self.in_the_way.as_ref().map_or_else(String::new, |why| format!("; {why}"));
                    Failure::new(code::NO_BROKER, format!("{when}no broker for {:.1} s{why}", away.as_secs_f64()))
                }
            }
        };
        self.end(id, failure);
    }

    /// Ends a request of so many bytes, which the broker does not take: sending it would cost the
    /// connection, time and again.
    fn reject(&mut self, id: RequestId, bytes: usize) {
        let most = self.limits.bytes;
        let message = format!("the request has {bytes} bytes, and this broker takes {most} at most (--max-message)");
        self.end(id, Failure::new(code::INVALID, message));
    }

    /// Ends an unanswered request here.
    fn end(&mut self, id: RequestId, failure: Failure) {
        let Some(request) = self.unanswered.take(id.0) else { return };
        self.forget(id, &request);
        self.replies.push_back(Reply { id, outcome: Outcome::Error(failure), trace: Trace::default() });
    }

    /// All that is unanswered.
    fn ids<L: FromIterator<RequestId>>(&self) -> L {
        self.unanswered.numbers().map(RequestId).collect()
    }

    fn forget(&mut self, id: RequestId, request: &Request) {
        if !self.progress.is_empty() {
            self.progress.remove(&id);
        }
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }
}

/// What a handshake may take. Before, nothing is known of the broker, and only the time limit is to
/// blame.
const A_HANDSHAKE: Duration = Duration::from_millis(100);

/// When the broker has had its time to say that the deadline has passed.
fn after_slack(deadline: Instant) -> Instant {
    deadline.checked_add(SLACK).unwrap_or(deadline)
}

/// Whether two requests may share a time limit, the longer one: they differ by one percent at most.
fn close(a: Option<Duration>, b: Option<Duration>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) <= Duration::from_millis(1).max(a / 100),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn session() -> (Session, Instant) {
        let now = Instant::now();
        (Session::new("p", true, TIMEOUT, now), now)
    }

    fn body() -> Bytes {
        Bytes::from_static(b"body")
    }

    fn welcome(session: &mut Session, now: Instant) {
        welcome_with(session, 1 << 20, 1 << 16, now);
    }

    fn welcome_with(session: &mut Session, max_message_bytes: u64, max_batch: u64, now: Instant) {
        session.handle(ToClient::Welcome { version: 1, client: 1, session: 1, max_message_bytes, max_batch }, now);
    }

    fn reply(id: u64) -> ToClient {
        ToClient::Replies(vec![Reply { id: RequestId(id), outcome: Outcome::Ok(body()), trace: Trace::default() }])
    }

    fn sent(session: &mut Session, now: Instant) -> Vec<(u64, Vec<u64>)> {
        std::iter::from_fn(|| session.poll_send(now))
            .map(|message| match message {
                FromClient::Submit { timeout_ms, requests, .. } => {
                    (timeout_ms, requests.iter().map(|(id, _)| id.0).collect())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn failure(session: &mut Session) -> (u64, String) {
        let reply = session.take_reply().expect("a reply");
        match reply.outcome {
            Outcome::Error(failure) => (reply.id.0, failure.code),
            Outcome::Ok(_) => panic!("a result"),
        }
    }

    #[test]
    fn nothing_is_sent_before_the_welcome_and_many_travel_together() {
        let (mut session, now) = session();
        for _ in 0..BATCH + 1 {
            session.submit(body(), None);
        }
        assert_eq!(sent(&mut session, now), []);
        welcome(&mut session, now);
        let sizes: Vec<_> = sent(&mut session, now).iter().map(|(_, ids)| ids.len()).collect();
        assert_eq!(sizes, [BATCH, 1]);
        assert_eq!(sent(&mut session, now), []);
    }

    #[test]
    fn the_brokers_limits_are_kept_and_what_is_too_large_for_it_is_not_sent() {
        let (mut session, now) = session();
        for bytes in [1, 11, 10, 2, 3] {
            session.submit(vec![0; bytes].into(), Some(now + TIMEOUT));
        }
        welcome_with(&mut session, 10, 2, now);
        assert_eq!(sent(&mut session, now), [(10_000, vec![1, 3]), (10_000, vec![4, 5])]);
        assert_eq!(failure(&mut session), (2, code::INVALID.into()));
        assert_eq!((session.unanswered(), session.poll_timeout().is_some()), (4, true));
    }

    #[test]
    fn what_is_unanswered_is_sent_again_after_a_hiccup_and_nothing_else() {
        let (mut session, now) = session();
        for _ in 0..3 {
            session.submit(body(), None);
        }
        welcome(&mut session, now);
        sent(&mut session, now);
        session.handle(reply(2), now);
        session.handle(ToClient::Hiccup, now);
        assert_eq!(sent(&mut session, now), []);
        session.submit(body(), None);
        session.handle(ToClient::Hiccup, now);
        welcome(&mut session, now);
        assert_eq!(session.take_to_resend(), 2);
        assert_eq!(sent(&mut session, now), [(0, vec![1, 3, 4])]);
        assert_eq!(session.take_to_resend(), 0);
    }

    #[test]
    fn what_the_broker_has_no_room_for_goes_first_when_there_is_room_and_no_more_than_that() {
        let (mut session, now) = session();
        for _ in 0..BATCH + 6 {
            session.submit(body(), None);
        }
        welcome(&mut session, now);
        sent(&mut session, now);
        session.handle(reply(2), now);
        session.handle(ToClient::Rejected([1, 2, 3].map(RequestId).into()), now);
        session.submit(body(), None);
        assert_eq!(sent(&mut session, now), []);
        session.handle(ToClient::Rejected(vec![RequestId(BATCH as u64 + 1)]), now);
        session.handle(ToClient::Credit { requests: 2 }, now);
        assert_eq!(sent(&mut session, now), [(0, vec![1, 3])]);
        session.handle(ToClient::Credit { requests: 10 }, now);
        assert_eq!(sent(&mut session, now), [(0, vec![BATCH as u64 + 1, BATCH as u64 + 7])]);
        // Room is counted from then on ..
        session.handle(ToClient::Credit { requests: 1 }, now);
        session.submit(body(), None);
        session.submit(body(), None);
        assert_eq!(sent(&mut session, now).len(), 1);
        // .. but not over another connection.
        session.handle(ToClient::Hiccup, now);
        welcome(&mut session, now);
        assert_eq!(sent(&mut session, now).iter().map(|(_, ids)| ids.len()).sum::<usize>(), BATCH + 8);
    }

    #[test]
    fn many_are_cancelled_in_messages_that_the_broker_accepts() {
        let (mut session, now) = session();
        for _ in 0..=MAX_BATCH {
            session.submit(body(), None);
        }
        welcome(&mut session, now);
        let sizes = session.cancel_all().into_iter().map(|message| match message {
            FromClient::Cancel(ids) => ids.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [MAX_BATCH, 1]);
    }

    #[test]
    fn a_second_reply_is_counted_and_thrown_away() {
        let (mut session, now) = session();
        session.submit(body(), None);
        welcome(&mut session, now);
        sent(&mut session, now);
        session.handle(reply(1), now);
        session.handle(reply(1), now);
        assert!(session.take_reply().is_some() && session.take_reply().is_none());
        assert_eq!((session.duplicated(), session.unanswered()), (1, 0));
    }

    #[test]
    fn a_missing_broker_and_a_passed_time_limit_are_different_errors() {
        let (mut session, start) = session();
        session.submit(body(), Some(start + Duration::from_secs(2)));
        session.submit(body(), None);
        assert_eq!(session.poll_timeout(), Some(start + Duration::from_secs(2)));
        session.handle_timeout(start + Duration::from_secs(2));
        assert_eq!(failure(&mut session), (1, code::NO_BROKER.into()));
        session.handle_timeout(session.poll_timeout().unwrap());
        assert_eq!(failure(&mut session), (2, code::NO_BROKER.into()));

        welcome(&mut session, start);
        session.submit(body(), Some(start + Duration::from_secs(2)));
        let due = session.poll_timeout().unwrap();
        assert!(due > start + Duration::from_secs(2), "the broker is given time to say it");
        session.handle_timeout(due);
        assert_eq!(failure(&mut session), (3, code::EXPIRED.into()));
        session.handle(reply(3), due);
        assert_eq!((session.take_reply(), session.duplicated()), (None, 0), "a late reply is no second one");
    }

    #[test]
    fn a_time_limit_that_leaves_no_time_for_a_handshake_says_nothing_of_the_broker() {
        let (mut session, start) = session();
        for limit in [Duration::from_nanos(1), Duration::from_micros(100), Duration::from_millis(99)] {
            session.submit(body(), Some(start + limit));
            session.handle_timeout(start + limit);
            let Some(Reply { outcome: Outcome::Error(failure), .. }) = session.take_reply() else { panic!() };
            assert_eq!(failure.code, code::EXPIRED, "{limit:?}: {failure}");
            assert!(!failure.message.contains("no broker"), "{failure}");
        }
        // What it was that ended the waiting is said.
        session.submit(body(), Some(start + TIMEOUT / 2));
        session.submit(body(), None);
        for (at, said) in [(TIMEOUT / 2, "its time limit passed, with no broker for"), (TIMEOUT, "no broker for")] {
            session.handle_timeout(start + at);
            let Some(Reply { outcome: Outcome::Error(failure), .. }) = session.take_reply() else { panic!() };
            assert_eq!(failure.code, code::NO_BROKER);
            assert!(failure.message.starts_with(said), "{failure}");
        }
    }

    #[test]
    fn a_time_limit_goes_on_running_while_there_is_no_broker() {
        let (mut session, start) = session();
        session.submit(body(), Some(start + Duration::from_secs(100)));
        session.submit(body(), Some(start + Duration::from_millis(500) + Duration::from_secs(100)));
        session.submit(body(), Some(start + Duration::from_millis(500) + Duration::from_secs(20)));
        session.submit(body(), None);
        let now = start + Duration::from_secs(5);
        welcome(&mut session, now);
        assert_eq!(sent(&mut session, now), [(95_500, vec![1, 2]), (15_500, vec![3]), (0, vec![4])]);
    }

    #[test]
    fn without_a_broker_what_has_ended_takes_no_memory() {
        let (mut session, start) = session();
        let kept = session.submit(body(), None);
        for number in 0..1_000_000 {
            let now = start + Duration::from_micros(number);
            let id = session.submit(body(), Some(now));
            if number % 2 == 0 {
                session.handle_timeout(now);
                assert_eq!(failure(&mut session).0, id.0);
            } else {
                session.cancel(vec![id]);
            }
            assert!(session.unsent() <= SOME + 4 && session.given_up.is_empty());
        }
        welcome(&mut session, start);
        assert_eq!(sent(&mut session, start), [(0, vec![kept.0])]);
    }

    #[test]
    fn what_is_cancelled_is_neither_sent_nor_answered() {
        let (mut session, now) = session();
        session.submit(body(), None);
        assert_eq!(session.cancel_all(), []);
        welcome(&mut session, now);
        assert_eq!(sent(&mut session, now), []);
        session.submit(body(), Some(now + TIMEOUT));
        sent(&mut session, now);
        assert_eq!(session.cancel_all(), [FromClient::Cancel(vec![RequestId(2)])]);
        assert_eq!((session.unanswered(), session.poll_timeout()), (0, None));
    }
}
