//! `just docs`: does what the README and the pages in `docs/` say, and compares what comes out with
//! what they show.
//!
//! A code block whose first line begins with `$` is a session: each such line is a command for
//! bash, up to the next one stands its output. How much space there is counts for nothing; a line
//! of `..` stands for any lines. Numbers count, but where times and rates are told, which no two
//! runs share: in what `just` prints of the system at large, and in the summary of `giostra map`. A
//! command has to succeed. A code block behind a line that ends with the name of a file in
//! backticks and a colon is the content of that file. All of a page is one bash session: the
//! README's in the project's folder, any other's in an empty one, where `giostra` is the project's.
//! What it leaves running is ended.
//!
//! The system that the pages speak of, `just up`, is started for them, on ports that are free: they
//! take the places of the usual ones in the pages. Exits with 1 if anything is off.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use giostra_protocol::name;
use giostra_tests::Port;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Do what the documentation says, and compare
#[derive(Debug, Parser)]
struct Args {
    /// The project's folder
    #[arg(long, default_value = ".")]
    project: PathBuf,
    /// Pages [default: README.md and all in docs/]
    pages: Vec<PathBuf>,
}

/// Something to do that a page says.
#[derive(Debug, PartialEq)]
enum Step {
    Write { file: String, text: String },
    Run { line: usize, command: String, output: Vec<String> },
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let project = args.project.canonicalize()?;
    let mut pages = args.pages.clone();
    if pages.is_empty() {
        let docs = fs::read_dir(project.join("docs"))?.map(|entry| entry.map(|entry| entry.path()));
        pages = docs.collect::<Result<_, _>>()?;
        pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
        pages.sort();
        pages.insert(0, project.join("README.md"));
    }
    let mut amiss = 0;
    for page in &pages {
        let steps = steps(&fs::read_to_string(page).with_context(|| page.display().to_string())?)?;
        let commands = steps.iter().filter(|step| matches!(step, Step::Run { .. })).count();
        if commands > 0 {
            let faults = follow(&project, page, &steps)?;
            println!("{}: {commands} commands, {} amiss", page.display(), faults.len());
            faults.iter().for_each(|fault| println!("{fault}"));
            amiss += faults.len();
        }
    }
    ensure!(amiss == 0, "{amiss} commands do not what the pages say");
    Ok(())
}

/// What a page says is to be done.
fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut lines = page.lines().enumerate().peekable();
    let mut before = "";
    while let Some((number, line)) = lines.next() {
        if line.starts_with("```") {
            let block: Vec<_> = lines.by_ref().take_while(|(_, line)| !line.starts_with("```")).collect();
            let is_session = block.first().is_some_and(|(_, line)| line.starts_with("$ "));
            match before.strip_suffix("`:").and_then(|text| text.rsplit_once('`')) {
                Some((_, file)) if !is_session => steps.push(Step::Write {
                    file: file.into(),
                    text: block.iter().map(|(_, line)| format!("{line}\n")).collect(),
                }),
                _ if is_session => session(&block, &mut steps),
                _ => {}
            }
        } else if let Some(first) = line.strip_prefix("    ").filter(|line| line.starts_with("$ ")) {
            let mut block = vec![(number, first)];
            while let Some((number, line)) = lines.next_if(|(_, line)| line.is_empty() || line.starts_with("    ")) {
                block.push((number, line.strip_prefix("    ").unwrap_or("")));
            }
            session(&block, &mut steps);
        }
        if !line.trim().is_empty() {
            before = line;
        }
    }
    Ok(steps)
}

fn session(block: &[(usize, &str)], steps: &mut Vec<Step>) {
    let mut lines = block.iter();
    while let Some((number, line)) = lines.next() {
        if let Some(first) = line.strip_prefix("$ ") {
            let mut command = first.to_string();
            while command.ends_with('\\') {
                command += &format!("\n{}", lines.next().map_or("", |(_, line)| line));
            }
            steps.push(Step::Run { line: number + 1, command, output: Vec::new() });
        } else if let Some(Step::Run { output, .. }) = steps.last_mut()
            && !line.trim().is_empty()
        {
            output.push(normal(line));
        }
    }
}

