//! Values that several parts of a TrafficPolicy have.

use std::time::Duration;

use serde::Deserialize;

use super::super::values::{self, Bad};

/// The longest time that a limit may be for, or that lies between two checks.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An object that says all by being there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// Whole seconds.
pub(super) fn period(field: &str, text: &str) -> Result<Duration, Bad> {
    let time = values::duration(text).map_err(|message| Bad::at(field, message))?;
    if time.subsec_nanos() == 0 && !time.is_zero() && time <= LONGEST {
        return Ok(time);
    }
    Err(Bad::at(
        field,
        format!("{text:?} is not a time from 1s to 24h in whole seconds"),
    ))
}

/// How long somebody may take to answer.
pub(super) fn patience(field: &str, text: &str) -> Result<Duration, Bad> {
    let time = values::duration(text).map_err(|message| Bad::at(field, message))?;
    if (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&time) {
        return Ok(time);
    }
    Err(Bad::at(field, format!("{text:?} is not between 1ms and 60s")))
}
