//! The clients of the long run: one after another, each with a batch whose results it checks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use giostra_client::{Client, Options};
use giostra_protocol::{Bytes, Outcome, Reply};

use super::Tally;
use super::workers::result_of;

/// Requests of one client, with this many unanswered at a time.
const BATCH: u64 = 500_000;
const WINDOW: u64 = 4096;

/// After how long without any reply something is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays clients until `requests` are answered.
pub fn play(frontend: &str, requests: u64, tally: &Tally) -> Result<()> {
    let mut left = requests;
    while left > 0 {
        let batch = left.min(BATCH);
        play_one(frontend, batch, tally)?;
        left -= batch;
    }
    Ok(())
}

fn play_one(frontend: &str, requests: u64, tally: &Tally) -> Result<()> {
    let mut client = Client::connect(Options { broker: frontend.into(), ..Options::default() })?;
    tally.clients.fetch_add(1, Ordering::Relaxed);
    let (mut submitted, mut answered) = (0_u64, 0);
    while answered < requests {
        while submitted < requests && submitted - answered < WINDOW {
            // Its body is the id that it is about to get.
            let body = Bytes::copy_from_slice(&(submitted + 1).to_be_bytes());
            let id = client.submit(body)?;
            ensure!(id.0 == submitted + 1, "{id:?} is not the next one after {submitted}");
            submitted += 1;
        }
        let mut reply = client.next_reply(Some(PATIENCE))?;
        ensure!(reply.is_some(), "{} requests without any reply for {PATIENCE:?}", submitted - answered);
        let before = answered;
        while let Some(some) = reply {
            check(&some, tally);
            answered += 1;
            reply = client.take_reply();
        }
        tally.answered.fetch_add(answered - before, Ordering::Relaxed);
    }
    tally.duplicated.fetch_add(client.duplicated(), Ordering::Relaxed);
    Ok(())
}

fn check(reply: &Reply, tally: &Tally) {
    let right = matches!(&reply.outcome, Outcome::Ok(body) if **body == *result_of(&reply.id.0.to_be_bytes()));
    if !right {
        tally.wrong.fetch_add(1, Ordering::Relaxed);
    }
    if reply.trace.attempts > 1 {
        tally.redispatched.fetch_add(1, Ordering::Relaxed);
    }
}
