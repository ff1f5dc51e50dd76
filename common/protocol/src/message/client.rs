//! The messages between clients and the broker.

use serde::{Deserialize, Serialize};

use super::{JobsReply, JobsRequest, Priority, Progress, Reply, RequestId, Status};
use crate::{Bytes, codec};

/// A message from a client to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum FromClient<B = Bytes> {
    /// When a connection begins, before any other message.
    Hello {
        /// The client's [`VERSION`](super::VERSION).
        version: u32,
        /// The client's name, for the log.
        name: String,
    },
    /// When the client has requests to compute.
    Submit {
        /// The session from this connection's `Welcome`. Requests of another session are ignored:
        /// after a reconnect libzmq also sends what was still in its pipe, and the client sends
        /// those requests again itself.
        session: u64,
        /// The pool whose workers compute the requests.
        pool: String,
        /// Milliseconds until the requests expire, from their arrival at the broker on; 0: never.
        timeout_ms: u64,
        /// How urgent the requests are.
        priority: Priority,
        /// Whether the requests wait if their pool has no worker when they arrive. Otherwise they
        /// come back at once, in a `NoWorker`.
        wait: bool,
        /// The requests. An id that the broker already holds from this connection is ignored.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<(RequestId, B)>,
    },
    /// When replies are no longer wanted. Cancelled requests get none.
    Cancel(#[serde(deserialize_with = "codec::batch")] Vec<RequestId>),
    /// When the client asks for the broker's [`Status`], which is [limited](Status::limited) for one
    /// that may not administer.
    Inspect,
    /// When a worker should finish its requests and get no more.
    Drain {
        /// The worker's name; or `w` and its registration number, unless a worker has that name.
        worker: String,
        /// The worker's registration number; 0: any.
        number: u64,
        /// Whether to drain all workers of that name. Otherwise several of them are an error.
        all: bool,
    },
    /// When the client asks for something about durable jobs.
    Jobs {
        /// A number for the answer to name.
        tag: u64,
        /// What it asks.
        request: JobsRequest<B>,
    },
    /// When the client has read everything up to the broker's `Goodbye`.
    Goodbye,
    /// When the connection broke. libzmq inserts it at the broker; a peer that sends it is refused.
    Disconnected,
}

/// A message from the broker to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub enum ToClient<B = Bytes> {
    /// When the client's `Hello` was accepted.
    Welcome {
        /// The broker's [`VERSION`](super::VERSION).
        version: u32,
        /// The number of this connection in the broker's log: `c1` for 1.
        client: u64,
        /// The session for each `Submit` over this connection.
        session: u64,
        /// The largest frame that the broker accepts, in bytes. A larger one ends the connection.
        max_message_bytes: u64,
        /// The largest number of requests in one `Submit`. A larger one is refused.
        max_batch: u64,
        /// The number of the broker's store, the [home](super::JobId::home) of its jobs; `None` if it
        /// keeps no jobs.
        home: Option<u32>,
    },
    /// When requests ended.
    Replies(#[serde(deserialize_with = "codec::batch")] Vec<Reply<B>>),
    /// When requests that are being computed made progress. Some reports may be left out.
    Progress(#[serde(deserialize_with = "codec::batch")] Vec<(RequestId, Progress)>),
    /// When the client sent `Inspect`.
    Status(Box<Status>),
    /// When a drain has begun.
    Draining {
        /// The name of the drained workers.
        worker: String,
        /// Their registration numbers.
        #[serde(deserialize_with = "codec::batch")]
        numbers: Vec<u64>,
    },
    /// When the client asked for something about jobs.
    Jobs {
        /// The number from the question.
        tag: u64,
        /// The answer.
        reply: JobsReply<B>,
    },
    /// When a message was not accepted, no part of it. It could not be read, or it was no `Submit`:
    /// so there are no ids to name.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// When a `Submit` could be read, but its requests will never be accepted as they are.
    Declined {
        /// Why, and what to do about it.
        reason: String,
        /// All requests of the `Submit`.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<RequestId>,
    },
    /// When the broker had no room for these requests. They were not accepted: the client sends
    /// them again once it has `Credit`.
    Rejected(#[serde(deserialize_with = "codec::batch")] Vec<RequestId>),
    /// When these requests should not wait for a worker, and there was none. They were not accepted.
    NoWorker {
        /// The pool without a worker.
        pool: String,
        /// The pools with workers, by name, at most 100.
        #[serde(deserialize_with = "codec::batch")]
        pools: Vec<String>,
        /// The requests.
        #[serde(deserialize_with = "codec::batch")]
        requests: Vec<RequestId>,
    },
    /// When a client that got `Rejected` may submit requests again.
    Credit {
        /// How many requests it may submit until the next `Credit`, from now on.
        requests: u64,
    },
    /// When the broker does not know the client, or has cut it off. The client sends `Hello` again,
    /// then all requests that have no reply.
    HelloAgain,
    /// When the broker is about to exit. The client sends requests that have no reply again to the
    /// next broker.
    Closing,
    /// When the exiting broker has sent this client its last message. The client answers with its
    /// own `Goodbye`, for which the broker waits.
    Goodbye,
    /// When the connection broke. libzmq inserts it at the client.
    Hiccup,
}
