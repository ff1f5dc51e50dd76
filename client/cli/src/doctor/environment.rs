//! The variables `GIOSTRA_*` of the environment: those that are set, and those that nothing reads.

use std::env;

use super::Finding;

const PREFIX: &str = "GIOSTRA_";

/// The variables that the programs, the Python package and the justfile read, and those that workers
/// set for what they run, by name without the prefix. A test compares it with what the programs' help
/// lists.
const KNOWN: [&str; 85] = [
    "ALLOW",
    "ALLOW_FUNCTIONS",
    "BACKEND",
    "BIN",
    "BROKER_KEY",
    "BROKER_KEYS",
    "BROKER_TIMEOUT",
    "CLIENT_TIMEOUT",
    "CLIENT_WINDOW",
    "COALESCE",
    "CONFIG",
    "DIR",
    "EXEC",
    "EXEC_JSON",
    "EXEC_JSON_ID",
    "EXEC_KILL_AFTER",
    "EXEC_LINES",
    "EXEC_MAX_OUTPUT",
    "EXEC_OPERATION",
    "EXEC_START_LIMIT",
    "EXEC_STDERR",
    "EXEC_STDIN",
    "EXEC_TIME_LIMIT",
    "FRONTEND",
    "GRACE",
    "GUARD",
    "HANDSHAKE_TIMEOUT",
    "HOLD",
    "HOST",
    "HTTP",
    "HTTP_HOST",
    "HTTP_PUBLIC",
    "INSECURE",
    "JSON",
    "KEEP",
    "KEYS",
    "LOG_DIR",
    "LOG_FILES",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "LOG_SIZE",
    "MAX_ATTEMPTS",
    "MAX_BACKLOG",
    "MAX_BATCH",
    "MAX_CLIENT_PENDING",
    "MAX_CONNECTIONS",
    "MAX_MESSAGE",
    "MAX_PENDING",
    "MAX_PENDING_BYTES",
    "MAX_POOLS",
    "NAME",
    "NO_WAIT",
    "OPERATION",
    "PEER",
    "PING_INTERVAL",
    "PING_MAX_OUT",
    "POOL",
    "PRIORITY",
    "PROCESSES",
    "RETRY",
    "RETURN_TO_FIRST",
    "ROTATION",
    "RUN_DIR",
    "SEAT",
    "SEED",
    "SPIN",
    "SPREAD",
    "STDERR_LEVEL",
    "STORE",
    "STUCK_AFTER",
    "TEXT",
    "THREAD",
    "THREADS",
    "TIMEOUT",
    "WAIT_WORKERS",
    "WHEELS",
    "WINDOW",
    "WORKER",
    "WORKERS",
    "WORKER_GRACE",
    "WORKER_IDLE_TIMEOUT",
    "WORKER_KEYS",
    "WORKER_LIFETIME",
    "WORKER_LIFETIME_STAGGER",
    "WORKER_WINDOW",
];

/// Looks at the variables of this process.
pub fn look() -> Finding {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let set = env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
    let mut set: Vec<_> = set.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    set.sort();
    judge(&set)
}

/// Judges names and values.
fn judge(set: &[(String, String)]) -> Finding {
    const ABOUT: &str = "environment";
    let unknown: Vec<_> = set.iter().filter(|(name, _)| !KNOWN.contains(&&name[PREFIX.len()..])).collect();
    if let [(first, _), ..] = unknown[..] {
        let names: Vec<_> = unknown.iter().map(|(name, _)| name.as_str()).collect();
        let (reads, them) = if names.len() == 1 {
            ("is set, and nothing reads it", "it")
        } else {
            ("are set, and nothing reads them", "them")
        };
        let advice = meant(&first[PREFIX.len()..])
            .map_or_else(|| format!("unset {them}"), |known| format!("{PREFIX}{known} is meant in place of {first}?"));
        return Finding::warning(ABOUT, format!("{} {reads}", names.join(", ")), advice);
    }
    let shown: Vec<_> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = if shown.is_empty() { format!("no {PREFIX}* is set") } else { shown.join(" ") };
    Finding::fine(ABOUT, text)
}

/// Returns the known name that may be meant by an unknown one: the nearest, unless it is too far.
fn meant(unknown: &str) -> Option<&'static str> {
    // What people try first, and is far from its name.
    if unknown == "BROKER" {
        return Some("FRONTEND");
    }
    let near = KNOWN.iter().map(|known| (distance(unknown, known), *known)).min()?;
    (near.0 <= 2.max(unknown.len() / 4)).then_some(near.1)
}

/// Returns how many letters have to be added, removed or replaced to get from one text to the other
/// (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn of(set: &[(&str, &str)]) -> (Verdict, String) {
        let set: Vec<_> = set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let finding = judge(&set);
        (finding.verdict, format!("{}; {}", finding.text, finding.advice))
    }

    #[test]
    fn a_misspelt_variable_is_told_with_the_name_that_is_meant() {
        for (misspelt, meant) in [
            ("GIOSTRA_FRONTENT", "GIOSTRA_FRONTEND"),
            ("GIOSTRA_PRORITY", "GIOSTRA_PRIORITY"),
            ("GIOSTRA_BROKER", "GIOSTRA_FRONTEND"),
            ("GIOSTRA_BROKERKEY", "GIOSTRA_BROKER_KEY"),
        ] {
            let (verdict, text) = of(&[(misspelt, "x"), ("GIOSTRA_POOL", "a")]);
            assert!(
                verdict == Verdict::Warning && text.contains(&format!("{meant} is meant in place of {misspelt}")),
                "{text}"
            );
        }
        let (verdict, text) = of(&[("GIOSTRA_", ""), ("GIOSTRA_SOMETHING_ELSE", "")]);
        assert!(verdict == Verdict::Warning && text.contains("GIOSTRA_SOMETHING_ELSE are set"), "{text}");
    }

    #[test]
    fn what_is_set_is_shown() {
        assert_eq!(of(&[]), (Verdict::Fine, "no GIOSTRA_* is set; ".into()));
        let set = [("GIOSTRA_FRONTEND", "tcp://b:1"), ("GIOSTRA_POOL", "text")];
        assert_eq!(of(&set), (Verdict::Fine, "GIOSTRA_FRONTEND=tcp://b:1 GIOSTRA_POOL=text; ".into()));
    }

    #[test]
    fn a_distance_counts_what_has_to_be_changed() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("POOL", "POOL", 0), ("POLO", "POOL", 2), ("KEY", "KEYS", 1)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
