//! Spans in OTLP: the message, and a gRPC frame around it.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as Message, SpanFlags, Status, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use super::span::{Kind, Span};

/// The method that takes spans.
pub const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The message, in protobuf.
pub fn encode(service: &str, spans: &[Span]) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            attribute("service.name", service),
            attribute("telemetry.sdk.name", "culvert"),
            attribute("telemetry.sdk.language", "rust"),
            attribute("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "culvert".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let of_scope = ScopeSpans {
        scope: Some(scope),
        spans: spans.iter().map(message).collect(),
        ..ScopeSpans::default()
    };
    let of_resource = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![of_scope],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![of_resource],
    }
    .encode_to_vec()
}

fn message(span: &Span) -> Message {
    Message {
        trace_id: span.trace.to_bytes().to_vec(),
        span_id: span.id.to_bytes().to_vec(),
        trace_state: span.state.clone(),
        parent_span_id: span.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        // The low byte is W3C's flags: it is sampled, or it would not be here.
        flags: 1 | SpanFlags::ContextHasIsRemoteMask as u32,
        name: span.name.clone(),
        kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: nanos(span.begun),
        end_time_unix_nano: nanos(span.ended),
        attributes: span.tags.iter().map(|(name, value)| attribute(name, value)).collect(),
        status: span.is_error.then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..Message::default()
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
