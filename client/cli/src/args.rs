//! The command line.

use clap::{Args as _, Parser, Subcommand};

use super::audit::Audit;
use super::bench::Bench;
use super::common::CommonArgs;
use super::doctor::Doctor;
use super::drain::Drain;
use super::help;
use super::jobs::{Cancel, Collect, Jobs, One, Retry, Submit, Wait};
use super::keys::KeysCommand;
use super::man::{Completions, Man};
use super::map::Map;
use super::random::Random;
use super::scale::{SCALE, Scale};
use super::send::Send;
use super::status::Status;
#[cfg(feature = "store")]
use super::store::StoreCommand;
use super::top::Top;
use super::up::{Down, Up};

/// The commands that need no broker.
pub const ALONE: [&str; 7] = ["up", "down", "audit", "keys", "store", "completions", "man"];

/// What `--timeout` is for a job.
const JOB_TIMEOUT: &str =
    "Time limit of each attempt at a request, from when a worker is handed it; without one it has none";

/// The default of `--broker-timeout` for `giostra doctor`: a person waits for it, and a broker that is
/// there answers in less.
const DOCTOR_TIMEOUT: &str = "3s";

/// The options of every command that mean nothing to `giostra doctor`.
const NOT_OF_DOCTOR: [&str; 3] = ["priority", "timeout", "no_wait"];

/// Those that mean nothing to `giostra scale`.
const NOT_OF_SCALE: [&str; 4] = ["priority", "timeout", "no_wait", "json"];

/// Submits compute requests to a Giostra broker.
#[derive(Clone, Debug, Parser)]
#[command(name = "giostra", version, after_help = help::GIOSTRA, next_help_heading = "Options of every command")]
#[command(mut_subcommands(adapted))]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Adapts the options of every command to this one: what `--timeout` limits is another thing for a
/// job. Options that are about a broker are hidden from the help of a command that needs none. They
/// are accepted all the same, since they may come from the environment, or stand before the command.
fn adapted(command: clap::Command) -> clap::Command {
    if command.get_name() == "submit" {
        let common = CommonArgs::augment_args(clap::Command::default());
        let timeout = common.get_arguments().find(|option| option.get_id() == "timeout").cloned();
        return command.args(timeout.map(|timeout| timeout.help(JOB_TIMEOUT)));
    }
    if command.get_name() == "doctor" {
        let common = CommonArgs::augment_args(clap::Command::default());
        let adapted = common.get_arguments().filter_map(|option| match option.get_id().as_str() {
            "broker_timeout" => Some(option.clone().default_value(DOCTOR_TIMEOUT).help("How long all of it may take")),
            id if NOT_OF_DOCTOR.contains(&id) => Some(option.clone().hide(true)),
            _ => None,
        });
        return command.args(adapted.collect::<Vec<_>>());
    }
    if command.get_name() == "scale" {
        let common = CommonArgs::augment_args(clap::Command::default());
        let adapted = common.get_arguments().cloned().filter_map(|option| match option.get_id().as_str() {
            "pool" => Some(option.help("Pool of the workers")),
            id if NOT_OF_SCALE.contains(&id) => Some(option.hide(true)),
            _ => None,
        });
        return command.args(adapted.collect::<Vec<_>>());
    }
    if !ALONE.contains(&command.get_name()) {
        return command;
    }
    let common = CommonArgs::augment_args(clap::Command::default());
    let starts_workers = command.get_name() == "up";
    let adapted = common.get_arguments().cloned().filter_map(|option| match option.get_id().as_str() {
        "json" => None,
        "pool" if starts_workers => Some(option.help("Pool of the workers")),
        _ => Some(option.hide(true)),
    });
    command.args(adapted.collect::<Vec<_>>())
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Start a broker and workers on this host, and end them together
    Up(Up),
    /// End what giostra up has started
    Down(Down),
    /// Send one request and print its result
    Send(Send),
    /// Send a request for each line of stdin, and print the results in the order of the lines
    Map(Map),
    /// Hand a job over to the broker, which keeps it and its results on disk, and print its id
    Submit(Submit),
    /// List the jobs that the broker keeps
    Jobs(Jobs),
    /// Show how far a job is
    Job(One),
    /// Wait until jobs have ended
    Wait(Wait),
    /// Print the results of a job in the order of its requests
    Collect(Collect),
    /// Compute the requests of finished jobs that failed again
    Retry(Retry),
    /// End jobs: what is not computed yet will not be
    Cancel(Cancel),
    /// Send random additions, subtractions, multiplications and divisions, and check the results
    Random(Random),
    /// Measure requests per second and latency
    Bench(Bench),
    /// Read commands interactively: random, an operation, status, help, exit
    #[command(after_help = help::PROMPT)]
    Prompt,
    /// Show the workers with their state and load
    Status(Status),
    /// Show a live view of the broker and its workers on the whole screen
    Top(Top),
    /// Let a worker finish its requests, give it no more, and end it
    Drain(Drain),
    /// Start and end workers by what there is to compute: here, over ssh, by Slurm, by PBS
    #[command(subcommand, after_help = SCALE)]
    Scale(Scale),
    /// Look for what is amiss when something does not work, and say what to do
    Doctor(Doctor),
    /// Prove or refute from the broker's log that it kept its promises. Needs no broker
    Audit(Audit),
    /// Make keys for a broker that admits only known keys, and choose which. Needs no broker
    #[command(subcommand, after_help = help::KEYS)]
    Keys(KeysCommand),
    /// Look at, check or compact the store of jobs of a broker that is not running. Needs no broker
    #[cfg(feature = "store")]
    #[command(subcommand, after_help = help::STORE)]
    Store(StoreCommand),
    /// Print the completion script for a shell. Needs no broker
    Completions(Completions),
    /// Print the man page, or write those of all commands to a folder. Needs no broker
    Man(Man),
}

