//! What a client is told of a try: the endpoint's answer, or why there is none.

use std::time::Duration;

use culvert_http::retry::Reset;
use http::{HeaderValue, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::{
    answer::{AnswerBody, grpc_status, refuse, whole},
    body::Upload,
    headers,
    limits::{Late, TimeLimits},
    telemetry::Record,
    upstream::{SendFailure, Stage},
};

/// The endpoint's answer, on its way to the client.
pub(super) fn answer(
    response: Response<Incoming>,
    mut record: Box<Record>,
    limits: &TimeLimits,
    took: Duration,
) -> Response<AnswerBody> {
    let (mut head, body) = response.into_parts();
    headers::remove_hop_by_hop(&mut head.headers);
    if let Ok(took) = HeaderValue::try_from(took.as_millis().to_string()) {
        head.headers.insert("x-envoy-upstream-service-time", took);
    }
    record.answered(head.status);
    record.grpc_status = grpc_status(&head.headers);
    "via_upstream".clone_into(&mut record.details);
    // Of the endpoint's connection.
    head.extensions.clear();
    head.version = Version::HTTP_11;
    Response::from_parts(head, AnswerBody::endpoint(body, record).limited(limits))
}

/// What it is to retries.
pub(super) fn reset(stage: Stage) -> Reset {
    match stage {
        Stage::Overflow => Reset::Overflow,
        Stage::Connect | Stage::Tls | Stage::ConnectTimeout => Reset::ConnectFailure,
        Stage::Refused => Reset::Refused,
        Stage::Reset => Reset::AfterRequest,
        Stage::Protocol => Reset::NotHttp,
        // The client has gone: nobody waits for another try.
        Stage::Client => Reset::Overflow,
    }
}

/// The answer where none came.
pub(super) fn failed(record: Box<Record>, failure: &SendFailure, retried: bool) -> Response<AnswerBody> {
    let (status, flag, reason) = match failure.stage {
        Stage::Overflow => return overloaded(record),
        Stage::Connect => (StatusCode::SERVICE_UNAVAILABLE, "UF", "connection failure"),
        Stage::Tls => (StatusCode::SERVICE_UNAVAILABLE, "UF", "remote connection failure"),
        Stage::ConnectTimeout => (StatusCode::SERVICE_UNAVAILABLE, "UF", "connection timeout"),
        Stage::Refused => (StatusCode::SERVICE_UNAVAILABLE, "UR", "remote refused stream reset"),
        Stage::Reset => (StatusCode::SERVICE_UNAVAILABLE, "UC", "connection termination"),
        Stage::Protocol => (StatusCode::BAD_GATEWAY, "UPE", "protocol error"),
        Stage::Client => (StatusCode::BAD_REQUEST, "DC", "downstream remote disconnect"),
    };
    tracing::debug!(error = failure.why, "a request got no answer");
    let again = if retried { "retried and the latest " } else { "" };
    let body = format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {reason}");
    let details = format!("upstream_reset_before_response_started{{{}}}", failure.why);
    refuse(record, status, flag, &details, &body)
}

/// The answer where a limit of time is passed.
pub(super) fn too_late(mut record: Box<Record>, upload: &Upload, late: Late) -> Response<AnswerBody> {
    if let Some(status) = late.grpc_status.filter(|_| record.is_grpc) {
        late.details.clone_into(&mut record.details);
        return whole(culvert_http::grpc_reply(status, late.body), record);
    }
    refuse(record, late.status(upload), late.flag, late.details, late.body)
}

/// The answer where a limit of the cluster is reached.
pub(super) fn overloaded(mut record: Box<Record>) -> Response<AnswerBody> {
    record.overflow();
    let body = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    let mut response = refuse(record, StatusCode::SERVICE_UNAVAILABLE, "UO", "overflow", body);
    let yes = HeaderValue::from_static("true");
    response.headers_mut().insert("x-envoy-overloaded", yes);
    response
}
