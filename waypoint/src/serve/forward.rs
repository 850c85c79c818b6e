//! What is done with a request upstream.

use std::sync::Arc;

use http::{Response, StatusCode, request::Parts};

use super::{exchange::refuse, worker::Inner};
use crate::{
    answer::{AnswerBody, grpc_status},
    body::Upload,
    cluster::Cluster,
    config::cluster::Protocol,
    headers,
    telemetry::Record,
    upstream::{SendFailure, Stage},
};

pub(super) async fn forward(
    inner: &Inner,
    cluster: &Arc<Cluster>,
    head: Parts,
    upload: Upload,
    mut record: Box<Record>,
) -> Response<AnswerBody> {
    let Some(counted) = cluster.request() else {
        return refuse(record, StatusCode::SERVICE_UNAVAILABLE, "UO", "overflow", "");
    };
    let is_http2 = match cluster.config.protocol {
        Protocol::Http1 => false,
        Protocol::Http2 => true,
        Protocol::Downstream => head.version == http::Version::HTTP_2,
    };
    let Some(endpoint) = cluster.choose(None, &[]) else {
        return refuse(
            record,
            StatusCode::SERVICE_UNAVAILABLE,
            "UH",
            "no_healthy_upstream",
            "no healthy upstream",
        );
    };
    record.endpoint = Some((endpoint.config.address, Arc::clone(&endpoint.config.about)));
    record.is_encrypted = endpoint.is_in_tunnel();
    record.attempts += 1;
    let mut head = head.clone();
    if headers::send(&mut head, is_http2).is_err() {
        return refuse(record, StatusCode::BAD_REQUEST, "DPE", "bad_authority", "");
    }
    let Some(body) = upload.body() else {
        return refuse(record, StatusCode::INTERNAL_SERVER_ERROR, "", "body_lost", "");
    };
    let request = http::Request::from_parts(head, body);
    match inner.upstream.send(cluster, endpoint, is_http2, request).await {
        Ok((response, lease)) => {
            let (mut head, body) = response.into_parts();
            headers::remove_hop_by_hop(&mut head.headers);
            record.answered(head.status);
            record.grpc_status = grpc_status(&head.headers);
            "via_upstream".clone_into(&mut record.details);
            head.extensions.clear();
            head.version = http::Version::HTTP_11;
            Response::from_parts(head, AnswerBody::endpoint(body, record).holding((lease, counted)))
        }
        Err(failure) => failed(record, &failure),
    }
}

fn failed(record: Box<Record>, failure: &SendFailure) -> Response<AnswerBody> {
    let (status, flag, reason) = match failure.stage {
        Stage::Connect => (StatusCode::SERVICE_UNAVAILABLE, "UF", "connection failure"),
        Stage::ConnectTimeout => (StatusCode::SERVICE_UNAVAILABLE, "UF", "connection timeout"),
        Stage::Refused => (StatusCode::SERVICE_UNAVAILABLE, "UR", "remote refused stream reset"),
        Stage::Reset => (StatusCode::SERVICE_UNAVAILABLE, "UC", "connection termination"),
        Stage::Protocol => (StatusCode::BAD_GATEWAY, "UPE", "protocol error"),
        Stage::Client => (StatusCode::BAD_REQUEST, "DC", "downstream remote disconnect"),
    };
    tracing::debug!(error = failure.why, "a request got no answer");
    let body = format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
    let details = format!("upstream_reset_before_response_started{{{}}}", failure.why);
    refuse(record, status, flag, &details, &body)
}
