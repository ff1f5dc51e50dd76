//! A configuration file: its keys and values, each with its place.
//!
//! Nothing here knows which keys there are.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use toml::de::{DeArray, DeTable, DeValue};

/// The largest file, in bytes. A device or a log given by mistake is not read to its end.
const MAX_BYTES: u64 = 1 << 20;

/// The bit of a file's mode that lets every user write it.
const WRITABLE_BY_ALL: u32 = 0o002;

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Its offset in the file, in bytes.
    pub(super) at: usize,
    /// Its value.
    pub(super) value: Value,
    /// The offset of its value.
    pub(super) value_at: usize,
}

/// A value, as far as one can be given on a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `true` or `false`.
    Switch(bool),
    /// A string or an integer.
    One(String),
    /// A list of strings and integers, each with its offset.
    List(Vec<(String, usize)>),
    /// What no option takes, with its article.
    Other(&'static str),
}

/// A line and a column, both from 1. Columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The line.
    pub(super) line: usize,
    /// The column.
    pub(super) column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Place {
    /// Returns the place of the character at an offset in bytes.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

/// What is wrong, and where; at no place if it is about the file itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) Option<Place>, pub(super) String);

/// Reads a file of text.
///
/// # Errors
/// If it can't be read, is larger than 1 MiB, or is not UTF-8, or if every user may write it: it names
/// programs to run, and files to write.
pub(super) fn read(path: &Path) -> Result<String, Fault> {
    let failed = |error: io::Error| Fault(None, error.to_string());
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_file() && about.mode() & WRITABLE_BY_ALL != 0 {
        let remedy = format!("every user may write it, and so choose what is run: chmod o-w {}", path.display());
        return Err(Fault(None, remedy));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Fault(None, "it is larger than 1 MiB, and so hardly a configuration file".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..good]);
        Fault(Some(Place::of(&text, good)), "it is no text in UTF-8".into())
    })
}

/// Parses TOML. The entries are in the file's order.
///
/// # Errors
/// If the syntax is wrong, or a key is there twice.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(text.len(), |span| span.start);
        Fault(Some(Place::of(text, start)), format!("it is no TOML: {}", error.message()))
    })?;
    let mut entries: Vec<_> = table
        .into_inner()
        .into_iter()
        .map(|(key, value)| Entry {
            at: key.span().start,
            value_at: value.span().start,
            key: key.into_inner().into_owned(),
            value: to_value(value.into_inner()),
        })
        .collect();
    entries.sort_by_key(|entry| entry.at);
    Ok(entries)
}

fn to_value(value: DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(on) => Value::Switch(on),
        DeValue::Array(array) => to_list(array),
        DeValue::Table(_) => Value::Other("a table"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::String(text) => Value::One(text.into_owned()),
        // `0xff` and `1_000` as a command line takes them.
        DeValue::Integer(integer) => Value::One(
            i128::from_str_radix(integer.as_str(), integer.radix())
                .map_or_else(|_| integer.to_string(), |integer| integer.to_string()),
        ),
    }
}

fn to_list(array: DeArray<'_>) -> Value {
    let mut list = Vec::new();
    for item in array {
        let at = item.span().start;
        match to_value(item.into_inner()) {
            Value::One(text) => list.push((text, at)),
            Value::Switch(_) => return Value::Other("a list with true or false in it"),
            Value::List(_) => return Value::Other("a list of lists"),
            Value::Other(_) => return Value::Other("a list of anything but strings and integers"),
        }
    }
    Value::List(list)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn value(text: &str) -> Value {
        parse(&format!("k = {text}")).unwrap().remove(0).value
    }

    #[test]
    fn a_value_is_what_a_command_line_takes_or_is_called_by_its_kind() {
        let one = |text: &str| Value::One(text.into());
        assert_eq!(value("true"), Value::Switch(true));
        assert_eq!(value("1_000"), one("1000"));
        assert_eq!(value("0xff"), one("255"));
        assert_eq!(value("-1"), one("-1"));
        assert_eq!(value("99999999999999999999999"), one("99999999999999999999999"));
        assert_eq!(value("'C:\\x'"), one("C:\\x"));
        assert_eq!(value("['a', 2]"), Value::List(vec![("a".into(), 5), ("2".into(), 10)]));
        assert_eq!(value("[]"), Value::List(vec![]));
        for (text, kind) in [
            ("1.5", "a float"),
            ("1979-05-27", "a date"),
            ("{ a = 1 }", "a table"),
            ("[[1]]", "a list of lists"),
            ("[true]", "a list with true or false in it"),
            ("[1.5]", "a list of anything but strings and integers"),
        ] {
            assert_eq!(value(text), Value::Other(kind), "{text}");
        }
    }

    #[test]
    fn entries_keep_the_order_and_the_places_of_the_file() {
        let text = "# é\nwindow = 64\n\n  \"é\" = 1\r\nallow = 'a'";
        let entries = parse(text).unwrap();
        let place = |at| Place::of(text, at).to_string();
        let found: Vec<_> = entries.iter().map(|it| (it.key.as_str(), place(it.at), place(it.value_at))).collect();
        let expected = [("window", "2:1", "2:10"), ("é", "4:3", "4:9"), ("allow", "5:1", "5:9")];
        assert_eq!(found, expected.map(|(key, at, value_at)| (key, at.into(), value_at.into())));
    }

    #[test]
    fn wrong_syntax_is_an_error_at_its_place() {
        for (text, at) in [
            ("window = 64\nwindow = 65", "2:1"),
            ("window =", "1:9"),
            ("a = 1\nb = 'x", "2:7"),
            ("metadata\n    name = 'x'", "1:9"),
            ("a = [1,", "1:8"),
            ("a = nonsense", "1:5"),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.0.unwrap().to_string(), at, "{text:?} {fault:?}");
            assert!(fault.1.starts_with("it is no TOML: ") && fault.1.len() > 20, "{fault:?}");
        }
        assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert_eq!(parse("\u{feff}a = 1").unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_every_user_may_write_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.toml");
        fs::write(&path, "a = 1").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(read(&path).unwrap_err().1.contains("chmod o-w "));
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(read(&path).unwrap(), "a = 1");
    }

    #[test]
    fn what_is_no_file_of_text_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        assert_eq!(read(&written("good", b"a = 1")).unwrap(), "a = 1");
        let fault = read(&written("garbage", b"a = 1\nb\xff\xfe")).unwrap_err();
        assert_eq!((fault.0.unwrap().to_string(), &*fault.1), ("2:2".into(), "it is no text in UTF-8"));
        assert!(read(&written("large", &[b'#'; (1 << 20) + 1])).unwrap_err().1.contains("1 MiB"));
        assert!(read(Path::new("/dev/zero")).unwrap_err().1.contains("1 MiB"));
        assert!(read(folder.path()).unwrap_err().1.contains("directory"));
        assert!(read(&folder.path().join("missing")).unwrap_err().1.contains("No such file"));
    }
}
