//! Tests that need what not every machine has: root, network namespaces, a file system to mount.
//!
//! cargo's own harness knows only `#[ignore]`, decided when the test is compiled. With this one a test whose machine lacks
//! something counts as ignored, never as passed, and a line on stderr says why.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
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

/// Needs the rights to mount file systems and to make network namespaces.
pub fn root() -> Result<()> {
    geteuid().is_root().then_some(()).context("only root may do that")
}

/// Needs a program that is found on the path.
pub fn program(name: &str) -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {name}"))
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

/// The `main` of a file of tests: all of them at once, unless told otherwise by the usual arguments: they mostly wait.
pub fn run(tests: &[Test]) -> ExitCode {
    run_at_once(tests.len(), tests)
}

/// The same, so many at once.
pub fn run_at_once(threads: usize, tests: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    let trials = tests.iter().map(|&Test { name, needs, run }| {
        let obstacle = needs().err();
        if let Some(obstacle) = &obstacle {
            eprintln!("{name}: ignored on this machine: {obstacle:#}");
        }
        let test = move || run().map_err(|error| format!("{error:#}").into());
        Trial::test(name, test).with_ignored_flag(obstacle.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
