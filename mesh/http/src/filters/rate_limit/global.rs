//! Limits that a service counts for all waypoints together: the filter `envoy.filters.http.ratelimit`.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::{GrpcService, HeaderValue as Field};
use culvert_envoy::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use culvert_envoy::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use culvert_envoy::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use culvert_envoy::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit as Message;
use culvert_envoy::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use culvert_envoy::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use culvert_envoy::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

use super::descriptors::{Descriptor, Maker};
use super::{LIMIT, REMAINING, RESET};
use crate::error::{CompileError, Within as _, take};
use crate::filters::grpc::{self, Answer};
use crate::request::Peer;
use crate::value::optional_duration;

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// How long the service may take where nothing is said: Envoy's default.
const TIMEOUT: Duration = Duration::from_millis(20);
/// What says that an answer is a limit's.
const LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// The filter.
#[derive(Debug)]
pub struct GlobalRateLimit {
    domain: String,
    cluster: String,
    authority: String,
    timeout: Duration,
    fails_closed: bool,
    resource_exhausted: bool,
    tells: bool,
    makers: Vec<Maker>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Ruling {
    /// It goes on, with these fields.
    Allowed {
        /// In addition to its own.
        request: HeaderMap,
        /// In addition to those of its answer.
        response: HeaderMap,
    },
    /// It is beyond a limit.
    Limited {
        /// Fields of the answer.
        response: HeaderMap,
        /// What else the service says to the client.
        body: Vec<u8>,
    },
    /// The service gave no answer that counts, and it is refused with this status.
    Failed(StatusCode),
}

impl Ruling {
    fn on() -> Self {
        Self::Allowed {
            request: HeaderMap::new(),
            response: HeaderMap::new(),
        }
    }
}

impl GlobalRateLimit {
    /// Reads the filter's configuration.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served.
    pub fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message {
            domain, request_type, timeout, failure_mode_deny, rate_limited_as_resource_exhausted, rate_limit_service,
            enable_x_ratelimit_headers, stat_prefix, rate_limits,
        } unserved {
            stage, disable_x_envoy_ratelimited_header, rate_limited_status, response_headers_to_add, status_on_error,
            filter_enabled, filter_enforced, failure_mode_deny_percent, metadata_namespace, enable_retry_after_header,
        });
        let _ = stat_prefix;
        let within = optional_duration("timeout", timeout)?.unwrap_or(TIMEOUT);
        if !["", "both", "external"].contains(&request_type.as_str()) {
            return Err(CompileError::unserved("request_type"));
        }
        let service = rate_limit_service
            .as_ref()
            .ok_or_else(|| CompileError::missing("rate_limit_service"))?;
        take!(service => RateLimitServiceConfig { grpc_service, transport_api_version } unserved {});
        // 0 is AUTO, 2 is V3.
        if ![0, 2].contains(transport_api_version) {
            return Err(CompileError::invalid("transport_api_version", "only V3 is served"));
        }
        let grpc = grpc_service
            .as_ref()
            .ok_or_else(|| CompileError::missing("grpc_service"))?;
        take!(grpc => GrpcService { target_specifier } unserved { timeout, initial_metadata, retry_policy });
        let Some(TargetSpecifier::EnvoyGrpc(envoy)) = target_specifier else {
            return Err(CompileError::missing("envoy_grpc"));
        };
        take!(envoy => EnvoyGrpc { cluster_name, authority } unserved {
            retry_policy, max_receive_message_length, skip_envoy_headers,
        });
        if domain.is_empty() {
            return Err(CompileError::missing("domain"));
        }
        Ok(Self {
            domain: domain.clone(),
            cluster: cluster_name.clone(),
            authority: if authority.is_empty() { cluster_name } else { authority }.clone(),
            timeout: within,
            fails_closed: *failure_mode_deny,
            resource_exhausted: *rate_limited_as_resource_exhausted,
            tells: *enable_x_ratelimit_headers != 0,
            makers: Maker::compile_all(rate_limits).within(|| "rate_limits".into())?,
        })
    }

    /// The cluster of the service.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The gRPC status for what is beyond a limit: `RESOURCE_EXHAUSTED` if told so, else `UNAVAILABLE`.
    pub fn grpc_status(&self) -> u32 {
        if self.resource_exhausted { 8 } else { 14 }
    }

    /// What the service is asked about a request; none where no descriptor is for it.
    pub fn question(&self, request: &Parts, peer: &Peer<'_>) -> Option<Request<Vec<u8>>> {
        let descriptors: Vec<Descriptor> = self
            .makers
            .iter()
            .filter_map(|maker| maker.make(request, peer))
            .collect();
        if descriptors.is_empty() {
            return None;
        }
        let entry = |(key, value)| Entry { key, value };
        let message = RateLimitRequest {
            domain: self.domain.clone(),
            descriptors: descriptors
                .into_iter()
                .map(|descriptor| RateLimitDescriptor {
                    entries: descriptor.into_iter().map(entry).collect(),
                    ..RateLimitDescriptor::default()
                })
                .collect(),
            hits_addend: 0,
        };
        grpc::request(&self.authority, PATH, Some(self.timeout), &[], &message)
    }

    /// What holds when the service gave no answer that counts.
    pub fn failed(&self) -> Ruling {
        match self.fails_closed {
            true => Ruling::Failed(StatusCode::INTERNAL_SERVER_ERROR),
            false => Ruling::on(),
        }
    }

    /// What an answer of the service means.
    pub fn ruling(&self, answer: &Answer) -> Ruling {
        let Some(said) = grpc::message::<RateLimitResponse>(answer) else {
            return self.failed();
        };
        let mut response = fields(&said.response_headers_to_add);
        if self.tells {
            tell(&said.statuses, &mut response);
        }
        match Code::try_from(said.overall_code) {
            Ok(Code::Ok) => Ruling::Allowed {
                request: fields(&said.request_headers_to_add),
                response,
            },
            Ok(Code::OverLimit) => {
                response.insert(LIMITED, HeaderValue::from_static("true"));
                Ruling::Limited {
                    response,
                    body: said.raw_body,
                }
            }
            Ok(Code::Unknown) | Err(_) => self.failed(),
        }
    }
}

