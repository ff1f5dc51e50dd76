//! The texts after the options in `--help` and the man pages.
//!
//! Examples have at most 80 columns. Each paragraph is one line, which `clap` wraps to the width of the
//! terminal.

/// Of `giostra` itself.
pub const GIOSTRA: &str = "\
Examples:
  giostra up                     a broker and three workers, until Ctrl-C
  giostra                        the prompt
  giostra send add 1 2
  seq 1 1000000 | giostra map is_prime > primes.txt
  giostra random 3000 --seed 1
  giostra random 1000000 --json | jq .rate
  giostra bench                  requests per second, and latency
  giostra status --watch         again and again, until Ctrl-C
  giostra top                    live, with keys to sort and to drain
  giostra doctor                 what is amiss, and what to do about it
  giostra submit fib --lines < numbers
                                 a job that outlives this client: wait, collect
  giostra drain worker-2         returns when it has finished its requests
  giostra audit log              what the broker's log proves
  giostra keys new broker        keys, to serve other hosts
  giostra store info .run/store  the jobs of a broker that is not running
  giostra help random            each command's options, with examples

JSON: With --json the last line of stdout is one object; each command's help lists its fields. After an error it has a field error with a code \
(invalid, failed, expired, poison, no-broker, refused, interrupted) and the message that is on stderr. A wrong command line is reported on stderr only.

Environment: The variable that an option names is its default. GIOSTRA_JSON is a switch: 1, true, yes, on, or 0, false, no, off. \
An empty variable counts as unset. NO_COLOR keeps --help without colour; with TERM=dumb there is no progress bar, either.

Exit status: 0 if every request was answered and no result was wrong; 1 if not, if the command failed or its output could not be \
written; 2 for a wrong command line; 130 after Ctrl-C, but 0 if that ended status --watch or top.";

/// Of `giostra send`.
pub const SEND: &str = "\
Examples:
  giostra send add 1 2
  giostra send div 7 2 --timeout 500ms
  giostra send sub -1 2.5
  giostra send primes 100 --json | jq .result
  giostra send sleep 3 --pool nightly
  giostra send shout 7 --text --pool text  the text, not the number

Arguments: A word is a number if the number prints as the same word (7, -2.5), otherwise a text (two, 007, 1.10, 1e3), so that no word changes \
on the way. Giostra's own workers read such texts as numbers. With --text all words are texts.

JSON: result, or error with its code and message; trace: worker, attempts (the number of workers it was dispatched to), waited_us (microseconds before the last \
dispatch) and took_us (after it).

Exit status: 0 if there was a result; 1 if there was an error instead; 2 for a wrong command line; 130 after Ctrl-C.";

/// Of `giostra submit`.
pub const SUBMIT: &str = "\
Examples:
  giostra submit primes 1000000
  giostra submit render --lines --retries 3 --timeout 10m --keep 30d < scenes
  seq 1 1000000 | giostra submit is_prime --lines
  id=$(giostra submit fib --lines --name night < numbers)
  giostra wait $id && giostra collect $id > results
  giostra submit fib --lines --key run-7 < numbers
                                           submitted once, however often this
                                           command is run

Durability: The id is printed when all requests are on the broker's disk. From then on the job goes on without this client, and after a restart or kill -9 of the \
broker. The broker must have been started with --store.

Several brokers: The job is submitted to the one that answers first, with --key to the one that the key stands for, and lives there. The other commands find it by the same list of brokers.

Priority: Requests of a higher priority go first in their pool, from all clients and jobs. Jobs are low unless --priority says otherwise, other requests normal.

Retries: A request that failed is computed again up to --retries times, after 1 s, 2 s, 4 s and so on up to a minute; not if it was invalid, or ended its workers. giostra retry has what failed in the end computed again, later.

JSON: job, the id.

Exit status: 0 if the whole job is safe; 1 if not; 2 for a wrong command line; 130 after Ctrl-C, which cancels the job unless it has a key of yours (--key).";

