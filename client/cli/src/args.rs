//! What can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use giostra_client::Options;
use giostra_common::args::{positive_duration, switch};
use giostra_common::manual::Shell;
use giostra_protocol::compute::Value;
use giostra_protocol::{DEFAULT_POOL, MAX_MESSAGE_BYTES, name};
use giostra_transport::endpoint::parse_to_connect;
use giostra_transport::shutdown::Shutdown;

use giostra_transport::keys::{Credentials, KeyError, Role};

use super::bench::MIN_SIZE;
use super::help;
use super::keys::file_name;
use super::map::Map;
use super::operations::Operation;

/// Submits compute requests to a Giostra broker.
#[derive(Clone, Debug, Parser)]
#[command(name = "giostra", version, after_help = help::GIOSTRA, next_help_heading = "Options of every command")]
pub struct Args {
    /// The broker's frontend
    #[arg(
        long,
        global = true,
        env = "GIOSTRA_FRONTEND",
        default_value = "tcp://127.0.0.1:5555",
        value_parser = parse_to_connect,
        value_name = "ENDPOINT"
    )]
    pub broker: String,

    /// Whose workers are to compute
    #[arg(long, global = true, env = "GIOSTRA_POOL", default_value = DEFAULT_POOL, value_parser = name::parse)]
    pub pool: String,

    /// Time limit of a request; without one it waits for as long as there is a broker
    #[arg(long, global = true, env = "GIOSTRA_TIMEOUT", value_parser = positive_duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,

    /// Don't wait: a request fails at once if its pool has no worker, drain returns at once
    #[arg(long, global = true, env = "GIOSTRA_NO_WAIT", value_parser = switch)]
    pub no_wait: bool,

    /// How long to go without a broker before giving up, at the start or when it was lost
    #[arg(long, global = true, env = "GIOSTRA_BROKER_TIMEOUT", default_value = "10s", value_parser = positive_duration, value_name = "DURATION")]
    pub broker_timeout: Duration,

    /// One's own secret certificate, for a broker with keys (giostra keys new)
    #[arg(long, global = true, env = "GIOSTRA_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,

    /// The broker's public key, or the file of its public certificate
    #[arg(long, global = true, env = "GIOSTRA_BROKER_KEY", allow_hyphen_values = true, value_name = "KEY|FILE")]
    pub broker_key: Option<String>,

    /// Print one JSON object, on the last line of stdout; map reads and prints a line of JSON for each request instead
    #[arg(long, global = true, env = "GIOSTRA_JSON", value_parser = switch)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send one request and print its result
    Send(Send),
    /// Send a request for each line of stdin, and print the results in the order of the lines
    Map(Map),
    /// Send random additions, subtractions, multiplications and divisions, and check the results
    Random(Random),
    /// Measure how many requests a second are answered, and how long each takes
    Bench(Bench),
    /// Ask for commands: random, an operation, status, help, exit
    #[command(after_help = help::PROMPT)]
    Prompt,
    /// Show the workers, their state and their share
    Status(Status),
    /// Show live what the broker and its workers are doing, on the whole screen
    Top(Top),
    /// Let a worker finish what it has, and give it no more
    Drain(Drain),
    /// Prove or refute from the broker's log that its promises were kept. Needs no broker
    Audit(Audit),
    /// Make keys for a broker that lets in only who has one, and say whom it lets in. Needs no broker
    #[command(subcommand, after_help = help::KEYS)]
    Keys(KeysCommand),
    /// Print the completion script for a shell. Needs no broker
    Completions(Completions),
    /// Print the man page, or write those of all commands into a folder. Needs no broker
    Man(Man),
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Send(_) => "send",
            Self::Map(_) => "map",
            Self::Random(_) => "random",
            Self::Bench(_) => "bench",
            Self::Prompt => "prompt",
            Self::Status(_) => "status",
            Self::Top(_) => "top",
            Self::Drain(_) => "drain",
            Self::Audit(_) => "audit",
            Self::Keys(_) => "keys",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

impl Args {
    /// Whether a failure of the command is told as an object on stdout, too.
    pub fn fails_in_json(&self) -> bool {
        self.json && !matches!(self.command, Some(Command::Map(_)))
    }

