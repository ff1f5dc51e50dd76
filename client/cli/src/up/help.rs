//! The texts after the options of `giostra up --help` and `giostra down --help`.

/// Of `giostra up`.
pub const UP: &str = "\
Examples:
  giostra up                     a broker and three workers, until Ctrl-C
  giostra up --workers 8 --threads 2
  giostra up --detach            in the background, until giostra down
  giostra up --exec 'factor'     with workers that run a program
  giostra up --pool text -- --exec-lines 'python3 -u model.py' --json
                                 with all options of giostra-worker
  giostra up --secure            with keys for all; source the file it names
  giostra up --brokers 2         kill -9 one of them: clients and workers go on
  giostra up --dir /tmp/two --frontend 'tcp://127.0.0.1:*' \\
      --backend 'tcp://127.0.0.1:*'
                                 another system beside the first
  giostra up --status            what runs, and where; --json
  kill -9 $(giostra up --pid worker-2)
                                 watch a failover: giostra status
  giostra up --again             start again what has ended

JSON: pid, started, restarts, ready, frontend, backend, brokers (a list of frontend, backend, page), page, log, store, variables (a file for the shell's source), secure, and processes: a list of name, pid, started and ended.

Environment: The broker and the workers take their other options from the environment, as they do without this: GIOSTRA_ROTATION, GIOSTRA_WORKER_GRACE and so on.

Signals: SIGINT, SIGTERM or SIGHUP ends the workers, which finish what they hold, then the brokers; what takes longer than 35 s is killed. A second one kills all at once. SIGUSR1 \
starts the workers again that have ended, and of several brokers those.

Exit status: 0 after a signal, or with --detach when all is ready; 1 if something could not be started, is up already, or the last broker has ended; 2 for a wrong command line.";

/// Of `giostra down`.
pub const DOWN: &str = "\
Examples:
  giostra down                   workers finish what they hold
  giostra down --now
  giostra down --dir /tmp/two

It also ends what a giostra up has left that was killed. The log and the store stay.

Exit status: 0 if nothing is up any more.";