/// Of `giostra jobs`.
pub const JOBS: &str = "\
Examples:
  giostra jobs
  giostra jobs --watch           every second, in place, until Ctrl-C
  giostra jobs --json | jq -r '.jobs[] | select(.failed > 0).job'

States: open (its submission is not complete), running, finished, cancelled. DONE counts results and errors that are on the broker's disk, RATE those of a second. \
If the broker has keys, the rates need the role admin; without it, --watch estimates them. Of several brokers the jobs of each are shown.

JSON: jobs, a list, the newest first, of objects with job (the id), state, requests, succeeded, failed, pool, name, key, owner (a public key, or empty), priority, timeout_ms, retries, keep_ms (0: no limit, forever), submitted_ms and ended_ms \
(milliseconds since 1970; 0 if it has not ended); and of those that run, if known, rate, retrying (requests that failed and wait) and left_ms. With --watch one object per line. \
Of several brokers the object is brokers, a list of objects with broker (the endpoint) and jobs or error.

Exit status: 0; 1 if there is no broker (of several, one that does not answer), or it keeps no jobs; 2 for a wrong command line.";

/// Of `giostra job`.
pub const JOB: &str = "\
Examples:
  giostra job 5f3a9c01-12
  giostra job 5f3a9c01-12 --json | jq .succeeded

JSON: the fields of one job: see giostra jobs --help.

Exit status: 0; 1 if there is no such job; 2 for a wrong command line.";

/// Of `giostra wait`.
pub const WAIT: &str = "\
Examples:
  giostra wait 5f3a9c01-12
  giostra wait $a $b && giostra collect $a

On a terminal there is a progress bar meanwhile, for all jobs together. A broker that is restarted is waited for, as long as --broker-timeout says.

JSON: jobs, as giostra jobs prints them; refused, if there are any: a list of objects with job (the id) and error.

Exit status: 0 if all requests of all jobs have a result; 1 if one failed, or a job was cancelled or is not there, in which case the others are waited for all the same; 2 for a wrong command line; 130 after Ctrl-C, which the jobs do not notice.";

/// Of `giostra collect`.
pub const COLLECT: &str = "\
Examples:
  giostra collect 5f3a9c01-12 > results
  giostra collect 5f3a9c01-12 --follow     while it runs
  giostra collect 5f3a9c01-12 --delete > results
  giostra collect 5f3a9c01-12 --failed again > results
  giostra submit div --lines < again       what failed, as another job