/// The line as it is compared.
fn normal(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same where numbers count for nothing.
fn without_numbers(line: &str) -> String {
    let mut plain = String::new();
    for letter in line.chars() {
        match letter {
            '0'..='9' if plain.ends_with('0') => {}
            '0'..='9' => plain.push('0'),
            other => plain.push(other),
        }
    }
    plain
}

/// Whether the numbers of this line of a command's output are another run's.
fn tells_times(command: &str, line: &str) -> bool {
    let of_the_system = command.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "just");
    let summary =
        line.strip_prefix("giostra: ").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    of_the_system || summary
}

/// What was amiss when a page was followed.
fn follow(project: &Path, page: &Path, steps: &[Step]) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(project, folder.path().join("giostra"))?;
    let is_readme = page.file_name().is_some_and(|name| name == "README.md");
    let home = if is_readme { project } else { folder.path() };
    let script: String = steps.iter().enumerate().map(|(number, step)| said(number, step)).collect();
    let output = bash(project, home, folder.path(), &just(project, &script))?;
    let mut faults = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let Step::Run { line, command, output: expected } = step else { continue };
        let part = output.split(&begin(number)).nth(1).and_then(|rest| rest.split(&end(number)).next());
        let status = output.split(&end(number)).nth(1).and_then(|rest| rest.lines().next());
        let (part, status) = (part.unwrap_or_default(), status.unwrap_or("none: it did not get there"));
        let came: Vec<_> = part.lines().map(normal).filter(|line| !line.is_empty()).collect();
        if status != "0" || !is_like(command, &came, expected) {
            let expected = expected.join("\n    ");
            faults.push(format!(
                "  line {line}: {command}\n  status {status}, and\n    {part}\n  instead of\n    {expected}"
            ));
        }
    }
    Ok(faults)
}

/// A step as bash does it.
fn said(number: usize, step: &Step) -> String {
    match step {
        Step::Write { file, text } => {
            format!("mkdir -p \"$(dirname '{file}')\"\ncat > '{file}' <<'END OF FILE'\n{text}END OF FILE\n")
        }
        Step::Run { command, .. } => {
            format!("printf '{}'\n{command}\nprintf '{}%s\\n' $?\n", begin(number), end(number))
        }
    }
}

/// With the system up, and down again at the end.
fn just(project: &Path, script: &str) -> String {
    let just = format!("just() {{ command just --justfile '{}/justfile' \"$@\"; }}", project.display());
    format!(
        "{just}\nexport -f just\njust up --detach || exit\ntrap 'kill $(jobs -p) 2>/dev/null; wait; just down' EXIT\n{script}"
    )
}

fn begin(number: usize) -> String {
    format!("<<< step {number} >>>")
}

fn end(number: usize) -> String {
    format!("<<< status of step {number} >>>")
}

