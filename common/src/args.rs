//! What the command lines have in common: durations as people write them.

use std::time::Duration;

use humantime::DurationError;

/// The longest time the command lines take: a thousand years overflow nothing, but nobody means them.
const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Parses `500ms`, `3s`, `1m 30s`; a parser for `clap`. Ten years at most.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX => Ok(duration),
        Ok(_) => Err("that is over ten years".into()),
        Err(DurationError::NumberOverflow) => Err("that is over ten years".into()),
        Err(error) => Err(format!("{error}; durations are written 500ms, 3s, 2m")),
    }
}

/// The same, but not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than nothing".into()),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(positive_duration("0s").is_err());
        assert!(duration("5").unwrap_err().contains("500ms"));
        assert!(duration("99999999999999999999s").is_err());
        assert!(duration("1000y").is_err());
    }
}
