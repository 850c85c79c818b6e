//! Active health checks, in Envoy's message.

use culvert_envoy::pb::envoy::config::core::v3::HealthCheck as Message;
use culvert_envoy::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use culvert_envoy::pb::envoy::r#type::v3::{CodecClientType, Int64Range};

use super::super::policy::{Ask, HealthCheck};
use super::parts;

/// The check of a backend, which is `host` where the check names none.
pub(super) fn message(check: &HealthCheck, host: &str, is_http2: bool) -> Message {
    let checker = match &check.ask {
        Ask::Http {
            path,
            host: own,
            statuses,
        } => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: own.clone().unwrap_or_else(|| host.to_owned()),
            path: path.clone(),
            expected_statuses: statuses.iter().map(|(first, last)| range(*first, *last)).collect(),
            codec_client_type: if is_http2 {
                CodecClientType::Http2
            } else {
                CodecClientType::Http1
            }
            .into(),
            ..HttpHealthCheck::default()
        }),
        Ask::Grpc { service } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.clone(),
            authority: host.to_owned(),
            ..GrpcHealthCheck::default()
        }),
        Ask::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    Message {
        timeout: Some(parts::duration(check.timeout)),
        interval: Some(parts::duration(check.interval)),
        healthy_threshold: parts::number(check.healthy),
        unhealthy_threshold: parts::number(check.unhealthy),
        health_checker: Some(checker),
        ..Message::default()
    }
}

fn range(first: u16, last: u16) -> Int64Range {
    Int64Range {
        start: first.into(),
        end: i64::from(last) + 1,
    }
}
