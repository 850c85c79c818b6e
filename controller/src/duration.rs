//! Times on the command line.

use std::time::Duration;

/// Reads a time such as `24h`, `90m`, `30s` or `1h30m`.
///
/// # Errors
/// When it is none, or less than a second.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time < Duration::from_secs(1) => Err(format!("`{text}` is less than a second")),
        // A slip of the finger, which would overflow dates.
        Ok(time) if time > Duration::from_secs(100 * 366 * 24 * 3600) => {
            Err(format!("`{text}` is longer than a century"))
        }
        Ok(time) => Ok(time),
        Err(error) => Err(format!("`{text}` is not a time such as 24h, 90m or 30s: {error}")),
    }
}
