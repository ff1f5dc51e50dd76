//! The command line of `giostra-worker`.

use clap::Parser;
use giostra_common::args::EndWith;
use giostra_common::manual::Manual;
use giostra_worker_cli::args::Args;
use giostra_worker_cli::exec::args::ExecArgs;

const EXAMPLES: &str = "\
Examples:
  giostra-worker                           one thread, the broker on this host
  giostra-worker --name worker-4 --threads 8
  giostra-worker --threads 8 --window 8    long computations: hold only requests
                                           that are being computed
  giostra-worker --broker tcp://127.0.0.1:7002 --pool nightly
  giostra-worker --broker tcp://compute:5556 --keys worker-1.key_secret \\
      --broker-key broker.key
  giostra-worker --exec factor             any program as an operation: a
                                           process for each request
  giostra-worker --exec 'convert - -resize {1} png:-' --operation thumbnail \\
      --threads 4 --time-limit 30s         arguments in place, bytes to stdin
  giostra-worker --exec 'python3 score.py' --json
                                           a JSON list on stdin, JSON on stdout
  giostra-worker --exec-lines 'python3 -u model.py' --json
                                           the same line by line, with one process
                                           for each thread that stays
  giostra-worker --exec-lines 'python3 -u model.py' --json-id
                                           and each answer repeats its request's id
  giostra-worker --config worker.toml --config-check
                                           what a file and the environment set
  source <(giostra-worker --completions bash)
                                           see giostra completions --help

Operations: add sub mul div pow gcd (two numbers); sqrt is_prime primes fib sleep (one); echo (bytes). For operations of your own, see the \
library giostra-worker. With --exec or --exec-lines, COMMAND is the only operation.

Configuration: A file for --config is in TOML. Its keys are the options' names without dashes in front: threads = 8, exec = \"python3 score.py\", \
json = true. The command line goes before the environment, the environment before the file. More: docs/operations.md.

Programs: No shell reads COMMAND or a request's arguments; to use a shell, name it: --exec 'sh -c \"sort | uniq -c\" sh'. Each process has a process \
group of its own, which is killed when the request ends, at its time limit, and when its client or the worker is gone. An exit status other than 0 makes an error reply. The \
environment has GIOSTRA_OPERATION, GIOSTRA_WORKER and GIOSTRA_THREAD (from 0), and not the variables of the worker's own flags. More: docs/exec.md.

Signals: At SIGINT, SIGTERM or SIGHUP the worker finishes the requests that it holds (see --grace) and leaves; at a second one it exits at \
once. A signal that was ignored at the start (nohup) stays ignored. SIGUSR1, SIGUSR2 and SIGALRM do nothing.

Exit status: 0 after leaving; 1 if the broker refused the worker or its key, or COMMAND can't be run; 2 for a wrong command line or \
configuration file, or if --config-check finds anything wrong.";

/// Computes the requests that the broker dispatches. Registers again after the broker's restart.
#[derive(Clone, Debug, Parser)]
#[command(name = "giostra-worker", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub args: Args,

    #[command(flatten)]
    pub manual: Manual,

    #[command(flatten)]
    pub end_with: EndWith,

    // The last, since its heading applies to all that follow.
    #[command(flatten)]
    pub exec: ExecArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
