//! Finds the processes that bear a mark in their environment, through `/proc`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use nix::unistd::{Pid, getpgid, getpgrp, getsid};

/// Returns the process groups of this session, except for this process's own, that have a process
/// started with this value of this environment variable. Without `/proc` there are none. A process
/// that was started with another environment is not found, nor is one of another user.
pub fn groups(variable: &str, value: &OsStr) -> BTreeSet<i32> {
    let entry = [variable.as_bytes(), b"=", value.as_bytes()].concat();
    let session = getsid(None);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    ids.filter(|&id| getsid(Some(id)) == session)
        .filter(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == entry)
        })
        .filter_map(|id| getpgid(Some(id)).ok())
        .filter(|&group| group != getpgrp())
        .map(Pid::as_raw)
        .filter(|&group| group > 1)
        .collect()
}
