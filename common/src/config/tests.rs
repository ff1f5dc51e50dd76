use std::fs;

use clap::{Arg, ArgAction, value_parser};
use tempfile::NamedTempFile;

use super::*;
use crate::args::duration;

fn command() -> Command {
    let option = |name: &'static str| Arg::new(name).long(name);
    let switch = |name: &'static str| option(name).action(ArgAction::SetTrue);
    Command::new("program")
        .arg(option("config").value_parser(value_parser!(PathBuf)))
        .arg(switch("config-check").id("config_check"))
        .arg(switch("man"))
        .arg(option("keys").requires("allow"))
        .arg(option("allow").requires("keys"))
        .arg(option("window").default_value("1024").value_parser(value_parser!(u32).range(1..)))
        .arg(option("ping-interval").default_value("1s").value_parser(duration))
        .arg(option("rotation").default_value("strict").value_parser(["strict", "available"]))
        .arg(option("http-host").action(ArgAction::Append).value_delimiter(','))
        .arg(switch("insecure"))
        .arg(switch("json").conflicts_with("stdin"))
        .arg(switch("stdin"))
}

/// Parses a command line with a file of this text.
fn parsed(text: &str, args: &[&str]) -> Result<(ArgMatches, Settings), String> {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let args = ["program", "--config", path].into_iter().chain(args.iter().copied()).map(OsString::from);
    matches(&command(), &args.collect::<Vec<_>>()).map_err(|error| error.to_string().replace(path, "FILE"))
}

fn wrong(text: &str) -> String {
    parsed(text, &[]).map(|(matches, _)| matches).unwrap_err()
}

fn hosts(matches: &ArgMatches) -> Vec<&str> {
    matches.get_many::<String>("http-host").into_iter().flatten().map(String::as_str).collect()
}

#[test]
fn each_kind_of_option_has_its_value_from_the_file() {
    let text = "ping-interval = '200ms'\nwindow = 64\ninsecure = true\njson = false\nhttp-host = ['a', 'b']";
    let (matches, _) = parsed(text, &[]).unwrap();
    assert_eq!(matches.get_one("ping-interval"), Some(&std::time::Duration::from_millis(200)));
    assert_eq!(matches.get_one("window"), Some(&64_u32));
    assert_eq!((matches.get_flag("insecure"), matches.get_flag("json")), (true, false));
    assert_eq!(hosts(&matches), ["a", "b"]);
    assert_eq!(matches.get_one::<String>("rotation").unwrap(), "strict");
    // What a flag takes, the file does.
    for text in ["window = '64'", "window = 0x40", "\"window\" = 6_4"] {
        assert_eq!(parsed(text, &[]).unwrap().0.get_one("window"), Some(&64_u32), "{text}");
    }
    assert_eq!(hosts(&parsed("http-host = 'a,b'", &[]).unwrap().0), ["a", "b"]);
    assert_eq!(hosts(&parsed("http-host = []", &[]).unwrap().0), [""; 0]);
    assert_eq!(parsed("keys = '--x'\nallow = ''", &[]).unwrap().0.get_one::<String>("keys").unwrap(), "--x");
}

#[test]
fn the_command_line_goes_before_the_file_also_for_a_list() {
    let text = "window = 64\nhttp-host = ['a', 'b']\nkeys = 'file'\nallow = 'file'";
    let (matches, _) = parsed(text, &["--window", "8", "--http-host", "c", "--keys", "line"]).unwrap();
    assert_eq!(matches.get_one("window"), Some(&8_u32));
    assert_eq!(hosts(&matches), ["c"]);
    let text = |id| matches.get_one::<String>(id).unwrap().as_str();
    assert_eq!((text("keys"), text("allow")), ("line", "file"));
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    for (text, what) in [
        ("\nping-intervall = '1s'", "FILE:2:1: 'ping-intervall' is no key; did you mean 'ping-interval'?"),
        ("ping_interval = '1s'", "FILE:1:1: 'ping_interval' is no key; with dashes, as flags are written, it is 'ping"),
        ("--window = 1", "FILE:1:1: '--window' is no key; did you mean 'window'?"),
        ("[broker]\nwindow = 1", "FILE:1:2: 'broker' is no key; keys are written without tables"),
        ("zzz = 1", "FILE:1:1: 'zzz' is no key; the keys are the options of program --help"),
        ("config = 'x'", "FILE:1:1: 'config' is no key: it belongs on the command line"),
        ("help = true", "'help' is no key: it belongs on the command line"),
        ("\"a\\nb\\u001b\" = 1", "FILE:1:1: 'a b ' is no key"),
    ] {
        assert!(wrong(text).contains(what), "{text:?}: {}", wrong(text));
    }
    assert!(wrong(&format!("{} = 1", "k".repeat(1000))).len() < 200);
}

