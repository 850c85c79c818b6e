//! Endpoints that say that they have too much to do: they get less for a while, as with Linkerd.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header, response::Parts};

use crate::answer::grpc_status;

/// `RESOURCE_EXHAUSTED`.
const EXHAUSTED: u32 = 8;

/// How gRPC says when to come again, in milliseconds.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Whether an answer says so, and for how long if it does. A gRPC status that comes behind a body is not seen.
pub(super) fn of(answer: &Parts) -> Option<Option<Duration>> {
    let headers = &answer.headers;
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        return Some(number(headers, &header::RETRY_AFTER).map(Duration::from_secs));
    }
    (grpc_status(headers) == Some(EXHAUSTED)).then(|| number(headers, &PUSHBACK).map(Duration::from_millis))
}

/// A date in its place counts as nothing.
fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    #[test]
    fn too_many_requests_and_an_exhausted_resource_are_signals_and_other_failures_are_none() {
        let of = |status: u16, fields: &[(&'static str, &'static str)]| {
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            super::of(&response.body(()).unwrap().into_parts().0)
        };
        let seconds = |seconds| Some(Some(Duration::from_secs(seconds)));
        assert_eq!(
            (of(429, &[("retry-after", "7")]), of(429, &[])),
            (seconds(7), Some(None))
        );
        assert_eq!(
            of(200, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "2000")]),
            seconds(2)
        );
        assert_eq!(
            (of(503, &[("retry-after", "7")]), of(200, &[("grpc-status", "14")])),
            (None, None)
        );
    }
}
