//! Limits of this waypoint's own: the filter `envoy.filters.http.local_ratelimit`.

use std::sync::Arc;
use std::time::Instant;

use culvert_envoy::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, XRateLimitHeadersRfcVersion,
};
use culvert_envoy::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::buckets::{Buckets, Left, kept};
use super::descriptors::{Descriptor, Maker};
use super::{LIMIT, REMAINING, RESET};
use crate::error::{CompileError, Within as _, take};
use crate::headers::format::Context;
use crate::headers::mutations::Mutations;
use crate::request::Peer;
use crate::value::Fraction;

/// Limits that are counted here.
#[derive(Debug)]
pub struct RateLimit {
    status: StatusCode,
    enabled: Fraction,
    enforced: Fraction,
    response: Mutations,
    resource_exhausted: bool,
    /// Whether answers say what is left.
    tells: bool,
    /// Whether a client is told when to come back.
    tells_when: bool,
    makers: Vec<Maker>,
    limits: Vec<Limit>,
    /// What else is counted, of all requests.
    default: Option<Arc<Buckets>>,
    /// Whether also of those that one of `limits` is for.
    counts_always: bool,
}

/// A limit for requests of some descriptors.
#[derive(Debug)]
struct Limit {
    /// Keys and values, in order; an empty value stands for any.
    entries: Vec<(String, String)>,
    buckets: Arc<Buckets>,
}

/// What is decided about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it goes on.
    pub allowed: bool,
    /// What is left of the limit that decided, if one was looked at.
    left: Option<Left>,
}

impl RateLimit {
    /// Reads the filter's configuration, or a route's.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served.
    pub fn compile(message: &LocalRateLimit) -> Result<Self, CompileError> {
        take!(message => LocalRateLimit {
            stat_prefix, status, token_bucket, filter_enabled, filter_enforced, response_headers_to_add, vh_rate_limits,
            rate_limited_as_resource_exhausted, always_consume_default_token_bucket, stage, descriptors, rate_limits,
            max_dynamic_descriptors, enable_x_ratelimit_headers, enable_retry_after_header,
        } unserved {
            request_headers_to_add_when_not_enforced, local_rate_limit_per_downstream_connection, local_cluster_rate_limit,
        });
        // What these say is of descriptors that routes have; how many values have buckets is decided here.
        let _ = (vh_rate_limits, stage, max_dynamic_descriptors);
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
        let default = token_bucket.as_ref().map(|bucket| {
            let made = Buckets::compile(bucket, false).within(|| "token_bucket".into())?;
            Ok(kept(format!("{stat_prefix} {bucket:?}"), made))
        });
        let limits = descriptors.iter().enumerate().map(|(index, descriptor)| {
            Limit::compile(descriptor, stat_prefix).within(|| format!("descriptors[{index}]"))
        });
        let mut limits: Vec<Limit> = limits.collect::<Result<_, _>>()?;
        // The slowest first, which is most likely to say no: what it refuses takes nothing of the others.
        limits.sort_by_key(|limit| std::cmp::Reverse(limit.buckets.token()));
        if !limits.is_empty() && rate_limits.is_empty() {
            return Err(CompileError::invalid(
                "descriptors",
                "are for no rate_limits of the filter's own",
            ));
        }
        let is_limited = token_bucket.is_some() || !limits.is_empty();
        Ok(Self {
            status: code
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::TOO_MANY_REQUESTS),
            enabled: if is_limited {
                fraction("filter_enabled", filter_enabled)?
            } else {
                Fraction::NONE
            },
            enforced: fraction("filter_enforced", filter_enforced)?,
            response: Mutations::compile(response_headers_to_add, &[], "response_headers")?,
            resource_exhausted: *rate_limited_as_resource_exhausted,
            tells: *enable_x_ratelimit_headers == i32::from(XRateLimitHeadersRfcVersion::DraftVersion03),
            tells_when: *enable_retry_after_header,
            makers: Maker::compile_all(rate_limits)?,
            limits,
            default: default.transpose()?,
            counts_always: always_consume_default_token_bucket
                .as_ref()
                .is_none_or(|always| always.value),
        })
    }

    /// Whether a request goes on; takes tokens if so. What does not is answered with [`status`](Self::status), the text
    /// `local_rate_limited` and the flag `RL`.
    pub fn decide(&self, request: &Parts, peer: &Peer<'_>, now: Instant, random: u64) -> Decision {
        let mut decision = Decision {
            allowed: true,
            left: None,
        };
        if !self.enabled.hit(random) {
            return decision;
        }
        let descriptors: Vec<Descriptor> = self
            .makers
            .iter()
            .filter_map(|maker| maker.make(request, peer))
            .collect();
        for limit in &self.limits {
            let Some(values) = descriptors.iter().find_map(|descriptor| limit.values(descriptor)) else {
                continue;
            };
            let (taken, left) = limit.buckets.take(&values, now);
            if !taken {
                return self.refuse(left, random);
            }
            decision.left = decision.left.or(Some(left));
        }
        if let Some(default) = self
            .default
            .as_ref()
            .filter(|_| decision.left.is_none() || self.counts_always)
        {
            let (taken, left) = default.take(&[], now);
            if !taken {
                return self.refuse(left, random);
            }
            decision.left = decision.left.or(Some(left));
        }
        decision
    }

    fn refuse(&self, left: Left, random: u64) -> Decision {
        Decision {
            allowed: !self.enforced.hit(random),
            left: Some(left),
        }
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
    pub fn mark(&self, request: &Parts, peer: &Peer<'_>, decision: &Decision, response: &mut HeaderMap) {
        self.response.apply(response, &Context { request, peer });
        if let Some(left) = decision
            .left
            .filter(|_| self.tells_when && self.status == StatusCode::TOO_MANY_REQUESTS)
        {
            response
                .entry(header::RETRY_AFTER)
                .or_insert_with(|| HeaderValue::from(seconds(left.next).max(1)));
        }
    }

    /// Adds what is left to any answer.
    pub fn tell(&self, decision: &Decision, response: &mut HeaderMap) {
        let Some(left) = decision.left.filter(|_| self.tells) else {
            return;
        };
        for (name, value) in [
            (LIMIT, left.limit.into()),
            (REMAINING, left.remaining.into()),
            (RESET, seconds(left.next)),
        ] {
            response.append(name, HeaderValue::from(value));
        }
    }
}