Output: A line for each request, in their order, as with map: an empty line if it failed, which is reported on stderr; with --json one JSON value a line, or {\"error\": ..}.

Failed: The file of --failed has a line for each request that failed: its arguments as words, or with --json as a list, as submit --lines and map read them. Words that would be read as another \
request, such as texts with spaces, are not written, which is an error: use --json. A job whose requests failed can also be retried as it is, by giostra retry.

Exit status: 0 if each request has a result; 1 if not, or if the job has not ended; 2 for a wrong command line; 130 after Ctrl-C.";

/// Of `giostra retry`.
pub const RETRY: &str = "\
Examples:
  giostra retry 5f3a9c01-12
  giostra retry $id && giostra wait $id && giostra collect $id > results

The requests of a finished job that failed lose their errors, and are computed again, with all retries that the job has. Results stay as they are. It prints how many there are.

JSON: jobs, a list of objects with job and retried (the number of requests).

Exit status: 0; 1 if a job is not finished or has no request that failed, and then none is retried; 2 for a wrong command line.";

/// Of `giostra cancel`.
pub const CANCEL: &str = "\
Examples:
  giostra cancel 5f3a9c01-12
  giostra cancel $(giostra jobs --json | jq -r '.jobs[].job')

Results that there are can be collected. A job that has ended is left as it is.

JSON: as of giostra wait.

Exit status: 0 if the jobs have ended; 1 if one is not there, in which case the others are cancelled all the same; 2 for a wrong command line.";

/// Of `giostra map`.
pub const MAP: &str = "\
Examples:
  seq 1 1000000 | giostra map is_prime > primes.txt
  paste numbers <(giostra map fib < numbers)
  giostra map div --failed again --retry 2 < pairs > quotients
  giostra map pow --unordered --number < pairs | sort -n
  find . -name '*.tmp' | giostra map rm --line --pool files
  echo '[[12, 18]]' | jq -c '.[]' | giostra map gcd --json
  giostra map primes --journal done < limits >> lists
                                           after an interruption, the same
                                           command resumes
  giostra map render --detach < scenes > pictures
                                           Ctrl-C hands the rest over as a job

Lines: Each line is a request. Its words between spaces and tabs are the arguments, numbers or texts as with send; with --text all are texts. With --line \
the whole line is one text. With --json a line is a JSON value: an array is the list of arguments, anything else the only argument. \
An empty line is a request without arguments.

Output: One line for each line of input, in the same order. A line that failed gives an empty line, or with --json an object with \
error, its code and message; stderr says which line failed, and why. A line break within a result is printed as \\n, and on a terminal other control characters as in JSON. With --unordered results are printed as they \
arrive. Lines that wait behind a slow one are kept in memory, at most --window of them.

Retries: Before each retry of a line there is a pause: at most 100 ms at first, then twice as long each time, up to 10 s.

Journal: The journal records every answer. With the same journal, command and input, a later run resumes, and computes nothing twice. \
An output file is completed, without repetitions, whether redirected with > or >>; \
a pipe or terminal gets everything from the beginning. Lines that failed are not retried by a later run: use --failed or --retry. Between runs the input may \
grow, but not change.

Detaching: With --detach, Ctrl-C, SIGTERM or SIGHUP (a terminal that closes) don't end the run, but make a job of the lines whose results are not printed and of the rest of the input; with --unordered \
of the unanswered lines and the rest. The job's id is on stderr, and giostra collect ID >> FILE completes the output. Of a file and a pipe all of the rest is read, of a terminal what was typed. A pipe that does not end is ended by a second signal. \
One more signal gives up. With --json a line of JSON on stderr has jobs (the ids) and lines. The broker must keep jobs (--store). The job has the priority low unless --priority says otherwise, --retry and --timeout as its own, and is kept for 7 days.

Exit status: 0 if every line has a result, or will have one from a job; 1 if some failed, there was no broker any more, or something could not be read or written; 2 for a wrong command \
line; 130 after Ctrl-C.";

/// Of `giostra random`.
pub const RANDOM: &str = "\
Examples:
  giostra random 3000
  giostra random 3000 --seed 1             the same requests each time
  giostra random 300 --wait-workers 3
  giostra random 100000 --window 1         one request at a time
  giostra random 1000000 --json | jq .workers
  giostra --broker tcp://a:5555,tcp://b:5555 random 3000
                                           with two brokers
  giostra random 3000 --journal journal && giostra audit log --journal journal
                                           each was answered once, by the log

JSON: seed, sent, answered, failed, unanswered, wrong, duplicated, redispatched, seconds, rate (answers a second), latency_us (p50, p99, \
max), gap_us (the longest time without an answer), workers (how many each answered), errors (how many of each code); and error, the first of them.

Exit status: 0 if every request was answered and no result was wrong; 1 if not; 2 for a wrong command line; 130 after Ctrl-C.";

/// Of `giostra bench`.
pub const BENCH: &str = "\
Examples:
  giostra bench                            ten seconds, 4096 requests at a time
  giostra bench 1000000 --json | jq .rate
  giostra bench --window 1 --duration 3s --json | jq .latency_us.p50
  giostra bench --clients 64 --window 1    64 connections, each with one request
                                           at a time
  giostra bench --size 1048576 --window 16
                                           bodies of 1 MiB

A request is the addition of two large whole numbers, 24 bytes, or with --size an echo. Every result is checked.

JSON: clients, window, operation, size (bytes of a request), sent, answered, failed, unanswered, wrong, duplicated, redispatched, seconds, \
rate (answers a second), latency_us (p50, p90, p99, p99.9, max), errors (how many of each code); and error, the first of them.

Exit status: 0 if every request was answered and no result was wrong; 1 if not; 2 for a wrong command line; 130 after Ctrl-C.";

/// Of `giostra prompt`.
pub const PROMPT: &str = "\
Examples:
  giostra                        the same, in a terminal
  giostra prompt < commands      one command per line
  printf 'add 1 2\\nmul 6 7\\n' | giostra prompt --json | jq .result

JSON: One object per command, each on a line.

Exit status: 0 after exit or the end of the input, whatever became of the commands; 1 if the terminal or the output failed; 2 for a wrong \
command line; 130 after Ctrl-C during a command.";

/// Of `giostra status`.
pub const STATUS: &str = "\
Examples:
  giostra status
  giostra status --json | jq -r '.workers[] | [.name, .state, .rate] | @tsv'
  giostra status --watch                   every second, in place, until Ctrl-C
  giostra status --watch 5s >> status.txt
  giostra status --watch --json | jq --unbuffered .pending
  giostra status --by-host                 a line for each host
  giostra status --by-host --json | jq '.hosts[] | select(.lost > 0)'

A terminal shows what fits, with colours unless NO_COLOR is set; elsewhere everything is shown. \
With --watch, a broker that goes away is waited for. \
Of several brokers each is shown. \
LOST are a host's workers that were dropped in the last 15 minutes and have not come back.

JSON: version, uptime_ms, rotation, pending, in_flight, totals (accepted, answered, ..), workers (of each: name, number, pool, state, \
in_flight, window, answered, unable, ..), clients, pools (of each: name, pending, waits_for, waits_ms, ..), latency_us, history, events, pool_totals, bounds_us, lost, hosts. \
With --by-host: uptime_ms, pending, in_flight, left_out, hosts (of each: name, workers, threads, idle, busy, stuck, suspect, unable, leaving, in_flight, window, rate, answered, lost). With --watch one object per line.

Of several brokers the object is brokers, a list of objects with broker (the endpoint) and status or error.

Exit status: 0 if the broker answered (of several, all), also if Ctrl-C then ended --watch; 1 if not; 2 for a wrong command line; 130 after Ctrl-C before \
the first answer.";

/// Of `giostra top`.
pub const TOP: &str = "\
Examples:
  giostra top
  giostra top --interval 2s                over a slow connection
  giostra --broker tcp://192.0.2.1:5555 top
  NO_COLOR=1 giostra top

Keys:
  q Esc Ctrl-C     quit
  Up Down j k      select a worker
  s                sort by seat, rate, in flight, p99, name
  g                hosts instead of workers; Enter: the workers of one
  Tab Left Right   all pools, or one
  d                drain the selected worker, after a question
  p                pause
  ?                explain what is shown

It needs a terminal, of any size; giostra status --watch needs none. With keys, it needs the role admin. A broker that goes away is waited \
for.

Exit status: 0 if a key ended it; 1 if no broker answered at first, or this is no terminal; 2 for a wrong command line; 130 after a signal.";

/// Of `giostra drain`.
pub const DRAIN: &str = "\
Examples:
  giostra drain worker-2                   returns when it has left
  giostra drain worker-2 --no-wait --json | jq .in_flight
  giostra drain worker-2 w17               one of several with this name
  giostra drain worker-2 --all             all of them

If several workers have the name, the error lists them. The number alone suffices, unless a worker is named so.

JSON: worker, left (whether it has left), in_flight (the number of requests it still has), lost (workers of that name that were lost before they had \
finished: number, reason, returned).

Exit status: 0 if it has left, or leaves with --no-wait; 1 if it was lost before it had finished, or there is none of that name; 2 for a \
wrong command line; 130 after Ctrl-C.";

/// Of `giostra doctor`.
pub const DOCTOR: &str = "\
Examples:
  giostra doctor
  giostra doctor --broker tcp://192.0.2.1:5555 --pool render
  giostra doctor --store /var/lib/giostra/store --log-dir /var/log/giostra
  giostra doctor --json | jq -r '.checks[] | select(.verdict == \"failure\").text'

Each line is a check: ok, warn or FAIL, what was looked at, what there is, and what to do about it. It looks at versions, the environment, the limit of open files, the clock, \
keys, the broker, the workers of --pool, a broker's ports, and the folders that are named; it changes nothing. Which process has a port it can tell of your own processes, and root of all.

JSON: failures and warnings (how many), checks (each with about, verdict: ok, warning or failure, text, advice).

Exit status: 0 if nothing failed; 1 if something did; 2 for a wrong command line; 130 after Ctrl-C.";

/// Of `giostra audit`.
pub const AUDIT: &str = "\
Examples:
  giostra audit log                        all files of the log in that folder
  giostra audit log/broker_r*.log          the same
  giostra audit log --json | jq .proved
  giostra audit log --request c1#17        what became of one request
  giostra audit log --job $id              what became of a job, in all lives
  giostra audit log/broker-1 log/broker-2  several brokers, and their clients
  giostra audit log/* --journal journal    what a client has got, too

The audit proves for each life of a broker: each ticket was dispatched once, in order, to the seat whose turn it was, within \
its window; each accepted request ended once or is still open; a lost worker's requests went first, in their order, to the \
next seats; requests were given up after the same number of lost workers; a leaving client's requests were cancelled or \
discarded. It does not check fairness among clients, or times.

Several brokers: each log is proved by itself. Then it is told which clients, by their names, went over from one to another, with how many requests, and how many of these were dispatched \
or answered at both. Logs are one broker's if it listened at the same endpoints, and not at the same time.

Journal: It proves that each request that giostra random --journal has sent was answered once, and is answered in the log of the broker that the answer came from. What is not so is listed, with the request.

It can prove nothing about a broker whose first lines were rotated away (but see --partial), or one with --log-level info.

JSON: proved, verdict (proved, refuted, not provable), files, lines, lives, what was counted (accepted, dispatched, redispatched, replies, \
errors, expired, open, ..), promises (each with promise, verdict, violations), not_provable (why), violation_count, violations (file, line, \
what, promise, text). Of several brokers, or with --journal: proved, verdict, brokers (each with log, frontend and all of that), client_count, moved_count, clients (each with name, shared, brokers, went_over), \
journals (each with file, client, requests, answered, errors, went_over, proved, finding_count, findings: request, what), not_provable. With --request: request, steps (time, life, what), ends. With --job: job, pool, client, state, requests, \
seconds, deleted, lives (with counts), workers (replies of each), steps, proved, verdict, violation_count, violation (the first).

Exit status: 0 if all is proved (or the request is in the log, or the job is, and proved); 1 if something is refuted or can't be proved \
(or the request or job is not in the log); 2 for a wrong command line, or a file that can't be read.";

/// Of `giostra keys`.
pub const KEYS: &str = "\
Examples:
  giostra keys new broker        keys/broker.key and keys/broker.key_secret
  giostra keys new alice
  giostra keys allow keys/alice.key --role client --role admin
  giostra-broker --keys keys/broker.key_secret --allow keys/allow
  giostra --keys keys/alice.key_secret --broker-key keys/broker.key status

The files are ZeroMQ certificates, as czmq and pyzmq read and write them. docs/security.md shows how to set up two machines, and how to \
change keys.";

/// Of `giostra keys new`.
pub const KEYS_NEW: &str = "\
Examples:
  giostra keys new broker
  giostra keys new worker-1 --dir /etc/giostra
  giostra keys new alice --json | jq -r .public_key

JSON: name, public_key, and the two files: public and secret.";

/// Of `giostra keys show`.
pub const KEYS_SHOW: &str = "\
Examples:
  giostra keys show keys/*.key
  giostra keys show keys/broker.key --json | jq -r '.keys[].public_key'

JSON: keys, a list of file, name, public_key and secret (whether the secret key is in that file, too).";

/// Of `giostra keys allow`.
pub const KEYS_ALLOW: &str = "\
Examples:
  giostra keys allow keys/worker-1.key keys/worker-2.key --role worker
  giostra keys allow alice.key --role client --dir /etc/giostra/allow

A running broker notices in a second or two; kill -HUP makes it read the keys at once.

JSON: allowed, the files that let them in.";

/// Of `giostra store`.
#[cfg(feature = "store")]
pub const STORE: &str = "\
Examples:
  giostra store info /var/lib/giostra/store
  giostra store check /var/lib/giostra/store && echo sound
  giostra store compact /var/lib/giostra/store

The store belongs to one process at a time: stop the broker first.";

/// Of `giostra store info`.
#[cfg(feature = "store")]
pub const STORE_INFO: &str = "\
Examples:
  giostra store info .run/store
  giostra store info .run/store --json | jq .jobs.running

Sizes: New jobs use what is free in the database; compacting gives it back to the disk. The log is what a broker that was killed has left: it goes into the \
database when the store is opened. The reserve is space for a full disk.

JSON: format, home (with which its jobs' ids begin), jobs (open, running, finished, cancelled), last_job (the highest number that a job ever had), removing (deleted and cancelled jobs \
that still take space), requests, succeeded, failed, database_bytes, free_bytes, log_bytes, reserve_bytes.

Exit status: 0; 1 if there is no store, a broker uses it, or it can't be read; 2 for a wrong command line.";

/// Of `giostra store check`.
#[cfg(feature = "store")]
pub const STORE_CHECK: &str = "\
Examples:
  giostra store check .run/store
  giostra store check .run/store --json | jq -r '.problems[]'

It checks SQLite's pages and indexes; that each request has one result, one error or a body to be computed; that each job counts as many; that no row belongs to no job.

JSON: sound, problems (texts, at most 100), left_out (the number of further problems).

Exit status: 0 if the store is sound; 1 if not, or if there is none, a broker uses it, or it can't be read; 2 for a wrong command line.";

/// Of `giostra store compact`.
#[cfg(feature = "store")]
pub const STORE_COMPACT: &str = "\
Examples:
  giostra store compact .run/store
  giostra store compact .run/store --json | jq .after_bytes

It needs as much free space as the store has after it. The new file takes the place of the old one when it is on the disk; if something interrupts it, the store stays as it was.

JSON: before_bytes, after_bytes, the size of the database.

Exit status: 0; 1 if there is no store, a broker uses it, the space does not suffice, or something can't be read or written; 2 for a wrong command line.";

/// Of `giostra completions`.
pub const COMPLETIONS: &str = "\
Examples:
  source <(giostra completions bash)       for this shell alone
  giostra completions bash > ~/.local/share/bash-completion/completions/giostra
  giostra completions zsh > ~/.zfunc/_giostra
                                           .zshrc: fpath=(~/.zfunc $fpath), and
                                           then: autoload -U compinit; compinit
  giostra completions fish > ~/.config/fish/completions/giostra.fish
  giostra-broker --completions bash        the broker's, the same way
  giostra-worker --completions bash

Make the folder first if necessary. The script is printed as it is, even with --json.";

/// Of `giostra man`.
pub const MAN: &str = "\
Examples:
  giostra man | man -l -
  giostra man --dir ~/.local/share/man/man1
                                           then: man giostra, man giostra-send
  giostra-broker --man > ~/.local/share/man/man1/giostra-broker.1
  giostra-worker --man > ~/.local/share/man/man1/giostra-worker.1

JSON: With --dir: files, those that were written. Without, the page is printed as it is.";
