//! What a client is told of jobs, step by step.
