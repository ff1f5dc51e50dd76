//! Messages as tests write them by hand, with what matters to few of them left out.

use giostra_protocol::{Bytes, FromClient, Priority, RequestId};

/// A `Submit` of requests of the usual priority that wait for a worker; `timeout_ms` is 0 for no
/// time limit.
pub fn submit(session: u64, pool: &str, timeout_ms: u64, requests: Vec<(RequestId, Bytes)>) -> FromClient {
    let (pool, priority) = (pool.into(), Priority::default());
    FromClient::Submit { session, pool, timeout_ms, priority, wait: true, requests }
}
