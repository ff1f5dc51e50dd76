//! Durable jobs over all lives of a broker: what was safe in one life is there in the next, and each
//! result is stored once.
//!
//! A broker that is killed may have stored something and not logged it. So the log can know of less
//! than the store has, and never of more.

use std::collections::BTreeMap;

use crate::findings::Findings;
use crate::ranges::{IdRange, JobKey};

/// The jobs that have not ended, and counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    jobs: BTreeMap<JobKey, Job>,
    /// The number of jobs that were submitted.
    pub submitted: u64,
    /// The number of jobs that were finished.
    pub finished: u64,
    /// The number of requests that were safe.
    pub saved: u64,
}

/// A job that has not ended.
#[derive(Debug, Default)]
struct Job {
    /// The number of its requests that are safe.
    saved: u64,
    is_closed: bool,
    /// Whether all lines about it are in the log, from its submission on.
    is_whole: bool,
    /// The requests that a worker has replied to, in any life.
    replied: Set,
    /// The requests whose results are safe.
    stored: Set,
    /// Whether it goes on in this life.
    is_here: bool,
}

impl Ledger {
    pub fn submit(&mut self, job: JobKey, findings: &mut Findings) {
        self.submitted += 1;
        if self.jobs.insert(job, Job { is_here: true, is_whole: true, ..Job::default() }).is_some() {
            findings.add_about(job, || format!("job {} has the number of an earlier one", name(job)));
        }
    }

    /// Begins a life with the jobs of this store.
    pub fn begin_life(&mut self) {
        self.jobs.values_mut().for_each(|job| job.is_here = false);
    }

    /// Checks, once all jobs of this store are restored, that none is missing.
    pub fn check_restored(&mut self, home: u32, findings: &mut Findings) {
        self.jobs.retain(|&(of, number), job| {
            // Everything may have been stored, and only the line of it be missing.
            let may_have_ended = job.is_closed && job.replied.len() >= job.saved;
            if of == home && !job.is_here && job.saved > 0 && !may_have_ended {
                findings.add_about((of, number), || {
                    format!("{} is not restored, with {} requests that were safe", name((of, number)), job.saved)
                });
            }
            of != home || job.is_here
        });
    }

    pub fn restore(&mut self, key: JobKey, requests: u64, findings: &mut Findings) {
        let job = self.jobs.entry(key).or_default();
        job.is_here = true;
        if requests < job.saved {
            let saved = job.saved;
            findings.add_about(key, || format!("of {saved} requests that were safe, {requests} are restored"));
        }
        job.saved = requests;
    }

    pub fn save(&mut self, key: JobKey, requests: &[IdRange], closed: bool, findings: &mut Findings) {
        let Some(job) = self.job(key, findings) else { return };
        job.is_closed |= closed;
        let mut count = 0;
        for range in requests {
            if range.first != job.saved || range.step != 1 {
                let saved = job.saved;
                findings.add_about(key, || format!("request {} is saved after {saved} others", range.first));
            }
            job.saved = range.last + 1;
            count += range.last - range.first + 1;
        }
        self.saved += count;
    }

    /// Checks requests that are put into the queue of their pool.
    pub fn accept(&mut self, key: JobKey, range: IdRange, findings: &mut Findings) {
        let Some(job) = self.job(key, findings) else { return };
        if range.last >= job.saved {
            let saved = job.saved;
            findings.add_about(key, || format!("request {} is accepted, but {saved} are safe", range.last));
        }
        if let Some(id) = range.into_iter().find(|id| job.stored.contains(id.number)) {
            findings.add_about(key, || format!("{id} is accepted again, though its result was safe"));
        }
    }

    pub fn reply(&mut self, key: JobKey, range: IdRange) {
        if let Some(job) = self.jobs.get_mut(&key) {
            range.into_iter().for_each(|id| _ = job.replied.insert(id.number));
        }
    }

    /// Checks requests that failed and are to be computed again.
    pub fn retry(&mut self, key: JobKey, range: IdRange, findings: &mut Findings) {
        let Some(job) = self.job(key, findings) else { return };
        for id in range {
            if !job.replied.remove(id.number) || job.stored.contains(id.number) {
                findings.add_about(key, || format!("{id} is computed again, but has not just failed"));
            }
        }
    }

    /// Goes on with a job that was finished, with requests that have failed.
    pub fn resume(&mut self, key: JobKey, requests: u64, again: u64, findings: &mut Findings) {
        if again == 0 || again > requests || self.jobs.contains_key(&key) {
            findings.add_about(key, || format!("job {} has nothing to compute again, or is running", name(key)));
        }
        self.finished = self.finished.saturating_sub(1);
        self.jobs.insert(key, Job { saved: requests, is_closed: true, is_here: true, ..Job::default() });
    }

    pub fn store(&mut self, key: JobKey, range: IdRange, findings: &mut Findings) {
        // A job that was cancelled meanwhile has ended.
        let Some(job) = self.jobs.get_mut(&key) else { return };
        for id in range {
            if !job.stored.insert(id.number) {
                findings.add_about(key, || format!("the result of {id} is stored twice"));
            }
            if !job.replied.contains(id.number) {
                findings.add_about(key, || format!("a result of {id} is stored, but none was computed"));
            }
        }
    }

    pub fn finish(&mut self, key: JobKey, results: u64, findings: &mut Findings) {
        let Some(job) = self.job(key, findings) else { return };
        if results != job.saved || job.stored.len() > results {
            let saved = job.saved;
            findings.add_about(key, || format!("the job is finished with {results} results of {saved} requests"));
        }
        let missing = job.saved.saturating_sub(job.replied.len());
        if job.is_whole && missing > 0 {
            findings.add_about(key, || format!("the job is finished, but {missing} of its requests had no reply"));
        }
        self.finished += 1;
        self.jobs.remove(&key);
    }

    /// Forgets a job that was cancelled or deleted.
    pub fn end(&mut self, key: JobKey) {
        self.jobs.remove(&key);
    }

    fn job(&mut self, key: JobKey, findings: &mut Findings) -> Option<&mut Job> {
        let job = self.jobs.get_mut(&key).filter(|job| job.is_here);
        if job.is_none() {
            findings.add_about(key, || format!("there is no job {}", name(key)));
        }
        job
    }

    /// Forgets the jobs that have not ended, because what became of them may be in lines that are
    /// missing.
    pub fn forget(&mut self) {
        self.jobs.clear();
    }

    /// The number of jobs that have not ended.
    pub fn open(&self) -> usize {
        self.jobs.len()
    }
}

fn name((home, number): JobKey) -> String {
    format!("{home:08x}-{number}")
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Set {
    words: Vec<u64>,
    len: u64,
}

impl Set {
    /// The limit of numbers: a damaged line takes no more memory.
    const MAX: u64 = 1 << 24;

    /// Adds a number. Returns whether it was not there.
    fn insert(&mut self, number: u64) -> bool {
        if number >= Self::MAX {
            return true;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    /// Removes a number. Returns whether it was there.
    fn remove(&mut self, number: u64) -> bool {
        let was_there = self.contains(number);
        if was_there {
            self.words[(number / 64) as usize] &= !(1 << (number % 64));
            self.len -= 1;
        }
        was_there || number >= Self::MAX
    }

    fn contains(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn len(&self) -> u64 {
        self.len
    }
}
