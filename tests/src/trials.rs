//! Tests that need what not every machine has: root, network namespaces, a file system to mount.
//!
//! cargo's own harness knows only `#[ignore]`, decided when the test is compiled. With this one a
//! test whose machine lacks something counts as ignored, never as passed, and a line on stderr says
//! why. In CI (`CI=true`) only what can't be installed is a reason for that: where a program is
//! missing the test fails, lest nobody notices that it never runs.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use libtest_mimic::{Arguments, Trial};
use nix::unistd::geteuid;

/// A test, and what it needs.
pub struct Test {
    /// What it proves, as a sentence.
    pub name: &'static str,
    /// Fails if this machine lacks something.
    pub needs: fn() -> Result<()>,
    /// The test.
    pub run: fn() -> Result<()>,
}

/// Something that this machine lacks, and that can be installed.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Needs the rights to mount file systems and to make network namespaces.
pub fn root() -> Result<()> {
    geteuid().is_root().then_some(()).context("only root may do that")
}

/// Needs a program that is found on the path; one that this Debian package has.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Missing(format!("there is no {name}; install {package}")).into())
}

/// Needs nothing.
pub fn anywhere() -> Result<()> {
    Ok(())
}

/// A [`Test`] of the function that is named: `test!(a_sentence needs trials::root)`.
#[macro_export]
macro_rules! test {
    ($name:ident needs $needs:path) => {
        $crate::trials::Test { name: stringify!($name), needs: $needs, run: $name }
    };
}

/// The `main` of a file of tests: all of them at once, unless told otherwise by the usual
/// arguments: they mostly wait.
pub fn run(tests: &[Test]) -> ExitCode {
    run_at_once(tests.len(), tests)
}

/// The same, this many at once.
pub fn run_at_once(threads: usize, tests: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let trials = tests.iter().map(|&Test { name, needs, run }| {
        let obstacle = needs().err();
        let fails = obstacle.as_ref().is_some_and(|obstacle| in_ci && is_to_be_installed(obstacle));
        if let Some(obstacle) = obstacle.as_ref().filter(|_| !fails) {
            eprintln!("{name}: ignored on this machine: {obstacle:#}");
        }
        let ignored = obstacle.is_some() && !fails;
        let test = move || match obstacle {
            Some(obstacle) if fails => Err(format!("CI is to have what it needs: {obstacle:#}").into()),
            _ => run().map_err(|error| format!("{error:#}").into()),
        };
        Trial::test(name, test).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn is_to_be_installed(obstacle: &Error) -> bool {
    obstacle.downcast_ref::<Missing>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_can_be_installed_and_rights_can_not() {
        let missing = program("no-such-program", "no-such-package").unwrap_err();
        assert!(is_to_be_installed(&missing) && missing.to_string().contains("no-such-package"));
        assert!(is_to_be_installed(&missing.context("which it needs")));
        assert!(!is_to_be_installed(&anyhow::anyhow!("only root may do that")));
        assert!(program("sh", "dash").is_ok());
    }
}
