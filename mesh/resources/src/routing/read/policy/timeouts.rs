//! Times of a TrafficPolicy.

use std::time::Duration;

use serde::Deserialize;

use super::super::super::policy::{Retry, Timeouts};
use super::super::values::{self, Bad};

/// The longest time that anybody can ask for: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest time that a retry can wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TimeoutsSpec {
    stream_idle: Option<String>,
    stream_duration: Option<String>,
    grpc_timeout_max: Option<String>,
    request_receive: Option<String>,
    client_idle: Option<String>,
    endpoint_idle: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RetrySpec {
    retry_after_max: Option<String>,
}

/// How long things may take.
///
/// # Errors
/// Where a value is none that can be meant.
pub(super) fn read(spec: TimeoutsSpec) -> Result<Timeouts, Bad> {
    let time = |field: &str, text: Option<String>| text.map(|text| up_to(LONGEST, field, &text)).transpose();
    let read = Timeouts {
        stream_idle: time("streamIdle", spec.stream_idle)?,
        stream_duration: time("streamDuration", spec.stream_duration)?,
        grpc_most: time("grpcTimeoutMax", spec.grpc_timeout_max)?,
        receive: time("requestReceive", spec.request_receive)?,
        client_idle: time("clientIdle", spec.client_idle)?,
        endpoint_idle: time("endpointIdle", spec.endpoint_idle)?,
    };
    if read == Timeouts::default() {
        return Err(Bad::at("", "it says nothing"));
    }
    Ok(read)
}

/// How requests are tried again.
///
/// # Errors
/// As for [`read`].
pub(super) fn retry(spec: RetrySpec) -> Result<Retry, Bad> {
    let field = "retryAfterMax";
    let Some(text) = spec.retry_after_max else {
        return Err(Bad::at("", "it says nothing"));
    };
    let time = up_to(LONGEST_WAIT, field, &text)?;
    // An endpoint names whole seconds.
    if time < Duration::from_secs(1) {
        return Err(Bad::at(field, format!("{text:?} is not between 1s and 1h")));
    }
    Ok(Retry { after_most: Some(time) })
}

fn up_to(longest: Duration, field: &str, text: &str) -> Result<Duration, Bad> {
    let time = values::duration(text).map_err(|message| Bad::at(field, message))?;
    if time <= longest {
        return Ok(time);
    }
    let hours = longest.as_secs() / 3600;
    Err(Bad::at(field, format!("{text:?} is longer than {hours}h")))
}
