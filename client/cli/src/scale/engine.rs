//! Engines: what starts workers, lists them and ends them.

pub mod children;
pub mod custom;
pub mod pbs;
pub mod slurm;
pub mod ssh;

use std::time::Duration;

use super::policy::Stage;

/// What an engine says went wrong, for people.
pub type Fault = String;

/// What starts workers.
pub trait Engine {
    /// Checks that it would take a worker.
    ///
    /// # Errors
    /// If it would not: what it says.
    fn check(&mut self) -> Result<(), Fault>;

    /// Lists the workers that it was asked for under this scaler's name and that have not ended, by id.
    ///
    /// # Errors
    /// If it does not answer.
    fn list(&mut self) -> Result<Vec<(String, Stage)>, Fault>;

    /// Asks for so many workers. Returns their ids.
    ///
    /// # Errors
    /// If it takes none.
    fn start(&mut self, count: u32) -> Result<Vec<String>, Fault>;

    /// Has these end: those that compute finish what they hold.
    ///
    /// # Errors
    /// If it does not do so for all.
    fn stop(&mut self, ids: &[String]) -> Result<(), Fault>;

    /// Returns the name at the broker of the worker with this id.
    fn worker(&self, id: &str) -> String {
        id.into()
    }

    /// Returns the commands and scripts that it uses, for people.
    fn script(&self) -> String;

    /// Returns what to look at when a worker fails, such as the file of its output.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Returns the most workers that it has room for.
    fn most(&self) -> u32 {
        u32::MAX
    }

    /// Returns how long it may take to list what it has accepted.
    fn listed_within(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether its workers go on when this process ends, so that the next one finds them.
    fn outlives(&self) -> bool {
        true
    }

    /// Ends what does not outlive this process, and waits for it.
    fn end(&mut self) {}
}

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, and arguments that stand before the options.
    pub program: Vec<String>,
    /// Its options but for its name.
    pub options: Vec<String>,
    /// The prefix of the workers' names, and the name of the engine's jobs.
    pub name: String,
}

impl Launch {
    /// Returns the program's arguments for a worker of this name.
    pub fn arguments(&self, name: &str) -> Vec<String> {
        let own = ["--name".into(), name.into()];
        self.program[1..].iter().cloned().chain(own).chain(self.options.iter().cloned()).collect()
    }

    /// Returns the command line for a shell. `name` is its own quoting.
    pub fn line(&self, name: &str) -> String {
        let program = self.program.iter().map(|word| quoted(word));
        let name = ["--name".to_string(), name.into()];
        let options = self.options.iter().map(|word| quoted(word));
        program.chain(name).chain(options).collect::<Vec<_>>().join(" ")
    }
}

/// Returns a word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    // Zero bytes can't be in arguments.
    shlex::try_quote(word).map_or_else(|_| String::new(), Into::into)
}

/// Returns words as a line for a shell.
pub fn words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Returns a time limit as batch systems take it: hours, minutes and seconds.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Returns a name that nothing else has.
pub fn fresh(prefix: &str) -> String {
    format!("{prefix}-{:08x}", rand::random::<u32>())
}
