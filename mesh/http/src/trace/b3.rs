//! B3: the field `b3`, or a field for each part.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Context, Extracted, Form, SpanId, TraceId, text};

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// The one field before the many.
pub(super) fn extract(headers: &HeaderMap) -> Extracted {
    if headers.contains_key(B3) {
        let single = text(headers, &B3).and_then(single);
        return single.unwrap_or(Extracted::Malformed);
    }
    let sampled = match (text(headers, &SAMPLED), text(headers, &FLAGS)) {
        (_, Some("1")) | (Some("1" | "true"), _) => Some(true),
        (Some("0" | "false"), _) => Some(false),
        _ => None,
    };
    match (headers.contains_key(TRACE), headers.contains_key(SPAN)) {
        (true, true) => multi(headers, sampled).map_or(Extracted::Malformed, Extracted::Context),
        _ => sampled.map_or(Extracted::Nothing, |sampled| {
            Extracted::Decision(sampled, Form::B3Multi)
        }),
    }
}

/// `TRACE-SPAN`, `TRACE-SPAN-SAMPLED`, `TRACE-SPAN-SAMPLED-PARENT`, or `SAMPLED` alone.
fn single(value: &str) -> Option<Extracted> {
    if let Some(sampled) = decision(value) {
        return Some(Extracted::Decision(sampled, Form::B3Single));
    }
    let fields: Vec<&str> = value.split('-').collect();
    let (trace, span, rest) = match &*fields {
        [trace, span, rest @ ..] if rest.len() <= 2 => (trace, span, rest),
        _ => return None,
    };
    let sampled = match rest.first() {
        Some(field) => Some(decision(field)?),
        None => None,
    };
    let parent = match rest.get(1) {
        Some(field) => Some(span_id(field)?),
        None => None,
    };
    context(trace, span, parent, sampled, Form::B3Single).map(Extracted::Context)
}

fn decision(field: &str) -> Option<bool> {
    match field {
        "0" => Some(false),
        // `d` is for debugging: kept whatever else is decided.
        "1" | "d" => Some(true),
        _ => None,
    }
}

fn multi(headers: &HeaderMap, sampled: Option<bool>) -> Option<Context> {
    let parent = match text(headers, &PARENT) {
        Some(field) if !field.is_empty() => Some(span_id(field)?),
        _ => None,
    };
    let (trace, span) = (text(headers, &TRACE)?, text(headers, &SPAN)?);
    context(trace, span, parent, sampled, Form::B3Multi)
}

fn context(trace: &str, span: &str, parent: Option<SpanId>, sampled: Option<bool>, form: Form) -> Option<Context> {
    if ![16, 32].contains(&trace.len()) {
        return None;
    }
    Some(Context {
        trace: TraceId::parse(trace)?,
        is_short: trace.len() == 16,
        span: span_id(span)?,
        parent,
        sampled,
        state: None,
        form,
    })
}

fn span_id(digits: &str) -> Option<SpanId> {
    if digits.len() != 16 {
        return None;
    }
    SpanId::parse(digits)
}

pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    let sampled = if context.sampled.unwrap_or_default() { "1" } else { "0" };
    let whole = context.trace.to_string();
    let trace = if context.is_short { &whole[16..] } else { &whole };
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if context.form == Form::B3Single {
        let parent = context.parent.map_or_else(String::new, |parent| format!("-{parent}"));
        return set(B3, &format!("{trace}-{}-{sampled}{parent}", context.span));
    }
    set(TRACE, trace);
    set(SPAN, &context.span.to_string());
    set(SAMPLED, sampled);
    match context.parent {
        Some(parent) => set(PARENT, &parent.to_string()),
        None => drop(headers.remove(PARENT)),
    }
}
