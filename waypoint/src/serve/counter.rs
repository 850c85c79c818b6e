//! Asking a service that counts whether a request is within its limits.

use culvert_http::{
    Peer,
    filters::{GlobalRateLimit, Ruling},
    grpc_reply,
};
use http::{HeaderMap, Response, StatusCode, request::Parts};

use super::ask::Asking;
use crate::{
    answer::{AnswerBody, local, whole},
    telemetry::Record,
};

/// What a request goes on with, and the fields of its answer; or what it is answered with.
type Counted = Result<(Box<Record>, HeaderMap), Box<Response<AnswerBody>>>;

/// Asks about a request, and adds to it what the service says.
pub(super) async fn count(
    asking: &Asking<'_>,
    limit: &GlobalRateLimit,
    head: &mut Parts,
    peer: &Peer<'_>,
    mut record: Box<Record>,
) -> Counted {
    let Some(question) = limit.question(head, peer) else {
        return Ok((record, HeaderMap::new()));
    };
    let answer = tokio::time::timeout(limit.timeout(), asking.answer(limit.cluster(), true, question)).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", limit.timeout())));
    let ruling = match answer {
        Ok(answer) => limit.ruling(&answer),
        Err(why) => {
            tracing::debug!(cluster = limit.cluster(), why, "a rate limit service gave no answer");
            limit.failed()
        }
    };
    match ruling {
        Ruling::Allowed { request, response } => {
            let mut last = None;
            for (name, value) in request {
                // A name comes with the first of its values alone.
                last = name.or(last);
                if let Some(name) = &last {
                    head.headers.append(name.clone(), value);
                }
            }
            Ok((record, response))
        }
        Ruling::Limited { response: fields, body } => {
            record.flags.set("RL");
            "request_rate_limited".clone_into(&mut record.details);
            let text = String::from_utf8_lossy(&body);
            let mut response = match record.is_grpc {
                true => whole(grpc_reply(limit.grpc_status(), &text), record),
                false => local(StatusCode::TOO_MANY_REQUESTS, &text, record),
            };
            add(&fields, response.headers_mut());
            Err(Box::new(response))
        }
        Ruling::Failed(status) => {
            record.flags.set("RLSE");
            "rate_limiter_error".clone_into(&mut record.details);
            Err(Box::new(local(status, "", record)))
        }
    }
}

/// Adds fields to those that are there.
pub(super) fn add(fields: &HeaderMap, headers: &mut HeaderMap) {
    for (name, value) in fields {
        headers.append(name.clone(), value.clone());
    }
}
