//! Configuration files of broker and worker: what counts, where an error is, what a check says, and
//! that the examples in `deploy/` are true.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use anyhow::{Context, Result, ensure};
use giostra_tests::process::binary;
use giostra_tests::{Setup, test, trials};
use giostra_transport::keys::KeyPair;
use nix::sys::signal::Signal;
use tempfile::TempDir;

fn main() -> ExitCode {
    trials::run(&[
        test!(a_system_runs_by_its_files needs trials::anywhere),
        test!(the_command_line_goes_before_the_environment_and_that_before_the_file needs trials::anywhere),
        test!(an_error_in_a_file_names_its_place_and_nothing_is_started needs trials::anywhere),
        test!(what_is_no_file_of_text_is_an_error_that_names_it needs trials::anywhere),
        test!(keys_from_the_environment_go_with_an_allow_folder_from_the_file needs trials::anywhere),
        test!(a_variable_names_the_file_and_an_empty_one_counts_as_unset needs trials::anywhere),
        test!(a_check_reads_the_files_of_keys_and_starts_nothing needs trials::anywhere),
        test!(a_check_of_a_worker_looks_at_its_program needs trials::anywhere),
        test!(a_check_that_cannot_be_printed_fails needs trials::anywhere),
        test!(at_sighup_the_file_is_not_read_again needs trials::anywhere),
        test!(the_examples_have_every_option_with_its_default needs trials::anywhere),
        test!(credentials_as_systemd_hands_them_out_are_accepted needs trials::root),
    ])
}

/// A folder with files, in which programs are run.
struct Folder(TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<String> {
        fs::write(self.0.path().join(name), text)?;
        Ok(self.path(name))
    }

    /// Makes keys; returns the path of the secret certificate.
    fn keys(&self, name: &str) -> Result<String> {
        let [_, secret] = KeyPair::generate()?.write(self.0.path(), name)?;
        Ok(secret.display().to_string())
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(binary(program)?);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(self.0.path());
        Ok(command)
    }

    /// Runs `PROGRAM --config-check` with more arguments and variables.
    fn check(&self, program: &str, args: &[&str], variables: &[(&str, &str)]) -> Result<Checked> {
        let output =
            self.command(program)?.arg("--config-check").args(args).envs(variables.iter().copied()).output()?;
        Checked::of(&output)
    }
}

struct Checked {
    code: Option<i32>,
    /// Without the spaces that align it.
    stdout: String,
    stderr: String,
}

impl Checked {
    fn of(output: &Output) -> Result<Self> {
        let stdout = String::from_utf8(output.stdout.clone())?;
        let lines = stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n");
        let stderr = String::from_utf8(output.stderr.clone())?;
        Ok(Self { code: output.status.code(), stdout: lines.collect(), stderr })
    }

    fn assert_fine(&self) {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{}", self.stdout);
    }

    fn assert_wrong(&self, what: &str) {
        assert!(self.code == Some(2) && self.stderr.contains(what), "{what}: {:?} {}", self.code, self.stderr);
    }
}

const VALID: &str = "# valid; all other options have their defaults\n";

fn a_system_runs_by_its_files() -> Result<()> {
    let folder = Folder::new()?;
    let broker = folder.write("broker.toml", "http = '127.0.0.1:0'\nmax-attempts = 1\nrotation = 'available'\n")?;
    let worker = "pool = 'text'\nexec = 'sh -c \"tr a-z A-Z; echo ${GIOSTRA_CONFIG-unset}\" sh'\nstdin = true\n";
    let worker = folder.write("worker.toml", worker)?;
    let mut system = Setup::workers(2).broker(&["--config", &broker]).worker(&["--config", &worker]).start()?;
    let finished = system.begin(&["send", "--pool", "text", "sh", "hello", "--text"])?.finish()?;
    assert_eq!(finished.stdout, "HELLOunset\n", "{finished:?}");
    ensure!(system.broker().stderr().contains(" watch http://127.0.0.1:"), "no page");
    system.audit()?;
    Ok(())
}

