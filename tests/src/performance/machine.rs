//! What it ran on, and what ran.

use std::fmt;
use std::fs;
use std::process::Command;

/// The machine and the code.
#[derive(Clone, Debug)]
pub struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    commit: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model(&processors).unwrap_or("unknown processor").into(),
            kernel: kernel.trim().into(),
            commit: commit().unwrap_or_else(|| "unknown commit".into()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, commit } = self;
        write!(f, "{cores} cores, {processor}, Linux {kernel}, commit {commit}")
    }
}

fn model(processors: &str) -> Option<&str> {
    let line = processors.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// The commit that is checked out, and whether anything that is kept in the repository was changed
/// since.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    // What a bench writes is no other code.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs"])?;
    Some(format!("{}{}", commit.trim(), if changed.is_empty() { "" } else { " and changes" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found() {
        assert_eq!(model("processor : 0\nmodel name\t: Some CPU: fast\nflags : x"), Some("Some CPU: fast"));
        assert_eq!(model("processor : 0\n"), None);
    }
}