    /// What a client needs to know. An error if the keys can't be read, or one of the two is missing.
    pub fn options(&self, command: &str, shutdown: &Shutdown) -> Result<Options, KeyError> {
        Ok(Options {
            broker: self.broker.clone(),
            name: name::of_process(&format!("giostra-{command}-")),
            pool: self.pool.clone(),
            wait: !self.no_wait,
            broker_timeout: self.broker_timeout,
            credentials: Credentials::from_flags(self.keys.as_deref(), self.broker_key.as_deref())?,
            shutdown: Some(shutdown.clone()),
        })
    }
}

/// What to do with keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a pair of keys: NAME.key, for anyone, and NAME.key_secret, which only its owner can read
    New(KeysNew),
    /// Show the public keys in certificate files. Secret ones are never shown
    Show(KeysShow),
    /// Let the owners of public certificates in, by putting a copy into the broker's --allow folder
    Allow(KeysAllow),
}

/// New keys.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::KEYS_NEW)]
pub struct KeysNew {
    /// Whose they are: the name of the files
    #[arg(value_parser = file_name)]
    pub name: String,

    /// The folder, made if it is not there
    #[arg(long, default_value = "keys", value_name = "DIR")]
    pub dir: PathBuf,
}

/// Keys to show.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::KEYS_SHOW)]
pub struct KeysShow {
    /// Certificates, public or secret
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Whom to let in.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::KEYS_ALLOW)]
pub struct KeysAllow {
    /// Public certificates
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// client: submit requests; worker: compute them; admin: see the status and drain workers. Several: --role client --role admin
    #[arg(long = "role", required = true, value_name = "client|worker|admin")]
    pub roles: Vec<Role>,

    /// The broker's --allow folder, made if it is not there
    #[arg(long, default_value = "keys/allow", value_name = "DIR")]
    pub dir: PathBuf,
}

/// One request.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::SEND)]
pub struct Send {
    /// add sub mul div pow gcd sqrt is_prime primes fib sleep echo, or what the pool's workers offer; status lists it
    #[arg(value_name = "OP", value_parser = Operation, hide_possible_values = true)]
    pub operation: String,

    /// Numbers, or texts; what begins with a dash and is no number goes behind --
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    arguments: Vec<String>,

    /// Send all arguments as texts, not those that are numbers as numbers
    #[arg(long, env = "GIOSTRA_TEXT", value_parser = switch)]
    text: bool,
}

impl Send {
    /// What it is to be computed on.
    pub fn arguments(&self) -> Vec<Value> {
        let value = |word: &String| if self.text { Ok(Value::Text(word.clone())) } else { word.parse() };
        self.arguments.iter().flat_map(value).collect()
    }
}

/// Many random requests.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::RANDOM)]
pub struct Random {
    /// How many
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,

    /// Draw the same requests as another run with this seed [default: a random one, which is printed]
    #[arg(long, env = "GIOSTRA_SEED")]
    pub seed: Option<u64>,

    /// Requests that may be unanswered at a time
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub window: u32,

    /// Wait first until so many workers are registered
    #[arg(long, env = "GIOSTRA_WAIT_WORKERS", default_value_t = 0, value_name = "N")]
    pub wait_workers: u32,
}

/// A load to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::BENCH)]
pub struct Bench {
    /// How many requests in all [default: as many as are answered in the time]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// Requests of each client that may be unanswered at a time
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=MAX_BENCH_WINDOW), value_name = "N")]
    pub window: u32,

    /// Clients, each with a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_BENCH_CLIENTS), value_name = "N")]
    pub clients: u32,

    /// Send so many bytes as each request, and expect them back, instead of an addition
    #[arg(long, value_parser = size, value_name = "BYTES")]
    pub size: Option<usize>,

    /// For how long to ask [default: 10s without REQUESTS, else as long as they take]
    #[arg(long, value_parser = positive_duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    /// Requests to be answered before the clock starts
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub warm_up: u64,
}

impl Bench {
    /// For how long to ask, if there is a limit.
    pub fn length(&self) -> Option<Duration> {
        self.duration.or_else(|| self.requests.is_none().then_some(BENCH_LENGTH))
    }
}