fn the_command_line_goes_before_the_environment_and_that_before_the_file() -> Result<()> {
    let folder = Folder::new()?;
    let file = "window = 1\nmax-pools = 1\nmax-batch = 1\ninsecure = true\nhttp-public = true\n\nhttp-host = ['a']\n";
    let file = folder.write("broker.toml", file)?;
    let args = ["--config", &file, "--window", "3"];
    let variables = [
        ("GIOSTRA_WINDOW", "2"),
        ("GIOSTRA_MAX_POOLS", "2"),
        ("GIOSTRA_INSECURE", "no"),
        ("GIOSTRA_LOG_LEVEL", "debug"),
        ("GIOSTRA_HTTP_HOST", "b,c"),
    ];
    let checked = folder.check("giostra-broker", &args, &variables)?;
    checked.assert_fine();
    let expected = format!(
        "max-batch = 1 # {file}:3\n\
         http-host = [\"b\", \"c\"] # GIOSTRA_HTTP_HOST\n\
         http-public = true # {file}:5\n\
         max-pools = 2 # GIOSTRA_MAX_POOLS\n\
         window = 3 # --window\n{VALID}"
    );
    assert_eq!(checked.stdout, expected);
    let checked = folder.check("giostra-broker", &[], &[])?;
    checked.assert_fine();
    assert_eq!(checked.stdout, VALID);
    Ok(())
}

fn an_error_in_a_file_names_its_place_and_nothing_is_started() -> Result<()> {
    let folder = Folder::new()?;
    let log = folder.path("log");
    for (program, text, place, what) in [
        ("giostra-broker", "\nping_interval = '1s'", ":2:1: ", "it is 'ping-interval'"),
        ("giostra-broker", "ping-interval = 5", ":1:17: ", "durations are written 500ms"),
        ("giostra-broker", "max-message = '1kB'", ":1:15: ", "it must be 1MiB to 64MiB"),
        ("giostra-broker", "frontend = 'udp://x:1'", ":1:12: ", "udp"),
        ("giostra-broker", "window = 1\nwindow = 2", ":2:1: ", "duplicate key"),
        ("giostra-broker", "threads = 1", ":1:1: ", "'threads' is no key"),
        ("giostra-worker", "exec-line = 'x'", ":1:1: ", "did you mean 'exec-lines'?"),
        ("giostra-worker", "threads = 0", ":1:11: ", "0 is not in 1..="),
        ("giostra-worker", "exec = 'cat'\nstderr = 'null'", ":2:10: ", "it is one of reply, worker"),
        ("giostra-worker", "name = 'a b'", ":1:8: ", "name"),
        ("giostra-worker", "time-limit = '1s'", ":1\n", "--exec"),
        ("giostra-broker", "window = 1\nkeys = 'k'", ":2\n", "--allow"),
    ] {
        let file = folder.write("file.toml", text)?;
        for check in [&["--config-check"][..], &[]] {
            let mut command = folder.command(program)?;
            let output = command.args(["--config", &file]).args(check).env("GIOSTRA_LOG_DIR", &log).output()?;
            let checked = Checked::of(&output)?;
            checked.assert_wrong(&format!("{file}{place}"));
            checked.assert_wrong(what);
            assert_eq!(checked.stdout, "");
        }
    }
    ensure!(!Path::new(&log).exists(), "the log was begun");
    Ok(())
}

fn what_is_no_file_of_text_is_an_error_that_names_it() -> Result<()> {
    let folder = Folder::new()?;
    let garbage = folder.write("garbage", b"\x7fELF\x02\xff\0\0")?;
    let unfinished = folder.write("unfinished", "keys = 'k")?;
    for (path, what) in [
        (folder.path("."), "directory"),
        (folder.path("missing"), "No such file"),
        (garbage.clone(), &*format!("{garbage}:1:6: it is no text in UTF-8")),
        (unfinished.clone(), &*format!("{unfinished}:1:10: it is no TOML")),
        ("/dev/zero".into(), "larger than 1 MiB"),
    ] {
        for program in ["giostra-broker", "giostra-worker"] {
            let checked = Checked::of(&folder.command(program)?.args(["--config", &path]).output()?)?;
            checked.assert_wrong(&path);
            checked.assert_wrong(what);
        }
    }
    Ok(())
}

fn keys_from_the_environment_go_with_an_allow_folder_from_the_file() -> Result<()> {
    let folder = Folder::new()?;
    let keys = folder.keys("broker")?;
    fs::create_dir(folder.path("allow"))?;
    let file = folder.write("broker.toml", "keys = 'nowhere'\nallow = 'allow'\nfrontend = 'tcp://*:5555'\n")?;
    let checked = folder.check("giostra-broker", &["--config", &file], &[("GIOSTRA_BROKER_KEYS", &keys)])?;
    checked.assert_fine();
    ensure!(checked.stdout.contains(&format!("keys = \"{keys}\" # GIOSTRA_BROKER_KEYS\n")), "{}", checked.stdout);
    Ok(())
}

