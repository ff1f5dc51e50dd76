//! The command that a worker runs: its program, its words, and the places for a request's arguments.
//!
//! The command is split into words once, as a shell would split it. No shell ever reads them, nor
//! the arguments between them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use giostra_protocol::{Bytes, Failure};
use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use super::msgpack::invalid;

/// Programs that run an argument as a script, after `-c`.
const SHELLS: [&str; 11] = ["sh", "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "rbash", "tcsh", "zsh"];

/// A command with places for arguments.
#[derive(Clone, Debug)]
pub struct Template {
    program: PathBuf,
    /// The program as it was written.
    first: String,
    words: Vec<Word>,
}

/// Why a text can't be a command.
#[derive(Debug, Error)]
pub enum BadCommand {
    /// There is no word in it.
    #[error("the command is empty")]
    Empty,
    /// A quote is not closed, or nothing follows the last backslash.
    #[error("a quote is not closed, or nothing follows the last backslash: {0}")]
    Quote(String),
    /// No folder of the PATH has the program.
    #[error("there is no program '{0}' on the PATH")]
    NotFound(String),
    /// The file is not there, is a folder, or may not be executed.
    #[error("can't execute {0}: {1}")]
    NotExecutable(PathBuf, io::Error),
    /// The interpreter that the first line of a script names can't be executed.
    #[error("can't execute {script}: its first line names the interpreter {interpreter:?}: {reason}")]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// Its interpreter.
        interpreter: String,
        /// What is wrong with the interpreter.
        reason: String,
    },
    /// A text file has no first line that names an interpreter.
    #[error("can't execute {0}: its first line names no interpreter; a script begins with #!/bin/sh or the like")]
    NoInterpreter(PathBuf),
    /// A request would name the program.
    #[error("the program itself can't come from a request: {0}")]
    Program(String),
    /// A shell would interpret a part of the request.
    #[error(
        "'{0}' in a shell's script would let a request run any command; give the script its arguments instead: \
         sh -c 'echo \"$1\"' sh {0}"
    )]
    Script(String),
    /// There are places for arguments that go to stdin.
    #[error("with --json and --exec-lines the arguments go to stdin; there is no {{}} to fill in")]
    NoPlaces,
}

/// A word of the command, in pieces.
type Word = Vec<Piece>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Text as it was written.
    Text(String),
    /// `{}`: the place of each argument, in a word for each.
    Each,
    /// `{2}`: the place of one argument, counted from 1.
    One(usize),
}

impl Template {
    /// Splits the command, and looks for its program.
    ///
    /// # Errors
    /// If it can't be run, or would let a request choose what is run.
    pub fn parse(command: &str) -> Result<Self, BadCommand> {
        let all = shlex::split(command).ok_or_else(|| BadCommand::Quote(command.into()))?;
        let words: Vec<_> = all.iter().map(|word| pieces(word)).collect();
        if let Some(script) = script(&all, &words) {
            return Err(BadCommand::Script(script));
        }
        let mut rest = words.into_iter();
        let (first, word) = all.into_iter().next().zip(rest.next()).ok_or(BadCommand::Empty)?;
        if has_place(&word) {
            return Err(BadCommand::Program(first));
        }
        let program = find(&first)?;
        check_script(&program, 0)?;
        Ok(Self { program, first, words: rest.collect() })
    }

    /// Checks the program again, and the interpreter if it is a script.
    ///
    /// # Errors
    /// If it can't be executed.
    pub fn check(&self) -> Result<(), BadCommand> {
        check(&self.program).map_err(|error| BadCommand::NotExecutable(self.program.clone(), error))?;
        check_script(&self.program, 0)
    }

    /// Parses a command whose arguments go to stdin.
    ///
    /// # Errors
    /// As [`Self::parse`], and if it has a place for arguments.
    pub fn parse_plain(command: &str) -> Result<Self, BadCommand> {
        let template = Self::parse(command)?;
        if template.words.iter().any(has_place) { Err(BadCommand::NoPlaces) } else { Ok(template) }
    }