/// What the script writes, to stdout and stderr together.
fn bash(project: &Path, home: &Path, folder: &Path, script: &str) -> Result<String> {
    let (file, output) = (folder.join(".script"), folder.join(".output"));
    let [front, back] = [Port::reserve()?, Port::reserve()?];
    let numbers = [format!(":{}", front.number), format!(":{}", back.number)];
    fs::write(&file, script.replace(":5555", &numbers[0]).replace(":5556", &numbers[1]))?;
    let written = fs::File::create(&output)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.arg(&file).current_dir(home).process_group(0);
    let own = ["target/release", "target/python/bin"].map(|folder| project.join(folder).display().to_string());
    command.env("PATH", format!("{}:{path}", own.join(":")));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("GIOSTRA_")) {
        command.env_remove(key);
    }
    command.env("LC_ALL", "C.UTF-8");
    command.env("GIOSTRA_FRONTEND", front.endpoint());
    command.env("GIOSTRA_BACKEND", back.endpoint());
    command.env("GIOSTRA_HTTP", "127.0.0.1:0").env("GIOSTRA_RUN_DIR", folder.join(".run"));
    let mut child = command.stdin(Stdio::null()).stdout(written.try_clone()?).stderr(written).spawn()?;
    let group = Pid::from_raw(child.id() as i32);
    let waited = giostra_tests::process::wait_within(PATIENCE, || child.try_wait().transpose());
    // Whatever is left of it.
    let _ = killpg(group, Signal::SIGKILL);
    match waited {
        Some(status) => drop(status?),
        None => bail!("{home:?}: not done within {PATIENCE:?}: {}", fs::read_to_string(&output)?),
    }
    // The pages' own host is called `laptop`.
    Ok(fs::read_to_string(&output)?.replace(&format!("-{}-", name::host()), "-laptop-"))
}

/// Whether these lines came from a command, where `..` stands for any.
fn is_like(command: &str, came: &[String], expected: &[String]) -> bool {
    let alike = |line: &str, expected: &str| {
        line == expected || tells_times(command, expected) && without_numbers(line) == without_numbers(expected)
    };
    match expected.split_first() {
        None => came.is_empty(),
        Some((any, rest)) if any == ".." => (0..=came.len()).any(|skipped| is_like(command, &came[skipped..], rest)),
        Some((first, rest)) => {
            came.split_first().is_some_and(|(line, more)| alike(line, first) && is_like(command, more, rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_files_are_found_and_nothing_else() {
        let page = "Words\n\n    $ echo 1 \\\n      2\n    1  2\n\n    $ true\n\nmore:\n\n    no session\n\nIn `src/a.rs`:\n\n```rust\nfn\n```\n\n```\n$ ls\n```\n";
        let run = |line, command: &str, output: &[&str]| Step::Run {
            line,
            command: command.into(),
            output: output.iter().map(ToString::to_string).collect(),
        };
        let write = Step::Write { file: "src/a.rs".into(), text: "fn\n".into() };
        let expected = [run(3, "echo 1 \\\n  2", &["1 2"]), run(7, "true", &[]), write, run(20, "ls", &[])];
        assert_eq!(steps(page).unwrap(), expected);
    }

    #[test]
    fn lines_are_alike_but_for_space_and_what_dots_stand_for() {
        let lines = |lines: &[&str]| lines.iter().map(|line| normal(line)).collect::<Vec<_>>();
        let came = lines(&["took 1.5 s", "a  17", "b"]);
        let is_like = |expected: &[&str]| is_like("giostra send add 1 2", &came, &lines(expected));
        assert!(is_like(&["took 1.5 s", " a 17", "b"]) && is_like(&["..", "b"]) && is_like(&[".."]));
        assert!(!is_like(&["took 1.5 s"]) && !is_like(&["..", "a 17"]) && !is_like(&["..", "a 3", "b"]));
        assert!(!is_like(&[]));
    }

    #[test]
    fn numbers_count_but_in_what_just_says_and_in_summaries() {
        let is_like = |command, came: &str, expected: &str| is_like(command, &[normal(came)], &[normal(expected)]);
        assert!(!is_like("giostra send mean 1 2 3 4", "2.25", "2.5"));
        assert!(is_like("just random 3000", "in 0.008 s, 354563 a second", "in 1.25 s, 1 a second"));
        assert!(!is_like("just random 3000", "in 0.008 s, 354563 a second", "in 0.008 s"));
        let summary = "giostra: 434912 lines in 0.597 s, 728555 a second";
        assert!(is_like("seq 9 | giostra map is_prime", summary, "giostra: 3 lines in 1.0 s, 2 a second"));
        assert!(!is_like("cat complaints", "giostra: line 2: failed: 7", "giostra: line 3: failed: 7"));
    }
}