fn a_variable_names_the_file_and_an_empty_one_counts_as_unset() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.write("a.toml", "nonsense = 1")?;
    for program in ["giostra-broker", "giostra-worker"] {
        folder.check(program, &[], &[("GIOSTRA_CONFIG", "")])?.assert_fine();
        let named = [("GIOSTRA_CONFIG", &*file)];
        let checked = folder.check(program, &[], &named)?;
        checked.assert_wrong("(GIOSTRA_CONFIG names this file)");
        let good = folder.write("b.toml", "grace = '1s'")?;
        folder.check(program, &["--config", &good], &named)?.assert_fine();
        for prints in ["--help", "--version", "--man", "--completions=bash"] {
            let output = folder.command(program)?.arg(prints).envs(named).output()?;
            ensure!(output.status.success() && !output.stdout.is_empty(), "{prints}: {output:?}");
        }
    }
    Ok(())
}

fn a_check_reads_the_files_of_keys_and_starts_nothing() -> Result<()> {
    let folder = Folder::new()?;
    let keys = folder.keys("broker")?;
    fs::create_dir_all(folder.path("allow/client"))?;
    let file = "keys = 'broker.key_secret'\nallow = 'allow'\nlog-dir = 'log'\nstore = 'store'\nhttp = '127.0.0.1:0'\n";
    let file = folder.write("broker.toml", file)?;
    let args = ["--config", &*file];
    folder.check("giostra-broker", &args, &[])?.assert_fine();
    fs::create_dir(folder.path("allow/guests"))?;
    let checked = folder.check("giostra-broker", &args, &[])?;
    ensure!(checked.code == Some(0) && checked.stderr.contains("guests is no role"), "{}", checked.stderr);

    folder.write("allow/client/a.key", "nonsense")?;
    let checked = folder.check("giostra-broker", &args, &[])?;
    checked.assert_wrong("--allow: ");
    ensure!(checked.stdout.contains("store = \"store\"") && !checked.stdout.contains("valid"), "{}", checked.stdout);
    fs::remove_file(folder.path("allow/client/a.key"))?;

    fs::set_permissions(&keys, Permissions::from_mode(0o644))?;
    folder.check("giostra-broker", &args, &[])?.assert_wrong("chmod 600");
    folder.check("giostra-worker", &["--keys", &keys, "--broker-key", "broker.key"], &[])?.assert_wrong("chmod 600");
    folder.check("giostra-broker", &["--frontend", "tcp://*:5555"], &[])?.assert_wrong("--insecure");
    ensure!(!Path::new(&folder.path("log")).exists() && !Path::new(&folder.path("store")).exists(), "it has started");
    Ok(())
}

fn a_check_of_a_worker_looks_at_its_program() -> Result<()> {
    let folder = Folder::new()?;
    for (text, what) in [
        ("exec = 'no-such-program'", "no program 'no-such-program'"),
        ("exec-lines = 'cat {}'", "the arguments go to stdin"),
        ("exec = 'sh -c \"echo {}\"'", "would let a request run any command"),
    ] {
        let file = folder.write("worker.toml", text)?;
        folder.check("giostra-worker", &["--config", &file], &[])?.assert_wrong(what);
    }
    let file = folder.write("worker.toml", "exec = 'cat'\nstdin = true\n")?;
    let checked = folder.check("giostra-worker", &["--config", &file], &[])?;
    checked.assert_fine();
    assert_eq!(checked.stdout, format!("exec = \"cat\" # {file}:1\nstdin = true # {file}:2\n{VALID}"));
    Ok(())
}

fn a_check_that_cannot_be_printed_fails() -> Result<()> {
    let folder = Folder::new()?;
    let output =
        folder.command("giostra-broker")?.arg("--config-check").stdout(fs::File::create("/dev/full")?).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.contains("can't write to stdout"), "{said}");
    Ok(())
}

fn at_sighup_the_file_is_not_read_again() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.write("broker.toml", "ping-interval = '200ms'\n")?;
    let mut system = Setup::workers(1).broker(&["--config", &file]).secured().start()?;
    folder.write("broker.toml", "nonsense")?;
    system.reload()?;
    fs::remove_file(&file)?;
    system.reload()?;
    assert_eq!(system.random(&["100"])?["answered"], 100);
    system.broker().signal(Signal::SIGTERM)?;
    ensure!(system.broker().wait()?.success());
    Ok(())
}

/// An example: the keys that have no default, and options without which others can't be given.
struct Example {
    program: &'static str,
    text: &'static str,
    without_default: &'static [&'static str],
    needed: &'static [&'static str],
}

