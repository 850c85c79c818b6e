//! Limits of this waypoint's own: the filter `envoy.filters.http.local_ratelimit`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use culvert_envoy::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use culvert_envoy::pb::envoy::r#type::v3::TokenBucket;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::error::{CompileError, Within as _, take};
use crate::headers::format::Context;
use crate::headers::mutations::Mutations;
use crate::request::Peer;
use crate::value::{Fraction, duration};

/// One bucket of tokens for all connections, refilled continuously.
#[derive(Debug)]
pub struct RateLimit {
    status: StatusCode,
    enabled: Fraction,
    enforced: Fraction,
    response: Mutations,
    resource_exhausted: bool,
    bucket: Bucket,
}

/// Tokens as a time (generic cell rate algorithm): when the bucket will be full again. One number, so that no request waits for another.
#[derive(Debug)]
struct Bucket {
    /// Nanoseconds in which a token comes.
    token: u64,
    /// Nanoseconds in which an empty bucket is filled.
    whole: u64,
    /// When the first request came. Times are since then.
    begun: OnceLock<Instant>,
    full_at: AtomicU64,
}

impl Bucket {
    fn new(most: f64, per_second: f64) -> Self {
        let nanos = |seconds: f64| Duration::try_from_secs_f64(seconds).map_or(u64::MAX, nanos);
        Self {
            token: nanos(per_second.recip()),
            whole: nanos(most / per_second),
            begun: OnceLock::new(),
            full_at: AtomicU64::new(0),
        }
    }

    /// Whether there is a token, which is gone then.
    fn take(&self, now: Instant) -> bool {
        let now = nanos(now.saturating_duration_since(*self.begun.get_or_init(|| now)));
        let taken = |full_at: u64| {
            let full_at = full_at.max(now).checked_add(self.token)?;
            (full_at - now <= self.whole).then_some(full_at)
        };
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl RateLimit {
    /// Reads the filter's configuration, or a route's.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served: descriptors are not.
    pub fn compile(message: &LocalRateLimit) -> Result<Self, CompileError> {
        take!(message => LocalRateLimit {
            stat_prefix, status, token_bucket, filter_enabled, filter_enforced, response_headers_to_add, vh_rate_limits,
            rate_limited_as_resource_exhausted, always_consume_default_token_bucket, stage,
        } unserved {
            request_headers_to_add_when_not_enforced, descriptors, local_rate_limit_per_downstream_connection,
            local_cluster_rate_limit, enable_x_ratelimit_headers, rate_limits, max_dynamic_descriptors,
            enable_retry_after_header,
        });
        // What these say is of descriptors.
        let _ = (vh_rate_limits, always_consume_default_token_bucket, stage);
        if stat_prefix.is_empty() {
            return Err(CompileError::missing("stat_prefix"));
        }
        let code = status
            .as_ref()
            .and_then(|status| u16::try_from(status.code).ok())
            .filter(|code| (400..600).contains(code));
        let fraction = |field: &'static str, fraction: &Option<_>| match fraction {
            Some(fraction) => Fraction::compile_runtime(fraction).within(|| field.into()),
            None => Ok(Fraction::NONE),
        };
        let (enabled, most, per_second) = match token_bucket {
            Some(bucket) => {
                let (most, per_second) = compile_bucket(bucket).within(|| "token_bucket".into())?;
                (fraction("filter_enabled", filter_enabled)?, most, per_second)
            }
            // Without a bucket there is no limit.
            None => (Fraction::NONE, 1.0, 1.0),
        };
        Ok(Self {
            status: code
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::TOO_MANY_REQUESTS),
            enabled,
            enforced: fraction("filter_enforced", filter_enforced)?,
            response: Mutations::compile(response_headers_to_add, &[], "response_headers")?,
            resource_exhausted: *rate_limited_as_resource_exhausted,
            bucket: Bucket::new(most, per_second),
        })
    }

    /// Whether a request goes on; takes a token if so. What does not is answered with [`status`](Self::status), the text
    /// `local_rate_limited` and the flag `RL`.
    pub fn allows(&self, now: Instant, random: u64) -> bool {
        if !self.enabled.hit(random) {
            return true;
        }
        if self.bucket.take(now) {
            return true;
        }
        !self.enforced.hit(random)
    }

    /// The status for what does not go on.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The gRPC status for what does not go on: `RESOURCE_EXHAUSTED` if told so, else `UNAVAILABLE`.
    pub fn grpc_status(&self) -> u32 {
        if self.resource_exhausted { 8 } else { 14 }
    }

    /// Adds fields to the answer for what does not go on.
    pub fn mark(&self, request: &Parts, peer: &Peer<'_>, response: &mut HeaderMap) {
        self.response.apply(response, &Context { request, peer });
    }
}

/// The most tokens, and how many come a second.
fn compile_bucket(bucket: &TokenBucket) -> Result<(f64, f64), CompileError> {
    take!(bucket => TokenBucket { max_tokens, tokens_per_fill, fill_interval } unserved {});
    let interval = fill_interval
        .as_ref()
        .ok_or_else(|| CompileError::missing("fill_interval"))?;
    let interval = duration("fill_interval", interval)?;
    if interval < Duration::from_millis(50) {
        return Err(CompileError::invalid("fill_interval", "is below 50 ms"));
    }
    if *max_tokens == 0 {
        return Err(CompileError::invalid("max_tokens", "is 0"));
    }
    let fill = tokens_per_fill.as_ref().map_or(1, |fill| fill.value);
    if fill == 0 {
        return Err(CompileError::invalid("tokens_per_fill", "is 0"));
    }
    Ok((f64::from(*max_tokens), f64::from(fill) / interval.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::config::core::v3::RuntimeFractionalPercent;
    use culvert_envoy::pb::envoy::r#type::v3::{FractionalPercent, HttpStatus};
    use culvert_envoy::pb::google::protobuf::{self, UInt32Value};

    use super::*;

    fn all() -> Option<RuntimeFractionalPercent> {
        Some(RuntimeFractionalPercent {
            default_value: Some(FractionalPercent {
                numerator: 100,
                denominator: 0,
            }),
            ..RuntimeFractionalPercent::default()
        })
    }

    fn limit() -> LocalRateLimit {
        LocalRateLimit {
            stat_prefix: "x".to_owned(),
            token_bucket: Some(TokenBucket {
                max_tokens: 2,
                tokens_per_fill: Some(UInt32Value { value: 1 }),
                fill_interval: Some(protobuf::Duration { seconds: 1, nanos: 0 }),
            }),
            filter_enabled: all(),
            filter_enforced: all(),
            status: Some(HttpStatus { code: 200 }),
            ..LocalRateLimit::default()
        }
    }

    #[test]
    fn the_bucket_fills_continuously_and_not_above_its_size() {
        let limit = RateLimit::compile(&limit()).unwrap();
        let start = Instant::now();
        let at = |millis| limit.allows(start + Duration::from_millis(millis), 0);
        assert!(at(0) && at(0) && !at(0) && !at(900) && at(1000) && !at(1000));
        assert!(at(60_000) && at(60_000) && !at(60_000));
    }

    #[test]
    fn a_limit_that_is_not_enforced_stops_nothing() {
        let mut message = limit();
        message.filter_enforced = None;
        let limit = RateLimit::compile(&message).unwrap();
        assert!((0..10).all(|_| limit.allows(Instant::now(), 0)));
    }

    #[test]
    fn a_status_below_400_becomes_429_and_grpc_gets_14() {
        let limit = RateLimit::compile(&limit()).unwrap();
        assert_eq!((limit.status().as_u16(), limit.grpc_status()), (429, 14));
    }
}
