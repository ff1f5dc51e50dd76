//! The texts after the options of `giostra scale --help`, and of each engine.

/// Of `giostra scale`.
pub const SCALE: &str = "\
Examples:
  giostra scale local --max 8    workers on this host, as many as it takes
  giostra scale ssh --max 20 --host node1:8 --host node2:12
  giostra scale slurm --max 50 --backend tcp://login1:5556 --partition short
  giostra scale pbs --max 50 --backend tcp://login1:5556 --queue short
  giostra scale slurm --max 50 --backend tcp://login1:5556 --print
                                 the job's script, and nothing else
  giostra scale --help           and giostra scale slurm --help

How many: As many as compute what waits and what is being computed within --horizon, and not more than there are requests for. What a request costs is the time \
for which workers were seen computing, by the requests they answered meanwhile; as long as that is unknown, a request is worth a thread. More are started at once; fewer are kept only \
after fewer were enough for --cool-down. Those that are too many finish what they hold.

More than one: It is for one pool, and knows what it has started by --name: after a restart it goes on. Two of one name don't run side by side.

Exit status: 0 after a signal; 1 if the engine takes no worker, or the broker refuses; 2 for a wrong command line.";

/// Of `giostra scale local`.
pub const LOCAL: &str = "\
Examples:
  giostra scale local --max 8
  giostra scale local --max 4 --pool text -- --exec-lines ./model.py --json
  giostra scale local --max 8 --worker 'python3 -m giostra worker tasks:worker'

The workers end with it, and finish what they hold first; those that take longer than 35 s are killed.";

/// Of `giostra scale ssh`.
pub const SSH: &str = "\
Examples:
  giostra scale ssh --max 20 --host node1:8 --host node2:12
  giostra scale ssh --max 40 --hosts hosts.txt --push
  giostra scale ssh --max 4 --host me@far --ssh-option=-p2222 --threads 8

Each worker has a connection of its own, with a tunnel back to the broker: a Unix socket on the other host that only the user there can use. So the broker may listen on this host alone, \
and no port is opened. ssh must not ask for anything: use keys, or an agent. The user's ~/.ssh/config counts.

The end: The workers end with it, and when their connection breaks; what they hold is computed by others. When it ends in order, they finish first.";

/// Of `giostra scale slurm`.
pub const SLURM: &str = "\
Examples:
  giostra scale slurm --max 50 --backend tcp://login1:5556 --partition short
  giostra scale slurm --max 8 --backend tcp://login1:5556 --walltime 4h \\
      --threads 16 --mem 32G --sbatch=--constraint=icelake
  giostra scale slurm --max 4 --backend tcp://login1:5556 --gpus a100:1 \\
      --pool gpu -- --exec-lines 'python3 -u model.py' --json
  giostra scale slurm --max 50 --backend tcp://login1:5556 --dry-run

Jobs: Each worker is a task of a job array. It leaves before --walltime, somewhat staggered, finishes what it holds, and its job ends; a request that takes longer than --grace goes to \
another worker, and that is never held against it. Slurm's own signal before the limit and scancel do the same. A job whose node fails is not requeued, but another one is submitted. Without requests the jobs end, also without this program.

The broker: Other hosts have to reach it: giostra-broker --backend tcp://ADDRESS:5556, with keys (docs/cluster.md).

The end: Jobs go on when it ends: start it again, or scancel --name NAME.";

/// Of `giostra scale pbs`.
pub const PBS: &str = "\
Examples:
  giostra scale pbs --max 50 --backend tcp://login1:5556 --queue short
  giostra scale pbs --max 8 --backend tcp://login1:5556 --walltime 4h \\
      --threads 16 --mem 32gb --project climate --qsub=-lplace=excl
  giostra scale pbs --max 4 --backend tcp://login1:5556 --gpus 1 \\
      --select model=a100 --pool gpu -- --exec-lines './model.py' --json
  giostra scale pbs --max 50 --backend tcp://login1:5556 --dry-run

Jobs: Each worker is a job of one chunk, with a CPU for each of --threads. It leaves before --walltime, somewhat staggered, finishes what it holds, and its job ends; a request that takes \
longer than --grace goes to another worker, and that is never held against it. After qdel it has the queue's kill_delay, 10 s by default. A job whose node fails is not rerun, but another one is submitted once PBS has given it up. \
Without requests the jobs end, also without this program. They have the environment that PBS gives them; --qsub=-V hands on that of qsub.

The broker: Other hosts have to reach it: giostra-broker --backend tcp://ADDRESS:5556, with keys (docs/cluster.md).

The end: Jobs go on when it ends: start it again, or qdel $(qselect -N NAME).";

/// Of `giostra scale custom`.
pub const CUSTOM: &str = "\
Examples:
  giostra scale custom --max 8 --backend tcp://172.17.0.1:5556 \\
      --start 'docker run --detach --rm --name {name} giostra {command}' \\
      --list \"docker ps --filter name=giostra- --format '{{.Names}}'\" \\
      --stop 'docker stop {name}'
  giostra scale custom --max 8 --start './start {name} {command}' \\
      --list ./list --stop './stop {name}'
                                 with scripts of your own

The workers go on when it ends. A command that takes longer than --command-timeout has failed.";