/// Fields as the service gives them; one that no message can have is left out, and so is what belongs to the connection.
fn fields(all: &[Field]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for field in all {
        let value = if field.raw_value.is_empty() {
            field.value.as_bytes()
        } else {
            &field.raw_value
        };
        let (name, value) = (
            HeaderName::from_bytes(field.key.as_bytes()),
            HeaderValue::from_bytes(value),
        );
        if let (Ok(name), Ok(value)) = (name, value)
            && ![
                header::CONNECTION,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
                header::HOST,
            ]
            .contains(&name)
        {
            fields.append(name, value);
        }
    }
    fields
}

/// What is left of the limit of which least is left, with all of them behind it.
fn tell(statuses: &[DescriptorStatus], headers: &mut HeaderMap) {
    let mut policies = String::new();
    for limit in statuses.iter().filter_map(|status| status.current_limit.as_ref()) {
        let window = match Unit::try_from(limit.unit).unwrap_or(Unit::Unknown) {
            Unit::Unknown => continue,
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3600,
            Unit::Day => 86_400,
            Unit::Week => 7 * 86_400,
            Unit::Month => 30 * 86_400,
            Unit::Year => 365 * 86_400,
        };
        policies.push_str(&format!(", {};w={window}", limit.requests_per_unit));
        if !limit.name.is_empty() {
            policies.push_str(&format!(";name=\"{}\"", limit.name));
        }
    }
    let limited = statuses
        .iter()
        .filter_map(|status| Some((status, status.current_limit.as_ref()?)));
    let Some((least, limit)) = limited.min_by_key(|(status, _)| status.limit_remaining) else {
        return;
    };
    let reset = least.duration_until_reset.as_ref().map_or(0, |time| time.seconds);
    for (name, value) in [
        (LIMIT, format!("{}{policies}", limit.requests_per_unit)),
        (REMAINING, least.limit_remaining.to_string()),
        (RESET, reset.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::config::route::v3::RateLimit;
    use culvert_envoy::pb::envoy::config::route::v3::rate_limit::Action;
    use culvert_envoy::pb::envoy::config::route::v3::rate_limit::action::{ActionSpecifier, RequestHeaders};
    use culvert_envoy::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit as Limit;
    use culvert_envoy::pb::google::protobuf;
    use http::Response;
    use prost::Message as _;

    use super::*;
    use crate::testing::request;

    fn filter(fails_closed: bool) -> GlobalRateLimit {
        let user = ActionSpecifier::RequestHeaders(RequestHeaders {
            header_name: "x-user".to_owned(),
            descriptor_key: "user".to_owned(),
            ..RequestHeaders::default()
        });
        let grpc = EnvoyGrpc {
            cluster_name: "limits".to_owned(),
            authority: "limits.shop".to_owned(),
            ..EnvoyGrpc::default()
        };
        let message = Message {
            domain: "shop".to_owned(),
            failure_mode_deny: fails_closed,
            timeout: Some(protobuf::Duration {
                seconds: 0,
                nanos: 250_000_000,
            }),
            enable_x_ratelimit_headers: 1,
            rate_limit_service: Some(RateLimitServiceConfig {
                grpc_service: Some(GrpcService {
                    target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
                    ..GrpcService::default()
                }),
                transport_api_version: 2,
            }),
            rate_limits: vec![RateLimit {
                actions: vec![Action {
                    action_specifier: Some(user),
                }],
                ..RateLimit::default()
            }],
            ..Message::default()
        };
        GlobalRateLimit::compile(&message).unwrap()
    }

    fn answer(message: &RateLimitResponse) -> Answer {
        let bytes = message.encode_to_vec();
        let mut body = vec![0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()];
        body.extend(bytes);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Answer {
            head: Response::new(()).into_parts().0,
            body,
            trailers: Some(trailers),
        }
    }

    #[test]
    fn the_service_is_asked_about_what_is_there_and_only_then() {
        let filter = filter(true);
        let peer = Peer::default();
        assert!(filter.question(&request("GET", "/", &[]), &peer).is_none());
        let question = filter
            .question(&request("GET", "/", &[("x-user", "ann")]), &peer)
            .unwrap();
        assert_eq!(question.uri().path(), PATH);
        assert_eq!(question.headers()["grpc-timeout"], "250m");
        let asked = RateLimitRequest::decode(&question.body()[5..]).unwrap();
        assert_eq!(asked.domain, "shop");
        assert_eq!(asked.descriptors[0].entries[0].value, "ann");
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused_and_the_client_is_told_what_is_left() {
        let status = |remaining: u32, per_unit: u32, name: &str| DescriptorStatus {
            limit_remaining: remaining,
            current_limit: Some(Limit {
                name: name.to_owned(),
                requests_per_unit: per_unit,
                unit: Unit::Minute.into(),
            }),
            duration_until_reset: Some(protobuf::Duration { seconds: 7, nanos: 0 }),
            ..DescriptorStatus::default()
        };
        let said = RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![status(5, 100, ""), status(0, 10, "per-user")],
            ..RateLimitResponse::default()
        };
        let Ruling::Limited { response, .. } = filter(true).ruling(&answer(&said)) else {
            panic!("it is beyond the limit");
        };
        assert_eq!(response["x-ratelimit-limit"], "10, 100;w=60, 10;w=60;name=\"per-user\"");
        assert_eq!(response["x-ratelimit-remaining"], "0");
        assert_eq!(response["x-ratelimit-reset"], "7");
        assert_eq!(response["x-envoy-ratelimited"], "true");
    }

    #[test]
    fn an_answer_that_says_nothing_closes_or_opens_as_is_asked_for() {
        let nothing = answer(&RateLimitResponse::default());
        assert!(matches!(
            filter(true).ruling(&nothing),
            Ruling::Failed(StatusCode::INTERNAL_SERVER_ERROR)
        ));
        assert!(matches!(filter(false).ruling(&nothing), Ruling::Allowed { .. }));
    }
}
