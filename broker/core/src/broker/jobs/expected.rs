//! What the store has been asked, and for whom.

use giostra_protocol::name::Label;
use giostra_protocol::{Identity, JobId};

use crate::id_ranges::IdRanges;
use crate::ids::JobNumber;
use crate::store::JobRecord;

/// The number of questions that one client may have open: to the store, and about one job.
pub(super) const MAX_QUESTIONS: usize = 64;

/// A client that has asked for something.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub identity: Identity,
    pub tag: u64,
    /// Whose jobs it may see; all without it.
    pub owner: Option<Label>,
}

impl Asker {
    /// Adds it to those who are told of a job, once for each of its questions. Of too many questions of
    /// one client the oldest is dropped: most likely it gave up waiting.
    pub fn join(self, askers: &mut Vec<Self>) {
        askers.retain(|other| (&other.identity, other.tag) != (&self.identity, self.tag));
        let same = |other: &Self| other.identity == self.identity;
        if askers.iter().filter(|other| same(other)).count() >= MAX_QUESTIONS
            && let Some(oldest) = askers.iter().position(same)
        {
            askers.remove(oldest);
        }
        askers.push(self);
    }

    pub fn may_see(&self, owner: &Label) -> bool {
        self.owner.as_ref().is_none_or(|own| own == owner)
    }
}

/// What an answer of the store is about.
pub(super) enum Expected {
    Created(JobNumber),
    Appended {
        job: JobNumber,
        count: u32,
        closes: bool,
    },
    Stored {
        job: JobNumber,
        requests: IdRanges,
        succeeded: u32,
        failed: u32,
    },
    Attempts,
    Loaded(JobNumber),
    /// A cancellation, after which the job is kept for so many milliseconds; 0: until it is deleted.
    Cancelled {
        keep_ms: u64,
    },
    Discarded,
    Deleted {
        asker: Asker,
        record: Box<JobRecord>,
    },
    Looked {
        asker: Asker,
        id: JobId,
    },
    /// When a job has ended, for those who have waited for that. They are no questions of the moment.
    Ended {
        watchers: Vec<Asker>,
        id: JobId,
    },
    Listed(Asker),
    ToCollect,
    Collected {
        asker: Asker,
        id: JobId,
    },
    ToDelete {
        asker: Asker,
        id: JobId,
    },
    ToRetry {
        asker: Asker,
        id: JobId,
    },
    Retried {
        asker: Asker,
        id: JobId,
    },
    ToExpire,
    Expired(JobNumber),
}

impl Expected {
    /// Returns the client that waits for the answer.
    pub fn asker(&self) -> Option<&Asker> {
        match self {
            Self::Deleted { asker, .. }
            | Self::Looked { asker, .. }
            | Self::Listed(asker)
            | Self::Collected { asker, .. }
            | Self::ToDelete { asker, .. }
            | Self::ToRetry { asker, .. }
            | Self::Retried { asker, .. } => Some(asker),
            _ => None,
        }
    }
}
