//! How long a request may take.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::route::v3::route_action::MaxStreamDuration;
use culvert_envoy::pb::google::protobuf;
use http::{HeaderMap, HeaderValue};

use crate::error::{CompileError, Within as _, take};
use crate::value::optional_duration;

/// A route's timeout where none is set.
const DEFAULT: Duration = Duration::from_secs(15);

/// The limits of a route.
#[derive(Clone, Debug)]
pub struct Timeouts {
    response: Option<Duration>,
    idle: Option<Option<Duration>>,
    stream: Option<Stream>,
}

#[derive(Clone, Debug)]
struct Stream {
    /// None leaves it to the listener, zero is any time.
    limit: Option<Duration>,
    grpc: Option<Grpc>,
}

#[derive(Clone, Copy, Debug)]
struct Grpc {
    /// None takes what the client says.
    most: Option<Duration>,
    offset: Duration,
}

/// The limits for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTimeouts {
    /// From the end of the request to the end of the answer: over it 504 `upstream request timeout`, flag `UT`. Time in a fault's delay does
    /// not count.
    pub response: Option<Duration>,
    /// From the head of the request on, the stream as a whole: over it 504 (408 if the request is not complete) `downstream duration
    /// timeout`, without a flag, details `max_duration_timeout`. `Some(None)` switches off what the listener says, none leaves it to that.
    pub stream: Option<Option<Duration>>,
    /// Without a byte either way: over it 504 (408 if the request is not complete) `stream timeout`, flag `SI`. `Some(None)` switches off
    /// what the listener says, none leaves it to that.
    pub idle: Option<Option<Duration>>,
}

impl Timeouts {
    pub(super) fn compile(
        timeout: &Option<protobuf::Duration>,
        idle: &Option<protobuf::Duration>,
        stream: &Option<MaxStreamDuration>,
    ) -> Result<Self, CompileError> {
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let stream = stream
            .as_ref()
            .map(Stream::compile)
            .transpose()
            .within(|| "max_stream_duration".into())?;
        let response = optional_duration("timeout", timeout)?.unwrap_or(DEFAULT);
        Ok(Self {
            response: some(response).filter(|_| stream.is_none()),
            idle: optional_duration("idle_timeout", idle)?.map(some),
            stream,
        })
    }

    /// The limits for a request. `grpc-timeout` is changed to what is left of it where it is capped.
    pub fn of(&self, headers: &mut HeaderMap) -> RequestTimeouts {
        let stream = self.stream.as_ref().and_then(|stream| {
            let by_client = stream.grpc.and_then(|grpc| grpc.limit(headers));
            let of_route = || stream.limit.map(|limit| Some(limit).filter(|limit| !limit.is_zero()));
            by_client.map(Some).or_else(of_route)
        });
        RequestTimeouts {
            response: self.response,
            stream,
            idle: self.idle,
        }
    }
}

impl Stream {
    fn compile(message: &MaxStreamDuration) -> Result<Self, CompileError> {
        take!(message => MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } unserved {});
        let offset = optional_duration("grpc_timeout_header_offset", grpc_timeout_header_offset)?.unwrap_or_default();
        let most = optional_duration("grpc_timeout_header_max", grpc_timeout_header_max)?;
        Ok(Self {
            limit: optional_duration("max_stream_duration", max_stream_duration)?,
            grpc: most.map(|most| Grpc {
                most: (!most.is_zero()).then_some(most),
                offset,
            }),
        })
    }
}

const GRPC_TIMEOUT: &str = "grpc-timeout";

impl Grpc {
    /// What a client asks for; none where it does not, or in no way that anybody could read.
    fn limit(self, headers: &mut HeaderMap) -> Option<Duration> {
        let asked = parse_grpc_timeout(headers.get(GRPC_TIMEOUT)?.as_bytes())?;
        let most = self.most.filter(|most| asked > *most);
        if let Some(most) = most
            && let Ok(value) = HeaderValue::try_from(grpc_timeout(most))
        {
            headers.insert(GRPC_TIMEOUT, value);
        }
        let limit = most.unwrap_or(asked);
        // An offset that takes everything away is none.
        let left = limit.checked_sub(self.offset).filter(|left| !left.is_zero());
        Some(left.unwrap_or(limit))
    }
}

/// A time as `grpc-timeout` has it, which takes eight digits.
fn grpc_timeout(time: Duration) -> String {
    match time.as_millis() {
        millis @ ..=99_999_999 => format!("{millis}m"),
        _ => format!("{}S", time.as_secs()),
    }
}

/// Reads `grpc-timeout`: at most eight digits and a unit. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
fn parse_grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}