/// Whole seconds, not less.
fn seconds(time: std::time::Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Limit {
    fn compile(message: &LocalRateLimitDescriptor, prefix: &str) -> Result<Self, CompileError> {
        take!(message => LocalRateLimitDescriptor { entries, token_bucket } unserved { shadow_mode });
        let bucket = token_bucket
            .as_ref()
            .ok_or_else(|| CompileError::missing("token_bucket"))?;
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect();
        if entries.is_empty() {
            return Err(CompileError::missing("entries"));
        }
        let is_by_value = entries.iter().any(|(_, value)| value.is_empty());
        let made = Buckets::compile(bucket, is_by_value).within(|| "token_bucket".into())?;
        Ok(Self {
            buckets: kept(format!("{prefix} {entries:?} {bucket:?}"), made),
            entries,
        })
    }

    /// What of a descriptor tells buckets apart, if the limit is for it.
    fn values<'a>(&self, descriptor: &'a Descriptor) -> Option<Vec<&'a str>> {
        let fits = |((key, value), (is_key, is)): (&(String, String), &(String, String))| {
            key == is_key && (value.is_empty() || value == is)
        };
        let fits = self.entries.len() == descriptor.len() && self.entries.iter().zip(descriptor).all(fits);
        let of_any = self
            .entries
            .iter()
            .zip(descriptor)
            .filter(|((_, value), _)| value.is_empty());
        fits.then(|| of_any.map(|(_, (_, is))| is.as_str()).collect())
    }
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::config::core::v3::RuntimeFractionalPercent;
    use std::time::Duration;

    use culvert_envoy::pb::envoy::config::route::v3::RateLimit as Actions;
    use culvert_envoy::pb::envoy::config::route::v3::rate_limit::Action;
    use culvert_envoy::pb::envoy::config::route::v3::rate_limit::action::{ActionSpecifier, RequestHeaders};
    use culvert_envoy::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use culvert_envoy::pb::envoy::r#type::v3::{FractionalPercent, HttpStatus, TokenBucket};
    use culvert_envoy::pb::google::protobuf::{self, UInt32Value};

    use super::*;
    use crate::testing::request;

    fn allows(limit: &RateLimit, now: Instant) -> bool {
        limit
            .decide(&request("GET", "/", &[]), &Peer::default(), now, 0)
            .allowed
    }

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
        let at = |millis| allows(&limit, start + Duration::from_millis(millis));
        assert!(at(0) && at(0) && !at(0) && !at(900) && at(1000) && !at(1000));
        assert!(at(60_000) && at(60_000) && !at(60_000));
    }

    #[test]
    fn a_limit_that_is_not_enforced_stops_nothing() {
        let mut message = limit();
        message.filter_enforced = None;
        let limit = RateLimit::compile(&message).unwrap();
        assert!((0..10).all(|_| allows(&limit, Instant::now())));
    }

    #[test]
    fn a_status_below_400_becomes_429_and_grpc_gets_14() {
        let limit = RateLimit::compile(&limit()).unwrap();
        assert_eq!((limit.status().as_u16(), limit.grpc_status()), (429, 14));
    }

    /// The same for each value of a header.
    fn by_header() -> LocalRateLimit {
        let action = ActionSpecifier::RequestHeaders(RequestHeaders {
            header_name: "x-user".to_owned(),
            descriptor_key: "user".to_owned(),
            ..RequestHeaders::default()
        });
        let entry = Entry {
            key: "user".to_owned(),
            value: String::new(),
        };
        LocalRateLimit {
            rate_limits: vec![Actions {
                actions: vec![Action {
                    action_specifier: Some(action),
                }],
                ..Actions::default()
            }],
            descriptors: vec![LocalRateLimitDescriptor {
                entries: vec![entry],
                token_bucket: limit().token_bucket,
                ..LocalRateLimitDescriptor::default()
            }],
            token_bucket: None,
            enable_x_ratelimit_headers: XRateLimitHeadersRfcVersion::DraftVersion03.into(),
            enable_retry_after_header: true,
            ..limit()
        }
    }

    #[test]
    fn each_user_has_a_limit_and_both_answers_say_what_is_left() {
        let limit = RateLimit::compile(&by_header()).unwrap();
        let now = Instant::now();
        let ask = |user: &str| {
            let request = request("GET", "/", &[("x-user", user)]);
            let decision = limit.decide(&request, &Peer::default(), now, 0);
            let mut headers = HeaderMap::new();
            limit.tell(&decision, &mut headers);
            if !decision.allowed {
                limit.mark(&request, &Peer::default(), &decision, &mut headers);
            }
            let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            (
                decision.allowed,
                text("x-ratelimit-limit"),
                text("x-ratelimit-remaining"),
                text("retry-after"),
            )
        };
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(ask("ann"), (true, text("2"), text("1"), None));
        assert_eq!(ask("ann"), (true, text("2"), text("0"), None));
        assert_eq!(ask("ann"), (false, text("2"), text("0"), text("1")));
        assert_eq!(ask("bob"), (true, text("2"), text("1"), None));
        // Nobody is counted who is not there.
        let nobody = limit.decide(&request("GET", "/", &[]), &Peer::default(), now, 0);
        assert_eq!((nobody.allowed, nobody.left), (true, None));
    }

    #[test]
    fn what_routes_would_have_to_make_is_refused() {
        let message = LocalRateLimit {
            rate_limits: Vec::new(),
            ..by_header()
        };
        assert!(RateLimit::compile(&message).is_err());
    }
}
