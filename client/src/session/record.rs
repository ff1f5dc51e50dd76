//! What happens to a client's requests, in the order in which the client sees it.
//!
//! Nothing is recorded unless somebody asks for it. Whoever does takes the record again and again: it
//! grows until then.

use giostra_protocol::{Bytes, Outcome, Reply, RequestId};

/// Something that happened to a client's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// When a broker has welcomed the client.
    Connected {
        /// The broker's endpoint, as it was listed.
        broker: String,
        /// The number of this connection: 1 is `c1` in the broker's log.
        number: u64,
    },
    /// When the requests from the first to the last were sent over this connection.
    Sent(RequestId, RequestId),
    /// When a broker has replied, with an error if there is its code.
    Replied(RequestId, Option<String>),
    /// When a broker has replied to a request that had a reply already.
    Duplicated(RequestId),
    /// When the client has ended a request itself, with an error of this code.
    GaveUp(RequestId, String),
}

/// The record of a session.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The number of the last connection at its broker.
    pub(super) number: u64,
    /// `None` until it is to be kept.
    records: Option<Vec<Record>>,
}

impl Recorder {
    /// Keeps a record from now on, or none.
    pub fn keep(&mut self, keeps: bool) {
        self.records = keeps.then(Vec::new);
    }

    /// Takes what was recorded since the last call.
    pub fn take(&mut self) -> Vec<Record> {
        self.records.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Records that the broker at this endpoint has welcomed the client.
    pub fn connected(&mut self, broker: impl FnOnce() -> String) {
        if let Some(records) = &mut self.records {
            records.push(Record::Connected { broker: broker(), number: self.number });
        }
    }

    pub(super) fn sent(&mut self, requests: &[(RequestId, Bytes)]) {
        let Some(records) = &mut self.records else { return };
        for run in requests.chunk_by(|(one, _), (next, _)| one.0 + 1 == next.0) {
            records.push(Record::Sent(run[0].0, run[run.len() - 1].0));
        }
    }

    pub(super) fn replied(&mut self, reply: &Reply) {
        let Some(records) = &mut self.records else { return };
        let code = match &reply.outcome {
            Outcome::Ok(_) => None,
            Outcome::Error(failure) => Some(failure.code.clone()),
        };
        records.push(Record::Replied(reply.id, code));
    }

    pub(super) fn duplicated(&mut self, id: RequestId) {
        if let Some(records) = &mut self.records {
            records.push(Record::Duplicated(id));
        }
    }

    pub(super) fn gave_up(&mut self, id: RequestId, code: &str) {
        if let Some(records) = &mut self.records {
            records.push(Record::GaveUp(id, code.into()));
        }
    }
}