impl Command {
    /// Returns the command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Down(_) => "down",
            Self::Send(_) => "send",
            Self::Map(_) => "map",
            Self::Random(_) => "random",
            Self::Submit(_) => "submit",
            Self::Jobs(_) => "jobs",
            Self::Job(_) => "job",
            Self::Wait(_) => "wait",
            Self::Collect(_) => "collect",
            Self::Retry(_) => "retry",
            Self::Cancel(_) => "cancel",
            Self::Bench(_) => "bench",
            Self::Prompt => "prompt",
            Self::Status(_) => "status",
            Self::Top(_) => "top",
            Self::Drain(_) => "drain",
            Self::Scale(_) => "scale",
            Self::Doctor(_) => "doctor",
            Self::Audit(_) => "audit",
            Self::Keys(_) => "keys",
            #[cfg(feature = "store")]
            Self::Store(_) => "store",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

impl Command {
    /// Returns whether it reads lines from stdin.
    pub fn reads_stdin(&self) -> bool {
        match self {
            Self::Map(_) => true,
            Self::Submit(submit) => submit.lines,
            _ => false,
        }
    }
}

impl Args {
    /// Returns whether a failure is also reported as an object on stdout.
    pub fn fails_in_json(&self) -> bool {
        self.common.json && !matches!(self.command, Some(Command::Map(_) | Command::Collect(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;
    use giostra_audit::Id;
    use giostra_protocol::Priority;
    use giostra_protocol::compute::Value;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn each_command_has_examples_that_fit_into_80_columns() {
        let (mut left, mut seen) = (vec![Args::command()], 0);
        while let Some(command) = left.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  giostra") || help.contains("\n  giostra"), "{}", command.get_name());
            let examples = help.lines().filter(|line| line.starts_with("  "));
            assert!(examples.clone().all(|line| line.len() <= 80), "{:?}", examples.max_by_key(|line| line.len()));
            left.extend(command.get_subcommands().cloned());
            seen += 1;
        }
        assert!(seen > 10);
    }

    #[test]
    fn commands_that_need_no_broker_list_no_options_about_one() {
        let help = |words: &[&str]| {
            let words = ["giostra"].iter().chain(words).chain(&["--help"]);
            Args::try_parse_from(words).expect_err("the help is an error to clap").to_string()
        };
        for command in [&["audit"][..], &["keys"], &["keys", "new"], &["completions"], &["man"]] {
            let help = help(command);
            assert!(help.contains("--json") && !help.contains("--broker <") && !help.contains("--pool <"), "{help}");
        }
        assert!(help(&["status"]).contains("--broker <ENDPOINT>"));
        let args = Args::parse_from(["giostra", "--pool", "p", "audit", "log", "--timeout", "1s"]);
        assert_eq!((&*args.common.pool, args.common.timeout), ("p", Some(Duration::from_secs(1))));
    }

    #[test]
    fn operations_are_completed_and_others_are_let_through() {
        let args = Args::parse_from(["giostra", "send", "my_own", "1"]);
        assert!(matches!(args.command, Some(Command::Send(send)) if send.operation == "my_own"));
        let send = Args::command().find_subcommand("send").unwrap().clone();
        let operation = send.get_positionals().next().unwrap();
        assert!(operation.get_possible_values().iter().any(|value| value.get_name() == "is_prime"));
    }

    #[test]
    fn negative_numbers_are_arguments_and_flags_may_follow() {
        let args = Args::parse_from(["giostra", "send", "add", "-1", "-2.5", "-1e3", "--timeout", "1s"]);
        let Some(Command::Send(send)) = args.command else { panic!() };
        assert_eq!(send.arguments(), [Value::Int(-1), Value::Float(-2.5), Value::Text("-1e3".into())]);
        assert_eq!(args.common.timeout, Some(Duration::from_secs(1)));
        let args = Args::parse_from(["giostra", "send", "--text", "add", "1", "-2"]);
        let Some(Command::Send(send)) = args.command else { panic!() };
        assert_eq!(send.arguments(), ["1", "-2"].map(|word| Value::Text(word.into())));
    }

    #[test]
    fn a_priority_is_one_of_three_and_may_stand_anywhere() {
        for (line, priority) in [
            ("giostra send add 1 2", None),
            ("giostra --priority high send add 1 2", Some(Priority::High)),
            ("giostra random 3 --priority low", Some(Priority::Low)),
            ("giostra prompt --priority normal", Some(Priority::Normal)),
        ] {
            assert_eq!(Args::parse_from(line.split(' ')).common.priority, priority, "{line}");
        }
        assert!(Args::try_parse_from(["giostra", "map", "fib", "--priority", "High"]).is_err());
    }

    #[test]
    fn what_reads_stdin_has_no_place_in_the_prompt() {
        let reads = |line: &str| Args::parse_from(line.split(' ')).command.is_some_and(|command| command.reads_stdin());
        assert!(reads("giostra map fib") && reads("giostra submit fib --lines") && !reads("giostra submit fib 7"));
    }

    #[test]
    fn the_time_limit_of_a_job_is_explained_where_it_is_another_thing() {
        let help = |command: &str| {
            Args::try_parse_from(["giostra", command, "--help"]).expect_err("the help is an error to clap").to_string()
        };
        assert!(help("submit").contains("each attempt") && !help("map").contains("each attempt"));
        let args = Args::parse_from(["giostra", "--timeout", "1s", "submit", "fib", "7"]);
        assert_eq!(args.common.timeout, Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_doctor_waits_less_long_unless_told_otherwise() {
        let waits = |line: &str| Args::parse_from(line.split(' ')).common.broker_timeout.as_secs();
        assert_eq!(waits("giostra doctor"), 3);
        assert_eq!(waits("giostra status"), 10);
        assert_eq!(waits("giostra doctor --broker-timeout 7s"), 7);
        assert_eq!(waits("giostra --broker-timeout 8s doctor"), 8);
    }

    #[test]
    fn watching_takes_a_time_or_none() {
        let watch =
            |line: &str| match Args::try_parse_from(line.split(' ')).map(|args| (args.command, args.common.json)) {
                Ok((Some(Command::Status(status)), json)) => Some((status.watch, json)),
                _ => None,
            };
        assert_eq!(watch("giostra status"), Some((None, false)));
        assert_eq!(watch("giostra status --watch --json"), Some((Some(Duration::from_secs(1)), true)));
        assert_eq!(watch("giostra status --watch 200ms"), Some((Some(Duration::from_millis(200)), false)));
        assert_eq!(watch("giostra status --watch 1ms"), None);
    }

    #[test]
    fn a_worker_is_drained_by_name_by_number_or_with_all_its_namesakes() {
        let drain = |line: &str| match Args::try_parse_from(line.split(' ')).map(|args| args.command) {
            Ok(Some(Command::Drain(drain))) => Some((drain.worker, drain.number, drain.all)),
            _ => None,
        };
        assert_eq!(drain("giostra drain w17"), Some(("w17".into(), None, false)));
        assert_eq!(drain("giostra drain twin w17"), Some(("twin".into(), Some(17), false)));
        assert_eq!(drain("giostra drain twin --all"), Some(("twin".into(), None, true)));
        for wrong in ["twin w17 --all", "twin 17", "twin w0", "twin w-1", ""] {
            assert_eq!(drain(&format!("giostra drain {wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn a_request_is_named_as_in_the_log() {
        let args = Args::parse_from(["giostra", "audit", "log", "--request", "c1#17", "--json"]);
        let Some(Command::Audit(audit)) = args.command else { panic!() };
        assert_eq!((audit.request, args.common.json), (Some(Id { client: 1, number: 17 }), true));
        for wrong in ["17", "c1", "c#1", "1#1", "c1#x"] {
            assert!(Args::try_parse_from(["giostra", "audit", "log", "--request", wrong]).is_err(), "{wrong}");
        }
        assert!(Args::try_parse_from(["giostra", "audit"]).is_err());
    }
}
