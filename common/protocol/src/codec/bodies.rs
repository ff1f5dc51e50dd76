//! Replaces the bodies of a message, one by one, in order.

use crate::{FromClient, FromWorker, JobsReply, JobsRequest, Outcome, Reply, ToClient, ToWorker};

impl<B> FromClient<B> {
    pub(super) fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<FromClient<C>, E> {
        Ok(match self {
            Self::Hello { version, name } => FromClient::Hello { version, name },
            Self::Submit { session, pool, timeout_ms, priority, wait, requests } => {
                let requests = try_map_batch(requests, f)?;
                FromClient::Submit { session, pool, timeout_ms, priority, wait, requests }
            }
            Self::Cancel(ids) => FromClient::Cancel(ids),
            Self::Inspect => FromClient::Inspect,
            Self::Drain { worker, number, all } => FromClient::Drain { worker, number, all },
            Self::Jobs { tag, request } => FromClient::Jobs { tag, request: request.try_map(f)? },
            Self::Goodbye => FromClient::Goodbye,
            Self::Disconnected => FromClient::Disconnected,
        })
    }
}

impl<B> ToClient<B> {
    pub(super) fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<ToClient<C>, E> {
        Ok(match self {
            Self::Welcome { version, client, session, max_message_bytes, max_batch, home } => {
                ToClient::Welcome { version, client, session, max_message_bytes, max_batch, home }
            }
            Self::Replies(replies) => ToClient::Replies(
                replies
                    .into_iter()
                    .map(|Reply { id, outcome, trace }| Ok(Reply { id, outcome: outcome.try_map(f)?, trace }))
                    .collect::<Result<_, E>>()?,
            ),
            Self::Progress(progress) => ToClient::Progress(progress),
            Self::Status(status) => ToClient::Status(status),
            Self::Draining { worker, numbers } => ToClient::Draining { worker, numbers },
            Self::Jobs { tag, reply } => ToClient::Jobs { tag, reply: reply.try_map(f)? },
            Self::Refused { reason } => ToClient::Refused { reason },
            Self::Declined { reason, requests } => ToClient::Declined { reason, requests },
            Self::Rejected(ids) => ToClient::Rejected(ids),
            Self::NoWorker { pool, pools, requests } => ToClient::NoWorker { pool, pools, requests },
            Self::Credit { requests } => ToClient::Credit { requests },
            Self::HelloAgain => ToClient::HelloAgain,
            Self::Closing => ToClient::Closing,
            Self::Goodbye => ToClient::Goodbye,
            Self::Hiccup => ToClient::Hiccup,
        })
    }
}

impl<B> JobsRequest<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<JobsRequest<C>, E> {
        Ok(match self {
            Self::Submit { job, first, bodies, closes } => {
                let bodies = bodies.into_iter().map(f).collect::<Result<_, E>>()?;
                JobsRequest::Submit { job, first, bodies, closes }
            }
            Self::List { before } => JobsRequest::List { before },
            Self::Look { id, wait } => JobsRequest::Look { id, wait },
            Self::Collect { id, from, with_failed } => JobsRequest::Collect { id, from, with_failed },
            Self::GiveUp(job) => JobsRequest::GiveUp(job),
            Self::Cancel(id) => JobsRequest::Cancel(id),
            Self::Retry(id) => JobsRequest::Retry(id),
            Self::Delete(id) => JobsRequest::Delete(id),
        })
    }
}

impl<B> JobsReply<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<JobsReply<C>, E> {
        Ok(match self {
            Self::Accepted { id, requests, closed } => JobsReply::Accepted { id, requests, closed },
            Self::Later { requests } => JobsReply::Later { requests },
            Self::Jobs(jobs) => JobsReply::Jobs(jobs),
            Self::Results { job, results, failed } => {
                let results = try_map_batch(results, &mut |outcome: Outcome<B>| outcome.try_map(f))?;
                JobsReply::Results { job, results, failed: try_map_batch(failed, f)? }
            }
            Self::Refused { reason } => JobsReply::Refused { reason },
        })
    }
}

impl<B> FromWorker<B> {
    pub(super) fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<FromWorker<C>, E> {
        Ok(match self {
            Self::Register { version, name, pool, operations, threads, window, instance, host } => {
                FromWorker::Register { version, name, pool, operations, threads, window, instance, host }
            }
            Self::Replies(replies) => {
                FromWorker::Replies(try_map_batch(replies, &mut |outcome: Outcome<B>| outcome.try_map(f))?)
            }
            Self::Progress(progress) => FromWorker::Progress(progress),
            Self::Pong { sequence, computing, waiting, oldest_ms } => {
                FromWorker::Pong { sequence, computing, waiting, oldest_ms }
            }
            Self::Unable { reason, tickets } => FromWorker::Unable { reason, tickets },
            Self::Able => FromWorker::Able,
            Self::Share { threads, window } => FromWorker::Share { threads, window },
            Self::Leave => FromWorker::Leave,
            Self::Disconnected => FromWorker::Disconnected,
        })
    }
}

impl<B> ToWorker<B> {
    pub(super) fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<ToWorker<C>, E> {
        Ok(match self {
            Self::Welcome { version, worker, ping_interval_ms, ping_max_out, max_message_bytes } => {
                ToWorker::Welcome { version, worker, ping_interval_ms, ping_max_out, max_message_bytes }
            }
            Self::Dispatch { priority, requests } => {
                ToWorker::Dispatch { priority, requests: try_map_batch(requests, f)? }
            }
            Self::Cancel(tickets) => ToWorker::Cancel(tickets),
            Self::Ping { sequence } => ToWorker::Ping { sequence },
            Self::RegisterAgain => ToWorker::RegisterAgain,
            Self::Goodbye => ToWorker::Goodbye,
            Self::Refused { reason } => ToWorker::Refused { reason },
            Self::Closing => ToWorker::Closing,
            Self::Hiccup => ToWorker::Hiccup,
        })
    }
}

impl<B> Outcome<B> {
    pub(super) fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<Outcome<C>, E> {
        Ok(match self {
            Self::Ok(body) => Outcome::Ok(f(body)?),
            Self::Error(failure) => Outcome::Error(failure),
        })
    }
}

fn try_map_batch<K, T, U, E>(batch: Vec<(K, T)>, f: &mut impl FnMut(T) -> Result<U, E>) -> Result<Vec<(K, U)>, E> {
    batch.into_iter().map(|(key, value)| Ok((key, f(value)?))).collect()
}