/// How long a bench takes if nothing is said.
const BENCH_LENGTH: Duration = Duration::from_secs(10);

/// The most clients of one bench: libzmq's context has room for 1023 sockets.
const MAX_BENCH_CLIENTS: i64 = 1000;

/// The largest window of a bench.
const MAX_BENCH_WINDOW: i64 = 100_000_000;

/// The size of a request.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ MIN_SIZE..=MAX_MESSAGE_BYTES) => Ok(size),
        _ => Err(format!("a number of bytes from {MIN_SIZE} to {MAX_MESSAGE_BYTES}")),
    }
}

/// How the status is shown.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::STATUS)]
pub struct Status {
    /// Show it again and again, so far apart [default: 1s], until Ctrl-C; with --json an object a line
    #[arg(long, num_args = 0..=1, default_missing_value = "1s", value_parser = interval, value_name = "DURATION")]
    pub watch: Option<Duration>,
}

/// A live view.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::TOP)]
pub struct Top {
    /// How far apart to ask the broker
    #[arg(long, default_value = "500ms", value_parser = interval, value_name = "DURATION")]
    pub interval: Duration,
}

/// The shortest time between two questions for the status: the broker has requests to deal, too.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The time between two questions.
fn interval(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        short if short < SHORTEST_INTERVAL => Err(format!("it must be at least {SHORTEST_INTERVAL:?}")),
        interval => Ok(interval),
    }
}

/// A worker that is to leave.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::DRAIN)]
pub struct Drain {
    /// Its name; or its number as the status and the log have it, like w17
    #[arg(value_parser = name::parse)]
    pub worker: String,

    /// Its number, if several workers have the name
    #[arg(value_parser = registration, value_name = "NUMBER")]
    pub number: Option<u64>,

    /// All workers of that name
    #[arg(long, conflicts_with = "number")]
    pub all: bool,
}

/// What is to be read from the log.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::AUDIT)]
pub struct Audit {
    /// Files of the broker's log, or its folder (all of its files); in any order
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,

    /// Tell what became of this request instead: of request 17 of client connection 1
    #[arg(long, value_parser = request, value_name = "c1#17")]
    pub request: Option<(u64, u64)>,

    /// Let it pass that the oldest files were rotated away: what is left from the next broker's start on is to be proved
    #[arg(long)]
    pub partial: bool,
}

/// For which shell.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::COMPLETIONS)]
pub struct Completions {
    /// Which
    pub shell: Shell,
}

/// Where the man pages go.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::MAN)]
pub struct Man {
    /// Write giostra.1, and a page for each command, into this folder, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// A worker's registration as the log writes it.
fn registration(text: &str) -> Result<u64, &'static str> {
    let number = text.strip_prefix('w').and_then(|number| number.parse().ok()).filter(|&number| number > 0);
    number.ok_or("a worker's number is written as in the log: w17")
}

/// A request as the log writes it.
fn request(text: &str) -> Result<(u64, u64), &'static str> {
    let parts = text.strip_prefix('c').and_then(|rest| rest.split_once('#'));
    let numbers = parts.and_then(|(client, id)| Some((client.parse().ok()?, id.parse().ok()?)));
    numbers.ok_or("a request is written as in the log: c1#17")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
        assert_eq!(args.timeout, Some(Duration::from_secs(1)));
        let args = Args::parse_from(["giostra", "send", "--text", "add", "1", "-2"]);
        let Some(Command::Send(send)) = args.command else { panic!() };
        assert_eq!(send.arguments(), ["1", "-2"].map(|word| Value::Text(word.into())));
    }

    #[test]
    fn watching_takes_a_time_or_none() {
        let watch = |line: &str| match Args::try_parse_from(line.split(' ')).map(|args| (args.command, args.json)) {
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
        assert_eq!((audit.request, args.json), (Some((1, 17)), true));
        assert!(["17", "c1", "c#1", "1#1", "c1#x"].into_iter().all(|text| request(text).is_err()));
        assert!(Args::try_parse_from(["giostra", "audit"]).is_err());
    }
}
