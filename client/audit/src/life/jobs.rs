//! Durable jobs in one life. To the other checks a job is a client; what has to be safe is in the
//! ledger.

use super::Life;
use super::records::{Client, Loss, Request, State};
use crate::findings::Promise;
use crate::ranges::{Id, IdRanges, JOB, JobKey};

/// The name of a worker that an earlier life of the broker has lost.
const EARLIER: &str = "before-restart";

/// The limit of losses: a damaged line takes no more memory.
const MAX_LOST: usize = 1000;

impl Life {
    /// Handles the line with the number of the store.
    pub(super) fn on_store(&mut self, home: u32) {
        self.home = Some(home);
        self.ledger.begin_life();
    }

    pub(super) fn on_job_begins(&mut self, job: u64, key: JobKey, restored: Option<u64>) {
        if Some(key) != self.key_of(job) {
            self.findings.add(Promise::Evidence, || format!("j{job} is no number in this store"));
        }
        self.add_job(job | JOB);
        match restored {
            Some(requests) => self.ledger.restore(key, requests, &mut self.findings),
            None => {
                self.check_restored();
                self.ledger.submit(key, &mut self.findings);
            }
        }
    }

    /// Adds a job that may send requests, by its number among the clients.
    pub(super) fn add_job(&mut self, client: u64) {
        let is_new = self.clients.0.insert(client, Client::default()).is_none();
        self.jobs += u64::from(is_new);
        self.has_had_jobs = true;
    }

    /// Checks that all jobs were restored, once something else happens.
    pub(super) fn check_restored(&mut self) {
        if let Some(home) = self.home.filter(|_| !std::mem::replace(&mut self.is_restored, true)) {
            self.ledger.check_restored(home, &mut self.findings);
        }
    }

    pub(super) fn on_saved(&mut self, job: u64, requests: &IdRanges<'_>, closed: bool) {
        let ranges: Vec<_> = if requests.count() == 0 { Vec::new() } else { requests.ranges().collect() };
        if ranges.iter().any(|range| range.client != job | JOB) {
            self.findings.add(Promise::Evidence, || format!("requests of another job than j{job} are named"));
        }
        if let Some(key) = self.key_of(job) {
            self.ledger.save(key, &ranges, closed, &mut self.findings);
        }
    }

    /// Handles requests that an earlier life has lost workers with. They go before all others, like
    /// those that this life has dispatched.
    pub(super) fn on_earlier_losses(&mut self, requests: &IdRanges<'_>, lost: u64) {
        let loss = Loss { name: EARLIER.into(), number: 0, process: None };
        for id in requests.ids() {
            let Some(&Request { pool, state: state @ State::New(_), .. }) = self.clients.request(id) else {
                if let Some(key) = self.key_of_client(id.client) {
                    self.findings.add_about(key, || format!("{id} has lost workers before, but is not new here"));
                }
                continue;
            };
            self.detach_from(pool, state);
            self.earlier += 1;
            self.pools[pool].returned.insert(self.earlier, id);
            if let Some(request) = self.clients.request_mut(id) {
                request.state = State::Returned(self.earlier);
                request.lost = vec![loss.clone(); usize::try_from(lost).unwrap_or_default().min(MAX_LOST)];
            }
        }
    }

    /// Handles requests that failed and will be accepted again: nothing is stored of their replies.
    pub(super) fn on_retry(&mut self, requests: &IdRanges<'_>) {
        self.counts.retried += requests.count();
        for range in requests.ranges() {
            if let Some(key) = self.key_of_client(range.client) {
                self.ledger.retry(key, range, &mut self.findings);
            }
        }
    }

    /// Handles a finished job of which some requests are computed again.
    pub(super) fn on_resumed(&mut self, job: u64, key: JobKey, requests: u64, again: u64) {
        if Some(key) != self.key_of(job) {
            self.findings.add(Promise::Evidence, || format!("j{job} is no number in this store"));
        }
        self.add_job(job | JOB);
        self.ledger.resume(key, requests, again, &mut self.findings);
    }

    pub(super) fn on_stored(&mut self, requests: &IdRanges<'_>) {
        for range in requests.ranges() {
            if let Some(key) = self.key_of_client(range.client) {
                self.ledger.store(key, range, &mut self.findings);
            }
        }
    }

    pub(super) fn on_job_finished(&mut self, job: u64, results: u64) {
        let open = self.remove_job(job);
        let Some(key) = self.key_of(job) else { return };
        self.ledger.finish(key, results, &mut self.findings);
        if open > 0 {
            self.findings.add_about(key, || format!("j{job} is finished, with {open} open requests"));
        }
    }

    pub(super) fn on_job_cancelled(&mut self, job: u64) {
        if let Some(key) = self.key_of(job) {
            self.ledger.end(key);
        }
        self.counts.cancelled += self.remove_job(job);
    }

    /// Handles the end of durable service: what is safe goes on in another life.
    pub(super) fn on_store_failed(&mut self) {
        let jobs: Vec<_> = self.clients.0.keys().filter(|&&client| client & JOB != 0).copied().collect();
        for job in jobs {
            self.counts.cancelled += self.remove_job(job & !JOB);
        }
    }

    /// Removes a job and its open requests. Returns how many they were.
    fn remove_job(&mut self, job: u64) -> u64 {
        let Some(client) = self.clients.0.remove(&(job | JOB)) else { return 0 };
        self.jobs -= 1;
        let open = client.open.len() as u64;
        for (id, request) in client.open {
            self.release(Id { client: job | JOB, number: id }, &request);
        }
        open
    }

    fn key_of(&self, job: u64) -> Option<JobKey> {
        Some((self.home?, job))
    }

    /// Returns the job that this number of a client means, if it means one.
    pub(super) fn key_of_client(&self, client: u64) -> Option<JobKey> {
        (client & JOB != 0).then_some(client & !JOB).and_then(|job| self.key_of(job))
    }
}
