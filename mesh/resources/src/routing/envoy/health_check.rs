//! Active health checks, as Envoy makes them.

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
            // Else Envoy leaves an endpoint out after the first status that is not expected, whatever `unhealthy` says.
            retriable_statuses: others(statuses),
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
        // Else Envoy asks once a minute where nobody else does.
        no_traffic_interval: Some(parts::duration(check.interval)),
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

/// All statuses that are not among these.
fn others(statuses: &[(u16, u16)]) -> Vec<Int64Range> {
    let mut sorted = statuses.to_vec();
    sorted.sort_unstable();
    let (mut found, mut next) = (Vec::new(), 100);
    for (first, last) in sorted {
        if first > next {
            found.push(range(next, first - 1));
        }
        next = next.max(last + 1);
    }
    if next < 600 {
        found.push(range(next, 599));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_expected_is_all_the_rest() {
        let pairs = |statuses: &[(u16, u16)]| -> Vec<(i64, i64)> {
            others(statuses).iter().map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(pairs(&[(200, 299)]), [(100, 200), (300, 600)]);
        assert_eq!(
            pairs(&[(404, 404), (200, 299), (250, 310)]),
            [(100, 200), (311, 404), (405, 600)]
        );
        assert_eq!(pairs(&[(100, 599)]), []);
    }
}