#[test]
fn a_wrong_value_is_an_error_at_its_place_with_the_reason_of_the_flag() {
    for (text, what) in [
        ("# x\nping-interval = 5", "FILE:2:17: ping-interval can't be '5': time unit needed"),
        ("window = 0", "FILE:1:10: window can't be '0': 0 is not in 1..="),
        ("window = true", "FILE:1:10: window takes a value, not true or false"),
        ("window = 1.5", "FILE:1:10: window takes a string or an integer, not a float"),
        ("window = [1, 2]", "FILE:1:10: window takes one value, not a list"),
        ("window.size = 1", "FILE:1:1: window takes a string or an integer, not a table"),
        ("rotation = 'lax'", "FILE:1:12: rotation can't be 'lax': it is one of strict, available"),
        ("insecure = 'yes'", "FILE:1:12: insecure is a switch: true or false"),
        ("http-host = [1.5]", "FILE:1:13: http-host takes a string or a list of strings, not a list of anything"),
    ] {
        assert!(wrong(text).contains(what), "{text:?}: {}", wrong(text));
    }
}

#[test]
fn all_faults_of_a_file_are_told_at_once_but_not_without_end() {
    let said = wrong("windows = 1\nping-interval = 5\nwindow = 0");
    assert_eq!(said.lines().filter(|line| line.contains("FILE:")).count(), 3, "{said}");
    let many: String = (0..1000).map(|n| format!("k{n} = 1\n")).collect();
    let said = wrong(&many);
    assert!(said.lines().count() < 30 && said.contains("and more"), "{said}");
}

#[test]
fn a_wrong_value_is_told_even_if_the_command_line_has_another() {
    assert!(parsed("window = 0", &["--window", "8"]).unwrap_err().contains("window can't be '0'"));
}

#[test]
fn what_options_need_and_exclude_holds_for_keys_too() {
    let said = wrong("window = 1\nkeys = 'k'");
    assert!(said.contains("--allow") && said.contains("--keys is in FILE:2") && !said.contains("FILE:1"), "{said}");
    let said = parsed("json = true", &["--stdin"]).map(|(matches, _)| matches).unwrap_err();
    assert!(said.contains("cannot be used with") && said.contains("--json is in FILE:1"), "{said}");
    assert!(parsed("json = false", &["--stdin"]).is_ok());
    assert!(parsed("allow = 'a'", &["--keys", "k"]).is_ok());
    assert!(parsed("keys = 'k'\nallow = 'a'", &[]).is_ok());
}

#[test]
fn a_wrong_command_line_is_told_as_without_a_file() {
    let said = parsed("window = 64\nhttp-host = ['a']", &["--window", "x", "--http-host", "b"]).unwrap_err();
    assert!(said.contains("invalid value 'x' for '--window") && !said.contains("FILE"), "{said}");
    let said = parsed("window = 64", &["--windw", "1"]).unwrap_err();
    assert!(said.contains("unexpected argument '--windw'") && !said.contains("is in FILE"), "{said}");
}

#[test]
fn what_only_prints_something_does_not_need_the_file() {
    assert!(parsed("nonsense", &["--man"]).is_ok());
    assert!(parsed("nonsense", &["--help"]).map(|(matches, _)| matches).unwrap_err().contains("Usage"));
}

#[test]
fn the_settings_are_a_file_that_says_where_each_value_comes_from() {
    let text =
        "window = 64\nping-interval = '1s'\nrotation = 'available'\nkeys = 'a \"b\"\\\\'\nallow = 'x'\ninsecure = true";
    let text = text.replace('\'', "'''");
    let (_, settings) = parsed(&text, &["--http-host", "a,b", "--rotation=available"]).unwrap();
    let printed = settings.text(true);
    let lines: Vec<_> = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let origin = |line: &str| line.split_once(" # ").map(|(pair, origin)| (pair.to_string(), origin.to_string()));
    let found: Vec<_> = lines.iter().filter_map(|line| origin(line)).collect();
    let pairs: Vec<_> = found.iter().map(|(pair, _)| pair.as_str()).collect();
    let expected = [
        r#"keys = "a \"b\"\\\\""#,
        r#"allow = "x""#,
        "window = 64",
        r#"rotation = "available""#,
        r#"http-host = ["a", "b"]"#,
        "insecure = true",
    ];
    assert_eq!(pairs, expected);
    assert!(found[2].1.ends_with(":1") && found[3].1 == "--rotation" && found[4].1 == "--http-host", "{found:?}");
    let long = format!("keys = '{}'\nallow = 'x'", "k".repeat(70_000));
    assert!(parsed(&long, &[]).unwrap().1.text(true).len() > 70_000);
    // Read again it means the same.
    let (_, again) = parsed(&printed, &[]).unwrap();
    let values = |settings: &Settings| -> Vec<String> {
        settings.text(true).lines().filter_map(|line| origin(line).map(|(pair, _)| pair.trim_end().into())).collect()
    };
    assert_eq!(values(&again), values(&settings));
}
