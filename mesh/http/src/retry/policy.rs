//! The retry policy of a route.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::route::v3::RetryPolicy as Message;
use culvert_envoy::pb::envoy::config::route::v3::retry_policy::{RetryHostPredicate, RetryPriority};
use culvert_envoy::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use http::StatusCode;

use super::backoff::{AskedFor, BackOff};
use super::conditions::Conditions;
use crate::error::{CompileError, Within as _, take};
use crate::matching::header::Header;
use crate::value::optional_duration;

/// When and how often a request is tried again. The default is never.
#[derive(Clone, Debug, Default)]
pub struct RetryPolicy {
    pub(super) conditions: Conditions,
    pub(super) retries: u32,
    pub(super) status_codes: Vec<StatusCode>,
    pub(super) response_headers: Vec<Header>,
    pub(super) request_headers: Vec<Header>,
    pub(super) back_off: BackOff,
    pub(super) asked_for: Option<AskedFor>,
    per_try: Option<Duration>,
    per_try_idle: Option<Duration>,
    other_hosts: bool,
    host_attempts: u32,
    other_priorities: Option<u32>,
}

impl RetryPolicy {
    pub(crate) fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message {
            retry_on, num_retries, per_try_timeout, per_try_idle_timeout, retry_priority, retry_host_predicate,
            host_selection_retry_max_attempts, retriable_status_codes, retry_back_off, rate_limited_retry_back_off,
            retriable_headers, retriable_request_headers,
        } unserved { retry_options_predicates, refresh_cluster_on_retry });
        let code = |code: &u32| {
            let status = u16::try_from(*code)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok());
            status.ok_or_else(|| CompileError::invalid("retriable_status_codes", format_args!("{code} is no status")))
        };
        let some = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
        for predicate in retry_host_predicate {
            previous_hosts(predicate).within(|| "retry_host_predicate".into())?;
        }
        let back_off = retry_back_off
            .as_ref()
            .map(BackOff::compile)
            .transpose()
            .within(|| "retry_back_off".into())?;
        let asked_for = rate_limited_retry_back_off.as_ref().map(AskedFor::compile).transpose();
        Ok(Self {
            conditions: Conditions::parse(retry_on)?,
            retries: num_retries.as_ref().map_or(1, |number| number.value),
            status_codes: retriable_status_codes.iter().map(code).collect::<Result<_, _>>()?,
            response_headers: Header::compile_all(retriable_headers).within(|| "retriable_headers".into())?,
            request_headers: Header::compile_all(retriable_request_headers)
                .within(|| "retriable_request_headers".into())?,
            back_off: back_off.unwrap_or_default(),
            asked_for: asked_for.within(|| "rate_limited_retry_back_off".into())?,
            per_try: some(optional_duration("per_try_timeout", per_try_timeout)?),
            per_try_idle: some(optional_duration("per_try_idle_timeout", per_try_idle_timeout)?),
            other_hosts: !retry_host_predicate.is_empty(),
            host_attempts: u32::try_from(*host_selection_retry_max_attempts).unwrap_or(0).max(1),
            other_priorities: retry_priority
                .as_ref()
                .map(previous_priorities)
                .transpose()
                .within(|| "retry_priority".into())?,
        })
    }

    /// How long one try may take until the head of the answer, with or without any condition to try again: over it 504, details
    /// `upstream_per_try_timeout`. `response` is the time that the request has as a whole: a longer time for one try is none.
    pub fn per_try_timeout(&self, response: Option<Duration>) -> Option<Duration> {
        self.per_try
            .filter(|per_try| response.is_none_or(|whole| *per_try < whole))
    }

    /// How long one try may be without a byte: details `upstream_per_try_idle_timeout`.
    pub fn per_try_idle_timeout(&self) -> Option<Duration> {
        self.per_try_idle
    }

    /// Whether a retry avoids hosts that were tried: how often a balancer draws again to find another one, at most.
    pub fn host_reselections(&self) -> Option<u32> {
        self.other_hosts.then_some(self.host_attempts)
    }

    /// Whether a retry avoids priorities that were tried: after how many retries they are put aside.
    pub fn other_priorities(&self) -> Option<u32> {
        self.other_priorities
    }
}

fn previous_hosts(predicate: &RetryHostPredicate) -> Result<(), CompileError> {
    // The name decides, as Istio sends it; its configuration is empty.
    if predicate.name == "envoy.retry_host_predicates.previous_hosts" {
        Ok(())
    } else {
        Err(CompileError::invalid(
            "name",
            format_args!("{:?} is not served", predicate.name),
        ))
    }
}

fn previous_priorities(priority: &RetryPriority) -> Result<u32, CompileError> {
    use culvert_envoy::pb::envoy::config::route::v3::retry_policy::retry_priority::ConfigType;
    if priority.name != "envoy.retry_priorities.previous_priorities" {
        return Err(CompileError::invalid(
            "name",
            format_args!("{:?} is not served", priority.name),
        ));
    }
    let Some(ConfigType::TypedConfig(any)) = &priority.config_type else {
        return Err(CompileError::missing("typed_config"));
    };
    let config: PreviousPrioritiesConfig =
        culvert_envoy::unpack(any).map_err(|error| CompileError::new("typed_config", error))?;
    u32::try_from(config.update_frequency)
        .ok()
        .filter(|frequency| *frequency > 0)
        .ok_or_else(|| CompileError::invalid("update_frequency", "is not above 0"))
}