const EXAMPLES: [Example; 2] = [
    Example {
        program: "giostra-broker",
        text: include_str!("../../deploy/broker.toml"),
        without_default: &["http", "keys", "allow", "max-client-pending", "store"],
        needed: &[],
    },
    Example {
        program: "giostra-worker",
        text: include_str!("../../deploy/worker.toml"),
        without_default: &[
            "name",
            "window",
            "lifetime",
            "lifetime-stagger",
            "idle-timeout",
            "host",
            "keys",
            "broker-key",
            "exec",
            "exec-lines",
            "operation",
            "time-limit",
        ],
        needed: &["--exec-lines", "cat"],
    },
];

fn the_examples_have_every_option_with_its_default() -> Result<()> {
    let folder = Folder::new()?;
    for Example { program, text, without_default, needed } in EXAMPLES {
        // As it is shipped, it changes nothing.
        let shipped = folder.write("shipped.toml", text)?;
        let checked = folder.check(program, &["--config", &shipped], &[])?;
        checked.assert_fine();
        assert_eq!(checked.stdout, VALID, "{program}");

        let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
        let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_string());
        let mut keys =
            lines.iter().map(|line| key(line)).collect::<Option<Vec<_>>>().context("a line without a key")?;
        let all: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let has_default = |line: &&&str| key(line).is_some_and(|key| !without_default.contains(&&*key));
        let defaults: String = lines.iter().filter(has_default).map(|line| format!("{line}\n")).collect();
        let defaults = folder.write("defaults.toml", defaults)?;
        let checked = folder.check(program, &[&["--config", &*defaults][..], needed].concat(), &[])?;
        checked.assert_fine();
        let others = checked.stdout.lines().filter(|line| !line.starts_with("exec-lines = \"cat\""));
        assert_eq!(others.collect::<Vec<_>>(), [VALID.trim_end()], "not the defaults of {program}");

        // The others are at least values that the options take.
        let all = folder.write("all.toml", all)?;
        let checked = folder.check(program, &["--config", &all], &[])?;
        ensure!(!checked.stderr.contains(&format!("error: {all}")), "{}", checked.stderr);

        keys.sort();
        assert_eq!(keys, options(&folder, program)?, "the keys of the example of {program}");
    }
    Ok(())
}

/// The options of a program that a file can have, in order.
fn options(folder: &Folder, program: &str) -> Result<Vec<String>> {
    let help = String::from_utf8(folder.command(program)?.arg("--help").output()?.stdout)?;
    let options = help.split("Examples:").next().unwrap_or_default();
    // A line of text that begins with a flag is indented further.
    let flags = options.lines().filter_map(|line| line.strip_prefix("      --"));
    let names = flags.filter_map(|flag| flag.split([' ', ',', '=']).next());
    let not_in_files = ["completions", "config", "config-check", "man"];
    let mut names: Vec<_> = names.filter(|name| !not_in_files.contains(name)).map(String::from).collect();
    names.sort();
    Ok(names)
}

/// The user that owns nothing.
const NOBODY: u32 = 65534;

fn credentials_as_systemd_hands_them_out_are_accepted() -> Result<()> {
    let folder = Folder::new()?;
    let own = |path: &str, uid, gid, mode| -> Result<()> {
        chown(path, Some(uid), Some(gid))?;
        Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
    };
    own(&folder.path("."), 0, 0, 0o755)?;
    let keys = folder.keys("service")?;
    fs::create_dir(folder.path("allow"))?;
    let broker = folder.write("broker.toml", format!("keys = '{keys}'\nallow = 'allow'\n"))?;
    let worker = folder.write("worker.toml", format!("keys = '{keys}'\nbroker-key = 'service.key'\n"))?;
    for (uid, gid, mode, is_fine) in [
        // With access control lists: root's, and the mode shows the list's mask as the group's.
        (0, NOBODY, 0o440, true),
        // Without: on ramfs.
        (NOBODY, NOBODY, 0o400, true),
        (0, 0, 0o444, false),
        (NOBODY, NOBODY, 0o440, false),
    ] {
        own(&keys, uid, gid, mode)?;
        for (program, file) in [("giostra-broker", &broker), ("giostra-worker", &worker)] {
            // The user may not reach the folder of the build.
            let copy = PathBuf::from(folder.path(program));
            // By another process: no program that is started meanwhile inherits a file open for writing,
            // which can't be run.
            ensure!(Command::new("cp").arg(binary(program)?).arg(&copy).status()?.success());
            let mut command = Command::new(&copy);
            command.env_clear().current_dir(folder.0.path()).uid(NOBODY).gid(NOBODY);
            let checked = Checked::of(&command.args(["--config-check", "--config", file]).output()?)?;
            ensure!((checked.code == Some(0)) == is_fine, "{uid} {gid} {mode:o} {program}: {}", checked.stderr);
        }
    }
    Ok(())
}
