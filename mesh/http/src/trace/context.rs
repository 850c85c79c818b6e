//! Where in a trace a request is.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A trace's name, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// A span's name, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl TraceId {
    /// None for 0, which names no trace.
    pub fn new(id: u128) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// 1 for 0.
    pub(super) fn nonzero(id: u128) -> Self {
        Self(id.max(1))
    }

    /// Reads lower or upper case hexadecimal digits.
    pub(super) fn parse(digits: &str) -> Option<Self> {
        Self::new(u128::from_str_radix(hex(digits)?, 16).ok()?)
    }

    /// Big-endian, as OTLP has it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// None for 0, which names no span.
    pub fn new(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// 1 for 0.
    pub(super) fn nonzero(id: u64) -> Self {
        Self(id.max(1))
    }

    pub(super) fn parse(digits: &str) -> Option<Self> {
        Self::new(u64::from_str_radix(hex(digits)?, 16).ok()?)
    }

    /// Big-endian, as OTLP has it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// Digits alone: what Rust reads as a number may have a sign.
fn hex(digits: &str) -> Option<&str> {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)
}

impl fmt::Display for TraceId {
    /// 32 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    /// 16 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What of a trace travels with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// Whether the trace's name has only 64 bits on the wire.
    pub is_short: bool,
    /// The span that the request is sent in.
    pub span: SpanId,
    /// The span around that one, where the wire says it.
    pub parent: Option<SpanId>,
    /// Whether spans of this trace are kept; none where nobody has decided.
    pub sampled: Option<bool>,
    /// `tracestate`, which is handed on as it came.
    pub state: Option<HeaderValue>,
    /// The fields that it came in, and goes on in.
    pub(super) form: Form,
}

/// Header fields for a trace: W3C's, the one of B3, the many of B3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `traceparent`.
    W3c,
    /// `b3`.
    B3Single,
    /// `x-b3-...`.
    B3Multi,
}

/// What a request says of its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// Nothing: a trace begins here.
    Nothing,
    /// Only whether it is to be kept, and in which fields.
    Decision(bool, Form),
    /// Where in a trace it is.
    Context(Context),
    /// Fields that make no sense: as Envoy does, nothing is said of the request, and the fields go on as they are.
    Malformed,
}

/// A field's first line, if it is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
