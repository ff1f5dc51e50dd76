//! The format of a store: its version, and the numbers of rows.
//!
//! A row's id is the job's number times 2^24, plus the number of its first request. So the rows of a
//! job follow one another, and those of a block do.

use std::ops::RangeInclusive;

use giostra_core::ids::JobNumber;
use giostra_protocol::MAX_JOB_REQUESTS;

/// The format that is written and read.
pub(crate) const VERSION: i64 = 2;

/// The number of requests in a block.
pub(crate) const BLOCK: u32 = 1024;

/// Job numbers are below this, so that a row's id is not negative.
pub(crate) const JOB_NUMBERS: u64 = 1 << 39;

/// Returns the id of a row: `number` is that of its first request, below [`MAX_JOB_REQUESTS`].
pub(crate) fn row_id(job: JobNumber, number: u32) -> i64 {
    debug_assert!(job.0 < JOB_NUMBERS && number < MAX_JOB_REQUESTS);
    (job.0 * u64::from(MAX_JOB_REQUESTS) + u64::from(number)) as i64
}

/// Returns the number of a row's first request.
pub(crate) fn number_of(id: i64) -> u32 {
    (id % i64::from(MAX_JOB_REQUESTS)) as u32
}

/// Returns the ids of a job's rows.
pub(crate) fn rows_of(job: JobNumber) -> RangeInclusive<i64> {
    row_id(job, 0)..=row_id(job, MAX_JOB_REQUESTS - 1)
}

/// Returns the ids of a block's rows: of the block with this number, counted from 0 in its job.
pub(crate) fn rows_of_block(job: JobNumber, block: u32) -> RangeInclusive<i64> {
    let first = row_id(job, block * BLOCK);
    first..=first + i64::from(BLOCK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_last_block_of_the_last_job_have_ids_of_their_own() {
        let (job, block) = (JobNumber(JOB_NUMBERS - 1), MAX_JOB_REQUESTS / BLOCK - 1);
        let rows = rows_of_block(job, block);
        assert_eq!((*rows.end(), *rows_of(job).end()), (i64::MAX, i64::MAX));
        assert!(rows_of(JobNumber(JOB_NUMBERS - 2)).end() < rows_of(job).start());
        assert_eq!(row_id(job, MAX_JOB_REQUESTS - 1), i64::MAX);
        assert_eq!(number_of(i64::MAX), MAX_JOB_REQUESTS - 1);
    }
}
