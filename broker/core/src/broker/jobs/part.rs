//! A part of a submission.

use giostra_protocol::{Bytes, JobSpec};

/// The bytes that a part takes on its way besides its bodies, and each of them besides its bytes.
const OVERHEAD: usize = 64;

/// A part of a submission.
pub(super) struct Part {
    pub spec: JobSpec,
    pub first: u32,
    pub bodies: Vec<Bytes>,
    pub closes: bool,
}

/// Returns the bytes that a part takes on its way to the store.
pub(super) fn cost(bodies: &[Bytes]) -> usize {
    OVERHEAD + bodies.iter().map(|body| OVERHEAD + body.len()).sum::<usize>()
}
