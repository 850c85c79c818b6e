//! From the health check in a cluster's metadata, where Envoy does not look for it, to what is asked of its endpoints.

use std::{sync::Arc, time::Duration};

use culvert_envoy::pb::envoy::{
    config::core::v3::{HealthCheck as Message, Metadata, health_check::HealthChecker},
    r#type::v3::{CodecClientType, Int64Range},
};
use culvert_envoy::{CULVERT, unpack};

use super::{
    refusal::{Refusal, malformed, nothing_else},
    values::{duration, value},
};

/// How endpoints are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub ask: Ask,
    /// Between two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Good checks in a row after which an endpoint is back.
    pub healthy: u32,
    /// Bad ones after which it is left out.
    pub unhealthy: u32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A request.
    Http {
        /// The host that it is for.
        host: Arc<str>,
        /// Its path.
        path: Arc<str>,
        /// Whether it is sent as HTTP/2.
        is_http2: bool,
        /// Good statuses: first, and the one behind the last.
        expected: Vec<(i64, i64)>,
    },
    /// A call of `grpc.health.v1.Health`.
    Grpc {
        /// The host that it is for.
        authority: Arc<str>,
        /// Which service is asked about; empty for the server as a whole.
        service: Arc<str>,
    },
    /// To take a connection.
    Tcp,
}

/// Reads a cluster's check, if it has one.
///
/// # Errors
/// Where it says something that is not served.
pub(super) fn read(metadata: Option<&Metadata>) -> Result<Option<HealthCheck>, Refusal> {
    let Some(any) = metadata.and_then(|metadata| metadata.typed_filter_metadata.get(CULVERT)) else {
        return Ok(None);
    };
    let mut message: Message = unpack(any).map_err(malformed("health_checks"))?;
    let missing = |field: &str| Refusal::new(format!("health_checks.{field}"), "is missing");
    let time = |time: Option<_>, field: &str| {
        let time = time.ok_or_else(|| missing(field))?;
        match duration("health_checks", &time)? {
            Duration::ZERO => Err(Refusal::new(format!("health_checks.{field}"), "is 0")),
            time => Ok(time),
        }
    };
    let check = HealthCheck {
        timeout: time(message.timeout.take(), "timeout")?,
        interval: time(message.interval.take(), "interval")?,
        healthy: value(message.healthy_threshold.take()).unwrap_or(1).max(1),
        unhealthy: value(message.unhealthy_threshold.take()).unwrap_or(1).max(1),
        ask: ask(message.health_checker.take().ok_or_else(|| missing("health_checker"))?)?,
    };
    nothing_else("health_checks", &message)?;
    Ok(Some(check))
}

fn ask(checker: HealthChecker) -> Result<Ask, Refusal> {
    match checker {
        HealthChecker::HttpHealthCheck(mut http) => {
            let range = |range: &Int64Range| (range.start, range.end);
            let expected: Vec<_> = std::mem::take(&mut http.expected_statuses).iter().map(range).collect();
            let ask = Ask::Http {
                host: std::mem::take(&mut http.host).into(),
                path: std::mem::take(&mut http.path).into(),
                is_http2: std::mem::take(&mut http.codec_client_type) == i32::from(CodecClientType::Http2),
                expected: if expected.is_empty() {
                    vec![(200, 201)]
                } else {
                    expected
                },
            };
            nothing_else("health_checks.http_health_check", &http)?;
            Ok(ask)
        }
        HealthChecker::GrpcHealthCheck(mut grpc) => {
            let ask = Ask::Grpc {
                authority: std::mem::take(&mut grpc.authority).into(),
                service: std::mem::take(&mut grpc.service_name).into(),
            };
            nothing_else("health_checks.grpc_health_check", &grpc)?;
            Ok(ask)
        }
        HealthChecker::TcpHealthCheck(tcp) => {
            nothing_else("health_checks.tcp_health_check", &tcp)?;
            Ok(Ask::Tcp)
        }
        HealthChecker::CustomHealthCheck(_) => {
            Err(Refusal::new("health_checks.custom_health_check", "is not served here"))
        }
    }
}
