//! Submissions: requests of jobs on their way into the store.

use std::sync::Arc;

use giostra_protocol::{JobSpec, JobsReply, MAX_JOB_REQUESTS, name};

use super::expected::{Asker, Expected};
use super::job::Job;
use super::part::{Part, cost};
use super::{Broker, SubmissionKey, key_of};
use crate::event::Event;
use crate::ids::{ClientNumber, JobNumber};
use crate::store::{Op, Write};

/// The bytes of requests that may be on their way to the store. Beyond that, clients are asked to
/// send them later.
const MAX_COMING: usize = 64 << 20;

impl Broker {
    pub(super) fn submit_to_job(&mut self, client: ClientNumber, asker: &Asker, part: Part) {
        if !self.clients[&client].rights.submit {
            return self.refuse_asker(asker, "this key may not submit requests: it has not the role 'client'");
        }
        if let Err(reason) = self.check_part(client, &part) {
            return self.refuse_asker(asker, reason);
        }
        let key = key_of(self.owner(client), &part.spec);
        let known = self.jobs.by_key.get(&key).copied();
        if self.jobs.coming_bytes >= MAX_COMING {
            let requests = known.map_or(0, |number| self.jobs.table[&number].appended);
            return self.answer(asker, JobsReply::Later { requests });
        }
        if self.closing {
            // The client sends it again to the next broker.
            return;
        }
        let max = self.settings.max_pending;
        if known.is_none() && self.jobs.table.len() >= max {
            let reason = format!("{max} jobs have not ended, which is the most (--max-pending)");
            return self.refuse_asker(asker, reason);
        }
        let number = known.unwrap_or_else(|| self.create_job(client, key, &part.spec));
        self.append(number, asker, part);
    }

    fn check_part(&self, client: ClientNumber, part: &Part) -> Result<(), String> {
        let Part { spec, bodies, .. } = part;
        name::check(&spec.pool).map_err(|bad| format!("pool: {bad}"))?;
        name::check(&spec.key).map_err(|bad| format!("key: {bad}"))?;
        if !spec.name.is_empty() {
            name::check(&spec.name).map_err(|bad| format!("name of the job: {bad}"))?;
        }
        let max = self.settings.max_batch;
        if bodies.len() > max {
            return Err(format!("{} requests in one message; {max} are the most (--max-batch)", bodies.len()));
        }
        self.check_room_for_pool(&spec.pool, client)
    }

    fn create_job(&mut self, client: ClientNumber, key: SubmissionKey, spec: &JobSpec) -> JobNumber {
        self.jobs.last += 1;
        let (number, owner, spec) = (JobNumber(self.jobs.last), key.0.clone(), Arc::new(spec.clone()));
        self.jobs.by_key.insert(key, number);
        let job = Job { spec: Arc::clone(&spec), owner: owner.clone(), ..Job::default() };
        self.jobs.table.insert(number, job);
        let (id, pool) = (self.jobs.id(number), spec.pool.as_str().into());
        self.log(Event::JobSubmitted { job: number, id, client, pool });
        self.store(Op::Write(Write::Create { job: number, owner, spec }), Expected::Created(number));
        number
    }

    /// Adds a part to a job, if it is the next.
    fn append(&mut self, number: JobNumber, asker: &Asker, part: Part) {
        let Part { first, bodies, closes, .. } = part;
        let id = self.jobs.id(number);
        let job = self.jobs.table.get_mut(&number).expect("it was just found");
        asker.clone().join(&mut job.submitters);
        let is_next = first == job.appended && !job.closes;
        if !is_next || (bodies.is_empty() && !closes) {
            // Sent again after the connection broke: the answer says from where on to go on.
            if job.is_created {
                let reply = JobsReply::Accepted { id, requests: job.stored, closed: job.is_closed };
                self.answer(asker, reply);
            }
            return;
        }
        let count = bodies.len() as u32;
        if job.appended.saturating_add(count) > MAX_JOB_REQUESTS {
            return self.refuse_asker(asker, format!("a job has {MAX_JOB_REQUESTS} requests at most"));
        }
        job.appended += count;
        job.closes = closes;
        job.coming.push_back(bodies.clone());
        self.jobs.coming_bytes += cost(&bodies);
        let write = Write::Append { job: number, first, bodies, closes };
        self.store(Op::Write(write), Expected::Appended { job: number, count, closes });
    }
}
