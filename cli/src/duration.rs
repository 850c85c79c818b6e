//! Flags that are times.

use std::time::Duration;

/// Reads a time such as `10m`, `90s` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        // More than a year is a slip of the finger, and would overflow moments.
        Ok(time) if time <= Duration::from_secs(366 * 24 * 3600) => Ok(time),
        Ok(_) => Err(format!("`{text}` is longer than a year")),
        Err(error) => Err(format!("`{text}` is not a time such as 10m, 90s or 1h30m: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn times_are_read_and_nonsense_is_refused() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "m", "1q", "-1s", "99999999999999999999s", "99999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
