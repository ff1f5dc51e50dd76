//! What processes have used of the machine, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The clock tick in which `/proc` counts: a hundredth of a second on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// The CPU time that a process has used so far, all its threads, in user and kernel. In steps of 10
/// ms.
pub fn cpu_of(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the process has ended")?;
    ticks(&stat, 14).with_context(|| format!("no CPU time in {stat}"))
}

/// The CPU time that those children of this process used which have ended and were waited for.
pub fn cpu_of_ended_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    ticks(&stat, 16).with_context(|| format!("no CPU time in {stat}"))
}

/// The most memory that a process has had resident so far, in bytes.
pub fn peak_memory_of(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the process has ended")?;
    kibibytes(&status, "VmHWM:").map(|kib| kib << 10).with_context(|| format!("no VmHWM in {status}"))
}

/// The sum of two fields of a `stat` file, the first of which is `field`, counted from 1 as in its
/// manual page.
fn ticks(stat: &str, field: usize) -> Option<Duration> {
    // The second field is the program's name in brackets, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(field - 3);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

/// A line of a `status` file.
fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_anything_in_it() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!(ticks(stat, 14), Some(Duration::from_millis(230)));
        assert_eq!(ticks(stat, 16), Some(Duration::from_millis(270)));
        assert_eq!(ticks("7 (a) S 1", 14), None);
    }

    #[test]
    fn memory_is_found() {
        assert_eq!(kibibytes("VmPeak:\t  9 kB\nVmHWM:\t    5012 kB\n", "VmHWM:"), Some(5012));
        assert_eq!(kibibytes("VmPeak:\t  9 kB\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(cpu_of(std::process::id()).is_ok() && cpu_of_ended_children().is_ok());
        assert!(peak_memory_of(std::process::id()).unwrap() > 1 << 20);
    }
}
