//! Spans as Zipkin's API takes them: version 2, in JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::span::{Kind, Span};

/// The list. `service` is who speaks.
pub fn encode(service: &str, spans: &[Span]) -> Vec<u8> {
    let list: Vec<Value> = spans.iter().map(|span| message(service, span)).collect();
    Value::Array(list).to_string().into_bytes()
}

fn message(service: &str, span: &Span) -> Value {
    let trace = span.trace.to_string();
    let trace = if span.is_short { &trace[16..] } else { &trace };
    let tags = span.tags.iter();
    let tags: Map<String, Value> = tags
        .map(|(name, value)| (name.clone().into_owned(), json!(value)))
        .collect();
    let (kind, last) = match span.kind {
        Kind::Server => ("SERVER", "ss"),
        Kind::Client => ("CLIENT", "cr"),
    };
    let (begun, ended) = (micros(span.begun), micros(span.ended));
    let mut message = json!({
        "traceId": trace,
        "id": span.id.to_string(),
        "kind": kind,
        "name": span.name,
        "timestamp": begun,
        // Zipkin takes 0 for not known.
        "duration": ended.saturating_sub(begun).max(1),
        "localEndpoint": { "serviceName": service },
        "annotations": [{ "timestamp": ended, "value": last }],
        "tags": tags,
    });
    if let Some(parent) = span.parent {
        message["parentId"] = json!(parent.to_string());
    }
    if span.is_shared {
        message["shared"] = json!(true);
    }
    message
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
