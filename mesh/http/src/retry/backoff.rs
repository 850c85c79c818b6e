//! How long to wait before another try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use culvert_envoy::pb::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff,
};
use http::{HeaderMap, HeaderName};

use crate::error::{CompileError, take};
use crate::value::optional_duration;

/// The wait grows from `base` to `most` by doubling; chance takes any part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    base: Duration,
    most: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            most: Duration::from_millis(250),
        }
    }
}

impl BackOff {
    pub(super) fn compile(message: &RetryBackOff) -> Result<Self, CompileError> {
        take!(message => RetryBackOff { base_interval, max_interval } unserved {});
        let base =
            optional_duration("base_interval", base_interval)?.ok_or_else(|| CompileError::missing("base_interval"))?;
        // Envoy counts in milliseconds.
        let base = base.max(Duration::from_millis(1));
        let most = optional_duration("max_interval", max_interval)?.unwrap_or(base * 10);
        if most < base {
            return Err(CompileError::invalid("max_interval", "is below base_interval"));
        }
        Ok(Self { base, most })
    }

    /// The wait before retry `number`, from 1.
    pub(super) fn wait(&self, number: u32, random: u64) -> Duration {
        let doubled = 1_u32
            .checked_shl(number.saturating_sub(1))
            .and_then(|factor| self.base.checked_mul(factor));
        let ceiling = doubled.unwrap_or(self.most).min(self.most).as_micros().max(1);
        let ceiling = u64::try_from(ceiling).unwrap_or(u64::MAX);
        Duration::from_micros(random % ceiling)
    }
}

/// Waits that the upstream asks for.
#[derive(Clone, Debug)]
pub(super) struct AskedFor {
    headers: Vec<(HeaderName, ResetHeaderFormat)>,
    most: Duration,
}

impl AskedFor {
    pub(super) fn compile(message: &RateLimitedRetryBackOff) -> Result<Self, CompileError> {
        take!(message => RateLimitedRetryBackOff { reset_headers, max_interval } unserved {});
        if reset_headers.is_empty() {
            return Err(CompileError::missing("reset_headers"));
        }
        let header = |header: &ResetHeader| {
            take!(header => ResetHeader { name, format } unserved {});
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                CompileError::invalid("reset_headers", format_args!("{name:?} is no header field's name"))
            })?;
            let format = ResetHeaderFormat::try_from(*format)
                .map_err(|_| CompileError::invalid("reset_headers", format_args!("there is no format {format}")))?;
            Ok((name, format))
        };
        Ok(Self {
            headers: reset_headers.iter().map(header).collect::<Result<_, CompileError>>()?,
            most: optional_duration("max_interval", max_interval)?.unwrap_or(Duration::from_secs(300)),
        })
    }

    /// What the upstream asks for and up to half of it on top. None where it asks for nothing or for more than is waited.
    pub(super) fn wait(&self, headers: &HeaderMap, now: SystemTime, random: u64) -> Option<Duration> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let asked = self.headers.iter().find_map(|(name, format)| {
            let number = Duration::from_secs(headers.get(name)?.to_str().ok()?.trim().parse().ok()?);
            let wait = match format {
                ResetHeaderFormat::Seconds => number,
                ResetHeaderFormat::UnixTimestamp => number.checked_sub(now)?,
            };
            (wait <= self.most).then_some(wait)
        })?;
        let half = u64::try_from(asked.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        Some(asked + Duration::from_millis(random % half))
    }
}
