//! What makes a try worth another one: the names in `retry_on`.

use http::response::Parts;

use crate::error::CompileError;

/// What has become of a try.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The head of an answer.
    Response(&'a Parts),
    /// There was none.
    Reset(Reset),
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// No connection could be opened.
    ConnectFailure,
    /// The upstream refused the stream before it looked at the request: HTTP/2 `REFUSED_STREAM`, or a `GOAWAY` below it.
    Refused,
    /// The stream or the connection broke before anything of the request was sent.
    BeforeRequest,
    /// The stream or the connection broke after that, before the head of an answer.
    AfterRequest,
    /// What came was no HTTP. The client gets 502.
    NotHttp,
    /// The time for one try was over.
    PerTryTimeout,
    /// A limit of this side was reached before it went anywhere. Never tried again.
    Overflow,
}

/// The names in `retry_on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    server_error: bool,
    gateway_error: bool,
    reset: bool,
    reset_before_request: bool,
    connect_failure: bool,
    refused_stream: bool,
    rate_limited: bool,
    conflict: bool,
    pub(super) status_codes: bool,
    pub(super) headers: bool,
    /// Bit n is gRPC status n.
    grpc: u32,
}

impl Conditions {
    /// Reads `retry_on`.
    pub(super) fn parse(text: &str) -> Result<Self, CompileError> {
        let mut conditions = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "5xx" => conditions.server_error = true,
                "gateway-error" => conditions.gateway_error = true,
                "reset" => conditions.reset = true,
                "reset-before-request" => conditions.reset_before_request = true,
                "connect-failure" => conditions.connect_failure = true,
                "refused-stream" => conditions.refused_stream = true,
                "envoy-ratelimited" => conditions.rate_limited = true,
                "retriable-4xx" => conditions.conflict = true,
                "retriable-status-codes" => conditions.status_codes = true,
                "retriable-headers" => conditions.headers = true,
                // There is no HTTP/3 upstream whose failure could be told.
                "http3-post-connect-failure" => {}
                "cancelled" => conditions.grpc |= 1 << 1,
                "deadline-exceeded" => conditions.grpc |= 1 << 4,
                "resource-exhausted" => conditions.grpc |= 1 << 8,
                "internal" => conditions.grpc |= 1 << 13,
                "unavailable" => conditions.grpc |= 1 << 14,
                other => {
                    return Err(CompileError::invalid(
                        "retry_on",
                        format_args!("there is no condition {other:?}"),
                    ));
                }
            }
        }
        Ok(conditions)
    }

    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn reset(&self, reset: Reset) -> bool {
        match reset {
            Reset::Overflow => false,
            _ if self.server_error || self.gateway_error || self.reset => true,
            Reset::ConnectFailure => self.connect_failure || self.reset_before_request,
            Reset::Refused => self.refused_stream,
            Reset::BeforeRequest => self.reset_before_request,
            Reset::AfterRequest | Reset::NotHttp | Reset::PerTryTimeout => false,
        }
    }

    /// Whether the answer itself is such; codes and fields of the policy's own are looked at elsewhere.
    pub(super) fn response(&self, response: &Parts) -> Option<bool> {
        if response.headers.contains_key("x-envoy-ratelimited") {
            return Some(self.rate_limited);
        }
        let status = response.status;
        let grpc = || {
            // Only in the first block of fields, which is also the last one of a call without messages.
            let code: u32 = response.headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
            1_u32.checked_shl(code)
        };
        let worth = (self.server_error && status.is_server_error())
            || (self.gateway_error && matches!(status.as_u16(), 502..=504))
            || (self.conflict && status.as_u16() == 409)
            || (self.grpc != 0 && grpc().is_some_and(|bit| self.grpc & bit != 0));
        worth.then_some(true)
    }
}
