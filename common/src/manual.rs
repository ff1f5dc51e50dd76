//! What a program prints about itself: the completion script for a shell, and its man pages. Both
//! come from the definition of the command line, as `--help` does, and so always agree with it.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::generate;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::args::report_unwritten;
use crate::stdio::{check_stdout, stdout};

pub use clap_complete::Shell;

/// The programs, each of which has its page.
const PROGRAMS: [&str; 3] = ["giostra", "giostra-broker", "giostra-worker"];

/// What is printed instead of doing anything: for a program without commands.
#[derive(Clone, Debug, Args)]
pub struct Manual {
    /// Print the completion script for this shell, and exit
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<Shell>,

    /// Print the man page, and exit: giostra-worker --man | man -l -
    #[arg(long)]
    pub man: bool,
}

impl Manual {
    /// Prints what is asked for, if anything is; the exit status of the process, which then has
    /// done its work.
    pub fn print(&self, command: Command) -> Option<ExitCode> {
        let name = command.get_name().to_string();
        let text = match self.completions {
            Some(shell) => completions(command, shell),
            None if self.man => page(command),
            None => return None,
        };
        let printable = check_stdout().map_err(io::Error::from);
        Some(match printable.and_then(|()| stdout().write_all(&text)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                report_unwritten(&name, &error);
                ExitCode::FAILURE
            }
        })
    }
}

/// The completion script.
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_string();
    generate(shell, &mut command, name, &mut script);
    script
}

/// The man page of the command itself, in roff.
pub fn page(command: Command) -> Vec<u8> {
    let command = built(command);
    render(&command, &source(&command))
}

/// The man pages of the command and of all below it, by the names of their files.
pub fn pages(command: Command) -> Vec<(String, Vec<u8>)> {
    let command = built(command);
    let source = source(&command);
    let (mut pages, mut left) = (Vec::new(), vec![&command]);
    while let Some(command) = left.pop() {
        pages.push((format!("{}.1", title(command)), render(command, &source)));
        left.extend(command.get_subcommands().filter(|below| !below.is_hide_set()));
    }
    pages.sort();
    pages
}

/// With all that `clap` adds to it, but for the command `help`: each page is help.
fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// The name and version at a page's foot.
fn source(command: &Command) -> String {
    format!("{} {}", command.get_name(), command.get_version().unwrap_or_default())
}

/// What a page is called: `giostra-keys-new`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn render(command: &Command, source: &str) -> Vec<u8> {
    let man = Man::new(command.clone()).source(source).manual("Giostra");
    let mut page = Vec::new();
    man.render_title(&mut page).expect(VEC);
    // Neither stretched nor hyphenated: commands are to be copied.
    page.extend_from_slice(b".ad l\n.nh\n");
    let parts = [
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for part in parts {
        part(&man, &mut page).expect(VEC);
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page).expect(VEC);
    }
    let mut rest = Roff::new();
    if let Some(help) = command.get_after_help() {
        after_help(&mut rest, &help.to_string());
    }
    see_also(&mut rest, title(command));
    rest.to_writer(&mut page).expect(VEC);
    page
}

const VEC: &str = "a Vec takes any number of bytes";

/// The blocks of text behind the options: `Examples:` with a line for each, `Exit status: 0 if ..`,
/// or a paragraph.
fn after_help(page: &mut Roff, help: &str) {
    let mut in_notes = false;
    for block in help.split("\n\n") {
        let (heading, text) = match block.split_once(':') {
            Some((heading, text)) if is_heading(heading) => (Some(heading), text),
            _ => (None, block),
        };
        match heading {
            Some(heading) => page.control("SH", [heading.to_uppercase().as_str()]),
            None if in_notes => page.control("PP", []),
            None => page.control("SH", ["NOTES"]),
        };
        in_notes = heading.is_none();
        match text.strip_prefix('\n') {
            Some(lines) => examples(page, lines),
            None => paragraph(page, text),
        }
    }
}

fn paragraph(page: &mut Roff, text: &str) {
    for line in text.lines() {
        page.text([plain(line.trim())]);
    }
}

/// Whether a section may be called so.
fn is_heading(text: &str) -> bool {
    text.len() <= 16 && text.starts_with(char::is_uppercase) && text.chars().all(|c| c.is_alphabetic() || c == ' ')
}

/// Commands, each with what is to be said of it beside it or below it. One that is too long for a
/// line goes on after a `\`.
fn examples(page: &mut Roff, lines: &str) {
    for line in lines.replace("\\\n      ", "").lines() {
        let (command, remark) = match line.strip_prefix("  ").unwrap_or(line) {
            remark if remark.starts_with(' ') => ("", remark),
            line => line.split_once("  ").unwrap_or((line, "")),
        };
        if !command.is_empty() {
            page.control("TP", []);
            page.text([bold(command)]);
        }
        if !remark.is_empty() {
            page.text([plain(remark.trim())]);
        }
    }
}

fn see_also(page: &mut Roff, title: &str) {
    let others = PROGRAMS.into_iter().filter(|&program| program != title);
    page.control("SH", ["SEE ALSO"]);
    page.text([plain(others.map(|program| format!("{program}(1)")).collect::<Vec<_>>().join(", "))]);
}

fn plain(text: impl Display) -> Inline {
    roman(text.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    const HELP: &str = "\
Examples:
  giostra do it        well
  giostra do \\
      it
    or not

A note, on: this.

Another.

Exit status: 0 if
             it was done.";

    fn command() -> Command {
        Command::new("giostra")
            .version("1.2")
            .about("Does it")
            .after_help(HELP)
            .subcommand(Command::new("do").about("Do").arg(Arg::new("how").long("how").env("HOW")))
            .subcommand(Command::new("hidden").hide(true))
    }

    #[test]
    fn the_text_after_the_options_becomes_sections() {
        let page = String::from_utf8(page(command())).unwrap();
        let body = page.split_once("EXAMPLES").unwrap().1;
        assert_eq!(
            body,
            "\n.TP\n\\fBgiostra do it\\fR\nwell\n.TP\n\\fBgiostra do it\\fR\nor not\n.SH NOTES\nA note, on: this.\n.PP\nAnother.\n\
             .SH \"EXIT STATUS\"\n0 if\nit was done.\n.SH \"SEE ALSO\"\ngiostra\\-broker(1), giostra\\-worker(1)\n"
        );
    }

    #[test]
    fn each_command_that_is_not_hidden_has_a_page() {
        let pages = pages(command());
        assert_eq!(pages.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["giostra-do.1", "giostra.1"]);
        let text = String::from_utf8_lossy(&pages[0].1);
        assert!(text.contains("giostra 1.2") && text.contains("\\-\\-how") && text.contains("HOW"), "{text}");
    }

    #[test]
    fn each_shell_has_a_script() {
        for shell in <Shell as clap::ValueEnum>::value_variants() {
            assert!(String::from_utf8_lossy(&completions(command(), *shell)).contains("how"), "{shell}");
        }
    }
}
