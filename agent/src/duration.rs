//! A time on the command line.

use std::time::Duration;

/// A time such as `250ms` or `3s`, of an hour at most.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= Duration::from_secs(3600) => Ok(time),
        Ok(_) => Err(format!("`{text}` is longer than an hour")),
        Err(error) => Err(format!("`{text}` is not a time such as 250ms or 3s: {error}")),
    }
}