    /// Returns the path of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the first word as it was written.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Returns the program's file name.
    pub fn name(&self) -> String {
        Path::new(&self.first).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Returns the words after the program, with the arguments in their places or, without places,
    /// behind the words.
    ///
    /// # Errors
    /// If there are more or fewer arguments than places.
    pub fn fill(&self, arguments: &[Bytes]) -> Result<Vec<OsString>, Failure> {
        let pieces = || self.words.iter().flatten();
        let last = pieces().filter_map(|piece| if let Piece::One(n) = piece { Some(*n) } else { None }).max();
        let each = pieces().any(|piece| *piece == Piece::Each);
        let count = arguments.len();
        if let Some(last) = last.filter(|&last| count < last || count > last && !each) {
            let s = if last == 1 { "" } else { "s" };
            return Err(invalid(format!("{} takes {last} argument{s}, not {count}", self.name())));
        }
        let mut filled: Vec<_> = self.words.iter().flat_map(|word| fill(word, arguments)).collect();
        if last.is_none() && !each {
            filled.extend(arguments.iter().map(|argument| OsString::from_vec(argument.to_vec())));
        }
        Ok(filled)
    }
}

fn pieces(word: &str) -> Word {
    let mut pieces = Vec::new();
    let (mut text, mut rest) = (String::new(), word);
    while let Some(open) = rest.find('{') {
        let place = rest[open + 1..].split_once('}').and_then(|(inner, after)| Some((place(inner)?, after)));
        let Some((place, after)) = place else {
            text.push_str(&rest[..=open]);
            rest = &rest[open + 1..];
            continue;
        };
        text.push_str(&rest[..open]);
        pieces.extend([Piece::Text(std::mem::take(&mut text)), place]);
        rest = after;
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    pieces
}

/// Returns the place that these characters between braces name, if they do.
fn place(inner: &str) -> Option<Piece> {
    match inner {
        "" => Some(Piece::Each),
        number => number.parse().ok().filter(|&n| n > 0 && n < 1000).map(Piece::One),
    }
}

fn has_place(word: &Word) -> bool {
    word.len() > 1
}

/// Returns the word with arguments in its places; one word for each argument if it has `{}`.
fn fill(word: &Word, arguments: &[Bytes]) -> Vec<OsString> {
    let with = |each: &[u8]| {
        let bytes = word.iter().flat_map(|piece| match piece {
            Piece::Text(text) => text.as_bytes(),
            Piece::Each => each,
            Piece::One(n) => &arguments[n - 1],
        });
        OsString::from_vec(bytes.copied().collect())
    };
    if word.contains(&Piece::Each) {
        arguments.iter().map(|argument| with(argument)).collect()
    } else {
        vec![with(&[])]
    }
}

/// Returns the place for arguments in a shell's script among the words, if there is one.
fn script(all: &[String], words: &[Word]) -> Option<String> {
    let is_shell = |word: &String| SHELLS.iter().any(|shell| Path::new(word).file_name() == Some(OsStr::new(shell)));
    let takes_script = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.contains('c');
    let shell = all.iter().position(is_shell)?;
    let option = shell + all[shell..].iter().position(takes_script)?;
    let at = option + all[option..].iter().position(|word| !word.starts_with('-'))?;
    has_place(&words[at]).then(|| if all[at].contains("{}") { "{}" } else { "{1}" }.into())
}

fn find(first: &str) -> Result<PathBuf, BadCommand> {
    if first.contains('/') {
        let path = std::path::absolute(first).map_err(|error| BadCommand::NotExecutable(first.into(), error))?;
        return check(&path).map(|()| path.clone()).map_err(|error| BadCommand::NotExecutable(path, error));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&folders).map(|folder| folder.join(first));
    found.find(|path| check(path).is_ok()).ok_or_else(|| BadCommand::NotFound(first.into()))
}

fn check(path: &Path) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(access(OsStr::from_bytes(path.as_os_str().as_bytes()), AccessFlags::X_OK)?)
}

/// The number of bytes in which Linux looks for the first line of a script.
const FIRST_BYTES: u64 = 256;

/// The number of scripts that may be each other's interpreters in Linux.
const MAX_SCRIPTS: usize = 5;

/// Checks the interpreter of a script as the system looks for it. Accepts any binary file: the
/// system knows how to run it.
fn check_script(path: &Path, depth: usize) -> Result<(), BadCommand> {
    let mut first = Vec::new();
    // A file that may be executed and not read is no script.
    let Ok(file) = File::open(path) else { return Ok(()) };
    if file.take(FIRST_BYTES).read_to_end(&mut first).is_err() {
        return Ok(());
    }
    let Some(line) = first.strip_prefix(b"#!") else {
        return if first.contains(&0) { Ok(()) } else { Err(BadCommand::NoInterpreter(path.into())) };
    };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    // A carriage return separates nothing: for the system, too, it is a part of the name.
    let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    let Some(interpreter) = words.next() else { return Err(BadCommand::NoInterpreter(path.into())) };
    let interpreter = Path::new(OsStr::from_bytes(interpreter));
    let bad = |interpreter: &OsStr, reason: String| BadCommand::Interpreter {
        script: path.into(),
        interpreter: interpreter.to_string_lossy().into_owned(),
        reason,
    };
    check(interpreter).map_err(|error| bad(interpreter.as_os_str(), error.to_string()))?;
    if interpreter.file_name() == Some(OsStr::new("env"))
        && let Some(named) = words.find(|&word| word != b"-S").map(OsStr::from_bytes)
        && let Some(name) = named.to_str()
        && !name.starts_with('-')
        && !name.contains('=')
    {
        find(name).map_err(|error| bad(named, error.to_string()))?;
    }
    if depth < MAX_SCRIPTS { check_script(interpreter, depth + 1) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn filled(command: &str, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<_> = arguments.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        let template = Template::parse(command).map_err(|error| error.to_string())?;
        let words = template.fill(&arguments).map_err(|failure| failure.to_string())?;
        Ok(words.iter().map(|word| format!("[{}]", word.display())).collect())
    }

    #[test]
    fn arguments_come_last_or_where_the_command_has_a_place_for_them() {
        for (command, arguments, words) in [
            ("echo", &[][..], ""),
            ("echo -n 'a b' \"c\"", &["d", "e f"], "[-n][a b][c][d][e f]"),
            ("echo {} end", &["a", "b"], "[a][b][end]"),
            ("echo {} end", &[], "[end]"),
            ("echo --n={}.txt", &["a", "b"], "[--n=a.txt][--n=b.txt]"),
            ("echo {2}-{1}", &["a", "b"], "[b-a]"),
            ("echo {1} {}", &["a", "b"], "[a][a][b]"),
            ("awk '{print $1}' {0} {x} '{' }", &["f"], "[{print $1}][{0}][{x}][{][}][f]"),
            ("awk '{{}}'", &["f"], "[{f}]"),
        ] {
            assert_eq!(filled(command, arguments).as_deref(), Ok(words), "{command}");
        }
    }

    #[test]
    fn a_request_has_as_many_arguments_as_the_command_has_places() {
        let few = filled("echo {2}", &["a"]).unwrap_err();
        assert_eq!(few, "invalid: echo takes 2 arguments, not 1");
        let many = filled("echo {1}", &["a", "b"]).unwrap_err();
        assert_eq!(many, "invalid: echo takes 1 argument, not 2");
    }

    #[test]
    fn arguments_are_never_words_of_a_shell() {
        assert_eq!(filled("echo", &["$(id); `id` | id", "-n"]).as_deref(), Ok("[$(id); `id` | id][-n]"));
        for script in ["sh -c 'echo {}'", "env A=1 /bin/bash -o pipefail -ec 'echo {}'", "dash -c -e \"ls {}\""] {
            assert!(filled(script, &["a"]).unwrap_err().contains("would let a request run any command"), "{script}");
        }
        assert_eq!(filled("sh -c 'echo \"$1\"' sh {}", &["$(id)"]).as_deref(), Ok("[-c][echo \"$1\"][sh][$(id)]"));
        assert!(filled("grep -c {}", &["a"]).is_ok());
    }

    #[test]
    fn a_program_that_can_not_be_run_is_reported_before_the_first_request() {
        let wrong = |command| Template::parse(command).unwrap_err().to_string();
        assert_eq!(wrong("nosuch-program 1"), "there is no program 'nosuch-program' on the PATH");
        assert!(wrong("/nonexistent/program").contains("can't execute /nonexistent/program: No such file"));
        assert!(wrong("/tmp").contains("can't execute /tmp: is a directory"));
        assert!(wrong("/etc/passwd").contains("can't execute /etc/passwd: "));
        assert_eq!(wrong("  "), "the command is empty");
        assert!(wrong("echo 'a").contains("a quote is not closed"));
        assert!(wrong("{} a").contains("can't come from a request"));
        assert!(Template::parse_plain("cat {}").is_err());
        assert!(Template::parse("cat").unwrap().program().is_absolute());
    }

    #[test]
    fn a_script_without_a_usable_first_line_is_refused_and_the_missing_file_is_named() {
        let folder = std::env::temp_dir().join(format!("giostra-scripts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = |text: &str| {
            let path = folder.join("script");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Template::parse(path.to_str().unwrap()).map(|_| ()).map_err(|error| error.to_string())
        };
        for good in ["#!/bin/sh\necho a\n", "#! /bin/sh -e\n", "#!/usr/bin/env sh\n", "#!/usr/bin/env -S sh -e\n"] {
            assert_eq!(script(good), Ok(()), "{good:?}");
        }
        for (text, reason) in [
            ("", "its first line names no interpreter"),
            ("echo a\n", "its first line names no interpreter"),
            ("#!\n", "its first line names no interpreter"),
            (
                "#!/nonexistent/python -u\n",
                "its first line names the interpreter \"/nonexistent/python\": No such file",
            ),
            ("#!/bin/sh\r\necho a\r\n", "its first line names the interpreter \"/bin/sh\\r\": No such file"),
            ("#!/usr/bin/env nosuch-program\n", "there is no program 'nosuch-program' on the PATH"),
        ] {
            assert!(script(text).unwrap_err().contains(reason), "{text:?}: {:?}", script(text));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
