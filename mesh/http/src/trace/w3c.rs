//! `traceparent` and `tracestate` (W3C Trace Context).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Context, Extracted, Form, SpanId, TraceId, text};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

pub(super) fn extract(headers: &HeaderMap) -> Extracted {
    if !headers.contains_key(TRACEPARENT) {
        return Extracted::Nothing;
    }
    match text(headers, &TRACEPARENT).and_then(parse) {
        None => Extracted::Malformed,
        Some((trace, span, sampled)) => Extracted::Context(Context {
            trace,
            is_short: false,
            span,
            parent: None,
            sampled: Some(sampled),
            state: state(headers),
            form: Form::W3c,
        }),
    }
}

/// `VERSION-TRACE-SPAN-FLAGS`, of which later versions may have more.
fn parse(text: &str) -> Option<(TraceId, SpanId, bool)> {
    let mut fields = text.split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let lengths = [version.len(), trace.len(), span.len(), flags.len()];
    if lengths != [2, 32, 16, 2] || version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    u8::from_str_radix(version, 16).ok()?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((TraceId::parse(trace)?, SpanId::parse(span)?, flags & 1 == 1))
}

/// All lines as one list.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(TRACESTATE).iter().filter(|line| !line.is_empty());
    let first = lines.next()?.clone();
    let rest: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
    if rest.is_empty() {
        return Some(first);
    }
    let all = [&[first.as_bytes()], &*rest].concat().join(&b","[..]);
    HeaderValue::from_bytes(&all).ok()
}

pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    let flags = u8::from(context.sampled.unwrap_or_default());
    let parent = format!("00-{}-{}-{flags:02x}", context.trace, context.span);
    if let Ok(parent) = HeaderValue::try_from(parent) {
        headers.insert(TRACEPARENT, parent);
    }
    match &context.state {
        Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
        None => drop(headers.remove(TRACESTATE)),
    }
}
